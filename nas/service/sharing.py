"""What many ask for at once: worked out, written and compressed by one of them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse

Value = TypeVar("Value")
MOST_VALUES = 48
LEVEL = 6
"""Of compression; more costs time and gains little."""
WORTH_PACKING = 500
"""Bytes below which compressing an answer gains nothing."""


@dataclass
class Shared:
    """Keeps the values asked for last; safe for threads, which wait for one another's work."""

    most: int = MOST_VALUES
    _values: dict[Hashable, Future[Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """What `make` gave for `key`, called only where nobody did or does so already.

        An error is raised for all who wait, and not kept.
        """
        with self._lock:
            found = self._values.pop(key, None)
            is_new = found is None
            kept = self._values[key] = Future() if found is None else found
            if len(self._values) > self.most:
                del self._values[next(iter(self._values))]
        if is_new:
            self._fill(key, kept, make)
        value: Value = kept.result()
        return value

    def _fill(self, key: Hashable, kept: Future[Any], make: Callable[[], Value]) -> None:
        try:
            kept.set_result(make())
        except BaseException as error:
            with self._lock:
                if self._values.get(key) is kept:
                    del self._values[key]
            kept.set_exception(error)


@dataclass(frozen=True)
class Answer:
    """A body written once, and compressed at most once, for everyone who asks for it."""

    body: bytes
    media_type: str = "application/json"

    @classmethod
    def of(cls, content: Any) -> Answer:
        """`content` as JSON."""
        return cls(bytes(JSONResponse(content).body))

    @cached_property
    def packed(self) -> bytes:
        """The same, compressed."""
        return gzip.compress(self.body, LEVEL, mtime=0)

    def to(self, request: Request, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
        """The response to a request, compressed where its sender can read that."""
        told = {**headers, "Vary": "Accept-Encoding"}
        body = self.body
        if len(body) >= WORTH_PACKING and "gzip" in request.headers.get("accept-encoding", ""):
            told["Content-Encoding"], body = "gzip", self.packed
        return Response(body, media_type=self.media_type, headers=told)
