import sys
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest

from tomopick.core.errors import OutputError
from tomopick.core.types import Grid, PickableObject, Picks, Tomogram
from tomopick.look.sections import _smooth, draw_sections, draw_training, section_layout

RED = PickableObject("red", 100.0, 1, (255, 0, 0, 255))
GREEN = PickableObject("green", 100.0, 2, (0, 255, 0, 255))
GRID = Grid((60, 90, 120), 10.0, (50.0, -70.0, 30.0))


def tomogram(values=None):
    if values is None:
        values = np.random.default_rng(0).normal(0, 1, GRID.shape).astype(np.float32)
    return Tomogram("TS_1", values, GRID)


def at(*indices, name="red"):
    return Picks("TS_1", GRID.positions(np.array(indices)), [name] * len(indices))


def coloured(path, box, color):
    """(n, 2) y and x of the pixels of one pure colour within a box of the layout, from its top left [pixels]."""
    image = np.round(matplotlib.image.imread(path)[..., :3] * 255).astype(int)
    left, top, width, height = (round(v) for v in box)
    part = image[top : top + height, left : left + width]
    return np.argwhere(np.abs(part - np.array(color[:3])).max(axis=-1) < 40)


def layout(n_rows=1, legend=250.0):
    return section_layout(GRID, n_rows, legend)


def box_of(pixels, scale):
    """Middle (y, x) and size (y, x) of a drawn circle [Å], from the middle of its line."""
    low, high = pixels.min(axis=0), pixels.max(axis=0) + 1
    return (low + high) / 2 / scale, (high - low) / scale


def test_circle_is_in_its_place_with_its_radius_in_all_sections(tmp_path):
    draw_sections(tomogram(), at((20, 30, 80)), [RED], tmp_path / "a.png")
    for name, middle in (("xy", (305, 805)), ("xz", (205, 805)), ("yz", (305, 205))):  # voxel i covers i*10 to i*10+10
        found, size = box_of(coloured(tmp_path / "a.png", layout().panels[name], RED.color), layout().scale)
        assert found == pytest.approx(middle, abs=4), name
        assert size == pytest.approx((200, 200), abs=6), name


def test_a_sphere_beside_the_slab_is_smaller_and_one_beyond_it_is_not_drawn(tmp_path):
    picks = at((20, 30, 80))
    for off, size in (
        (50, 200),
        (110, 160),
        (149, 28),
        (151, None),
    ):  # half a slab of 100 Å, then a section of the sphere
        centre = tuple(picks.positions[0] + np.array([off, 0, 0]))
        draw_sections(tomogram(), picks, [RED], tmp_path / "a.png", at=centre)
        pixels = coloured(tmp_path / "a.png", layout().panels["xy"], RED.color)
        if size is None:
            assert not len(pixels)
        else:
            assert box_of(pixels, layout().scale)[1] == pytest.approx((size, size), abs=6), off


def test_the_fullest_slab_is_chosen(tmp_path):
    """Three greens share a z that the single red does not."""
    picks = Picks.join("TS_1", [at((50, 10, 10)), at((15, 60, 30), (15, 60, 70), (15, 60, 110), name="green")])
    draw_sections(tomogram(), picks, [RED, GREEN], tmp_path / "a.png")
    for name in ("xy", "xz"):
        box = layout(2).panels[name]
        assert len(coloured(tmp_path / "a.png", box, GREEN.color)) > 300, name
        assert not len(coloured(tmp_path / "a.png", box, RED.color)), name


def test_hits_are_solid_false_picks_dashed_and_misses_dotted(tmp_path):
    """The more of a line is missing, the fewer pixels it has; each of the three is alone in its third."""
    picks, truth = at((20, 45, 20), (20, 45, 60)), at((20, 45, 22), (20, 45, 100))
    draw_sections(tomogram(), picks, [RED], tmp_path / "a.png", truth=truth)
    plan = layout(1, 356.0)
    x = coloured(tmp_path / "a.png", plan.panels["xy"], RED.color)[:, 1] / plan.scale
    solid, dashed, dotted = np.histogram(x, (0, 400, 800, 1200))[0]
    assert 0 < dotted < 0.8 * dashed < 0.7 * solid
    assert np.median(x[x < 400]) == pytest.approx(205, abs=15)  # a hit is drawn where it was picked


def test_dark_stays_dark_and_outliers_do_not_matter(tmp_path):
    values = np.random.default_rng(0).normal(0, 0.1, GRID.shape).astype(np.float32)
    values[:, :, :60] -= 3
    values[20, 30, 80:82] = 1e6  # gold
    draw_sections(tomogram(values), Picks.empty("TS_1"), [RED], tmp_path / "a.png")
    left, top, width, height = (round(v) for v in layout(0).panels["xy"])
    section = matplotlib.image.imread(tmp_path / "a.png")[top : top + height, left : left + width, 0]
    middle = section[height // 3 : height // 2]
    assert middle[:, : width // 3].mean() < 0.25 and middle[:, 2 * width // 3 : -20].mean() > 0.6


@pytest.mark.parametrize("values", [np.nan, 0.0])
def test_nothing_to_see(tmp_path, values):
    draw_sections(tomogram(np.full(GRID.shape, values, np.float32)), Picks.empty("TS_1"), [], tmp_path / "a.png")
    assert matplotlib.image.imread(tmp_path / "a.png").shape[1] == layout(0).size[0]


def test_voxels_that_are_not_finite_are_left_out(tmp_path):
    values = np.random.default_rng(0).normal(0, 1, GRID.shape).astype(np.float32)
    draw_sections(tomogram(values), Picks.empty("TS_1"), [], tmp_path / "a.png")
    broken = values.copy()
    broken[::2, :, :40] = np.nan  # every second plane: the slab still has a mean everywhere
    broken[:, :, 100:] = np.inf
    draw_sections(tomogram(broken), Picks.empty("TS_1"), [], tmp_path / "b.png")
    a, b = (matplotlib.image.imread(tmp_path / f"{k}.png")[..., :3] for k in "ab")
    left, top, width, height = (round(v) for v in layout(0).panels["xy"])
    row = top + height // 4
    assert np.abs(a[row, left + width // 2] - b[row, left + width // 2]).max() < 0.1
    tint = np.array([0xDF, 0xE6, 0xEE]) / 255
    assert np.allclose(b[row, left + 110 * width // 120], tint, atol=0.01)
    assert not np.allclose(b[row, left + 20 * width // 120], tint, atol=0.01)


@pytest.mark.parametrize(
    "shape", [(128, 512, 512), (40, 260, 348), (184, 630, 630), (1, 64, 64), (200, 900, 300), (300, 90, 900)]
)
@pytest.mark.parametrize("n_rows", [0, 1, 6, 30])
def test_nothing_overlaps_or_leaves_the_picture(shape, n_rows):
    for legend in (250.0, 356.0):
        plan = section_layout(Grid(shape, 10.0), n_rows, legend)
        boxes = [*plan.panels.values(), plan.legend]
        assert max(plan.size) <= 2600 and plan.scale > 0
        for k, (a, b, w, h) in enumerate(boxes):
            assert a >= 0 and b >= 0 and a + w <= plan.size[0] and b + h <= plan.size[1]
            for c, d, v, u in boxes[:k]:
                assert a >= c + v or c >= a + w or b >= d + u or d >= b + h
        sizes = [(w / plan.scale, h / plan.scale) for _, _, w, h in plan.panels.values()]
        z, y, x = (10.0 * n for n in shape)
        assert np.allclose(sizes, [(x, y), (x, z), (z, y)])


def test_wide_pictures_of_usual_tomograms():
    for shape in ((128, 512, 512), (184, 630, 630), (100, 260, 348)):
        width, height = section_layout(Grid(shape, 10.0), 6, 356.0).size
        assert 1280 <= width <= 1330 and 800 < height < 1400


def test_many_objects_and_strange_names(tmp_path):
    names = [f"$object-{k}-with-a-very-long-name" for k in range(25)]
    objects = [replace(RED, name=n, label=k + 1) for k, n in enumerate(names)]
    picks = Picks("TS_1", np.tile(GRID.positions(np.array([[30, 45, 60]])), (25, 1)), names)
    draw_sections(tomogram(), picks, objects, tmp_path / "a.png", truth=picks, title="$x_1 and $")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_nothing_global_is_touched_and_nothing_left_behind(tmp_path):
    had = "matplotlib.pyplot" in sys.modules
    draw_sections(tomogram(), at((20, 30, 80)), [RED], tmp_path / "a.png")
    assert ("matplotlib.pyplot" in sys.modules) == had
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_picture_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file.a\.png: cannot be written"):
        draw_training([], tmp_path / "file" / "a.png")
    (tmp_path / "file").unlink()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError):
        draw_training([], tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_training_curves(tmp_path):
    rows = [{"step": k, "loss": 1 / (k + 1), "lr": 1e-3} for k in range(200)]
    draw_training(rows, tmp_path / "a.png")
    two = matplotlib.image.imread(tmp_path / "a.png").shape[0]
    rows += [{"step": 199, "loss": float("nan")}, {"step": 50, "val_score": 0.5}, {"step": 150, "val_score": 0.7}]
    draw_training(rows, tmp_path / "b.png")
    image = np.round(matplotlib.image.imread(tmp_path / "b.png")[..., :3] * 255).astype(int)
    assert image.shape[0] > two  # a panel more
    middle = slice(image.shape[0] // 3, 2 * image.shape[0] // 3)
    y, x = np.nonzero(np.abs(image[middle] - (0, 158, 115)).max(axis=-1) < 20)
    assert len(x) and y[np.argmin(x)] > y[np.argmax(x)]  # the score rises from left to right


@pytest.mark.parametrize(
    "rows", [[], [{"step": 1, "loss": 0.1}], [{"step": 1, "loss": -0.1}, {"step": 2, "loss": None}]]
)
def test_short_trainings(tmp_path, rows):
    draw_training(rows, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_a_smoothed_curve_does_not_end_in_its_last_value():
    assert _smooth(np.array([0, 0, 0, 0, 0, 0, 0, 8.0]), 4)[-1] == pytest.approx(8 / 3)
    np.testing.assert_allclose(_smooth(np.full(9, 2.5), 4), 2.5)


@pytest.mark.parametrize("at_once", [1, 2**26])
def test_slabs_are_the_means_of_their_planes_however_much_is_read_at_a_time(monkeypatch, at_once):
    from tomopick.data.volumes import slabs

    monkeypatch.setattr(slabs, "_AT_ONCE", at_once)
    values = np.random.default_rng(0).normal(size=(12, 14, 16)).astype(np.float32)
    values[3, 4, 5:9] = np.nan
    found = slabs.array_slabs(values, Grid(values.shape, 10.0)).means((50.0, 70.0, 80.0), 40.0)
    for axis, (mean, middle) in enumerate(zip(found, (5, 7, 8))):
        block = np.moveaxis(values, axis, 0)[middle - 2 : middle + 3].astype(np.float64)
        np.testing.assert_allclose(mean, np.nanmean(block, axis=0))


def test_a_large_volume_is_drawn_without_being_held(tmp_path, monkeypatch):
    from tomopick.data import open_project, write_mrc
    from tomopick.look import runs

    write_mrc(tmp_path / "A.mrc", np.random.default_rng(0).normal(size=(20, 40, 40)).astype(np.float32), 10.0)
    project = open_project(tmp_path / "A.mrc")
    runs.draw_run(project, tmp_path / "whole.png")
    monkeypatch.setattr(runs, "MOST", 1)
    monkeypatch.setattr(type(project), "tomogram", lambda *_: pytest.fail("it is read as a whole"))
    runs.draw_run(project, tmp_path / "parts.png")
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "parts.png").read_bytes()
