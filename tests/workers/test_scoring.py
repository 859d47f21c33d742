from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.scoring import expected_calibration_error, probabilities, scores

rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(rngs, st.floats(1e-3, 1e3))
def test_scores_are_what_torch_says_of_the_logits(rng: np.random.Generator, scale: float) -> None:
    logits = (scale * rng.normal(size=(40, 5))).astype(np.float32)
    y = rng.integers(0, 5, 40)
    found = scores(logits, y)
    by_torch = torch.from_numpy(logits).double().softmax(1).numpy()
    assert found["true_class_probability"] == pytest.approx(by_torch[np.arange(40), y].mean())
    assert found["accuracy"] == (by_torch.argmax(1) == y).mean()


@given(rngs, st.sampled_from([np.nan, np.inf, -np.inf]))
def test_images_without_finite_logits_count_as_wrong_with_certainty(
    rng: np.random.Generator, value: float
) -> None:
    logits = rng.normal(size=(20, 3)).astype(np.float32)
    y = rng.integers(0, 3, 20)
    broken = logits.copy()
    broken[::2, rng.integers(3)] = value
    half = scores(logits[1::2], y[1::2])["true_class_probability"] / 2
    assert scores(broken, y)["true_class_probability"] == pytest.approx(half)
    assert np.isfinite(probabilities(broken)).all()


def test_more_confidence_in_the_right_class_scores_higher_at_equal_accuracy() -> None:
    y = np.array([0, 1])
    low, high = (scores(scale * np.eye(2, dtype=np.float32), y) for scale in (1, 3))
    assert low["accuracy"] == high["accuracy"] == 1
    assert low["true_class_probability"] < high["true_class_probability"]


def test_calibration_error_is_zero_when_confidence_is_honest() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.0, 40_000)
    logits = np.stack([np.log(p), np.log(1 - p)], axis=1).astype(np.float32)
    y = (rng.random(40_000) > p).astype(np.int64)
    assert expected_calibration_error(logits, y) < 0.01
    assert expected_calibration_error(logits * 5, y) > 0.1
