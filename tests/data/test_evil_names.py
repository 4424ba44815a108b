"""Names that lead elsewhere: whatever a file calls its runs and objects, nothing is written outside OUT."""

import csv
import os

import numpy as np
import pytest

from small import folder
from tomopick.core.errors import OutputError, ReadError, TomopickError
from tomopick.core.records import Records
from tomopick.core.types import PickableObject, Picks
from tomopick.data import MemoryProject, create_copick_project, open_project, read_picks_csv, write_picks_csv
from tomopick.data.exporting import TARGETS, ExportOptions, export_picks
from tomopick.picking.output import HeatmapFiles, Output

EVIL = ["../evil", "/tmp/evil", "..", ".evil", "a\x1b[31mb", "con", "x" * 300]


def tree(place):
    return sorted(os.path.relpath(os.path.join(at, n), place) for at, _, names in os.walk(place) for n in names)


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def table(path, run, name):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["run", "object", "x", "y", "z"], [run, name, 10, 20, 30], [run, "ball", 1, 2, 3]])
    return open_project(path)


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("target", TARGETS)
def test_exported_runs_and_objects_stay_in_their_folder(tmp_path, target, evil):
    for run, name in ((evil, "ball"), ("TS_1", evil)):
        before = tree(tmp_path)
        project = table(tmp_path / "evil.csv", run, name)
        inner = tmp_path / "a" / "b"
        more = {"tomograms_star": None, "voxel_spacing": 10.0, "tilt_series_pixel_size": 2.0, "folder": True}
        try:
            export_picks(project, target, inner / "out", ExportOptions(**more, together=False))
        except TomopickError:
            assert set(tree(tmp_path)) <= {*before, "evil.csv"}
        assert all(path == "evil.csv" or path.startswith("a/b/out/") for path in tree(tmp_path))


@pytest.mark.parametrize("evil", EVIL)
def test_picked_runs_stay_in_their_folder(tmp_path, evil):
    picks = Picks(evil, np.zeros((1, 3)), np.array(["ball"]))
    output = Output(MemoryProject([PickableObject("ball", 60.0)]), evil, tmp_path / "out",
                    Records(tmp_path / "out"), "tomopick", "0")  # fmt: skip
    for attempt in (lambda: output.write_picks(picks), lambda: output.trace, lambda: HeatmapFiles(output)):
        with pytest.raises(OutputError, match="cannot be the name of a file"):
            attempt()
    assert tree(tmp_path) == []


@pytest.mark.parametrize("evil", EVIL)
def test_runs_and_objects_of_a_copick_project_stay_in_it(tmp_path, evil):
    project = create_copick_project(tmp_path / "p", [PickableObject("ball", 60.0)])
    with pytest.raises(OutputError, match="cannot be the name of a file"):
        project.overlay_folder(evil)


def test_a_tomograms_star_names_files_too(tmp_path):
    star = tmp_path / "tomograms.star"
    star.write_text("data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoSizeX #2\n_rlnTomoSizeY #3\n_rlnTomoSizeZ #4\n"
                    "_rlnTomoTiltSeriesPixelSize #5\n../../TS_1 100 100 100 2.0\n")  # fmt: skip
    project = MemoryProject([PickableObject("ball", 60.0)])
    project.write_picks(Picks("TS_1", np.ones((1, 3)), np.array(["ball"])), "a", "0")
    options = ExportOptions(tomograms_star=star, folder=True, voxel_spacing=10.0)
    with pytest.raises(OutputError, match=r"tomogram '\.\./\.\./TS_1': cannot be"):
        export_picks(project, "imod", tmp_path / "a" / "b", options)
    with pytest.raises(OutputError, match=r"tomogram '\.\./\.\./TS_1': cannot be"):
        export_picks(project, "relion5", tmp_path / "a" / "b.star", ExportOptions(tomograms_star=star,
                     choices={"layout": "import"}))  # fmt: skip
    assert tree(tmp_path) == ["tomograms.star"]


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-alpha", "@SUM(A1)", "ball"])
def test_cells_are_no_formulas(tmp_path, name):
    path = tmp_path / "picks.csv"
    write_picks_csv(path, Picks("TS_1", np.ones((1, 3)), np.array([name])))
    cell = rows(path)[1][0]
    assert cell == name if name == "ball" else cell == f"'{name}"
    assert read_picks_csv(path)[""].names.tolist() == [name]
    project = MemoryProject([PickableObject(name, 60.0)])
    project.write_picks(Picks("-TS", np.ones((1, 3)), np.array([name])), "a", "0")
    export_picks(project, "csv", tmp_path / "all.csv", ExportOptions())
    cells = rows(tmp_path / "all.csv")[1]
    assert not any(text.startswith(("=", "+", "-", "@")) for text in cells[:2])
    assert read_picks_csv(tmp_path / "all.csv")["-TS"].names.tolist() == [name]


def test_an_export_that_was_cut_off_is_repeated(tmp_path):
    project = MemoryProject([PickableObject("ball", 60.0)])
    for run in ("TS_1", "TS_2"):
        project.write_picks(Picks(run, np.ones((1, 3)), np.array(["ball"])), "a", "0")
    options = ExportOptions(voxel_spacing=10.0, folder=True)
    first, second = export_picks(project, "imod", tmp_path / "out", options)
    second.unlink()
    assert export_picks(project, "imod", tmp_path / "out", options) == [first, second] and second.exists()
    first.write_text("somebody else's")
    with pytest.raises(OutputError, match="exists already"):
        export_picks(project, "imod", tmp_path / "out", options)


def test_many_runs_are_exported_with_few_files_open(tmp_path):
    import resource

    project = MemoryProject([PickableObject("ball", 60.0)])
    for i in range(300):
        project.write_picks(Picks(f"TS_{i:04d}", np.ones((1, 3)), np.array(["ball"])), "a", "0")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        made = export_picks(project, "coords", tmp_path / "out", ExportOptions(voxel_spacing=10.0, folder=True))
        copied = export_picks(project, "copick", tmp_path / "copick", ExportOptions())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(made) == 300 and len(open_project(copied[0]).runs()) == 300


def test_names_do_not_tell_a_terminal_what_to_do(tmp_path):
    from click.testing import CliRunner

    from tomopick.cli import main

    project = tmp_path / "p.csv"
    project.write_text("run,object,x,y,z\nA\x1b[2J,ball\x9b31m,1,2,3\n", encoding="utf-8")
    for arguments in (["doctor", project], ["evaluate", project, project], ["export", project, "out/", "--to", "imod"],
                      ["pick", "default", project, "--out", "o"], ["import", project, project]):  # fmt: skip
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert "\x1b" not in result.output + result.stderr and "\x9b" not in result.output + result.stderr


def test_a_file_whose_name_is_no_text_is_refused(tmp_path):
    place = folder(tmp_path / "t", ("A",), shape=(16, 32, 32), n=1)
    for ending in (".mrc", ".csv"):
        strange = os.fsencode(place / "A") + b"\xc4" + ending.encode()
        os.rename(place / f"A{ending}", strange)
        with pytest.raises(ReadError, match="the file's name is no text here; rename it"):
            open_project(place)
        with pytest.raises(ReadError, match="is no text here"):
            open_project(os.fsdecode(strange)) if ending == ".mrc" else open_project(place)
        os.rename(strange, place / f"A{ending}")
    assert open_project(place).runs() == ["A"]


def test_names_with_line_ends_are_refused_where_they_are_read(tmp_path):
    split = tmp_path / "p.csv"
    with split.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["run", "object", "x", "y", "z"], ["A", "ball", 1, 2, 3], ["A\nB", "ball", 1, 2, 3]]
        )
    with pytest.raises(ReadError, match="line 4: run: the name 'A B' has line ends in it"):
        open_project(split)
    with split.open("w", newline="") as file:
        csv.writer(file).writerows([["object", "x", "y", "z"], ["ba\u2028ll", 1, 2, 3]])
    with pytest.raises(ReadError, match="line 2: object: the name 'ba ll' has line ends in it"):
        read_picks_csv(split)
    place = folder(tmp_path / "t", ("A",), shape=(16, 32, 32), n=1)
    (place / "A.mrc").rename(place / "A\nB.mrc")
    with pytest.raises(ReadError, match=r"the name 'A B\.mrc' has line ends in it"):
        open_project(place)
    made = create_copick_project(tmp_path / "c", [PickableObject("ball", 60.0)])
    (tmp_path / "c" / "ExperimentRuns" / "A\nB").mkdir(parents=True)
    with pytest.raises(ReadError, match="the name 'A B' has line ends in it"):
        open_project(made.uri).runs()


def test_what_is_told_is_one_line_whatever_names_are_in_it(capsys):
    import logging

    from tomopick.cli.options import plain_log, say

    say("warning: run A\nB: odd")
    with plain_log():
        logging.getLogger("tomopick").warning("run A\r\nB: odd")
    assert capsys.readouterr().err == "warning: run A B: odd\n" * 2


def test_rows_without_a_run_are_refused_where_others_have_one(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("run,object,x,y,z\nA,ball,1,2,3\n,ball,4,5,6\n")
    with pytest.raises(ReadError, match="line 3: run is blank; expected the run, as in other lines"):
        read_picks_csv(path)


def test_rows_of_other_runs_in_a_runs_table_are_said(tmp_path, caplog):
    place = folder(tmp_path / "t", ("A", "B"), shape=(16, 32, 32), n=1)
    (place / "A.csv").write_text("run,object,x,y,z\nA,ball,100,100,80\nB,ball,40,50,60\nC,ball,40,50,60\n")
    found = open_project(place).picks("A")
    assert len(found) == 1 and "the table is run A's: 2 rows of 'B', 'C'" in caplog.text
