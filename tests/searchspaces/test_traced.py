from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from nas.core import Candidate, Decision, InvalidInputError, Value
from searchspaces import TracedFamily
from searchspaces.compression import write_zeros
from searchspaces.counting import count
from searchspaces.layers import ConvUnit, set_observing
from searchspaces.traced.graph import TracedNetwork
from tests.searchspaces.networks import from_source
from workers.deployment import export_onnx, onnx_logits
from workers.profiling.runtime import execution

SHAPE = (2, 9, 9)
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


class Mixed(nn.Module):
    """Branches, a gate, a concatenation, a view, functions as well as modules."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(SHAPE[0], width, 3, padding=1)
        self.first = nn.Sequential(
            nn.Conv2d(width, width, kernel, padding="same", groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(),
        )
        self.second = nn.Sequential(nn.Conv2d(width, width, 1), nn.Hardswish())
        self.gate = nn.Conv2d(width, width, 1)
        self.join = nn.Conv2d(2 * width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.hidden = nn.Linear(width, 8, bias=False)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        first = self.first(x) + x
        second = self.second(first)
        gated = second * torch.sigmoid(self.gate(second.mean((2, 3), keepdim=True)))
        joined = F.relu(self.norm(self.join(torch.cat([first, gated], 1))))
        pooled = torch.flatten(F.adaptive_avg_pool2d(joined, 1), 1)
        out: Tensor = self.classifier(F.relu(self.hidden(pooled)))
        return out


class MixedFamily(TracedFamily):
    decisions = (Decision("width", (4, 8)), Decision("kernel", (3, 5)))
    stages = ("first", "second")

    def network(self, values: Mapping[str, Value]) -> nn.Module:
        return Mixed(int(values["width"]), int(values["kernel"]))


def family(**options: object) -> MixedFamily:
    return MixedFamily(SHAPE, 5, {"sparsity": ["dense", "2:4", "0.5"], **options})


def chosen(of: TracedFamily, rng: np.random.Generator, **values: Value) -> Candidate:
    drawn = dict(of.space.candidate(of.space.sample(1, rng)[0]).values)
    return of.space.candidate(of.space.row({**drawn, **values}))


def finished(of: TracedFamily, candidate: Candidate) -> TracedNetwork:
    network = of.build(candidate)
    network.train()(torch.randn(64, *of.input_shape))  # norms that are not the identity
    network.eval()
    of.prune(network, candidate)
    of.quantize(network, candidate)
    with torch.no_grad():
        network(torch.randn(64, *of.input_shape))
    set_observing(network, False)
    write_zeros(network)
    return network


@given(rngs)
@settings(max_examples=15, deadline=None)
def test_costs_equal_what_a_built_network_counts(rng: np.random.Generator) -> None:
    of = family()
    rows = of.space.sample(4, rng)
    table = of.costs(rows)
    for i, row in enumerate(rows):
        counted = count(finished(of, of.space.candidate(row)), SHAPE)
        del counted["peak_activation_bytes"]  # of blocks this counter knows; see the next test
        assert counted == {k: float(table[k][i]) for k in counted}


class Residual(nn.Module):
    """A chain whose input is held to its end."""

    def __init__(self, n_in: int, n_classes: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(n_in, 4, 1)
        self.b = nn.Conv2d(4, 8, 1)
        self.c = nn.Conv2d(8, 4, 1)
        self.last = nn.Linear(4, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        out: Tensor = self.last((a + self.c(self.b(a))).mean((2, 3)))
        return out


class ResidualFamily(TracedFamily):
    def network(self, values: Mapping[str, Value]) -> nn.Module:
        return Residual(self.input_shape[0], self.n_classes)


@pytest.mark.parametrize("bits", [8, 32])
def test_the_peak_holds_every_tensor_that_is_needed_later(bits: int) -> None:
    of = ResidualFamily((2, 6, 6), 5, {"weight_bits": [bits], "activation_bits": [bits]})
    table = of.costs(of.space.sample(1, np.random.default_rng(0)))
    while_c_runs = 36 * (4 + 8 + 4)  # a for the sum, what b gave, what c gives
    assert table["peak_activation_bytes"][0] == while_c_runs * bits / 8


@given(rngs)
@settings(max_examples=10, deadline=None)
def test_a_dense_float_candidate_computes_what_the_network_as_written_does(
    rng: np.random.Generator,
) -> None:
    of = family()
    candidate = chosen(of, rng)
    torch.manual_seed(0)
    expected = of.network(candidate.values).eval()
    torch.manual_seed(0)
    found = of.build(candidate).eval()
    x = torch.from_numpy(rng.normal(size=(8, *SHAPE)).astype(np.float32))
    with torch.no_grad():
        torch.testing.assert_close(found(x), expected(x))


@given(rngs)
@settings(max_examples=8, deadline=None)
def test_file_and_source_compute_what_the_network_does(
    tmp_path_factory: pytest.TempPathFactory, rng: np.random.Generator
) -> None:
    torch.manual_seed(0)
    of = family()
    network = finished(of, chosen(of, rng))
    x = torch.from_numpy(rng.normal(size=(64, *SHAPE)).astype(np.float32))
    with torch.no_grad():
        expected = network(x)
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    torch.testing.assert_close(from_source(network, x), expected, rtol=1e-4, atol=1e-4)
    export_onnx(network, SHAPE, path)
    off = np.abs(onnx_logits(path, x.numpy()) - expected.numpy())
    assert np.median(off) < 0.02 * float(expected.abs().max())


def test_every_convolution_of_an_8_bit_candidate_runs_in_integers(tmp_path: Path) -> None:
    of = family(weight_bits=[8], activation_bits=[8], sparsity=["dense"])
    network = finished(of, chosen(of, np.random.default_rng(0)))
    path = tmp_path / "model.onnx"
    export_onnx(network, SHAPE, path)
    convolutions = sum(isinstance(m, ConvUnit) for m in network.modules())
    assert execution(path).operators["QLinearConv"] == convolutions == 5


def test_stages_have_the_bits_and_zeros_of_their_names() -> None:
    of = family()
    candidate = chosen(
        of,
        np.random.default_rng(0),
        **{
            "stage1.weight_bits": 4,
            "stage1.activation_bits": 4,
            "stage1.granularity": "per_tensor",
            "stage1.sparsity": "dense",
            "stage2.weight_bits": 8,
            "stage2.activation_bits": 8,
            "stage2.granularity": "per_tensor",
            "stage2.sparsity": "0.5",
        },
    )
    assert of.bits(candidate) == {"first": (4, 4), "second": (8, 8)}
    network = finished(of, candidate)
    units = {k: m for k, m in network.body.named_modules() if isinstance(m, ConvUnit)}
    bits = {k: u.weight_quantizer.grid.bits for k, u in units.items() if u.weight_quantizer}
    assert bits == {"stem": 8, "first.0": 4, "second.0": 8, "gate": 8, "join": 8}
    zeros = {k: float((u.conv.weight == 0).float().mean()) for k, u in units.items()}
    assert zeros["second.0"] == zeros["gate"] == zeros["join"] == 0.5
    assert max(zeros["stem"], zeros["first.0"]) < 0.5


def test_a_family_travels_to_other_processes() -> None:
    of = family()
    rows = of.space.sample(3, np.random.default_rng(0))
    there = pickle.loads(pickle.dumps(of))
    assert {k: v.tolist() for k, v in there.costs(rows).items()} == {
        k: v.tolist() for k, v in of.costs(rows).items()
    }


def sequence(*layers: nn.Module) -> type[TracedFamily]:
    class Family(TracedFamily):
        def network(self, values: Mapping[str, Value]) -> nn.Module:
            return nn.Sequential(*layers)

    return Family


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


HEAD = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 5))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((Branching(), *HEAD), "torch.fx can trace"),
        ((nn.Conv2d(3, 4, 1), *HEAD), "torch.fx can trace and run"),
        ((nn.BatchNorm2d(2), *HEAD), "batch norms right behind a convolution"),
        ((nn.ConvTranspose2d(2, 2, 2), *HEAD), "0 is a ConvTranspose2d"),
        ((nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), *HEAD), "pads with reflect"),
        ((nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)), r"logits \(batch, 5\)"),
        ((nn.AdaptiveAvgPool2d(1), nn.Flatten()), "a convolution or a linear layer"),
        ((nn.Linear(9, 9), *HEAD), r"linear layers that read \(batch, features\)"),
    ],
)
def test_what_cannot_be_compressed_is_refused(layers: tuple[nn.Module, ...], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        sequence(*layers)(SHAPE, 5)


class Reusing(nn.Module):
    """One rectifier and one pool for all, as in many published networks."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.a, self.norm_a = nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.b, self.norm_b = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm_a(self.a(x))))
        x = self.relu(self.norm_b(self.b(x)) + x)
        out: Tensor = self.last(self.pool(x).flatten(1))
        return out


class ReusingFamily(TracedFamily):
    def network(self, values: Mapping[str, Value]) -> nn.Module:
        return Reusing()


def test_layers_without_weights_may_be_called_again() -> None:
    of = ReusingFamily(SHAPE, 5, {"weight_bits": [8], "activation_bits": [8]})
    candidate = chosen(of, np.random.default_rng(0))
    torch.manual_seed(0)
    expected = of.network({}).eval()
    torch.manual_seed(0)
    found = of.build(candidate).eval()
    x = torch.randn(4, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(found(x), expected(x))
    table = of.costs(of.space.row(candidate)[None])
    counted = count(finished(of, candidate), SHAPE)
    for name in ("params", "macs", "bit_ops", "weight_bytes"):
        assert counted[name] == table[name][0]


def test_a_stage_that_is_no_submodule_is_refused() -> None:
    class Lost(ReusingFamily):
        stages = ("b", "body")

    with pytest.raises(InvalidInputError, match="there is no 'body'"):
        Lost(SHAPE, 5)


def test_a_layer_that_is_called_twice_is_refused() -> None:
    layer = nn.Conv2d(2, 2, 1)
    with pytest.raises(InvalidInputError, match="called twice"):
        sequence(layer, layer, *HEAD)(SHAPE, 5)


def test_there_is_no_supernet_and_no_relaxed_network() -> None:
    with pytest.raises(InvalidInputError, match="supernet"):
        family().supernet()
    with pytest.raises(InvalidInputError, match="differentiable"):
        family().relaxed()
