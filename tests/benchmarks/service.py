"""How fast the service is: its store, whole path, answers, resuming, first trials, and scale.

    .venv/bin/python tests/benchmarks/service.py store
    .venv/bin/python tests/benchmarks/service.py throughput --jobs 1 4 16
    .venv/bin/python tests/benchmarks/service.py latency --clients 0 100
    .venv/bin/python tests/benchmarks/service.py resume --trials 100000
    .venv/bin/python tests/benchmarks/service.py first-trial
    .venv/bin/python tests/benchmarks/service.py scale --trials 1000000

PostgreSQL is the server at NAS_TEST_POSTGRES, with a database of its own that is dropped; leave it
out with `--databases SQLite`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from fabricated import SPEC, candidates, databases, fabricate, finished, mobilenet, result
from storing import store

from nas.client import Client
from nas.core import (
    Candidate,
    Evaluate,
    Evaluation,
    Evaluator,
    Fidelity,
    Goals,
    JobState,
    Report,
    SearchStrategy,
    Trial,
)
from nas.core import Event as LogEvent
from nas.driver import driving
from nas.engine import Engine
from nas.stores import open_store
from nas.strategies import Finalists, PredictorGuided, RandomSearch
from workers.executors import LocalExecutor
from workers.machine import usable_cpus

GOALS = Goals.parse(["accuracy", "weight_bytes:min"])
PROCESSES = multiprocessing.get_context("spawn")
SMALL = {
    "data": "digits",
    "space": {"name": "mobilenet", "options": {"n_stages": 1, "depths": [1]}},
    "strategy": "random",
    "objectives": ["accuracy", "weight_bytes"],
    "budget": {"trials": 1, "finalists": 1},
    "training": {"epochs": 1, "deployed_epochs": 0, "finetune_epochs": 0, "latency_runs": 30},
}


class NoOp(Evaluator):
    """Returns at once."""

    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        metrics, provenance = result(0)
        return Evaluation(metrics, provenance)


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parsers = parser.add_subparsers(required=True)

    def add(run: Callable[[argparse.Namespace], None], **options: Any) -> None:
        one = parsers.add_parser(run.__name__.replace("_", "-"), help=run.__doc__)
        one.set_defaults(run=run)
        for name, default in options.items():
            several = {"nargs": "+"} if isinstance(default, list) else {}
            kind = type(default[0] if isinstance(default, list) else default)
            one.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, **several)

    both = ["SQLite", "PostgreSQL"]
    add(store, trials=500, repeats=5, writers=8, databases=both)
    add(throughput, trials=400, jobs=[1, 4, 16], cpus=usable_cpus(), databases=both[1:])
    add(
        latency,
        trials=1000,
        requests=300,
        submits=30,
        clients=[0, 100],
        jobs=5,
        rate=20.0,
        databases=both,
    )
    add(resume, trials=100_000, databases=both)
    add(first_trial, repeats=3, ray=["local", "auto"])
    add(scale, trials=1_000_000, databases=both)
    args = parser.parse_args()
    args.run(args)


# ---------------------------------------------------------------- throughput


def throughput(args: argparse.Namespace) -> None:
    """Trials per second through driver processes, Ray tasks and the database, doing nothing."""
    import ray

    from workers.executors.ray import cluster

    with databases(args.databases) as urls, cluster(n_cpus=args.cpus):
        address = ray.get_runtime_context().gcs_address
        print(f"{'':<12} {'jobs':>5} {'trials/s':>9} {'ms a trial of one job':>22}")
        for (name, url), n_jobs in itertools.product(urls.items(), args.jobs):
            jobs = open_store(url)
            ids = [jobs.create_job(f"no-op {i}", SPEC).job_id for i in range(n_jobs)]
            barrier, workers = PROCESSES.Barrier(n_jobs), max(1, args.cpus // n_jobs)
            rest = address, args.trials, workers, barrier
            drivers = [PROCESSES.Process(target=drive, args=(url, i, *rest)) for i in ids]
            for driver in drivers:
                driver.start()
            for driver in drivers:
                driver.join()
            spans = [span_of(jobs.trial_store(i).events()) for i in ids]
            whole = max(end for _, end in spans) - min(start for start, _ in spans)
            rate = n_jobs * args.trials / whole
            each = median(end - start for start, end in spans) / args.trials * 1e3
            print(f"{name:<12} {n_jobs:>5} {rate:>9.1f} {each:>22.1f}")


def drive(url: str, job_id: str, address: str, n: int, workers: int, barrier: Barrier) -> None:
    """Run one job as `nas.jobs.run` does, on random search."""
    from workers.executors.ray import RayExecutor, cluster

    jobs = open_store(url)
    strategy = Finalists(RandomSearch(mobilenet().space, 0), GOALS, n, n_finalists=1)
    with driving(jobs, job_id) as driver, cluster(address):
        with RayExecutor(NoOp(), job_id, workers, cpus={}) as warm:
            for trial in warm_trials(8 * workers):
                warm.submit(trial)
            left = 8 * workers
            while left:
                left -= len(warm.poll(5.0))
        barrier.wait(600)
        with RayExecutor(NoOp(), job_id, workers, cpus={}) as runner:
            log = jobs.trial_store(job_id, driver.lease)
            Engine(strategy, runner, log, check=driver.check).run()


def warm_trials(n: int) -> list[Trial]:
    """Some that no store knows, so that workers are up."""
    (candidate,) = candidates(mobilenet().space, 1)
    return [Trial(i, Evaluate(candidate, Fidelity.TRAINED)) for i in range(n)]


def span_of(events: Sequence[LogEvent]) -> tuple[float, float]:
    """When the first event was and when the last."""
    return events[0].at, events[-1].at


# ---------------------------------------------------------------- latency


def latency(args: argparse.Namespace) -> None:
    """Milliseconds of requests to `nas serve`, with and without clients that stream events."""
    print(f"{'':<12} {'streams':>7}  " + "".join(f"{n:>16}" for n in (*READS, "submit", "event")))
    print(f"{'p50 / p99':<12} {'':>7}")
    with databases(args.databases) as urls:
        for name, url in urls.items():
            ids = [fabricate(url, args.trials) for _ in range(args.jobs)]
            options = ("--store", url, "--no-supervise", "--queued-per-owner", "10000")
            with serving(*options) as (at, _):
                for n_clients in args.clients:
                    found = under_load(at, url, ids, n_clients, args)
                    spans = [np.quantile(values, (0.5, 0.99)) for values in found]
                    cells = [f"{low:.1f} / {high:.1f}" for low, high in spans]
                    print(f"{name:<12} {n_clients:>7}  " + "".join(f"{c:>16}" for c in cells))


READS = {
    "job": "/jobs/{}",
    "list": "/jobs",
    "front": "/jobs/{}/front",
    "progress": "/jobs/{}/progress",
    "100 trials": "/jobs/{}/trials?limit=100&newest_first=true",
}


def under_load(
    at: str, url: str, ids: Sequence[str], n_clients: int, args: argparse.Namespace
) -> list[list[float]]:
    """Milliseconds of each request, and of events from the database to a client."""
    stop, delays = PROCESSES.Event(), PROCESSES.Queue()
    helpers = [PROCESSES.Process(target=keep_writing, args=(url, ids, args.rate, stop))]
    if n_clients:
        helpers.append(
            PROCESSES.Process(target=keep_reading, args=(at, ids, n_clients, stop, delays))
        )
    for helper in helpers:
        helper.start()
    time.sleep(5.0)  # all are connected
    with httpx.Client(base_url=f"{at}/v1", timeout=60.0) as http:
        found = [
            [asked(http, path.format(ids[i % len(ids)])) for i in range(args.requests)]
            for path in READS.values()
        ]
    with Client(at) as client:
        submits = []
        for i in range(args.submits):
            started = time.perf_counter()
            client.submit(**SMALL, seed=i)
            submits.append((time.perf_counter() - started) * 1e3)
    stop.set()
    lags = delays.get(timeout=60) if n_clients else [np.nan]
    for helper in helpers:
        helper.join()
    return [*found, submits, lags]


def asked(http: httpx.Client, path: str) -> float:
    """Milliseconds of one GET."""
    started = time.perf_counter()
    http.get(path).raise_for_status()
    return (time.perf_counter() - started) * 1e3


def keep_writing(url: str, ids: Sequence[str], rate: float, stop: Event) -> None:
    """Add `rate` trials a second to the jobs in turn."""
    jobs = open_store(url)
    logs = [jobs.trial_store(i) for i in ids]
    task = Evaluate(candidates(mobilenet().space, 1)[0], Fidelity.TRAINED)
    i, began = 0, time.monotonic()
    while not stop.is_set():
        log = logs[i % len(logs)]
        log.finish(finished(log.create(task)))
        i += 1
        time.sleep(max(0.0, began + i / rate - time.monotonic()))


def keep_reading(at: str, ids: Sequence[str], n: int, stop: Event, delays: Any) -> None:
    """Stream events with `n` clients; says how many milliseconds late each came."""
    found: list[float] = []

    async def read(http: httpx.AsyncClient, job_id: str) -> None:
        last = (await http.get(f"/jobs/{job_id}")).json()["last_sequence"]
        async with http.stream("GET", f"/jobs/{job_id}/events", params={"after": last}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith('data: {"sequence"'):
                    found.append((time.time() - json.loads(line[6:])["at"]) * 1e3)

    async def read_all() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=f"{at}/v1", timeout=60.0, limits=limits) as http:
            tasks = [asyncio.create_task(read(http, ids[i % len(ids)])) for i in range(n)]
            while not stop.is_set() and not any(task.done() for task in tasks):
                await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            failed = [e for e in ends if not isinstance(e, asyncio.CancelledError)]
            assert not failed, failed[0]

    asyncio.run(read_all())
    delays.put(found)


@contextmanager
def serving(*options: str) -> Iterator[tuple[str, int]]:
    """`nas serve` as a process of its own; gives its URL and process id."""
    with tempfile.TemporaryDirectory(prefix="nas-bench-") as home:
        command = [sys.executable, "-m", "nas", "serve", "--home", home, "--port", "0"]
        if "--ray" not in options:
            command += ["--ray", "local"]
        process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line.startswith("serving http"), line
            yield line.split()[1], process.pid
        finally:
            process.terminate()
            process.wait(60)


# ---------------------------------------------------------------- resume


def resume(args: argparse.Namespace) -> None:
    """Seconds and memory until a job with many finished trials starts its next one."""
    print(f"{'':<12} {'strategy':<18} {'replay s':>9} {'first ask s':>12} {'peak MiB':>9}")
    with databases(args.databases) as urls:
        for name, url in urls.items():
            job_id = fabricate(url, args.trials, distinct=True)
            for strategy in ("random", "predictor-guided"):
                answer = PROCESSES.Queue()
                process = PROCESSES.Process(target=go_on, args=(url, job_id, strategy, answer))
                process.start()
                replayed, asked, peak = answer.get(timeout=1800)
                process.join()
                print(f"{name:<12} {strategy:<18} {replayed:>9.2f} {asked:>12.2f} {peak:>9.0f}")


class NextTrialError(Exception):
    """The first new trial was started."""


def go_on(url: str, job_id: str, name: str, answer: Any) -> None:
    """Replay the log with a fresh strategy, and ask it once."""
    family = mobilenet()
    n_before = sum(open_store(url).trial_store(job_id).counts().values())
    search: SearchStrategy = RandomSearch(family.space, 0)
    if name == "predictor-guided":
        from predictors.encoders import with_costs
        from predictors.registry import predictor

        features = with_costs(family.space, family.costs)
        search = PredictorGuided(
            family.space, GOALS, 0, predictor("gbdt", 0), features, family.costs
        )
    times = [time.perf_counter()]

    def listen(event: LogEvent) -> None:
        if event.trial.number >= n_before:
            raise NextTrialError
        times[1:] = [time.perf_counter()]

    strategy = Finalists(search, GOALS, n_before + 10, n_finalists=1)
    log = open_store(url).trial_store(job_id)
    try:
        Engine(strategy, LocalExecutor(NoOp()), log, listen).run()
    except NextTrialError:
        ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.put((times[1] - times[0], ended - times[1], peak))


# ---------------------------------------------------------------- first trial


def first_trial(args: argparse.Namespace) -> None:
    """Seconds from submitting to the first started and the first completed trial."""
    print(f"{'nas serve':<14} {'started s':>10} {'completed s':>12} {'job done s':>11}")
    for ray in args.ray:
        with serving("--ray", ray) as (url, _), Client(url) as client:
            client.submit(**SMALL).wait(progress=False, timeout=600)
            found = []
            for i in range(args.repeats):
                began = time.time()
                job = client.submit(**SMALL, seed=i + 1)
                events = list(job.stream())
                done = [e.at for e in events if e.kind == "finished"]
                assert job.refresh().state is JobState.COMPLETED
                found.append((events[0].at - began, done[0] - began, time.time() - began))
            middle = [median(column) for column in zip(*found, strict=True)]
            print(f"{'--ray ' + ray:<14} {middle[0]:>10.2f} {middle[1]:>12.2f} {middle[2]:>11.2f}")


# ---------------------------------------------------------------- scale


def scale(args: argparse.Namespace) -> None:
    """Seconds and memory of a server that is asked about a job with very many trials."""
    with databases(args.databases) as urls:
        for name, url in urls.items():
            job_id = fabricate(url, args.trials)
            print(f"{name}, {args.trials:,} trials")
            print(f"{'':<44} {'first s':>8} {'again s':>8} {'MiB':>6}")
            with (
                serving("--store", url, "--no-supervise") as (at, pid),
                httpx.Client(base_url=f"{at}/v1/jobs", timeout=600.0) as http,
            ):
                for path in PATHS:
                    first, again = (asked(http, f"/{job_id}{path}") / 1e3 for _ in range(2))
                    what = path or "job with counts"
                    print(f"{what:<44} {first:>8.3f} {again:>8.3f} {memory(pid):>6.0f}")


PATHS = (
    "",
    "/trials",
    "/trials?newest_first=true&state=completed",
    "/trials?state=failed&state=running",
    "/trials?state=completed&fidelity=deployed",
    "/front",
    "/progress",
)


def memory(pid: int) -> float:
    """MiB resident in a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
