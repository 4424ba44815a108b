"""One density, one name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from small import BALL, RING, tomogram, trained
from tomopick import Detector, recipes
from tomopick.core.errors import RecipeError
from tomopick.core.types import PickableObject, Picks
from tomopick.picking.exclusion import Exclusion
from tomopick.picking.picker import Picker, PickOptions
from tomopick.scoring.crowding import sharing
from tomopick.scoring.score import score

SMALL, LARGE = PickableObject("small", 50.0), PickableObject("large", 100.0)
BEST, LOW = {"small": 0.5, "large": 0.8}, {"small": 0.2, "large": 0.5}


def rule(part=0.5, wanted=None, used=None):
    thresholds = {"f1": BEST, "czii": LOW}
    return Exclusion.of([SMALL, LARGE], thresholds, used or BEST, part, wanted)


def along(*places):
    """Picks on x: (object, x, score)."""
    names, x, scores = zip(*places)
    return Picks("A", np.array([[100.0, 100.0, v] for v in x]), list(names), scores)


def kept(picks, **how):
    left = rule(**how)(picks)
    return list(zip(left.names.tolist(), left.positions[:, 2].tolist()))


def test_the_surest_for_its_own_object_keeps_the_density():
    # 0.7 of an object whose threshold is 0.5 is surer than 0.82 of one whose threshold is 0.8.
    assert kept(along(("large", 0, 0.82), ("small", 20, 0.7))) == [("small", 20)]
    assert kept(along(("large", 0, 0.99), ("small", 20, 0.7))) == [("large", 0)]


def test_who_is_too_far_or_of_the_same_object_or_doubtful_does_not_compete():
    assert len(kept(along(("large", 0, 0.99), ("small", 26, 0.7)))) == 2  # half the smaller radius is 25
    assert len(kept(along(("small", 0, 0.99), ("small", 20, 0.7)))) == 2
    assert len(kept(along(("large", 0, 0.99), ("small", 20, 0.4)))) == 2
    assert len(kept(along(("large", 0, 0.5), ("small", 20, 0.2)), wanted=True)) == 2  # neither reaches its threshold
    assert len(kept(along(("large", 0, 0.99), ("small", 20, 0.4)), wanted=True)) == 1
    assert len(kept(along(("large", 0, 0.99), ("small", 20, 0.7)), part=0.0)) == 2
    assert len(kept(along(("large", 0, 0.99), ("small", 20, 0.7)), wanted=False)) == 2


def test_where_every_particle_is_wanted_nothing_competes_but_by_request():
    both = along(("large", 0, 0.99), ("small", 20, 0.7))
    assert len(kept(both, used=LOW)) == 2 and len(kept(both, used={**BEST, "small": 0.3})) == 2
    assert kept(both, used=LOW, wanted=True) == [("large", 0)]
    assert kept(both, used={"small": 0.6, "large": 0.9}) == [("large", 0)]  # higher thresholds


def test_who_has_lost_takes_nothing():
    assert kept(along(("large", 0, 0.999), ("small", 20, 0.9), ("large", 40, 0.81))) == [("large", 0), ("large", 40)]


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_afterwards_none_that_reaches_its_threshold_has_a_rival(seed, n):
    rng = np.random.default_rng(seed)
    picks = Picks("A", rng.uniform(0, 200, (n, 3)), rng.choice(["small", "large"], n), rng.uniform(0, 1, n))
    left = rule()(picks)
    assert sharing({"A": left.above(BEST)}, [SMALL, LARGE]) == 0
    assert len(rule()(left)) == len(left)
    other = rule()(picks.select(rng.permutation(n)))
    assert sorted(map(tuple, other.positions)) == sorted(map(tuple, left.positions))


def test_it_is_a_field_of_the_method_that_options_overrule():
    assert recipes.get("light").exclusion == 0.5
    assert {name for name in recipes.names() if recipes.get(name).exclusion} == {"light"}
    assert rule(part=0.0, wanted=True).part == 0.5 and rule(part=0.4, wanted=True).part == 0.4
    with pytest.raises(RecipeError, match="exclusion is -1"):
        recipes.get("light").override(["exclusion=-1"])


def test_a_picker_leaves_one_name_for_a_density():
    model = Detector.load(trained(BALL, RING))
    t, truth = tomogram(objects=(BALL, RING))
    low = {"ball": 0.05, "ring": 0.05}
    found = {
        wanted: Picker(model, PickOptions(device="cpu", thresholds=low, exclude=wanted)).pick(t)[0]
        for wanted in (True, False)
    }
    assert sharing({"A": found[True].above(model.thresholds["f1"])}, model.objects) == 0
    assert set(map(tuple, found[True].positions)) <= set(map(tuple, found[False].positions))
    assert PickOptions().settings().keys() == PickOptions(device="cuda").settings().keys()
    assert PickOptions(exclude=True).settings()["exclude"] is True
    made = score(found[False], truth, model.objects)
    n = sharing({"A": found[False]}, model.objects)
    assert made.sharing == n and (f"{n} picks share a density" in made.text()) == bool(n)
