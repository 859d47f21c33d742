"""Candidates on devices that are tables: nothing is timed, the sum over the layers is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from nas.core import Candidate
from nas.core.goals import on_device
from searchspaces import ModelFamily
from searchspaces.weighted import WeightedLayer, weighted_layers
from workers.comparison import built
from workers.imported import ImportedTable, Simulation
from workers.remote import Figures


@dataclass(frozen=True)
class SimulatedDevices:
    """The devices of a job that are imported tables."""

    tables: tuple[ImportedTable, ...] = ()

    def figures(self, family: ModelFamily, candidate: Candidate) -> Figures:
        """Latency and energy of a candidate on each of them.

        They depend on its shapes and bits alone, so its weights are not asked for.
        """
        if not self.tables:
            return Figures({}, {})
        layers = candidate_layers(family, candidate)
        metrics: dict[str, float] = {}
        provenance: dict[str, Any] = {}
        for table in self.tables:
            found = table.sum_of(layers)
            for metric, value in found.values.items():
                name = on_device(metric, table.device)
                metrics[name], provenance[name] = value, _source(table, found, metric)
        return Figures(metrics, provenance)


NO_TABLES = SimulatedDevices()


def candidate_layers(family: ModelFamily, candidate: Candidate) -> list[WeightedLayer]:
    """Layers of a candidate, pruned and quantized; leaves torch's random numbers as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = built(family, candidate, pruned=True, quantized=True)
        return weighted_layers(network, family.input_shape)


def _source(table: ImportedTable, found: Simulation, metric: str) -> Mapping[str, Any]:
    n, known = found.n_interpolated, f"{table.device}, its imported table of layers"
    return {
        "kind": "simulated",
        "on": f"{known}, {n} of {found.n_layers} interpolated",
        "n_layers": found.n_layers,
        "n_interpolated": n,
        "interpolation_error": {kind: asdict(e) for kind, e in table.errors[metric].items()},
        "table": table.digest,
    }
