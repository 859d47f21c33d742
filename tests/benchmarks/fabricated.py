"""Databases of their own, and jobs with many finished trials that nobody had to run."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

import searchspaces
from nas.core import Candidate, Evaluate, Fidelity, SearchSpace, Trial
from nas.core.trial import task_to_json
from nas.stores import open_store

POSTGRES = os.environ.get(
    "NAS_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
)
SPEC = {
    "data": "digits",
    "space": {"name": "mobilenet", "options": {}},
    "strategy": "random",
    "objectives": ["accuracy", "weight_bytes:min"],
    "constraints": ["macs<=1e6"],
    "budget": {"trials": 1_000_000, "finalists": 1},
}
SOME = 2_000
"""Different tasks and provenances; larger jobs repeat them under other keys."""
STARTED, FINISHED = "started", "finished"
Row = tuple[Any, ...]


@contextmanager
def databases(names: Sequence[str] = ("SQLite", "PostgreSQL")) -> Iterator[dict[str, str]]:
    """URLs of new databases by name; all are gone after the block."""
    with tempfile.TemporaryDirectory(prefix="nas-bench-") as folder:
        urls = {"SQLite": f"sqlite:///{folder}/nas.db"}
        if "PostgreSQL" not in names:
            yield urls
            return
        with postgres() as url:
            yield {name: {**urls, "PostgreSQL": url}[name] for name in names}


@contextmanager
def postgres() -> Iterator[str]:
    """URL of a new database on the server at NAS_TEST_POSTGRES, dropped afterwards."""
    import sqlalchemy

    server = sqlalchemy.create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    name = f"nas_bench_{uuid.uuid4().hex[:12]}"
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield server.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        server.dispose()


def mobilenet() -> searchspaces.ModelFamily:
    """The family that the trials are of."""
    return searchspaces.family("mobilenet", (1, 8, 8), 10, {})


@lru_cache(SOME)
def result(i: int) -> tuple[Mapping[str, float], Mapping[str, Any]]:
    """Metrics and provenance as an evaluation of digits gives them, of made-up values."""
    rng = np.random.default_rng(i)
    size = float(10 ** rng.uniform(3.5, 5))
    accuracy = float(1 - 1 / np.log(size) - rng.exponential(0.1))
    metrics = {
        "accuracy": accuracy,
        "weight_bytes": size,
        "macs": float(rng.integers(10_000, 2_000_000)),
        "parameters": size // 2,
        "train_seconds": float(rng.random()),
    }
    measured = {"kind": "measured", "split": "validation", "n": 360, "precision": "fake quantized"}
    exact = {"kind": "closed form"}
    provenance = {m: measured if m == "accuracy" else exact for m in metrics}
    return metrics, provenance | {"training": {"epochs": 30, "seed": i, "device": "cpu"}}


def candidates(space: SearchSpace, n: int) -> list[Candidate]:
    """Different ones; the order is always the same."""
    rows = space.sample(n + n // 2 + 100, np.random.default_rng(0))
    _, first = np.unique(space.keys(rows), return_index=True)
    return [space.candidate(row) for row in rows[np.sort(first)[:n]]]


def fabricate(url: str, n: int, spec: Mapping[str, Any] = SPEC, distinct: bool = False) -> str:
    """Id of a new job with `n` completed trials, written past the store for speed.

    Args:
        url: of the database.
        n: trials.
        spec: of the job.
        distinct: whether every trial has a candidate of its own, so that a strategy can replay it.
    """
    job_id = open_store(url).create_job("fabricated", spec).job_id
    trials, events = _trials(job_id, n, distinct), _events(job_id, n)
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.executemany(f"INSERT INTO trials VALUES ({', '.join('?' * 11)})", trials)
            connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", events)
            connection.execute("ANALYZE")
            connection.commit()
        return job_id
    import psycopg

    address = url.replace("+psycopg", "")
    with psycopg.connect(address) as connection, connection.cursor() as cursor:
        for table, rows in (("trials", trials), ("events", events)):
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        cursor.execute("ANALYZE")
    return job_id


def _trials(job_id: str, n: int, distinct: bool) -> Iterator[Row]:
    """Rows in the order of the table's columns."""
    space = mobilenet().space
    some = candidates(space, n if distinct else min(n, SOME))
    provenances = [json.dumps(result(i)[1]) for i in range(min(n, SOME))]
    tasks = [] if distinct else [_task(c) for c in some]
    rng = np.random.default_rng(1)
    noise = rng.exponential(0.05, n)
    for i in range(n):
        j = i % SOME
        metrics = result(j)[0]
        values = {**metrics, "accuracy": metrics["accuracy"] - noise[i]}
        key = some[i].key if distinct else secrets.token_hex(8)
        task = _task(some[i]) if distinct else tasks[j]
        yield (
            *(job_id, i, "completed", key, Fidelity.TRAINED.value, task, json.dumps(values)),
            *(provenances[j], '{"weights": "trials/weights.pt"}', None, 1.0),
        )


def _task(candidate: Candidate) -> str:
    return json.dumps(task_to_json(Evaluate(candidate, Fidelity.TRAINED)))


def _events(job_id: str, n: int) -> Iterator[Row]:
    for i in range(n):
        yield job_id, 2 * i + 1, i, STARTED, 1.7e9 + i
        yield job_id, 2 * i + 2, i, FINISHED, 1.7e9 + i + 0.5


def finished(trial: Trial) -> Trial:
    """`trial`, completed as an evaluation would."""
    metrics, provenance = result(trial.number % SOME)
    return trial.completed(metrics, provenance, {"weights": f"{trial.number}.pt"}, 1.0)


def seconds(step: Callable[[], object]) -> float:
    """That `step` takes."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started
