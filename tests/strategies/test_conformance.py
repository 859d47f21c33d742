"""What every strategy must do; a new one is added to `STRATEGIES` below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from nas.core import (
    Condition,
    Decision,
    Evaluate,
    EvaluationError,
    Fidelity,
    Genotypes,
    Goals,
    SearchSpace,
    SearchStrategy,
    TrainShared,
    Trial,
    TrialState,
)
from nas.core.goals import columns_of
from nas.strategies import (
    NSGA2,
    NSGA3,
    CrossEntropy,
    DifferentialEvolution,
    Finalists,
    Given,
    GradientGuided,
    LocalSearch,
    OptunaSearch,
    PredictorGuided,
    RandomSearch,
    RegularizedEvolution,
    Seeded,
    SharedFirst,
    handed_over,
)
from predictors.encoders import one_hot, with_costs
from predictors.gbdt import GradientBoostedTrees
from predictors.neural import NeuralEnsemble

GOALS = Goals.parse(["accuracy", "weight_bytes"], ["weight_bytes<=900"])
SINGLE_GOAL = Goals.parse(["accuracy"])


def make_space(n_decisions: int) -> SearchSpace:
    decisions = [Decision(f"w{i}", (1, 2, 4, 8)) for i in range(n_decisions)]
    decisions += [
        Decision("bits", (4, 8, 32)),
        Decision("grain", ("tensor", "channel"), Condition("bits", (4, 8)), ordered=False),
    ]
    return SearchSpace(tuple(decisions))


def costs_of(space: SearchSpace) -> Callable[[Genotypes], dict[str, np.ndarray]]:
    def costs(rows: Genotypes) -> dict[str, np.ndarray]:
        width = np.array([1.0, 2.0, 4.0, 8.0])[rows[:, : len(space) - 2]]
        bits = np.array([4.0, 8.0, 32.0])[rows[:, -2]]
        return {"weight_bytes": width.sum(axis=1) * bits}

    return costs


def score(space: SearchSpace, row: Genotypes) -> dict[str, float]:
    """A smooth made-up accuracy with interactions, and the exact cost."""
    weight = costs_of(space)(row[None])["weight_bytes"][0]
    depth = len(space) - 2
    gain = sum((1 + i % 3) * np.log2(1 + row[i]) for i in range(depth)) / (4 * depth)
    noise = [0.12, 0.03, 0.0][row[-2]] * (0.6 if row[-1] == 1 else 1.0)
    return {"accuracy": float(0.5 + gain * 0.3 - noise), "weight_bytes": float(weight)}


Maker = Callable[[SearchSpace, int], SearchStrategy]


def guided(space: SearchSpace, seed: int, refit: int = 1) -> PredictorGuided:
    costs = costs_of(space)
    trees = GradientBoostedTrees(n_members=3, n_trees=40, seed=seed)
    features = with_costs(space, costs)
    return PredictorGuided(
        space, GOALS, seed, trees, features, costs, n_initial=8, pool=400, refit=refit
    )


def seeded(
    space: SearchSpace, seed: int, admissible: Callable[[Genotypes], np.ndarray] | None = None
) -> Seeded:
    first = RandomSearch(space, seed, admissible=admissible)
    strategy = Seeded(first, space, 4, seed, Fidelity.TRAINED, admissible)
    rng = np.random.default_rng(seed)
    strategy.follow({d.name: rng.dirichlet(np.ones(len(d.options))) for d in space.decisions})
    return strategy


def given(space: SearchSpace, seed: int) -> Given:
    rows = space.sample(5, np.random.default_rng(seed))
    return Given(RandomSearch(space, seed), space, rows, Fidelity.TRAINED)


STRATEGIES: dict[str, Maker] = {
    "random": RandomSearch,
    "given": given,
    "local-search": lambda space, seed: LocalSearch(space, GOALS, seed, n_initial=4),
    "regularized-evolution": lambda space, seed: RegularizedEvolution(
        space, GOALS, seed, population=10, sample=4
    ),
    "differential-evolution": lambda space, seed: DifferentialEvolution(
        space, GOALS, seed, population=6
    ),
    "nsga2": lambda space, seed: NSGA2(space, GOALS, seed, population=8),
    "nsga3": lambda space, seed: NSGA3(space, GOALS, seed, population=8),
    "cross-entropy": lambda space, seed: CrossEntropy(space, GOALS, seed, population=6),
    "optuna-tpe": lambda space, seed: OptunaSearch(space, GOALS, seed, "tpe", n_initial=10),
    "optuna-gp": lambda space, seed: OptunaSearch(space, SINGLE_GOAL, seed, "gp", n_initial=18),
    "optuna-nsga2": lambda space, seed: OptunaSearch(space, GOALS, seed, "nsga2", n_initial=6),
    "predictor-guided": guided,
    "gradient-guided": lambda space, seed: GradientGuided(
        space,
        GOALS,
        seed,
        NeuralEnsemble(n_members=2, width=16, n_steps=30, seed=seed),
        partial(one_hot, space),
        n_initial=8,
        starts=6,
        steps=5,
    ),
    "seeded": lambda space, seed: seeded(space, seed),
    "finalists": lambda space, seed: Finalists(RandomSearch(space, seed), GOALS, 20, 5),
}


pytestmark = pytest.mark.usefixtures("hasty_gp")


@pytest.fixture(params=list(STRATEGIES))
def make(request: pytest.FixtureRequest) -> Maker:
    return STRATEGIES[request.param]


def test_shared_weights_are_trained_first_piece_by_piece() -> None:
    space = make_space(4)

    def make_shared() -> SharedFirst:
        return SharedFirst(RandomSearch(space, 3), "supernet", epochs=5, piece=2)

    strategy, log = make_shared(), []
    until = []
    while isinstance(task := strategy.ask(4)[0], TrainShared):
        until.append(task.epochs)
        running = Trial(len(log) // 2, task)
        done = running.failed("died") if len(log) == 2 else running.completed({"epochs": 1.0})
        strategy.tell([running])
        assert strategy.ask(1) == []
        strategy.tell([done])
        log += [running, done]
    assert until == [2, 4, 4, 5]
    fresh = make_shared()
    fresh.tell(log)
    assert fresh.ask(3) == strategy.ask(3) == RandomSearch(space, 3).ask(3)


def test_shared_training_that_keeps_failing_ends_the_search() -> None:
    strategy = SharedFirst(RandomSearch(make_space(4), 3), "supernet", epochs=5, piece=5)
    for number in range(3):
        running = Trial(number, strategy.ask(1)[0])
        strategy.tell([running, running.failed("died")])
    with pytest.raises(EvaluationError, match="failed 3 times"):
        strategy.ask(1)


def test_two_trainings_of_shared_weights_follow_each_other_and_hand_over_what_they_found() -> None:
    space = make_space(4)
    certain = {d.name: np.eye(len(d.options))[0].tolist() for d in space.decisions}
    inner = Seeded(RandomSearch(space, 3), space, 2, 3, Fidelity.TRAINED)
    second = SharedFirst(inner, "differentiable", 1, 1, partial(handed_over, inner))
    strategy = SharedFirst(second, "supernet", epochs=1, piece=1)
    methods = []
    for number in range(2):
        running = Trial(number, strategy.ask(1)[0])
        assert isinstance(running.task, TrainShared)
        methods.append(running.task.method)
        about = {"differentiable": {"probabilities": certain}}
        strategy.tell([running, running.completed({"epochs": 1.0}, about)])
    assert methods == ["supernet", "differentiable"]
    (task,) = strategy.ask(1)
    assert isinstance(task, Evaluate)
    assert task.candidate == space.candidate(np.zeros(len(space), dtype=np.int16))


def test_the_likeliest_candidates_come_first_then_the_search_that_knows_them() -> None:
    space = make_space(5)
    log = simulate(seeded(space, 2), space, 12, workers=1)
    asked = [t.candidate for t in log if t.state is TrialState.RUNNING and t.candidate]
    rng = np.random.default_rng(2)
    shares = {d.name: rng.dirichlet(np.ones(len(d.options))) for d in space.decisions}

    def likelihood(row: Genotypes) -> float:
        pairs = zip(space.names, row, strict=True)
        parts = [shares[n][option] if option >= 0 else shares[n].max() for n, option in pairs]
        return float(np.prod(parts))

    first = [likelihood(space.row(candidate)) for candidate in asked[:4]]
    assert first == sorted(first, reverse=True)
    assert first[0] == pytest.approx(max(likelihood(row) for row in space.rows()))
    assert len(set(asked)) == 12


def test_candidates_that_are_to_differ_are_drawn_after_the_likeliest() -> None:
    space = make_space(5)
    shares = {d.name: [0.6] + [0.4 / (len(d.options) - 1)] * (len(d.options) - 1)
              for d in space.decisions}  # fmt: skip
    asked = []
    for spread in (False, True):
        inner = RandomSearch(space, 0)
        strategy = Seeded(inner, space, 60, 0, Fidelity.TRAINED, spread=spread)
        strategy.follow(shares)
        tasks = strategy.ask(60)
        rows = np.stack([space.row(t.candidate) for t in tasks if isinstance(t, Evaluate)])
        assert (rows[0] <= 0).all()
        asked.append((rows[:20] > 0).sum(axis=1).mean())
    likeliest, drawn = asked
    assert likeliest < 1.7 < drawn


def test_distributions_of_several_tradeoffs_propose_in_turn() -> None:
    space = make_space(5)

    def mostly(option: int) -> dict[str, list[float]]:
        return {
            d.name: np.where(np.arange(len(d.options)) == option % len(d.options), 0.97, 0.01)
            for d in space.decisions
        }

    found = [mostly(0), mostly(1)]
    strategy = Seeded(RandomSearch(space, 0), space, 10, 0, Fidelity.TRAINED, spread=True)
    strategy.follow(*found)
    rows = [space.row(t.candidate) for t in strategy.ask(10) if isinstance(t, Evaluate)]
    assert len({tuple(row) for row in rows}) == 10
    for i in (0, 1):
        modes = np.array([[int(p.argmax()) for p in found[i].values()]], dtype=np.int16)
        np.testing.assert_array_equal(rows[i], space.canonical(modes)[0])
    task = TrainShared("differentiable", 1)
    about = {"probabilities": mostly(0), "tradeoffs": found}
    told = Seeded(RandomSearch(space, 0), space, 10, 0, Fidelity.TRAINED, spread=True)
    handed_over(told, Trial(0, task).completed({}, {"differentiable": about}))
    assert told.ask(10) == strategy.ask(10)


def simulate(
    strategy: SearchStrategy,
    space: SearchSpace,
    n: int,
    workers: int,
    seed: int = 0,
    before: Sequence[Trial] = (),
) -> list[Trial]:
    """Events of an asynchronous run: out-of-order finishes, every ninth trial fails.

    Goes on from the events `before`, of which none may still run.
    """
    rng = np.random.default_rng(seed)
    log = list(before)
    strategy.tell(log)
    running: list[Trial] = []
    number = len(log) // 2
    while True:
        while number < n and len(running) < workers:
            tasks = strategy.ask(1)
            if not tasks:
                break
            trial = Trial(number, tasks[0])
            number += 1
            strategy.tell([trial])
            log.append(trial)
            running.append(trial)
        if not running:
            return log
        trial = running.pop(int(rng.integers(len(running))))
        assert trial.candidate is not None
        done = trial.completed(score(space, space.row(trial.candidate)), seconds=1.0)
        done = trial.failed("broken") if trial.number % 9 == 8 else done
        strategy.tell([done])
        log.append(done)


def keys(trials: Sequence[Trial]) -> list[str]:
    return [t.candidate.key for t in trials if t.candidate and t.state is TrialState.RUNNING]


def test_replay_continues_identically_after_every_prefix(make: Maker) -> None:
    space = make_space(5)
    log = simulate(make(space, 1), space, 26, workers=3)
    fresh = make(space, 1)
    for event in log:
        if event.state is TrialState.RUNNING:
            resumed = fresh.ask(1)
            assert resumed[0] == event.task
        fresh.tell([event])
    again = make(space, 1)
    again.tell(log)
    assert list(again.ask(1)) == list(fresh.ask(1))


def test_replay_fits_a_seldom_refitted_predictor_to_the_same_trials() -> None:
    space = make_space(5)
    log = simulate(guided(space, 1, refit=5), space, 26, workers=3)
    often = keys(simulate(guided(space, 1), space, 26, workers=3))
    assert keys(log) != often  # it does refit less
    for i, event in enumerate(log):
        if event.state is TrialState.RUNNING:
            fresh = guided(space, 1, refit=5)
            fresh.tell(log[:i])
            assert fresh.ask(1)[0] == event.task


def test_asking_changes_nothing_and_batches_equal_single_asks(make: Maker) -> None:
    space = make_space(5)
    one, batch = make(space, 3), make(space, 3)
    log = simulate(one, space, 14, workers=2)
    batch.tell(log)
    assert list(batch.ask(4)) == list(batch.ask(4))
    expected = []
    for i in range(4):
        task = one.ask(1)[0]
        expected.append(task)
        one.tell([Trial(14 + i, task)])
    assert list(batch.ask(4)) == expected


def test_no_candidate_is_asked_twice_at_one_fidelity(make: Maker) -> None:
    space = make_space(4)
    log = simulate(make(space, 0), space, 60, workers=4)
    asked = [(t.candidate, t.fidelity) for t in log if t.state is TrialState.RUNNING]
    assert len(set(asked)) == len(asked)


def test_a_small_space_is_exhausted_and_then_finished(make: Maker) -> None:
    space = make_space(1)
    log = simulate(make(space, 0), space, 1000, workers=3)
    searched = [t for t in log if t.state is TrialState.RUNNING and t.fidelity is Fidelity.TRAINED]
    assert len(searched) == space.size == 20


def test_the_seed_decides(make: Maker) -> None:
    space = make_space(5)
    runs = [keys(simulate(make(space, seed), space, 20, workers=2)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"finalists", "given", "seeded"}))
def test_inadmissible_rows_are_never_asked(name: str) -> None:
    space = make_space(5)
    strategy = STRATEGIES[name](space, 0)
    strategy._admissible = partial(light, space)  # type: ignore[attr-defined]
    assert all(asked_light(strategy, space))


def test_named_candidates_come_first_each_once_even_where_inadmissible() -> None:
    space = make_space(5)
    rows = space.sample(5, np.random.default_rng(0))
    search = RandomSearch(space, 0, admissible=partial(light, space))
    strategy = Given(search, space, np.concatenate([rows, rows[:2]]), Fidelity.TRAINED)
    asked = keys(simulate(strategy, space, 20, workers=3))
    assert asked[:5] == [space.candidate(row).key for row in rows]
    assert len(set(asked)) == len(asked)


def test_inadmissible_rows_are_never_taken_from_a_distribution() -> None:
    space = make_space(5)
    assert all(asked_light(seeded(space, 0, partial(light, space)), space))


def light(space: SearchSpace, rows: Genotypes) -> np.ndarray:
    return np.asarray(costs_of(space)(rows)["weight_bytes"] <= 150)


def asked_light(strategy: SearchStrategy, space: SearchSpace) -> list[bool]:
    """Of every trial of a run, whether its candidate is light."""
    log = simulate(strategy, space, 40, workers=2)
    assert len(log) >= 40
    return [light(space, space.row(t.candidate)[None])[0] for t in log if t.candidate]


def test_finalists_are_the_front_after_the_search_is_done() -> None:
    space = make_space(5)
    log = simulate(STRATEGIES["finalists"](space, 0), space, 1000, workers=3)
    final = [t for t in log if t.fidelity is Fidelity.DEPLOYED and t.state is TrialState.RUNNING]
    first = log.index(final[0])
    searched = [t for t in log[:first] if t.state is not TrialState.RUNNING]
    assert len(searched) == 20
    assert len(final) == 5
    done = [t for t in searched if t.state is TrialState.COMPLETED]
    columns = columns_of([t.metrics for t in done], GOALS.metrics)
    losses = GOALS.losses(columns)
    chosen = {t.candidate.key for t in final if t.candidate}
    for i, t in enumerate(done):
        better = (losses <= losses[i]).all(axis=1) & (losses < losses[i]).any(axis=1)
        feasible = GOALS.violations(columns, len(done)) == 0
        if t.candidate and t.candidate.key in chosen and feasible[i]:
            outside = [
                j for j in np.flatnonzero(better & feasible) if done[j].candidate.key not in chosen
            ]  # type: ignore[union-attr]
            assert not outside


def test_a_larger_budget_goes_on_where_the_smaller_one_ended() -> None:
    space = make_space(5)

    def finalists(n_trials: int, n_finalists: int) -> SearchStrategy:
        return Finalists(RandomSearch(space, 0), GOALS, n_trials, n_finalists)

    small = simulate(finalists(10, 3), space, 1000, workers=2)
    assert len(small) == 2 * 13
    large = simulate(finalists(25, 6), space, 1000, workers=2, before=small)
    started = [t for t in large if t.state is TrialState.RUNNING]
    assert started[:13] == [t for t in small if t.state is TrialState.RUNNING]
    assert sum(t.fidelity is Fidelity.TRAINED for t in started) == 25
    assert all(t.fidelity is Fidelity.TRAINED for t in started[13:28])
    deployed = [t.candidate.key for t in started if t.fidelity is Fidelity.DEPLOYED and t.candidate]
    assert len(set(deployed)) == len(deployed)
    assert 6 <= len(deployed) <= 9


def test_finalists_stop_searching_when_worker_seconds_are_spent() -> None:
    space = make_space(5)
    strategy = Finalists(RandomSearch(space, 0), GOALS, 1000, 2, max_worker_seconds=10.0)
    log = simulate(strategy, space, 1000, workers=2)
    searched = [t for t in log if t.fidelity is Fidelity.TRAINED and t.state is TrialState.RUNNING]
    assert 10 <= len(searched) <= 14


def test_tasks_carry_the_fidelity_asked_for() -> None:
    space = make_space(3)
    task = RandomSearch(space, 0, fidelity=Fidelity.PROXY).ask(1)[0]
    assert isinstance(task, Evaluate)
    assert task.fidelity is Fidelity.PROXY


def test_recalled_scores_are_known_but_not_counted(make: Maker) -> None:
    space = make_space(5)
    log = simulate(RandomSearch(space, 5), space, 30, workers=2)
    known = [t for t in log if t.state is TrialState.COMPLETED]
    strategy = make(space, 1)
    strategy.recall(known)
    asked = keys(simulate(strategy, space, 26, workers=3))
    recalled = {t.candidate.key for t in known if t.candidate}
    assert not recalled & set(asked[:20])


def test_recalled_scores_may_become_finalists() -> None:
    space = make_space(5)
    known = [
        t
        for t in simulate(RandomSearch(space, 5), space, 60, workers=2)
        if t.state is TrialState.COMPLETED
    ]
    strategy = Finalists(RandomSearch(space, 1), GOALS, n_trials=1, n_finalists=4)
    strategy.recall(known)
    log = simulate(strategy, space, 10, workers=2)
    finalists = {t.candidate.key for t in log if t.candidate and t.fidelity is Fidelity.DEPLOYED}
    assert len(finalists & {t.candidate.key for t in known if t.candidate}) >= 3


GOLDEN = {
    "given": ["91aeaa3679b88269", "97005652537daea1", "b9cacd7f313dda0e"],
    "random": ["91aeaa3679b88269", "97005652537daea1", "b9cacd7f313dda0e"],
    "local-search": ["301411b7a034975e", "dbffa52191cb89f0", "40bc6f1808b5dd16"],
    "regularized-evolution": ["9c2514b4c2ba6ba5", "ba3c3f108a8d2e7d", "7eee1caa1385a02d"],
    "differential-evolution": ["d84733dbeddcb4cf", "37a8a81cc58696e5", "39bff9606e9282dd"],
    "nsga2": ["870f65bd00ef8b1e", "86d4178f07b4956a", "d3db4fd74d1b0d66"],
    "nsga3": ["bc8455722b39c537", "27f761d86ef1ef2c", "1c4a3cc12f4b2a5a"],
    "cross-entropy": ["83c22f865381fe9f", "ada515a43f48b010", "301411b7a034975e"],
    "optuna-tpe": ["132d255ec1901128", "86a8c38f0aca2698", "5d64e7758e129a7e"],
    "optuna-nsga2": ["45ac2a8cfc630005", "e55b449b263a5448", "e90fbc7f607828dc"],
    "predictor-guided": ["1000d09e89334bdf", "ab2fc09bfab6e491", "08b9ef44de19e8b2"],
    "seeded": ["91aeaa3679b88269", "97005652537daea1", "b9cacd7f313dda0e"],
    "finalists": ["79a08a6af000d4cc", "8e29c5f4d8b6eb57", "c959a8f2010fec95"],
}


def test_seeded_runs_stay_what_they_were(make: Maker, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["make"]
    if name in ("optuna-gp", "gradient-guided"):
        pytest.skip("the optimisation inside depends on the machine's arithmetic")
    space = make_space(5)
    log = simulate(make(space, 7), space, 24, workers=3)
    assert keys(log)[-3:] == GOLDEN[name]
