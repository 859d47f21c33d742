from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nas.core import (
    Candidate,
    ConflictError,
    Decision,
    Evaluation,
    EvaluationError,
    Evaluator,
    EventKind,
    Executor,
    Fidelity,
    Goals,
    Report,
    SearchSpace,
    Trial,
    TrialState,
    TrialStore,
)
from nas.engine import Engine
from nas.stores import MemoryStore
from nas.strategies import RandomSearch, RegularizedEvolution
from workers.executors import LocalExecutor

SPACE = SearchSpace(tuple(Decision(f"d{i}", (0, 1, 2, 3)) for i in range(6)))
GOALS = Goals.parse(["accuracy"])


class Scored(Evaluator):
    """Accuracy from the options; fails where the first is 3; counts and may stop midway."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[str] = []
        self.stop_after = stop_after

    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(candidate.key)
        if candidate.values["d0"] == 3:
            raise EvaluationError("d0 is 3")
        return Evaluation({"accuracy": sum(float(v) for v in candidate.values.values()) / 18})


class Limited(RegularizedEvolution):
    """Evolution that stops after 30 trials."""

    def ask(self, n: int):  # type: ignore[no-untyped-def]
        return (
            super().ask(min(n, 30 - self._history.n_started))
            if self._history.n_started < 30
            else []
        )


def strategy() -> Limited:
    return Limited(SPACE, GOALS, seed=4, population=8, sample=3)


def new_log() -> TrialStore:
    store = MemoryStore()
    return store.trial_store(store.create_job("x", {}).job_id)


def keys(log: TrialStore) -> list[str]:
    return [t.candidate.key for t in log.trials() if t.candidate]


def test_a_search_runs_to_its_end_and_failures_are_data() -> None:
    log, heard = new_log(), []
    Engine(strategy(), LocalExecutor(Scored()), log, heard.append).run()
    trials = log.trials()
    assert len(trials) == 30
    assert {t.state for t in trials} == {TrialState.COMPLETED, TrialState.FAILED}
    failed = [t for t in trials if t.state is TrialState.FAILED]
    assert all(t.error == "EvaluationError: d0 is 3" for t in failed)
    assert heard == list(log.events())


@pytest.mark.parametrize("stop_after", [0, 1, 7, 13, 29])
def test_an_interrupted_search_goes_on_identically(stop_after: int) -> None:
    whole = new_log()
    Engine(strategy(), LocalExecutor(Scored()), whole).run()
    log = new_log()
    with pytest.raises(KeyboardInterrupt):
        Engine(strategy(), LocalExecutor(Scored(stop_after)), log).run()
    assert [t.state for t in log.trials()][-1] is TrialState.RUNNING
    second = Scored()
    Engine(strategy(), LocalExecutor(second), log).run()
    assert keys(log) == keys(whole)
    assert len(second.seen) == 30 - stop_after
    finished = [e.trial.number for e in log.events() if e.kind is EventKind.FINISHED]
    assert sorted(finished) == list(range(30))


def test_a_completed_search_runs_nothing_again() -> None:
    log = new_log()
    Engine(strategy(), LocalExecutor(Scored()), log).run()
    again = Scored()
    Engine(strategy(), LocalExecutor(again), log).run()
    assert again.seen == []


class Shuffled(Executor):
    """Four trials at once, finished in random order."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.running: list[Trial] = []
        self.most = 0

    def capacity(self) -> int:
        return 4 - len(self.running)

    def limit(self, n: int | None) -> None: ...

    def submit(self, trial: Trial) -> None:
        self.running.append(trial)
        self.most = max(self.most, len(self.running))

    def poll(self, timeout: float) -> Sequence[Trial]:
        trial = self.running.pop(int(self.rng.integers(len(self.running))))
        return [trial.completed({"accuracy": trial.number / 100})]

    def cancel(self, number: int) -> None: ...

    def close(self) -> None: ...


def test_parallel_executors_are_kept_full_and_events_told_in_store_order() -> None:
    log, executor = new_log(), Shuffled()
    told: list[tuple[int, TrialState]] = []

    class Watching(Limited):
        def tell(self, trials: Sequence[Trial]) -> None:
            told.extend((t.number, t.state) for t in trials)
            super().tell(trials)

    Engine(Watching(SPACE, GOALS, 0, population=8, sample=3), executor, log).run()
    assert executor.most == 4
    assert told == [(e.trial.number, e.trial.state) for e in log.events()]


def test_an_exhausted_space_ends_the_search() -> None:
    small = SearchSpace((Decision("d0", (0, 1, 2)),))
    log = new_log()
    Engine(RandomSearch(small, 0), LocalExecutor(Scored()), log).run()
    assert sorted(keys(log)) == sorted({*keys(log)})
    assert len(keys(log)) == 3


def test_a_check_that_raises_ends_the_run_between_two_turns() -> None:
    log, seen = new_log(), []

    def check() -> None:
        seen.append(log.last_sequence())
        if len(seen) == 6:
            raise ConflictError("enough")

    with pytest.raises(ConflictError, match="enough"):
        Engine(strategy(), LocalExecutor(Scored()), log, check=check).run()
    assert seen == [0, 2, 4, 6, 8, 10]
    assert log.counts()[TrialState.RUNNING] == 0
    Engine(strategy(), LocalExecutor(Scored()), log).run()
    whole = new_log()
    Engine(strategy(), LocalExecutor(Scored()), whole).run()
    assert keys(log) == keys(whole)


def test_without_a_worker_a_search_waits_and_is_not_finished() -> None:
    log, executor, turns = new_log(), LocalExecutor(Scored()), []
    executor.limit(0)

    def check() -> None:
        turns.append(len(log.trials()))
        if len(turns) == 3:
            executor.limit(None)

    Engine(strategy(), executor, log, poll_seconds=0.01, check=check).run()
    assert turns[:4] == [0, 0, 0, 1]
    assert len(log.trials()) == 30
