"""Published ways from a heatmap to picks: against restatements that are plain and obvious."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tomopick.core.errors import RecipeError
from tomopick.core.types import Grid, Heatmap, PickableObject, Picks
from tomopick.picking.decoders import Components, UpsampledMaxima, Watershed
from tomopick.picking.peaks import merge_plateaus
from tomopick.picking.rows import decode_rows
from tomopick.picking.watershed import _overflowed, parted

A, B = PickableObject("a", 40.0), PickableObject("b", 60.0)
seeds = st.integers(0, 10**6)
shapes = st.tuples(*[st.integers(1, 14)] * 3)
CUTS = {"a": 0.5, "b": 0.6}


def blobs(seed: int, shape, smooth: float = 1.0) -> np.ndarray:
    """Two smooth random maps, 0..1."""
    rng = np.random.default_rng(seed)
    values = np.stack([ndimage.gaussian_filter(rng.random(shape), smooth) for _ in range(2)])
    values -= values.min()
    return (values / max(values.max(), 1e-6)).astype(np.float32)


def heatmap(values: np.ndarray, spacing: float = 10.0) -> Heatmap:
    return Heatmap("TS_1", values, Grid(values.shape[1:], spacing, (5.0, -20.0, 100.0)), ("a", "b"))


def rows(whole: Heatmap, steps) -> list[Heatmap]:
    """The heatmap as a predictor gives it: strips that go on from one another."""
    found, start, n = [], 0, whole.grid.shape[1]
    for step in [*steps, n]:
        stop = min(n, start + step)
        if stop > start:
            z, _, x = whole.grid.shape
            grid = whole.grid.crop((0, start, 0), (z, stop - start, x))
            found.append(Heatmap(whole.run, whole.values[:, :, start:stop], grid, whole.objects))
        start = stop
    return found


def same(a: Picks, b: Picks) -> None:
    order_a, order_b = (np.lexsort((*p.positions.T.round(2), p.names)) for p in (a, b))
    assert a.names[order_a].tolist() == b.names[order_b].tolist()
    np.testing.assert_allclose(a.positions[order_a], b.positions[order_b], atol=1e-3)
    np.testing.assert_allclose(a.scores[order_a], b.scores[order_b], atol=1e-6)


# -- components --------------------------------------------------------------------------------------------------


def plain_components(whole: Heatmap, rank: int, least: float) -> Picks:
    parts = []
    for name, values in zip(whole.objects, whole.values):
        labels, n = ndimage.label(values > CUTS[name], ndimage.generate_binary_structure(3, rank))
        for i in range(1, n + 1):
            cells = np.argwhere(labels == i)
            if len(cells) > least:
                centre = whole.grid.positions(cells.mean(axis=0)[None])
                parts.append(Picks("TS_1", centre, np.array([name]), np.array([values[labels == i].max()])))
    return Picks.join("TS_1", parts)


@given(seeds, shapes, st.sampled_from([(6, 1), (18, 2), (26, 3)]), st.sampled_from([0.0, 3.5]))
@settings(max_examples=40)
def test_components_are_their_middles(seed, shape, neighbours, least):
    whole = heatmap(blobs(seed, shape, 0.7))
    found = Components(neighbours[0], least)(whole, (A, B), CUTS)
    same(found, plain_components(whole, neighbours[1], least))
    assert (np.diff(found.scores) <= 0).all()


@given(seeds, shapes, st.sampled_from([6, 18, 26]), st.lists(st.integers(1, 4), max_size=5))
@settings(max_examples=60)
def test_components_that_strips_cut(seed, shape, connectivity, steps):
    whole = heatmap(blobs(seed, shape, 0.8))
    peaks = Components(connectivity, 1.0, {"b": 0.0})
    same(decode_rows(rows(whole, steps), peaks, (A, B), CUTS, "TS_1"), peaks(whole, (A, B), CUTS))


def test_a_snake_through_every_strip_is_one_component():
    values = np.zeros((2, 3, 20, 5), dtype=np.float32)
    values[0, 0, :, 0] = values[0, 0, :, 4] = 0.9
    values[0, 0, 19, :] = 0.95  # joined in the last row alone
    found = decode_rows(rows(heatmap(values), [3, 4, 1, 6]), Components(6), (A, B), CUTS, "TS_1")
    assert len(found) == 1 and found.scores[0] == pytest.approx(0.95)


def test_neighbours_that_touch_at_an_edge_and_a_corner():
    values = np.zeros((2, 6, 6, 6), dtype=np.float32)
    values[0, 1, 1, 1] = values[0, 2, 2, 1] = 0.9  # an edge
    values[1, 3, 3, 3] = values[1, 4, 4, 4] = 0.9  # a corner
    for connectivity, counts in ((6, (2, 2)), (18, (1, 2)), (26, (1, 1))):
        for steps in ([], [2, 1, 1, 1], [4]):
            found = decode_rows(rows(heatmap(values), steps), Components(connectivity, 0), (A, B), CUTS, "TS_1")
            assert (len(found.of("a")), len(found.of("b"))) == counts


def test_nothing_above_the_threshold():
    for peaks in (Components(), Watershed(), UpsampledMaxima()):
        assert len(peaks(heatmap(np.zeros((2, 4, 5, 6), dtype=np.float32)), (A, B), CUTS)) == 0
        assert len(decode_rows([], peaks, (A, B), CUTS, "TS_1")) == 0
    assert Components().positions_depend_on_threshold and Watershed().positions_depend_on_threshold
    assert not UpsampledMaxima().positions_depend_on_threshold


# -- watershed ---------------------------------------------------------------------------------------------------


def balls(shape, centres, radius):
    distance = np.full(shape, np.inf)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    for c in centres:
        distance = np.minimum(distance, np.linalg.norm(grid - c, axis=-1))
    return np.where(distance <= radius, 1 - 0.02 * distance, 0).astype(np.float32)


def test_touching_balls_are_parted():
    centres = np.array([[12.0, 10, 12], [12.0, 19, 12], [12.0, 28, 14], [12.0, 40, 30]])
    values = np.stack([balls((24, 50, 40), centres, 5.5), np.zeros((24, 50, 40), dtype=np.float32)])
    whole = heatmap(values)
    assert len(Components()(whole, (A, B), CUTS)) == 2
    for steps in ([], [7, 6, 1, 20], [1] * 49):
        found = decode_rows(rows(whole, steps), Watershed(), (A, B), CUTS, "TS_1")
        order = np.argsort(found.positions[:, 1])
        error = whole.grid.indices(found.positions[order]) - centres
        assert len(found) == 4 and np.abs(error).max() < 0.6
        assert np.abs(error[3]).max() < 1e-6  # by itself: exactly its middle
        np.testing.assert_allclose(found.scores, 1.0)


@given(seeds, shapes, st.lists(st.integers(1, 4), max_size=5))
@settings(max_examples=40)
def test_watershed_of_strips(seed, shape, steps):
    whole = heatmap(blobs(seed, shape))
    peaks = Watershed(separation=0.5, min_cells=3)
    same(decode_rows(rows(whole, steps), peaks, (A, B), CUTS, "TS_1"), peaks(whole, (A, B), CUTS))


@given(seeds, st.integers(2, 6))
@settings(max_examples=25)
def test_every_cell_has_a_part_and_parts_have_summits(seed, radius):
    values = blobs(seed, (12, 16, 14))[0]
    labels, n = ndimage.label(values > 0.5, np.ones((3, 3, 3)))
    depth = ndimage.distance_transform_edt(values > 0.5)
    for i in range(1, n + 1):
        cells = np.argwhere(labels == i)
        part = parted(cells, values.shape, radius)
        assert part.shape == (len(cells),) and set(part) == set(range(part.max() + 1))
        if (np.ptp(cells, axis=0) <= radius).all():
            assert (part == 0).all()
            continue
        own = np.where(labels == i, depth, 0)
        summits = np.argwhere((own == ndimage.maximum_filter(own, 2 * radius + 1)) & (own > 0))
        plateau = merge_plateaus(summits)
        place = {tuple(c): k for c, k in zip(cells.tolist(), part.tolist())}
        held = {(int(n), place[tuple(c)]) for n, c in zip(plateau, summits.tolist())}
        # A summit has one part, and a part one summit.
        assert len(held) == plateau.max() + 1 == part.max() + 1


def test_small_parts_are_left_out_by_object():
    values = np.stack([balls((20, 40, 20), [(9, 9, 9), (9, 30, 9)], r) for r in (4.2, 2.2)])
    values[0, :, 25:] = values[1, :, 25:]
    whole = heatmap(values)
    assert len(Watershed(min_cells=50, min_cells_of={"b": 20})(whole, (A, B), CUTS).of("a")) == 1
    assert len(Watershed(min_cells=50, min_cells_of={"b": 20})(whole, (A, B), CUTS).of("b")) == 2
    cells = int((values[1, :, :20] > CUTS["b"]).sum())
    assert len(Watershed(min_cells=cells)(whole, (B,), CUTS)) == 2
    assert len(Watershed(min_cells=cells + 1)(whole, (B,), CUTS)) == 0
    assert len(Components(min_cells=cells - 1)(whole, (B,), CUTS)) == 2
    assert len(Components(min_cells=cells)(whole, (B,), CUTS)) == 0


# -- up-sampled maxima -------------------------------------------------------------------------------------------


def plain_upsampled(logits: np.ndarray, grid: Grid, objects, cuts) -> Picks:
    """What the topcup package is described to do, the plain way."""
    size = [2 * n for n in logits.shape[1:]]
    fine = torch.nn.functional.interpolate(torch.from_numpy(logits)[None], size=size, mode="trilinear")[0].softmax(0)
    parts = []
    for obj, p in zip(objects, fine):
        radius = int(0.5 * obj.radius / (grid.voxel_spacing / 2))
        largest = torch.nn.functional.max_pool3d(p[None], 2 * radius + 1, 1, radius)[0]
        at = torch.nonzero((p == largest) & (p > cuts[obj.name])).numpy()
        # What saturates at 1 is one peak, in its middle.
        plateau = merge_plateaus(at)
        middle = np.array([at[plateau == i].mean(axis=0) for i in range(plateau.max(initial=-1) + 1)]).reshape(-1, 3)
        scores = [float(p[tuple(at[plateau == i][0])]) for i in range(len(middle))]
        origin = np.array(grid.origin) - grid.voxel_spacing / 4
        positions = origin + middle * grid.voxel_spacing / 2
        parts.append(Picks("TS_1", positions, np.full(len(middle), obj.name), np.array(scores)))
    return Picks.join("TS_1", parts)


@given(seeds, st.tuples(*[st.integers(2, 10)] * 3), st.lists(st.integers(1, 4), max_size=5), st.floats(0.05, 0.95))
@settings(max_examples=40)
def test_upsampled_maxima(seed, shape, steps, cut):
    rng = np.random.default_rng(seed)
    logits = np.stack([ndimage.gaussian_filter(rng.normal(0, 8, shape), 1) for _ in range(3)]).astype(np.float32)
    grid = Grid(shape, 20.0, (5.0, 0.0, -10.0))
    p = torch.from_numpy(logits).softmax(0).numpy()
    cuts = {"a": cut, "b": cut}
    wanted = plain_upsampled(logits, grid, (A, B), cuts)
    peaks = UpsampledMaxima(refined=False)
    for found in (
        peaks(Heatmap("TS_1", p[:2], grid, ("a", "b")), (A, B), cuts),
        decode_rows(rows(Heatmap("TS_1", p[:2], grid, ("a", "b")), steps), peaks, (A, B), cuts, "TS_1"),
    ):
        order_a, order_b = (np.lexsort((*q.positions.T.round(2), q.names)) for q in (found, wanted))
        assert found.names[order_a].tolist() == wanted.names[order_b].tolist()
        np.testing.assert_allclose(found.positions[order_a], wanted.positions[order_b], atol=1e-3)
        np.testing.assert_allclose(found.scores[order_a], wanted.scores[order_b], atol=1e-4)


def test_refined_upsampled_maxima_lie_between_voxels():
    rng = np.random.default_rng(0)
    shape, truth = (12, 20, 16), np.array([5.3, 9.8, 7.1])
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    logit = 6 - 0.5 * ((grid - truth) ** 2).sum(-1) / 1.5**2
    p = 1 / (1 + np.exp(-logit)) + rng.random(shape) * 1e-9
    values = np.stack([p, np.zeros(shape)]).astype(np.float32)
    found = UpsampledMaxima()(Heatmap("TS_1", values, Grid(shape, 20.0), ("a", "b")), (A, B), CUTS)
    assert len(found) == 1
    assert np.abs(found.positions[0] / 20 - truth).max() < 0.1


def test_what_cannot_be():
    with pytest.raises(RecipeError, match=r"peaks.connectivity is 8; it can be 6, 18 or 26"):
        Components(8)
    with pytest.raises(RecipeError, match=r"peaks.separation is 0"):
        Watershed(0)


def joined_one_by_one(owner, edges, heights):
    """Basins joined along the deepest ways first, unless both have an owner."""
    group, owner = list(range(len(owner))), list(owner)
    for a, b in edges[np.argsort(-heights, kind="stable")]:
        a, b = group[a], group[b]
        if a != b and not (owner[a] and owner[b]):
            owner[a] = owner[a] or owner[b]
            group = [a if g == b else g for g in group]
    return [owner[g] for g in group]


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(0, 90))
def test_floods_join_along_the_deepest_ways(seed, n, m):
    rng = np.random.default_rng(seed)
    owner = np.where(rng.random(n) < 0.3, rng.permutation(n) + 1, 0)
    edges = rng.integers(0, n, (m, 2))
    edges, heights = edges[edges[:, 0] != edges[:, 1]], rng.integers(1, 6, m).astype(float)
    heights = heights[: len(edges)]  # many are as deep as others
    assert _overflowed(owner, edges, heights).tolist() == joined_one_by_one(owner, edges, heights)
