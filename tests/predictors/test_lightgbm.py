from __future__ import annotations

import sys

import numpy as np
import pytest

from nas.core import InvalidInputError
from predictors.lightgbm import LightGBMTrees


def test_where_it_is_missing_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(InvalidInputError, match=r"pip install nas\[lightgbm\]"):
        LightGBMTrees().fit(np.zeros((8, 2), np.float32), np.zeros((8, 1)))


@pytest.mark.parametrize("n", [6, 20])
def test_few_rows_are_split_too(n: int) -> None:
    x = np.arange(n, dtype=np.float32)[:, None]
    found = LightGBMTrees().fit(x, x.astype(np.float64)).predict(x)
    assert found.mean[-1, 0] > found.mean[0, 0] + n / 4
