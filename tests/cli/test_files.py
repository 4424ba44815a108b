"""The verbs for files: what users type, what they get, and what they are told."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from small import folder as small_folder
from tomopick.cli import _Group, main
from tomopick.cli import files as cli_files
from tomopick.cli import look as cli_look
from tomopick.core.types import Picks
from tomopick.data import open_project, write_mrc, write_picks_csv

VERBS = {c.name: c for where in (cli_files, cli_look) for c in vars(where).values() if hasattr(c, "callback")}


def run(*arguments, code: int = 0):
    group = _Group("tomopick", commands=VERBS)
    result = CliRunner().invoke(group, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output + result.stderr
    return result


@pytest.fixture
def folder(tmp_path):
    """Two MRC volumes with picks beside one of them."""
    rng = np.random.default_rng(0)
    place = tmp_path / "tomograms"
    place.mkdir()
    for name in ("rec_TS_1_10.00Apx", "rec_TS_2_10.00Apx"):
        write_mrc(place / f"{name}.mrc", rng.normal(size=(12, 40, 50)).astype(np.float32), 10.0)
    picks = Picks("x", rng.uniform(20, 100, (6, 3)), np.full(6, "ribosome"), rng.uniform(0.2, 1, 6))
    write_picks_csv(place / "rec_TS_1_10.00Apx.csv", picks)
    return place


def test_verbs_and_their_help():
    assert set(VERBS) == {"export", "import", "doctor", "init", "show"}
    for name in VERBS:
        text = run(name, "--help").output
        assert "Example" in text and f"tomopick {name}" in text
        for option in VERBS[name].params:
            assert option.param_type_name == "argument" or option.help, option


def test_lowest_scores_of_all_and_of_one(folder, tmp_path):
    for i, (words, found) in enumerate(((["0.1"], 1), (["0.99", "ribosome=0.1"], 1), (["ribosome=0.99", "0.1"], 0))):
        more = [w for word in words for w in ("--min-score", word)]
        call = ("export", folder, tmp_path / f"{i}.star", "--to", "relion5", "--object", "ribosome:150", *more)
        assert "--min-score 0.1,ribosome=0.99" in run(*call, code=2).stderr if not found else run(*call)
    for words, why in (
        (["0.1", "0.2"], "'0.2': there is 0.1 before; give one for all objects"),
        (["x"], "'x' is neither a score nor object=value"),
        (["0.1", "ribosome=x"], "'ribosome=x' is not object=value"),
    ):
        more = [w for word in words for w in ("--min-score", word)]
        assert why in run("export", folder, tmp_path / "a.star", "--to", "relion5", *more, code=2).stderr


def test_export_and_import(folder, tmp_path):
    out = tmp_path / "p.star"
    result = run("export", folder, out, "--to", "relion5", "--min-score", "0.1", "--object", "ribosome:150")
    assert str(out) in result.output and "middle of the tomogram at 250.00, 200.00, 60.00 Å (x, y, z)" in result.stderr
    result = run("import", out, folder, "--object", "ribosome:150", code=2)
    assert "error: " in result.stderr and "has picks already" in result.stderr
    (folder / "rec_TS_1_10.00Apx.csv").unlink()
    out.write_text(out.read_text().replace("rec_TS_1_10.00Apx", "TS_1").replace("\t0", "\t0"))
    result = run("import", out, folder, "--as", "ribosome", "--object", "ribosome:150")
    assert result.stdout == "rec_TS_1_10.00Apx: 6 ribosome\n"
    assert "found by a shortened name" in result.stderr and "scores are those of rlnAutopick" in result.stderr
    assert len(open_project(folder).picks("rec_TS_1_10.00Apx")) == 6


def test_export_options_reach_the_format(folder, tmp_path):
    run("export", folder, tmp_path / "a.tbl", "--to", "dynamo", "--dynamo-origin", "1", "--tilt-range", "-60,60")
    row = (tmp_path / "a.tbl").read_text().split()
    assert row[12:15] == ["1", "-60", "60"]
    run("export", folder, tmp_path / "b.tbl", "--to", "dynamo")
    other = (tmp_path / "b.tbl").read_text().split()
    assert float(row[23]) == pytest.approx(float(other[23]) + 1)
    run(
        "export",
        folder,
        tmp_path / "c.star",
        "--to",
        "relion4",
        "--tilt-series-pixel-size",
        2.5,
        "--star-layout",
        "import",
    )
    assert "rlnTomoImportParticleFile" in (tmp_path / "c.star").read_text()
    for flags, message in (
        (["--to", "relion4"], "--tilt-series-pixel-size"),
        (["--to", "relion5", "--dynamo-origin", "1"], "--dynamo-origin is of dynamo"),
        (["--to", "rellion5"], "did you mean 'relion5'"),
        (["--to", "dynamo", "--tilt-range", "5"], "expected MIN,MAX"),
    ):
        result = run("export", folder, tmp_path / "z", *flags, code=2)
        assert message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "z").exists()


def test_voxel_spacing_of_coordinates_alone(tmp_path):
    """A copick project that has picks and no tomograms states no spacing; the coordinates have one all the same."""
    from tomopick.core.types import PickableObject
    from tomopick.data import create_copick_project

    made = create_copick_project(tmp_path / "project", [PickableObject("ribosome", 150.0)])
    (tmp_path / "project" / "ExperimentRuns" / "TS_1").mkdir()
    config = tmp_path / "project" / "copick.json"
    path = tmp_path / "TS_1.coords"
    path.write_text("1 2 3\n")
    assert "--voxel-spacing" in run("import", path, config, code=2).stderr
    run("import", path, config, "--voxel-spacing", "12")
    out = tmp_path / "b.coords"
    run("export", config, out, "--to", "coords", "--voxel-spacing", "6")
    assert [float(v) for v in out.read_text().split()] == [2.0, 4.0, 6.0]
    assert made.uri.endswith("copick.json")


def test_import_says_what_was_left(folder, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("run,object,x,y,z\nTS_2,ribosome,10,10,10\nTS_9,ribosome,10,10,10\nTS_2,ribosome,9999,10,10\n")
    result = run("import", path, folder, "--object", "ribosome:150", "--drop-outside")
    assert (
        "rec_TS_2_10.00Apx: 1 ribosome" in result.output and "no run for 1 tomogram of the files: TS_9" in result.output
    )
    assert "1 of 2 picks lie outside" in result.stderr
    assert "one FILE or more" in run("import", path, code=2).stderr


def test_doctor(folder):
    result = run("doctor", folder, "--object", "ribosome:150")
    assert "✓ folder with 2 runs" in result.output and "! ribosome: only 6 picks" in result.output
    data = json.loads(run("doctor", folder, "--object", "ribosome:150", "--json", "--examine", "0").output)
    assert {f["level"] for f in data} == {"ok", "warning"}
    path = folder / "rec_TS_1_10.00Apx.csv"
    path.write_text(path.read_text() + "ribosome,99999,0,0,1\n")
    result = run("doctor", folder, "--object", "ribosome:150", code=1)
    assert "✗ run rec_TS_1_10.00Apx: 1 of 7 picks lie outside" in result.output and "1 error, " in result.output
    run("doctor", folder / "nothing", code=2)
    assert "no model" in run("doctor", folder, "no-such-model", code=2).stderr


def test_a_folder_is_named_by_its_slash_or_by_being_there(folder, tmp_path):
    run("export", folder, f"{tmp_path}/new/", "--to", "relion5")
    assert (tmp_path / "new" / "particles.star").is_file()
    (tmp_path / "old").mkdir()
    run("export", folder, tmp_path / "old", "--to", "relion5")
    assert (tmp_path / "old" / "particles.star").read_text() == (tmp_path / "new" / "particles.star").read_text()


def test_doctor_of_a_star_file(folder, tmp_path):
    run("export", folder, tmp_path / "p.star", "--to", "relion5")
    assert "6 particles of 1 tomogram" in run("doctor", tmp_path / "p.star").output
    (tmp_path / "bad.star").write_text("x")
    assert "✗" in run("doctor", tmp_path / "bad.star", code=1).output


def test_init_copies_a_folder(folder, tmp_path):
    result = run("init", folder, tmp_path / "project", "--object", "ribosome:150", "--tomo-type", "denoised")
    project = open_project(result.stdout.strip())
    assert project.runs() == ["TS_1", "TS_2"] and project.tomo_types("TS_1") == ["denoised@10.000"]
    assert len(project.picks("TS_1")) == 6 and project.picks("TS_2") is None
    before = open_project(folder)
    np.testing.assert_array_equal(project.tomogram("TS_2").values, before.tomogram("rec_TS_2_10.00Apx").values)
    assert "exists already" in run("init", folder, tmp_path / "project", "--object", "ribosome:150", code=2).stderr
    assert "--object NAME:RADIUS" in run("init", folder, tmp_path / "other", code=2).stderr
    assert "in this order" in run("init", folder, code=2).stderr
    assert "would be renamed" in run("init", folder, tmp_path / "other", "--object", "a_b:1", code=2).stderr
    assert not (tmp_path / "other").exists()


def test_init_beside_copicks_layout(folder, tmp_path):
    run("init", folder, tmp_path / "project", "--preset", "czii")
    config = tmp_path / "project" / "copick.json"
    config.unlink()
    result = run("init", tmp_path / "project", tmp_path / "mine", "--preset", "czii")
    project = open_project(result.stdout.strip())
    assert project.runs() == ["TS_1", "TS_2"] and len(project.objects) == 6
    project.write_picks(Picks("TS_2", np.array([[50.0, 60, 70]]), np.array(["ribosome"])), "me", "0")
    assert (tmp_path / "mine" / "ExperimentRuns" / "TS_2" / "Picks").is_dir()
    assert not (tmp_path / "project" / "ExperimentRuns" / "TS_2" / "Picks").exists()


def test_init_for_the_portal(tmp_path, monkeypatch):
    from copick.impl.cryoet_data_portal import CopickRootCDP

    monkeypatch.setattr(CopickRootCDP, "_fetch_portal_data", lambda self: {})
    monkeypatch.setenv("COPICK_PORTAL_CACHE", "0")
    run("init", tmp_path / "portal", "--portal", "10440", "--object", "ribosome:150")
    path = tmp_path / "portal" / "copick.json"
    data = json.loads(path.read_text())
    assert data["config_type"] == "cryoet_data_portal" and data["dataset_ids"] == [10440]
    (entry,) = data["pickable_objects"]
    assert (entry["name"], entry["identifier"], entry["radius"]) == ("cytosolic-ribosome", "GO:0022626", 150.0)
    project = open_project(path)
    assert [o.name for o in project.objects] == ["cytosolic-ribosome"]
    assert project.root.go_map == {"GO:0022626": "cytosolic-ribosome"}
    run("init", tmp_path / "portal", "--portal", "10440", code=2)
    run("init", tmp_path / "all", "--portal", "10440")
    assert len(open_project(tmp_path / "all").objects) == 6


def test_init_for_any_data_set_of_the_portal(tmp_path, monkeypatch):
    """By the identifier that is given, or that the portal tells; without either it is one line, and no folder."""
    from copick.impl.cryoet_data_portal import CopickRootCDP
    from copick.models import PickableObject
    from copick.util import portal

    def silent(datasets):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(CopickRootCDP, "_fetch_portal_data", lambda self: {})
    monkeypatch.setenv("COPICK_PORTAL_CACHE", "0")
    monkeypatch.setattr(portal, "objects_from_datasets", silent)
    wanted = ("--object", "rubisco:60:GO:0009573", "--object", "ribosome:150")
    run("init", tmp_path / "given", "--portal", "10301", *wanted)
    entries = json.loads((tmp_path / "given" / "copick.json").read_text())["pickable_objects"]
    assert [(e["name"], e["identifier"], e["radius"]) for e in entries] == [
        ("rubisco", "GO:0009573", 60.0), ("cytosolic-ribosome", "GO:0022626", 150.0)
    ]  # fmt: skip
    said = run("init", tmp_path / "x", "--portal", "1", "--object", "membrane:5", code=2).stderr
    assert "the portal does not answer" in said and "membrane:RADIUS:IDENTIFIER" in said
    assert not (tmp_path / "x").exists()
    known = [PickableObject(name="membrane", is_particle=False, label=1, identifier="GO:0016020")]
    monkeypatch.setattr(portal, "objects_from_datasets", lambda datasets: known)
    run("init", tmp_path / "asked", "--portal", "10301", "--object", "membrane:5")
    (entry,) = json.loads((tmp_path / "asked" / "copick.json").read_text())["pickable_objects"]
    assert (entry["name"], entry["identifier"]) == ("membrane", "GO:0016020")


def test_show(folder, tmp_path):
    png = tmp_path / "a.png"
    run("show", folder, "--run", "rec_TS_1_10.00Apx", "--object", "ribosome:50", "--out", png)
    assert png.read_bytes().startswith(b"\x89PNG")
    table = tmp_path / "TS_2.csv"
    write_picks_csv(table, Picks("TS_2", np.array([[50.0, 60, 70]]), np.array(["ribosome"])))
    run("show", folder / "rec_TS_2_10.00Apx.mrc", table, "--out", tmp_path / "b.png", "--at", "50,60,70")
    assert (tmp_path / "b.png").stat().st_size > 1000
    assert "say which with --run" in run("show", folder, "--out", png, code=2).stderr
    assert "expected Z,Y,X" in run("show", folder, "--out", png, "--at", "1,2", code=2).stderr
    outside = run("show", folder / "rec_TS_2_10.00Apx.mrc", "--out", tmp_path / "c.png", "--at", "50,60,9e4", code=2)
    assert "--at 50,60,90000 lies outside the volume" in outside.stderr and not (tmp_path / "c.png").exists()


def test_the_doctor_draws_what_it_read(tmp_path):
    place = small_folder(tmp_path / "in")
    result = CliRunner().invoke(main, ["doctor", str(place), "--examine", "1", "--pictures", str(tmp_path / "look")])
    assert result.exit_code == 0, result.output
    assert [p.name for p in (tmp_path / "look").iterdir()] == ["A.png"]


def test_init_leaves_nothing_where_it_ends_early_and_keeps_human_picks_apart(folder, tmp_path, monkeypatch):
    from tomopick.data import new_project

    real, calls = new_project.write_run, []

    def once(*args):
        calls.append(args)
        if len(calls) > 1:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(new_project, "write_run", once)
    place = tmp_path / "project"
    options = {"tomo_type": "denoised"}
    with pytest.raises(KeyboardInterrupt):
        new_project.init_project(folder, place, ["ribosome:150"], **options)
    assert {p.name for p in tmp_path.iterdir()} == {folder.name}
    monkeypatch.setattr(new_project, "write_run", real)
    place.mkdir()  # an empty folder is as good as none
    config = new_project.init_project(folder, place, ["ribosome:150"], **options)
    assert json.loads(config.read_text())["overlay_root"] == f"local://{place.resolve()}"
    project = open_project(config)
    pairs = {(e.user_id, e.session_id) for run in project.runs() for e in project.picks_sets(run)}
    assert pairs == {("curated", "0")}
