from __future__ import annotations

import numpy as np
import pytest

import nas
from nas.core import InfeasibleError, SearchSpace, descend
from nas.forecast import check_feasible, cost_range, preview
from nas.problem import Problem
from nas.spec import JobSpec

SMALL = {
    "n_stages": 1, "depths": [1, 2], "widths": [[8, 16]], "kernels": [3, 5], "expansions": [2, 3],
    "keep": [0.5, 1.0], "weight_bits": [4, 32], "activation_bits": [4, 8],
}  # fmt: skip


def problem(*constraints: str) -> Problem:
    space = {"name": "mobilenet", "options": SMALL}
    return Problem.load(JobSpec.parse({"space": space, "constraints": constraints}))


def every_row(space: SearchSpace) -> np.ndarray:
    rows = np.unique(space.sample(60 * space.size, np.random.default_rng(0)), axis=0)
    assert len(rows) == space.size
    return rows


def test_size_ranges_and_shares_agree_with_counting_everything() -> None:
    loaded = problem("weight_bytes<=4000", "macs<=100000")
    rows = every_row(loaded.family.space)
    costs = loaded.family.costs(rows)
    found = preview(loaded, n_workers=2)
    assert found.n_candidates == len(rows)
    for name, column in costs.items():
        assert found.cost_ranges[name] == (column.min(), column.max())
    # candidates are sampled decision by decision, so shares are compared on such a sample
    sample = loaded.family.space.sample(200_000, np.random.default_rng(9))
    columns = loaded.family.costs(sample)
    too_big, too_slow = columns["weight_bytes"] > 4000, columns["macs"] > 100_000
    assert found.ruled_out["weight_bytes<=4000"] == pytest.approx(too_big.mean(), abs=0.015)
    assert found.ruled_out["macs<=100000"] == pytest.approx(too_slow.mean(), abs=0.015)
    assert found.feasible_share == pytest.approx((~(too_big | too_slow)).mean(), abs=0.015)


@pytest.mark.parametrize("name", ["params", "macs", "peak_activation_bytes"])
def test_the_nearest_feasible_bound_is_the_true_minimum(name: str) -> None:
    loaded = problem()
    least = loaded.family.costs(every_row(loaded.family.space))[name].min()
    assert cost_range(loaded, name)[0] == least
    with pytest.raises(InfeasibleError, match=f"nearest feasible bound is {least:g}"):
        check_feasible(problem(f"{name}<={least - 1}"))
    check_feasible(problem(f"{name}<={least}"))


def test_constraints_that_exclude_each_other_are_refused_with_the_nearest() -> None:
    loaded = problem()
    costs = loaded.family.costs(every_row(loaded.family.space))
    small, big = costs["params"].min(), costs["macs"].max()
    check_feasible(problem(f"params<={small}"))
    check_feasible(problem(f"macs>={big}"))
    with pytest.raises(InfeasibleError, match="no candidate found that meets them together"):
        check_feasible(problem(f"params<={small}", f"macs>={big}"))


def test_descent_reaches_the_minimum_of_a_rugged_enough_cost() -> None:
    loaded = problem()
    rows = every_row(loaded.family.space)
    best = descend(loaded.family.space, lambda r: loaded.family.costs(r)["bit_ops"])
    lowest = loaded.family.costs(rows)["bit_ops"].min()
    assert loaded.family.costs(best[None])["bit_ops"][0] == lowest


def test_preview_is_public_and_takes_what_search_takes() -> None:
    space = {"name": "mobilenet", "options": SMALL}
    found = nas.preview("digits", space=space, constraints=["weight_bytes<=4000"], trials=3)
    assert found.to_json()["n_candidates"] == str(problem().family.space.size)
    assert 0 < found.latency_floor_ms < 100
