"""A Gaussian process seen through few of its points: what a large pool can afford."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from predictors._kernels import Kernel, distances, matern

Matrix = NDArray[np.float64]
Single = NDArray[np.float32]

JITTER = 1e-6


@dataclass(frozen=True)
class SparseProcess:
    """The fully independent training conditional of a process, in single precision.

    All rows are learned from, but through `k` inducing points, so that a prediction costs `k * k`
    steps instead of `n * n`.

    Attributes:
        points: `(k, d)` inducing points.
        kernel: of the process.
        weights: `(k,)`; the mean is `kernel @ weights`.
        reduction: `(k, k)`; the variance is 1 less the squared norm of `kernel @ reduction`, times
            the amplitude.

    Reference: Snelson and Ghahramani 2006; Quiñonero-Candela and Rasmussen 2005, equations 25a
    and 25b, with the inducing points drawn from the rows.
    """

    points: Single
    kernel: Kernel
    weights: Single
    reduction: Single

    @classmethod
    def conditioned(cls, inducing: Matrix, points: Matrix, y: Matrix, kernel: Kernel) -> Self:
        """Learn standardised `y (n,)` at `points (n, d)` through `inducing (k, d)` ones."""
        from scipy.linalg import cholesky, eigh, solve_triangular

        own = matern(distances(inducing, inducing), kernel.length) + JITTER * np.eye(len(inducing))
        inverse = solve_triangular(cholesky(own, lower=True), np.eye(len(own)), lower=True)
        seen = inverse @ matern(distances(inducing, points), kernel.length)  # (k, n)
        spread = np.maximum(1.0 - np.einsum("kn,kn->n", seen, seen), 0.0) + kernel.noise
        learned, axes = eigh(np.eye(len(own)) + (seen / spread) @ seen.T)
        turned = inverse.T @ axes
        weights = turned @ ((axes.T @ (seen @ (y / spread))) / learned)
        reduction = turned * np.sqrt(np.maximum(1.0 - 1.0 / learned, 0.0))
        single = [a.astype(np.float32) for a in (inducing, weights, reduction)]
        return cls(single[0], kernel, single[1], single[2])

    def moments(self, apart: Single) -> tuple[Single, Single]:
        """`(n,)` mean and standard deviation where `apart (n, k)` from the inducing points."""
        cross = matern(apart, self.kernel.length)
        explained = cross @ self.reduction
        left = np.maximum(1.0 - np.einsum("nk,nk->n", explained, explained), 0.0)
        return cross @ self.weights, np.sqrt(self.kernel.amplitude * left)
