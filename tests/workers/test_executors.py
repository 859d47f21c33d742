"""What every executor must do, in process and on Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nas.core import (
    Candidate,
    Evaluate,
    Evaluation,
    EvaluationError,
    Evaluator,
    Executor,
    Fidelity,
    InvalidInputError,
    Report,
    TrainShared,
    Trial,
    TrialState,
)
from workers.deployment import needing_space
from workers.executors import LocalExecutor, _run

Maker = Callable[[Evaluator], Executor]


@pytest.fixture(params=["local", "ray"])
def make(request: pytest.FixtureRequest) -> Maker:
    if request.param == "local":
        return LocalExecutor
    request.getfixturevalue("ray_cluster")
    from workers.executors.ray import RayExecutor

    return lambda evaluator: RayExecutor(evaluator, "test", cpus={}, max_retries=1)


def trial(number: int, fidelity: Fidelity = Fidelity.TRAINED) -> Trial:
    return Trial(number, Evaluate(Candidate({"n": number}, f"{number:016x}"), fidelity))


def finish(executor: Executor, n: int) -> list[Trial]:
    done: list[Trial] = []
    until = time.monotonic() + 60
    while len(done) < n and time.monotonic() < until:
        done.extend(executor.poll(1.0))
    return done


def evaluator(function: Callable[[int], dict[str, float]]) -> Evaluator:
    """An evaluator that Ray ships by value."""

    class Shipped(Evaluator):
        def evaluate(
            self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
        ) -> Evaluation:
            report("working")
            return Evaluation(function(int(candidate.values["n"])), {"a": 1}, {"onnx": "x"})

    return Shipped()


def test_every_trial_comes_back_once_with_its_result(make: Maker) -> None:
    with make(evaluator(lambda n: {"accuracy": n / 10})) as executor:
        done: list[Trial] = []
        for number in range(7):
            while executor.capacity() == 0:
                done.extend(executor.poll(1.0))
            executor.submit(trial(number))
        done += finish(executor, 7 - len(done))
        assert sorted(t.number for t in done) == list(range(7))
        assert all(t.metrics == {"accuracy": t.number / 10} for t in done)
        assert all(t.provenance == {"a": 1} and t.artifacts == {"onnx": "x"} for t in done)
        assert executor.poll(0.0) == []


def test_an_error_fails_the_trial_with_its_words(make: Maker) -> None:
    def broken(n: int) -> dict[str, float]:
        raise EvaluationError(f"layer {n} is broken")

    with make(evaluator(broken)) as executor:
        executor.submit(trial(3))
        (done,) = finish(executor, 1)
    assert done.state is TrialState.FAILED
    assert done.error == "EvaluationError: layer 3 is broken"


def test_metrics_that_are_not_finite_fail_the_trial(make: Maker) -> None:
    with make(evaluator(lambda n: {"accuracy": float("nan")})) as executor:
        executor.submit(trial(0))
        (done,) = finish(executor, 1)
    assert done.state is TrialState.FAILED
    assert "accuracy" in (done.error or "")


def test_shared_training_without_a_supernet_fails_clearly(make: Maker) -> None:
    with make(evaluator(lambda n: {})) as executor:
        executor.submit(Trial(0, TrainShared("darts", 1)))
        (done,) = finish(executor, 1)
    assert "trains no shared weights" in (done.error or "")


def test_a_cancelled_trial_does_not_come_back_and_closing_twice_is_fine(make: Maker) -> None:
    executor = make(evaluator(lambda n: {"accuracy": time.sleep(5) or 0.5}))
    executor.submit(trial(0))
    executor.cancel(0)
    assert executor.capacity() > 0
    assert executor.poll(0.1) == []
    executor.close()
    executor.close()


def test_a_limit_holds_from_now_on_and_is_lifted_again(make: Maker) -> None:
    with make(evaluator(lambda n: {"accuracy": 0.5})) as executor:
        most = executor.capacity()
        for n, left in ((0, 0), (1, 1), (100, most), (0, 0), (None, most)):
            executor.limit(n)
            assert executor.capacity() == left
        executor.submit(trial(0))
        executor.limit(0)
        assert executor.capacity() == 0
        assert [t.number for t in finish(executor, 1)] == [0]
        assert executor.capacity() == 0


def test_a_worker_killed_once_is_retried(ray_cluster: None, tmp_path: Path) -> None:
    from workers.executors.ray import RayExecutor

    marker = tmp_path / "killed"

    def dies_once(n: int) -> dict[str, float]:
        if not marker.exists():
            marker.write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return {"accuracy": 0.5}

    with RayExecutor(evaluator(dies_once), "test", max_retries=1) as executor:
        executor.submit(trial(0))
        (done,) = finish(executor, 1)
    assert done.state is TrialState.COMPLETED
    assert marker.exists()


def test_a_worker_that_always_dies_is_a_failed_trial(ray_cluster: None) -> None:
    from workers.executors.ray import RayExecutor

    def dies(n: int) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    with RayExecutor(evaluator(dies), "test", max_retries=1) as executor:
        executor.submit(trial(0))
        (done,) = finish(executor, 1)
    assert done.state is TrialState.FAILED
    assert "WorkerLostError: the worker died 2 times" in (done.error or "")


def test_cpus_no_machine_has_are_refused_at_once(ray_cluster: None) -> None:
    from workers.executors.ray import RayExecutor

    with pytest.raises(InvalidInputError, match="CPUs for deployed: 64"):
        RayExecutor(evaluator(lambda n: {}), "test", cpus={Fidelity.DEPLOYED: 64})


def test_an_unreachable_cluster_is_one_sentence() -> None:
    from workers.executors.ray import ClusterError, _require_listening

    with pytest.raises(ClusterError, match=r"could not reach the Ray cluster at 127\.0\.0\.1:1"):
        _require_listening("127.0.0.1:1")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 9 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=9m", "none", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@dataclass(frozen=True)
class Writing(Evaluator):
    """Writes a file of 4 MiB."""

    folder: Path

    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        with needing_space(self.folder):
            (self.folder / "out").write_bytes(bytes(4 * 2**20))
        return Evaluation({"accuracy": 1.0})


def test_a_full_disk_is_waited_for(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_run, "SPACE_SECONDS", 0.05)
    blocker = small_disk / "blocker"
    blocker.write_bytes(bytes(8 * 2**20))
    freed = threading.Timer(0.5, blocker.unlink)
    freed.start()
    done = _run.run_trial(trial(0), Writing(small_disk))
    assert done.state is TrialState.COMPLETED
    assert done.seconds >= 0.4
    freed.join()


def test_an_error_with_space_left_is_a_failure(tmp_path: Path) -> None:
    done = _run.run_trial(trial(0), Writing(tmp_path / "missing"))
    assert (done.error or "").startswith("FileNotFoundError")
