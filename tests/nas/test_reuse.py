"""What a job takes over from jobs before it, and what that changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nas.core import Candidate, Evaluate, Fidelity, Job, JobStore, Trial
from nas.problem import Problem
from nas.reuse import reuse
from nas.spec import JobSpec
from nas.stores.memory import MemoryStore

OPTIONS = {"n_stages": 2, "depths": [1, 2], "kernels": [3, 5]}
OBJECTIVES = ("accuracy", "weight_bytes")


def problem(options: dict[str, object] | None = None, **spec: object) -> Problem:
    space = {"name": "mobilenet", "options": {**OPTIONS, **(options or {})}}
    return Problem.load(
        JobSpec.parse({"space": space, "objectives": OBJECTIVES, **spec, "budget": {"trials": 60}})
    )


def quality(candidate: Candidate) -> float:
    """A truth for tests: deep, wide and finely quantized candidates are better."""
    values = [v for v in candidate.values.values() if isinstance(v, (int, float))]
    return float(np.tanh(sum(values) / 100))


def submitted(store: JobStore, loaded: Problem) -> Job:
    return store.create_job("job", loaded.spec.to_json())


def searched(
    store: JobStore,
    loaded: Problem,
    n: int,
    truth: Callable[[Candidate], float] = quality,
    fidelity: Fidelity = Fidelity.TRAINED,
) -> Job:
    """A finished job with `n` random trials."""
    job = submitted(store, loaded)
    trials, space = store.trial_store(job.job_id), loaded.family.space
    for row in space.sample(n, np.random.default_rng(n)):
        trial = trials.create(Evaluate(space.candidate(row), fidelity))
        costs = {m: float(c[0]) for m, c in loaded.family.costs(row[None]).items()}
        trials.finish(trial.completed({"accuracy": truth(trial.candidate), **costs}))
    return job


def asked(loaded: Problem, lessons: list[Trial], n: int) -> list[Candidate]:
    """The first `n` candidates of a search that was taught."""
    strategy = loaded.strategy()
    strategy.learn_from(lessons)
    found = []
    for number in range(n):
        (task,) = strategy.ask(1)
        trial = Trial(number, task)
        assert trial.candidate is not None
        strategy.tell([trial])
        row = loaded.family.space.row(trial.candidate)[None]
        costs = {m: float(c[0]) for m, c in loaded.family.costs(row).items()}
        strategy.tell([trial.completed({"accuracy": quality(trial.candidate), **costs})])
        found.append(trial.candidate)
    return found


def test_a_job_learns_from_the_earlier_job_with_the_same_data_first() -> None:
    store = MemoryStore()
    searched(store, problem(data_limit=400), 60)
    same = searched(store, problem(), 30)
    loaded = problem(seed=5)
    found = reuse(store, submitted(store, loaded), loaded)
    assert found.teacher == same.job_id
    assert len(found.lessons) == 30
    assert found.said() == [f"30 trials of job {same.job_id}, to learn from"]


def test_only_candidates_of_the_space_teach_and_too_few_do_not() -> None:
    store = MemoryStore()
    searched(store, problem(), 200)
    narrow = problem({"depths": [1]})
    found = reuse(store, submitted(store, narrow), narrow)
    assert 20 <= len(found.lessons) < 200
    assert all(narrow.family.space.row(t.candidate) is not None for t in found.lessons)
    few = MemoryStore()
    searched(few, problem(), 19)
    assert reuse(few, submitted(few, narrow), narrow).teacher is None


def test_finalists_low_effort_and_later_jobs_do_not_teach() -> None:
    store, loaded = MemoryStore(), problem()
    job = submitted(store, loaded)
    assert reuse(store, job, loaded).teacher is None
    searched(store, loaded, 40, fidelity=Fidelity.DEPLOYED)
    last = submitted(store, loaded)
    assert reuse(store, last, loaded).teacher is None
    searched(store, loaded, 40)
    assert reuse(store, last, loaded).teacher is None


def test_a_job_that_wants_nothing_of_others_gets_nothing() -> None:
    store, loaded = MemoryStore(), problem(warm_start=False)
    searched(store, loaded, 40)
    found = reuse(store, submitted(store, loaded), loaded)
    assert (found.teacher, found.lessons, found.scores) == (None, (), {})


def test_what_was_learned_finds_good_candidates_sooner() -> None:
    store, loaded = MemoryStore(), problem()

    def elsewhere(candidate: Candidate) -> float:
        return 0.5 * quality(candidate) + 0.1

    searched(store, problem(data_limit=400), 150, elsewhere)
    lessons = list(reuse(store, submitted(store, loaded), loaded).lessons)
    taught, alone = asked(loaded, lessons, 12), asked(loaded, [], 12)
    assert asked(loaded, lessons, 12) == taught
    best = [max(quality(c) for c in found) for found in (taught, alone)]
    assert best[0] > best[1]
