from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import searchspaces
from nas.core import InvalidInputError, UnknownNameError
from searchspaces.compression.pruning import hidden_importance, kept_channels
from searchspaces.counting import count
from searchspaces.network import Bottleneck, MobileNet
from tests.searchspaces.networks import finished, from_source

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 20, 33), (1, 4, 4)]
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(rngs, st.sampled_from(SHAPES), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_costs_equal_what_a_built_network_counts(
    rng: np.random.Generator, shape: tuple[int, int, int], n_stages: int
) -> None:
    sparsity = ["dense", "2:4", "1:3", "0.75"] if rng.random() < 0.5 else ["dense"]
    options = {"n_stages": n_stages, "sparsity": sparsity, "widths": [[6, 16, 24]] * n_stages}
    family = searchspaces.family("mobilenet", shape, 7, options)
    row = family.space.sample(1, rng)
    network = finished(family, family.space.candidate(row[0]))
    assert count(network, shape) == {k: float(v[0]) for k, v in family.costs(row).items()}


@given(rngs, st.sampled_from(SHAPES))
@settings(max_examples=15, deadline=None)
def test_plain_source_computes_the_same_without_our_packages(
    rng: np.random.Generator, shape: tuple[int, int, int]
) -> None:
    family = searchspaces.family("mobilenet", shape, 5, {"n_stages": 2})
    network = finished(family, family.space.candidate(family.space.sample(1, rng)[0]))
    x = torch.randn(3, *shape)
    with torch.no_grad():
        torch.testing.assert_close(from_source(network, x), network(x), rtol=0, atol=1e-6)


def test_folding_batch_norm_leaves_the_float_output_alone() -> None:
    options = {"weight_bits": [32]}
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, options)
    candidate = family.space.candidate(family.space.sample(1, np.random.default_rng(0))[0])
    network = family.build(candidate)
    x = torch.randn(16, 1, 8, 8)
    network.train()(x)
    before = network.eval()(x)
    family.quantize(network, candidate)
    torch.testing.assert_close(network(x), before, rtol=1e-4, atol=1e-5)


def test_pruning_keeps_the_most_important_channels() -> None:
    options = {"n_stages": 1, "depths": [1], "keep": [0.5], "squeeze_excitation": [True]}
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, options)
    candidate = family.space.candidate(family.space.sample(1, np.random.default_rng(3))[0])
    network = family.build(candidate)
    assert isinstance(network, MobileNet)
    block = network.stages[0].blocks[0]
    assert isinstance(block, Bottleneck)
    important = hidden_importance(block)
    weights = block.depthwise.conv.weight.clone()
    family.prune(network, candidate)
    n_kept = int(kept_channels(len(important), 0.5))
    best = important.topk(n_kept).indices.sort().values
    assert block.depthwise.conv.weight.shape[0] == n_kept < len(important)
    torch.testing.assert_close(block.depthwise.conv.weight, weights[best])
    assert network.train()(torch.randn(4, 1, 8, 8)).shape == (4, 10)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((1, 8, 8), (1, 1, 2, 1)),
        ((1, 28, 28), (2, 1, 2, 2)),
        ((3, 32, 32), (2, 1, 2, 2)),
        ((1, 4, 4), (1, 1, 1, 1)),
    ],
)
def test_strides_follow_the_resolution(
    shape: tuple[int, int, int], strides: tuple[int, ...]
) -> None:
    assert searchspaces.MobileNetFamily(shape, 10).strides == strides


def test_activation_bits_exist_only_for_quantized_weights() -> None:
    space = searchspaces.family("mobilenet", (1, 8, 8), 10).space
    rows = space.sample(500, np.random.default_rng(0))
    bits, activation = (space.column[f"stage1.{n}"] for n in ("weight_bits", "activation_bits"))
    floats = space.decisions[bits].options.index(32)
    assert ((rows[:, activation] < 0) == (rows[:, bits] == floats)).all()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"n_stages": 0}, "n_stages"),
        ({"n_stages": True}, "n_stages"),
        ({"kernels": [2]}, "kernels"),
        ({"depths": []}, "depths"),
        ({"keep": [1.5]}, "keep"),
        ({"weight_bits": [8, 4]}, "weight_bits"),
        ({"widths": [[8]]}, "widths"),
        ({"depth": [1]}, "depth"),
        ({"kernels": "35"}, "kernels"),
        ({"sparsity": []}, "sparsity"),
        ({"sparsity": ["dense", "dense"]}, "sparsity"),
    ],
)
def test_bad_options_name_the_option(options: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"space\.options\.{field}"):
        searchspaces.family("mobilenet", (1, 8, 8), 10, options)


def test_unknown_family_and_tiny_images_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mobilenet'"):
        searchspaces.family("mobilnet", (1, 8, 8), 10)
    with pytest.raises(InvalidInputError, match="at least 4x4"):
        searchspaces.family("mobilenet", (1, 3, 8), 10)


@pytest.mark.parametrize("text", ["4:2", "2:64", "0:4", "1.5", "0.0", "half"])
def test_bad_sparsity_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="sparsity"):
        searchspaces.family("mobilenet", (1, 8, 8), 10, {"sparsity": ["dense", text]})
