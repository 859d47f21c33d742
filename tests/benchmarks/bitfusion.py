"""Latency on the BitFusion accelerator, by a closed form fitted to the layers of APQ's table.

The table (`apq_bitfusion_lut.json` in the data folder) has 6,567 convolutions of larger networks,
as the accelerator's simulator told them; `workers/closed_form.py` has the form. Run it to see the
errors of the fit to all layers:

    .venv/bin/python tests/benchmarks/bitfusion.py
"""

from __future__ import annotations

from functools import cache

import numpy as np
from torch import nn

from searchspaces.weighted import IMAGE_BITS, WeightedLayer, weighted_layers
from workers.closed_form import KINDS, ClosedForm, kind_of
from workers.datasets import data_folder
from workers.imported import COLUMNS, LATENCY, ImportedTable, layer_of

FILE = "apq_bitfusion_lut.json"


def latency_ms(network: nn.Module, input_shape: tuple[int, int, int]) -> float:
    """Latency of a quantized network by the closed form alone, so that all are told alike.

    Inputs that nothing quantized count with 8 bits, as an image's.
    """
    form = table().forms[LATENCY]
    found = weighted_layers(network, input_shape, float_input_bits=IMAGE_BITS)
    return float(sum(form.of(layer) for layer in found))


@cache
def table() -> ImportedTable:
    """The whole table, and the forms fitted to it."""
    return ImportedTable.load("bitfusion", data_folder() / FILE)


def measured(metric: str = LATENCY) -> list[tuple[WeightedLayer, float]]:
    """Layers of the table, and a figure of each."""
    column = list(COLUMNS).index(metric)
    return [(layer_of(key), entry[column]) for key, entry in table().entries.items()]


def errors(form: ClosedForm, metric: str, kind: str) -> list[float]:
    """Relative errors for the layers of a kind."""
    chosen = [(layer, value) for layer, value in measured(metric) if kind_of(layer) == kind]
    return [abs(form.of(layer) / value - 1) for layer, value in chosen]


if __name__ == "__main__":
    for metric, form in table().forms.items():
        for kind in KINDS:
            found = errors(form, metric, kind)
            middle, most = np.percentile(found, [50, 90])
            told = f"error {middle:.1%} median, {most:.1%} nine in ten"
            print(f"{metric}, {kind}: {len(found)} layers, {told}")
