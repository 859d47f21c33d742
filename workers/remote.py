"""Files timed on devices that have an agent: queued in the store, waited for, or predicted."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.core import (
    Device,
    DeviceStore,
    EvaluationError,
    NotFoundError,
    Profile,
    Report,
    StoreError,
    Work,
    WorkState,
)
from nas.core.device import Estimate, Estimator, Features
from nas.core.goals import metric_and_device, on_device
from workers.absent import LATENCY, TABLE, by_table, estimates
from workers.tables import LayerTable
from workers.writing import written_whole

DEVICE_METRICS = ("latency_ms", "latency_ratio", "load_ms", "peak_memory_bytes", "energy_mj")
"""What a device tells; as a metric of a job each is followed by `@` and the device's name."""

FIRST_LOOK, LONGEST_LOOK = 0.1, 1.0
SAY_AGAIN_SECONDS = 60.0
PATIENCE_SECONDS = 30.0
"""That a device may be silent, after it counts as gone, before nobody waits for it."""
MOST_LESSONS = 500


@dataclass(frozen=True)
class Figures:
    """Metrics of a file on devices, and where each comes from."""

    metrics: Mapping[str, float]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class RemoteDevices:
    """The devices of a job that have agents.

    Attributes:
        names: of the devices.
        store: opens where their work is queued; called in whichever process evaluates.
        files: where the server finds what is to be timed; every worker must see it.
        job_id: of the job.
        estimator: predicts for devices that are gone.
        patience: seconds a device may be silent, after it counts as gone, before predictions
            take its place.
        home: of the workspace, where devices may have tables of layers; None for none.
        goals: metrics, with their devices after the `@`, that no evaluation may lack: measured or,
            where the device is gone, predicted.
    """

    names: tuple[str, ...]
    store: Callable[[], DeviceStore]
    files: Path
    job_id: str
    estimator: Estimator
    patience: float = PATIENCE_SECONDS
    home: Path | None = None
    goals: tuple[str, ...] = ()

    def measure(
        self, path: Path, key: str, n_runs: int, features: Features, report: Report
    ) -> Figures:
        """Queue the file for every device at once, and wait for all.

        A device that is gone is waited for only until `patience` ends and a prediction is possible.

        Args:
            path: the exported file.
            key: of the candidate.
            n_runs: timed runs, at most.
            features: what predictions go by.
            report: is told of devices that are gone.

        Raises:
            EvaluationError: a device could not load or run the file, does not tell a metric of
                the goals, or its work was cancelled.
        """
        if not self.names:
            return Figures({}, {})
        store = self.store()
        try:
            sums = self._table_sums(store, path)
            features = {**features, **{on_device(TABLE, name): e.value for name, e in sums.items()}}
            about = {"candidate": key, "features": features}
            open_work = self._queued(store, published(path, self.files), {"n_runs": n_runs}, about)
        except NotFoundError as error:
            reason = "its agent never registered, and no table of that name is imported"
            raise EvaluationError(f"{error}: {reason}") from None
        return self._awaited(store, open_work, features, sums, report)

    def _awaited(
        self,
        store: DeviceStore,
        open_work: dict[str, str],
        features: Features,
        sums: Mapping[str, Estimate],
        report: Report,
    ) -> Figures:
        """What becomes of the work on all devices; `open_work` are its ids by device."""
        metrics: dict[str, float] = {}
        provenance: dict[str, Any] = {}
        patient = {name: _Patience(name, self.patience, report) for name in open_work}
        for _ in _looks():
            for name, work_id in list(open_work.items()):
                found = self._looked_at(store, work_id, features, sums.get(name), patient[name])
                if found is not None:
                    metrics |= found.metrics
                    provenance |= found.provenance
                    del open_work[name]
            if not open_work:
                break
        return Figures(metrics, provenance)

    def _queued(
        self,
        store: DeviceStore,
        digest: str,
        settings: Mapping[str, Any],
        about: Mapping[str, Any],
    ) -> dict[str, str]:
        """Ids of the work, by device."""
        return {
            name: store.submit(name, digest, settings, self.job_id, about).work_id
            for name in self.names
        }

    def _table_sums(self, store: DeviceStore, path: Path) -> dict[str, Estimate]:
        """What the tables of devices tell of a file, of those that have one for their runtime."""
        if self.home is None:
            return {}
        found = {}
        for name in self.names:
            table = LayerTable.read(self.home, name, store.device(name).runtime)
            if table is not None and table.error is not None:
                found[name] = by_table(table, path)
        return found

    def _needed(self, name: str) -> tuple[str, ...]:
        """Metrics of a device that are predicted while it is gone."""
        named = [metric_and_device(metric) for metric in self.goals]
        return (LATENCY, *(m for m, of in named if of == name and m != LATENCY))

    def _looked_at(
        self,
        store: DeviceStore,
        work_id: str,
        features: Features,
        table_sum: Estimate | None,
        patience: _Patience,
    ) -> Figures | None:
        """What is known of a device's work; None while it, or the database, is waited for."""
        try:
            return self._settled(store, store.work(work_id), features, table_sum, patience)
        except StoreError as error:
            patience.say(f"not asked: {error}")
            return None

    def _settled(
        self,
        store: DeviceStore,
        work: Work,
        features: Features,
        table_sum: Estimate | None,
        patience: _Patience,
    ) -> Figures | None:
        needed = self._needed(work.device)
        if work.state is WorkState.DONE and (profile := work.measured) is not None:
            return _measured(work, profile, needed)
        if not work.state.is_open:
            raise EvaluationError(f"on {work.device}: {work.error or work.state}")
        device = store.device(work.device)
        if not patience.is_over(device):
            return None
        done = store.works(work.device, self.job_id, (WorkState.DONE,), MOST_LESSONS)
        found = estimates(needed, self.estimator, done, features, table_sum)
        lacking = [metric for metric in needed if metric not in found]
        if lacking:
            few = f"its measurements, {len(done)} in all, are too few to predict {lacking[0]} from"
            patience.say(f"offline, and {few}: waiting for it")
            return None
        patience.say(f"offline, predicted: {', '.join(found)}")
        return _predicted(device, found)


def published(path: Path, files: Path) -> str:
    """Put a file into `files`, where the server finds it; its SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target = files / f"{digest}.onnx"
    if not target.is_file():
        with written_whole(target) as temporary:
            shutil.copyfile(path, temporary)
    return digest


def timed_elsewhere(
    store: DeviceStore,
    files: Path,
    device: str,
    paths: Sequence[Path],
    settings: Mapping[str, Any],
) -> Generator[Profile, None, None]:
    """Queue files for one device at once, and give what it measures, in their order.

    Closing the generator early cancels what is still queued.

    Args:
        store: where the work is queued.
        files: where the server finds what is to be timed.
        device: its name.
        paths: of the files.
        settings: of the profiler.

    Raises:
        NotFoundError: no such device.
        EvaluationError: it cannot run a file, or is gone for too long.
    """
    queued: list[Work] = []
    try:
        for path in paths:
            queued.append(store.submit(device, published(path, files), settings))
        for work in queued:
            yield _done(store, work)
    finally:
        for work in queued:
            store.cancel(work.work_id)


def _done(store: DeviceStore, work: Work) -> Profile:
    """What a device measured; waits for it, where it is gone for as long as `PATIENCE_SECONDS`."""
    for _ in _looks():
        found = store.work(work.work_id)
        if not found.state.is_open:
            break
        silent = time.time() - store.device(work.device).live_until
        if silent > PATIENCE_SECONDS:
            raise EvaluationError(f"device {work.device} is gone for {silent:.0f} s")
    if (profile := found.measured) is None:
        raise EvaluationError(f"on {work.device}: {found.error or found.state}")
    return profile


def _looks() -> Iterator[None]:
    """Once for every look at what is waited for, with ever longer rests between them."""
    rest = FIRST_LOOK
    while True:
        yield
        time.sleep(rest)
        rest = min(LONGEST_LOOK, rest * 1.5)


class _Patience:
    """How long one device has been gone, and when that was last said."""

    def __init__(self, name: str, seconds: float, report: Report) -> None:
        self._name = name
        self._seconds = seconds
        self._report = report
        self._said: dict[str, float] = {}

    def is_over(self, device: Device) -> bool:
        """Whether the device has been gone for longer than it is waited for."""
        now = time.time()
        if device.is_live(now):
            self._said.clear()
            return False
        if now - device.live_until < self._seconds:
            self.say("offline: waiting for it")
            return False
        return True

    def say(self, line: str) -> None:
        """Report a line, and again only after a minute."""
        now = time.monotonic()
        if now - self._said.get(line, -SAY_AGAIN_SECONDS) >= SAY_AGAIN_SECONDS:
            self._said[line] = now
            self._report(f"device {self._name} is {line}")


def _measured(work: Work, profile: Profile, needed: Sequence[str]) -> Figures:
    found = {m: v for m, v in profile.metrics.items() if m in DEVICE_METRICS}
    for metric in needed:
        if metric not in found:
            raise EvaluationError(f"on {work.device}: the device does not tell {metric}")
    where = {
        **profile.source(f"exported ONNX file on {work.device}, batch 1"),
        "conditions": {**profile.conditions, "device": work.device},
    }
    names = {metric: on_device(metric, work.device) for metric in found}
    return Figures(
        {names[metric]: value for metric, value in found.items()},
        dict.fromkeys(names.values(), where),
    )


def _predicted(device: Device, found: Mapping[str, Estimate]) -> Figures:
    names = {metric: on_device(metric, device.name) for metric in found}
    provenance = {
        names[metric]: {
            "kind": "predicted",
            "on": f"{device.name}, which is offline, from {estimate.source}",
            "std": estimate.std,
            "error": estimate.error,
            "n_measured": estimate.n_measured,
            "last_seen": device.last_seen,
        }
        for metric, estimate in found.items()
    }
    return Figures({names[metric]: e.value for metric, e in found.items()}, provenance)
