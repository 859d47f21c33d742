"""Which of many predicted points a search of several objectives measures next."""

from __future__ import annotations

import numpy as np

from nas.strategies._improvement import most_improving

RNG = np.random.default_rng(0)


def test_what_dominates_the_known_is_chosen() -> None:
    known = np.array([[0.5, 0.5]])
    points = np.array([[0.6, 0.6], [0.4, 0.4], [0.49, 0.5]])
    assert most_improving(points, known, RNG) == 1


def test_an_end_of_the_front_may_lie_beyond_everything_known() -> None:
    """Small candidates are known, and one twice as large promises half of their errors."""
    known = np.array([[0.60, 1.0], [0.58, 1.1]])
    points = np.array([[0.30, 2.0], [0.575, 1.1], [0.60, 0.99]])
    assert most_improving(points, known, RNG) == 0


def test_what_others_dominate_widens_nothing() -> None:
    known = np.array([[0.5, 0.5]])
    far = np.array([[0.52, 1e6]])
    points = np.array([[0.40, 0.45], [0.45, 0.40]])
    chosen = most_improving(points, known, RNG)
    assert most_improving(np.vstack([points, far]), known, RNG) == chosen


def test_without_anything_known_a_point_of_the_front_is_chosen() -> None:
    points = np.array([[0.5, 0.5], [0.9, 0.1], [0.9, 0.9]])
    assert most_improving(points, np.empty((0, 2)), RNG) in (0, 1)
