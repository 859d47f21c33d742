"""What a network must be able to do that is a mixture of all candidates of a space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from nas.core import SearchSpace

Mix = Sequence[Tensor]
"""By decision, `(options,)` weights of its options; one-hot ones make a candidate."""


class RelaxedNetwork(nn.Module, ABC):
    """Weights shared by all candidates, run as a mixture of them.

    Batch norms use the statistics of the batch, whatever the mixture, and keep none.

    Attributes:
        space: whose decisions are mixed.
    """

    space: SearchSpace

    @abstractmethod
    def forward(self, x: Tensor, mix: Mix) -> Tensor:
        """`(B, C, H, W)` images to `(B, n_classes)` logits.

        Options of weight exactly 0 are not computed where that saves work.
        """

    @property
    @abstractmethod
    def parameter_free(self) -> Sequence[Sequence[bool]]:
        """By decision and option, whether the option is an operation without weights."""


def batch_norm(width: int) -> nn.BatchNorm2d:
    """A norm that knows the batch alone; scales would let weights grow against mixtures."""
    return nn.BatchNorm2d(width, affine=False, track_running_stats=False)
