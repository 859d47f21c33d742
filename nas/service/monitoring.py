"""Prometheus metrics of one server, each defined once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.core import JobQuery, JobState

if TYPE_CHECKING:
    from nas.service.context import Service

REGISTRY = CollectorRegistry()
REQUESTS = Histogram(
    "nas_request_seconds",
    "Time to the first byte of an answer",
    ["method", "route", "status"],
    registry=REGISTRY,
)
JOBS = Gauge("nas_jobs", "Jobs that are not final, by state", ["state"], registry=REGISTRY)
STARTS = Counter("nas_driver_starts", "Drivers started for jobs", registry=REGISTRY)
DEATHS = Counter("nas_driver_deaths", "Drivers that ended without a word", registry=REGISTRY)
COUNTED = (JobState.CREATED, JobState.RUNNING, JobState.PAUSED, JobState.FAILED)


def refresh(service: Service) -> None:
    """Bring the gauges up to date."""
    counts = dict.fromkeys(COUNTED, 0)
    for job in service.store.jobs(JobQuery(states=COUNTED)):
        counts[job.state] += 1
    for state, n in counts.items():
        JOBS.labels(state.value).set(n)


class Timed:
    """Times every request by its route."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = self._clock()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                labels = (scope["method"], route, str(message["status"]))
                REQUESTS.labels(*labels).observe(self._clock() - started)
            await send(message)

        await self._app(scope, receive, timed)
