"""The agent's loop: register, wait for work, measure it in a child process, report, for ever."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.core import ConflictError, InvalidInputError, NasError, NotFoundError, UnknownNameError
from nas.core.device import device_name
from workers.agent.connection import (
    FIRST_WAIT,
    LONGEST_WAIT,
    Connection,
    RefusedError,
    UnreachableError,
    stubbornly,
)
from workers.agent.facts import device_facts
from workers.agent.relay import Reach, Relay
from workers.isolation import Isolated
from workers.runtimes import DEFAULT, RUNTIMES

logger = logging.getLogger(__name__)

FETCHES = 3
LONGEST_POLL = 25.0


@dataclass(frozen=True)
class AgentSettings:
    """How an agent runs.

    Attributes:
        server: URL.
        name: of the device.
        token: of role device; None where the server needs none.
        folder: keeps who this agent is over restarts, and the file in work.
        max_seconds: a file's measurement may take.
        max_bytes: a file's measurement may take, on top of its process.
        runtime: that loads the files.
        through: how a device is reached that cannot call out: `ssh [options] HOST` or
            `adb [options]`; None where the agent runs on the device itself.
        remote_python: of such a device.
        remote_folder: there, for what is brought; None for the usual.
    """

    server: str
    name: str
    token: str | None
    folder: Path
    max_seconds: float = 600.0
    max_bytes: int | None = None
    runtime: str = DEFAULT
    through: str | None = None
    remote_python: str = "python3"
    remote_folder: str | None = None

    def __post_init__(self) -> None:
        device_name(self.name)
        if not self.server.startswith(("http://", "https://")):
            raise InvalidInputError("server", self.server, "http://host:port or https://host:port")
        if self.through is not None:
            Reach.of(self.through)
        if self.runtime not in RUNTIMES:
            raise UnknownNameError("runtime", self.runtime, RUNTIMES)
        if self.max_seconds <= 0:
            raise InvalidInputError("time-limit", self.max_seconds, "above 0")
        if self.max_bytes is not None and self.max_bytes <= 0:
            raise InvalidInputError("memory-limit", self.max_bytes, "above 0")


class Agent:
    """Measures for one server until it is stopped.

    Raises:
        ConflictError: another agent of this folder runs.
    """

    def __init__(self, settings: AgentSettings) -> None:
        settings.folder.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._lock = _locked(settings.folder / "lock")
        instance = _kept_instance(settings.folder / "instance")
        self._server = Connection(settings.server, settings.name, instance, settings.token)
        self._child = _child(settings)
        self._live_seconds = 30.0

    def run(self) -> None:
        """Work for ever.

        Raises:
            RefusedError: at the first registration, the name or the token is not taken.
        """
        self._register()
        waits = 0
        while True:
            try:
                self._serve_once()
                waits = 0
            except (NotFoundError, ConflictError, RefusedError) as error:
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(waits, 10))
                logger.warning("%s; registering again in %.1f s", error, wait)
                time.sleep(wait)
                waits += 1
                self._register_again()

    def _register(self) -> None:
        facts = {**self._facts(), "runtime": self._settings.runtime}
        facts["calibration"] = self._calibration()
        self._live_seconds = stubbornly(lambda: self._server.register(facts))
        logger.info("registered as %s at %s", self._settings.name, self._settings.server)

    def _register_again(self) -> None:
        try:
            self._register()
        except RefusedError as error:
            logger.warning("%s", error)

    def _serve_once(self) -> None:
        poll = min(LONGEST_POLL, self._live_seconds / 3)
        work = stubbornly(lambda: self._server.claim(poll))
        if work is None:
            return
        logger.info("work %s: %s", work["work_id"], work["digest"][:12])
        result = self._measured(work)
        if result is None:
            return
        try:
            stubbornly(lambda: self._server.report(work, result))
            logger.info("work %s: reported %s", work["work_id"], result.get("error") or "its time")
        except (ConflictError, NotFoundError) as error:
            logger.warning("work %s is no longer wanted: %s", work["work_id"], error)

    def _measured(self, work: Mapping[str, Any]) -> dict[str, Any] | None:
        """The report of a piece of work; None where it was taken away meanwhile."""
        path = self._settings.folder / "model.onnx"
        try:
            if not any(stubbornly(lambda: self._server.fetch(work, path)) for _ in range(FETCHES)):
                return {"error": f"the file arrived broken {FETCHES} times"}
        except (ConflictError, NotFoundError) as error:
            logger.warning("work %s: %s", work["work_id"], error)
            return None
        beat = _Beats(self._server, work, self._live_seconds / 3)
        try:
            profile = self._child.profile(path, {**work["settings"], **self._own()}, beat.goes_on)
        except NasError as error:
            return None if beat.is_lost else {"error": str(error)}
        finally:
            path.unlink(missing_ok=True)
        return {"profile": profile.to_json()}

    def _calibration(self) -> Mapping[str, Any] | None:
        """What the reference network takes here, kept in the folder; None if it cannot run."""
        try:
            return self._child.calibrate(self._own())
        except NasError as error:
            logger.warning("not calibrated: %s", error)
            return None

    def _facts(self) -> Mapping[str, Any]:
        """The device's; while it is not reached it is waited for, unregistered."""
        if not isinstance(self._child, Relay):
            return device_facts()
        for attempt in range(10**9):
            try:
                return self._child.facts()
            except NasError as error:
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempt, 10))
                logger.warning("the device is not reached (%s); again in %.1f s", error, wait)
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _own(self) -> dict[str, str]:
        """Settings of a profiler that are this device's to say."""
        here = str(self._settings.folder.absolute())
        kept = "." if isinstance(self._child, Relay) else here
        return {"runtime": self._settings.runtime, "calibrations": kept}


class _Beats:
    """Speaks to the server while a file is measured, as often as it must.

    What it cannot reach it does not wait for: measuring goes on while the link is cut.
    """

    def __init__(self, server: Connection, work: Mapping[str, Any], every: float) -> None:
        self.is_lost = False
        self._server = server
        self._work = work
        self._every = every
        self._next = time.monotonic()

    def goes_on(self) -> bool:
        """Whether the work is still wanted, as far as is known."""
        if time.monotonic() >= self._next and not self.is_lost:
            try:
                self.is_lost = not self._server.beat(self._work)
            except UnreachableError as error:
                logger.info("no answer to a heartbeat (%s)", error)
            except (ConflictError, NotFoundError, RefusedError) as error:
                logger.warning("%s", error)
            self._next = time.monotonic() + self._every
        return not self.is_lost


def _child(settings: AgentSettings) -> Isolated | Relay:
    """What runs files: a process here, or one on the device that is reached from here."""
    limits = settings.max_seconds, settings.max_bytes
    if settings.through is None:
        return Isolated(*limits)
    reach = Reach.of(settings.through, settings.remote_folder)
    return Relay(reach, *limits, settings.remote_python)


def _kept_instance(path: Path) -> str:
    """Who this agent is: the same after a restart, so that its own name is not refused to it."""
    if not path.is_file():
        path.write_text(secrets.token_hex(16))
        path.chmod(0o600)
    return path.read_text().strip()


def _locked(path: Path) -> Callable[[], None]:
    """Hold a lock for the life of this process; the result lets go of it.

    Raises:
        ConflictError: another process holds it.
    """
    file = path.open("a")
    try:
        import fcntl
    except ImportError:  # only POSIX has it
        return file.close
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConflictError(f"another agent runs in {path.parent}") from None
    return file.close
