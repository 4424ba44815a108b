"""Where runs are labelled: boxes, tables and masks, and what they leave of picks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from small import copick, folder, memory
from telling import heard
from tomopick.core.errors import ReadError, SelectionError
from tomopick.core.types import Grid, Picks
from tomopick.data import open_project, write_mrc
from tomopick.data.labelled import judged, labelled_in
from tomopick.data.open import open_projects
from tomopick.data.regions import LabelledBox, Region, Regions, Span
from tomopick.data.sources.copick_write import write_segmentation

GRID = Grid((10, 20, 30), 10.0)


@pytest.mark.parametrize(
    ("text", "axis", "bounds"),
    [
        ("2:5", 0, (15.0, 45.0)),  # voxels 2 to 4, with their outer faces
        ("0:1290A", 1, (0.0, 1290.0)),
        ("100A:200Å", 2, (100.0, 200.0)),
        (":", 2, (-np.inf, np.inf)),
        ("7:", 1, (65.0, np.inf)),
        ("120A:", 1, (120.0, np.inf)),
        (":120 A", 1, (-np.inf, 120.0)),
        (":-5", 1, (-np.inf, 145.0)),  # of 20 voxels, as Python counts
        ("-15:10", 1, (45.0, 95.0)),
        ("-5:100A", 1, (-5.0, 100.0)),
    ],
)
def test_spans(text, axis, bounds):
    assert Span.parse(text).bounds(GRID, axis) == bounds


@pytest.mark.parametrize("text", ["A=1:2,3:4", "1:2,3:4,5:6", "A=1:2,3:4,x:6", "A=2:1,:,:", "=:,:,:"])
def test_a_region_that_is_none(text):
    with pytest.raises(SelectionError, match="`regions="):
        LabelledBox.parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0A:320", "write 0:320A in Å, or 0:320 in voxels"),
        ("8:A", "an A without a number"),
        ("A:8", "an A without a number"),
        ("A:", "an A without a number"),
        ("0:1e999", "is no span"),
        ("-3:-5", "is empty"),
        ("5:-3A", "is empty"),
    ],
)
def test_a_span_that_is_none(text, why):
    with pytest.raises(SelectionError, match=why):
        Span.parse(text)


@pytest.mark.parametrize(
    ("region", "why"),
    [
        ("0:150", "its region 0:150 reaches beyond its 20 voxels along y, 0 to 190 Å; is it in Å. write 0:150A"),
        (":150", "write :150A"),
        ("150:", "write 150A:"),
        ("0:2000", "beyond its 20 voxels along y, 0 to 190 Å; expected 0 to 20"),
        ("-50:", "expected 0 to 20"),
        ("15:-10", "15:-10 holds none of its 20 voxels along y"),
        ("195:400A", "195:400A holds none of its 20 voxels along y, 0 to 190 Å"),
        ("-90:-6A", "holds none"),
    ],
)
def test_a_region_that_cannot_be_meant_in_its_tomogram(region, why):
    project = memory(runs=("A",))
    regions = Regions.parse([f"A=:,{region},:"])
    with pytest.raises(SelectionError, match=f"here: run A: .*{why}"):
        regions.require_within("A", GRID, "here")
    regions.require_within("B", GRID, "here")
    project.regions = Regions.parse(["A=:,900:99999A,:"])
    with pytest.raises(SelectionError, match="memory: run A: its region 900:99999A holds none"):
        labelled_in(project, "A")


@pytest.mark.parametrize("region", ["0:20", "0:21", "20A:9e9A", ":-19", "19:", "-20:", "-4:300A"])
def test_a_region_that_reaches_to_the_end_of_its_tomogram(region):
    Regions.parse([f"A=:,{region},:"]).require_within("A", GRID, "here")


def test_a_region_of_an_object_that_is_not_there(tmp_path):
    place = folder(tmp_path / "vols")
    for project in ([place], [place, folder(tmp_path / "more")]):
        with pytest.raises(SelectionError, match="run A: no object 'bal' to state a region of; did you mean 'ball'"):
            open_projects(project, regions=["A:bal=:,:,:"])
    # Of what the tables hold, though nobody asks for it now.
    open_project(place, objects=["ring:50"], regions=["A:ball=:,:,:", "B:ring=:,:,:"])
    (place / "regions.csv").write_text("run,z0,z1,y0,y1,x0,x1,object\nA,,,0,300,,,blob\n")
    with pytest.raises(SelectionError, match="no object 'blob'"):
        open_project(place)


@given(st.integers(0, 8), st.integers(1, 9), st.integers(0, 1000))
def test_a_box_holds_the_voxels_that_it_names(start, length, seed):
    region = Regions.parse([f"A={start}:{start + length},:,3:9"]).of("A", GRID).of("any")
    marked = region.on(GRID)
    wanted = np.zeros(GRID.shape, dtype=bool)
    wanted[start : start + length, :, 3:9] = True
    assert (marked == wanted).all()
    indices = np.random.default_rng(seed).integers(0, GRID.shape, (20, 3))
    assert (region.contains(GRID.positions(indices)) == wanted[tuple(indices.T)]).all()


def test_parts_are_joined_and_an_object_may_have_its_own():
    labelled = Regions.parse(["A=0:2,:,:", "A=8:10,:,:", "A:ball=:,:,0:5", "B=:,:,:"]).of("A", GRID)
    picks = Picks("A", [[10, 50, 200], [90, 50, 200], [50, 50, 20], [50, 50, 20]], ["ring", "ring", "ball", "ring"])
    assert labelled.holds(picks).tolist() == [True, True, True, False]
    assert Regions.parse(["A=0:2,:,:"]).of("C", GRID) is None
    alone = Regions.parse(["A:ball=:,:,0:5"]).of("A", GRID)
    assert alone.of("ring") is None and isinstance(alone.of("ball"), Region)


def test_a_table_beside_the_volumes_and_what_is_said_instead(tmp_path):
    place = folder(tmp_path / "vols")
    (place / "regions.csv").write_text("run,z0,z1,y0,y1,x0,x1\nA,,,0,300,,\nA,,,500,,,\nB,,,,,0,100\n")
    project = open_project(place)
    assert project.runs() == ["A", "B"] and len(project.picks("A")) == 14
    inside = labelled_in(project, "A").all.on(project.grid("A"))
    assert inside[:, :30].all() and not inside[:, 31:50].any() and inside[:, 50:].all()
    told = open_project(place, regions=["A=:,0:10,:"])
    assert labelled_in(told, "A").all.on(GRID).sum() == GRID.shape[0] * 10 * GRID.shape[2]
    assert labelled_in(told, "B").all.contains(np.array([[0, 0, 50], [0, 0, 150]])).tolist() == [True, False]
    with pytest.raises(SelectionError, match="no run 'C'"):
        open_project(place, regions=["C=:,:,:"])
    (place / "regions.csv").write_text("run,y0,y1\nA,0,300\n")
    with pytest.raises(ReadError, match="no column z0, z1, x0, x1"):
        open_project(place)


def test_what_is_wrong_with_a_cell_of_a_table(tmp_path):
    place = folder(tmp_path / "vols")
    for cell, why in (
        ("0A,800", r"regions\.csv, line 2: y0 is '0A'; expected a number in Å, or nothing for an end"),
        ("0,nan", "y1 is 'nan'"),
        ("800,0", "y0 is 800 and y1 0; expected the first below the other"),
    ):
        (place / "regions.csv").write_text(f"run,z0,z1,y0,y1,x0,x1\nA,,,{cell},,\n")
        with pytest.raises(ReadError, match=why):
            open_project(place)


@pytest.mark.parametrize("row", ["A,0,1", "A,,,0,300,,,ball", ",,,0,300,,", "A,,,x,300,,", "A,,,300,0,,", '"A,,,0'])
def test_a_row_of_a_table_that_is_no_region(tmp_path, row):
    place = folder(tmp_path / "vols")
    (place / "regions.csv").write_text(f"z0,z1,y0,y1,x0,x1,run\n,,0,9,,,A\n{row}\n")
    with pytest.raises(ReadError, match=r"regions\.csv, line 3: "):
        open_project(place)


def test_a_mask_of_no_run_is_refused(tmp_path):
    place = folder(tmp_path / "vols")
    (tmp_path / "masks").mkdir()
    (tmp_path / "notes.txt").write_text("1 2 3")
    for name, why in (
        ("masks", "is of none of the runs A, B"),
        ("notes.txt", "is no volume by its name, and no folder"),
    ):
        with pytest.raises((ReadError, SelectionError), match=why):
            open_project(place, labelled_in=[str(tmp_path / name)])
    write_mrc(tmp_path / "masks" / "B.mrc", np.ones(GRID.shape, dtype=np.float32), 10.0)
    there = open_project(place, labelled_in=[str(tmp_path / "masks")])
    assert labelled_in(there, "A") is None and labelled_in(there, "B") is not None


def test_a_run_with_other_segmentations_is_as_one_with_none(tmp_path):
    place = copick(tmp_path / "copick")
    project = open_project(place)
    whole = np.ones(project.grid("A").shape, dtype=np.uint8)
    for run, name in (("A", "ball"), ("B", "ink")):
        write_segmentation(project, run, name, whole, project.grid(run), "me", "1")
    project = open_project(place, labelled_in=["ball:me"])
    picks = {run: project.picks(run) for run in "AB"}
    with heard() as lines:
        kept = judged(project, picks)
        judged(project, picks)
    assert len(kept["B"]) == len(picks["B"]) and labelled_in(project, "A") and labelled_in(project, "B") is None
    told = [m for m in lines if "no mask of B, labelled everywhere for lack of one" in m]
    assert len(told) == 1 and "`labelled_in=ball:me`" in told[0]
    for where, why in (
        ("bal", "no segmentation 'bal'; there is ball:me/1"),
        ("nofile.mrc", "`labelled_in=nofile.mrc`: there is no such file or folder"),
        ("masks/ball", "`labelled_in=masks/ball`: there is no such file or folder"),
        ("ball:m", "no segmentation 'ball:m'"),
    ):
        with pytest.raises(SelectionError, match=why):
            open_project(place, labelled_in=[where])
    for where in ("ball", "ball@10", "ball:me@10", "ball:me/1", "ball:me/1@10"):
        assert labelled_in(open_project(place, labelled_in=[where]), "A") is not None


def test_masks_of_another_voxel_size_and_of_segmentations(tmp_path):
    place = folder(tmp_path / "vols")
    grid = open_project(place).grid("A")
    half = np.zeros(grid.shape, dtype=np.float32)
    half[:, : grid.shape[1] // 2] = 1
    masks = tmp_path / "masks"
    masks.mkdir()
    write_mrc(masks / "A.mrc", half, grid.voxel_spacing)
    write_mrc(masks / "B.mrc", half[::2, ::2, ::2].copy(), 2 * grid.voxel_spacing)
    project = open_project(place, labelled_in=[str(masks)])
    for run in "AB":
        picks = project.picks(run)
        kept = judged(project, {run: picks})[run]
        assert 0 < len(kept) < len(picks)
        assert set(kept.positions[:, 1] < 10 * (grid.shape[1] // 2)) == {True}
    assert (labelled_in(project, "A").all.on(grid) == (half > 0)).all()

    place = copick(tmp_path / "copick")
    with pytest.raises(SelectionError, match=r"`labelled_in=ball:me/1`: a mask that is of none of the runs A, B"):
        open_project(place, labelled_in=["ball:me/1"])
    project = open_project(place)
    segmentation = project.root.get_run("A").new_segmentation(10.0, "ball", "1", False, user_id="me")
    segmentation.from_numpy(half.astype(np.uint8))
    project = open_project(place, labelled_in=["ball:me/1"])
    assert (labelled_in(project, "A").all.on(grid) == (half > 0)).all()
    assert labelled_in(project, "B") is None
    with pytest.raises(SelectionError, match="no segmentation 'ink'"):
        labelled_in(open_project(place, labelled_in=["ink"]), "A")
    with pytest.raises(SelectionError, match="no such file"):
        labelled_in(open_project(folder(tmp_path / "more"), labelled_in=["ink"]), "A")


def test_scores_are_of_what_is_labelled():
    from tomopick.scoring.score import score, sides_of

    project = memory(runs=("A",))
    truth = project.picks("A")
    project.regions = Regions.parse(["A=:,0:32,:"])
    inside = truth.positions[:, 1] < 315
    found = truth.select(inside)  # and nothing where nobody has looked
    sides = sides_of(found, truth, project.objects, project=project)
    assert len(sides.truth["A"]) == inside.sum() < len(truth)
    assert score(found, truth, project.objects).f1 < 1
    from tomopick.scoring.compare import Scoring

    assert Scoring().score(sides).f1 == 1
