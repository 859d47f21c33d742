"""Columns of finished trials survive a restart, and never stand for another log."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from nas.core import Candidate, Evaluate, Event, Fidelity, TrainShared, TrialStore
from nas.service import kept
from nas.service.columns import ColumnCache
from nas.service.outcomes import Outcomes
from nas.stores import open_store

ROWS = 40


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialStore:
    monkeypatch.setattr(kept, "LEAST_ROWS", 30)
    store = open_store(f"sqlite:///{tmp_path / 'nas.db'}")
    return store.trial_store(store.create_job("x", {}).job_id)


def grow(trials: TrialStore, n: int, first: int = 0) -> None:
    for i in range(first, first + n):
        values = {"w": i % 5, "se": i % 2 == 0, "op": "äß"[i % 2], "keep": 0.5 * (i % 3)}
        if i % 4 == 0:
            del values["keep"]
        trial = trials.create(Evaluate(Candidate(values, f"{i:016x}"), Fidelity.TRAINED))
        found = {"accuracy": i / 100, **({"late": 1.0} if i > 20 else {})}
        trials.finish(trial.failed(f"no {i}") if i % 7 == 3 else trial.completed(found))


def same(a: Outcomes, b: Outcomes) -> None:
    for one in fields(a):
        x, y = getattr(a, one.name), getattr(b, one.name)
        if one.name == "shared":
            continue
        if isinstance(x, dict):
            assert list(x) == list(y)
            for name in x:
                np.testing.assert_equal(x[name], y[name])
                assert [type(v) for v in x[name]] == [type(v) for v in y[name]]
        else:
            np.testing.assert_equal(x, y)


class Counting:
    """Of a log: where it was read from."""

    def __init__(self, trials: TrialStore) -> None:
        self._trials = trials
        self.read: list[int] = []

    def finished(self, after: int = 0, limit: int | None = None) -> object:
        self.read.append(after)
        return self._trials.finished(after, limit)

    def events(self, after: int = 0, limit: int | None = None) -> object:
        assert limit == 1
        return self._trials.events(after, limit)


def columns(home: Path, trials: object) -> Outcomes:
    """As a server that has just started finds them."""
    return ColumnCache(home).of("job", trials)  # type: ignore[arg-type]


def test_a_new_server_reads_only_what_came_since(tmp_path: Path, store: TrialStore) -> None:
    store.finish(store.create(TrainShared("supernet", 2)).completed({"loss": 1.0}))
    grow(store, ROWS)
    before = columns(tmp_path, store)
    assert (tmp_path / "job" / kept.FILE).is_file()
    grow(store, 3, ROWS)
    counting = Counting(store)
    after = columns(tmp_path, counting)
    assert counting.read == [before.sequence]
    assert len(after) == ROWS + 4
    same(after, columns(tmp_path / "nothing kept", store))
    assert after.trial(ROWS + 3) == columns(tmp_path / "other", store).trial(ROWS + 3)


def test_few_rows_are_not_worth_a_file(tmp_path: Path, store: TrialStore) -> None:
    grow(store, 20)
    columns(tmp_path, store)
    assert not (tmp_path / "job").exists()
    assert kept.is_due(40, 0) and not kept.is_due(240, 215) and kept.is_due(600, 400)
    assert not kept.is_due(1100, 1000), "they are written anew when they grew by a fifth"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x93NUMPY"])
def test_a_broken_file_is_not_used(tmp_path: Path, store: TrialStore, content: bytes) -> None:
    grow(store, ROWS)
    expected = columns(tmp_path / "elsewhere", store)
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / kept.FILE).write_bytes(content)
    same(columns(tmp_path, store), expected)
    counting = Counting(store)
    columns(tmp_path, counting)
    assert counting.read == [expected.sequence], "it was replaced by a good one"


def test_columns_of_another_log_are_not_used(tmp_path: Path, store: TrialStore) -> None:
    grow(store, ROWS)
    columns(tmp_path, store)

    class Restored(Counting):
        def events(self, after: int = 0, limit: int | None = None) -> object:
            (event,) = self._trials.events(after, limit)
            return [Event(event.sequence, event.kind, event.trial, event.at + 1.0)]

    class Shorter(Counting):
        def events(self, after: int = 0, limit: int | None = None) -> object:
            return []

    for other in (Restored(store), Shorter(store)):
        columns(tmp_path, other)
        assert other.read[0] == 0
