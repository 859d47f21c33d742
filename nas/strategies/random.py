"""Random search: the baseline everything else must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.core import Fidelity, Genotypes, SearchSpace
from nas.strategies._history import Admissible
from nas.strategies._stepwise import Stepwise


class RandomSearch(Stepwise):
    """Uniform over the options of every decision, without repeats.

    Args:
        space: what to sample.
        seed: of all draws.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.

    Reference: Bergstra and Bengio 2012.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        fidelity: Fidelity = Fidelity.TRAINED,
        admissible: Admissible | None = None,
    ) -> None:
        super().__init__(space, seed, fidelity, admissible)

    def _next(
        self, rng: np.random.Generator, _: int, chosen: Sequence[Genotypes]
    ) -> Genotypes | None:
        return self._history.random_row(rng, chosen, self._admissible)
