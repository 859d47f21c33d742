"""Where jobs are on this machine: a folder for files, and the store beside them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.core import InvalidInputError, Job, JobStore, UnknownNameError
from nas.core.device import LOCAL
from nas.front import Front
from nas.spec import JobSpec
from nas.stores import open_store

if TYPE_CHECKING:
    from nas.problem import Problem

DEFAULT_HOME = Path("nas_runs")


@dataclass(frozen=True)
class Workspace:
    """A folder for files, and the store beside them.

    Attributes:
        home: artifacts of a job go to `home/<job id>/`.
        store: of jobs and trials.
        store_url: opens the same store in another process; `memory` where none can.
    """

    home: Path
    store: JobStore
    store_url: str = "memory"

    @classmethod
    def open(cls, home: str | Path = DEFAULT_HOME, store_url: str | None = None) -> Workspace:
        """Open `home`, made if need be; the store is `home/nas.db` unless another is named.

        Raises:
            InvalidInputError: `home` is a file, or the store's URL is no URL.
        """
        folder = Path(home).absolute()
        if folder.exists() and not folder.is_dir():
            raise InvalidInputError("home", str(home), "a folder, or a new path")
        url = store_url or f"sqlite:///{folder / 'nas.db'}"
        return cls(folder, open_store(url), url)

    def folder(self, job: Job) -> Path:
        """Where a job's files are."""
        return self.home / job.job_id

    @property
    def uploads(self) -> Path:
        """Where data sets lie that clients sent."""
        return self.home / "datasets"

    def problem(self, spec: JobSpec) -> Problem:
        """What a specification means here, uploaded data included.

        Raises:
            InvalidInputError: anything in it that cannot work.
        """
        from nas.problem import Problem  # torch takes a second to import

        return Problem.load(spec, self.uploads)

    def require_devices(self, spec: JobSpec) -> None:
        """Refuse devices that are not there, metrics they lack, and tables no process could build.

        Raises:
            UnknownNameError: a device that never registered nor was imported, or a metric that an
                imported one does not tell.
            InvalidInputError: tables, with a store that only this process has.
        """
        imported = _imported(spec, self.home)
        known = [*(device.name for device in self.store.devices().devices()), *imported]
        for name in spec.remote_devices:
            if name not in known:
                raise UnknownNameError("devices", name, [LOCAL, *known])
        if spec.tables and self.store_url == "memory":
            raise InvalidInputError("tables", True, "false with a store in memory")

    def delete(self, job: Job) -> None:
        """Delete a job that nobody drives: trials, events and files.

        Raises:
            ConflictError: it is running.
        """
        self.store.delete_job(job.job_id)
        shutil.rmtree(self.folder(job), ignore_errors=True)

    def front(self, job: Job) -> Front:
        """The job's front as it stands now."""
        trials = self.store.trial_store(job.job_id).trials()
        return Front.of(job, spec_of(job).goals, trials, self.folder(job))


def require_devices(spec: JobSpec, home: str | Path, store_url: str | None = None) -> None:
    """Refuse devices that are not known below `home`; makes neither folder nor database.

    Raises:
        UnknownNameError: one of them, or a metric that an imported one does not tell.
    """
    imported = _imported(spec, Path(home))
    others = [name for name in spec.remote_devices if name not in imported]
    if not others:
        return
    if store_url is None and not (Path(home) / "nas.db").is_file():
        raise UnknownNameError("devices", others[0], [LOCAL, *imported])
    Workspace.open(home, store_url).require_devices(spec)


def _imported(spec: JobSpec, home: Path) -> Sequence[str]:
    """Names of the imported tables below `home`; none for a job that names no devices.

    Raises:
        UnknownNameError: a metric that one of them does not tell.
    """
    if not spec.remote_devices:
        return ()
    from nas.imported_tables import require_told  # torch takes a second to import
    from workers.imported import imported_names

    require_told(spec, home)
    return imported_names(home)


def spec_of(job: Job) -> JobSpec:
    """A job's specification, read."""
    return JobSpec.parse(job.spec)
