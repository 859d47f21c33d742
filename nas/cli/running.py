"""Running a search in this process, for the commands that do; loads torch."""

from __future__ import annotations

import os
from pathlib import Path

from nas import console, jobs
from nas.cli.options import checked_workers, err, existing, show
from nas.core import InvalidInputError, Job, JobState
from nas.front import Front
from nas.problem import Problem
from nas.reporting import write_report
from nas.reuse import reuse
from nas.spec import JobSpec
from nas.workspace import Workspace, require_devices, spec_of


class Runner:
    """Runs jobs with progress, says how to go on after Ctrl-C, and shows what came out."""

    def __init__(
        self, executor: str, workers: int | None, address: str | None, as_json: bool
    ) -> None:
        if executor not in ("ray", "local"):
            raise InvalidInputError("executor", executor, "ray or local")
        self._executor: jobs.ExecutorName = "local" if executor == "local" else "ray"
        self._workers = checked_workers(workers)
        self._address = address
        self._as_json = as_json

    def start(self, spec: JobSpec, home: Path, store: str | None) -> None:
        """Check what is wanted, submit it and run it."""
        require_devices(spec, home, store)
        problem = jobs.checked(spec, self._executor)
        workspace = Workspace.open(home, store)
        self.run(workspace, jobs.submit(workspace, problem), problem, store)

    def resume(self, job_id: str, home: Path, store: str | None) -> None:
        """Go on with a job."""
        workspace = existing(home, store)
        job = jobs.resumable(workspace, job_id)
        self.run(workspace, job, workspace.problem(spec_of(job)), store)

    def run(
        self, workspace: Workspace, job: Job, problem: Problem, store: str | None = None
    ) -> Front:
        """Run a job to its end, write its report, and show its front."""
        err.print(f"job     {job.job_id}: {job.name}", markup=False)
        known = reuse(workspace.store, job, problem)
        for line in known.said():
            err.print(f"reuses  {line}", markup=False)
        home = os.path.relpath(workspace.home)
        again = f"nas resume {job.job_id} --home {home}" + (f" --store {store}" if store else "")
        try:
            with console.progress(problem.spec) as listen:
                found = jobs.run(
                    workspace,
                    job,
                    problem,
                    self._executor,
                    self._workers,
                    self._address,
                    listen,
                    known,
                    _say,
                )
        except KeyboardInterrupt:
            _say(f"stopped; go on with: {again}")
            raise
        job = workspace.store.job(job.job_id)
        if job.state is JobState.PAUSED:
            _say(f"paused; go on with: {again}")
        path = workspace.folder(job) / "report.html"
        write_report(workspace, job, path, problem, known)
        show(
            [m.card() for m in found] if self._as_json else console.front_table(found),
            self._as_json,
        )
        err.print(f"report  {os.path.relpath(path)}", soft_wrap=True, markup=False)
        return found


def _say(line: str) -> None:
    err.print(line, soft_wrap=True, markup=False)
