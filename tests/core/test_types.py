"""Bounds of what geometry is computed with."""

import numpy as np
import pytest

from tomopick.core.errors import TomopickError
from tomopick.core.types import FARTHEST, SPACINGS, Grid, Picks


@pytest.mark.parametrize("spacing", [0.0, -1.0, np.nan, np.inf, SPACINGS[0] / 2, SPACINGS[1] * 2, 1e-300, 1e300])
def test_spacings_that_no_tomogram_has(spacing):
    with pytest.raises(TomopickError, match="positive voxel spacing"):
        Grid((4, 4, 4), spacing)


@pytest.mark.parametrize("origin", [(0.0, np.nan, 0.0), (np.inf, 0.0, 0.0), (0.0, 0.0, 2 * FARTHEST)])
def test_origins_that_no_tomogram_has(origin):
    with pytest.raises(TomopickError, match="within"):
        Grid((4, 4, 4), 10.0, origin)


def test_picks_where_no_tomogram_reaches():
    positions = np.array([[0.0, FARTHEST, 0.0], [1.0, -2 * FARTHEST, 3.0]])
    assert len(Picks("A", positions[:1], np.array(["x"]))) == 1
    with pytest.raises(TomopickError, match="run A: pick 2 of 2 lies 2e\\+09 Å away"):
        Picks("A", positions, np.array(["x", "x"]))
