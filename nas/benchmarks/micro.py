"""A benchmark of our own: every network of a small space trained, quantized and timed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import searchspaces
from nas.core import Fidelity, InvalidInputError, SearchSpace
from searchspaces.tabular import write_table
from workers.datasets import load_dataset
from workers.evaluation import CandidateEvaluator, EvaluationSettings
from workers.executors.mapping import each_done

SPACE: Mapping[str, object] = {
    "n_stages": 1,
    "depths": [1, 2],
    "widths": [[8, 16]],
    "kernels": [3, 5],
    "expansions": [1, 3],
    "keep": [0.5, 1.0],
    "weight_bits": [3, 8, 32],
    "activation_bits": [8],
}
"""320 networks: 64 architectures, half of them pruned, with float weights or 8 or 3 bits."""

SETTINGS = EvaluationSettings(epochs=9, finetune_epochs=1, qat_epochs=3, n_runs=300)
EFFORTS = (1 / 9, 1 / 3, 1.0)
DATA = "digits"


def micro_benchmark(
    out: Annotated[Path, typer.Option(help="File of the table, .npz.")],
    seeds: Annotated[int, typer.Option(help="Trainings of each network.")] = 3,
    limit: Annotated[int | None, typer.Option(help="Only so many networks, for a try.")] = None,
    workers: Annotated[int | None, typer.Option(help="At once; default: one a CPU.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster; default: start one.")] = None,
) -> None:
    """Train every network of a small space on digits; the table is a space like any other.

    Results are kept beside the table as they come, so that a stopped build goes on.
    """
    if out.suffix != ".npz" or not out.resolve().parent.is_dir():
        raise InvalidInputError("out", str(out), "an .npz file in a folder that exists")
    for name, value in (("seeds", seeds), ("limit", limit)):
        if value is not None and value < 1:
            raise InvalidInputError(name, value, "at least 1")
    build = Build(limit)
    kept = out.with_suffix(".jsonl")
    done = {(r["row"], r["seed"]): r for r in _read(kept)}
    wanted = [(row, seed) for seed in range(seeds) for row in range(len(build.rows))]
    left = [pair for pair in wanted if pair not in done]
    kept.write_text("".join(json.dumps(result) + "\n" for result in done.values()))
    with kept.open("a") as log:
        results = each_done(build, left, workers, address)
        bar = track(results, "networks", total=len(left), console=Console(stderr=True))
        for result in bar:
            done[result["row"], result["seed"]] = result
            log.write(json.dumps(result) + "\n")
            log.flush()
    table = columns([done[pair] for pair in wanted], len(build.rows), seeds)
    free = tuple(build.costs)
    write_table(out, build.space, build.rows, {**table, **build.costs}, free)
    Console().print(f"written: {out}: {len(build.rows)} networks, {len(table) + len(free)} metrics")


@dataclass(frozen=True)
class Build:
    """Trains one network with one seed, at every effort."""

    limit: int | None = None

    @cached_property
    def family(self) -> searchspaces.ModelFamily:
        """The small space."""
        data = load_dataset(DATA)
        return searchspaces.family("mobilenet", data.input_shape, data.n_classes, SPACE)

    @property
    def space(self) -> SearchSpace:
        """Its decisions."""
        return self.family.space

    @cached_property
    def rows(self) -> NDArray[np.int16]:
        """`(n, d)` every candidate, or the first of them."""
        return self.space.rows()[: self.limit]

    @cached_property
    def costs(self) -> dict[str, NDArray[np.float64]]:
        """`(n,)` closed-form costs."""
        return {name: np.asarray(v) for name, v in self.family.costs(self.rows).items()}

    def __call__(self, pair: tuple[int, int]) -> dict[str, Any]:
        """Metrics of candidate `row` trained with `seed`."""
        row, seed = pair
        candidate = self.space.candidate(self.rows[row])
        result: dict[str, Any] = {"row": row, "seed": seed}
        with TemporaryDirectory() as folder:
            for effort in EFFORTS:
                settings = replace(SETTINGS, seed=seed).scaled(effort)
                home = Path(folder) / f"{effort:.3f}"
                evaluator = CandidateEvaluator(self.family, load_dataset(DATA), home, settings)
                found = evaluator.evaluate(candidate, Fidelity.TRAINED, lambda _: None).metrics
                result[accuracy_name(settings.epochs)] = found["accuracy"]
            result |= {name: found[name] for name in ("latency_ms", "latency_ratio", "file_bytes")}
        return result


def accuracy_name(epochs: int) -> str:
    """Column of the accuracy after that many epochs of float training."""
    return "accuracy" if epochs == SETTINGS.epochs else f"accuracy_{epochs}_epochs"


def columns(
    results: Sequence[Mapping[str, Any]], n: int, seeds: int
) -> dict[str, NDArray[np.float64]]:
    """`(n,)` columns: means over seeds, latencies medians; accuracies of each seed beside them."""
    names = [name for name in results[0] if name not in ("row", "seed")]
    table: dict[str, NDArray[np.float64]] = {}
    for name in names:
        values = np.full((n, seeds), np.nan)
        for result in results:
            values[result["row"], result["seed"]] = result[name]
        if not name.startswith("accuracy"):
            table[name] = np.median(values, axis=1)
            continue
        table[name] = values.mean(axis=1)
        if name == "accuracy":
            table |= {f"accuracy_seed{seed}": values[:, seed] for seed in range(seeds)}
    return table


def _read(path: Path) -> Iterable[dict[str, Any]]:
    """Whole lines of a log; a last one cut short by a death is left out."""
    if not path.is_file():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue
