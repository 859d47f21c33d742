"""The mobilenet-like network: stem, stages of inverted bottlenecks, head, classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from searchspaces.layers import ActivationQuantizer, ConvUnit, LinearUnit


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


class SqueezeExcitation(nn.Module):
    """Channel attention over global averages, with hard sigmoid.

    Reference: Hu et al. 2018, equations 2 to 4; hard sigmoid as in MobileNetV3.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        inner = squeeze_width(n_channels)
        self.squeeze = ConvUnit(n_channels, inner, activation=nn.ReLU6(), norm=False)
        self.excite = ConvUnit(inner, n_channels, activation=nn.Hardsigmoid(), norm=False)
        self.pool_quantizer: ActivationQuantizer | None = None
        self.output_quantizer: ActivationQuantizer | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` scaled per channel."""
        pooled = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        if self.pool_quantizer is not None:
            pooled = self.pool_quantizer(pooled)
        x = x * self.excite(self.squeeze(pooled))
        return x if self.output_quantizer is None else self.output_quantizer(x)


class Bottleneck(nn.Module):
    """Inverted bottleneck: expand, depthwise, squeeze-excite, project, add where shapes allow.

    Reference: Sandler et al. 2018 (MobileNetV2), figure 4.
    """

    def __init__(self, n_in: int, n_out: int, shape: StageShape, stride: int) -> None:
        super().__init__()
        hidden = n_in * shape.expansion
        self.expand = ConvUnit(n_in, hidden, activation=nn.ReLU6())
        self.depthwise = ConvUnit(
            hidden, hidden, shape.kernel, stride, groups=hidden, activation=nn.ReLU6()
        )
        self.attention = SqueezeExcitation(hidden) if shape.squeeze_excitation else None
        self.project = ConvUnit(hidden, n_out)
        self.residual = stride == 1 and n_in == n_out
        self.output_quantizer: ActivationQuantizer | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n_in, H, W)` to `(B, n_out, H / stride, W / stride)`."""
        y = self.depthwise(self.expand(x))
        if self.attention is not None:
            y = self.attention(y)
        y = self.project(y)
        if not self.residual:
            return y
        y = y + x
        return y if self.output_quantizer is None else self.output_quantizer(y)


class Stage(nn.Module):
    """Blocks of one stage, with a quantizer in front where the bits before it differ."""

    def __init__(self, shape: StageShape) -> None:
        super().__init__()
        self.input_quantizer: ActivationQuantizer | None = None
        self.blocks = nn.ModuleList(
            Bottleneck(
                shape.width if i else shape.n_in, shape.width, shape, 1 if i else shape.stride
            )
            for i in range(shape.depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n_in, H, W)` to `(B, width, H / stride, W / stride)`."""
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        for block in self.blocks:
            x = block(x)
        return x


class MobileNet(nn.Module):
    """The whole network; `(B, C, H, W)` images to `(B, n_classes)` logits."""

    def __init__(
        self,
        n_in: int,
        n_classes: int,
        stem_width: int,
        stem_stride: int,
        shapes: Sequence[StageShape],
    ) -> None:
        super().__init__()
        last = shapes[-1].width
        self.input_quantizer: ActivationQuantizer | None = None
        self.stem = ConvUnit(n_in, stem_width, 3, stem_stride, activation=nn.ReLU6())
        self.stages = nn.ModuleList(Stage(shape) for shape in shapes)
        self.head = ConvUnit(last, 2 * last, activation=nn.ReLU6())
        self.pool_quantizer: ActivationQuantizer | None = None
        self.classifier = LinearUnit(2 * last, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, n_classes)`."""
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        x = self.head(x).mean((2, 3))  # (B, 2 * width)
        if self.pool_quantizer is not None:
            x = self.pool_quantizer(x)
        logits: Tensor = self.classifier(x)
        return logits
