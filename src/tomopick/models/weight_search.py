"""Which weights: a search over shares that add up to 1, and a greedy choice of members."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

COARSE_POINTS = 40  # points of the coarse grid
FINEST = 4  # steps from 0 to 1 of the coarse grid
HALVINGS = 2  # of the step, behind the coarse grid
GAIN = 1e-9  # below which one value is not better than another

Shares = tuple[float, ...]


def simplex(n: int, steps: int) -> Iterator[Shares]:
    """All n shares that are multiples of 1 / steps and add up to 1."""
    if n == 1:
        yield (1.0,)
        return
    for first in range(steps, 0, -1):
        rest = steps - first
        if not rest:
            yield (1.0, *[0.0] * (n - 1))
            continue
        for others in simplex(n - 1, rest):
            yield (first / steps, *(w * rest / steps for w in others))
    for others in simplex(n - 1, steps):
        yield (0.0, *others)


def coarse_steps(n: int) -> int:
    """The finest grid of n shares that has no more than `MOST` points (but the corners at least)."""
    return next((s for s in range(FINEST, 1, -1) if _points(n, s) <= COARSE_POINTS), 1)


def _points(n: int, steps: int) -> int:
    from math import comb

    return comb(steps + n - 1, steps)


def search(n: int, value: Callable[[Shares], float]) -> tuple[Shares, float]:
    """The n shares of the highest value found: equal ones, a coarse grid, then ever smaller moves from one to another.

    Of shares of one value those tried first are taken, equal ones first of all.

    Args:
        n: how many members.
        value: of shares that add up to 1; called once for each.
    """
    best: Shares = tuple([1 / n] * n)
    known = {_key(best): value(best)}
    highest = known[_key(best)]

    def better(weights: Shares) -> bool:
        nonlocal best, highest
        key = _key(weights)
        if key in known:
            return False
        known[key] = value(weights)
        if known[key] <= highest + GAIN:
            return False
        best, highest = weights, known[key]
        return True

    steps = coarse_steps(n)
    for weights in simplex(n, steps):
        better(weights)
    for halving in range(1, HALVINGS + 1):
        while any(better(moved) for moved in _moves(best, 0.5**halving / steps)):
            pass
    return best, highest


def _moves(weights: Shares, share: float) -> Iterator[Shares]:
    """`share` (or all that is there) taken from one member and given to another, in all ways."""
    for i, there in enumerate(weights):
        for j in range(len(weights)):
            taken = min(share, there)
            if i != j and taken > 0:
                yield tuple(w - taken if k == i else w + taken if k == j else w for k, w in enumerate(weights))


def _key(weights: Shares) -> Shares:
    return tuple(round(w, 9) for w in weights)


def greedy(values: Sequence[float], value: Callable[[Shares], float]) -> tuple[Shares, float]:
    """Equal shares of some: from the best member on, each next one is taken in where the value does not fall.

    Args:
        values: of each member alone.
        value: of shares.

    Source: Wortsman et al. 2022, arXiv:2203.05482, the greedy soup.
    """
    order = sorted(range(len(values)), key=lambda i: -values[i])
    chosen, highest = order[:1], values[order[0]]
    for i in order[1:]:
        tried = value(_equal([*chosen, i], len(values)))
        if tried >= highest:
            chosen, highest = [*chosen, i], tried
    return _equal(chosen, len(values)), highest


def _equal(chosen: Sequence[int], n: int) -> Shares:
    return tuple(1 / len(chosen) if i in chosen else 0.0 for i in range(n))
