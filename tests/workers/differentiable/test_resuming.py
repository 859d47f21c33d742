from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas.core import (
    ConflictError,
)
from tests.workers.differentiable.networks import (
    BOUNDED,
    FEW,
    quiet,
    state,
    trainer,
)
from workers.datasets import Dataset
from workers.differentiable.settings import DifferentiableSettings

SWITCHES = {
    "plain": FEW,
    "second": replace(FEW, gradient="second"),
    "amended": replace(FEW, gradient="amended"),
    "one-level": replace(FEW, levels=1),
    "score-function": replace(FEW, gradient="score-function", sampling="straight-through"),
    "gumbel": replace(FEW, sampling="gumbel", schedule="exponential", least_temperature=0.1),
    "straight-through": replace(FEW, sampling="straight-through"),
    "entropy": replace(FEW, schedule="entropy", least_temperature=0.01, noise_share=0.2),
    "drop": replace(FEW, levels=1, drop=0.2),
    "teachers": replace(FEW, teachers=2, teacher_epochs=1),
    "max weight": replace(FEW, max_weight=True, annealing_order=10.0, warm_up=0.25),
    "curvature": replace(FEW, curvature="monitor", entropy_weight=1e-3),
    "price": replace(FEW, cost_weight=0.1, cost_spread=1.0, resources="penalty"),
    "trade-offs": replace(FEW, cost_weight=0.1, levels=1, drop=0.2),
    "parts": replace(FEW, levels=1, gradient="score-function", sampling="straight-through"),
    "the default": DifferentiableSettings(epochs=4, warm_up=0.25, resources="projection"),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_training_resumed_from_a_checkpoint_is_training_unbroken(
    digits: Dataset, tmp_path: Path, switch: str
) -> None:
    settings = SWITCHES[switch]
    whole = trainer(digits, settings, BOUNDED)
    start = state(whole)
    whole.train(4, None, quiet)
    path = tmp_path / "state.safetensors"
    for until in (2, 4):
        broken = trainer(digits, settings, BOUNDED)
        broken.train(until, path, quiet)
    assert torch.equal(state(broken), state(whole))
    assert broken.health == whole.health
    assert len(whole.health) == 4
    assert not torch.equal(state(whole), start)


def test_switches_change_what_is_learned(digits: Dataset) -> None:
    found = []
    for name, settings in SWITCHES.items():
        trained = trainer(digits, replace(settings, epochs=2, warm_up=0.0), BOUNDED)
        trained.train(2, None, quiet)
        found.append((name, state(trained)))
    same = {(a, b) for i, (a, x) in enumerate(found) for b, y in found[:i] if torch.equal(x, y)}
    assert not same


def test_a_checkpoint_of_another_training_is_refused(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    trainer(digits, FEW).train(1, path, quiet)
    with pytest.raises(ConflictError, match="another training"):
        trainer(digits, replace(FEW, max_weight=True)).train(2, path, quiet)
    trainer(digits, replace(FEW, candidates=3)).train(1, path, quiet)  # trained alike


# -------------------------------------------------------------------- gradients
