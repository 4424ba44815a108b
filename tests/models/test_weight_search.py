"""Shares that add up to 1, and which of them are best."""

import numpy as np
import pytest

from tomopick.models.weight_search import COARSE_POINTS, coarse_steps, greedy, search, simplex


@pytest.mark.parametrize("n, steps, count", [(1, 4, 1), (2, 4, 5), (3, 4, 15), (4, 2, 10), (3, 1, 3)])
def test_the_grid_has_every_share_once(n, steps, count):
    points = list(simplex(n, steps))
    assert len(points) == len(set(points)) == count
    np.testing.assert_allclose(np.sum(points, axis=1), 1)
    assert set(np.round(np.ravel(points) * steps, 9) % 1) == {0.0}


def test_many_members_get_a_coarser_grid():
    assert [coarse_steps(n) for n in (2, 3, 4, 5, 7, 9, 30)] == [4, 4, 4, 3, 2, 1, 1]
    for n in range(1, 9):
        assert len(list(simplex(n, coarse_steps(n)))) <= COARSE_POINTS


@pytest.mark.parametrize("target", [(0.7, 0.3), (0.05, 0.95), (0.2, 0.5, 0.3), (1.0, 0.0, 0.0), (0.1, 0.2, 0.3, 0.4)])
def test_the_search_comes_near_the_best(target):
    tried = []

    def value(weights):
        tried.append(weights)
        return -float(np.square(np.subtract(weights, target)).sum())

    best, highest = search(len(target), value)
    assert max(np.abs(np.subtract(best, target))) <= 1 / 16 + 1e-9 and highest == value(best)
    assert len(set(tried[:-1])) == len(tried[:-1]) and len(tried) < 120
    np.testing.assert_allclose(np.sum(tried, axis=1), 1)
    assert np.min(tried) >= 0


def test_equal_shares_are_kept_where_nothing_is_better():
    assert search(3, lambda weights: 0.5) == ((1 / 3, 1 / 3, 1 / 3), 0.5)
    assert search(1, lambda weights: 0.5) == ((1.0,), 0.5)


def test_the_greedy_choice_takes_in_what_does_not_hurt():
    worth = {(0.0, 0.5, 0.5): 0.9, (1 / 3, 1 / 3, 1 / 3): 0.8}
    assert greedy([0.5, 0.7, 0.6], lambda weights: worth[weights]) == ((0.0, 0.5, 0.5), 0.9)
    assert greedy([0.5, 0.7], lambda weights: 0.7) == ((0.5, 0.5), 0.7)
    assert greedy([0.5, 0.7], lambda weights: 0.6) == ((0.0, 1.0), 0.7)
