"""Layers read from networks: shapes and bits agree with the closed-form costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import searchspaces
from nas.core import Candidate
from searchspaces import ModelFamily, TracedFamily
from searchspaces.layers import ActivationQuantizer, ConvUnit, LinearUnit
from searchspaces.weighted import IMAGE_BITS, WIDEST, WeightedLayer, weighted_layers
from workers.comparison import built


class Plain(TracedFamily):
    """Dilation, unequal strides and a flattened map."""

    def network(self, values: object) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(self.input_shape[0], 8, 3, padding=2, dilation=2),
            nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 4, (3, 1), (2, 1)), nn.ReLU(), nn.Flatten(),
            nn.Linear(4 * 3 * 8, self.n_classes),
        )  # fmt: skip


FAMILIES = [
    searchspaces.family("mobilenet", (1, 8, 8), 10, {"weight_bits": [2, 4, 8]}),
    searchspaces.family("mobilenet", (3, 9, 12), 10, {"weight_bits": [4, 8]}),
    searchspaces.family("cells", (1, 8, 8), 10, {"weight_bits": [4, 8]}),
    Plain((1, 8, 8), 10, {"weight_bits": [4, 8]}),
]


def integer_candidates(family: ModelFamily, n: int) -> list[Candidate]:
    rows = family.space.sample(40 * n, np.random.default_rng(0))
    candidates = [family.space.candidate(row) for row in rows[family.connected(rows)]]
    return [c for c in candidates if all(max(b) <= 8 for b in family.bits(c).values())][:n]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{type(f).__name__}{f.input_shape}")
def test_layers_cost_what_the_closed_form_says(family: ModelFamily) -> None:
    candidates = integer_candidates(family, 6)
    assert len(candidates) == 6
    for candidate in candidates:
        layers = weighted_layers(built(family, candidate, True, True), family.input_shape)
        costs = family.costs(family.space.row(candidate)[None])
        assert sum(la.macs for la in layers) == costs["macs"][0]
        bit_ops = sum(la.macs * la.weight_bits * la.input_bits for la in layers)
        assert bit_ops == costs["bit_ops"][0]


def test_what_nothing_quantizes_is_counted_as_integers() -> None:
    network = nn.Sequential(ConvUnit(1, 4, 3, activation=nn.ReLU()), ConvUnit(4, 8, 5, 2, groups=4))
    first, second = weighted_layers(network, (1, 8, 8))
    one, two = (1, 1), (2, 2)
    assert first == WeightedLayer(1, 4, (8, 8), (3, 3), one, one, 1, WIDEST, IMAGE_BITS)
    assert second == WeightedLayer(4, 8, (8, 8), (5, 5), two, two, 4, WIDEST, WIDEST)
    assert (second.out, second.n_weights, second.macs) == ((4, 4), 8 * 25, 8 * 25 * 16)
    assert second.is_depthwise and not first.is_depthwise
    assert weighted_layers(network, (1, 8, 8), 4)[1].input_bits == 4


def test_a_view_of_a_quantized_tensor_has_its_bits() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quantizer, self.linear = ActivationQuantizer(3), LinearUnit(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.linear(self.quantizer(x).flatten(1))
            return out

    (layer,) = weighted_layers(Flat(), (1, 8, 8))
    assert (layer.input_bits, layer.size, layer.n_in, layer.n_out) == (3, (1, 1), 64, 10)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name_gives_the_size_that_comes_out(padding: str) -> None:
    unit = ConvUnit(1, 1, norm=False)
    unit.conv = nn.Conv2d(1, 2, (3, 5), padding=padding, dilation=(2, 1))
    (layer,) = weighted_layers(unit, (1, 9, 11))
    assert layer.out == tuple(unit(torch.zeros(1, 1, 9, 11)).shape[2:])
