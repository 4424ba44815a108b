"""What is worth a look next."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import small
from tomopick.cli import main
from tomopick.core.errors import SelectionError
from tomopick.data import open_project, read_picks_csv
from tomopick.data.runs import Runs
from tomopick.look.curation.begin import begin
from tomopick.look.page.gather import ReportOptions
from tomopick.look.suggest import suggest
from tomopick.picking.load import load_model


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_the_most_doubtful_come_first_and_can_be_curated(tmp_path):
    place = small.folder(tmp_path / "in", ("X", "Y"), picks=False)
    model = small.trained()
    cut = load_model(model).thresholds["f1"]["ball"]
    call = ("suggest", model, place, "--device", "cpu")
    done = run(*call, "--json", "--number", 5, "--out", tmp_path / "next")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    away = [abs(p["score"] - cut) for p in data["picks"]]
    assert len(away) == 5 and away == sorted(away) and data["learned_from"] == []
    found = {name: read_picks_csv(tmp_path / "next" / f"{name}.csv")[""] for name in "XY"}
    every = np.sort(np.concatenate([np.abs(p.scores - cut) for p in found.values()]))
    np.testing.assert_allclose(away, every[:5], atol=1e-5)
    near = {name: int((np.abs(p.scores - cut) < 0.15).sum()) for name, p in found.items()}
    assert {t["run"]: t["doubtful"] for t in data["tomograms"]} == near
    assert [t["doubtful"] for t in data["tomograms"]] == sorted(near.values(), reverse=True)
    np.testing.assert_allclose(found["X"].columns["threshold"], cut, atol=1e-6)  # so that sliders open there
    text = run(*call).stdout
    assert "tomograms, the most doubtful first" in text and f"{cut:.4f}" in text
    assert run(*call, "--out", tmp_path / "next").exit_code == 0  # as whoever was cut off repeats it
    (tmp_path / "next" / "X.csv").write_text("object,x,y,z\nball,100,100,100\n")
    again = run(*call, "--out", tmp_path / "next")
    assert again.exit_code == 2 and "exists already" in again.stderr
    assert open_project(tmp_path / "next").runs() == ["X", "Y"]
    (tmp_path / "next" / "X.csv").unlink()
    (tmp_path / "next" / "Y.csv").rename(tmp_path / "next" / "Z.csv")  # of a run that is not suggested
    others = run(*call, "--out", tmp_path / "next")
    assert others.exit_code == 2 and "Z.csv: exists already, of another run; name another --out" in others.stderr
    assert not (tmp_path / "next" / "X.csv").exists()


def test_what_was_decided_is_not_asked_again(tmp_path, monkeypatch):
    place = small.folder(tmp_path / "in", ("X", "Y"), picks=False)
    model = str(small.trained())
    call = ("suggest", model, place, "--device", "cpu", "--number", 5, "--json")
    first = run(*call, "--out", tmp_path / "next")
    options = {"voxel_spacing": None, "objects": (), "coordinate_offset": "0"}
    on = Runs(open_project(place))
    desk, _ = begin(str(tmp_path / "next"), on, options, ReportOptions(), None, "me", None, tmp_path / "curated")
    asked = json.loads(first.stdout)["picks"]
    for p in asked:
        entries = desk.journal(p["run"]).entries
        away = [np.linalg.norm(np.array(e.position) - [p["z"], p["y"], p["x"]]) for e in entries]
        desk.act(p["run"], {"op": "set", "ids": [int(np.argmin(away))], "state": "rejected"})
    desk.close()
    monkeypatch.setattr("tomopick.look.suggest.trained_on", lambda model, project: {"X", "Y"})
    again = run(*call, "--decided", tmp_path / "curated", "--out", tmp_path / "next2")
    assert again.exit_code == 0, again.output
    then = json.loads(again.stdout)["picks"]
    places = {(p["run"], round(p["x"]), round(p["y"]), round(p["z"])) for p in asked}
    assert len(then) == 5 and not places & {(p["run"], round(p["x"]), round(p["y"]), round(p["z"])) for p in then}
    assert f"--decided {tmp_path / 'curated'}" in again.stderr
    more = (tmp_path / "next2", on, options, ReportOptions(), None, "me", None, tmp_path / "curated2")
    desk, _ = begin(str(more[0]), *more[1:], tmp_path / "curated")
    try:
        assert sum(line["decided"] for line in desk.overview()) == 5
    finally:
        desk.close()
    monkeypatch.setattr("tomopick.look.suggest.pick_with", None)  # before anything is picked
    wrong = run(*call, "--decided", place)
    assert wrong.exit_code == 2 and "`" not in wrong.stderr and "--decided" in wrong.stderr


def test_what_a_model_has_learned_from_is_left_out(tmp_path, monkeypatch):
    project = open_project(small.folder(tmp_path / "in", ("A", "B"), picks=False))
    model = str(small.trained())
    monkeypatch.setattr("tomopick.look.suggest.trained_on", lambda model, project: {"A"})
    found = suggest(model, Runs(project), device="cpu")
    assert list(found.picks) == ["B"] and found.learned_from == ("A",)
    assert list(suggest(model, Runs(project, ["A"]), device="cpu").picks) == ["A"]
    monkeypatch.setattr("tomopick.look.suggest.trained_on", lambda model, project: {"A", "B"})
    with pytest.raises(SelectionError, match="has learned from A, B; name the runs meant with `runs`"):
        suggest(model, Runs(project), device="cpu")
