"""A diameter that was given as a radius."""

import pytest

from tomopick import PickableObject
from tomopick.scoring.radii import radius_doubts


@pytest.mark.parametrize(("radius", "doubted"), [(150, False), (300, True), (75, True), (200, False), (None, False)])
def test_about_twice_or_half(radius, doubted):
    lines = radius_doubts([PickableObject("ribosome", radius)])
    assert bool(lines) == doubted and all("diameter" in line and f"{radius:g} Å" in line for line in lines)
    assert not radius_doubts([PickableObject("other", radius)])
