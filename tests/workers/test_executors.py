"""What every executor must do, in process and on Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.core import (
    Candidate,
    ClusterLostError,
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
from tests.service.processes import is_there
from workers.executors import LocalExecutor, _run
from workers.executors.processes import ProcessExecutor
from workers.machine import usable_cpus
from workers.writing import needing_space

Maker = Callable[[Evaluator], Executor]


def processes(evaluator: Evaluator) -> Executor:
    return ProcessExecutor(evaluator, 2, max_retries=1)


@pytest.fixture(params=["local", "processes", "ray"])
def make(request: pytest.FixtureRequest) -> Maker:
    if request.param != "ray":
        return LocalExecutor if request.param == "local" else processes
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


@pytest.fixture(params=["processes", "ray"])
def make_workers(request: pytest.FixtureRequest) -> Maker:
    """Of executors whose workers may die."""
    if request.param == "processes":
        return processes
    request.getfixturevalue("ray_cluster")
    from workers.executors.ray import RayExecutor

    return lambda evaluator: RayExecutor(evaluator, "test", max_retries=1)


def test_a_worker_killed_once_is_retried(make_workers: Maker, tmp_path: Path) -> None:
    marker = tmp_path / "killed"

    def dies_once(n: int) -> dict[str, float]:
        if not marker.exists():
            marker.write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return {"accuracy": 0.5}

    with make_workers(evaluator(dies_once)) as executor:
        executor.submit(trial(0))
        (done,) = finish(executor, 1)
    assert done.state is TrialState.COMPLETED
    assert marker.exists()


def test_a_worker_that_always_dies_is_a_failed_trial(make_workers: Maker) -> None:
    def dies(n: int) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    with make_workers(evaluator(dies)) as executor:
        executor.submit(trial(0))
        (done,) = finish(executor, 1)
    assert done.state is TrialState.FAILED
    assert "WorkerLostError: the worker died 2 times" in (done.error or "")


def test_trials_of_processes_overlap_and_finalists_run_alone(tmp_path: Path) -> None:
    def spell(n: int) -> dict[str, float]:
        begun = time.monotonic()
        time.sleep(0.4)
        return {"begun": begun, "ended": time.monotonic(), "process": float(os.getpid())}

    numbers = {0: Fidelity.TRAINED, 1: Fidelity.TRAINED, 2: Fidelity.DEPLOYED, 3: Fidelity.TRAINED}
    with ProcessExecutor(evaluator(spell), 4) as executor:
        for number, fidelity in numbers.items():
            executor.submit(trial(number, fidelity))
        assert executor.capacity() == 0
        done = {t.number: t.metrics for t in finish(executor, 4)}
    assert done[0]["process"] != done[1]["process"]
    assert max(done[0]["begun"], done[1]["begun"]) < min(done[0]["ended"], done[1]["ended"])
    assert done[2]["begun"] >= max(done[0]["ended"], done[1]["ended"])
    assert done[3]["begun"] >= done[2]["ended"], "nothing overtakes, nothing runs beside"


def test_a_trial_has_one_thread_however_many_run() -> None:
    def threads(n: int) -> dict[str, float]:
        return {"threads": float(torch.get_num_threads()), "cpus": float(usable_cpus())}

    with ProcessExecutor(evaluator(threads), 2) as executor:
        for number in range(2):
            executor.submit(trial(number))
        done = finish(executor, 2)
    assert [t.metrics["threads"] for t in done] == [1.0, 1.0]
    assert all(t.metrics["cpus"] == usable_cpus() for t in done), "and may use every processor"


def test_processes_end_when_they_are_too_many_or_their_parent_dies(tmp_path: Path) -> None:
    with ProcessExecutor(evaluator(lambda n: {"process": float(os.getpid())}), 2) as executor:
        executor.submit(trial(0))
        executor.submit(trial(1))
        pids = {int(t.metrics["process"]) for t in finish(executor, 2)}
        assert len(pids) == 2
        executor.limit(1)
        assert sum(map(is_there, pids)) == 1
    assert not any(map(is_there, pids))
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_there(child)
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 20
    while is_there(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_there(child)


PARENT = """
import os, time
from nas.core import Candidate, Evaluate, Evaluation, Evaluator, Fidelity, Trial
from workers.executors.processes import ProcessExecutor

class Sleeping(Evaluator):
    def evaluate(self, candidate, fidelity, report, effort=1.0):
        time.sleep(600)

executor = ProcessExecutor(Sleeping(), 1)
executor.submit(Trial(0, Evaluate(Candidate({"n": 0}, "0" * 16), Fidelity.TRAINED)))
print(executor._workers[0].process.pid, flush=True)
executor.poll(600)
"""


def test_cpus_no_machine_has_are_refused_at_once(ray_cluster: None) -> None:
    from workers.executors.ray import RayExecutor

    with pytest.raises(InvalidInputError, match="CPUs for deployed: 64"):
        RayExecutor(evaluator(lambda n: {}), "test", cpus={Fidelity.DEPLOYED: 64})


def test_an_unreachable_cluster_is_one_sentence() -> None:
    from workers.executors.ray import ClusterError, _require_listening

    with pytest.raises(ClusterError, match=r"could not reach the Ray cluster at 127\.0\.0\.1:1"):
        _require_listening("127.0.0.1:1")


def test_a_cluster_that_is_gone_is_given_up_and_a_short_cut_is_not(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.executors import ray as module

    now, gone = [0.0], set[int]()
    pulse = module.Pulse(clock=lambda: now[0])
    real = module._connect
    places = [port for _, _, port in pulse._places]
    assert len(places) == 2, "the head and this process's node"

    def connect(host: str, port: int) -> None:
        if port in gone:
            raise ConnectionRefusedError("refused")
        real(host, port)

    monkeypatch.setattr(module, "_connect", connect)
    for port in places:
        gone.add(port)
        for _ in range(2):
            now[0] += module.LOST_SECONDS / 2 - 1
            pulse.check()
        gone.clear()
        now[0] += module.PULSE_SECONDS
        pulse.check()
        gone.add(port)
        now[0] += module.LOST_SECONDS - 1
        pulse.check()
        now[0] += module.PULSE_SECONDS
        with pytest.raises(ClusterLostError, match=str(port)):
            pulse.check()
        gone.clear()
        pulse.check()
        now[0] += module.PULSE_SECONDS
        pulse.check()


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
    tries = []

    class Patient(Writing):
        """Finds space at the third try."""

        def evaluate(self, *task: Any) -> Evaluation:
            tries.append(blocker.exists())
            if len(tries) == 3:
                blocker.unlink()
            return super().evaluate(*task)

    done = _run.run_trial(trial(0), Patient(small_disk))
    assert done.state is TrialState.COMPLETED
    assert tries == [True] * 3


def test_an_error_with_space_left_is_a_failure(tmp_path: Path) -> None:
    done = _run.run_trial(trial(0), Writing(tmp_path / "missing"))
    assert (done.error or "").startswith("FileNotFoundError")
