from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.workers.differentiable.networks import (
    FEW,
    evaluator,
    quiet,
    state,
    trainer,
)
from workers.datasets import Dataset
from workers.differentiable.gradients import (
    largest_curvature,
)
from workers.differentiable.health import curvature_has_grown, kept_epoch
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.trainer import DifferentiableTrainer


def test_power_iteration_finds_the_full_hessians_eigenvalue(digits: Dataset) -> None:
    trained = trainer(digits, FEW)
    trained.train(1, None, quiet)
    logits = list(trained.distribution.logits)
    x, y = torch.from_numpy(digits.x_val[:64]), torch.from_numpy(digits.y_val[:64])

    def loss_of(*values: Tensor) -> Tensor:
        return nn.functional.cross_entropy(trained.network(x, [v.softmax(0) for v in values]), y)

    blocks = torch.autograd.functional.hessian(loss_of, tuple(p.detach() for p in logits))
    hessian = torch.cat([torch.cat(list(row), dim=1) for row in blocks])
    eigenvalues = torch.linalg.eigvalsh(hessian)
    dominant = float(eigenvalues[eigenvalues.abs().argmax()])
    generator = torch.Generator().manual_seed(0)
    found = largest_curvature(lambda: loss_of(*logits), logits, generator, 500, 1e-7)
    assert found == pytest.approx(dominant, rel=0.01)


# -------------------------------------------------------------------- mixtures


def test_growing_curvature_ends_the_search_and_the_epoch_before_counts() -> None:
    flat = [None, 1.0] * 8
    assert not curvature_has_grown(flat)
    grown = [*flat, None, 3.0, None, 3.0]
    assert curvature_has_grown(grown)
    assert kept_epoch(grown) == 12
    assert kept_epoch(flat) == len(flat)


def test_curvature_of_untrained_networks_alone_is_nothing_to_compare_with() -> None:
    rising = [c for i in range(12) for c in (None, 0.1 * 2**i)]  # as long as weights are new
    stops = [n for n in range(len(rising) + 1) if curvature_has_grown(rising[:n])]
    assert stops[0] == 2 * (5 + 4)  # both means, 4 measurements apart, are of 5 each
    assert kept_epoch(rising[: stops[0]]) == 2 * 5
    settling = [c for value in (0.5, 0.8, *[1.0] * 10) for c in (None, value)]
    assert not any(curvature_has_grown(settling[:n]) for n in range(len(settling) + 1))


ADAPT = replace(
    FEW,
    epochs=24,
    curvature="adapt",
    teachers=2,
    teacher_epochs=1,
    decay_growth=5.0,
    max_decay=3e-3,
)
"""May go back twice: the decay is 3e-4, 1.5e-3 and, at its bound, 3e-3."""


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curvature that grows at epoch 24, after going back at epoch 18, and then never again."""

    def curvature(self: DifferentiableTrainer, temperature: float, rng: object) -> float:
        from_epoch = (24, 18, 99)[self.rollbacks]
        return 9.0 if self.epoch + 1 >= from_epoch else 1.0

    monkeypatch.setattr(DifferentiableTrainer, "curvature", curvature)


def adapted(data: Dataset, lines: list[str] | None = None) -> DifferentiableTrainer:
    trained = trainer(data, ADAPT)
    trained.train(24, None, quiet if lines is None else lines.append)
    return trained


@pytest.mark.usefixtures("growing")
def test_growing_curvature_goes_back_and_on_with_more_decay(digits: Dataset) -> None:
    lines: list[str] = []
    trained = adapted(digits, lines)
    told = [line for line in lines if "grown" in line]
    assert ["epoch 16" in told[0], "epoch 10" in told[1]] == [True, True]
    assert "decay 0.0015" in told[0]
    assert (trained.rollbacks, len(told), len(lines)) == (2, 2, 2 + 24 + 2 + 14)
    assert [h.epoch for h in trained.health] == list(range(1, 25))
    assert [h.weight_decay for h in trained.health] == [3e-4] * 10 + [3e-3] * 14
    assert trained.result() == trained.health[-1]


@pytest.mark.usefixtures("growing")
def test_epochs_after_going_back_are_those_of_a_training_that_changed_its_decay_there(
    digits: Dataset,
) -> None:
    plain = trainer(digits, ADAPT)
    plain.train(10, None, quiet)
    plain._decay.rollbacks = 2
    plain.train(24, None, quiet)
    trained = adapted(digits)
    assert torch.equal(state(plain), state(trained))
    assert plain.health == trained.health


@pytest.mark.usefixtures("growing")
def test_a_training_killed_again_and_again_goes_back_as_an_unbroken_one(
    digits: Dataset, tmp_path: Path
) -> None:
    n_lines = 0

    def deadly(line: str) -> None:
        nonlocal n_lines
        n_lines += 1
        if n_lines % 3 == 0:
            raise KeyboardInterrupt

    path = tmp_path / "state.safetensors"
    n_deaths = 0
    for until in [8] * 6 + [16] * 6 + [24] * 30:
        broken = trainer(digits, ADAPT)
        try:
            broken.train(until, path, deadly)
        except KeyboardInterrupt:
            n_deaths += 1
    whole = adapted(digits)
    assert n_deaths > 10
    assert torch.equal(state(broken), state(whole))
    assert broken.health == whole.health
    assert broken.rollbacks == 2


def test_a_task_of_a_training_that_went_back_says_so(
    digits: Dataset, tmp_path: Path, growing: None
) -> None:
    for epochs in (9, 24):
        found = evaluator(digits, tmp_path, ADAPT).train_shared("differentiable", epochs, quiet)
        about = found.provenance["differentiable"]
        assert len(about["history"]) == found.metrics["epochs"] == epochs
    assert found.metrics["rollbacks"] == about["rollbacks"] == 2


@given(decay=st.floats(1e-9, 0.5), growth=st.floats(1.5, 1e3), room=st.floats(1.001, 1e6))
def test_the_decay_rises_to_its_bound_and_never_above(
    decay: float, growth: float, room: float
) -> None:
    settings = DifferentiableSettings(
        levels=2, curvature="adapt", weight_decay=decay, decay_growth=growth, max_decay=decay * room
    )
    decays = [settings.decay_after(i) for i in range(settings.max_rollbacks + 1)]
    assert decays[0] == decay
    assert all(a < b for a, b in pairwise(decays))
    assert decays[-1] == pytest.approx(settings.max_decay)
    assert max(settings.decay_after(i) for i in range(200)) <= settings.max_decay


def test_the_published_decay_may_grow_twice() -> None:
    settings = DifferentiableSettings(levels=2, curvature="adapt", epochs=50)
    assert [settings.decay_after(i) for i in range(3)] == pytest.approx([3e-4, 3e-3, 3e-2])
    assert (settings.max_rollbacks, settings.max_epochs) == (2, 50 + 2 * 8)
    assert replace(settings, curvature="stop").max_epochs == 50


def test_curvature_is_not_looked_at_before_the_logits_learn(digits: Dataset) -> None:
    trained = trainer(digits, replace(FEW, curvature="monitor", warm_up=0.5))
    trained.train(4, None, quiet)
    assert [h.curvature is None for h in trained.health] == [True, True, True, False]
