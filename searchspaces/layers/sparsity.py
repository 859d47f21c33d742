"""Which weights are zero: N:M patterns and unstructured sparsity."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.core import InvalidInputError

DENSE = "dense"
MAX_GROUP = 32


@dataclass(frozen=True)
class Sparsity:
    """The largest weights of every output are kept, the others are zero.

    Text forms: `2:4` keeps two of every four inputs in a row; `0.75` zeroes three quarters of an
    output's weights, wherever they are.

    Attributes:
        kept, group: of an N:M pattern; None for unstructured sparsity.
        share: of zeros, for unstructured sparsity.

    Reference: Mishra et al. 2021 (Accelerating sparse deep neural networks), section 3, for N:M;
    Han et al. 2015 for magnitudes.
    """

    kept: int | None
    group: int | None
    share: float

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read the text form; None for `dense`.

        Raises:
            InvalidInputError: not of that form.
        """
        if text == DENSE:
            return None
        if match := re.fullmatch(r"(\d+):(\d+)", text):
            kept, group = int(match[1]), int(match[2])
            if 0 < kept < group <= MAX_GROUP:
                return cls(kept, group, 1 - kept / group)
        elif re.fullmatch(r"0?\.\d+", text) and 0 < float(text) < 1:
            return cls(None, None, float(text))
        raise InvalidInputError("sparsity", text, f"{DENSE}, N:M (2:4), or a share (0.75)")

    @torch.no_grad()
    def mask(self, weight: Tensor) -> Tensor:
        """Ones and zeros of `weight`'s shape, output channels first."""
        rows = weight.detach().abs().flatten(1)  # (out, inputs)
        n_inputs = rows.shape[1]
        if self.group is None or self.kept is None:
            return _largest(rows, int(self.nonzeros(n_inputs))).reshape(weight.shape)
        missing = -n_inputs % self.group
        padded = torch.nn.functional.pad(rows, (0, missing), value=-1.0)
        groups = padded.reshape(-1, self.group)  # (out * groups, M)
        mask = _largest(groups, self.kept).reshape(len(rows), -1)[:, :n_inputs]
        return mask.reshape(weight.shape)

    def apply(self, weight: Tensor) -> Tensor:
        """`weight` with zeros; gradients reach the zeroed weights too, so that they may return.

        Reference: Zhou et al. 2021 (Learning N:M fine-grained structured sparse networks),
        equation 7, without its regularisation.
        """
        return weight + (weight * self.mask(weight) - weight).detach()

    def nonzeros(self, n_inputs: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Weights left of each output's `n_inputs`, at least 1."""
        n = np.asarray(n_inputs, dtype=np.float64)
        if self.group is None or self.kept is None:
            return np.maximum(np.floor(n * (1 - self.share) + 0.5), 1.0)
        return n // self.group * self.kept + np.minimum(n % self.group, self.kept)

    def index_bits(self, n_inputs: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Bits per output that tell where its weights are: places in groups, or a bitmap."""
        if self.group is None:
            return np.asarray(n_inputs, dtype=np.float64)
        return self.nonzeros(n_inputs) * int(np.ceil(np.log2(self.group)))


def _largest(rows: Tensor, n: int) -> Tensor:
    """`(rows, columns)` ones at the `n` largest entries of each row; of equals the first."""
    order = rows.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(rows)
    return mask.scatter_(1, order[:, :n], 1.0)
