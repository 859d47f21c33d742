from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import searchspaces
from searchspaces.counting import count
from searchspaces.elastic import ElasticMobileNet
from searchspaces.layers import (
    ActivationQuantizer,
    Calibration,
    ElasticActivationQuantizer,
    ElasticConvUnit,
    WeightGrid,
    WeightQuantizer,
)

EVERYTHING = {
    "n_stages": 2,
    "kernels": [3, 5, 7],
    "weight_bits": [2, 3, 4, 5, 6, 7, 8, 32],
    "activation_bits": [2, 3, 4, 5, 6, 7, 8, 32],
    "symmetric": [False, True],
    "sparsity": ["dense", "2:4", "1:3", "0.7"],
}
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def rough(family: searchspaces.ModelFamily, seed: int = 0) -> ElasticMobileNet:
    """A supernet whose weights, norms, transforms and steps are all away from their start."""
    torch.manual_seed(seed)
    supernet = family.supernet()
    assert isinstance(supernet, ElasticMobileNet)
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if "factors" in name or "clips" in name:
                parameter.uniform_(0.6, 1.0)
            elif "norm" in name or "transforms" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return supernet


@given(rngs, st.sampled_from([(1, 8, 8), (1, 28, 28), (3, 16, 20)]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_an_extracted_network_computes_what_the_supernet_does(
    rng: np.random.Generator, shape: tuple[int, int, int], quantized: bool
) -> None:
    family = searchspaces.family("mobilenet", shape, 5, EVERYTHING)
    supernet = rough(family)
    x = torch.from_numpy(rng.normal(size=(6, *shape)).astype(np.float32))
    rows = family.space.sample(2, rng)
    for row in rows:  # the second candidate finds what the first one left
        candidate = family.space.candidate(row)
        supernet.activate(candidate, quantized)
        supernet.calibrate(x)
    plain = supernet.extract(candidate, quantized)
    assert not any("elastic" in type(m).__module__ for m in plain.modules())
    with torch.no_grad():
        torch.testing.assert_close(plain(x), supernet(x), rtol=1e-5, atol=1e-5)
        other = torch.from_numpy(rng.normal(size=(3, *shape)).astype(np.float32))
        torch.testing.assert_close(plain(other), supernet(other), rtol=1e-5, atol=1e-5)
    if quantized:
        costs = {k: float(v[0]) for k, v in family.costs(rows[1:]).items()}
        has_grids = any(min(b) < 32 for b in family.bits(candidate).values())
        if has_grids:
            assert count(plain, shape) == costs


@pytest.mark.parametrize("importance", ["l1", "norm", "taylor"])
def test_sorting_channels_leaves_the_largest_network_alone(importance: str) -> None:
    options = {"n_stages": 2, "keep": [0.5, 1.0], "weight_bits": [32]}
    family = searchspaces.family("mobilenet", (1, 8, 8), 5, options)
    supernet = rough(family)
    largest = family.space.candidate(family.space.n_options - 1)
    x = torch.randn(16, 1, 8, 8)
    supernet.activate(largest)
    supernet.calibrate(x)
    before = supernet(x)
    before.square().mean().backward()
    supernet.sort_channels(importance)  # type: ignore[arg-type]
    torch.testing.assert_close(supernet(x), before, rtol=1e-4, atol=1e-5)
    for block in supernet.blocks():
        size = block.depthwise.conv.weight.abs().sum((1, 2, 3))
        if importance == "norm":
            assert block.depthwise.norm is not None and block.expand.norm is not None
            size = block.expand.norm.weight.abs() / block.expand.norm.weight.abs().mean()
            size = (
                size + block.depthwise.norm.weight.abs() / block.depthwise.norm.weight.abs().mean()
            )
            assert (size[:-1] >= size[1:] - 1e-6).all()


def test_pruned_candidates_use_the_most_important_channels() -> None:
    options = {"n_stages": 1, "depths": [1], "keep": [0.5, 1.0], "weight_bits": [32]}
    family = searchspaces.family("mobilenet", (1, 8, 8), 5, options)
    supernet = rough(family)
    supernet.sort_channels()
    values = dict(family.space.candidate(family.space.n_options - 1).values)
    half = family.space.candidate(family.space.row({**values, "stage1.keep": 0.5}))
    whole = family.space.candidate(family.space.row(values))
    networks = [supernet.extract(c, quantized=False) for c in (half, whole)]
    family_prune = networks[1]
    family.prune(family_prune, half)
    kept = [n.state_dict()["stages.0.blocks.0.depthwise.conv.weight"] for n in networks]
    assert kept[0].shape == kept[1].shape
    torch.testing.assert_close(kept[0], kept[1])


def test_every_weight_gets_a_gradient_from_some_candidate() -> None:
    family = searchspaces.family("mobilenet", (1, 8, 8), 5, EVERYTHING)
    supernet = rough(family)
    rng = np.random.default_rng(0)
    x, y = torch.randn(8, 1, 8, 8), torch.randint(5, (8,))
    for row in family.space.sample(60, rng):
        supernet.train()
        supernet.activate(family.space.candidate(row))
        nn.functional.cross_entropy(supernet(x), y).backward()
    without = {
        name
        for name, p in supernet.named_parameters()
        if p.grad is None
        and not name.split(".")[-1].startswith(("2", "3", "4", "5", "6", "7", "8"))
    }
    assert without == set()


def test_calibration_repairs_what_shared_statistics_break() -> None:
    family = searchspaces.family("mobilenet", (1, 8, 8), 5, {"n_stages": 2, "weight_bits": [32]})
    supernet = rough(family)
    small = family.space.candidate(np.zeros(len(family.space), dtype=np.int16))
    x = 3 + 2 * torch.randn(256, 1, 8, 8)
    supernet.activate(small)
    supernet.calibrate(x)
    plain = supernet.extract(small)
    with torch.no_grad():
        hidden = plain.stages[0].blocks[0].expand  # type: ignore[union-attr, index]
        y = hidden.norm(hidden.conv(plain.stem(x)))  # type: ignore[operator]
    gain = hidden.norm.weight.abs()  # type: ignore[union-attr]
    torch.testing.assert_close(y.std((0, 2, 3)), gain, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("bits", [2, 3])
def test_norms_of_few_bits_are_calibrated_on_rounded_values(bits: int) -> None:
    """What leaves a unit has the spread its norm promises, however many layers were rounded."""
    narrow = {**EVERYTHING, "weight_bits": [bits], "activation_bits": [bits], "sparsity": ["dense"]}
    family = searchspaces.family("mobilenet", (1, 16, 16), 5, narrow)
    torch.manual_seed(0)
    supernet = family.supernet()
    row = family.space.sample(200, np.random.default_rng(0))
    deepest = row[family.costs(row)["macs"].argmax()]
    supernet.activate(family.space.candidate(deepest))
    x = torch.randn(64, 1, 16, 16)
    supernet.calibrate(x)
    spreads: list[float] = []

    def measure(unit: ElasticConvUnit, args: tuple[torch.Tensor], out: torch.Tensor) -> None:
        if unit.norm is not None and unit.activation is None and unit.output_quantizer.bits < 32:
            spreads.append(float(out.std(dim=(0, 2, 3)).median()))

    for module in supernet.modules():
        if isinstance(module, ElasticConvUnit):
            module.register_forward_hook(measure)
    with torch.no_grad():
        supernet(x)
    assert len(spreads) >= 4
    assert all(0.5 < spread < 1.6 for spread in spreads), spreads


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_new_quantizer_loses_no_more_than_the_widest_value_does(
    bits: int, per_channel: bool
) -> None:
    torch.manual_seed(bits)
    weight = torch.randn(16, 8, 3, 3)
    quantizer = WeightQuantizer(WeightGrid(bits, per_channel))
    widest = (quantizer(weight) - weight).square().mean()
    quantizer.fit(weight)
    fitted = (quantizer(weight) - weight).square().mean()
    assert fitted <= widest
    if bits == 2:
        assert fitted < 0.5 * widest
    watching = ActivationQuantizer(bits)
    watching(weight.relu())
    share = float(watching.clip.detach())
    watching.observing = False
    with torch.no_grad():
        found = (watching(weight.relu()) - weight.relu()).square().mean()
        watching.clip.fill_(1.0)
        assert found <= (watching(weight.relu()) - weight.relu()).square().mean() + 1e-9
    assert share < 0.8 if bits == 2 else share <= 1.0


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["channel", "tensor", "asymmetric"])
@pytest.mark.parametrize("depthwise", [False, True])
def test_a_calibrated_unit_computes_what_was_trained(bits: int, kind: str, depthwise: bool) -> None:
    """Also where rounding silences a channel, or norms scale channels very unequally."""
    torch.manual_seed(bits)
    x = torch.randn(64, 8, 6, 6)
    x[:, 3] = 0.5
    unit = ElasticConvUnit(8, 8, (3,) if depthwise else (1,), depthwise=depthwise)
    assert unit.norm is not None
    with torch.no_grad():
        unit.conv.weight.mul_(torch.rand(8, 1, 1, 1))
        unit.norm.weight.copy_(torch.tensor([1.0, 1.0, 0.8, 1.0, 0.05, -0.9, 3.0, 0.3]))
        unit.norm.bias.normal_()
    unit.weight_quantizer.grid = WeightGrid(bits, kind == "channel", kind != "asymmetric")
    with torch.no_grad():
        trained = unit.train()(x)
        unit.eval().calibration = Calibration.GRIDS
        unit(x)
        unit.calibration = Calibration.OFF
        torch.testing.assert_close(unit(x), trained, rtol=0.02, atol=0.02)


def test_gradients_under_a_common_step_turn_weights_and_leave_their_length() -> None:
    torch.manual_seed(0)
    unit = ElasticConvUnit(6, 8).train()
    unit.weight_quantizer.grid = WeightGrid(4, per_channel=False)
    (unit(torch.randn(64, 6, 5, 5)) * torch.randn(64, 8, 5, 5)).sum().backward()
    weight = unit.conv.weight
    assert weight.grad is not None and unit.norm is not None and unit.norm.weight.grad is not None
    along = (weight.grad * weight).flatten(1).sum(1) / weight.flatten(1).norm(dim=1)
    assert (along.abs() < 1e-4 * weight.grad.flatten(1).norm(dim=1)).all()
    assert (unit.norm.weight.grad != 0).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_calibration_loses_no_more_of_activations_than_the_shared_share(
    bits: int, symmetric: bool
) -> None:
    torch.manual_seed(bits)
    x = torch.randn(64, 4, 6, 6).relu() ** 2
    quantizer = ElasticActivationQuantizer()
    quantizer.bits, quantizer.symmetric = bits, symmetric
    with torch.no_grad():
        quantizer.clips[str(bits)].fill_(0.2 if bits == 8 else 1.0)
        by_shared = (quantizer.train()(x) - x).square().mean()
        quantizer.eval().calibration = Calibration.GRIDS
        quantizer(x)
        quantizer.calibration = Calibration.OFF
        assert (quantizer(x) - x).square().mean() < 0.9 * by_shared
        plain = quantizer.extract()
        assert plain is not None
        torch.testing.assert_close(plain(x), quantizer(x), rtol=0, atol=0)


def test_a_channel_that_never_varies_leaves_the_others_their_codes() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 6, 8, 8)
    elastic = ElasticConvUnit(6, 6, (3,), depthwise=True)
    x[:, 2] = 0.0
    elastic.weight_quantizer.grid = WeightGrid(3, per_channel=False)
    elastic.eval()
    elastic.calibration = Calibration.GRIDS
    with torch.no_grad():
        spread = elastic(x).std((0, 2, 3))
    assert spread[2] == 0.0
    assert (spread[[0, 1, 3, 4, 5]] > 0.5).all()
    plain = elastic.extract()
    plain.fold_norm()
    weights = plain.conv.weight.flatten(1).abs().amax(1)
    assert weights[2] < 1e-3 * weights.median()
