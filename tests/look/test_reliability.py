"""The picture of how far scores can be believed."""

import numpy as np
import pytest

from tomopick.look.reliability import _interval, draw_reliability
from tomopick.scoring.score_maps import Believed, Reliability, reliability


def test_intervals_are_wilsons():
    low, high = _interval(Reliability(np.array([0.5, 0.1]), np.array([0.8, 0.0]), np.array([10, 10]), 0.1))
    assert low == pytest.approx((0.4902, 0.0), abs=1e-4) and high == pytest.approx((0.9433, 0.2775), abs=1e-4)


def test_a_picture_of_all_objects_is_drawn(tmp_path):
    some = reliability(np.linspace(0, 1, 40), np.arange(40) > 25)
    nothing = reliability(np.zeros(0), np.zeros(0, dtype=bool))
    believed = {"a": Believed(some, some), "b": Believed(some, nothing), "c": Believed(nothing, nothing)}
    assert draw_reliability(believed, tmp_path).stat().st_size > 10_000
