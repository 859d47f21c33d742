"""The Python client: the same calls against a server, or against one inside this process.

    client = nas.Client("http://nas.example:8470", token="nas_…")
    job = client.submit(data="digits", objectives=["accuracy", "latency_ms"], trials=30)
    front = job.wait()
    front.best("latency_ms<=0.3").export("my_model")

Needs httpx, numpy and moocore only.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from nas.core import (
    ConflictError,
    Event,
    Fidelity,
    Goals,
    InvalidInputError,
    Job,
    JobState,
    NasError,
    NotFoundError,
    Trial,
    TrialState,
)
from nas.core.wire import event_from_json, job_from_json, trial_from_json
from nas.front import Front, Model

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.service import Server

SAFE = {"GET", "HEAD", "PUT", "DELETE"}
AGAIN = {429, 502, 503, 504}
TRIES = 6
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
TIMEOUT = httpx.Timeout(10.0, read=120.0)
PAGE = 500
MOST_RECONNECTS = 20


class ServerError(NasError, RuntimeError):
    """The server cannot be reached, or answered with something that is not ours to mend."""


class AccessError(NasError, PermissionError):
    """The token is missing or not valid, or its owner may not do this."""


class Client:
    """Submits jobs and reads what they found.

    Args:
        url: of a server, `http://host:8470`; None takes `NAS_SERVER`, and where that is not set,
            starts a server inside this process, over `home`.
        token: from `nas token create`; None takes `NAS_TOKEN`.
        home: folder of the server inside this process.
        verify: False accepts any TLS certificate; a path is a certificate authority's.

    Raises:
        InvalidInputError: not a URL.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        home: str | Path = "nas_runs",
        verify: bool | str = True,
    ) -> None:
        self._stack = ExitStack()
        url = url or os.environ.get("NAS_SERVER")
        if url is None:
            own = self._stack.enter_context(_own_server(Path(home)))
            url, needs_token = own.url, own.needs_token
        else:
            needs_token = True
        if not url.startswith(("http://", "https://")):
            raise InvalidInputError("server", url, "http://host:port or https://host:port")
        token = token or (os.environ.get("NAS_TOKEN") if needs_token else None)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        http = httpx.Client(
            base_url=f"{self.url}/v1", headers=headers, timeout=TIMEOUT, verify=_context(verify)
        )
        self._http = self._stack.enter_context(http)
        cache = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="nas-client-"))
        self._cache = Path(cache)

    # ---------------------------------------------------------------- jobs

    def submit(
        self,
        *,
        trials: int | None = None,
        finalists: int | None = None,
        key: str | None = None,
        **spec: Any,
    ) -> ClientJob:
        """Queue a job; the fields are those of `nas.search` and of a job specification.

            client.submit(data="digits", space="mobilenet", strategy="predictor-guided",
                          objectives=["accuracy", "latency_ms"], constraints=["weight_bytes<=2e4"],
                          budget={"trials": 40, "finalists": 8}, seed=0, priority=0)

        Args:
            trials: short for `budget["trials"]`.
            finalists: short for `budget["finalists"]`.
            key: of this submission; submitting twice with one key gives one job. A random one is
                made where none is given, so that retries of a lost connection do not double it.
            spec: everything else; a path of an `.npz` or of an image folder as `data` is sent to
                the server first.

        Raises:
            InvalidInputError: the server found something that cannot work; nothing was started.
        """
        body = {**spec, **_budget(spec.get("budget"), trials, finalists)}
        source = body.get("data")
        if source is not None and Path(source).exists() and not self._is_known(str(source)):
            body["data"] = self.upload(source)
        headers = {"Idempotency-Key": key or os.urandom(16).hex()}
        answer = self._request("POST", "/jobs", json=body, headers=headers, retry=True)
        return ClientJob(self, job_from_json(answer.json()))

    def preview(self, **spec: Any) -> Mapping[str, Any]:
        """Size of the space, cost ranges, feasible share and time, before anything is spent."""
        found: Mapping[str, Any] = self._request("POST", "/preview", json=spec, retry=True).json()
        return found

    def job(self, job_id: str) -> ClientJob:
        """A job by its id, or the beginning of one.

        Raises:
            NotFoundError: none fits.
        """
        return ClientJob(self, job_from_json(self._get(f"/jobs/{job_id}")))

    def jobs(
        self, state: str | None = None, name: str = "", limit: int | None = None
    ) -> list[ClientJob]:
        """Jobs, newest first."""
        query = {"name": name, **({"state": state} if state else {})}
        found = self._pages("/jobs", query, limit)
        return [ClientJob(self, job_from_json(body)) for body in found]

    # ---------------------------------------------------------------- what there is

    def datasets(self) -> list[Mapping[str, Any]]:
        """What `data` may be."""
        return list(self._get("/datasets"))

    def spaces(self) -> list[Mapping[str, Any]]:
        """Families of networks with the JSON schemas of their options."""
        return list(self._get("/spaces"))

    def strategies(self) -> list[Mapping[str, Any]]:
        """Strategies with the JSON schemas of their settings."""
        return list(self._get("/strategies"))

    def devices(self) -> list[Mapping[str, Any]]:
        """Where latency can be measured: health, last seen, work that waits."""
        return list(self._get("/devices"))

    def upload(self, path: str | Path) -> str:
        """Send an `.npz` or a folder `<class>/<image>`; returns what goes into `data`.

        What the server has already, by its SHA-256, is not sent again.

        Raises:
            InvalidInputError: no such file, or not a data set.
        """
        source = Path(path)
        if not source.exists():
            raise InvalidInputError("data", str(path), "a file or folder that exists")
        file = _archive(source, self._cache) if source.is_dir() else source
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if self._is_known(f"upload:{digest}"):
            return f"upload:{digest}"
        with file.open("rb") as content:
            answer = self._request("PUT", f"/datasets/{digest}", content=content)
        return str(answer.json()["source"])

    # ---------------------------------------------------------------- transport

    def close(self) -> None:
        """End connections, and the server inside this process; its jobs can be resumed."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _is_known(self, source: str) -> bool:
        """Whether the server has data of that name."""
        return any(source == dataset["source"] for dataset in self.datasets())

    def _get(self, path: str, **query: Any) -> Any:
        return self._request("GET", path, params=query).json()

    def _pages(
        self, path: str, query: Mapping[str, Any], limit: int | None = None
    ) -> Iterator[Mapping[str, Any]]:
        left, after = limit, None
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self._get(path, **query, limit=size, **({"after": after} if after else {}))
            yield from page["items"]
            after, left = page["next"], None if left is None else left - len(page["items"])
            if after is None:
                return

    def _request(
        self, method: str, path: str, *, retry: bool = False, **options: Any
    ) -> httpx.Response:
        """One request; what is safe to repeat is repeated with growing, random waits.

        Raises:
            NasError: the error the server answered with, as it was raised there.
            ServerError: no answer.
        """
        again = (retry or method in SAFE) and "content" not in options
        for attempt in range(TRIES if again else 1):
            if attempt:
                time.sleep(_wait(attempt))
            last = attempt == (TRIES if again else 1) - 1
            try:
                answer = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if last:
                    raise ServerError(f"no answer from {self.url}: {error}") from error
                continue
            if answer.status_code not in AGAIN or last:
                _raise_for(answer)
                return answer
        raise AssertionError("unreachable")


class ClientJob:
    """One job of a server.

    Attributes:
        job: as it stood when last asked; `refresh` asks.
    """

    def __init__(self, client: Client, job: Job) -> None:
        self._client = client
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
        self.job = job_from_json(self._client._get(f"/jobs/{self.job_id}"))
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
                with self._client._http.stream(
                    "GET", f"/jobs/{self.job_id}/events", params={"after": after}, timeout=60.0
                ) as answer:
                    if answer.status_code != 200:
                        answer.read()
                        _raise_for(answer)
                    for kind, body in _messages(answer.iter_lines()):
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
                    raise ServerError(f"no answer from {self._client.url}: {error}") from error
                time.sleep(_wait(failures))

    def counts(self) -> Mapping[TrialState, int]:
        """How many trials are in each state."""
        found = self._client._get(f"/jobs/{self.job_id}")["trials"]
        return {TrialState(state): n for state, n in found.items()}

    def trials(
        self,
        states: Sequence[TrialState] = (),
        fidelities: Sequence[Fidelity] = (),
        limit: int | None = None,
    ) -> list[Trial]:
        """Trials by number, filtered."""
        query = {"state": [s.value for s in states], "fidelity": [f.value for f in fidelities]}
        found = self._client._pages(f"/jobs/{self.job_id}/trials", query, limit)
        return [trial_from_json(body) for body in found]

    def front(self, n_trials: int = 0) -> Front:
        """The Pareto front as it stands; files are fetched when first needed.

        Args:
            n_trials: other trials to fetch, at most, so that `front.plot()` shows them too.
        """
        body = self._client._get(f"/jobs/{self.job_id}/front")
        goals = Goals.parse(body["objectives"], body["constraints"])
        folder = self._client._cache / self.job_id
        found = [trial_from_json(trial) for trial in body["trials"]]
        models = tuple(RemoteModel(self.job, t, folder, self._client) for t in found)
        others = self.trials(limit=n_trials) if n_trials else []
        known = {trial.number: trial for trial in (*found, *others)}
        return Front(self.job, goals, models, tuple(known[i] for i in sorted(known)))

    def progress(self) -> Mapping[str, Any]:
        """Columns over finished trials: number, time, hypervolume, best values."""
        found: Mapping[str, Any] = self._client._get(f"/jobs/{self.job_id}/progress")
        return found

    def plot_progress(self) -> go.Figure:
        """Hypervolume over finished trials."""
        import plotly.graph_objects as go

        found = self.progress()
        line = go.Scatter(x=found["n_finished"], y=found["hypervolume"], mode="lines")
        layout = {"xaxis_title": "finished trials", "yaxis_title": "hypervolume, share of the last"}
        return go.Figure(line, layout)

    def report(self, path: str | Path) -> Path:
        """Fetch the self-contained HTML report into a file."""
        target = Path(path)
        target.write_text(self._client._request("GET", f"/jobs/{self.job_id}/report").text)
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
        self._client._request("DELETE", f"/jobs/{self.job_id}")

    def __repr__(self) -> str:
        return f"<Job {self.job_id} {self.job.name!r}: {self.state}>"

    def _change(self, verb: str, body: Mapping[str, Any] | None = None) -> Self:
        path = f"/jobs/{self.job_id}/{verb}"
        answer = self._client._request("POST", path, json=body, retry=verb != "extend")
        self.job = job_from_json(answer.json())
        return self


@dataclass(frozen=True)
class RemoteModel(Model):
    """A model whose files lie on a server; each is fetched once, and its checksum compared."""

    client: Client

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
            answer = self.client._request("GET", where)
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


def _own_server(home: Path) -> Server:
    """A server for this process alone, not yet started."""
    from nas.service import Server, ServiceSettings

    return Server(ServiceSettings(home.absolute(), port=0))


def _budget(given: Any, trials: int | None, finalists: int | None) -> dict[str, Any]:
    budget = {**(given or {})}
    budget |= {k: v for k, v in (("trials", trials), ("finalists", finalists)) if v is not None}
    return {"budget": budget} if budget else {}


def _context(verify: bool | str) -> Any:
    if not isinstance(verify, str):
        return verify
    import ssl

    return ssl.create_default_context(cafile=verify)


def _wait(attempt: int) -> float:
    return min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)


def _raise_for(answer: httpx.Response) -> None:
    """Raise the server's error as what it was there."""
    if answer.status_code < 400:
        return
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        said = f"{answer.status_code} from {answer.request.url}"
        raise ServerError(f"{said}: {answer.text[:200]}") from None
    message = str(error.get("message", ""))
    match answer.status_code:
        case 401 | 403:
            raise AccessError(message)
        case 404:
            raise _MissingError(message)
        case 409:
            raise ConflictError(message)
        case 422:
            raise InvalidInputError(error["field"], error["value"], error["expected"])
        case _:
            raise ServerError(message)


class _MissingError(NotFoundError):
    """What the server said is not there, in its words."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)
        self._message = message

    def __str__(self) -> str:
        return self._message


def _messages(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Kind and body of server-sent events; kind `comment`, without a body, of signs of life."""
    kind, data = "message", ""
    for line in lines:
        if line.startswith(":"):
            yield "comment", None
        elif line.startswith("event:"):
            kind = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif not line and data:
            yield kind, json.loads(data)
            kind, data = "message", ""


def _archive(folder: Path, cache: Path) -> Path:
    """The folder's files as a zip archive, the same bytes for the same files."""
    target = cache / f"{folder.name or 'data'}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.writestr(
                zipfile.ZipInfo(str(path.relative_to(folder).as_posix())), path.read_bytes()
            )
    return target
