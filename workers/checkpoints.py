"""State of a training in one safetensors file, written whole or not at all."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from nas.core import ConflictError
from workers.writing import written_whole

Groups = Mapping[str, Mapping[str, Tensor]]


def save_checkpoint(path: Path, groups: Groups, about: Mapping[str, Any]) -> None:
    """Write named groups of named tensors, and what `about` says of them as JSON."""
    state = {
        f"{group}.{name}": t for group, tensors in groups.items() for name, t in tensors.items()
    }
    with written_whole(path) as temporary:
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in state.items()},
            temporary,
            {"about": json.dumps(about, sort_keys=True)},
        )


def load_checkpoint(
    path: Path, identity: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The groups, and what the file says about itself.

    Raises:
        ConflictError: it says other things of `identity`'s names: another training's.
    """
    with safe_open(path, framework="pt") as archive:
        about = _about(archive)
        if {k: about.get(k) for k in identity} != dict(identity):
            raise ConflictError(f"{path} is the checkpoint of another training")
        state = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    return groups, about


def read_about(path: Path) -> dict[str, Any]:
    """What a checkpoint says about itself, without its tensors."""
    with safe_open(path, framework="pt") as archive:
        return _about(archive)


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """What an optimizer remembers of its parameters, by name."""
    state = optimizer.state_dict()["state"]
    return {
        f"{i}.{k}": torch.as_tensor(v)
        for i, moments in state.items()
        for k, v in moments.items()
        if v is not None
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take up what `optimizer_tensors` gave."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Wait until no other process of this machine trains what is kept at `path`."""
    with path.with_suffix(".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _about(archive: Any) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(archive.metadata()["about"])
    return about
