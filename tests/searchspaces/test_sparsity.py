from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import searchspaces
from nas.core import InvalidInputError
from searchspaces.compression import sparsify, write_zeros
from searchspaces.layers import ConvUnit, Sparsity
from searchspaces.plain import plain_module_source


def pattern(text: str) -> Sparsity:
    found = Sparsity.parse(text)
    assert found is not None
    return found


@given(st.integers(1, 6), st.integers(1, 40), st.sampled_from(["2:4", "1:4", "3:5", "0.5", "0.9"]))
@settings(max_examples=80, deadline=None)
def test_masks_keep_the_largest_and_as_many_as_promised(n_out: int, n_in: int, text: str) -> None:
    sparsity = pattern(text)
    weight = torch.randn(n_out, n_in, 1, 1)
    mask = sparsity.mask(weight)
    assert mask.shape == weight.shape
    rows, kept = weight.abs().flatten(1), mask.flatten(1).bool()
    assert (kept.sum(1) == int(sparsity.nonzeros(n_in))).all()
    size = sparsity.group or n_in
    for start in range(0, n_in, size):
        part, keep = rows[:, start : start + size], kept[:, start : start + size]
        for values, chosen in zip(part, keep, strict=True):
            if chosen.any() and not chosen.all():
                assert values[chosen].min() >= values[~chosen].max()


def test_gradients_reach_zeroed_weights() -> None:
    weight = torch.randn(4, 8, 1, 1, requires_grad=True)
    out = pattern("2:4").apply(weight)
    out.sum().backward()
    assert weight.grad is not None
    assert (weight.grad == 1).all()
    assert int((out == 0).sum()) == 16


def test_a_sparse_candidate_is_shipped_with_its_zeros() -> None:
    options = {"n_stages": 1, "depths": [1], "sparsity": ["2:4"], "weight_bits": [8]}
    family = searchspaces.family("mobilenet", (1, 8, 8), 4, options)
    candidate = family.space.candidate(family.space.sample(1, np.random.default_rng(0))[0])
    network = family.build(candidate)
    family.prune(network, candidate)
    family.quantize(network, candidate)
    x = torch.randn(8, 1, 8, 8)
    network.eval()(x)
    for module in network.modules():
        if hasattr(module, "observing"):
            module.observing = False
    before = network(x)
    write_zeros(network)
    torch.testing.assert_close(network(x), before)
    _, state = plain_module_source(network, x, "sparse")
    expand = state["stage1_block1_expand_conv.weight"]
    assert (expand == 0).float().mean() >= 0.5


def test_sparsify_serves_any_network_but_its_first_and_last_layer() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1),
        nn.Flatten(), nn.Linear(16, 32), nn.Linear(32, 4),
    )  # fmt: skip
    sparsify(network, pattern("0.75"))
    zeros = [float((m.weight == 0).float().mean()) for m in network if hasattr(m, "weight")]
    assert zeros == [0.0, 0.0, 0.75, 0.75, 0.0]


def test_units_mask_in_training_and_keep_masked_weights_alive() -> None:
    unit = ConvUnit(8, 8)
    unit.sparsity = pattern("1:4")
    out = unit(torch.randn(2, 8, 4, 4))
    out.square().sum().backward()
    assert unit.conv.weight.grad is not None
    assert (unit.conv.weight.grad != 0).all()
    assert (unit.conv.weight != 0).all()


@pytest.mark.parametrize("text", ["2:2", "x", "100%"])
def test_bad_patterns_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="share"):
        Sparsity.parse(text)
