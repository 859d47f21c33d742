"""Building a device's table of layers: what a space's layers take, timed in files of many.

The candidates that are looked at are drawn at random; of a candidate met later, layers that none of
them had are interpolated. Some whole candidates are timed, too: they tell how far sums are off.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import (
    ConflictError,
    DeviceStore,
    EvaluationError,
    Genotypes,
    InvalidInputError,
    NotFoundError,
    Profile,
    Report,
    UnknownNameError,
)
from nas.core.device import FILES, LOCAL
from nas.imported_tables import require_no_table
from nas.workspace import Workspace
from predictors.latency import most_informative
from searchspaces import ModelFamily
from workers.comparison import built
from workers.deployment import export_onnx
from workers.profiling.layers import Layer, layers_of, write_layers
from workers.remote import timed_elsewhere
from workers.runtimes import profiler
from workers.tables import LayerTable, LayerTime, family_digest, table_path

LAYERS_A_FILE = 40
LAYER_RUNS = 60
FEWEST_RUNS = 30
LEAST_FILES = 3

Timing = Callable[[Sequence[Path], Mapping[str, Any]], Generator[Profile, None, None]]
"""Times files in order with a profiler of these settings; closed early it leaves no work behind."""


def build_table(
    workspace: Workspace,
    device: str,
    family: ModelFamily,
    n_candidates: int,
    n_files: int,
    seed: int,
    report: Report,
) -> LayerTable:
    """Time what the table of a device lacks of a space's layers; the table is kept and returned.

    Args:
        workspace: where tables are kept.
        device: `cpu` for this machine, or one with an agent.
        family: whose layers.
        n_candidates: looked at for layers.
        n_files: of them, timed as a whole.
        seed: of the draw.
        report: told how it goes.

    Raises:
        UnknownNameError: no such device.
        ConflictError: it told no calibration, or somebody else builds its table.
        InvalidInputError: numbers that cannot be.
        EvaluationError: the device cannot time a file, or is gone.
    """
    require_buildable(workspace, device, n_candidates, n_files)
    timing, runtime = _timing(workspace, device)
    with _alone(workspace.home, device), tempfile.TemporaryDirectory() as folder:
        table = LayerTable.read(workspace.home, device, runtime) or LayerTable(device, runtime, {})
        rows = _rows(family, n_candidates, seed)
        files = _exported(family, rows, Path(folder), report)
        layers = [layers_of(path) for path in files]
        every = {layer.key: layer for file in layers for layer in file}
        missing = [layer for key, layer in every.items() if key not in table.layers]
        report(f"{len(every)} different layers, {len(missing)} of them new to {device}")
        for times in _timed(missing, timing, Path(folder), report):
            table = table.with_layers(times)
            table.save(workspace.home)
        chosen = most_informative(_log_costs(family, rows), n_files)
        report(f"timing {n_files} whole networks")
        with closing(timing([files[i] for i in chosen], {})) as profiles:
            took = [profile.calm_ms for profile in profiles]
        table = table.fitted([layers[i] for i in chosen], took)
        table = table.with_family(family_digest(family))
        table.save(workspace.home)
    return table


@contextmanager
def _alone(home: Path, device: str) -> Iterator[None]:
    """Hold the right to build a table, which ends with this process at the latest.

    Raises:
        ConflictError: somebody else has it.
    """
    path = table_path(home, device).with_name(f"{device}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"a table of {device} is being built already") from None
        yield


def require_buildable(workspace: Workspace, device: str, n_candidates: int, n_files: int) -> None:
    """Refuse what `build_table` would refuse, before any work.

    Raises:
        UnknownNameError: no such device.
        ConflictError: it told no calibration, or is an imported table.
        InvalidInputError: numbers that cannot be.
    """
    require_no_table(workspace.home, device, "timed")
    if not LEAST_FILES <= n_files <= n_candidates:
        expected = f"{LEAST_FILES} to {n_candidates}, the candidates"
        raise InvalidInputError("files", n_files, expected)
    _timing(workspace, device)


def _timing(workspace: Workspace, device: str) -> tuple[Timing, str]:
    """How files are timed on a device, and the label of its runtime."""
    if device == LOCAL:
        return _timed_here, profiler().label
    store = workspace.store.devices()
    try:
        runtime = store.device(device).runtime
    except NotFoundError:
        known = [LOCAL, *(d.name for d in store.devices())]
        raise UnknownNameError("device", device, known) from None
    if runtime is None:
        raise ConflictError(f"device {device} is not calibrated: restart its agent")
    return _timed_there(store, workspace.home / FILES, device), runtime


def _timed_here(
    paths: Sequence[Path], settings: Mapping[str, Any]
) -> Generator[Profile, None, None]:
    return (profiler(**settings).profile(path) for path in paths)


def _timed_there(store: DeviceStore, files: Path, device: str) -> Timing:
    return lambda paths, settings: timed_elsewhere(store, files, device, paths, settings)


def _rows(family: ModelFamily, n: int, seed: int) -> Genotypes:
    rows = family.space.sample(4 * n, np.random.default_rng(seed))
    return rows[family.connected(rows)][:n]


def _log_costs(family: ModelFamily, rows: Genotypes) -> NDArray[np.float32]:
    costs = np.stack([np.log1p(c) for c in family.costs(rows).values()], axis=1)
    return costs.astype(np.float32)


def _exported(family: ModelFamily, rows: Genotypes, folder: Path, report: Report) -> list[Path]:
    paths = []
    report(f"exporting {len(rows)} candidates with random weights")
    for i, row in enumerate(rows):
        candidate = family.space.candidate(row)
        paths.append(folder / f"candidate{i}.onnx")
        network = built(family, candidate, pruned=True, quantized=True)
        export_onnx(network, family.input_shape, paths[-1])
    return paths


def _timed(
    layers: Sequence[Layer], timing: Timing, folder: Path, report: Report
) -> Iterator[dict[str, LayerTime]]:
    """Entries of `layers`, file by file."""
    parts = [layers[i : i + LAYERS_A_FILE] for i in range(0, len(layers), LAYERS_A_FILE)]
    paths = [folder / f"layers{i}.onnx" for i in range(len(parts))]
    for part, path in zip(parts, paths, strict=True):
        write_layers(part, path)
    settings = {"n_runs": FEWEST_RUNS, "layer_runs": LAYER_RUNS}
    with closing(timing(paths, settings)) as profiles:
        for i, (part, profile) in enumerate(zip(parts, profiles, strict=True)):
            ms = profile.conditions.get("layers_ms")
            if ms is None:
                raise EvaluationError("the device did not tell what layers take: update its agent")
            times = [LayerTime(x.kind, x.work, ms.get(f"L{j}", 0.0)) for j, x in enumerate(part)]
            report(f"file {i + 1} of {len(parts)} timed")
            yield dict(zip((x.key for x in part), times, strict=True))
