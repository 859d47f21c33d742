"""Every layer is in one part, which tells the bits it is quantized to."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

import searchspaces
from searchspaces import ModelFamily
from searchspaces.layers import FLOAT_BITS, ConvUnit, LinearUnit
from tests.searchspaces.test_traced import family as traced_family

FAMILIES = {
    "mobilenet": searchspaces.family("mobilenet", (1, 8, 8), 5, {"sparsity": ["dense", "2:4"]}),
    "cells": searchspaces.family("cells", (1, 8, 8), 5),
    "pairs": searchspaces.family("cells", (1, 8, 8), 5, {"topology": "pairs"}),
    "traced": traced_family(),
}


def units(network: nn.Module) -> dict[str, ConvUnit | LinearUnit]:
    found = network.named_modules()
    return {name: unit for name, unit in found if isinstance(unit, (ConvUnit, LinearUnit))}


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_tell_the_bits_of_every_layer(name: str) -> None:
    family: ModelFamily = FAMILIES[name]
    rows = family.space.sample(40, np.random.default_rng(0))
    met = set()
    for row in rows[family.connected(rows)][:8]:
        candidate = family.space.candidate(row)
        network = family.build(candidate)
        parts = family.parts(network, candidate)
        family.prune(network, candidate)
        family.quantize(network, candidate)
        for where, unit in units(network).items():
            (part,) = [p for at, p in parts.items() if f"{where}.".startswith(f"{at}.")]
            quantizer = unit.weight_quantizer
            weight_bits = FLOAT_BITS if quantizer is None else quantizer.grid.bits
            assert weight_bits == part.bits.weight, where
            met |= {part.name, weight_bits}
            if isinstance(unit, ConvUnit):
                rounding = unit.output_quantizer
                width = FLOAT_BITS if rounding is None else rounding.bits
                assert width == part.bits.activation, where
    assert len(met) > 4
