from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import searchspaces
from nas.core import Genotypes, InvalidInputError, SearchSpace
from searchspaces.cells.operations import OPERATIONS
from searchspaces.cells.skeleton import Skeleton
from searchspaces.cells.topology import Dense, Topology, cell_space
from searchspaces.layers import ConvUnit, LinearUnit, Sparsity
from searchspaces.network import Bottleneck, MobileNet, Stage
from searchspaces.relaxed import RelaxedCells
from searchspaces.relaxed.cells import MixedCell
from searchspaces.relaxed.layers import MixedBits, MixedConv
from searchspaces.relaxed.mobilenet import RelaxedMobileNet

OPTIONS = {
    "n_stages": 2,
    "widths": [[8, 12], [8, 16]],
    "keep": [0.5, 1.0],
    "weight_bits": [2, 4, 8, 32],
    "symmetric": [False, True],
    "sparsity": ["dense", "2:4"],
}
FAMILY = searchspaces.family("mobilenet", (1, 8, 8), 5, OPTIONS)
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def one_hot(space: SearchSpace, row: Genotypes) -> list[Tensor]:
    pairs = zip(space.n_options, row, strict=True)
    return [torch.eye(int(n))[max(int(option), 0)] for n, option in pairs]


def even(space: SearchSpace) -> list[Tensor]:
    return [torch.full((int(n),), 1 / int(n), requires_grad=True) for n in space.n_options]


def give(unit: ConvUnit, mixed: MixedConv) -> None:
    """The part of a mixed layer's weights that a plain layer has."""
    weight = unit.conv.weight
    n_out, n_in, kernel = weight.shape[:3]
    edge = (mixed.conv.weight.shape[-1] - kernel) // 2
    crop = slice(edge, edge + kernel)
    with torch.no_grad():
        weight.copy_(mixed.conv.weight[:n_out, :n_in, crop, crop])
        if unit.conv.bias is not None and mixed.conv.bias is not None:
            unit.conv.bias.copy_(mixed.conv.bias[:n_out])


def give_all(plain: MobileNet[ConvUnit], relaxed: RelaxedMobileNet) -> None:
    give(plain.stem, relaxed.stem)
    for stage, mixed in zip(plain.stages, relaxed.stages, strict=True):
        assert isinstance(stage, Stage)
        for block, other in zip(stage.blocks, mixed.blocks, strict=False):  # type: ignore[union-attr]
            assert isinstance(block, Bottleneck)
            for name in ("expand", "depthwise", "project"):
                give(getattr(block, name), getattr(other, name))
            if block.attention is not None:
                give(block.attention.squeeze, other.squeeze)
                give(block.attention.excite, other.excite)
    give(plain.head, relaxed.head)
    assert isinstance(plain.classifier, LinearUnit)
    linear = plain.classifier.linear
    with torch.no_grad():
        linear.weight.copy_(relaxed.classifier.weight[:, : linear.in_features])
        linear.bias.copy_(relaxed.classifier.bias)


@given(rngs)
@settings(max_examples=30, deadline=None)
def test_a_one_hot_mixture_computes_what_the_candidates_network_does(
    rng: np.random.Generator,
) -> None:
    torch.manual_seed(0)
    relaxed = FAMILY.relaxed()
    assert isinstance(relaxed, RelaxedMobileNet)
    values = dict(FAMILY.space.candidate(FAMILY.space.sample(1, rng)[0]).values)
    for stage in ("stage1", "stage2"):  # what pruning and rounding do has tests of its own
        values |= {f"{stage}.keep": 1.0, f"{stage}.weight_bits": 32, f"{stage}.sparsity": "dense"}
    row = FAMILY.space.canonical(FAMILY.space.row(values)[None])[0]
    plain = FAMILY.build(FAMILY.space.candidate(row))
    assert isinstance(plain, MobileNet)
    give_all(plain, relaxed)
    x = torch.from_numpy(rng.normal(size=(16, 1, 8, 8)).astype(np.float32))
    with torch.no_grad():
        expected = plain.train()(x)  # norms of the batch, as in the relaxed network
        found = relaxed(x, one_hot(FAMILY.space, row))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_every_decision_of_the_joint_space_gets_a_gradient() -> None:
    torch.manual_seed(0)
    mix = even(FAMILY.space)
    FAMILY.relaxed()(torch.randn(16, 1, 8, 8), mix).square().sum().backward()
    for name, weights in zip(FAMILY.space.names, mix, strict=True):
        assert weights.grad is not None, name
        assert weights.grad.abs().sum() > 0, name


def test_the_joint_space_has_second_derivatives_by_every_decision() -> None:
    torch.manual_seed(0)
    mix = even(FAMILY.space)
    loss = FAMILY.relaxed()(torch.randn(16, 1, 8, 8), mix).square().sum()
    slopes = torch.autograd.grad(loss, mix, create_graph=True)
    curvature = torch.autograd.grad(sum(s.square().sum() for s in slopes), mix)
    for name, values in zip(FAMILY.space.names, curvature, strict=True):
        assert values.isfinite().all(), name
        assert values.abs().sum() > 0, name


def bits_of(weight: dict[int, float], noise: bool = False) -> MixedBits:
    shares = {bits: torch.tensor(share) for bits, share in weight.items()}
    half = torch.tensor(0.5)
    return MixedBits(shares, {4: half, 8: half}, torch.tensor(1.0), torch.tensor(1.0), noise)


def test_mixed_bits_of_one_width_are_its_grid_and_a_mixture_lies_between() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 8, 1, 1)
    coarse, fine = (bits_of({2: a, 32: 1 - a}).weights(weight) for a in (1.0, 0.0))
    assert all(len(channel.unique()) <= 3 for channel in coarse)
    assert torch.equal(fine, weight)
    between = bits_of({2: 0.25, 32: 0.75}).weights(weight)
    torch.testing.assert_close(between, 0.25 * coarse + 0.75 * fine)


def test_noise_is_at_most_half_a_step_and_another_one_each_time() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 8, 1, 1)
    bits = bits_of({4: 1.0}, noise=True)
    one, other = bits.weights(weight), bits.weights(weight)
    assert not torch.equal(one, other)
    steps = weight.abs().flatten(1).amax(1) / 7
    assert ((one - weight).abs().flatten(1).amax(1) <= steps / 2).all()


def test_activations_stay_float_where_weights_do() -> None:
    x = torch.rand(64)
    assert torch.equal(bits_of({4: 0.0, 32: 1.0}).activations(x), x)
    rounded = bits_of({4: 1.0, 32: 0.0}).activations(x)
    assert 16 < len(rounded.unique()) < 64  # the mixture of two grids


TOPOLOGY = Dense(3, list(OPERATIONS))
CELLS = cell_space(TOPOLOGY)


def relaxed_cells(topology: Topology, width: int = 4) -> RelaxedCells:
    skeleton = Skeleton.of(topology, (1, 8, 8), 4, width)
    return RelaxedCells(cell_space(topology), skeleton)


def test_a_cell_without_operations_carries_nothing_and_skips_carry_everything() -> None:
    torch.manual_seed(0)
    network = relaxed_cells(TOPOLOGY)
    x = torch.randn(8, 1, 8, 8)
    none, skip = (list(OPERATIONS).index(name) for name in ("none", "skip_connect"))
    dead = network(x, one_hot(CELLS, np.array([none] * 3, dtype=np.int16)))
    assert torch.allclose(dead, network.classifier.bias.expand_as(dead), atol=1e-6)
    stem, cell = network.stem(x), network.cells[0]
    assert isinstance(cell, MixedCell)
    carried = cell([stem], one_hot(CELLS, np.array([skip] * 3, dtype=np.int16)), None)
    torch.testing.assert_close(carried, 2 * stem)  # 0>2, and 0>1>2


def test_operations_of_weight_zero_are_not_computed() -> None:
    network = relaxed_cells(TOPOLOGY)
    ran: list[str] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.register_forward_hook(lambda *_: ran.append("separable"))
    conv = list(OPERATIONS).index("nor_conv_3x3")
    network(torch.randn(2, 1, 8, 8), one_hot(CELLS, np.array([conv] * 3, dtype=np.int16)))
    assert not ran


def test_sparse_convolutions_compute_with_their_largest_weights_only() -> None:
    torch.manual_seed(0)
    topology = Dense(2, ["none", "nor_conv_3x3/0.9"])
    network, pattern = relaxed_cells(topology, width=8), Sparsity.parse("0.9")
    assert pattern is not None
    x, mix = torch.randn(4, 1, 8, 8), one_hot(network.space, np.array([1], dtype=np.int16))
    sparse = network(x, mix)
    with torch.no_grad():
        for name, module in network.named_modules():
            if "edges" in name and isinstance(module, MixedConv):
                mask = pattern.mask(module.conv.weight)
                assert mask.mean() == pytest.approx(0.1, abs=0.01)
                module.conv.weight.mul_(mask)
    torch.testing.assert_close(network(x, mix), sparse)


@pytest.mark.parametrize("name", ["conv", "skip_connect/0.5", "nor_conv_3x3/dense:2"])
def test_unknown_operations_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=name.split("/")[-1]):
        Dense(3, ["none", name])


def test_unshared_cells_have_decisions_of_their_own() -> None:
    topology, owners = Dense(3, ["none", "nor_conv_3x3"]), [["cell1."], ["cell2."], ["cell3."]]
    skeleton = Skeleton.of(topology, (1, 8, 8), 4, 4, owners)
    space = cell_space(topology, skeleton.owners)
    assert len(space) == 9
    network = RelaxedCells(space, skeleton)
    mix = even(space)
    network(torch.randn(8, 1, 8, 8), mix).square().sum().backward()
    gradients = [m.grad for m in mix]
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)


def test_operations_without_weights_are_told_apart() -> None:
    (free, *_) = relaxed_cells(TOPOLOGY).parameter_free
    without = {"none", "skip_connect", "avg_pool_3x3", "max_pool_3x3", "noise"}
    assert {name for name, flag in zip(OPERATIONS, free, strict=True) if flag} == without


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_relaxed_network_runs_on_a_gpu() -> None:
    network = FAMILY.relaxed().cuda()
    mix = [m.detach().cuda().requires_grad_() for m in even(FAMILY.space)]
    network(torch.randn(16, 1, 8, 8).cuda(), mix).sum().backward()
    assert all(m.grad is not None for m in mix)
