"""The server as an agent sees it: requests that are repeated until they are answered."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from nas.core import ConflictError, NasError, NotFoundError

Result = TypeVar("Result")
logger = logging.getLogger(__name__)

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 20.0


class RefusedError(NasError):
    """The server does not let this agent in: token or name."""


class UnreachableError(NasError):
    """No answer, or one that says that the server cannot answer now."""


class Connection:
    """Speaks for one device to one server.

    Args:
        server: its URL.
        name: of the device.
        instance: of this agent.
        token: of role device; None where the server needs none.
    """

    def __init__(self, server: str, name: str, instance: str, token: str | None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=f"{server.rstrip('/')}/v1",
            headers=headers,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        )
        self._name = name
        self._instance = instance

    def register(self, facts: Mapping[str, Any]) -> float:
        """Speak for the device; gives the seconds after which silence counts as death.

        Raises:
            RefusedError: another device of this name is live, or the token is not good.
            UnreachableError: no answer.
        """
        try:
            answer = self._post(f"/devices/{self._name}/register", facts=dict(facts))
        except ConflictError as error:
            raise RefusedError(str(error)) from None
        return float(answer["live_seconds"])

    def beat(self, work: Mapping[str, Any]) -> bool:
        """Stay live while measuring; whether the work is still this agent's."""
        answer = self._post(f"/devices/{self._name}/heartbeat", holding=[work["work_id"]])
        return work["work_id"] in answer["held"]

    def claim(self, wait: float) -> Mapping[str, Any] | None:
        """The next piece of work, waited for at most `wait` seconds."""
        answer = self._post(f"/devices/{self._name}/claim", wait=wait, patience=wait)
        work: Mapping[str, Any] | None = answer["work"]
        return work

    def fetch(self, work: Mapping[str, Any], path: Path) -> bool:
        """Write the work's file to `path`; whether its SHA-256 is the one promised."""
        found = hashlib.sha256()
        where, claim = f"/device-work/{work['work_id']}/file", {"X-Claim": work["claim"]}
        try:
            with self._http.stream("GET", where, headers=claim) as answer:
                if answer.status_code != 200:
                    answer.read()
                    _raise_for(answer)
                with path.open("wb") as file:
                    for chunk in answer.iter_bytes():
                        found.update(chunk)
                        file.write(chunk)
        except httpx.TransportError as error:
            raise UnreachableError(str(error)) from error
        return found.hexdigest() == work["digest"]

    def report(self, work: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Sign work off; `result` has `profile` or `error`.

        Raises:
            ConflictError: it is no longer this agent's.
            NotFoundError: it is gone.
            UnreachableError: no answer.
        """
        self._post(f"/device-work/{work['work_id']}/report", claim=work["claim"], **result)

    def close(self) -> None:
        """End connections."""
        self._http.close()

    def _post(self, path: str, patience: float = 0.0, **body: Any) -> Any:
        limits = httpx.Timeout(ANSWER_SECONDS + patience, connect=CONNECT_SECONDS)
        try:
            answer = self._http.post(
                path, json={"instance": self._instance, **body}, timeout=limits
            )
        except httpx.TransportError as error:
            raise UnreachableError(str(error)) from error
        _raise_for(answer)
        return answer.json()


def stubbornly(call: Callable[[], Result]) -> Result:
    """Repeat `call` until the server answers, with waits that grow to half a minute."""
    for attempt in range(10**9):
        try:
            return call()
        except UnreachableError as error:
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempt, 10)) * random.uniform(0.5, 1)
            logger.info("no answer (%s); again in %.1f s", error, wait)
            time.sleep(wait)
    raise AssertionError("unreachable")


def _raise_for(answer: httpx.Response) -> None:
    if answer.status_code < 400:
        return
    try:
        message = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"status {answer.status_code}"
    match answer.status_code:
        case 401 | 403 | 422:
            raise RefusedError(message)
        case 404:
            raise NotFoundError("there", message)
        case 409:
            raise ConflictError(message)
        case _:
            raise UnreachableError(message)
