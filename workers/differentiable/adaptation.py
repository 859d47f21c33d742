"""Weight decay that rises where curvature grows, and the states to go back to then."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from workers.checkpoints import Groups
from workers.differentiable.health import APART
from workers.differentiable.settings import DifferentiableSettings

PREFIX = "back"
"""Of the names of a kept state's groups in a checkpoint: `back12/weights`."""


class AdaptiveDecay:
    """R-DARTS' adaptive regularisation (DARTS-ADA): the weight decay after each roll-back.

    Keeps copies of as many states as the roll-backs left can reach: each goes 4 measurements back,
    and the next may come one measurement later.

    Args:
        settings: the first decay, its growth and its bound.

    Attributes:
        rollbacks: times gone back.

    Reference: Zela et al. 2020 (Understanding and robustifying DARTS), DARTS-ADA.
    """

    def __init__(self, settings: DifferentiableSettings) -> None:
        self.rollbacks = 0
        self._settings = settings
        self._states: dict[int, dict[str, dict[str, Tensor]]] = {}

    @property
    def value(self) -> float:
        """Weight decay now; its bound where growth would exceed it."""
        return self._settings.decay_after(self.rollbacks)

    @property
    def may_go_back(self) -> bool:
        """Whether the decay may rise further."""
        return self.rollbacks < self._settings.max_rollbacks

    def earliest(self, now: int) -> int:
        """The earliest epoch that may be gone back to; `now` where no state is kept."""
        return min(self._states, default=now)

    def keep(self, epoch: int, state: Groups) -> None:
        """Copy the state after `epoch`, at which curvature was measured; forget what is too old."""
        left = self._settings.max_rollbacks - self.rollbacks
        if left == 0:
            self._states.clear()
            return
        self._states[epoch] = _copied(state)
        for old in sorted(self._states)[: -1 - (APART - 1) * left]:
            del self._states[old]

    def go_back(self, epoch: int) -> Groups:
        """A copy of the state after `epoch`; later ones are forgotten, and the decay rises.

        Raises:
            KeyError: it is not kept.
        """
        state = _copied(self._states[epoch])
        self._states = {kept: s for kept, s in self._states.items() if kept <= epoch}
        self.rollbacks += 1
        return state

    def groups(self) -> dict[str, Mapping[str, Tensor]]:
        """Kept states by the names they have in a checkpoint."""
        return {
            f"{PREFIX}{epoch}/{name}": tensors
            for epoch, state in self._states.items()
            for name, tensors in state.items()
        }

    def restore(self, groups: Groups, rollbacks: int) -> None:
        """Take up what `groups` gave, among other groups."""
        self.rollbacks, self._states = rollbacks, {}
        for name, tensors in groups.items():
            epoch, _, group = name.removeprefix(PREFIX).partition("/")
            if name.startswith(PREFIX):
                self._states.setdefault(int(epoch), {})[group] = dict(tensors)


def _copied(state: Groups) -> dict[str, dict[str, Tensor]]:
    return {
        name: {k: t.detach().clone() for k, t in tensors.items()} for name, tensors in state.items()
    }
