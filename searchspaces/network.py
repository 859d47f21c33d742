"""The mobilenet-like network: stem, stages of inverted bottlenecks, head, classifier.

The same modules are the plain network (of `ConvUnit`s) and the elastic one (of `ElasticConvUnit`s).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from searchspaces.layers import (
    ActivationQuantizer,
    ConvUnit,
    ElasticActivationQuantizer,
    ElasticConvUnit,
    ElasticLinearUnit,
    LinearUnit,
)

Conv = TypeVar("Conv", bound=ConvUnit | ElasticConvUnit)
Quantizer = ActivationQuantizer | ElasticActivationQuantizer


@dataclass(frozen=True)
class StageShape:
    """One stage: `depth` blocks from `n_in` to `width` channels, the first with `stride`."""

    n_in: int
    width: int
    depth: int
    kernel: int
    expansion: int
    squeeze_excitation: bool
    stride: int


def squeeze_width(hidden: int) -> int:
    """Channels inside a squeeze-excitation: a quarter, in multiples of 4, at least 4."""
    return max(4, hidden // 4 // 4 * 4)


class SqueezeExcitation(nn.Module, Generic[Conv]):
    """Channel attention over global averages, with hard sigmoid.

    Reference: Hu et al. 2018, equations 2 to 4; hard sigmoid as in MobileNetV3.
    """

    def __init__(self, squeeze: Conv, excite: Conv) -> None:
        super().__init__()
        self.squeeze = squeeze
        self.excite = excite
        self.pool_quantizer: Quantizer | None = None
        self.output_quantizer: Quantizer | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` scaled per channel."""
        pooled = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        if self.pool_quantizer is not None:
            pooled = self.pool_quantizer(pooled)
        x = x * self.excite(self.squeeze(pooled))
        return x if self.output_quantizer is None else self.output_quantizer(x)


class Bottleneck(nn.Module, Generic[Conv]):
    """Inverted bottleneck: expand, depthwise, squeeze-excite, project, add where shapes allow.

    Attributes:
        attends: whether the attention is used, where there is one.
        residual: whether the input is added.

    Reference: Sandler et al. 2018 (MobileNetV2), figure 4.
    """

    def __init__(
        self,
        expand: Conv,
        depthwise: Conv,
        attention: SqueezeExcitation[Conv] | None,
        project: Conv,
        residual: bool,
    ) -> None:
        super().__init__()
        self.expand = expand
        self.depthwise = depthwise
        self.attention = attention
        self.project = project
        self.attends = attention is not None
        self.residual = residual
        self.output_quantizer: Quantizer | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n_in, H, W)` to `(B, n_out, H / stride, W / stride)`."""
        y = self.depthwise(self.expand(x))
        if self.attention is not None and self.attends:
            y = self.attention(y)
        y = self.project(y)
        if not self.residual:
            return y
        y = y + x
        return y if self.output_quantizer is None else self.output_quantizer(y)


class Stage(nn.Module, Generic[Conv]):
    """Blocks of one stage, with a quantizer in front where the bits before it differ.

    Attributes:
        depth: blocks in use.
    """

    def __init__(self, blocks: Sequence[Bottleneck[Conv]]) -> None:
        super().__init__()
        self.input_quantizer: Quantizer | None = None
        self.blocks = nn.ModuleList(blocks)
        self.depth = len(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n_in, H, W)` to `(B, width, H / stride, W / stride)`."""
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        for block in islice(self.blocks, self.depth):
            x = block(x)
        return x


class MobileNet(nn.Module, Generic[Conv]):
    """The whole network; `(B, C, H, W)` images to `(B, n_classes)` logits."""

    def __init__(
        self,
        stem: Conv,
        stages: Sequence[Stage[Conv]],
        head: Conv,
        classifier: LinearUnit | ElasticLinearUnit,
    ) -> None:
        super().__init__()
        self.input_quantizer: Quantizer | None = None
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.head = head
        self.pool_quantizer: Quantizer | None = None
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, n_classes)`."""
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        x = self.stem(x)
        if self.training:
            # Gradients of depthwise convolutions cost several times less in this layout on CPUs.
            x = x.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x)
        x = self.head(x).mean((2, 3))  # (B, 2 * width)
        if self.pool_quantizer is not None:
            x = self.pool_quantizer(x)
        logits: Tensor = self.classifier(x)
        return logits


def plain_network(
    n_in: int, n_classes: int, stem_width: int, stem_stride: int, shapes: Sequence[StageShape]
) -> MobileNet[ConvUnit]:
    """The dense float network of these shapes."""
    last = shapes[-1].width
    return MobileNet(
        ConvUnit(n_in, stem_width, 3, stem_stride, activation=nn.ReLU6()),
        [Stage([_plain_block(shape, i) for i in range(shape.depth)]) for shape in shapes],
        ConvUnit(last, 2 * last, activation=nn.ReLU6()),
        LinearUnit(2 * last, n_classes),
    )


def plain_attention(hidden: int, inner: int) -> SqueezeExcitation[ConvUnit]:
    """Channel attention over `hidden` channels with `inner` channels between."""
    return SqueezeExcitation(
        ConvUnit(hidden, inner, activation=nn.ReLU6(), norm=False),
        ConvUnit(inner, hidden, activation=nn.Hardsigmoid(), norm=False),
    )


def _plain_block(shape: StageShape, i: int) -> Bottleneck[ConvUnit]:
    n_in, stride = (shape.width, 1) if i else (shape.n_in, shape.stride)
    hidden = n_in * shape.expansion
    depthwise = ConvUnit(hidden, hidden, shape.kernel, stride, groups=hidden, activation=nn.ReLU6())
    attention = plain_attention(hidden, squeeze_width(hidden)) if shape.squeeze_excitation else None
    return Bottleneck(
        ConvUnit(n_in, hidden, activation=nn.ReLU6()),
        depthwise,
        attention,
        ConvUnit(hidden, shape.width),
        residual=stride == 1 and n_in == shape.width,
    )
