from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from nas.core import (
    Evaluate,
    EvaluationError,
    Fidelity,
    TrainShared,
    Trial,
)
from nas.strategies import (
    RandomSearch,
    Seeded,
    SharedFirst,
    handed_over,
)
from tests.strategies.toy import (
    make_space,
)


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
