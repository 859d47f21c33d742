"""What tests of all families do with a candidate's network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.core import Candidate
from searchspaces import ModelFamily
from searchspaces.layers import set_observing
from searchspaces.plain import plain_module_source


def finished(family: ModelFamily, candidate: Candidate) -> nn.Module:
    """The candidate's pruned and quantized network, with random weights and set ranges."""
    network = family.build(candidate).eval()
    family.prune(network, candidate)
    family.quantize(network, candidate)
    with torch.no_grad():
        network(torch.randn(4, *family.input_shape))
    set_observing(network, False)
    return network.eval()


@torch.no_grad()
def from_source(network: nn.Module, x: Tensor) -> Tensor:
    """What the generated source computes for `x`, without our packages."""
    source, state = plain_module_source(network, x[:2], "a test")
    assert "searchspaces" not in source
    namespace: dict[str, type[nn.Module]] = {}
    exec(source, namespace)  # type: ignore[arg-type]
    plain = namespace["Network"]()
    plain.load_state_dict(state)
    logits: Tensor = plain.eval()(x)
    return logits
