"""The list of the methods: what it says of their cost is what their networks and tiles cost."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tomopick import recipes
from tomopick.picking.tiling import Means
from tomopick.recipes.catalogue import ENTRIES, LISTED_COLUMNS, START, listed

CHALLENGE = (184, 630, 630)


@pytest.mark.parametrize("name", recipes.names())
def test_arithmetic_of_a_volume(name, monkeypatch):
    """Of one view, all tiles, whose overlap is computed twice; without values, so that it takes no time."""
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: nullcontext())  # which knows no meta device
    method = recipes.get(name)
    multiple = method.network.multiple
    edges, starts = method.tiling.fitted(Means).plan(CHALLENGE, multiple)
    small = [min(edge, -(-64 // multiple) * multiple) for edge in edges]  # convolutions cost as much a voxel
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counted:
        method.network.build(6).eval()(torch.zeros(1, 1, *small))
    voxels = np.prod([len(s) for s in starts]) * np.prod(edges) / np.prod(small)
    assert ENTRIES[name].tflop == pytest.approx(counted.get_total_flops() * voxels / 1e12, rel=0.01)


def test_every_recipe_is_listed_and_the_first_is_where_to_start():
    rows = listed()
    assert [row[0] for row in rows] == [START, *(n for n in recipes.names() if n != START)]
    assert all(len(row) == len(LISTED_COLUMNS) for row in rows)
