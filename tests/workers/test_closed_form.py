"""The closed form of an accelerator that fuses bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchspaces.weighted import WeightedLayer
from tests.workers.formula_table import ENERGY, LATENCY, entries
from workers.closed_form import ClosedForm, held_out, kind_of, terms
from workers.imported import layer_of

LAYERS = [layer_of(key) for key in entries()]
MS = [entry["latency"] for entry in entries().values()]


def layer(n: int, depthwise: bool, weight_bits: int, input_bits: int) -> WeightedLayer:
    sides = ((9, 9), (3, 3), (2, 2), (1, 1))
    return WeightedLayer(n, n, *sides, n if depthwise else 1, weight_bits, input_bits)


LAYER = st.builds(layer, st.integers(2, 500), st.booleans(), st.integers(2, 16), st.integers(2, 16))


def test_terms_are_operations_and_bits_moved() -> None:
    asked = WeightedLayer(6, 4, (8, 6), (3, 1), (2, 1), (1, 0), 2, 3, 5)
    weights, outputs = 4 * 3 * 3, 4 * 6
    expected = [weights * outputs * 4 * 8, weights * 3, 6 * 48 * 5, 4 * outputs * 5]
    assert terms(asked).tolist() == expected


def test_a_formula_of_these_terms_is_found_again() -> None:
    form = ClosedForm.fitted(LAYERS, MS)
    np.testing.assert_allclose(form.coefficients["other"], LATENCY[0], rtol=1e-6)
    np.testing.assert_allclose(form.coefficients["depthwise"], LATENCY[1], rtol=1e-6)
    errors = held_out(LAYERS, MS)
    assert errors == held_out(LAYERS, MS)
    assert sum(error.n for error in errors.values()) == len(LAYERS) // 2
    assert all(error.p90 < 1e-6 for error in errors.values())


@given(LAYER)
def test_a_layer_costs_more_than_none_and_more_with_more_bits(asked: WeightedLayer) -> None:
    form = ClosedForm({"other": ENERGY[0], "depthwise": ENERGY[1]})
    wider = layer(asked.n_in, asked.is_depthwise, asked.weight_bits + 1, asked.input_bits)
    assert 0 < form.of(asked) < form.of(wider)


@given(LAYER, st.floats(0.1, 10))
def test_a_table_twice_as_slow_has_a_form_twice_as_slow(asked: WeightedLayer, by: float) -> None:
    slower = ClosedForm.fitted(LAYERS, [by * ms for ms in MS])
    assert slower.of(asked) == pytest.approx(by * ClosedForm.fitted(LAYERS, MS).of(asked))


def test_a_kind_with_few_layers_borrows_from_the_other() -> None:
    others = [(la, ms) for la, ms in zip(LAYERS, MS, strict=True) if kind_of(la) == "other"]
    form = ClosedForm.fitted([la for la, _ in others], [ms for _, ms in others])
    assert form.coefficients["depthwise"] == form.coefficients["other"]
    assert set(held_out([la for la, _ in others], [ms for _, ms in others])) == {"other"}
