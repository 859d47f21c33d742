from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.core import Condition, Decision, InvalidInputError, SearchSpace, UnknownNameError


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    decisions: list[Decision] = []
    for i in range(draw(st.integers(1, 5))):
        options = tuple(range(draw(st.integers(1, 4))))
        condition = None
        if decisions and draw(st.booleans()):
            parent = draw(st.sampled_from(decisions))
            values = draw(st.lists(st.sampled_from(parent.options), min_size=1, unique=True))
            condition = Condition(parent.name, tuple(values))
        decisions.append(Decision(f"d{i}", options, condition, ordered=draw(st.booleans())))
    return SearchSpace(tuple(decisions))


def every_row(space: SearchSpace) -> np.ndarray:
    """All distinct canonical rows, by brute force over the unconditional product."""
    product = itertools.product(*[range(n) for n in space.n_options])
    rows = space.canonical(np.array(list(product), dtype=np.int16))
    return np.unique(rows, axis=0)


rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(spaces())
@settings(max_examples=60, deadline=None)
def test_size_equals_the_number_of_distinct_candidates(space: SearchSpace) -> None:
    assert space.size == len(every_row(space))


@given(spaces(), rngs)
@settings(max_examples=60, deadline=None)
def test_sampled_rows_are_valid_and_canonical(space: SearchSpace, rng: np.random.Generator) -> None:
    rows = space.sample(50, rng)
    assert rows.dtype == np.int16
    assert (space.canonical(rows) == rows).all()
    known = {tuple(r) for r in every_row(space)}
    assert {tuple(r) for r in rows} <= known


@given(spaces(), rngs, st.sampled_from([None, 0.0, 0.3, 1.0]))
@settings(max_examples=60, deadline=None)
def test_mutation_is_closed_and_changes_something(
    space: SearchSpace, rng: np.random.Generator, rate: float | None
) -> None:
    rows = space.sample(30, rng)
    before = rows.copy()
    mutants = space.mutate(rows, rng, rate)
    assert (rows == before).all()
    assert (space.canonical(mutants) == mutants).all()
    can_change = ((rows >= 0) & (space.n_options > 1)).any(axis=1)
    assert ((mutants != rows).any(axis=1) == can_change).all()
    if rate is None:
        both = (rows >= 0) & (mutants >= 0)
        assert (((rows != mutants) & both).sum(axis=1) <= 1).all()


@given(spaces(), rngs)
@settings(max_examples=60, deadline=None)
def test_crossover_takes_shared_options_from_a_parent(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    a, b = space.sample(30, rng), space.sample(30, rng)
    child = space.crossover(a, b, rng)
    assert (space.canonical(child) == child).all()
    decided = (child >= 0) & ((a >= 0) | (b >= 0))
    assert ((child == a) | (child == b))[decided].all()


@given(spaces(), rngs)
@settings(max_examples=60, deadline=None)
def test_keys_are_equal_exactly_for_equal_candidates(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    raw = (rng.random((40, len(space))) * space.n_options).astype(np.int16)
    rows, keys = space.canonical(raw), space.keys(raw)
    for i, j in itertools.combinations(range(40), 2):
        assert (keys[i] == keys[j]) == bool((rows[i] == rows[j]).all())


@given(spaces(), rngs)
@settings(max_examples=60, deadline=None)
def test_json_row_and_candidate_round_trips(space: SearchSpace, rng: np.random.Generator) -> None:
    again = SearchSpace.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert again.digest == space.digest
    row = space.sample(1, rng)[0]
    candidate = space.candidate(row)
    assert (space.row(candidate) == row).all()
    assert (again.row(json.loads(json.dumps(dict(candidate.values)))) == row).all()
    assert again.candidate(row).key == candidate.key


@given(spaces(), rngs)
@settings(max_examples=40, deadline=None)
def test_neighbours_change_one_active_decision(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    row = space.sample(1, rng)[0]
    around = space.neighbours(row)
    expected = int(((space.n_options - 1) * (row >= 0)).sum())
    assert len(around) == expected
    both = (around >= 0) & (row >= 0)
    assert (((around != row) & both).sum(axis=1) == 1).all()


BITS = SearchSpace(
    (
        Decision("bits", (4, 8, 32)),
        Decision("grain", ("tensor", "channel"), Condition("bits", (4, 8)), ordered=False),
    )
)


def test_golden_key_and_digest_never_change() -> None:
    assert BITS.size == 5
    assert BITS.candidate(BITS.row({"bits": 4, "grain": "channel"})).key == "e05d396a03c789a0"
    assert BITS.digest == "eaf28d204030d426a19d32ec3cb9845af8ef80d861d787e8e0b8f8eb9579b7b0"


def test_join_renames_conditions_with_a_prefix() -> None:
    joined = SearchSpace((Decision("depth", (1, 2)),)).join(BITS, "q")
    assert joined.names == ("depth", "q.bits", "q.grain")
    assert joined.size == 10
    with pytest.raises(InvalidInputError, match="each name only once"):
        BITS.join(BITS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": 5}, "candidate.bits: 5"),
        ({"bits": 8}, "candidate.grain: None is not usable: one of"),
        ({"bit": 8}, "did you mean 'bits'"),
    ],
)
def test_wrong_candidates_name_what_is_wrong(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        BITS.row(values)  # type: ignore[arg-type]


def test_wrong_rows_name_shape_or_index() -> None:
    with pytest.raises(InvalidInputError, match=r"shape \(n, 2\)"):
        BITS.canonical(np.zeros((1, 3), dtype=np.int16))
    with pytest.raises(InvalidInputError, match="bits has options 0 to 2"):
        BITS.canonical(np.array([[3, 0]], dtype=np.int16))


def test_conditions_must_name_an_earlier_decision_and_its_options() -> None:
    with pytest.raises(UnknownNameError):
        SearchSpace((Decision("a", (1,), Condition("b", (1,))), Decision("b", (1,))))
    with pytest.raises(InvalidInputError, match="options of a"):
        SearchSpace((Decision("a", (1,)), Decision("b", (1,), Condition("a", (2,)))))
    with pytest.raises(InvalidInputError, match="version"):
        SearchSpace.from_json({"version": 99, "decisions": []})


@given(spaces(), rngs)
@settings(max_examples=80, deadline=None)
def test_a_narrowed_space_is_the_part_with_the_options_kept(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    chosen = [d for d in space.decisions if rng.random() < 0.5]
    options = {
        d.name: [o for o in d.options if rng.random() < 0.6] or [d.options[0]] for d in chosen
    }
    narrow = space.narrowed(options)
    wide = space.widened(every_row(narrow), narrow)
    expected = {
        tuple(row)
        for row in every_row(space)
        if all(
            row[space.column[name]] < 0
            or space.decisions[space.column[name]].options[row[space.column[name]]] in kept
            for name, kept in options.items()
        )
    }
    assert {tuple(row) for row in wide} == expected
    assert len(wide) == narrow.size
    for narrow_row, row in zip(every_row(narrow)[:3], wide[:3], strict=True):
        assert dict(narrow.candidate(narrow_row).values) == dict(space.candidate(row).values)


def test_narrowing_to_nothing_or_to_strangers_is_refused() -> None:
    space = SearchSpace((Decision("a", (1, 2)),))
    for options in ({"a": []}, {"a": [3]}):
        with pytest.raises(InvalidInputError, match=r"narrowed\.a"):
            space.narrowed(options)
    with pytest.raises(UnknownNameError, match="known: a"):
        space.narrowed({"b": [1]})
