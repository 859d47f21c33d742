"""Latency and other figures of a device from few measurements there, and from known devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor
from nas.core.device import Estimate, Features
from predictors._kernels import distances, matern
from predictors._targets import NOT_FITTED
from predictors.validation import kendall_tau, out_of_fold

Matrix = NDArray[np.float64]

STRUCTURES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
LENGTHS = (0.3, 0.6, 1.2)
NOISES = (1e-4, 1e-3, 1e-2, 3e-2, 0.1)
LEVEL = 10.0
"""Prior variance of the mean: so large that data alone decide."""
TINY = 1e-12
KIN = 1 / 3
"""Weight of what each known device says of the kernel, beside the new one's own measurements."""
MIN_LESSONS, MAX_LESSONS = 8, 100
KNOWN_MARK = "@"
Lessons = Sequence[tuple[Features, float]]


@dataclass(frozen=True)
class _Kernel:
    """`amplitude * (linear * z z' + structure * matern(f, f') + noise * identity)`."""

    linear: float
    structure: float
    length: float
    noise: float

    def between(self, a: _Points, b: _Points) -> Matrix:
        """`(n, m)` covariance of the function, and of its unknown level."""
        found = np.full((len(a.known), len(b.known)), LEVEL)
        if self.linear:
            found += self.linear * (a.known @ b.known.T) / max(1, a.known.shape[1])
        if self.structure:
            scale = self.length * np.sqrt(max(1, a.features.shape[1]))
            found += self.structure * matern(distances(a.features, b.features), scale)
        return found


PRIOR = _Kernel(linear=1.0, structure=0.1, length=0.6, noise=0.01)
"""Of a device of which nothing is known yet: the middle of what a fit chooses from."""


@dataclass(frozen=True)
class _Points:
    """Standardised latencies on known devices `(n, p)`, and features `(n, d)`."""

    known: Matrix
    features: Matrix

    def without(self, device: int) -> _Points:
        return _Points(np.delete(self.known, device, axis=1), self.features)


@dataclass
class FewShotLatency(Predictor):
    """A Gaussian process whose prior mean knows other devices; one per target.

    The function is a weighted sum of the known devices' latencies, each weight a priori around
    zero, plus one of the features (Matérn 5/2), plus noise. How much each part matters is what
    maximises the marginal likelihood of the new device's measurements, and, with a third of the
    weight each, of every known device's if only the others were known: what devices have in
    common is learned from devices. With no known device it is a plain process of the features.

    Attributes:
        n_known: the first columns of `x` that are latencies on known devices, measured or
            predicted; the others are features.

    Reference: Lee et al. 2021 (HELP) for the task; the process of a linear and a stationary part is
    Rasmussen and Williams 2006, sections 2.7 and 5.4.1.
    """

    n_known: int = 0
    _center: Matrix = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    _scale: Matrix = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    _points: _Points | None = field(default=None, init=False, repr=False)
    _fits: list[_Fit] = field(default_factory=list, init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, n_known + d)` and `y (n, m)`, forgetting earlier fits. Returns self."""
        wide = x.astype(np.float64)
        self._center, spread = wide.mean(axis=0), wide.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        self._points = self._placed(x)
        self._fits = [_Fit.of(self._points, column) for column in y.T]
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x`, in the units of `y`; the deviation includes the measurement's noise.

        Raises:
            ConflictError: not fitted.
        """
        if self._points is None:
            raise ConflictError(NOT_FITTED)
        points = self._placed(x)
        found = [fit.moments(self._points, points) for fit in self._fits]
        return Prediction(
            np.stack([mean for mean, _ in found], axis=1),
            np.stack([std for _, std in found], axis=1),
        )

    def _placed(self, x: NDArray[np.float32]) -> _Points:
        standard = (x - self._center) / self._scale
        return _Points(standard[:, : self.n_known], standard[:, self.n_known :])


@dataclass(frozen=True)
class _Fit:
    """A kernel conditioned on measurements `(n,)`."""

    kernel: _Kernel
    amplitude: float
    level: float
    factor: Matrix
    weights: Matrix

    @classmethod
    def of(cls, points: _Points, y: Matrix) -> Self:
        from scipy.linalg import cho_solve

        level, scale = float(y.mean()), float(y.std()) or 1.0
        kernel = _chosen(points, (y - level) / scale)
        factor = _factor(kernel, points)
        weights = cho_solve((factor, True), y - level)
        amplitude = max(float((y - level) @ weights) / len(y), TINY * scale**2)
        return cls(kernel, amplitude, level, factor, weights)

    def moments(self, known: _Points, points: _Points) -> tuple[Matrix, Matrix]:
        from scipy.linalg import solve_triangular

        cross = self.kernel.between(points, known)
        explained = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        own = LEVEL + self.kernel.structure + self.kernel.noise
        if self.kernel.linear:
            n_known = max(1, points.known.shape[1])
            own = own + self.kernel.linear * (points.known**2).sum(axis=1) / n_known
        left = np.maximum(own - (explained**2).sum(axis=0), TINY)
        return self.level + cross @ self.weights, np.sqrt(self.amplitude * left)


def _factor(kernel: _Kernel, points: _Points) -> Matrix:
    from scipy.linalg import cholesky

    covariance = kernel.between(points, points)
    return np.asarray(cholesky(covariance + kernel.noise * np.eye(len(covariance)), lower=True))


def _chosen(points: _Points, y: Matrix) -> _Kernel:
    """The kernel of the highest marginal likelihood, amplitudes in closed form."""
    n_known = points.known.shape[1]
    tasks = [(points, y, 1.0)]
    if n_known > 1:
        tasks += [(points.without(j), points.known[:, j], KIN) for j in range(n_known)]
    best, score = _Kernel(0.0, 1.0, 0.6, 0.1), -np.inf
    for kernel in _kernels(n_known > 0, points.features.shape[1] > 0):
        found = sum(weight * _likelihood(kernel, p, target) for p, target, weight in tasks)
        if found > score:
            best, score = kernel, found
    return best


def _likelihood(kernel: _Kernel, points: _Points, y: Matrix) -> float:
    from scipy.linalg import solve_triangular

    factor = _factor(kernel, points)
    whitened = solve_triangular(factor, y, lower=True, check_finite=False)
    amplitude = max(float(whitened @ whitened) / len(y), TINY)
    return float(-0.5 * len(y) * np.log(amplitude) - np.log(np.diag(factor)).sum())


def _kernels(any_known: bool, any_features: bool) -> list[_Kernel]:
    found = []
    for structure, length, noise in product(STRUCTURES, LENGTHS, NOISES):
        if structure == 0.0 and (length != LENGTHS[0] or not any_known):
            continue  # nothing it could tell apart, or no part at all
        if structure > 0.0 and not any_features and any_known:
            continue
        found.append(_Kernel(float(any_known), structure, length, noise))
    return found


def most_informative(
    x: NDArray[np.float32], n: int, n_known: int = 0, measured: Sequence[int] = ()
) -> NDArray[np.int64]:
    """`(n,)` rows of `x (m, d)` to measure next: each where one is least certain after the others.

    Certainty is that of the process of `FewShotLatency` before any measurement, as a process'
    variance does not depend on what was measured. So the first n are a set that tells much about
    the rest on any device, and their order is that of their worth. Against rows drawn at random:
    `tests/benchmarks/latency_predictors.py --choose`.

    Args:
        x: of the candidates to choose from.
        n: how many; fewer where there are no more.
        n_known: the first columns of `x` that are latencies on known devices.
        measured: rows that are measured already.

    Reference: Sacks et al. 1989, section 5 (entropy designs, one point at a time).
    """
    wide = x.astype(np.float64)
    spread = wide.std(axis=0)
    standard = (wide - wide.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    points = _Points(standard[:, :n_known], standard[:, n_known:])
    kernel = replace(PRIOR, linear=float(n_known > 0))
    left = kernel.between(points, points)
    taken = list(measured)
    for row in taken:
        left = _after(left, row, kernel.noise)
    for _ in range(min(n, len(x) - len(taken))):
        doubt = left.diagonal().copy()
        doubt[taken] = -np.inf
        taken.append(int(doubt.argmax()))
        left = _after(left, taken[-1], kernel.noise)
    return np.array(taken[len(measured) :], dtype=np.int64)


def _after(covariance: Matrix, row: int, noise: float) -> Matrix:
    """`(m, m)` covariance once a row is measured."""
    column = covariance[:, row]
    return covariance - np.outer(column, column) / (column[row] + noise)


@dataclass(frozen=True)
class HeldOut:
    """What a device measured, and what the other measurements predict for each, in milliseconds.

    Attributes:
        measured: `(n,)` newest first.
        predicted: `(n,)`, each without itself.
        std: `(n,)` of the predictions.
    """

    measured: Matrix
    predicted: Matrix
    std: Matrix

    @property
    def error(self) -> float:
        """Median relative error."""
        return float(np.median(np.abs(self.predicted / self.measured - 1.0)))

    @property
    def tau(self) -> float:
        """Kendall's tau-b; nan where all are the same."""
        return kendall_tau(self.predicted, self.measured)


def held_out(lessons: Lessons) -> HeldOut | None:
    """How well a device's measurements predict one another; None with fewer than 8.

    Args:
        lessons: features and milliseconds of what was measured, newest first; of those with all
            features of the newest, at most 100 are used.
    """
    if not lessons:
        return None
    taught = _taught(lessons, lessons[0][0])
    return None if taught is None else _held_out(*taught)


def estimate(lessons: Lessons, features: Features) -> Estimate | None:
    """What a device would measure for a candidate, from what it measured for others.

    Features with an `@` in their name are what the figure is nearly linear in, as latencies on
    known devices are; of the others the logarithm counts. The newest 100 lessons are used; with
    fewer than 8 there is no estimate.

    Args:
        lessons: features and figure of what was measured, newest first.
        features: of what is asked.
    """
    taught = _taught(lessons, features)
    if taught is None:
        return None
    names, x, y = taught
    asked = np.array([_row(features, names)], dtype=np.float32)
    found = _predictor(names).fit(x, y).predict(asked)
    value = max(float(found.mean[0, 0]), float(y.min()) / 10)
    return Estimate(value, float(found.std[0, 0]), _held_out(*taught).error, len(y))


def _taught(
    lessons: Lessons, features: Features
) -> tuple[list[str], NDArray[np.float32], Matrix] | None:
    """Names of `features`, and `(n, d)` rows and `(n, 1)` milliseconds of lessons that have all."""
    names = sorted(features, key=lambda name: (KNOWN_MARK not in name, name))
    usable = [(f, ms) for f, ms in lessons if all(name in f for name in names)][:MAX_LESSONS]
    if len(usable) < MIN_LESSONS:
        return None
    x = np.array([_row(f, names) for f, _ in usable], dtype=np.float32)
    return names, x, np.array([[ms] for _, ms in usable])


def _predictor(names: Sequence[str]) -> FewShotLatency:
    return FewShotLatency(sum(KNOWN_MARK in name for name in names))


def _held_out(names: Sequence[str], x: NDArray[np.float32], y: Matrix) -> HeldOut:
    found = out_of_fold(partial(_predictor, names), x, y, n_folds=min(len(y), 10))
    return HeldOut(y[:, 0], found.mean[:, 0], found.std[:, 0])


def _row(features: Features, names: Sequence[str]) -> list[float]:
    known = [features[name] for name in names if KNOWN_MARK in name]
    return known + [np.log1p(features[name]) for name in names if KNOWN_MARK not in name]
