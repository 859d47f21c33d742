"""Wall time per trial when the evaluation does nothing: ours, Optuna's and Ray Tune's.

    .venv/bin/python tests/benchmarks/overhead.py

All choose 20 parameters at random. Ray Tune is measured where `ray[tune]` is installed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from nas.core import (
    Candidate,
    Decision,
    Evaluation,
    Evaluator,
    Executor,
    Fidelity,
    Goals,
    Report,
    SearchSpace,
)
from nas.engine import Engine
from nas.stores import open_store
from nas.strategies import Finalists, RandomSearch
from workers.executors import LocalExecutor
from workers.executors.ray import RayExecutor, cluster

N_PARAMETERS = 20
SPACE = SearchSpace(tuple(Decision(f"x{i}", tuple(range(10))) for i in range(N_PARAMETERS)))


class NoOp(Evaluator):
    """Returns at once."""

    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        return Evaluation({"accuracy": 0.5})


def main() -> None:
    """Interleave the contenders and print the median milliseconds per trial of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, cluster(n_cpus=2):
        contenders: dict[str, Callable[[Path, int], float]] = {
            "in process, memory": lambda path, n: ours("memory", LocalExecutor(NoOp()), n),
            "in process, SQLite": lambda path, n: ours(sqlite(path), LocalExecutor(NoOp()), n),
            "Ray, SQLite": lambda path, n: ours(sqlite(path), RayExecutor(NoOp(), "x"), n),
            "Optuna random, SQLite": optuna_sqlite,
        }
        if tune_is_installed():
            contenders["Ray Tune (a tenth of the trials)"] = lambda path, n: ray_tune(path, n // 10)
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for i in range(args.repeats):
            for j, (name, run) in enumerate(contenders.items()):
                times[name].append(run(Path(folder) / f"{i}-{j}", args.trials) * 1e3)
    for name, values in times.items():
        print(f"{name:<34} {median(values):8.2f} ms  ({min(values):.2f} to {max(values):.2f})")
    if not tune_is_installed():
        print('Ray Tune was not measured: pip install "ray[tune]"')


def sqlite(path: Path) -> str:
    """URL of a new database."""
    return f"sqlite:///{path}.db"


def ours(url: str, executor: Executor, n_trials: int) -> float:
    """Seconds per trial of one job through the engine, database and workers being up."""
    goals = Goals.parse(["accuracy"])
    jobs = open_store(url)
    with executor:
        for n in (20, n_trials):  # the first is the warm-up
            log = jobs.trial_store(jobs.create_job("overhead", {}).job_id)
            strategy = Finalists(RandomSearch(SPACE, 0), goals, n, n_finalists=1)
            started = time.perf_counter()
            Engine(strategy, executor, log).run()
    return (time.perf_counter() - started) / (n_trials + 1)


def optuna_sqlite(path: Path, n_trials: int) -> float:
    """Seconds per trial of one Optuna study on its SQLite storage."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=sqlite(path), sampler=sampler, direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        for i in range(N_PARAMETERS):
            trial.suggest_int(f"x{i}", 0, 9)
        return 0.5

    started = time.perf_counter()
    study.optimize(objective, n_trials=n_trials)
    return (time.perf_counter() - started) / n_trials


def tune_is_installed() -> bool:
    """Whether Ray Tune can be imported."""
    try:
        import ray.tune  # noqa: F401
    except ImportError:
        return False
    return True


def ray_tune(path: Path, n_trials: int) -> float:
    """Seconds per trial of one Tune experiment of trivial trials, two at once, quiet."""
    from ray import tune

    space = {f"x{i}": tune.randint(0, 10) for i in range(N_PARAMETERS)}
    started = time.perf_counter()
    tune.Tuner(
        lambda config: {"accuracy": 0.5},
        param_space=space,
        tune_config=tune.TuneConfig(num_samples=n_trials, metric="accuracy", mode="max"),
        run_config=tune.RunConfig(storage_path=str(path.absolute()), verbose=0),
    ).fit()
    return (time.perf_counter() - started) / n_trials


if __name__ == "__main__":
    main()
