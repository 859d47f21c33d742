"""The elastic mobilenet: one set of weights from which every candidate of the space is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor, nn

from nas.core import Candidate
from searchspaces._base import Supernet
from searchspaces.compression.pruning import (
    Importance,
    hidden_importance,
    kept_channels,
    set_sparsity,
)
from searchspaces.compression.quantization import FLOAT, StageBits, place_bits, quantize_network
from searchspaces.layers import (
    Calibration,
    ConvUnit,
    ElasticActivationQuantizer,
    ElasticConvUnit,
    ElasticLinearUnit,
    LinearUnit,
    Sparsity,
)
from searchspaces.network import (
    Bottleneck,
    MobileNet,
    SqueezeExcitation,
    Stage,
    StageShape,
    squeeze_width,
)

ElasticBlock = Bottleneck[ElasticConvUnit]


class Choices(Protocol):
    """What the supernet must know of its family."""

    input_shape: tuple[int, int, int]
    n_classes: int

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of the stem, then of each stage."""

    def shapes(self, candidate: Candidate) -> list[StageShape]:
        """Shapes of the stages, before pruning."""

    def keep_ratios(self, candidate: Candidate) -> list[float]:
        """Share of expanded channels left after pruning, by stage."""

    def sparsities(self, candidate: Candidate) -> list[Sparsity | None]:
        """Pattern of zeros by stage; None where dense."""

    def stage_bits(self, candidate: Candidate) -> list[StageBits]:
        """Bits by stage."""


@dataclass(frozen=True)
class ElasticStage:
    """The largest choice of every decision of a stage."""

    max_in: int
    max_width: int
    max_depth: int
    kernels: Sequence[int]
    max_expansion: int
    attention: bool
    stride: int


class ElasticMobileNet(Supernet):
    """Shared weights of all candidates of a mobilenet-like space.

    A candidate uses the first blocks of a stage, the first channels of a layer, the centre of a
    kernel. `sort_channels` keeps the expanded channels in order of importance, so that pruning is
    to use fewer of them.

    Reference: Cai et al. 2020 (Once-for-all); bits in the same weights as in Xu et al. 2023
    (EQ-Net), section 3.
    """

    def __init__(self, choices: Choices, stages: Sequence[ElasticStage]) -> None:
        super().__init__()
        self._choices = choices
        stem_width, last = stages[0].max_in, stages[-1].max_width
        self.network = MobileNet(
            ElasticConvUnit(
                choices.input_shape[0], stem_width, (3,), choices.strides[0], activation=nn.ReLU6()
            ),
            [_elastic_stage(stage) for stage in stages],
            ElasticConvUnit(last, 2 * last, activation=nn.ReLU6()),
            ElasticLinearUnit(2 * last, choices.n_classes),
        )
        self.network.input_quantizer = ElasticActivationQuantizer()
        self.network.pool_quantizer = ElasticActivationQuantizer()

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` images to `(B, n_classes)` logits of the active candidate."""
        logits: Tensor = self.network(x)
        return logits

    def activate(self, candidate: Candidate, quantized: bool = True) -> None:
        """Make `candidate` the network that runs; in float if not `quantized`."""
        choices, network = self._choices, self.network
        shapes, ratios = choices.shapes(candidate), choices.keep_ratios(candidate)
        sparsities = choices.sparsities(candidate)
        for stage, shape, ratio, sparsity in zip(
            network.stages, shapes, ratios, sparsities, strict=True
        ):
            assert isinstance(stage, Stage)
            stage.depth = shape.depth
            for i, block in enumerate(islice(stage.blocks, stage.depth)):
                assert isinstance(block, Bottleneck)
                _activate_block(block, shape, i, ratio)
                set_sparsity(block, sparsity)
        last = shapes[-1].width
        network.head.n_in, network.head.n_out = last, 2 * last
        assert isinstance(network.classifier, ElasticLinearUnit)
        network.classifier.n_in = 2 * last
        bits = choices.stage_bits(candidate)
        place_bits(network, bits if quantized else [FLOAT] * len(bits), _ElasticSettings())

    def set_dropout(self, share: float) -> None:
        """Drop this share of the classifier's inputs in training."""
        _linear(self.network.classifier).dropout = share

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Refresh the statistics of the active candidate from `x (B, C, H, W)`; ends in evaluation.

        One pass sets batch norms; where anything is quantized, it sets activation ranges on the
        way, so that every norm sees the rounded values it will get, and corrects biases and spreads
        for what rounding its own weights changes.

        Reference: Yu and Huang 2019, section 3.1; Nagel et al. 2019 (DFQ), section 4.2.
        """
        self.eval()
        kind = Calibration.GRIDS if self._is_quantized else Calibration.NORMS
        for calibration in (kind, Calibration.OFF):
            for module in self.modules():
                if isinstance(
                    module, (ElasticConvUnit, ElasticLinearUnit, ElasticActivationQuantizer)
                ):
                    module.calibration = calibration
            if calibration is not Calibration.OFF:
                self(x)

    def extract(self, candidate: Candidate, quantized: bool = True) -> nn.Module:
        """A plain network that computes what the supernet does for `candidate`, in evaluation.

        Calibrate first. In float it is pruned and has its batch norms; quantized it is folded
        and has the supernet's grids.
        """
        self.activate(candidate, quantized)
        network, choices = self.network, self._choices
        plain: MobileNet[ConvUnit] = MobileNet(
            network.stem.extract(),
            [_extracted_stage(stage) for stage in network.stages],
            network.head.extract(),
            _linear(network.classifier).extract(),
        )
        if quantized and self._is_quantized:
            quantize_network(plain, choices.stage_bits(candidate))
            self._give_grids(plain)
        return plain.eval()

    @torch.no_grad()
    def sort_channels(self, importance: Importance = "l1") -> None:
        """Put expanded channels in order of importance; the largest network computes the same.

        Raises:
            InvalidInputError: an importance that needs gradients there are not.
        """
        for block in self.blocks():
            order = hidden_importance(block, importance).argsort(descending=True)
            _permute(block, order)

    def blocks(self) -> Iterator[ElasticBlock]:
        """Every block there is, stage by stage."""
        for stage in self.network.stages:
            assert isinstance(stage, Stage)
            for block in stage.blocks:
                assert isinstance(block, Bottleneck)
                yield block

    @property
    def _is_quantized(self) -> bool:
        return any(
            unit.weight_quantizer.grid is not None
            for unit in self.modules()
            if isinstance(unit, (ElasticConvUnit, ElasticLinearUnit))
        )

    def _give_grids(self, plain: MobileNet[ConvUnit]) -> None:
        """Set every quantizer and corrected bias of a folded plain network to the supernet's."""
        network = self.network
        _give_quantizers(network, plain, "input_quantizer", "pool_quantizer")
        network.stem.give_grids(plain.stem)
        network.head.give_grids(plain.head)
        _linear(network.classifier).give_grids(_plain_linear(plain.classifier))
        for ours, theirs in zip(network.stages, plain.stages, strict=True):
            _give_quantizers(ours, theirs, "input_quantizer")
            assert isinstance(ours, Stage)
            assert isinstance(theirs, Stage)
            for elastic, block in zip(ours.blocks, theirs.blocks, strict=False):
                assert isinstance(elastic, Bottleneck)
                assert isinstance(block, Bottleneck)
                _give_block(elastic, block)


class _ElasticSettings:
    """Sets bits of elastic layers."""

    def weight(self, unit: nn.Module, bits: StageBits) -> None:
        assert isinstance(unit, (ElasticConvUnit, ElasticLinearUnit))
        unit.weight_quantizer.grid = bits.grid

    def activation(self, owner: nn.Module, name: str, bits: StageBits) -> None:
        quantizer = getattr(owner, name)
        assert isinstance(quantizer, ElasticActivationQuantizer)
        quantizer.bits = bits.activation


def _elastic_stage(stage: ElasticStage) -> Stage[ElasticConvUnit]:
    blocks = []
    for i in range(stage.max_depth):
        n_in, stride = (stage.max_width, 1) if i else (stage.max_in, stage.stride)
        hidden = n_in * stage.max_expansion
        relu6 = nn.ReLU6()
        attention = None
        if stage.attention:
            inner = squeeze_width(hidden)
            attention = SqueezeExcitation(
                ElasticConvUnit(hidden, inner, activation=relu6, norm=False),
                ElasticConvUnit(inner, hidden, activation=nn.Hardsigmoid(), norm=False),
            )
            attention.pool_quantizer = ElasticActivationQuantizer()
            attention.output_quantizer = ElasticActivationQuantizer()
        block = Bottleneck(
            ElasticConvUnit(n_in, hidden, activation=relu6),
            ElasticConvUnit(hidden, hidden, stage.kernels, stride, True, relu6),
            attention,
            ElasticConvUnit(hidden, stage.max_width),
            residual=False,
        )
        block.output_quantizer = ElasticActivationQuantizer()
        blocks.append(block)
    elastic = Stage(blocks)
    elastic.input_quantizer = ElasticActivationQuantizer()
    return elastic


def _activate_block(block: ElasticBlock, shape: StageShape, i: int, ratio: float) -> None:
    n_in, stride = (shape.width, 1) if i else (shape.n_in, shape.stride)
    hidden = n_in * shape.expansion
    kept = int(kept_channels(hidden, ratio))
    block.expand.n_in, block.expand.n_out = n_in, kept
    block.depthwise.n_in = block.depthwise.n_out = kept
    block.depthwise.kernel = shape.kernel
    block.project.n_in, block.project.n_out = kept, shape.width
    block.residual = stride == 1 and n_in == shape.width
    block.attends = shape.squeeze_excitation
    if block.attention is not None:
        inner = squeeze_width(hidden)
        block.attention.squeeze.n_in, block.attention.squeeze.n_out = kept, inner
        block.attention.excite.n_in, block.attention.excite.n_out = inner, kept


def _extracted_stage(stage: nn.Module) -> Stage[ConvUnit]:
    assert isinstance(stage, Stage)
    blocks: list[Bottleneck[ConvUnit]] = []
    for block in islice(stage.blocks, stage.depth):
        assert isinstance(block, Bottleneck)
        attention: SqueezeExcitation[ConvUnit] | None = None
        if block.attention is not None and block.attends:
            attention = SqueezeExcitation(
                block.attention.squeeze.extract(), block.attention.excite.extract()
            )
        blocks.append(
            Bottleneck(
                block.expand.extract(),
                block.depthwise.extract(),
                attention,
                block.project.extract(),
                block.residual,
            )
        )
    return Stage(blocks)


def _give_block(elastic: ElasticBlock, plain: Bottleneck[ConvUnit]) -> None:
    elastic.expand.give_grids(plain.expand)
    elastic.depthwise.give_grids(plain.depthwise)
    elastic.project.give_grids(plain.project)
    _give_quantizers(elastic, plain, "output_quantizer")
    if elastic.attention is not None and plain.attention is not None:
        elastic.attention.squeeze.give_grids(plain.attention.squeeze)
        elastic.attention.excite.give_grids(plain.attention.excite)
        _give_quantizers(elastic.attention, plain.attention, "pool_quantizer", "output_quantizer")


def _give_quantizers(elastic: nn.Module, plain: nn.Module, *names: str) -> None:
    for name in names:
        quantizer = getattr(elastic, name)
        assert isinstance(quantizer, ElasticActivationQuantizer)
        setattr(plain, name, quantizer.extract())


def _linear(unit: nn.Module) -> ElasticLinearUnit:
    assert isinstance(unit, ElasticLinearUnit)
    return unit


def _plain_linear(unit: nn.Module) -> LinearUnit:
    assert isinstance(unit, LinearUnit)
    return unit


def _permute(block: ElasticBlock, order: Tensor) -> None:
    """Reorder the expanded channels of every layer that shares them."""
    for unit in (block.expand, block.depthwise):
        unit.conv.weight.copy_(unit.conv.weight[order])
        assert unit.norm is not None
        for tensor in unit.norm.state_dict().values():
            if tensor.ndim:
                tensor.copy_(tensor[order])
    block.project.conv.weight.copy_(block.project.conv.weight[:, order])
    if block.attention is not None:
        squeeze, excite = block.attention.squeeze.conv, block.attention.excite.conv
        squeeze.weight.copy_(squeeze.weight[:, order])
        excite.weight.copy_(excite.weight[order])
        assert excite.bias is not None
        excite.bias.copy_(excite.bias[order])
