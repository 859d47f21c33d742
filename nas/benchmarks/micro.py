"""A benchmark of our own: every network of a small space trained, quantized and timed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import searchspaces
from nas.core import Fidelity, InvalidInputError, SearchSpace
from nas.options import check_writable
from searchspaces.tabular import write_table
from workers.datasets import load_dataset
from workers.evaluation import CandidateEvaluator, EvaluationSettings

Result = dict[str, Any]
"""Metrics of one training, and its `row` and `seed`."""

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


def write_benchmark(
    out: Path, seeds: int, limit: int | None, workers: int | None, address: str | None
) -> None:
    """Train every network of the small space; the table is a space like any other.

    Results are kept beside the table as they come (.jsonl), so that a stopped build goes on.

    Args:
        out: file of the table, .npz.
        seeds: trainings of each network.
        limit: only so many networks; None for all.
        workers: trainings at once; None for one a CPU.
        address: of a Ray cluster; None starts one.

    Raises:
        InvalidInputError: anything that cannot work.
    """
    if out.suffix != ".npz":
        raise InvalidInputError("out", str(out), "a file whose name ends in .npz")
    log = out.with_suffix(".jsonl")
    for path in (out, log):
        check_writable("out", path)
    for name, value in (("seeds", seeds), ("limit", limit)):
        if value is not None and value < 1:
            raise InvalidInputError(name, value, "at least 1")
    build = Build(limit)
    wanted = [(row, seed) for seed in range(seeds) for row in range(len(build.rows))]
    done = _completed(build, wanted, log, workers, address)
    table = columns([done[pair] for pair in wanted], len(build.rows), seeds)
    free = tuple(build.costs)
    write_table(out, build.space, build.rows, {**table, **build.costs}, free)
    Console().print(f"written: {out}: {len(build.rows)} networks, {len(table) + len(free)} metrics")


def _completed(
    build: Build,
    wanted: Sequence[tuple[int, int]],
    log: Path,
    workers: int | None,
    address: str | None,
) -> dict[tuple[int, int], Result]:
    """Results by row and seed: those of the log, and the rest of `wanted`, logged as they come."""
    from workers.executors.mapping import each_done  # Ray takes a second to import

    done = read_log(log, build.digest)
    left = [pair for pair in wanted if pair not in done]
    results = each_done(build, left, workers, address)
    for result in track(results, "networks", total=len(left), console=Console(stderr=True)):
        append_log(log, build.digest, result)
        done[result["row"], result["seed"]] = result
    return done


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

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits: equal where a row and a seed mean the same training."""
        data = load_dataset(DATA).digest
        about = [self.space.digest, data, dict(SPACE), asdict(SETTINGS), EFFORTS]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]

    def __call__(self, pair: tuple[int, int]) -> Result:
        """Metrics of candidate `row` trained with `seed`."""
        row, seed = pair
        candidate = self.space.candidate(self.rows[row])
        result: Result = {"row": row, "seed": seed}
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


def read_log(path: Path, digest: str) -> dict[tuple[int, int], Result]:
    """Results by row and seed from the lines that carry `digest`.

    Lines of other settings or spaces are left out, and so is one cut short by a death.
    """
    done = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            result = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(result, dict) and result.pop("digest", None) == digest:
            done[result["row"], result["seed"]] = result
    return done


def append_log(path: Path, digest: str, result: Result) -> None:
    """Add a line for `result`, never on a line that a death cut short."""
    with path.open("a+b") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 1))
        fresh = log.read(1) in (b"", b"\n")
        line = json.dumps({"digest": digest, **result}) + "\n"
        log.write(("" if fresh else "\n").encode() + line.encode())
