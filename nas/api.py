"""The two calls most people need: `nas.search` and `nas.preview`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas import console, forecast, jobs
from nas.front import Front
from nas.problem import Problem
from nas.spec import DEFAULT_OBJECTIVES, DEVICES, JobSpec
from nas.workspace import DEFAULT_HOME, Workspace, require_devices

Named = str | Mapping[str, Any]


def search(
    data: str = "digits",
    *,
    space: Named = "mobilenet",
    strategy: Named = "predictor-guided",
    objectives: Sequence[str] = DEFAULT_OBJECTIVES,
    constraints: Sequence[str] = (),
    devices: Sequence[str] = DEVICES,
    trials: int = 40,
    finalists: int = 8,
    training: Mapping[str, Any] | None = None,
    candidates: Sequence[Mapping[str, Any]] = (),
    supernet: Mapping[str, Any] | None = None,
    differentiable: Mapping[str, Any] | None = None,
    seed: int = 0,
    warm_start: bool = True,
    tables: bool = False,
    name: str = "search",
    home: str | Path = DEFAULT_HOME,
    executor: jobs.ExecutorName = "local",
    n_workers: int | None = None,
    progress: bool = True,
) -> Front:
    """Run one search here and return its front; files and trials stay below `home`.

    Args:
        data: `digits`, `mnist`, the path of an `.npz` of images and labels, or of a folder
            `<class>/<image>`.
        space: a family's name, or `{"name": …, "options": {…}}`.
        strategy: a strategy's name, or `{"name": …, "options": {…}}`.
        objectives: `metric`, `metric:min` or `metric:max`; the first orders the front.
        constraints: for example `weight_bytes<=20000`.
        devices: where latency is measured, or simulated by an imported table; `cpu` is this
            machine's.
        trials: candidates trained during the search.
        finalists: candidates fine-tuned, exported and measured at the end.
        training: epochs and timed runs; see `nas.spec.TrainingSpec`.
        candidates: to try first, each as its options by decision (`genotype.json` of an export).
        supernet: score candidates by shared weights instead of training each; `{}` for the
            default settings, see `workers.supernet_settings.SupernetSettings`.
        differentiable: learn a distribution over candidates by gradients first; `{}` for the
            default settings, see `workers.differentiable.settings.DifferentiableSettings`.
        seed: of everything random.
        warm_start: use what earlier jobs below `home` measured.
        tables: build tables of layers for devices with agents that have none, beside the search.
        name: of the job, for people.
        home: folder for the database and the models.
        executor: `local` for this process or, with several workers, for processes of this
            machine; `ray` for a cluster.
        n_workers: trials at once; None for one per CPU on Ray, and one in this process.
        progress: show a progress bar.

    Raises:
        InvalidInputError: something given cannot work; nothing was started.
    """
    spec = JobSpec.parse(
        {
            "name": name,
            "data": data,
            "space": space,
            "strategy": strategy,
            "objectives": objectives,
            "constraints": constraints,
            "devices": devices,
            "budget": {"trials": trials, "finalists": finalists},
            "training": training or {},
            "candidates": candidates,
            "supernet": supernet,
            "differentiable": differentiable,
            "seed": seed,
            "warm_start": warm_start,
            "tables": tables,
        }
    )
    require_devices(spec, home)
    problem = jobs.checked(spec, executor)
    workspace = Workspace.open(home)
    job = jobs.submit(workspace, problem)
    with console.progress(spec, enabled=progress) as listen:
        return jobs.run(workspace, job, problem, executor, n_workers, listen=listen)


def preview(
    data: str = "digits",
    *,
    space: Named = "mobilenet",
    objectives: Sequence[str] = DEFAULT_OBJECTIVES,
    constraints: Sequence[str] = (),
    devices: Sequence[str] = DEVICES,
    trials: int = 40,
    finalists: int = 8,
    training: Mapping[str, Any] | None = None,
    supernet: Mapping[str, Any] | None = None,
    differentiable: Mapping[str, Any] | None = None,
    seed: int = 0,
    n_workers: int = 1,
) -> forecast.Preview:
    """Size of the space, cost ranges, feasible share and estimated time, before any training.

    The arguments are those of `search`.

    Raises:
        InvalidInputError: something given cannot work, or no candidate meets the constraints.
    """
    spec = JobSpec.parse(
        {
            "data": data,
            "space": space,
            "objectives": objectives,
            "constraints": constraints,
            "devices": devices,
            "budget": {"trials": trials, "finalists": finalists},
            "training": training or {},
            "supernet": supernet,
            "differentiable": differentiable,
            "seed": seed,
        }
    )
    return forecast.preview(Problem.load(spec), n_workers)
