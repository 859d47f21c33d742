"""Evaluators that wait for devices: measured, predicted, refused, several at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.core import (
    DeviceStore,
    EvaluationError,
    LatencyQuantiles,
    NotFoundError,
    Profile,
    StoreError,
    Work,
)
from nas.core.device import Estimate
from nas.stores import open_store
from predictors.latency import MIN_LESSONS, estimate
from workers.absent import KNOWN
from workers.files import FILE_BYTES, NODES
from workers.remote import RemoteDevices

FEATURES = {"macs": 1e6, "latency_ratio@cpu": 2.0}


def profile(milliseconds: float) -> Profile:
    quantiles = LatencyQuantiles(milliseconds, milliseconds, milliseconds, milliseconds)
    pair = (milliseconds, milliseconds)
    return Profile(quantiles, pair, 2.0, (2.0, 2.0), 30, 0.1, 1.0, 4096, None, {"threads": 1})


def guess(lessons: object, features: object) -> Estimate | None:
    return Estimate(7.0, 0.5, 0.04, len(lessons)) if lessons else None  # type: ignore[arg-type]


class Bench:
    """A store with devices, and agents of a few lines."""

    def __init__(self, tmp_path: Path, *names: str) -> None:
        self.store = open_store("memory").devices()
        self.said: list[str] = []
        self.file = tmp_path / "model.onnx"
        self.file.write_bytes(b"model")
        for name in names:
            self.store.register(name, "one", "lab", {}, 60)
        self.devices = RemoteDevices(
            names, lambda: self.store, tmp_path / "files", "job", guess, patience=0.2
        )

    def measure(self, devices: RemoteDevices | None = None) -> dict[str, object]:
        found = (devices or self.devices).measure(self.file, "key", 50, FEATURES, self.said.append)
        return {"metrics": found.metrics, "provenance": found.provenance}

    def answer(self, name: str, report: Callable[[DeviceStore, Work], object]) -> threading.Thread:
        def serve() -> None:
            while (work := self.store.claim(name, "one", 60)) is None:
                time.sleep(0.01)
            report(self.store, work)

        thread = threading.Thread(target=serve)
        thread.start()
        return thread


def done(milliseconds: float) -> Callable[[DeviceStore, Work], object]:
    body = profile(milliseconds).to_json()
    return lambda store, work: store.report(work.work_id, work.claim or "", body)


def test_several_devices_measure_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "pi", "phone")
    threads = [bench.answer("phone", done(3.0)), bench.answer("pi", done(12.0))]
    found = bench.measure()
    for thread in threads:
        thread.join()
    metrics, provenance = found["metrics"], found["provenance"]
    assert metrics["latency_ms@pi"] == 12.0 and metrics["latency_ms@phone"] == 3.0  # type: ignore[index]
    assert metrics["peak_memory_bytes@pi"] == 4096  # type: ignore[index]
    assert "energy_mj@pi" not in metrics  # type: ignore[operator]
    about = provenance["latency_ms@pi"]  # type: ignore[index]
    assert (about["kind"], about["conditions"]["device"]) == ("measured", "pi")
    (file,) = (tmp_path / "files").iterdir()
    assert file.read_bytes() == b"model"
    assert bench.measure()["metrics"] == metrics  # the same file of the same job: nothing new
    assert len(bench.store.works()) == 2


def test_a_device_that_is_gone_is_predicted_from_what_it_measured(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "pi")
    thread = bench.answer("pi", done(12.0))
    bench.measure()
    thread.join()
    bench.store.beat("pi", "one", -60.0)
    bench.file.write_bytes(b"another")
    found = bench.measure()
    assert found["metrics"] == {"latency_ms@pi": 7.0}
    about = found["provenance"]["latency_ms@pi"]  # type: ignore[index]
    assert (about["kind"], about["n_measured"], about["error"]) == ("predicted", 1, 0.04)
    assert any("offline, predicted: latency_ms" in line for line in bench.said)


def test_every_metric_of_the_goals_is_predicted_memory_by_the_file(tmp_path: Path) -> None:
    """Latency goes by what is computed, memory by the file, and each is exactly linear here."""
    bench = Bench(tmp_path, "pi")
    goals = ("accuracy", "peak_memory_bytes@pi", "energy_mj@other")
    devices = replace(bench.devices, goals=goals, estimator=estimate)
    rng = np.random.default_rng(0)

    def of(i: int) -> tuple[dict[str, float], float, int]:
        ratio, n_bytes, n_nodes = (
            rng.uniform(1, 9),
            rng.integers(10**5, 10**6),
            rng.integers(20, 90),
        )
        bench.file.write_bytes(b"model %d" % i)
        features = {"macs": rng.uniform(1e5, 1e7), KNOWN: ratio}
        features |= {FILE_BYTES: float(n_bytes), NODES: float(n_nodes)}
        return features, 3.0 * ratio, int(10**7 + 2 * n_bytes + 10**4 * n_nodes)

    for i in range(MIN_LESSONS):
        features, ms, memory = of(i)
        told = replace(profile(ms), peak_memory_bytes=memory).to_json()
        thread = bench.answer(
            "pi", lambda store, work, told=told: store.report(work.work_id, work.claim or "", told)
        )
        devices.measure(bench.file, f"key {i}", 50, features, bench.said.append)
        thread.join()
    bench.store.beat("pi", "one", -60.0)
    features, ms, memory = of(99)
    found = devices.measure(bench.file, "key", 50, features, bench.said.append)
    assert set(found.metrics) == {"latency_ms@pi", "peak_memory_bytes@pi"}
    assert found.metrics["peak_memory_bytes@pi"] == pytest.approx(memory, rel=1e-3)
    assert found.metrics["latency_ms@pi"] == pytest.approx(ms, rel=0.2)
    about = found.provenance["peak_memory_bytes@pi"]
    assert (about["kind"], about["n_measured"]) == ("predicted", MIN_LESSONS)
    assert about["error"] < 0.01 and about != found.provenance["latency_ms@pi"]
    assert "device pi is offline, predicted: latency_ms, peak_memory_bytes" in bench.said


def test_a_metric_that_cannot_be_predicted_is_waited_for_or_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "pi")
    devices = replace(bench.devices, goals=("energy_mj@pi",))
    thread = bench.answer("pi", done(12.0))
    with pytest.raises(EvaluationError, match="on pi: the device does not tell energy_mj"):
        devices.measure(bench.file, "key", 50, FEATURES, bench.said.append)
    thread.join()
    bench.store.beat("pi", "one", -60.0)
    bench.file.write_bytes(b"another")

    def come_back() -> None:
        while not any("too few to predict energy_mj" in line for line in bench.said):
            time.sleep(0.01)
        bench.store.beat("pi", "one", 60.0)
        told = replace(profile(12.0), energy_mj=0.5).to_json()
        bench.answer(
            "pi", lambda store, work: store.report(work.work_id, work.claim or "", told)
        ).join()

    thread = threading.Thread(target=come_back)
    thread.start()
    found = devices.measure(bench.file, "key", 50, FEATURES, bench.said.append)
    thread.join()
    assert found.metrics["energy_mj@pi"] == 0.5


def test_without_measurements_a_device_is_waited_for_and_that_is_said(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "pi")
    bench.store.beat("pi", "one", -60.0)

    def come_back() -> None:
        while not any("waiting for it" in line and "too few" in line for line in bench.said):
            time.sleep(0.01)
        bench.store.beat("pi", "one", 60.0)
        bench.answer("pi", done(9.0)).join()

    thread = threading.Thread(target=come_back)
    thread.start()
    assert bench.measure()["metrics"]["latency_ms@pi"] == 9.0  # type: ignore[index]
    thread.join()


def test_what_a_device_cannot_run_is_the_trials_error(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "pi")
    thread = bench.answer(
        "pi", lambda store, work: store.report(work.work_id, work.claim or "", error="no memory")
    )
    with pytest.raises(EvaluationError, match="on pi: no memory"):
        bench.measure()
    thread.join()
    unknown = RemoteDevices(("none",), lambda: bench.store, tmp_path / "files", "job", guess)
    with pytest.raises(EvaluationError, match="never registered"):
        bench.measure(unknown)


def test_work_that_is_cancelled_ends_the_wait(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "pi")
    thread = bench.answer("pi", lambda store, work: store.cancel(work.work_id))
    with pytest.raises(EvaluationError, match="on pi: cancelled"):
        bench.measure()
    thread.join()


def test_a_database_that_is_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, "pi")
    real, failures = bench.store.work, [StoreError("gone"), StoreError("gone")]

    def flaky(work_id: str) -> Work:
        if failures and threading.current_thread() is threading.main_thread():
            raise failures.pop()
        return real(work_id)

    monkeypatch.setattr(bench.store, "work", flaky)
    thread = bench.answer("pi", done(5.0))
    assert bench.measure()["metrics"]["latency_ms@pi"] == 5.0  # type: ignore[index]
    thread.join()
    with pytest.raises(NotFoundError):
        bench.store.device("none")
