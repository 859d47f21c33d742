"""One job of a server, and the models it found."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from nas.client.transport import ServerError, Transport, pause
from nas.core import (
    ConflictError,
    Event,
    Fidelity,
    Goals,
    Job,
    JobState,
    NotFoundError,
    Trial,
    TrialState,
)
from nas.core.wire import event_from_json, job_from_json, trial_from_json
from nas.front import Front, Model

MOST_RECONNECTS = 20


class ClientJob:
    """One job of a server.

    Attributes:
        job: as it stood when last asked; `refresh` asks.
    """

    def __init__(self, transport: Transport, job: Job) -> None:
        self._transport = transport
        self.job = job

    @property
    def job_id(self) -> str:
        """Opaque and unique."""
        return self.job.job_id

    @property
    def state(self) -> JobState:
        """As it stood when last asked."""
        return self.job.state

    def refresh(self) -> Self:
        """Ask how it stands now."""
        self.job = job_from_json(self._transport.get(f"/jobs/{self.job_id}"))
        return self

    def wait(self, progress: bool = True, timeout: float | None = None) -> Front:
        """Follow the job to its end, and return its front.

        Args:
            progress: show bars where there is a terminal, lines elsewhere.
            timeout: seconds; None waits for ever.

        Raises:
            ConflictError: it failed, or was paused or cancelled; says why.
            TimeoutError: it takes longer. It goes on, and can be waited for again.
        """
        from nas.console import progress as shown
        from nas.spec import JobSpec

        until = None if timeout is None else time.monotonic() + timeout
        with shown(JobSpec.parse(self.job.spec), enabled=progress) as listen:
            for event in self._events(0, until):
                if listen is not None:
                    listen(event)
        self.refresh()
        if self.state is not JobState.COMPLETED:
            reason = f": {self.job.message}" if self.job.message else ""
            raise ConflictError(f"job {self.job_id} is {self.state}{reason}")
        return self.front()

    def stream(self, after: int = 0) -> Iterator[Event]:
        """Events past number `after` as they happen, until the job stops running.

        Lost connections are taken up again where they broke.

        Raises:
            ServerError: the server stays away.
        """
        return self._events(after, None)

    def _events(self, after: int, until: float | None) -> Iterator[Event]:
        failures = 0
        while True:
            try:
                for kind, body in self._transport.messages(f"/jobs/{self.job_id}/events", after):
                    failures = 0
                    if until is not None and time.monotonic() > until:
                        raise TimeoutError(f"job {self.job_id} still runs")
                    if kind == "job":
                        self.job = job_from_json(body)
                    elif kind != "comment":
                        event = event_from_json(body)
                        after = event.sequence
                        yield event
                if self.refresh().state not in (JobState.CREATED, JobState.RUNNING):
                    return
            except (httpx.TransportError, ServerError) as error:
                failures += 1
                if failures > MOST_RECONNECTS:
                    raise ServerError(f"no answer from {self._transport.url}: {error}") from error
                time.sleep(pause(failures))

    def counts(self) -> Mapping[TrialState, int]:
        """How many trials are in each state."""
        found = self._transport.get(f"/jobs/{self.job_id}")["trials"]
        return {TrialState(state): n for state, n in found.items()}

    def trials(
        self,
        states: Sequence[TrialState] = (),
        fidelities: Sequence[Fidelity] = (),
        limit: int | None = None,
    ) -> list[Trial]:
        """Trials by number, filtered."""
        query = {"state": [s.value for s in states], "fidelity": [f.value for f in fidelities]}
        found = self._transport.pages(f"/jobs/{self.job_id}/trials", query, limit)
        return [trial_from_json(body) for body in found]

    def front(self, n_trials: int = 0) -> Front:
        """The Pareto front as it stands; files are fetched when first needed.

        Args:
            n_trials: other trials to fetch, at most, so that `front.plot()` shows them too.
        """
        body = self._transport.get(f"/jobs/{self.job_id}/front")
        goals = Goals.parse(body["objectives"], body["constraints"])
        folder = self._transport.cache / self.job_id
        found = [trial_from_json(trial) for trial in body["trials"]]
        models = tuple(RemoteModel(self.job, t, folder, self._transport) for t in found)
        others = self.trials(limit=n_trials) if n_trials else []
        known = {trial.number: trial for trial in (*found, *others)}
        return Front(self.job, goals, models, tuple(known[i] for i in sorted(known)))

    def progress(self) -> Mapping[str, Any]:
        """Columns over finished trials: number, time, hypervolume, best values."""
        found: Mapping[str, Any] = self._transport.get(f"/jobs/{self.job_id}/progress")
        return found

    def summary(self) -> Mapping[str, Any]:
        """Counts, best values, pace, and when something happened last."""
        found: Mapping[str, Any] = self._transport.get(f"/jobs/{self.job_id}/summary")
        return found

    def report(self, path: str | Path) -> Path:
        """Fetch the self-contained HTML report into a file."""
        target = Path(path)
        target.write_text(self._transport.request("GET", f"/jobs/{self.job_id}/report").text)
        return target

    def cancel(self) -> Self:
        """Stop it for good; what it found stays."""
        return self._change("cancel")

    def pause(self) -> Self:
        """Stop it until it is resumed."""
        return self._change("pause")

    def resume(self) -> Self:
        """Queue it again where it was paused, interrupted or failed."""
        return self._change("resume")

    def extend(
        self,
        trials: int | None = None,
        finalists: int | None = None,
        constraints: Sequence[str] | None = None,
    ) -> Self:
        """Give it more budget in all, or tighter constraints; it goes on without starting over."""
        body = {"trials": trials, "finalists": finalists, "constraints": constraints}
        return self._change("extend", {k: v for k, v in body.items() if v is not None})

    def delete(self) -> None:
        """Delete it with its trials and files."""
        self._transport.request("DELETE", f"/jobs/{self.job_id}")

    def __repr__(self) -> str:
        return f"<Job {self.job_id} {self.job.name!r}: {self.state}>"

    def _change(self, verb: str, body: Mapping[str, Any] | None = None) -> Self:
        path = f"/jobs/{self.job_id}/{verb}"
        answer = self._transport.request("POST", path, json=body, retry=verb != "extend")
        self.job = job_from_json(answer.json())
        return self


@dataclass(frozen=True)
class RemoteModel(Model):
    """A model whose files lie on a server; each is fetched once, and its checksum compared."""

    transport: Transport

    def artifact(self, role: str) -> Path:
        """The file of a role: `onnx`, `torch_source` or `torch_weights`.

        Raises:
            NotFoundError: this model was not deployed, or the file is gone.
            ServerError: what arrived is not what was sent.
        """
        name = self.trial.artifacts.get(role)
        if name is None:
            raise NotFoundError(f"{role} file of trial", self.trial.number)
        path = self.folder / name
        if not path.is_file():
            where = f"/jobs/{self.job.job_id}/trials/{self.trial.number}/artifacts/{role}"
            answer = self.transport.request("GET", where)
            if hashlib.sha256(answer.content).hexdigest() != answer.headers["X-Content-SHA256"]:
                raise ServerError(f"the {role} file of trial {self.trial.number} arrived broken")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(answer.content)
        return path

    def download(self, path: str | Path, role: str = "onnx") -> Path:
        """Write the file of a role to `path`."""
        target = Path(path)
        target.write_bytes(self.artifact(role).read_bytes())
        return target
