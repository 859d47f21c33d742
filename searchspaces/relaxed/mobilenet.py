"""The mobilenet-like joint space, relaxed: every decision mixes within one set of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.core import SearchSpace
from searchspaces.compression import kept_channels
from searchspaces.layers import DENSE
from searchspaces.network import squeeze_width
from searchspaces.relaxed._base import Mix, RelaxedNetwork
from searchspaces.relaxed.layers import MixedBits, MixedConv, first_channels, rounded


@dataclass(frozen=True)
class RelaxedStage:
    """What a stage may be: `n_in` are the channels it may get, the others its own choices."""

    n_in: Sequence[int]
    widths: Sequence[int]
    depths: Sequence[int]
    kernels: Sequence[int]
    expansions: Sequence[int]
    squeeze_excitation: Sequence[bool]
    keep: Sequence[float]
    sparsity: Sequence[str]
    stride: int


class RelaxedMobileNet(RelaxedNetwork):
    """Stem, stages of relaxed inverted bottlenecks, head and classifier.

    Channel counts are masks over the first channels, kernels the centre of the largest, depth a
    gate on a block's residual branch, bits a sum of roundings: with one-hot mixtures it computes
    what a candidate's network does, but for learned steps and the norms' statistics. Stem, head and
    classifier stay float: they never have fewer than 8 bits, or follow the last stage.

    Args:
        space: of the family.
        n_in: channels of an image.
        n_classes: logits.
        stem_width, stem_stride: of the stem.
        stages: their choices, in order.
        noise: weights get noise as wide as a step instead of being rounded.

    Reference: Wan et al. 2020 (FBNetV2), section 3.1, for channel masks; Stamoulis et al. 2019
    (Single-Path NAS), equation 3, for kernels within kernels; Cai and Vasconcelos 2020 (EdMIPS),
    section 3.3, for bits within one set of weights.
    """

    def __init__(
        self,
        space: SearchSpace,
        n_in: int,
        n_classes: int,
        stem_width: int,
        stem_stride: int,
        stages: Sequence[RelaxedStage],
        noise: bool = False,
    ) -> None:
        super().__init__()
        self.space = space
        self._noise = noise
        self.stem = MixedConv(n_in, stem_width, (3,), stem_stride)
        self.stages = nn.ModuleList(_Stage(stage) for stage in stages)
        last = max(stages[-1].widths)
        self.head = MixedConv(last, 2 * last)
        self.classifier = nn.Linear(2 * last, n_classes)
        twice = [2 * width for width in stages[-1].widths]
        self.register_buffer("head_masks", first_channels(twice, 2 * last), persistent=False)

    head_masks: Tensor

    def forward(self, x: Tensor, mix: Mix) -> Tensor:
        """`(B, C, H, W)` images to `(B, n_classes)` logits."""
        weights = dict(zip(self.space.names, mix, strict=True))
        x = F.relu6(self.stem(x))
        entering = x.new_ones(1)
        for i, stage in enumerate(self.stages, 1):
            chosen = self._chosen(weights, f"stage{i}.")
            bits = MixedBits.of(self.space, weights, f"stage{i}", self._noise)
            x = stage(x, entering, chosen, bits)
            entering = chosen["width"]
        x = F.relu6(self.head(x)).mean((2, 3)) * (entering @ self.head_masks)
        logits: Tensor = self.classifier(x)
        return logits

    @property
    def parameter_free(self) -> list[list[bool]]:
        """No option here is an operation without weights."""
        return [[False] * len(d.options) for d in self.space.decisions]

    @staticmethod
    def _chosen(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


class _Stage(nn.Module):
    """Relaxed blocks; those that a depth may lack are gated."""

    depth_masks: Tensor
    width_masks: Tensor
    same_width: Tensor

    def __init__(self, stage: RelaxedStage) -> None:
        super().__init__()
        self._stride = stage.stride
        deepest, widest = max(stage.depths), max(stage.widths)
        self.blocks = nn.ModuleList(
            _Block(stage, stage.widths if i else stage.n_in, 1 if i else stage.stride)
            for i in range(deepest)
        )
        same = [[float(a == b) for b in stage.widths] for a in stage.n_in]
        for name, table in (
            ("depth_masks", first_channels(stage.depths, deepest)),
            ("width_masks", first_channels(stage.widths, widest)),
            ("same_width", torch.tensor(same)),
        ):
            self.register_buffer(name, table, persistent=False)

    def forward(
        self, x: Tensor, entering: Tensor, chosen: Mapping[str, Tensor], bits: MixedBits | None
    ) -> Tensor:
        """`(B, max n_in, H, W)` to `(B, max width, H / stride, W / stride)`.

        Args:
            x: images.
            entering: weights of the channel counts that `x` may have.
            chosen: weights by decision of this stage.
            bits: of the stage.
        """
        alive = chosen["depth"] @ self.depth_masks
        mask = (chosen["width"] @ self.width_masks)[:, None, None]
        for i, block in enumerate(self.blocks):
            if alive[i].detach() == 0:
                break
            y = mask * block(x, chosen["width"] if i else entering, chosen, bits)
            if i:
                x = x + alive[i] * y
                continue
            added = entering @ self.same_width @ chosen["width"]  # the two counts are equal
            if self._stride == 1 and added.detach() != 0:
                y = y + added * _fitted(x, y.shape[1])
            x = y
        return x


class _Block(nn.Module):
    """A relaxed inverted bottleneck, without its residual connection."""

    hidden_masks: Tensor
    inner_masks: Tensor

    def __init__(self, stage: RelaxedStage, n_in: Sequence[int], stride: int) -> None:
        super().__init__()
        widest = max(n_in) * max(stage.expansions)
        full = [[count * expansion for expansion in stage.expansions] for count in n_in]
        hidden = [
            [[int(kept_channels(f, ratio)) for ratio in stage.keep] for f in row] for row in full
        ]
        inner = [[squeeze_width(f) for f in row] for row in full]
        self.expand = MixedConv(max(n_in), widest, sparsities=stage.sparsity)
        self.depthwise = MixedConv(widest, widest, stage.kernels, stride, depthwise=True)
        self.project = MixedConv(widest, max(stage.widths), sparsities=stage.sparsity)
        self.squeeze = self.excite = None
        if any(stage.squeeze_excitation):
            most = squeeze_width(widest)
            self.squeeze = MixedConv(widest, most, norm=False)
            self.excite = MixedConv(most, widest, norm=False)
            masks = torch.stack([first_channels(row, most) for row in inner])
            self.register_buffer("inner_masks", masks, persistent=False)
        self._attends = list(stage.squeeze_excitation)
        self._is_dense = tuple(stage.sparsity) == (DENSE,)
        tables = [torch.stack([first_channels(k, widest) for k in row]) for row in hidden]
        self.register_buffer("hidden_masks", torch.stack(tables), persistent=False)

    def forward(
        self, x: Tensor, entering: Tensor, chosen: Mapping[str, Tensor], bits: MixedBits | None
    ) -> Tensor:
        """`(B, max n_in, H, W)` to `(B, max width, H / stride, W / stride)`."""
        expansion, keep = chosen["expansion"], chosen["keep"]
        mask = torch.einsum("i,e,k,iekc->c", entering, expansion, keep, self.hidden_masks)
        sparsity = None if self._is_dense else chosen["sparsity"]
        y = rounded(F.relu6(self.expand(x, bits, sparsity=sparsity)), bits)
        y = y * mask[:, None, None]
        y = rounded(F.relu6(self.depthwise(y, bits, kernel=chosen["kernel"])), bits)
        y = y * mask[:, None, None]
        y = self._attended(y, entering, chosen, bits)
        return rounded(self.project(y, bits, sparsity=sparsity), bits)

    def _attended(
        self, y: Tensor, entering: Tensor, chosen: Mapping[str, Tensor], bits: MixedBits | None
    ) -> Tensor:
        if self.squeeze is None or self.excite is None:
            return y
        share = torch.stack(
            [p for p, attends in zip(chosen["se"], self._attends, strict=True) if attends]
        ).sum()
        if share.detach() == 0:
            return y
        inner = torch.einsum("i,e,iec->c", entering, chosen["expansion"], self.inner_masks)
        pooled = y.mean((2, 3), keepdim=True)
        squeezed = F.relu6(self.squeeze(pooled, bits)) * inner[:, None, None]
        scale = F.relu6(self.excite(squeezed, bits) + 3) / 6  # torch's has no second derivative
        return y * (1 - share + share * scale)


def _fitted(x: Tensor, n: int) -> Tensor:
    """The first `n` channels, zeros where there are fewer."""
    return F.pad(x, (0, 0, 0, 0, 0, n - x.shape[1])) if n > x.shape[1] else x[:, :n]
