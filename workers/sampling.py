"""Which candidates and which images a supernet is trained on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nas.core import Genotypes, SearchSpace

PHASES = ("kernel", "depth")
"""Kinds of decisions that progressive shrinking sets free first, one a phase; then all others."""


class PathSampler:
    """Draws candidates, options with larger gradients oftener.

    Args:
        space: whose candidates.
        largest: `(d,)` row of the largest candidate.

    Reference: Lu et al. 2023 (PA&DA), section 3.2. There an option's gradient norm is that of its
    own operator's parameters; here operators share their weights, so it is the norm of the whole
    candidate's gradient, averaged over the candidates that had the option.
    """

    def __init__(self, space: SearchSpace, largest: Genotypes) -> None:
        self._space = space
        self._largest = np.where(largest < 0, space.n_options - 1, largest)
        shape = (len(space), int(space.n_options.max()))
        self._sums: NDArray[np.float64] = np.zeros(shape)
        self._counts: NDArray[np.float64] = np.zeros(shape)

    def sample(self, n: int, rng: np.random.Generator, tilt: float = 0.0) -> Genotypes:
        """`(n, d)` rows: uniform for `tilt` 0, in proportion to gradient norms for 1."""
        if tilt == 0.0:
            return self._space.sample(n, rng)
        columns = [
            rng.choice(len(p), n, p=p) for p in (self.probabilities(i, tilt) for i in self._columns)
        ]
        return self._space.canonical(np.stack(columns, axis=1).astype(np.int16))

    def probabilities(self, column: int, tilt: float) -> NDArray[np.float64]:
        """`(options,)` chances of the options of a decision; uniform while any was never seen."""
        n = int(self._space.n_options[column])
        counts = self._counts[column, :n]
        uniform = np.full(n, 1.0 / n)
        if (counts == 0).any():
            return uniform
        norms = self._sums[column, :n] / counts
        total = norms.sum()
        return uniform if total == 0 else tilt * norms / total + (1 - tilt) * uniform

    def observe(self, row: Genotypes, gradient_norm: float) -> None:
        """Take the gradient norm of one `(d,)` candidate; one that overflowed tells nothing."""
        if not np.isfinite(gradient_norm):
            return
        active = np.flatnonzero(row >= 0)
        self._sums[active, row[active]] += gradient_norm
        self._counts[active, row[active]] += 1

    def released(self, rows: Genotypes, progress: float) -> Genotypes:
        """`(n, d)` rows with every decision not yet set free as in the largest candidate.

        Args:
            rows: valid rows.
            progress: of the training, 0 to 1; phases are of equal length.

        Reference: Cai et al. 2020 (Once-for-all), section 3.3, progressive shrinking.
        """
        phase = phase_of(progress)
        if phase >= len(PHASES):
            return rows
        free = PHASES[: phase + 1]
        held = [not name.endswith(free) for name in self._space.names]
        filled = np.where(held, self._largest, np.where(rows < 0, 0, rows))
        return self._space.canonical(filled.astype(np.int16))

    def state(self) -> dict[str, NDArray[np.float64]]:
        """What `restore` takes."""
        return {"sums": self._sums, "counts": self._counts}

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Go on from what `state` gave."""
        self._sums, self._counts = state["sums"].copy(), state["counts"].copy()

    @property
    def _columns(self) -> range:
        return range(len(self._space))


def phase_of(progress: float) -> int:
    """Phase of progressive shrinking at `progress`, 0 to 1; the last one sets everything free."""
    return min(int(progress * (len(PHASES) + 1)), len(PHASES))


def image_probabilities(errors: NDArray[np.float64], tilt: float) -> NDArray[np.float64]:
    """`(n,)` chances of images: uniform for `tilt` 0, in proportion to `errors (n,)` for 1.

    Reference: Lu et al. 2023 (PA&DA), section 3.3.
    """
    total = errors.sum()
    uniform = np.full(len(errors), 1.0 / len(errors))
    return uniform if total == 0 else tilt * errors / total + (1 - tilt) * uniform
