"""Trials written and read per second: our store beside Optuna's RDBStorage.

A trial of ours is two transactions (started, finished); one of Optuna's is as few calls as its
interface allows: all parameters at once, metrics, provenance, and the end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.synchronize import Barrier
from statistics import median
from typing import Any

import numpy as np
from fabricated import SPEC, candidates, databases, finished, mobilenet, result, seconds

from nas.core import Candidate, Evaluate, Fidelity, TrialQuery
from nas.stores import open_store

PROCESSES = multiprocessing.get_context("spawn")


def store(args: argparse.Namespace) -> None:
    """Trials written and read per second, beside Optuna's RDBStorage on the same databases."""
    with ExitStack() as stack:
        for name, url in stack.enter_context(databases(args.databases)).items():
            theirs = stack.enter_context(databases([name]))[name]
            contenders = {"nas": (our_store, url), "Optuna": (optuna_store, theirs)}
            rates: dict[str, list[dict[str, float]]] = {who: [] for who in contenders}
            for _ in range(args.repeats):
                for who, (measure, where) in contenders.items():
                    found = measure(where, args.trials)
                    label = f"write, {args.writers} writers"
                    found[label] = concurrently(who, where, args.trials // 4, args.writers)
                    rates[who].append(found)
            print(f"\n{name}: trials per second, medians of {args.repeats}")
            print(f"{'':<24} {'nas':>10} {'Optuna':>10} {'ratio':>18}")
            for step in rates["nas"][0]:
                ours = [found[step] for found in rates["nas"]]
                other = [found.get(step, np.nan) for found in rates["Optuna"]]
                ratios = [a / b for a, b in zip(ours, other, strict=True)]
                span = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                print(f"{step:<24} {median(ours):10,.0f} {median(other):10,.0f} {span:>18}")


def our_store(url: str, n: int) -> dict[str, float]:
    """Trials per second by step."""
    jobs = open_store(url)
    log = jobs.trial_store(jobs.create_job("store", SPEC).job_id)
    tasks = [Evaluate(c, Fidelity.TRAINED) for c in candidates(mobilenet().space, n)]
    for i in range(n):
        result(i)  # made up before the clock starts

    def write() -> None:
        for task in tasks:
            log.finish(finished(log.create(task)))

    return {
        "write": n / seconds(write),
        "read all": n / seconds(log.trials),
        "replay of events": n / seconds(log.events),
        "pages of 100": n / seconds(lambda: pages(log.page, n)),
        "counts (calls)": 1 / seconds(log.counts),
    }


def pages(page: Callable[[TrialQuery], Sequence[Any]], n: int) -> None:
    """Read `n` trials."""
    for after in range(-1, n - 1, 100):
        page(TrialQuery(after=after, limit=100))


def optuna_store(url: str, n: int) -> dict[str, float]:
    """The same, of Optuna: candidate as parameters, metrics as values, the rest as attributes."""
    storage, study = optuna_study(url)
    templates = [optuna_trial(c) for c in candidates(mobilenet().space, n)]
    for i in range(n):
        result(i)

    def write() -> None:
        for i, template in enumerate(templates):
            optuna_write(storage, study, template, i)

    def read() -> None:
        assert len(storage.get_all_trials(study, deepcopy=False)) == n

    return {"write": n / seconds(write), "read all": n / seconds(read)}


def optuna_study(url: str) -> tuple[Any, int]:
    """A storage and a new study of two objectives."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    patience = {"connect_args": {"timeout": 30}} if url.startswith("sqlite") else {}  # as ours
    storage = optuna.storages.RDBStorage(url, engine_kwargs=patience)
    directions = [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
    return storage, storage.create_new_study(directions)


def optuna_trial(candidate: Candidate) -> Any:
    """A running trial with all its parameters, to be stored in one call."""
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    options = {d.name: d.options for d in mobilenet().space.decisions}
    spread = {name: CategoricalDistribution(options[name]) for name in candidate.values}
    return create_trial(
        state=TrialState.RUNNING, params=dict(candidate.values), distributions=spread
    )


def optuna_write(storage: Any, study: int, template: Any, i: int) -> None:
    """Start and complete one trial."""
    from optuna.trial import TrialState

    metrics, provenance = result(i)
    number = storage.create_new_trial(study, template)
    storage.set_trial_user_attr(number, "metrics", dict(metrics))
    storage.set_trial_user_attr(number, "provenance", dict(provenance))
    values = [metrics["accuracy"], metrics["weight_bytes"]]
    storage.set_trial_state_values(number, TrialState.COMPLETE, values)


def concurrently(who: str, url: str, n: int, n_writers: int) -> float:
    """Trials per second of processes that each write `n` trials of a job of their own."""
    barrier, spans = PROCESSES.Barrier(n_writers), PROCESSES.Queue()
    target = our_writer if who == "nas" else optuna_writer
    writers = [
        PROCESSES.Process(target=target, args=(url, n, barrier, spans)) for _ in range(n_writers)
    ]
    for writer in writers:
        writer.start()
    found = [spans.get(timeout=600) for _ in writers]
    for writer in writers:
        writer.join()
    written, began, ended = zip(*found, strict=True)
    if sum(written) < n * n_writers:
        print(f"{who}: {n * n_writers - sum(written)} of {n * n_writers} concurrent writes refused")
    return sum(written) / (max(ended) - min(began))


def our_writer(url: str, n: int, barrier: Barrier, spans: Any) -> None:
    """Write to a new job."""
    jobs = open_store(url)
    log = jobs.trial_store(jobs.create_job("writer", SPEC).job_id)
    tasks = [Evaluate(c, Fidelity.TRAINED) for c in candidates(mobilenet().space, n)]
    _ = [result(i) for i in range(n)]
    barrier.wait()
    began = time.time()
    for task in tasks:
        log.finish(finished(log.create(task)))
    spans.put((n, began, time.time()))


def optuna_writer(url: str, n: int, barrier: Barrier, spans: Any) -> None:
    """Write to a new study; what SQLite refuses is lost."""
    from optuna.exceptions import StorageInternalError

    storage, study = optuna_study(url)
    templates = [optuna_trial(c) for c in candidates(mobilenet().space, n)]
    _ = [result(i) for i in range(n)]
    barrier.wait()
    began = time.time()
    n_lost = 0
    for i, template in enumerate(templates):
        try:
            optuna_write(storage, study, template, i)
        except StorageInternalError:  # "database is locked" at once, where two would deadlock
            n_lost += 1
    spans.put((n - n_lost, began, time.time()))
