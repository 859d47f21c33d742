from __future__ import annotations

import inspect
import json
import pickle
import re
import subprocess
import sys

import pytest

import nas.core
from nas.core import (
    Candidate,
    ConflictError,
    Evaluate,
    Fidelity,
    InvalidInputError,
    NasError,
    NotFoundError,
    TrainShared,
    Trial,
    TrialState,
    UnknownNameError,
    errors,
)
from nas.core.trial import task_from_json, task_to_json

TASKS = [Evaluate(Candidate({"a": 1, "b": "x"}, "00ff"), Fidelity.TRAINED), TrainShared("darts", 3)]


@pytest.mark.parametrize("task", TASKS)
def test_tasks_round_trip_through_json(task: Evaluate | TrainShared) -> None:
    assert task_from_json(json.loads(json.dumps(task_to_json(task)))) == task


def test_a_malformed_task_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="task"):
        task_from_json({"kind": "dance"})


def test_a_trial_finishes_once() -> None:
    running = Trial(0, TASKS[0])
    done = running.completed({"accuracy": 0.9}, seconds=2.0)
    assert running.state is TrialState.RUNNING
    assert (done.state, done.metrics, done.seconds) == (
        TrialState.COMPLETED,
        {"accuracy": 0.9},
        2.0,
    )
    with pytest.raises(ConflictError, match="already completed"):
        done.failed("late")
    with pytest.raises(ConflictError, match="already failed"):
        running.failed("broken").completed({})


def test_error_tree_in_the_docstring_is_complete() -> None:
    classes = {
        name for name, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, NasError)
    }
    assert errors.__doc__ is not None
    assert set(re.findall(r"\b\w+Error\b", errors.__doc__)) >= classes


@pytest.mark.parametrize(
    "error",
    [
        InvalidInputError("field", 3, "4"),
        UnknownNameError("space", "mobilnet", ["mobilenet"]),
        NotFoundError("job", "ab"),
        ConflictError("no"),
    ],
)
def test_errors_cross_process_borders_with_their_message(error: NasError) -> None:
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_core_imports_nothing_heavy() -> None:
    code = "import sys, nas, nas.core; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"torch", "ray", "sqlalchemy", "xgboost", "sklearn", "plotly", "pydantic", "pandas"}
    assert not heavy & set(loaded)


def test_core_exports_exist_and_are_sorted() -> None:
    assert all(hasattr(nas.core, name) for name in nas.core.__all__)
    assert nas.core.__all__ == sorted(nas.core.__all__, key=lambda n: (not n[0].isupper(), n))
