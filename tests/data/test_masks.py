"""Masks: where they lie, what of them is marked, and what is none."""

import warnings

import mrcfile
import numpy as np
import pytest
import zarr

import small
from projects import ome_zarr
from tomopick.core.errors import ReadError, SelectionError
from tomopick.core.types import Grid
from tomopick.data import open_project, write_mrc
from tomopick.data.labelled import labelled_in, mask_of
from tomopick.data.masks import read_mask

SHAPE = (24, 64, 48)
GRID = Grid(SHAPE, 10.0)


def written(path, values, spacing=10.0, origin=(0, 0, 0), start=(0, 0, 0), stamp=None):
    """An MRC file; origin [Å] and start [voxels] are zyx, the stamp is IMOD's flags."""
    with mrcfile.new(path, overwrite=True) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nan in its statistics
        file.set_data(values)
        file.set_volume()
        file.voxel_size = spacing
        file.header.origin = tuple(origin[::-1])
        file.header.nzstart, file.header.nystart, file.header.nxstart = start
        if stamp is not None:
            file.header.nversion = 0
            words = np.frombuffer(bytes(file.header.extra2), dtype="u1").copy()
            words[40:48] = np.array([1146047817, stamp], dtype="<i4").view("u1")
            file.header.extra2 = words.tobytes()
    return path


def read(path, header=None):
    return read_mask(path, "A", ["A"], GRID, header)


def block(shape=(12, 12, 12)):
    values = np.zeros(shape, dtype=np.int8)
    values[2:, 2:, 2:] = 1
    return values


# ------------------------------------------------------------------------------------------------------ where they lie
@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({"origin": (50, 100, 150)}, (50, 100, 150)),
        ({"start": (5, 10, 15)}, (50, 100, 150)),
        ({"origin": (50, 100, 150), "start": (9, 9, 9)}, (50, 100, 150)),
        ({"spacing": 20.0, "origin": (5, 5, 5)}, (5, 5, 5)),
        ({"spacing": 20.0}, (0, 0, 0)),
        ({"origin": (-50, -100, -150), "stamp": 0}, (50, 100, 150)),  # IMOD's own sign
        ({"origin": (50, 100, 150), "stamp": 4}, (50, 100, 150)),
    ],
)
def test_the_first_voxel_lies_where_the_header_says(tmp_path, how, wanted):
    mask = read(written(tmp_path / "A.mrc", block(), **how))
    assert mask.grid == Grid((12, 12, 12), how.get("spacing", 10.0), wanted)
    inner = mask.grid.positions(np.array([[1, 1, 1], [2, 2, 2]]))
    assert mask.contains(inner).tolist() == [False, True]


def test_a_mask_of_as_many_voxels_lies_on_the_tomogram(tmp_path):
    values = block(SHAPE)
    for how in ({"origin": (5000, 0, 0)}, {"start": (9, 9, 9)}, {"spacing": 0.0}, {"spacing": 10.1}):
        assert read(written(tmp_path / "A.mrc", values, **how)).grid == GRID
    other = read(written(tmp_path / "A.mrc", values, 20.0, (5, 5, 5)))  # as many, but larger ones
    assert other.grid == Grid(SHAPE, 20.0, (5, 5, 5))
    # Where the tomogram's header is wrong as well, and corrected by the user, it is the same header.
    assert read(written(tmp_path / "A.mrc", values, 3.0), Grid(SHAPE, 3.0)).grid == GRID


def test_the_tomograms_own_origin_is_taken_off(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    tomogram = small.tomogram("A")[0].values
    for how in ({"origin": (1000, -2000, 300)}, {"start": (100, -200, 30)}):
        written(place / "A.mrc", tomogram, **how)
        project = open_project(place)
        mask = written(tmp_path / "A.mrc", block(), 20.0, (1005, -1995, 305))
        assert mask_of(project, "A", str(mask), project.grid("A"), "inside").grid.origin == (5, 5, 5)


def test_a_zarr_lies_where_its_translation_says(tmp_path):
    path = ome_zarr(tmp_path / "A.zarr", [block().astype(np.float32)], 20.0)
    group = zarr.open_group(str(path), mode="a")
    scales = group.attrs["multiscales"]
    scales[0]["datasets"][0]["coordinateTransformations"].append({"type": "translation", "translation": [5, 15, 25]})
    group.attrs["multiscales"] = scales
    assert read(path).grid == Grid((12, 12, 12), 20.0, (5, 15, 25))


def test_a_mask_beside_the_tomogram_is_refused_and_another_box_said(tmp_path, told):
    path = written(tmp_path / "A.mrc", block(), 10.0, (0, 5000, 0))
    there = "-5 to 115, 4995 to 5115, -5 to 115 Å, beside the tomogram at -5 to 235, -5 to 635, -5 to 475 Å"
    with pytest.raises(ReadError, match=rf"mask .*A\.mrc: lies at z, y, x = {there}; .*origin"):
        read(path)
    read(written(tmp_path / "turned.mrc", block((64, 24, 48))))
    assert any("turned.mrc: lies at z, y, x = -5 to 635, -5 to 235, -5 to 475 Å, the tomogram at" in t for t in told)
    before = len(told)
    read(written(tmp_path / "binned.mrc", block((12, 32, 24)), 20.0, (5, 5, 5)))
    assert len(told) == before


# --------------------------------------------------------------------------------------------------- what is marked
def test_voxels_that_are_no_number_are_not_marked(tmp_path, told):
    values = np.full(SHAPE, np.nan, dtype=np.float32)
    values[:, :32] = 1
    values[0, 0, 0] = np.inf
    mask = read(written(tmp_path / "A.mrc", values))
    wanted = np.zeros(SHAPE, dtype=bool)
    wanted[:, :32] = True
    wanted[0, 0, 0] = False
    assert (mask.values == wanted).all()
    assert any(f"{np.count_nonzero(~wanted)} voxels are not finite; they count as not marked" in line for line in told)
    with pytest.raises(ReadError, match=r"mask .*no voxel is a finite number; expected a mask"):
        read(written(tmp_path / "A.mrc", np.full(SHAPE, np.nan, dtype=np.float32)))


def test_voxels_of_a_segmentation_that_are_no_number_are_not_marked(tmp_path):
    config = small.copick(tmp_path / "in", ("A",))
    project = open_project(config)
    grid = project.grid("A")
    values = np.full(grid.shape, np.nan, dtype=np.float32)
    values[:, : grid.shape[1] // 2] = 1
    stored = project.root.get_run("A").new_segmentation(10.0, "ball", "1", False, user_id="me")
    stored.from_numpy(values, dtype=np.float32)
    project = open_project(config, labelled_in=["ball:me/1"])
    assert (labelled_in(project, "A").all.on(grid) == (values == 1)).all()


@pytest.mark.parametrize("of_tomogram", [(0.0, 0.0, 0.0), (500.0, 0.0, -100.0)])
def test_a_segmentation_lies_where_it_says_in_the_frame_of_the_tomogram(tmp_path, of_tomogram):
    """Each states where its first voxel lies; a segmentation that states nothing begins where the tomogram does."""
    config = small.copick(tmp_path / "in", ("A",))
    project = open_project(config)
    grid = project.grid("A")
    part = np.ones([n // 4 for n in grid.shape], dtype=np.uint8)
    run = project.root.get_run("A")
    for name, spacing in (("box", 20.0), ("unsaid", 20.0), ("same", 10.0)):
        stored = run.new_segmentation(spacing, name, "1", True, user_id="me")
        stored.from_numpy(part if spacing == 20 else np.ones(grid.shape, np.uint8))
        if name != "unsaid":
            moved(stored.zarr(), np.add(of_tomogram, (45.0, 85.0, 125.0)))
    for spacing in run.voxel_spacings:
        for tomogram in spacing.tomograms:
            moved(tomogram.zarr(), np.array(of_tomogram))

    def first(name):
        mask = labelled_in(open_project(config, labelled_in=[f"{name}:me/1"]), "A").all
        return tuple(np.argwhere(mask.on(grid)).min(axis=0))

    # Fine voxels whose centre lies in the coarse one at 45 Å, which reaches from 35 to 55, and so on.
    assert first("box") == (4, 8, 12)
    assert first("unsaid") == (0, 0, 0)
    assert first("same") == (0, 0, 0)  # of as many voxels of that size: it is of the tomogram, whatever it says


def moved(store, shift):
    """States a translation of the first level."""
    attributes = zarr.open_group(store, mode="r+").attrs
    stated = attributes["multiscales"]
    stated[0]["datasets"][0]["coordinateTransformations"].append({"type": "translation", "translation": list(shift)})
    attributes["multiscales"] = stated


def test_soft_edges_are_cut_at_a_half_and_labels_above_0(tmp_path):
    x = np.arange(SHAPE[2])
    soft = np.broadcast_to(np.clip((x - 20) / 8, 0, 1), SHAPE).astype(np.float32)
    for ringing in (0, 0.05):
        mask = read(written(tmp_path / "A.mrc", soft + np.float32(ringing) * (soft == 1)))
        assert (mask.values == (soft >= 0.5)).all()
    labels = np.broadcast_to(x // 2, SHAPE).astype(np.int16)  # 24 of them
    assert (read(written(tmp_path / "A.mrc", labels)).values == (labels > 0)).all()
    sheets = np.zeros(SHAPE, dtype=np.int16)
    z, y, x = np.indices(SHAPE)
    for k in range(20):  # one voxel thick, each of its own label
        sheets[np.rint(0.4 * y + 0.3 * x - z).astype(int) == 2 * k] = k + 1
    assert (read(written(tmp_path / "A.mrc", sheets)).values == (sheets > 0)).all()
    for value in (-1, 0):
        assert not read(written(tmp_path / "A.mrc", np.full(SHAPE, value, dtype=np.int8))).values.any()


@pytest.mark.parametrize("kind", ["tomogram", "padded", "bytes", "shorts", "faint", "scaled"])
def test_a_tomogram_is_no_mask(tmp_path, kind):
    values = small.tomogram("A")[0].values.astype(np.float32)
    noise = np.random.default_rng(0).normal(size=SHAPE)
    values = {
        "tomogram": values,
        "padded": np.where(np.arange(SHAPE[1])[:, None] < 20, noise, 0).astype(np.float32),
        "bytes": np.clip(128 + 30 * noise, 0, 255).astype(np.uint16),
        "shorts": (300 * noise).astype(np.int16),
        "faint": (0.001 * noise).astype(np.float32),
        "scaled": ((noise - noise.min()) / np.ptp(noise)).astype(np.float32),
    }[kind]
    path = written(tmp_path / "A.mrc", values)
    with pytest.raises(ReadError, match=r"mask .*A\.mrc: holds grey values, .*; expected a mask: labels") as found:
        read(path)
    assert len(str(found.value).splitlines()) == 1


def test_what_cannot_be_read_is_said_of_a_mask(tmp_path):
    for name, data in (("zero", b""), ("text", b"hello"), ("short", None)):
        path = tmp_path / f"{name}.mrc"
        if data is None:
            path.write_bytes(written(tmp_path / "whole.mrc", block()).read_bytes()[:2000])
        else:
            path.write_bytes(data)
        with pytest.raises(ReadError, match=rf"^mask .*{name}\.mrc: ") as found:
            read(path)
        assert "tomogram" not in str(found.value) and "voxel_spacing" not in str(found.value)
    with pytest.raises(ReadError, match="write it there") as found:
        read(written(tmp_path / "A.mrc", block(), 0.0))
    assert "voxel_spacing" not in str(found.value)


def test_a_mask_that_labels_nothing_is_refused(tmp_path):
    place = small.folder(tmp_path / "in", ("A",))
    path = written(tmp_path / "A.mrc", np.zeros(SHAPE, dtype=np.int8))
    with pytest.raises(ReadError, match=rf"`labelled_in={path}`: the mask of run A marks nothing"):
        labelled_in(open_project(place, labelled_in=[str(path)]), "A")
    assert not mask_of(open_project(place), "A", str(path), GRID, "outside").values.any()


def test_a_volume_of_another_name_is_of_the_only_run(tmp_path):
    place = small.folder(tmp_path / "in", ("A", "B"))
    project = open_project(place)
    write_mrc(tmp_path / "gold.mrc", block(SHAPE).astype(np.float32), 10.0)
    write_mrc(tmp_path / "B.mrc", block(SHAPE).astype(np.float32), 10.0)
    where = str(tmp_path / "gold.mrc")
    assert mask_of(project, "A", where, GRID, "inside") is None
    assert mask_of(project, "A", where, GRID, "inside", ["A"]).values.any()
    assert mask_of(project, "A", str(tmp_path / "B.mrc"), GRID, "inside", ["A"]) is None  # the other's
    with pytest.raises(SelectionError, match=r"is of none of the runs A, B; .*rename it to A\.mrc, or give a folder"):
        open_project(place, labelled_in=[where])
