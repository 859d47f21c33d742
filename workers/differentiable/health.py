"""How a differentiable search is doing: what tells a healthy one from one that collapses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WINDOW = 5
APART = 4
GROWTH = 1.3
CURVATURE_EPOCHS = 2
"""Between two measurements of curvature."""

MOST_PARAMETER_FREE = 0.5


@dataclass(frozen=True)
class Health:
    """One epoch of a differentiable search.

    Attributes:
        epoch: from 1.
        train_loss: mean over the epoch's batches.
        relaxed_accuracy: of the mixture, on validation images.
        derived_accuracy: of the derived candidate with the mixture's weights, not trained again.
        entropy: of the distribution, mean over decisions, as a share of the largest possible.
        parameter_free_share: of the derived candidate's operations.
        temperature: of the distribution.
        weight_decay: of the weights in this epoch.
        curvature: dominant eigenvalue of the held-out loss by the logits; None if not measured.
        expected_costs: under the distribution.
        derived_costs: of the derived candidate.
        probabilities: by decision.
        derived: `(d,)` option indices.
        slopes: by decision, how logits over the temperature change with the preference; [] where
            they follow none. Everything else is at preference 0.
    """

    epoch: int
    train_loss: float
    relaxed_accuracy: float
    derived_accuracy: float
    entropy: float
    parameter_free_share: float
    temperature: float
    weight_decay: float
    curvature: float | None
    expected_costs: dict[str, float]
    derived_costs: dict[str, float]
    probabilities: list[list[float]]
    derived: list[int]
    slopes: list[list[float]]

    def tradeoffs(self, n: int) -> list[list[list[float]]]:
        """Distributions, by decision, at `n` preferences that fill -1 to 1 evenly at any time."""
        if not self.slopes:
            return [self.probabilities]
        pairs = list(zip(self.probabilities, self.slopes, strict=True))
        return [[_moved(p, b, u) for p, b in pairs] for u in preferences(n)]

    @property
    def gap(self) -> float:
        """What discretisation costs: accuracy of the mixture less that of the derived candidate."""
        return self.relaxed_accuracy - self.derived_accuracy

    @property
    def has_collapsed(self) -> bool:
        """Whether most operations of the derived candidate have no weights."""
        return self.parameter_free_share > MOST_PARAMETER_FREE

    def __str__(self) -> str:
        parts = [
            f"loss {self.train_loss:.3f}",
            f"mixture {self.relaxed_accuracy:.3f}",
            f"derived {self.derived_accuracy:.3f}",
            f"entropy {self.entropy:.2f}",
            f"without weights {self.parameter_free_share:.0%}",
        ]
        if self.curvature is not None:
            parts.append(f"curvature {self.curvature:.3g}")
        return ", ".join(parts)


def preferences(n: int) -> list[float]:
    """`n` numbers between -1 and 1, any first ones of which fill it evenly: van der Corput's."""
    from scipy.stats.qmc import Halton

    sequence = Halton(1, scramble=False).random(n + 1)[1:, 0]  # van der Corput's less its 0
    return [2 * float(v) - 1 for v in sequence]


def _moved(
    probabilities: Sequence[float], slopes: Sequence[float], preference: float
) -> list[float]:
    """`(options,)` probabilities at a preference, of those at preference 0."""
    logits = np.log(np.maximum(probabilities, 1e-30)) + preference * np.array(slopes)
    moved = np.exp(logits - logits.max())
    return [float(p) for p in moved / moved.sum()]


def curvature_has_grown(curvatures: Sequence[float | None]) -> bool:
    """Whether the running mean over 5 measurements is 1.3 times the one 4 measurements before.

    Not before both means are of 5: the paper, with epochs of hundreds of steps, looks from epoch 10
    on and compares with as few as one; with epochs of ten steps that one is of a network that knows
    nothing yet, and any learning looks like growth. `curvatures` has one entry per epoch, None
    where it was not measured.

    Reference: Zela et al. 2020 (R-DARTS), section 4.3.
    """
    known = np.abs([c for c in curvatures if c is not None])
    if len(known) < WINDOW + APART:
        return False
    before = known[-WINDOW - APART : -APART].mean()
    return bool(known[-WINDOW:].mean() >= GROWTH * before)


def kept_epoch(curvatures: Sequence[float | None]) -> int:
    """The epoch, from 1, whose distribution counts: the last, or where growth began.

    Where curvature has grown, that is the epoch of the mean it is compared with.
    """
    if not curvature_has_grown(curvatures):
        return len(curvatures)
    measured = [i + 1 for i, c in enumerate(curvatures) if c is not None]
    return measured[-1 - APART]
