import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tomopick.core.types import Grid, PickableObject, Picks
from tomopick.picking.unpicked import unpicked

GRID = Grid((24, 260, 348), 10.0)
OBJECTS = [PickableObject("p", 60.0)]


def nothing_is_read(run):
    raise AssertionError(f"{run} was read")


def places(n, share=1.0, seed=0, run="A"):
    """Picks along x up to a share of it."""
    drawn = np.random.default_rng(seed).uniform(0, 1, (n, 3)) * GRID.shape * np.array([1, 1, share])
    return Picks(run, GRID.positions(drawn), ["p"] * n)


def seen(picks, noise=1.0):
    """Dark balls at picks, in noise."""
    values = np.zeros(GRID.shape, np.float32)
    np.subtract.at(values, tuple(np.clip(np.rint(GRID.indices(picks.positions)).astype(int), 0, 23 * 99).T), 2000.0)
    rng = np.random.default_rng(1)
    return gaussian_filter(values, 4.0) + noise * rng.normal(size=GRID.shape).astype(np.float32), None


@pytest.fixture
def everywhere():
    picks = places(80)
    return picks.select(GRID.contains(picks.positions))


def test_picks_all_over_a_run_ask_nothing(everywhere):
    assert unpicked([everywhere], {"A": GRID}, OBJECTS, nothing_is_read) == []


def test_picks_of_a_part_are_asked_about_where_the_rest_looks_alike(everywhere):
    part = everywhere.select(everywhere.positions[:, 2] < 1500)
    (line,) = unpicked([part], {"A": GRID}, OBJECTS, lambda run: seen(everywhere))
    assert "labelled only there" in line and "`regions=A=:,:,0:" in line and line.endswith("`all_labelled`")
    assert "1500 of" not in line and "of 3480 Å" in line
    assert unpicked([part], {"A": GRID}, OBJECTS, lambda run: seen(part)) == []  # the rest is empty
    few = part.select(np.arange(9))  # so few may be anywhere
    assert unpicked([few], {"A": GRID}, OBJECTS, nothing_is_read) == []


def test_a_bead_of_gold_is_no_specimen(everywhere):
    part = everywhere.select(everywhere.positions[:, 2] < 1500)
    values = seen(part)[0] + 8 * seen(everywhere.select([-1]), noise=0.0)[0]
    assert unpicked([part], {"A": GRID}, OBJECTS, lambda run: (values, None)) == []


def test_without_a_radius_the_picks_decide(everywhere):
    part = everywhere.select(everywhere.positions[:, 2] < 1500)
    assert len(unpicked([part], {"A": GRID}, [PickableObject("p", None)], nothing_is_read)) == 1


def test_few_picks_in_the_same_part_of_every_run_are_asked_about():
    part = [places(5, 0.37, seed, run) for seed, run in enumerate("ABC")]
    grids = dict.fromkeys("ABCD", GRID)
    more = {p.run: places(12, 1.0, 9, p.run) for p in part}
    joined = {p.run: Picks.join(p.run, [p, more[p.run]]) for p in part}
    whole = [*part, places(30, 1.0, 5, "D")]  # D tells by itself that it is whole
    (line,) = unpicked(whole, grids, OBJECTS, lambda run: seen(joined[run]))
    assert line.startswith("runs A, B, C: their 15 picks lie in x from ") and "`regions=A=:,:,0:" in line
    assert unpicked(whole, grids, OBJECTS, lambda run: seen(next(p for p in part if p.run == run))) == []
    assert (
        unpicked([places(5, 1.0, seed, run) for seed, run in enumerate("ABC")], grids, OBJECTS, nothing_is_read) == []
    )
    assert unpicked(part[:1], grids, OBJECTS, nothing_is_read) == []
    assert unpicked([], grids, OBJECTS, nothing_is_read) == []
