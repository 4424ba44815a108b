"""Files as others write them: what they name, what their numbers count in, and what is said of them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from telling import heard
from tomopick.core.errors import OutputError, ReadError, SelectionError, TomopickError
from tomopick.core.types import Grid, Picks
from tomopick.data import FolderProject, create_copick_project, open_project, write_mrc, write_picks_csv
from tomopick.data.exporting import ExportOptions, export_picks
from tomopick.data.importing import ImportOptions, import_picks
from tomopick.data.names import RunNames, forms, plain_name, read_names
from tomopick.data.new_project import init_project
from tomopick.data.open import open_projects
from tomopick.data.plausible import unlikely, unlikely_runs
from tomopick.data.runs import Runs

SHAPE = (40, 60, 64)
VALUES = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def folder(place: Path, *runs: str, spacing: float = 10.0, objects=("ribosome:150",)) -> FolderProject:
    place.mkdir(parents=True, exist_ok=True)
    for run in runs:
        write_mrc(place / f"{run}.mrc", VALUES, spacing)
    project = open_project(place, objects=objects)
    assert isinstance(project, FolderProject)
    return project


def xyz(project: FolderProject, run: str) -> list[tuple[float, ...]]:
    picks = project.picks(run)
    assert picks is not None
    return [tuple(np.round(p[::-1], 2).tolist()) for p in picks.positions]


def star(columns: str, *rows: str, block: str = "") -> str:
    names = "\n".join(f"_{name} #{i + 1}" for i, name in enumerate(columns.split()))
    return f"\ndata_{block}\n\nloop_\n{names}\n" + "".join(f"{row}\n" for row in rows) + "\n"


def brought(tmp_path: Path, name: str, text: str, *runs: str, spacing: float = 10.0, **options):
    """The project after one file was imported, and what was said."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    project = folder(tmp_path / "tomo", *runs, spacing=spacing)
    with heard() as said:
        import_picks([path], project, ImportOptions(name="ribosome", **options))
    return project, said


def refused(tmp_path: Path, name: str, text: str, run: str = "TS_1", **options) -> str:
    with pytest.raises(TomopickError) as caught:
        brought(tmp_path, name, text, run, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- names ----


@pytest.mark.parametrize("name", ["tomo_16136a", "TS_01a", "Position_3b", "TS_half1", "10.00Apx", "lamella_2_x4"])
def test_the_last_number_stays(name):
    assert list(forms(name)) == [name] and plain_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["rec_TS_07_10.00Apx.mrc", "a/b/TS_07.mrc.tomostar", "TS_07_half1_Vol.mrc", "TS_07__bin4.hdf", "ts_07_info.json",
     "C:\\data\\TS_07_15.00Apx.rec", "TS_07_EVN", "TS_07.mrc_13.48Apx.mrc"],
)  # fmt: skip
def test_steps_that_find_a_run(name):
    names = RunNames(["TS_07", "TS_70", "TS_07a"])
    assert names.find(name) == "TS_07" and names.shortened == {name: "TS_07"}
    assert "found by a shortened name" in names.said()[0]
    assert RunNames(["TS_07"]).find("TS_07") == "TS_07"


def test_what_is_stated_comes_after_what_is_alike_and_before_what_is_shortened():
    stated = {"TS_01": "x/13pf_MT_Vol.mrc", "TS_02": "b"}
    names = RunNames(["13pf_MT_Vol", "rec_TS_01", "TS_02", "b"], stated=stated)
    assert names.find("TS_01.tomostar") == "13pf_MT_Vol" and names.find("TS_02") == "TS_02"


def test_only_the_run_that_is_named_gets_picks(tmp_path):
    rows = "run_name,x,y,z\ntomo_00e047,1,1,1\ntomo_16136a,100,100,100\ntomo_24795a,200,200,200\n"
    project, said = brought(tmp_path, "all.csv", rows, "tomo_00e047", "tomo_16136a")
    assert xyz(project, "tomo_16136a") == [(100, 100, 100)] and xyz(project, "tomo_00e047") == [(1, 1, 1)]
    assert any(line.startswith("no run for 'tomo_24795a'") for line in said)


def test_names_file_maps_the_rest(tmp_path):
    listed = tmp_path / "names.txt"
    listed.write_text("\ufeffPosition_9.tomostar TS_1\nb,TS_2\n")
    rows = "run,x,y,z\nPosition_9,100,100,100\nb,200,200,200\n"
    project, _ = brought(tmp_path, "all.csv", rows, "TS_1", "TS_2", names=listed)
    assert xyz(project, "TS_1") == [(100, 100, 100)] and xyz(project, "TS_2") == [(200, 200, 200)]
    listed.write_text("a TS_1\na TS_2\n")
    with pytest.raises(ReadError, match="line 2: 'a' is there twice"):
        read_names(listed)


def test_init_keeps_what_tells_runs_apart(tmp_path):
    folder(tmp_path / "t", "TS_01a", "rec_TS_02b_10.00Apx")
    config = init_project(tmp_path / "t", tmp_path / "p", ["ribosome:100"])
    assert open_project(config).runs() == ["TS_01a", "TS_02b"]


def test_export_does_not_take_another_tomogram(tmp_path):
    project = folder(tmp_path / "t", "TS_01a", "13pf_MT_Vol")
    for run in project.runs():
        write_picks_csv(tmp_path / "t" / f"{run}.csv", Picks(run, [[100, 200, 100]], ["ribosome"]))
    table = tmp_path / "tomograms.star"
    columns = "rlnTomoName rlnTomoTiltSeriesPixelSize rlnTomoSizeX rlnTomoSizeY rlnTomoSizeZ"
    table.write_text(star(f"{columns} rlnTomoReconstructedTomogram", "TS_07a 2.5 256 240 160 a.mrc",
                          "TS_09 2.5 256 240 160 tomo/13pf_MT_Vol.mrc", block="global"))  # fmt: skip
    project = open_project(tmp_path / "t", objects=["ribosome:150"])
    with pytest.raises(SelectionError, match=r"no tomogram of run 'TS_01a'.*`names=FILE`"):
        export_picks(Runs(project, ["TS_01a"]), "relion5", tmp_path / "o.star", ExportOptions(tomograms_star=table))
    options = ExportOptions(tomograms_star=table)
    (out,) = export_picks(Runs(project, ["13pf_MT_Vol"]), "relion5", tmp_path / "o.star", options)
    assert "TS_09" in out.read_text()
    other = ExportOptions(tomograms_star=table, names={"TS_01a": "TS_07a"})
    (out,) = export_picks(Runs(project, ["TS_01a"]), "relion5", tmp_path / "p.star", other)
    assert "TS_07a" in out.read_text()


def test_a_folders_table_is_found_by_the_same_rule(tmp_path, told):
    folder(tmp_path / "t", "rec_TS_07_10.00Apx", "rec_TS_08_10.00Apx")
    write_picks_csv(tmp_path / "t" / "TS_07.CSV", Picks("", [[100, 200, 300]], ["ribosome"]))
    write_picks_csv(tmp_path / "t" / "TS_08a.csv", Picks("", [[100, 200, 300]], ["ribosome"]))
    project = open_project(tmp_path / "t", objects=["ribosome:150"])
    assert xyz(project, "rec_TS_07_10.00Apx") == [(300, 200, 100)] and project.picks("rec_TS_08_10.00Apx") is None
    assert any("TS_07 as run rec_TS_07_10.00Apx" in line for line in told)
    alone = open_project(tmp_path / "t" / "rec_TS_07_10.00Apx.mrc", objects=["ribosome:150"])
    assert len(alone.picks("rec_TS_07_10.00Apx")) == 1
    write_picks_csv(tmp_path / "t" / "TS_07_10.00Apx.csv", Picks("", [[1, 2, 3]], ["ribosome"]))
    with pytest.raises(ReadError, match=r"has two tables, .*call it rec_TS_07_10\.00Apx\.csv"):
        open_project(tmp_path / "t")


def test_a_file_goes_to_its_folders_run_only_where_it_names_none(tmp_path):
    project, _ = brought(tmp_path, "TS_1/ribosome.coords", "12 20 10\n", "TS_1", "TS_2")
    assert xyz(project, "TS_1") == [(120, 200, 100)]
    with pytest.raises(SelectionError, match=r"the files name TS_9\.coords"):
        brought(tmp_path, "TS_2/TS_9.coords", "12 20 10\n", "TS_1", "TS_2")
    with pytest.raises(SelectionError, match=r"the files name TS_9\.coords"):
        brought(tmp_path / "one", "TS_9.coords", "12 20 10\n", "TS_1")


def test_names_of_the_portals_files(tmp_path):
    path = tmp_path / "TS_1" / "Annotations" / "101-cytosolic_ribosome-1.0_orientedpoint.ndjson"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"type": "point", "location": {"x": 12, "y": 20, "z": 10}}))
    project = folder(tmp_path / "t", "TS_1", "TS_2", objects=["ribosome:150", "apo-ferritin:60"])
    import_picks([path], project, ImportOptions())
    assert xyz(project, "TS_1") == [(120, 200, 100)] and project.picks("TS_1").names.tolist() == ["ribosome"]


# ---- what a coordinate counts in ----

HERE = "rlnCoordinateX rlnCoordinateY rlnCoordinateZ"
OPTICS = "rlnOpticsGroup rlnOpticsGroupName"


@pytest.mark.parametrize(
    "text, wanted",
    [
        (star(f"{HERE} rlnMicrographName rlnPixelSize", "60 50 30 TS_1 5.0"), (300, 250, 150)),
        (star(f"{HERE} rlnMicrographName rlnMagnification rlnDetectorPixelSize", "60 50 30 TS_1 10000 5"),
         (300, 250, 150)),
        (star(f"{HERE} rlnMicrographName rlnDetectorPixelSize", "60 50 30 TS_1 5"), (300, 250, 150)),
        (star(f"{HERE} rlnMicrographName", "30 25 15 TS_1"), (300, 250, 150)),
        (star(f"{OPTICS} rlnImagePixelSize", "1 a 5.0", block="optics")
         + star(f"{HERE} rlnMicrographName rlnOpticsGroup", "60 50 30 TS_1 1", block="particles"), (300, 250, 150)),
        (star(f"{OPTICS} rlnTomoTiltSeriesPixelSize rlnTomoSubtomogramBinning rlnImagePixelSize", "1 a 1.25 4 5",
              block="optics")
         + star(f"{HERE} rlnTomoName rlnOpticsGroup", "240 200 120 TS_1 1", block="particles"), (300, 250, 150)),
        (star(f"{OPTICS} rlnTomoSubtomogramBinning rlnImagePixelSize", "1 a 4 5", block="optics")
         + star(f"{HERE} rlnTomoName rlnOpticsGroup", "240 200 120 TS_1 1", block="particles"), (300, 250, 150)),
        (star(f"{OPTICS} rlnTomoTiltSeriesPixelSize rlnTomoSubtomogramBinning rlnImagePixelSize", "1 a 1 5 5",
              block="optics")
         + star(f"{HERE} rlnTomoName rlnOpticsGroup", "60 50 30 TS_1.tomostar 1", block="particles"), (300, 250, 150)),
        (star(f"{HERE} rlnTomoName rlnTomoTiltSeriesPixelSize", "240 200 120 TS_1 1.25"), (300, 250, 150)),
        (star(f"{HERE} rlnMicrographName rlnOriginX rlnOriginY rlnOriginZ", "30 20 10 TS_1 -2.0 2.5 -3.0"),
         (320, 175, 130)),
        (star(f"{HERE} rlnMicrographName rlnPixelSize rlnOriginX rlnOriginY", "60 50 30 TS_1 5 2 -4"),
         (290, 270, 150)),
        (star(f"{HERE} rlnMicrographName rlnPixelSize rlnOriginXAngst", "60 50 30 TS_1 5 7"), (293, 250, 150)),
        (star(f"{HERE} rlnMicrographName", "0.25 0.5 0.75 TS_1.tomostar"), (160, 300, 300)),
        (star("wrpCoordinateX1 wrpCoordinateY1 wrpCoordinateZ1 wrpSourceName", "120 200 100 TS_1.tomostar"),
         (120, 200, 100)),
    ],
    ids=["pixel", "magnification", "detector", "voxels", "optics", "relion4", "image/binning", "warp 2d", "own column",
         "origin", "origin of two", "origin in Å", "normalised", "M"],
)  # fmt: skip
def test_what_pixels_are_counted(tmp_path, text, wanted):
    from tomopick.look.doctor import has_errors, star_findings

    project, _ = brought(tmp_path, "p.star", text, "TS_1")
    assert xyz(project, "TS_1") == [wanted]
    assert not has_errors(star_findings(tmp_path / "p.star"))


def test_columns_that_contradict_are_said(tmp_path):
    text = star(f"{HERE} rlnMicrographName rlnImagePixelSize rlnPixelSize", "60 50 30 TS_1 5 10")
    project, said = brought(tmp_path, "p.star", text, "TS_1")
    assert xyz(project, "TS_1") == [(300, 250, 150)]
    assert any("rlnPixelSize says 10 Å; coordinates count in 5 Å (rlnImagePixelSize)" in line for line in said)


def test_optics_groups_of_different_size(tmp_path):
    optics = star(f"{OPTICS} rlnImagePixelSize", "1 a 5", "2 b 10", block="optics")
    rows = star(f"{HERE} rlnMicrographName rlnOpticsGroup", "60 50 30 TS_1 1", "6 5 3 TS_1 2", block="particles")
    project, _ = brought(tmp_path, "p.star", optics + rows, "TS_1")
    assert xyz(project, "TS_1") == [(300, 250, 150), (60, 50, 30)]
    assert "is not in the optics table" in refused(tmp_path / "a", "p.star", optics + rows.replace("TS_1 2", "TS_1 3"))
    assert "do not say which is theirs" in refused(
        tmp_path / "b", "p.star", optics + star(f"{HERE} rlnMicrographName", "6 5 3 TS_1", block="particles")
    )
    assert "rlnPixelSize is 0; expected a positive" in refused(
        tmp_path / "c", "p.star", star(f"{HERE} rlnMicrographName rlnPixelSize", "6 5 3 TS_1 0")
    )


def test_picks_in_one_corner_or_all_outside_are_refused(tmp_path):
    rng = np.random.default_rng(1)
    voxels = rng.uniform(0, [64, 60, 40], (12, 3))
    table = "object,x,y,z\n" + "".join(f"ribosome,{x:.2f},{y:.2f},{z:.2f}\n" for x, y, z in voxels)
    text = refused(tmp_path, "TS_1.csv", table)
    assert "all 12 picks lie within" in text and "are they in voxels?" in text and "`pixel_size`" in text
    project, _ = brought(tmp_path, "TS_1.csv", table, "TS_1", pixel_size=10.0)
    np.testing.assert_allclose(xyz(project, "TS_1"), voxels * 10, atol=0.06)
    far = "object,x,y,z\nribosome,6000,5000,3000\nribosome,5000,4000,3900\n"
    text = refused(tmp_path / "far", "TS_1.csv", far)
    assert "all 2 picks lie outside" in text and "multiplied twice" in text


@pytest.mark.parametrize("scale, hint", [(0.1, "voxels"), (0.17, "multiplied by up to")])
def test_unlikely_names_what_would_fit(scale, hint):
    grid = Grid(SHAPE, 10.0)
    inside = np.random.default_rng(0).uniform(0.05, 0.95, (20, 3)) * np.array(SHAPE) * 10
    assert unlikely({"a": Picks("a", inside, ["x"] * 20)}, {"a": grid}) is None
    assert hint in unlikely({"a": Picks("a", inside * scale, ["x"] * 20)}, {"a": grid})
    few = inside[:2] * scale
    assert unlikely({"a": Picks("a", few, ["x"] * 2)}, {"a": grid}) is None


def test_what_is_odd_in_one_run_is_judged_with_the_others():
    grid = Grid(SHAPE, 10.0)
    corner, inside = np.full((12, 3), 30.0), np.random.default_rng(0).uniform(0, 390, (12, 3))
    found = {"a": Picks("a", corner, ["x"] * 12), "b": Picks("b", inside, ["x"] * 12)}
    assert unlikely(found, {"a": grid, "b": grid}) is None and unlikely({"a": found["a"]}, {"a": grid})
    (line,) = unlikely_runs(found, {"a": grid, "b": grid})
    assert line.startswith("run a: all 12 picks lie within 30 Å of the corner")
    assert unlikely_runs({"a": found["a"]}, {"a": grid}) == []


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("name, size", [("TS_1.csv", 1.0), ("TS_1.coords", 1.0), ("TS_1.csv", 1.03)])
def test_parts_of_the_size_are_refused_where_angstrom_or_voxels_are_expected(tmp_path, name, size, n):
    parts = np.random.default_rng(0).uniform(0.01, 1, (n, 3)) * size
    rows = [f"{x:.3f} {y:.3f} {z:.3f}" for x, y, z in parts]
    table = "object,x,y,z\n" + "".join(f"ribosome,{row.replace(' ', ',')}\n" for row in rows)
    text = refused(tmp_path, name, table if name.endswith("csv") else "\n".join(rows) + "\n")
    assert "the first voxel; are they parts of the tomogram's size?" in text and text.endswith("multiply them by it")


# ---- numbers ----


@pytest.mark.parametrize("bad", ["10,5", "1.0D+01", "None", "nan", "inf", "abc", "1_0"])
@pytest.mark.parametrize("column", [*HERE.split(), "rlnOriginXAngst", "rlnAutopickFigureOfMerit", "rlnAngleRot",
                                    "rlnDetectorPixelSize"])  # fmt: skip
def test_a_number_that_is_none_is_named(tmp_path, bad, column):
    columns = f"{HERE} rlnMicrographName rlnOriginXAngst rlnAutopickFigureOfMerit rlnAngleRot rlnDetectorPixelSize"
    values = dict(zip(columns.split(), ["12", "20", "10", "TS_1", "0", "0.5", "0", "10"]))
    good = " ".join(values.values())
    row = " ".join((values | {column: bad}).values())
    text = refused(tmp_path, "p.star", star(columns, good, row))
    assert f"p.star: line 14: {column} is '{bad}'" in text


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("TS_1.tbl", " ".join(["1"] * 9 + ["NaN"] + ["1"] * 26), "line 1: column 10 is 'NaN'"),
        ("TS_1.ndjson", '{"location": {"x": 1, "y": 2, "z": 3}, "score": NaN}', "row 1 has a score"),
        ("TS_1.ndjson", '{"location": {"x": 1, "y": 2, "z": Infinity}}', "row 1 has a coordinate"),
        ("TS_1.csv", "object,x,y,z,score\nribosome,1,2,3,nan\n", "line 2: score is 'nan'"),
        ("TS_1.csv", "object;x;y;z\nribosome;1,5;2;3\n", "line 2: x is '1,5'"),
        ("TS_1.coords", "1 2 3\n1 2 3,5\n", "line 2: column 3 is '3,5'"),
        ("TS_1.coords", "1 2 3\n1 2\n", "line 2 has 2 columns"),
        ("TS_1.cbox", star("CoordinateX CoordinateY CoordinateZ Width Height", "1 2 x 3 4", block="cryolo"),
         "CoordinateZ is 'x'"),
        ("TS_1.xml", '<objlist><object tomo_idx="0" x="a" y="2" z="3"/></objlist>', "object's x is 'a'"),
    ],
)  # fmt: skip
def test_numbers_of_other_files(tmp_path, name, text, message):
    assert message in refused(tmp_path, name, text)


def test_picks_are_finite_wherever_they_come_from():
    with pytest.raises(TomopickError, match=r"run a: pick 2 of 2 .* position"):
        Picks("a", [[1, 2, 3], [1, np.nan, 3]], ["x", "x"])
    with pytest.raises(TomopickError, match=r"run a: pick 1 of 1 .* score"):
        Picks("a", [[1, 2, 3]], ["x"], [np.inf])
    with pytest.raises(TomopickError, match=r"run a: pick 1 of 1 .* rotation"):
        Picks("a", [[1, 2, 3]], ["x"], [1.0], np.full((1, 3, 3), np.nan))


# ---- nothing is dropped ----


def test_joined_star_files_keep_all_and_their_own_optics(tmp_path):
    parts = ""
    for run, size in (("TS_1", 5), ("TS_2", 10)):
        parts += star(f"{OPTICS} rlnImagePixelSize", f"1 a {size}", block="optics")
        parts += star(f"{HERE} rlnMicrographName rlnOpticsGroup", f"30 20 10 {run} 1", f"31 21 11 {run} 1",
                      block="particles")  # fmt: skip
    project, _ = brought(tmp_path, "p.star", parts, "TS_1", "TS_2")
    assert xyz(project, "TS_1") == [(150, 100, 50), (155, 105, 55)]
    assert xyz(project, "TS_2") == [(300, 200, 100), (310, 210, 110)]


def test_a_row_with_a_value_too_few_or_too_many(tmp_path):
    columns = f"{HERE} rlnMicrographName"
    assert "line 10 has 3 values; expected 4" in refused(tmp_path, "p.star", star(columns, "1 2 3 TS_1", "1 2 TS_1"))
    assert "line 9 has 5 values; expected 4" in refused(tmp_path, "p.star", star(columns, "1 2 3 TS_1 4"))
    assert "second loop_" in refused(tmp_path, "p.star", star(columns, "1 2 3 TS_1").rstrip() + "\nloop_\n_a\n1\n")


def test_quotes_marks_and_line_ends(tmp_path):
    text = star(f"{HERE} rlnMicrographName rlnX", "12 20 10 'TS 1.mrc' 5'", '13 20 10 "TS 1.mrc" a"b')
    project, said = brought(tmp_path, "p.star", "\ufeff" + text.replace("\n", "\r\n"), "TS 1")
    assert xyz(project, "TS 1") == [(120, 200, 100), (130, 200, 100)]
    assert any(line.startswith("warning: ") and line.endswith("rlnX") for line in said)


@pytest.mark.parametrize("score", ["ptmLCCmax", "rlnLCCmax", "pytmeScore", "rlnAutopickFigureOfMerit", "myScore"])
def test_the_column_with_the_scores_is_said(tmp_path, score):
    text = star(f"{HERE} {score} ptmCutOff rlnMicrographName", "30 20 10 0.31 0.1 TS_1", "31 21 11 0.12 0.1 TS_1")
    project, said = brought(tmp_path, "p.star", text, "TS_1")
    assert project.picks("TS_1").scores.tolist() == [0.31, 0.12]
    assert any(line.endswith(f"scores are those of {score}") for line in said)
    assert any(line.startswith("warning:") and line.endswith(": ptmCutOff") for line in said)


def test_copicks_matrices_move_particles(tmp_path):
    matrix = ",".join(f"transform_{i}{j}" for i in range(4) for j in range(4))
    values = "0,-1,0,5,1,0,0,-3,0,0,1,2,0,0,0,1"
    text = f"run_name,x,y,z,{matrix},score,instance_id\nTS_1,120.5,200,100,{values},0.7,0\n"
    project, _ = brought(tmp_path, "c.csv", text, "TS_1")
    assert xyz(project, "TS_1") == [(125.5, 197, 102)]
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "TS_1.csv").write_text(text.replace("run_name,", "object,").replace("TS_1", "ribosome"))
    (found,) = (open_project(tmp_path / "t").picks("TS_1"),)
    np.testing.assert_allclose(found.positions, [[102, 197, 125.5]])
    np.testing.assert_allclose(found.rotations[0], [[0, -1, 0], [1, 0, 0], [0, 0, 1]])


# ---- nothing found ----


@pytest.mark.parametrize("name, text", [
    ("coords", ""), ("txt", ""), ("cbox", ""), ("box", ""), ("tloc", ""), ("ndjson", ""), ("xml", "<objlist/>"),
    ("tbl", ""), ("csv", "object,x,y,z\n"), ("star", star(f"{HERE} rlnTomoName")),
    ("star", star("wrpCoordinateX1 wrpCoordinateY1 wrpCoordinateZ1 wrpSourceName")),
    ("json", '{"apix_unbin": 2.5, "boxes_3d": []}'),
])  # fmt: skip
def test_an_empty_file_is_a_value(tmp_path, name, text):
    other, path = tmp_path / "TS_1.coords", tmp_path / f"TS_2.{name}"
    other.write_text("12 20 10\n")
    path.write_text(text)
    project = folder(tmp_path / "t", "TS_1", "TS_2")
    report = import_picks([other, path], project, ImportOptions(name="ribosome"))
    assert report.counts == {"TS_1": {"ribosome": 1}, "TS_2": {}}
    assert len(project.picks("TS_1")) == 1 and len(project.picks("TS_2")) == 0


def test_a_blank_score_is_one_wherever_it_is_read(tmp_path):
    text = "object,x,y,z,score\nribosome,120.5,200,100,\nribosome,121.5,201,101,0.5\n"
    project, _ = brought(tmp_path, "TS_1.csv", text, "TS_1")
    assert project.picks("TS_1").scores.tolist() == [1.0, 0.5]
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "TS_1.csv").write_text(text)
    assert open_project(tmp_path / "f").picks("TS_1").scores.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name, text", [
    ("TS_1.coords", "12 20 10\n"), ("TS_1.csv", "object,x,y,z\nribosome,120,200,100\n"),
    ("TS_1.txt", "12.5 20.5 10\n"), ("p.star", star(f"{HERE} rlnMicrographName", "12 20 10 TS_1")),
    ("TS_1.ndjson", '{"location": {"x": 12, "y": 20, "z": 10}}\n'),
    ("TS_1.xml", '<?xml version="1.0"?>\n<objlist><object tomo_idx="0" x="12" y="20" z="10"/></objlist>'),
    ("TS_1.tbl", " ".join(["0"] * 23 + ["12", "20", "10"])),
])  # fmt: skip
def test_byte_order_marks(tmp_path, name, text, encoding):
    path = tmp_path / name
    path.write_text(text, encoding=encoding)
    project = folder(tmp_path / "t", "TS_1")
    import_picks([path], project, ImportOptions(name="ribosome"))
    assert xyz(project, "TS_1") == [(120, 200, 100)]


# ---- lists, boxes and motive lists ----


@pytest.mark.parametrize("block", ["", "particles", "coordinate_files", "anything"])
def test_relions_lists_of_coordinate_files(tmp_path, block):
    place = tmp_path / "COORDS"
    place.mkdir()
    (place / "one.coords").write_text("12 20 10\n30 31 32\n")
    (place / "two.txt").write_text("5 6 7 10 20 30\n")
    centred = " ".join(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")
    (place / "three.star").write_text(star(centred, "10 20 30", block="particles"))
    (place / "four.star").write_text(star(centred, block="particles"))
    listed = star("rlnTomoName rlnTomoImportParticleFile", *(f"TS_{i} COORDS/{n}" for i, n in enumerate(
        ("one.coords", "two.txt", "three.star", "four.star"), start=1)), block=block)  # fmt: skip
    project, _ = brought(tmp_path, "list.star", listed, *(f"TS_{i}" for i in (1, 2, 3, 4)), pixel_size=10.0)
    assert xyz(project, "TS_1") == [(120, 200, 100), (300, 310, 320)] and xyz(project, "TS_2") == [(50, 60, 70)]
    assert xyz(project, "TS_3") == [(330, 320, 230)] and xyz(project, "TS_4") == []
    assert "`pixel_size`" in refused(tmp_path, "list.star", listed)


def test_boxes_and_lists_of_others(tmp_path):
    columns = "CoordinateX CoordinateY CoordinateZ Width Height Depth Confidence"
    text = star(columns, "12 27 15 25 25 10 <NA>", "12 27 15 25 25 10 0.25", block="cryolo")
    project, _ = brought(tmp_path / "c", "TS_1.cbox", text, "TS_1")
    assert xyz(project, "TS_1") == [(245, 395, 150)] * 2 and project.picks("TS_1").scores.tolist() == [1.0, 0.25]
    text = '<objlist><object tomo_idx="0" class_label="1" x="12" y="20" z="10" phi="0" psi="0" the="0"/></objlist>'
    project, _ = brought(tmp_path / "x", "TS_1.xml", text, "TS_1")
    assert xyz(project, "TS_1") == [(120, 200, 100)]
    columns = "motl_idx tomo_num halfset orig_x orig_y orig_z score x_shift y_shift z_shift phi psi the class"
    text = star(columns, "1 7 A 13 21 11 0.4 0.5 -1 0 10 20 30 1", block="stopgap_motivelist")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "m.doc").write_text("7 TS_1\n")
    project, _ = brought(tmp_path / "s", "m.star", text, "TS_1")
    assert xyz(project, "TS_1") == [(125, 190, 100)] and project.picks("TS_1").scores.tolist() == [0.4]


def test_what_is_not_read_says_what_to_use(tmp_path):
    text = star("rlnTomoParticlesFile rlnTomoTomogramsFile", "p.star t.star", block="optimisation_set")
    assert "import p.star with `tomograms_star=t.star` instead" in refused(tmp_path, "optimisation_set.star", text)
    assert "never opened; give the .coords" in refused(tmp_path, "TS_1.tloc", "\x80")
    assert "have no z; give the .cbox" in refused(tmp_path, "TS_1.box", "1 2 3 4\n")


def test_copicks_own_picks_are_not_emans(tmp_path):
    made = create_copick_project(tmp_path / "p", open_project(folder(tmp_path / "t", "TS_1").uri).objects or
                                 folder(tmp_path / "t", "TS_1").objects)  # fmt: skip
    assert made is not None
    point = {"location": {"x": 120, "y": 200, "z": 100}, "score": 0.5,
             "transformation_": [[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}  # fmt: skip
    data = {"pickable_object_name": "ribosome", "user_id": "a", "session_id": "1", "run_name": "TS_1",
            "unit": "angstrom", "points": [point]}  # fmt: skip
    project, _ = brought(tmp_path / "j", "a_1_ribosome.json", "\ufeff" + json.dumps(data), "TS_1", "TS_2")
    assert xyz(project, "TS_1") == [(125, 200, 100)] and project.picks("TS_1").scores.tolist() == [0.5]


# ---- IMOD ----


def model(path: Path, objects, flags=(), **minx) -> Path:
    """A model of `objects`: name, points, kind."""
    import warnings

    from imodmodel.models import MINX, Contour, ImodModel, Object, ObjectFlags, ObjectHeader

    made = []
    for name, contours, kind in objects:
        header = ObjectHeader(name=name, contsize=len(contours), flags=ObjectFlags(0))
        if kind:
            setattr(header.flags, kind, True)
        made.append(Object(header=header, contours=[Contour(points=np.array(c, dtype=float)) for c in contours]))
    whole = ImodModel(objects=made)
    head = whole.header = whole.header.model_copy(deep=True)
    head.xmax, head.ymax, head.zmax = SHAPE[::-1]
    for flag in ("z_coordinates_start_from_negative_half", "otrans_has_image_origin_values", *flags):
        setattr(head.flags, flag, True)
    if set(flags) & {"model_last_viewed_onYZ_flipped_or_rotated", "model_rotx"}:
        head.ymax, head.zmax = head.zmax, head.ymax
    zero, ten = (0.0, 0.0, 0.0), (10.0, 10.0, 10.0)
    whole.minx = MINX(**({"oscale": ten, "otrans": zero, "orot": zero, "cscale": ten, "ctrans": zero, "crot": zero}
                         | minx))  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        whole.to_file(path)
    return path


def models(tmp_path: Path, *args, name="ribosome", objects=("ribosome:150",), **minx):
    project = folder(tmp_path / "t", "TS_1", objects=objects)
    path = model(tmp_path / "TS_1.mod", *args, **minx)
    with heard() as said:
        import_picks([path], project, ImportOptions(name=name))
    return project, said


POINT = [[20.5, 30.5, 10.0]]  # of voxel 20, 30, 10 (x, y, z)


@pytest.mark.parametrize(
    "points, flags, minx",
    [
        (POINT, (), {}),
        ([[20.5, 10.0, 30.5]], ("model_last_viewed_onYZ_flipped_or_rotated",), {}),
        ([[20.5, 10.5, 29.0]], ("model_rotx",), {}),
        (POINT, (), {"otrans": (-850.0, 0.0, 950.0), "ctrans": (-850.0, 0.0, 950.0), "crot": (-90.0, 0.0, 0.0)}),
        ([[15.5, 28.5, 9.0]], (), {"otrans": (-850.0, 0.0, 950.0), "ctrans": (-900.0, -20.0, 940.0)}),
    ],
    ids=["plain", "flipped", "rotated", "origin", "part"],
)
def test_imod_where_the_image_lies(tmp_path, points, flags, minx):
    """`rotated` is what imodRot90X makes of the point: y' = z + 0.5, z' = ymax - 0.5 - y."""
    project, said = models(tmp_path, [("ribosome", [points], "scattered")], flags, **minx)
    assert xyz(project, "TS_1") == [(200, 300, 100)] and not said


def test_imod_outlines_are_no_picks(tmp_path):
    outline = [[1.0, 1, 1], [9, 1, 1], [9, 9, 1]]
    project, said = models(tmp_path, [("a", [POINT], "scattered"), ("cell", [outline], "")])
    assert xyz(project, "TS_1") == [(200, 300, 100)] and "closed contours are outlines: IMOD object 2 'cell'" in said[0]
    with pytest.raises(ReadError, match="closed contours alone"):
        models(tmp_path / "b", [("cell", [outline], "")])
    project, _ = models(tmp_path / "c", [("", [POINT, POINT], "")])  # one point a contour, as they are clicked
    assert len(project.picks("TS_1")) == 2
    project, _ = models(tmp_path / "d", [("", [], "")])
    assert len(project.picks("TS_1")) == 0


def test_imod_objects_name_particles(tmp_path):
    both = [("Ribosome", [POINT], "scattered"), ("fiducials", [POINT], "scattered")]
    project, said = models(tmp_path, both, name=None)
    assert project.picks("TS_1").names.tolist() == ["ribosome"] and "IMOD object 2 'fiducials'" in said[0]
    project, said = models(tmp_path / "b", both[1:], name=None)
    assert project.picks("TS_1").names.tolist() == ["ribosome"] and "is taken for ribosome" in said[0]
    project, _ = models(tmp_path / "c", [("80S ribosome", [POINT], "scattered"), both[1]], name=None, objects=())
    assert sorted(project.picks("TS_1").names.tolist()) == ["80S-ribosome", "fiducials"]


def test_imod_model_of_other_voxels(tmp_path):
    ten = (20.0, 20.0, 20.0)
    (tmp_path / "t").mkdir()
    path = model(tmp_path / "TS_1.mod", [("", [[[10.5, 15.5, 5.0]]], "scattered")], cscale=ten)
    write_mrc(tmp_path / "t" / "TS_1.mrc", np.zeros((41, 61, 65), np.float32) + np.arange(65, dtype=np.float32), 10.0)
    project = open_project(tmp_path / "t", objects=["ribosome:150"])
    with heard() as said:
        import_picks([path], project, ImportOptions())
    assert xyz(project, "TS_1") == [(200, 300, 100)] and "was drawn on voxels of 20 Å" in said[0]


# ---- where picks are already ----


def test_overwriting_in_a_folder(tmp_path):
    project = folder(tmp_path / "t", "rec_TS_1_10.00Apx")
    (tmp_path / "t" / "TS_1.csv").write_text("object,x,y,z\nribosome,1,2,3\n")
    project = open_project(tmp_path / "t", objects=["ribosome:150"])
    path = tmp_path / "TS_1.coords"
    path.write_text("12 20 10\n")
    with pytest.raises(OutputError, match=r"move TS_1\.csv elsewhere, or replace it with `overwrite`") as caught:
        import_picks([path], project, ImportOptions())
    assert "--session-id" not in str(caught.value)
    import_picks([path], project, ImportOptions(overwrite=True))
    with (tmp_path / "t" / "TS_1.csv").open() as handle:
        assert [(r["x"], r["z"]) for r in csv.DictReader(handle)] == [("120.000", "100.000")]
    assert not (tmp_path / "t" / "rec_TS_1_10.00Apx.csv").exists()


def test_tables_bring_new_objects_where_nobody_has_listed_them(tmp_path):
    text = "object,x,y,z\nribosome,120,200,100\nproteasome,120,200,300\n"
    (tmp_path / "TS_1.csv").write_text(text)
    project = folder(tmp_path / "t", "TS_1", objects=())
    import_picks([tmp_path / "TS_1.csv"], project, ImportOptions())
    assert [o.name for o in project.objects] == ["proteasome", "ribosome"]
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / "objects.json").write_text('\ufeff[{"name": "ribosome", "radius": 150}]')
    with pytest.raises(SelectionError, match="no pickable object 'proteasome'"):
        import_picks([tmp_path / "TS_1.csv"], folder(tmp_path / "u", "TS_1", objects=()), ImportOptions())


# ---- several projects, one set of options ----


def test_options_go_to_the_projects_that_can_take_them(tmp_path):
    mine = folder(tmp_path / "t", "TS_1")
    config = tmp_path / "s"
    create_copick_project(config, mine.objects)
    both = [str(tmp_path / "t"), str(config / "copick.json")]
    first, second = open_projects(both, objects=["ball:60"], voxel_spacing=12.0)
    assert [o.name for o in first.objects] == ["ball"] and [o.name for o in second.objects] == ["ribosome"]
    assert first.grid("TS_1").voxel_spacing == 12.0
    first, second = open_projects(both, objects=["ribosome:140", "ball:60"])
    assert second.objects[0].radius == 140 and first.objects[0].radius == 140
    with pytest.raises(SelectionError, match=r"`objects=ball:60`: .* no object 'ball'; there is ribosome"):
        open_projects([both[1], both[1]], objects=["ball:60"])
    with pytest.raises(SelectionError, match="states its voxel spacings"):
        open_projects([both[1], both[1]], voxel_spacing=10.0)
    offsets = open_projects(both, coordinate_offsets=["0.5", "none"])
    assert offsets[0].stated(Picks("TS_1", [[10, 10, 10]], ["x"])).positions.tolist() == [[5, 5, 5]]


def test_picks_in_voxels_are_refused_by_training_and_said_by_the_doctor(tmp_path):
    from tomopick.look.doctor import cheap_findings
    from tomopick.training.dataset import _require_likely
    from tomopick.training.sources import Source

    project = folder(tmp_path / "t", "TS_1")
    voxels = np.random.default_rng(0).uniform(0, 1, (30, 3)) * (np.array(SHAPE) - 1)
    write_picks_csv(tmp_path / "t" / "TS_1.csv", Picks("TS_1", voxels, ["ribosome"] * 30))
    project = open_project(tmp_path / "t", objects=["ribosome:150"])
    found = [f for f in cheap_findings(project) if f.level == "error"]
    assert len(found) == 1 and "are they in voxels?" in found[0].text and "`pixel_size`" in found[0].fix
    with pytest.raises(SelectionError, match="are they in voxels"):
        _require_likely(Source(project), {"TS_1": project.picks("TS_1")})


def test_other_programs_files_are_scored_as_they_are_imported(tmp_path):
    """What a file does not say can be said to evaluate too, and its columns are read by the same rules."""
    from tomopick.scoring.compare import Scoring

    folder(tmp_path / "t", "TS_1")
    truth = Picks("TS_1", np.array([[100, 200, 120], [300, 310, 320]]), ["ribosome"] * 2)
    write_picks_csv(tmp_path / "t" / "TS_1.csv", truth)
    path = tmp_path / "p.star"
    path.write_text(star(f"{HERE} rlnTomoName", "48 80 40 Position_9", "128 124 120 Position_9"))
    listed = tmp_path / "names.txt"
    listed.write_text("Position_9 TS_1\n")
    given = {"objects": ("ribosome:150",)}
    with pytest.raises(SelectionError, match="no picks of a run"):
        Scoring(**given)(str(path), str(tmp_path / "t"))
    foreign = {"names": listed, "pixel_size": 2.5}
    assert Scoring(**given, foreign=foreign)(str(path), str(tmp_path / "t")).czii.score == 1.0
    with pytest.raises(ReadError, match="`pixel_size`"):
        Scoring(**given, foreign={"names": listed})(str(path), str(tmp_path / "t"))


def test_a_few_picks_in_voxels_are_refused_by_import(tmp_path):
    table = "object,x,y,z\nribosome,12,20,10\nribosome,30,31,32\nribosome,50,40,30\n"
    assert "are they in voxels?" in refused(tmp_path, "TS_1.csv", table)


def test_the_doctor_knows_which_table_is_of_which_tomogram(tmp_path):
    from tomopick.look.doctor import cheap_findings

    folder(tmp_path / "t", "rec_TS_1_10.00Apx")
    write_picks_csv(tmp_path / "t" / "TS_1.CSV", Picks("", [[100, 200, 300]] * 2, ["ribosome"] * 2))
    write_picks_csv(tmp_path / "t" / "TS_2.csv", Picks("", [[100, 200, 300]], ["ribosome"]))
    found = [f.text for f in cheap_findings(open_project(tmp_path / "t", objects=["ribosome:150"]))]
    assert any(text.startswith("TS_2.csv belongs to no tomogram") for text in found)
    assert not any("TS_1.CSV belongs" in text for text in found)


def test_two_sides_find_their_runs_by_the_same_rule(tmp_path, told):
    from tomopick.scoring.compare import Scoring

    folder(tmp_path / "t", "rec_TS_1_10.00Apx", "TS_2a")
    (tmp_path / "p").mkdir()
    for run in ("TS_1", "TS_2"):
        write_picks_csv(tmp_path / "p" / f"{run}.csv", Picks(run, [[100, 200, 300]], ["ribosome"]))
    for run in ("rec_TS_1_10.00Apx", "TS_2a"):
        write_picks_csv(tmp_path / "t" / f"{run}.csv", Picks(run, [[100, 200, 300]], ["ribosome"]))
    scores = Scoring(objects=("ribosome:150",))(str(tmp_path / "p"), str(tmp_path / "t"))
    assert scores.czii.objects["ribosome"].tp == 1
    assert scores.czii.objects["ribosome"].fn == 1  # TS_2 is not TS_2a
    assert any("TS_1 as run rec_TS_1_10.00Apx" in line for line in told)
