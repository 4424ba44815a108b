"""Where things lie: grids, picks, and picks -> heatmap -> picks."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tomopick.core.errors import TomopickError
from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.types import Grid, Heatmap, PickableObject, Picks, Tomogram
from tomopick.data import open_project, write_mrc
from tomopick.networks.activations import Activation
from tomopick.picking.peaks import LocalMaxima
from tomopick.picking.predict import Predictor, predict_rows
from tomopick.picking.rows import decode_rows, join_rows
from tomopick.picking.tiling import TilingSpec
from tomopick.training.targets import GaussianTarget

RADII = sorted({o.radius for o in CZII_OBJECTS})
sizes = st.tuples(*[st.integers(1, 40)] * 3)
vectors = st.tuples(*[st.floats(-500, 500)] * 3)
grids = st.builds(Grid, sizes, st.floats(1, 30), vectors)


@given(grids, st.lists(vectors, min_size=1, max_size=5))
def test_positions_and_indices_are_inverse(grid, points):
    np.testing.assert_allclose(grid.positions(grid.indices(points)), points, atol=1e-8)
    np.testing.assert_allclose(grid.positions(np.zeros((1, 3))), [grid.origin])


@given(grids, st.tuples(*[st.integers(-20, 20)] * 3), sizes, vectors)
def test_a_crop_keeps_positions(grid, start, shape, index):
    crop = grid.crop(start, shape)
    assert crop.shape == shape and crop.voxel_spacing == grid.voxel_spacing
    np.testing.assert_allclose(crop.positions(index), grid.positions(np.add(index, start)), atol=1e-6)


@given(grids, st.sampled_from([1, 2, 3, 4]))
def test_a_coarse_cell_is_centred_on_its_block(grid, factor):
    coarse = grid.downsample(factor)
    assert coarse.shape == tuple(max(1, n // factor) for n in grid.shape)
    block = np.mean([grid.positions(np.full(3, i)) for i in range(factor)], axis=0)
    np.testing.assert_allclose(coarse.positions(np.zeros(3)), block, atol=1e-6)
    assert coarse.voxel_spacing == factor * grid.voxel_spacing


def test_contains_reaches_to_the_outer_faces():
    grid = Grid((4, 4, 4), 10.0)
    assert grid.contains([[-5, -5, -5], [35, 35, 35], [-5.1, 0, 0], [0, 0, 35.1]]).tolist() == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("shape, spacing", [((0, 4, 4), 10), ((4, 4), 10), ((4, 4, 4), 0), ((4, 4, 4), np.nan)])
def test_impossible_grids(shape, spacing):
    with pytest.raises(TomopickError, match="a grid needs"):
        Grid(shape, spacing)


def test_volumes_and_heatmaps_must_fit_their_grids():
    with pytest.raises(TomopickError, match="does not fit"):
        Tomogram("TS_1", np.zeros((4, 4, 5)), Grid((4, 4, 4), 10.0))
    with pytest.raises(TomopickError, match="does not fit"):
        Heatmap("TS_1", np.zeros((2, 4, 4, 4)), Grid((4, 4, 4), 10.0), ("a",))
    tomogram = Tomogram("TS_1", np.arange(64.0).reshape(4, 4, 4), Grid((4, 4, 4), 10.0))
    crop = tomogram.crop((1, 0, 2), (2, 4, 2))
    assert crop.values[0, 0, 0] == tomogram.values[1, 0, 2] and crop.grid.origin == (10, 0, 20)
    with pytest.raises(TomopickError, match="leaves"):
        tomogram.crop((3, 0, 0), (2, 4, 4))


# -- picks ---------------------------------------------------------------------------------------------------


def three() -> Picks:
    rotations = np.stack([np.diag(d) for d in ([1, 1, 1], [-1, 1, -1], [-1, -1, 1])])
    return Picks("TS_1", np.arange(9.0).reshape(3, 3), ["a", "b", "a"], [0.2, 0.5, 0.8], rotations)


def test_picks_are_selected_by_mask_index_object_and_score():
    picks = three()
    for chosen in (picks.select(np.array([True, False, True])), picks.select([0, 2]), picks.of("a")):
        assert chosen.names.tolist() == ["a", "a"] and chosen.scores.tolist() == [0.2, 0.8]
        assert chosen.positions[:, 0].tolist() == [0, 6] and chosen.rotations[:, 1, 1].tolist() == [1, -1]
    assert picks.above({"a": 0.8}).scores.tolist() == [0.5, 0.8]  # reached counts; no threshold keeps all
    assert len(picks.of("c")) == 0


def test_picks_join_and_move():
    picks = three()
    bare = Picks("TS_1", [[1.0, 2, 3]], ["c"])
    assert bare.scores.tolist() == [1.0]
    both = Picks.join("TS_1", [picks, Picks.empty("TS_1"), bare])
    assert both.names.tolist() == ["a", "b", "a", "c"] and both.rotations is None
    assert Picks.join("TS_1", [picks, Picks.empty("TS_1")]).rotations is not None
    assert len(Picks.join("TS_1", [])) == 0
    moved = picks.shifted((1, 2, 3))
    np.testing.assert_allclose(moved.positions - picks.positions, np.tile([1.0, 2, 3], (3, 1)))
    assert moved.names.tolist() == picks.names.tolist()


@pytest.mark.parametrize(
    "names, scores, rotations",
    [(["a"], [1, 1], None), (["a", "a"], [1], None), (["a", "a"], [1, 1], np.zeros((1, 3, 3)))],
)
def test_picks_of_unequal_lengths(names, scores, rotations):
    with pytest.raises(TomopickError, match="TS_1: 2 positions"):
        Picks("TS_1", np.zeros((2, 3)), names, scores, rotations)


def test_an_object_without_radius_says_how_to_give_one():
    with pytest.raises(TomopickError, match="`objects=blob:RADIUS`"):
        _ = PickableObject("blob", None).radius_angstrom


# -- picks -> heatmap -> picks -------------------------------------------------------------------------------


def there_and_back(centre, radius, spacing, stride, shape=(48, 48, 48)):
    """One particle at fractional voxels `centre` -> what is found, in voxels, and its score."""
    obj = PickableObject("blob", radius)
    fine = Grid(shape, spacing, (3.0, -70.0, 11.0))
    truth = Picks("TS_1", fine.positions([centre]), ["blob"])
    found = LocalMaxima()(GaussianTarget()(truth, fine.downsample(stride), [obj]), [obj], {"blob": 0.3})
    return fine.indices(found.positions), found.scores


fractions = st.tuples(*[st.floats(0, 1)] * 3)


@pytest.mark.parametrize("stride", [1, 2, 4])
@given(fractions, st.sampled_from(RADII), st.floats(7, 14))
@example((0.875,) * 3, 60.0, 14.0)  # at stride 4 between eight cells, all of them below 0.06
@example((0.835,) * 3, 60.0, 14.0)  # and with neighbours beyond four sigma
@settings(max_examples=60)
def test_round_trip(stride, fraction, radius, spacing):
    centre = 24 + np.multiply(fraction, stride)
    found, scores = there_and_back(centre, radius, spacing, stride)
    assert len(found) == 1
    assert np.abs(found[0] - centre).max() < 0.05
    assert abs(scores[0] - 1) < 0.01


@pytest.mark.parametrize("stride", [1, 2, 4])
@given(fractions, st.tuples(*[st.booleans()] * 3), st.sampled_from(RADII), st.floats(7, 14))
@settings(max_examples=40)
def test_round_trip_one_cell_from_the_border(stride, fraction, high, radius, spacing):
    # A cell inside: between the centres of the second and the third cell. (octopi drops particles near the border.)
    cells = 1 + np.asarray(fraction)
    n = np.array((24, 32, 48))
    cells = np.where(high, n // stride - 1 - cells, cells)
    centre = stride * (cells + 0.5) - 0.5
    found, _ = there_and_back(centre, radius, spacing, stride, tuple(n))
    assert len(found) == 1
    assert np.abs(found[0] - centre).max() < 0.05


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_particle_on_the_border_is_not_lost(stride):
    for centre in ([0, 20, 20], [20, 47, 20.3], [0, 0, 0], [47, 47, 47]):
        found, _ = there_and_back(centre, 150.0, 10.0, stride)
        assert len(found) == 1
        assert np.abs(found[0] - centre).max() <= (stride - 1) / 2 + 0.5


def test_round_trip_has_no_bias():
    """TopCUP encodes with floor and decodes the index: half a voxel too low along every axis."""
    rng = np.random.default_rng(0)
    obj, grid = PickableObject("blob", 60.0), Grid((64, 64, 64), 10.0)
    lattice = np.stack(np.meshgrid(*[np.arange(8, 60, 16.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    truth = Picks("TS_1", grid.positions(lattice + rng.random(lattice.shape)), ["blob"] * len(lattice))
    found = LocalMaxima()(GaussianTarget()(truth, grid, [obj]), [obj], {"blob": 0.3})
    order = [int(np.linalg.norm(truth.positions - p, axis=1).argmin()) for p in found.positions]
    assert sorted(order) == list(range(len(lattice)))
    assert np.abs((found.positions - truth.positions[order]).mean(axis=0)).max() < 0.05


def test_targets_of_neighbours_keep_the_larger_value():
    objects = [PickableObject("a", 60.0), PickableObject("b", 90.0)]
    grid = Grid((16, 16, 24), 10.0)
    picks = Picks("TS_1", grid.positions([[8, 8, 8], [8, 8, 12], [8, 8, 8]]), ["a", "a", "b"])
    target = GaussianTarget(sigmas={"a": 20.0})(picks, grid, objects)
    assert target.values.max() == 1.0
    assert target.values[0, 8, 8, 10] == pytest.approx(np.exp(-0.5))  # not twice that
    assert target.values[1, 8, 8, 11] == pytest.approx(np.exp(-0.5))  # sigma is a third of 90 Å
    assert target.values[0, 8, 8, 21] == 0  # beyond four sigma


def test_a_particle_outside_reaches_in():
    obj, grid = PickableObject("a", 60.0), Grid((8, 8, 8), 10.0)
    target = GaussianTarget()(Picks("TS_1", [[-10.0, 40, 40], [-90.0, 40, 40]], ["a", "a"]), grid, [obj])
    assert target.values[0, 0, 4, 4] == pytest.approx(np.exp(-1 / 8))


# -- from a data set's files and back ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "czii"])
def test_a_data_sets_offset_is_taken_out_and_put_back(tmp_path, name):
    """The picks of CZII data lie half a voxel low: what is learnt and found is the true centre."""
    spacing, xyz, offset = 10.0, (123.4, 83.0, 47.1), {"none": 0.0, "czii": 0.5}[name]
    write_mrc(tmp_path / "TS_1.mrc", np.random.default_rng(0).normal(size=(12, 20, 24)).astype(np.float32), spacing)
    (tmp_path / "TS_1.csv").write_text("object,x,y,z\nblob,{},{},{}\n".format(*xyz))
    project = open_project(str(tmp_path), objects=["blob:60"], coordinate_offset=name)
    picks, grid = project.picks("TS_1"), project.grid("TS_1")
    np.testing.assert_allclose(picks.positions[0], np.array(xyz[::-1]) + offset * spacing, atol=1e-3)
    found = LocalMaxima()(GaussianTarget()(picks, grid, project.objects), project.objects, {"blob": 0.3})
    np.testing.assert_allclose(project.stated(found).positions[0], xyz[::-1], atol=0.05 * spacing)


# -- whole line ----------------------------------------------------------------------------------------------


class Itself(Activation):
    """Logits that are the heatmap."""

    def __call__(self, logits):
        return logits


def test_tomograms_picked_in_turn_keep_their_own_particles():
    """TopCUP gives every tomogram of a batch the first one's prediction."""
    obj, grid = PickableObject("blob", 60.0), Grid((24, 40, 40), 10.0)
    predictor = Predictor(lambda tile: tile[None].copy(), Itself(), TilingSpec((16, 16, 16), 4), 1, 1, ("blob",))
    truths = [Picks(f"TS_{i}", grid.positions([[12, 9.3 + 5 * i, 30.6 - 7 * i]]), ["blob"]) for i in range(3)]
    volumes = [GaussianTarget()(p, grid, [obj]).values[0] for p in truths]
    rows = [predict_rows(predictor, p.run, v, grid) for p, v in zip(truths, volumes)]
    for truth, own in zip(truths, rows):
        found = decode_rows(own, LocalMaxima(), [obj], {"blob": 0.3}, truth.run)
        assert found.run == truth.run and len(found) == 1
        np.testing.assert_allclose(found.positions, truth.positions, atol=0.5)
    again = join_rows(predict_rows(predictor, "TS_0", volumes[0], grid))
    np.testing.assert_allclose(again.values[0], volumes[0], atol=1e-5)
