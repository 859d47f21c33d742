"""What a classifier's logits on labelled images say of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workers.datasets import Labels

Logits = NDArray[np.float32]


def scores(logits: Logits, y: Labels) -> dict[str, float]:
    """Metrics of `(n, classes)` logits, each from 0 to 1, larger is better.

    `accuracy` is the share of images classified right; `true_class_probability` the mean softmax
    probability of the true class, which tells apart networks that are right equally often.
    """
    true = probabilities(logits)[np.arange(len(y)), y]
    return {
        "accuracy": float((logits.argmax(1) == y).mean()),
        "true_class_probability": float(true.mean()),
    }


def expected_calibration_error(logits: Logits, y: Labels, n_bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal confidence bins, 0 to 1.

    Reference: Guo et al. 2017 (On calibration of modern neural networks), equation 3.
    """
    found = probabilities(logits)
    confidence = found.max(1)
    right = found.argmax(1) == y
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(y))


def probabilities(logits: Logits) -> NDArray[np.float64]:
    """`(n, classes)` softmax of logits; zeros for an image whose logits are not all finite."""
    finite = np.isfinite(logits).all(1, keepdims=True)
    known = np.where(finite, logits, 0.0).astype(np.float64)
    shifted = np.exp(known - known.max(1, keepdims=True))
    return np.asarray(finite * shifted / shifted.sum(1, keepdims=True))
