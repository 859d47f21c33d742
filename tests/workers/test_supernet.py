from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import searchspaces
from nas.core import ConflictError
from workers.datasets import Dataset, load_dataset
from workers.distillation import distillation_loss, moment_loss, moments
from workers.sampling import PathSampler, image_probabilities
from workers.supernet import SupernetTrainer, learning_rate
from workers.supernet_settings import SupernetSettings

SMALL = {"n_stages": 1, "widths": [[8, 16]], "depths": [1, 2], "keep": [0.5, 1.0]}
FEW = SupernetSettings(epochs=4, batch_size=128, n_random=1)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", limit=600)


@pytest.fixture(scope="module")
def family() -> searchspaces.ModelFamily:
    return searchspaces.family("mobilenet", (1, 8, 8), 10, SMALL)


def quiet(line: str) -> None: ...


def weights(trainer: SupernetTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.supernet.parameters()])


SWITCHES = {
    "the recipe": FEW,
    "one uniform path": replace(FEW, n_random=0),
    "alpha divergence": replace(FEW, distillation="alpha"),
    "progressive guidance": replace(FEW, teacher="previous"),
    "no distillation": replace(FEW, distillation="none"),
    "shrinking": replace(FEW, shrinking=True, float_share=0.0),
    "taylor": replace(FEW, shrinking=True, importance="taylor"),
    "importance": replace(FEW, paths="importance", images="importance"),
    "moments": replace(FEW, kurtosis_weight=0.015, skewness_weight=1.0),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_training_resumed_from_a_checkpoint_is_training_unbroken(
    family: searchspaces.ModelFamily, digits: Dataset, tmp_path: Path, switch: str
) -> None:
    settings = SWITCHES[switch]
    whole = SupernetTrainer(family, digits, settings, seed=3)
    start = weights(whole)
    whole.train(4, None, quiet)
    path = tmp_path / "supernet.safetensors"
    SupernetTrainer(family, digits, settings, seed=3).train(2, path, quiet)
    resumed = SupernetTrainer(family, digits, settings, seed=3)
    resumed.train(4, path, quiet)
    assert resumed.epoch == 4
    assert [e.epoch for e in resumed.history] == [1, 2, 3, 4] and resumed.history == whole.history
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    assert not torch.equal(start, weights(whole))
    assert [p.name for p in tmp_path.iterdir()] == ["supernet.safetensors"]


def test_a_checkpoint_of_another_training_is_refused(
    family: searchspaces.ModelFamily, digits: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "supernet.safetensors"
    SupernetTrainer(family, digits, FEW, seed=3).train(1, path, quiet)
    for other, seed in ((replace(FEW, learning_rate=1e-3), 3), (FEW, 4)):
        with pytest.raises(ConflictError, match="another training"):
            SupernetTrainer(family, digits, other, seed).train(2, path, quiet)


def test_training_lowers_the_loss_of_largest_and_smallest(
    family: searchspaces.ModelFamily, digits: Dataset
) -> None:
    trainer = SupernetTrainer(family, digits, replace(FEW, epochs=20, batch_size=32), seed=0)
    x, y = torch.from_numpy(digits.x_val), torch.from_numpy(digits.y_val)
    trainer.train(20, None, quiet)
    for row in (family.space.n_options - 1, np.zeros(len(family.space), dtype=np.int16)):
        trainer.supernet.activate(family.space.candidate(row))
        trainer.supernet.calibrate(torch.from_numpy(digits.x_train))
        with torch.no_grad():
            assert F.cross_entropy(trainer.supernet(x), y) < 1.5


def test_divergences_are_zero_for_equals_and_what_the_formulas_say() -> None:
    student, teacher = torch.randn(7, 5), torch.randn(7, 5)
    p, q = teacher.softmax(1).double(), student.softmax(1).double()
    kl = (p * (p / q).log()).sum(1)
    assert distillation_loss(student, teacher, "kl").item() == pytest.approx(kl.mean().item())
    backward = 0.5 * (q * ((q / p).clamp_max(5) - 1)).sum(1)
    expected = torch.maximum(kl, backward).mean().item()
    assert distillation_loss(student, teacher, "alpha").item() == pytest.approx(expected, rel=1e-4)
    for kind in ("kl", "alpha"):
        assert distillation_loss(teacher, teacher, kind).item() == pytest.approx(0, abs=1e-6)


def test_moments_are_those_of_known_distributions() -> None:
    uniform = torch.linspace(-1, 3, 100_001)
    skewness, kurtosis = moments(uniform)
    assert skewness.item() == pytest.approx(0, abs=1e-3)
    assert kurtosis.item() == pytest.approx(1.8, abs=1e-3)
    skewness, kurtosis = moments(torch.from_numpy(np.random.default_rng(0).exponential(size=10**6)))
    assert skewness.item() == pytest.approx(2, abs=0.1)
    assert kurtosis.item() == pytest.approx(9, abs=1)


def test_the_moment_loss_moves_weights_towards_the_uniform(
    family: searchspaces.ModelFamily,
) -> None:
    torch.manual_seed(0)
    supernet = family.supernet()
    optimizer = torch.optim.Adam(supernet.parameters(), 1e-2)
    before = moment_loss(supernet, 1.0, 1.0).item()
    for _ in range(20):
        optimizer.zero_grad()
        loss = moment_loss(supernet, 1.0, 1.0)
        loss.backward()
        optimizer.step()
    assert loss.item() < before


def test_paths_follow_gradients_as_far_as_the_tilt_says() -> None:
    space = searchspaces.family("mobilenet", (1, 8, 8), 10, SMALL).space
    sampler = PathSampler(space, space.n_options - 1)
    rng = np.random.default_rng(0)
    for row in space.sample(4000, rng):
        sampler.observe(row, 3.0 if row[0] == 1 else 1.0)
    np.testing.assert_allclose(sampler.probabilities(0, 1.0), [0.25, 0.75])
    np.testing.assert_allclose(sampler.probabilities(0, 0.5), [0.375, 0.625])
    np.testing.assert_allclose(sampler.probabilities(0, 0.0), [0.5, 0.5])
    drawn = sampler.sample(20_000, rng, tilt=1.0)
    assert (drawn[:, 0] == 1).mean() == pytest.approx(0.75, abs=0.02)
    np.testing.assert_array_equal(space.canonical(drawn), drawn)


def test_shrinking_frees_kernels_then_depths_then_all() -> None:
    space = searchspaces.family("mobilenet", (1, 8, 8), 10, {"n_stages": 2}).space
    sampler = PathSampler(space, space.n_options - 1)
    rows = space.sample(200, np.random.default_rng(0))
    seen = [
        {
            name
            for i, name in enumerate(space.names)
            if len(set(sampler.released(rows, progress)[:, i])) > 1
        }
        for progress in (0.0, 0.34, 0.67)
    ]
    assert seen[0] == {"stage1.kernel", "stage2.kernel"}
    assert seen[1] == seen[0] | {"stage1.depth", "stage2.depth"}
    assert len(seen[2]) == len(space)


def test_image_chances_mix_uniform_and_errors() -> None:
    errors = np.array([0.0, 1.0, 3.0])
    np.testing.assert_allclose(image_probabilities(errors, 0.5), [1 / 6, 7 / 24, 13 / 24])
    np.testing.assert_allclose(image_probabilities(np.zeros(3), 1.0), np.full(3, 1 / 3))


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(FEW, p) for p in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(FEW.learning_rate, rel=0.01)
    assert rates[0] < 0.2 * FEW.learning_rate
    assert rates[-1] == pytest.approx(0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_supernet_trains_on_a_gpu_and_its_file_serves_the_cpu(
    family: searchspaces.ModelFamily, digits: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "supernet.safetensors"
    settings = replace(FEW, epochs=20, batch_size=32)
    SupernetTrainer(family, digits, settings, seed=0, device="cuda").train(20, path, quiet)
    trainer = SupernetTrainer(family, digits, settings, seed=0)
    trainer.load(path)
    trainer.supernet.activate(family.space.candidate(family.space.n_options - 1))
    trainer.supernet.calibrate(torch.from_numpy(digits.x_train))
    with torch.no_grad():
        right = trainer.supernet(torch.from_numpy(digits.x_val)).argmax(1).numpy() == digits.y_val
    assert right.mean() > 0.8
