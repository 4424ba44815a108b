"""Truth that lies closer together than picks may."""

import numpy as np

from tomopick import PickableObject, Picks
from tomopick.scoring.crowding import crowded

TUBE = PickableObject("mt", 125.0)


def line(step, n):
    return Picks("A", np.array([[240.0, 320.0, 80 + step * i] for i in range(n)]), np.full(n, "mt"))


def test_a_row_closer_than_picks_may_lie():
    (said,) = crowded({"A": line(82, 18)}, [TUBE], {"mt": 150.0})
    assert "18 of 18 true mt lie closer than 150 Å" in said and "at most about 9" in said
    assert "pick `min_distances=mt=66`" in said


def test_what_can_be_found_is_not_mentioned():
    assert crowded({"A": line(82, 18)}, [TUBE], {"mt": 82.0}) == []
    assert crowded({"A": line(82, 18)}, [TUBE], {}) == []
    # Two that coincide, of many.
    rows = Picks.join("A", [line(200, 60), line(1, 1)])
    assert crowded({"A": rows}, [TUBE], {"mt": 150.0}) == []


def test_what_was_written_down_twice_is_no_distance_to_pick_at():
    rows = Picks.join("A", [line(300, 4), line(300, 4).shifted((0, 0, 9))])
    (said,) = crowded({"A": rows}, [TUBE], {"mt": 150.0})
    assert "at most about 4" in said and "min_distances" not in said
