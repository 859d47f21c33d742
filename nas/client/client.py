"""The client: submits jobs, lists what there is, sends data sets."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nas.client.job import ClientJob
from nas.client.transport import Transport
from nas.core import EvaluationError, InvalidInputError, Report
from nas.core.wire import job_from_json

if TYPE_CHECKING:
    from nas.service import Server

LOOK_SECONDS = 0.5
"""Between two looks at a table that is being built."""


def _unheard(line: str) -> None:
    """Tell nobody."""


class Client:
    """Submits jobs and reads what they found.

    Args:
        url: of a server, `http://host:8470`; None takes `NAS_SERVER`, and where that is not set,
            starts a server inside this process, over `home`.
        token: from `nas token create`; None takes `NAS_TOKEN`.
        home: folder of the server inside this process.
        allow: `package.module:Name` of your own that jobs of that server may name.
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
        allow: Sequence[str] = (),
    ) -> None:
        self._stack = ExitStack()
        url = url or os.environ.get("NAS_SERVER")
        if url is None:
            own = self._stack.enter_context(_own_server(Path(home), tuple(allow)))
            url, needs_token = own.url, own.needs_token
        else:
            needs_token = True
        token = token or (os.environ.get("NAS_TOKEN") if needs_token else None)
        cache = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="nas-client-"))
        self._transport = Transport(url, token, verify, Path(cache))
        self._stack.callback(self._transport.close)

    @property
    def url(self) -> str:
        """Of the server."""
        return self._transport.url

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
        body = self._with_data({**spec, **_budget(spec.get("budget"), trials, finalists)})
        headers = {"Idempotency-Key": key or os.urandom(16).hex()}
        answer = self._transport.request("POST", "/jobs", json=body, headers=headers, retry=True)
        return ClientJob(self._transport, job_from_json(answer.json()))

    def preview(self, **spec: Any) -> Mapping[str, Any]:
        """Size of the space, cost ranges, feasible share and time, before anything is spent."""
        answer = self._transport.request("POST", "/preview", json=spec, retry=True)
        found: Mapping[str, Any] = answer.json()
        return found

    def job(self, job_id: str) -> ClientJob:
        """A job by its id, or the beginning of one.

        Raises:
            NotFoundError: none fits.
        """
        return ClientJob(self._transport, job_from_json(self._transport.get(f"/jobs/{job_id}")))

    def jobs(
        self, state: str | None = None, name: str = "", limit: int | None = None
    ) -> list[ClientJob]:
        """Jobs, newest first."""
        query = {"name": name, **({"state": state} if state else {})}
        found = self._transport.pages("/jobs", query, limit)
        return [ClientJob(self._transport, job_from_json(body)) for body in found]

    def datasets(self) -> list[Mapping[str, Any]]:
        """What `data` may be."""
        return list(self._transport.get("/datasets"))

    def spaces(self) -> list[Mapping[str, Any]]:
        """Families of networks with the JSON schemas of their options."""
        return list(self._transport.get("/spaces"))

    def strategies(self) -> list[Mapping[str, Any]]:
        """Strategies with the JSON schemas of their settings."""
        return list(self._transport.get("/strategies"))

    def devices(self) -> list[Mapping[str, Any]]:
        """Where latency can be measured: health, last seen, work that waits."""
        return list(self._transport.get("/devices"))

    def build_table(
        self, device: str, listen: Report = _unheard, **request: Any
    ) -> Mapping[str, Any]:
        """Let a device time a space's layers, those it lacks; returns a summary of its table.

            client.build_table("rpi4", data="digits", space="mobilenet", candidates=80, files=12)

        What was timed is kept when this call, the server or the device ends before it is done.

        Args:
            device: one with an agent.
            listen: told how it goes, line by line.
            request: `data`, `data_limit`, `space` and `seed` as of a job; how many `candidates`
                are looked at for layers, and how many of them are timed as whole `files`.

        Raises:
            InvalidInputError: something that cannot work; nothing was started.
            NotFoundError: no such device.
            ConflictError: another table of the device is being built.
            EvaluationError: the device cannot time a file, or is gone.
        """
        body = self._with_data(request)
        while True:  # anew where the server was started anew, and no longer knows of it
            build = self._followed_build(f"/devices/{device}/table", body, listen)
            match build["state"]:
                case "done":
                    found: Mapping[str, Any] = build["table"]
                    return found
                case "failed":
                    raise EvaluationError(build["message"])

    def cluster(self) -> Mapping[str, Any]:
        """Where trials run: nodes, their CPUs and GPUs, trials at once."""
        found: Mapping[str, Any] = self._transport.get("/cluster")
        return found

    def upload(self, path: str | Path) -> str:
        """Send an `.npz` or a folder `<class>/<image>`; returns what goes into `data`.

        What the server has already, by its SHA-256, is not sent again.

        Raises:
            InvalidInputError: no such file, or not a data set.
        """
        source = Path(path)
        if not source.exists():
            raise InvalidInputError("data", str(path), "a file or folder that exists")
        file = _archive(source, self._transport.cache) if source.is_dir() else source
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if self._is_known(f"upload:{digest}"):
            return f"upload:{digest}"
        answer = self._transport.request("PUT", f"/datasets/{digest}", file=file)
        return str(answer.json()["source"])

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

    def _with_data(self, body: dict[str, Any]) -> dict[str, Any]:
        """`body`, with data that is a path here sent to the server."""
        source = body.get("data")
        if source is None or not Path(source).exists() or self._is_known(str(source)):
            return body
        return {**body, "data": self.upload(source)}

    def _followed_build(
        self, path: str, body: Mapping[str, Any], listen: Report
    ) -> Mapping[str, Any]:
        """How building a table ended, or another build if the server lost sight of this one."""
        build = started = self._transport.request("POST", path, json=body, retry=True).json()
        n_told = 0
        while build["build_id"] == started["build_id"]:
            for line in build["lines"][n_told:]:
                listen(line)
            n_told = len(build["lines"])
            if build["state"] != "running":
                break
            time.sleep(LOOK_SECONDS)
            build = self._transport.get(path)
        found: Mapping[str, Any] = build
        return found

    def _is_known(self, source: str) -> bool:
        """Whether the server has data of that name."""
        return any(source == dataset["source"] for dataset in self.datasets())


def _own_server(home: Path, allowed: tuple[str, ...]) -> Server:
    """A server for this process alone, not yet started."""
    from nas.service import Server, ServiceSettings

    return Server(ServiceSettings(home.absolute(), port=0, allowed=allowed))


def _budget(given: Any, trials: int | None, finalists: int | None) -> dict[str, Any]:
    budget = {**(given or {})}
    budget |= {k: v for k, v in (("trials", trials), ("finalists", finalists)) if v is not None}
    return {"budget": budget} if budget else {}


def _archive(folder: Path, cache: Path) -> Path:
    """The folder's files as a zip archive, the same bytes for the same files."""
    target = cache / f"{folder.name or 'data'}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.writestr(
                zipfile.ZipInfo(str(path.relative_to(folder).as_posix())), path.read_bytes()
            )
    return target
