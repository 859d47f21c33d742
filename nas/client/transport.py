"""The transport: one request, a page after another, a stream of events; errors as raised there."""

from __future__ import annotations

import json
import random
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx

from nas.core import ConflictError, InvalidInputError, NasError, NotFoundError

SAFE = {"GET", "HEAD", "PUT", "DELETE"}
AGAIN = {429, 502, 503, 504}
TRIES = 6
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
TIMEOUT = httpx.Timeout(10.0, read=120.0)
STREAM_TIMEOUT = 60.0
PAGE = 500


class ServerError(NasError, RuntimeError):
    """The server cannot be reached, or answered with something that is not ours to mend."""


class AccessError(NasError, PermissionError):
    """The token is missing or not valid, or its owner may not do this."""


class Transport:
    """A server's `/v1`.

    Args:
        url: `http://host:8470`.
        token: from `nas token create`, if the server asks for one.
        verify: False accepts any TLS certificate; a path is a certificate authority's.
        cache: folder of what was fetched.

    Raises:
        InvalidInputError: not a URL.
    """

    def __init__(self, url: str, token: str | None, verify: bool | str, cache: Path) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInputError("server", url, "http://host:port or https://host:port")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self.cache = cache
        self._http = httpx.Client(
            base_url=f"{self.url}/v1", headers=headers, timeout=TIMEOUT, verify=_context(verify)
        )

    def close(self) -> None:
        """End connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a resource."""
        return self.request("GET", path, params=query).json()

    def pages(
        self, path: str, query: Mapping[str, Any], limit: int | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """Items of a list, at most `limit`, fetched page by page."""
        left, after = limit, None
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self.get(path, **query, limit=size, **({"after": after} if after else {}))
            yield from page["items"]
            after, left = page["next"], None if left is None else left - len(page["items"])
            if after is None:
                return

    def request(
        self,
        method: str,
        path: str,
        *,
        retry: bool = False,
        file: Path | None = None,
        **options: Any,
    ) -> httpx.Response:
        """One request; what is safe to repeat is repeated with growing, random waits.

        Where a deletion is repeated, finding nothing any more is its success: the answer to an
        earlier try was lost.

        Args:
            method: of HTTP.
            path: below `/v1`.
            retry: repeating a `POST` does no harm.
            file: the body, read from its beginning at every attempt.
            options: of `httpx.Client.request`.

        Raises:
            NasError: the error the server answered with, as it was raised there.
            ServerError: no answer.
        """
        tries = TRIES if retry or method in SAFE else 1
        for attempt in range(tries):
            if attempt:
                time.sleep(pause(attempt))
            last = attempt == tries - 1
            try:
                with file.open("rb") if file is not None else nullcontext() as content:
                    answer = self._http.request(method, path, content=content, **options)
            except httpx.TransportError as error:
                if last:
                    raise ServerError(f"no answer from {self.url}: {error}") from error
                continue
            if answer.status_code in AGAIN and not last:
                continue
            if not (attempt and method == "DELETE" and answer.status_code == 404):
                _raise_for(answer)
            return answer
        raise AssertionError("unreachable")

    def messages(self, path: str, after: int) -> Iterator[tuple[str, Any]]:
        """Kind and body of one connection's server-sent events past number `after`.

        Raises:
            httpx.TransportError: the connection broke.
            NasError: the error the server answered with.
        """
        options: dict[str, Any] = {"params": {"after": after}, "timeout": STREAM_TIMEOUT}
        with self._http.stream("GET", path, **options) as answer:
            if answer.status_code != 200:
                answer.read()
                _raise_for(answer)
            yield from _messages(answer.iter_lines())


def _context(verify: bool | str) -> Any:
    if not isinstance(verify, str):
        return verify
    return ssl.create_default_context(cafile=verify)


def pause(attempt: int) -> float:
    """Seconds to wait before trying again, growing and random."""
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
