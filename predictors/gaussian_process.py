"""A Gaussian process: the most from few rows, and uncertainty that grows away from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor
from predictors._kernels import Kernel, distances, matern
from predictors._sparse_process import SparseProcess
from predictors._targets import MIN_ROWS, NOT_FITTED, TargetScale

Matrix = NDArray[np.float64]
Moments = tuple[NDArray[np.floating], NDArray[np.floating]]

LENGTHS = 2.0 ** np.arange(-3.0, 3.1, 0.5)
NOISES = 10.0 ** np.arange(-4.0, 1.1, 0.25)
TYPICAL_LENGTH = 0.5
TINY = 1e-12
CHUNK = 4096
MANY = 20_000
N_INDUCING = 128


@dataclass
class GaussianProcess(Predictor):
    """Gaussian processes with Matérn 5/2 kernels and noise, one per target.

    Columns are scaled to 0..1 by their range in the training rows (one-hot columns stay what they
    are, whatever share of rows has them); constant ones are ignored. A kernel's amplitude, length
    and noise maximise the marginal likelihood: one eigendecomposition per length serves all
    targets and noises, and the amplitude follows in closed form. A weak log-normal prior keeps the
    length near half the diagonal of the data. The uncertainty is that of the function, without
    the noise. With fewer than 4 rows it predicts their mean.

    More than 20,000 rows at once are predicted through 128 of the training rows, in single
    precision: the same kernel, all targets, a small part of the work. Who wants the exact answer
    for the most promising ones asks again for those.

    Attributes:
        max_rows: learned from; of more, a random draw.
        max_tuning_rows: the kernel is chosen by; of more, a random draw.
        seed: of the draws.

    Reference: Rasmussen and Williams 2006, sections 2.2, 4.2.1 and 5.4.1; Hvarfner et al. 2024 for
    a prior on the length that grows with the root of the dimension.
    """

    max_rows: int = 1000
    max_tuning_rows: int = 300
    seed: int = 0
    _scale: TargetScale | None = field(default=None, init=False, repr=False)
    _columns: _Columns | None = field(default=None, init=False, repr=False)
    _processes: list[_Process] = field(default_factory=list, init=False, repr=False)
    _thinned: list[SparseProcess] = field(default_factory=list, init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self."""
        self._scale, self._processes, self._thinned = TargetScale.of(y), [], []
        if len(y) < MIN_ROWS:
            return self
        drawn = np.random.default_rng(self.seed).permutation(len(x))
        used, tuning = np.sort(drawn[: self.max_rows]), np.sort(drawn[: self.max_tuning_rows])
        standard = self._scale.standard(y)
        self._columns = _Columns.of(x[used])
        kernels = _likeliest(self._columns.scaled(x[tuning]), standard[tuning])
        points = self._columns.scaled(x[used])
        self._processes = [
            _Process.conditioned(kernel, points, standard[used, j])
            for j, kernel in enumerate(kernels)
        ]
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if self._scale is None:
            raise ConflictError(NOT_FITTED)
        if not self._processes or self._columns is None:
            return self._scale.uninformed(len(x))
        moments = self._coarse if len(x) > MANY and self._has_many else self._exact
        mean, std = (np.empty((len(x), len(self._processes))) for _ in range(2))
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            mean[part], std[part] = moments(self._columns.scaled(x[part]))
        return self._scale.restored(mean, std)

    def left_out_errors(self) -> Matrix:
        """`(k, m)` standardised targets of the rows learned from, less what the others foretell.

        The kernels stay those of all rows. k is 0 with fewer than 4 rows.

        Raises:
            ConflictError: not fitted.

        Reference: Rasmussen and Williams 2006, equation 5.12.
        """
        if self._scale is None:
            raise ConflictError(NOT_FITTED)
        if not self._processes:
            return np.empty((0, len(self._scale.center)))
        return np.stack([process.left_out_errors() for process in self._processes], axis=1)

    @property
    def _has_many(self) -> bool:
        return len(self._processes[0].points) > N_INDUCING

    def _exact(self, points: Matrix) -> tuple[Matrix, Matrix]:
        """`(n, m)` standardised mean and deviation at scaled `points (n, d)`."""
        apart = distances(points, self._processes[0].points)
        return _together([process.moments(apart) for process in self._processes])

    def _coarse(self, points: Matrix) -> tuple[Matrix, Matrix]:
        """The same through few of the training rows."""
        single = points.astype(np.float32)
        apart = distances(single, self._sparse[0].points)
        return _together([process.moments(apart) for process in self._sparse])

    @property
    def _sparse(self) -> list[SparseProcess]:
        """The processes through the same 128 rows of each."""
        if not self._thinned:
            self._thinned = [process.thinned() for process in self._processes]
        return self._thinned


def _together(moments: Sequence[Moments]) -> tuple[Matrix, Matrix]:
    mean, std = (np.stack(part, axis=1) for part in zip(*moments, strict=True))
    return mean, std


@dataclass(frozen=True)
class _Columns:
    """Which columns vary, where they start and how far they reach."""

    varies: NDArray[np.bool_]
    low: Matrix
    reach: Matrix

    @classmethod
    def of(cls, x: NDArray[np.float32]) -> Self:
        low, reach = x.min(axis=0).astype(np.float64), np.ptp(x, axis=0).astype(np.float64)
        varies = reach > 0
        return cls(varies, low[varies], reach[varies])

    def scaled(self, x: NDArray[np.float32]) -> Matrix:
        return (x[:, self.varies] - self.low) / self.reach


@dataclass(frozen=True)
class _Process:
    """A kernel conditioned on points `(n, d)` and standardised targets."""

    kernel: Kernel
    points: Matrix
    targets: Matrix
    weights: Matrix
    factor: Matrix

    @classmethod
    def conditioned(cls, kernel: Kernel, points: Matrix, y: Matrix) -> Self:
        from scipy.linalg import cho_solve, cholesky

        covariance = matern(distances(points, points), kernel.length)
        factor = cholesky(covariance + kernel.noise * np.eye(len(points)), lower=True)
        return cls(kernel, points, y, cho_solve((factor, True), y), factor)

    def moments(self, apart: Matrix) -> tuple[Matrix, Matrix]:
        """`(n,)` mean and standard deviation where `apart (n, known)` from the points."""
        from scipy.linalg import solve_triangular

        cross = matern(apart, self.kernel.length)
        explained = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        left = np.maximum(1.0 - np.einsum("kn,kn->n", explained, explained), 0.0)
        return cross @ self.weights, np.sqrt(self.kernel.amplitude * left)

    def left_out_errors(self) -> Matrix:
        """`(n,)` targets less the means that the other points give."""
        from scipy.linalg import solve_triangular

        inverse = solve_triangular(self.factor, np.eye(len(self.points)), lower=True)
        return np.asarray(self.weights / (inverse * inverse).sum(axis=0))

    def thinned(self) -> SparseProcess:
        """The same through an even draw of 128 points."""
        drawn = np.linspace(0, len(self.points) - 1, N_INDUCING).round().astype(np.int64)
        return SparseProcess.conditioned(self.points[drawn], self.points, self.targets, self.kernel)


def _likeliest(points: Matrix, targets: Matrix) -> list[Kernel]:
    """The kernel of the highest posterior on the grid, per column of `targets (n, m)`."""
    from scipy.linalg import eigh

    n, apart = len(points), distances(points, points)
    diagonal = np.sqrt(max(points.shape[1], 1))
    best = [(-np.inf, Kernel(1.0, diagonal, 1.0))] * targets.shape[1]
    for length in LENGTHS:
        values, vectors = eigh(matern(apart, length * diagonal))
        powers = (vectors.T @ targets) ** 2  # (n, m)
        total = np.maximum(values, 0.0)[:, None] + NOISES  # (n, noises)
        shrink = -0.5 * np.log(length / TYPICAL_LENGTH) ** 2
        for j in range(targets.shape[1]):
            amplitude = np.maximum((powers[:, j, None] / total).mean(axis=0), TINY)
            fit = shrink - 0.5 * (n * np.log(amplitude) + np.log(total).sum(axis=0))
            k = int(fit.argmax())
            if fit[k] > best[j][0]:
                kernel = Kernel(float(amplitude[k]), float(length * diagonal), float(NOISES[k]))
                best[j] = float(fit[k]), kernel
    return [kernel for _, kernel in best]
