"""Curation: what is decided, where it is kept, what the server refuses, and in a real browser that it works."""

import asyncio
import csv
import io
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import small
from browsing import until
from telling import heard
from tomopick.cli import main
from tomopick.core.errors import OutputError, ReadError, SelectionError
from tomopick.core.types import Grid, Picks
from tomopick.data import open_project, write_mrc
from tomopick.data.objects import write_objects
from tomopick.data.surfaces import turned_to
from tomopick.data.tables import read_picks_csv
from tomopick.data.volumes.slabs import array_slabs
from tomopick.look.curation.begin import begin
from tomopick.look.curation.decided import decided_in, undecided
from tomopick.look.curation.desk import Desk, Sitting
from tomopick.look.curation.folder import RECORD
from tomopick.look.curation.journal import Journal
from tomopick.look.curation.planes import Planes, snapped
from tomopick.look.curation.server import Curation, curation_page, serve
from tomopick.look.page.gather import ReportOptions
from tomopick.look.ports import bound

CUTS = {"ball": 0.5, "ring": 0.5}


def candidates(n=5):
    names = np.array(["ball", "ring"] * n)[:n]
    return Picks("A", np.arange(3.0 * n).reshape(n, 3), names, np.linspace(0.9, 0.1, n))


def journal(place, n=5):
    return Journal(place / "A.jsonl", candidates(n), ["ball", "ring"])


def sitting_of(project, picks, **more):
    objects = tuple(replace(o, radius=o.radius_angstrom) for o in (small.BALL, small.RING))
    return Sitting(project, picks, {}, objects, CUTS, **more)


# ---------------------------------------------------------------------------------------------------- what is decided
def test_decisions_and_what_counts(tmp_path):
    j = journal(tmp_path)
    assert j.picks("accepted", CUTS).scores.tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert j.act({"op": "set", "ids": [0], "state": "rejected"}, "me", "now") == [0]
    j.act({"op": "set", "ids": [4], "state": "accepted"}, "me", "now")
    j.act({"op": "set", "ids": [1], "state": "unsure"}, "me", "now")
    j.act({"op": "move", "id": 2, "to": [1, 2, 3]}, "me", "now")
    j.act({"op": "add", "object": "ring", "at": [9, 9, 9]}, "me", "now")
    accepted = j.picks("accepted", CUTS)
    assert accepted.positions.tolist() == [[1, 2, 3], [12, 13, 14], [9, 9, 9]]
    assert accepted.names.tolist() == ["ball", "ball", "ring"] and accepted.scores.tolist()[2] == 1.0
    assert j.picks("rejected", CUTS).positions.tolist() == [[0, 1, 2]]
    assert j.picks("unsure", CUTS).positions.tolist() == [[3, 4, 5]]
    assert j.entries[2].found_at == (6, 7, 8) and j.entries[2].by == "me"


def test_another_object_is_a_negative_of_the_first(tmp_path):
    j = journal(tmp_path)
    j.act({"op": "object", "ids": [0], "object": "ring"}, "me", "now")
    assert j.picks("accepted", CUTS).of("ring").positions.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert j.picks("rejected", CUTS).names.tolist() == ["ball"]
    j.act({"op": "object", "ids": [0], "object": "ball"}, "me", "now")
    assert len(j.picks("rejected", CUTS)) == 0


def test_deleting_teaches_only_what_the_model_found(tmp_path):
    j = journal(tmp_path)
    j.act({"op": "add", "object": "ball", "at": [9, 9, 9]}, "me", "now")
    j.act({"op": "delete", "ids": [0, 5]}, "me", "now")
    assert j.picks("rejected", CUTS).positions.tolist() == [[0, 1, 2]]
    assert 9.0 not in j.picks("accepted", CUTS).positions


EVENTS = st.one_of(
    st.builds(
        lambda ids, state: {"op": "set", "ids": ids, "state": state},
        st.lists(st.integers(0, 4), max_size=3),
        st.sampled_from(["accepted", "rejected", "unsure", None]),
    ),
    st.builds(lambda i, to: {"op": "move", "id": i, "to": to}, st.integers(0, 4), st.tuples(*[st.floats(-9, 9)] * 3)),
    st.builds(lambda i: {"op": "object", "ids": [i], "object": "ring"}, st.integers(0, 4)),
    st.builds(lambda at: {"op": "add", "object": "ball", "at": at}, st.tuples(*[st.floats(-9, 9)] * 3)),
    st.builds(lambda i: {"op": "delete", "ids": [i]}, st.integers(0, 4)),
    st.sampled_from([{"op": "undo"}, {"op": "redo"}, {"op": "done", "value": True}]),
)


@given(events=st.lists(EVENTS, max_size=12))
def test_a_journal_read_again_is_the_same_and_all_can_be_undone(tmp_path_factory, events):
    place = tmp_path_factory.mktemp("journal")
    j = journal(place)
    for event in events:
        j.act(event, "me", "now")
    again = journal(place)
    assert again.entries == j.entries and again.done == j.done and again.undoable == j.undoable
    while again.undoable:
        again.act({"op": "undo"}, "me", "now")
    assert again.entries == journal(place_of_none(place)).entries and not again.done


def place_of_none(place):
    return place / "nothing here"


@pytest.mark.parametrize(
    "event",
    [
        {"op": "set", "ids": [0, 99], "state": "rejected"},
        {"op": "set", "ids": [0], "state": "perhaps"},
        {"op": "object", "ids": [0], "object": "<b>"},
        {"op": "add", "object": "ball", "at": [1, 2]},
        {"op": "add", "object": "ball", "at": [1, 2, float("nan")]},
        {"op": "explode"},
        {"op": "move", "id": 0},
        {"op": "set", "ids": "0", "state": "rejected"},
    ],
)
def test_what_is_no_event_changes_nothing(tmp_path, event):
    j = journal(tmp_path)
    with pytest.raises(SelectionError):
        j.act(event, "me", "now")
    assert j.entries == journal(tmp_path).entries and not j.path.exists() and j.undoable == 0


def test_a_line_that_was_cut_off_is_forgotten_and_nonsense_is_refused(tmp_path):
    j = journal(tmp_path)
    j.act({"op": "set", "ids": [0], "state": "rejected"}, "me", "now")
    whole = j.path.read_text()
    j.path.write_text(whole + '{"op": "set", "ids"')
    again = journal(tmp_path)
    assert again.entries == j.entries and j.path.read_text() == whole
    j.path.write_text("[" * 100_000 + "\n")
    with pytest.raises(ReadError, match="line 1 is no event"):
        journal(tmp_path)
    j.path.write_text('{"op": "set", "ids": [7], "state": "rejected"}\n')
    with pytest.raises(ReadError, match="does not belong to these picks"):
        journal(tmp_path)


# -------------------------------------------------------------------------------------------------------- what is seen
def grey(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)), dtype=float)


def test_sections_along_each_axis():
    z, y, x = np.indices((24, 32, 40)).astype(np.float32)
    planes = Planes(array_slabs(z + 2 * y + 4 * x, Grid((24, 32, 40), 10.0)))
    planes.wait()
    assert planes.complete == 1
    for axis, shape in ((0, (32, 40)), (1, (24, 40)), (2, (32, 24))):
        found = grey(planes.plane(axis, 9))
        down, right = found[-1] - found[0], found[:, -1] - found[:, 0]
        assert found.shape == shape and (down > 0).all() and (right > 0).all()
    near, far = grey(planes.plane(1, 2)), grey(planes.plane(1, 30))
    assert (far - near).mean() > 30
    thick = grey(planes.plane(0, 12, thickness=5))
    np.testing.assert_allclose(thick, grey(planes.plane(0, 12)), atol=4)
    planes.close()


def test_crops_are_centred():
    values = np.zeros((20, 40, 60), np.float32)
    values[10, 15, 45] = values[9:12, 15, 45] = 100
    values[:2] = 1  # something to scale by
    planes = Planes(array_slabs(values, Grid(values.shape, 10.0)))
    sheet = grey(planes.crops(np.array([[100.0, 150, 450], [100, 150, 5000]]), [50, 50]))
    peak = np.unravel_index(sheet[:72, :72].argmax(), (72, 72))
    assert np.abs(np.array(peak) - 35.5).max() < 5
    assert abs(sheet[:72, 72:144].mean() - 127) < 3  # beyond the volume: mid-grey
    planes.close()


@pytest.mark.parametrize("dark", [True, False])
def test_a_click_snaps_to_the_middle_below_a_voxel(dark):
    grid = Grid((24, 24, 24), 10.0, (30.0, 0.0, 0.0))
    truth = np.array([145.0, 122.5, 118.0])
    d = np.linalg.norm(grid.positions(np.argwhere(np.ones(grid.shape))) - truth, axis=1).reshape(grid.shape)
    values = np.exp(-0.5 * (d / 25) ** 2) * (-1 if dark else 1)
    found = snapped(values.astype(np.float32), grid, truth + np.array([18, -22, 14]), 40.0, dark)
    np.testing.assert_allclose(found, truth, atol=1.0)
    nothing = np.zeros(grid.shape, np.float32)
    np.testing.assert_array_equal(snapped(nothing, grid, truth, 40.0, dark), truth)


# ---------------------------------------------------------------------------------------------------- where it is kept
@pytest.fixture(autouse=True)
def desks(monkeypatch):
    """Whatever a test leaves open is closed."""
    made = []
    begun = Desk.__init__
    monkeypatch.setattr(Desk, "__init__", lambda self, *a, **k: (begun(self, *a, **k), made.append(self))[0])
    yield
    for desk in made:
        desk.close()


def copick_desk(place, out="out", **more):
    project = open_project(place / "copick.json")
    picks = {}
    for run in project.runs():
        truth = project.picks(run, "*:curator/0")
        picks[run] = replace(truth, scores=np.linspace(0.95, 0.05, len(truth)))
    sitting = Sitting(project, picks, {}, project.objects, {"ball": 0.5}, "denoised", "me", **more)
    return Desk(sitting, place / out)


def test_copick_sessions(tmp_path):
    small.copick(tmp_path)
    desk = copick_desk(tmp_path)
    assert desk.session_id == "1" and desk.runs() == ["A", "B"]
    n = len(desk.journal("A").entries)
    desk.act("A", {"op": "set", "ids": [0, 1], "state": "rejected"})
    desk.act("A", {"op": "set", "ids": [n - 1], "state": "unsure"})
    project = open_project(tmp_path / "copick.json")
    assert len(project.picks("A", "*:me/1-rejected")) == 2 and len(project.picks("A", "*:me/1-unsure")) == 1
    kept = project.picks("A", "*:me/1")
    assert len(kept) == sum(s >= 0.5 for s in np.linspace(0.95, 0.05, n)) - 2
    assert not project.has_picks("B", "me", "1")  # nobody looked at it
    desk.act("A", {"op": "undo"})
    desk.act("A", {"op": "undo"})
    project = open_project(tmp_path / "copick.json")
    assert len(project.picks("A", "*:me/1-rejected")) == 0 and len(project.picks("A", "*:me/1")) == len(kept) + 2
    with pytest.raises(OutputError, match="is being curated by another process"):
        copick_desk(tmp_path)
    other = copick_desk(tmp_path, "second")  # the same person, at a second desk
    assert other.session_id == "2"
    with pytest.raises(OutputError, match="there are picks of me/1 already"):
        copick_desk(tmp_path, "third", session_id="1")


def test_two_desks_before_either_has_decided_get_two_sessions(tmp_path):
    small.copick(tmp_path)
    one, two = copick_desk(tmp_path, "one"), copick_desk(tmp_path, "two")
    assert (one.session_id, two.session_id) == ("1", "2")
    one.close()
    assert copick_desk(tmp_path, "one").session_id == "1" and copick_desk(tmp_path, "three").session_id == "3"
    with pytest.raises(OutputError, match=r"me/2 is kept for .*two; choose another session"):
        copick_desk(tmp_path, "four", session_id="2")


def test_where_no_session_can_be_kept_the_first_write_looks_again(tmp_path):
    small.copick(tmp_path)
    (open_project(tmp_path / "copick.json").overlay / ".tomopick").write_text("no folder can be made here")
    one, two, three = copick_desk(tmp_path, "one"), copick_desk(tmp_path, "two"), copick_desk(tmp_path, "three")
    assert one.session_id == two.session_id == "1"
    asked = copick_desk(tmp_path, "asked", session_id="1")
    one.act("A", {"op": "set", "ids": [0], "state": "rejected"})
    two.act("A", {"op": "set", "ids": [0], "state": "accepted"})
    one.act("A", {"op": "set", "ids": [1], "state": "rejected"})
    assert (one.session_id, two.session_id) == ("1", "2")
    assert json.loads((tmp_path / "two" / "curation.json").read_text())["session_id"] == "2"
    assert len(open_project(tmp_path / "copick.json").picks("A", "*:me/1-rejected")) == 2
    with pytest.raises(OutputError, match="there are picks of me/1 already"):
        asked.act("A", {"op": "set", "ids": [0], "state": "rejected"})
    three.close()
    assert copick_desk(tmp_path, "three").act("A", {"op": "set", "ids": [0], "state": "rejected"}) == [0]
    assert json.loads((tmp_path / "three" / "curation.json").read_text())["session_id"] == "3"


def test_a_desk_goes_on_where_it_was_whatever_becomes_of_the_picks(tmp_path):
    small.copick(tmp_path)
    desk = copick_desk(tmp_path)
    desk.act("A", {"op": "set", "ids": [2], "state": "rejected"})
    desk.act("A", {"op": "done", "value": True})
    desk.set_thresholds({"ball": 0.3})
    before = desk.journal("A").entries
    desk.close()
    again = copick_desk(tmp_path)
    assert again.journal("A").entries == before and again.thresholds == {"ball": 0.3} and again.session_id == "1"
    assert [line["run"] for line in again.overview() if line["done"]] == ["A"]
    again.close()
    (tmp_path / "out" / "curation.json").write_text("[]")
    with pytest.raises(ReadError, match="no record of a curation"):
        copick_desk(tmp_path)


def test_a_folder_becomes_a_project_to_train_on(tmp_path):
    place = small.folder(tmp_path / "tomograms")
    options = ReportOptions(thresholds={"ball": 0.5})
    desk, finder = begin(str(place), open_project(place), {}, options, None, "me", None, tmp_path / "out")
    assert finder is None
    desk.act("A", {"op": "set", "ids": [0], "state": "rejected"})
    desk.act("A", {"op": "add", "object": "ball", "at": [100, 110, 120]})
    made = open_project(tmp_path / "out")
    assert [(o.name, o.radius) for o in made.objects] == [(o.name, o.radius) for o in open_project(place).objects]
    assert made.runs() == ["A"] and made.tomogram("A").values.shape == (24, 64, 48)
    n = len(open_project(place).picks("A"))
    assert len(made.picks("A")) == n  # one fewer, one more
    with (tmp_path / "out" / "A.negatives.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
    with (tmp_path / "out" / "provenance" / "A.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["state"], rows[0]["by"], rows[0]["origin"]) == ("rejected", "me", "model")
    assert (rows[-1]["origin"], rows[-1]["state"], rows[-1]["x"]) == ("added", "accepted", "120.000")


def test_a_curation_begins_in_no_folder_that_has_others_picks(tmp_path):
    place = small.folder(tmp_path / "tomograms")
    project = open_project(place)
    picks, other = tmp_path / "picks", tmp_path / "other"
    for folder, name in ((picks, "A.csv"), (other, "A.negatives.csv")):
        folder.mkdir()
        (folder / name).write_bytes((place / "A.csv").read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.csv")}

    def started(out):
        return begin(str(picks), project, {}, ReportOptions(thresholds={"ball": 0.5}), None, "me", None, out)[0]

    for out, why in (
        (picks, "is the folder of the picks"),
        (place, "is the folder of the tomograms"),
        (other, "has a A.negatives.csv that is no curation's"),
    ):
        with pytest.raises(OutputError, match=f"`out={out}`: {why}.*name a new one"):
            started(out)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.csv")} == before
    assert not list(tmp_path.rglob("curation.json")) and not list(tmp_path.rglob(".curating"))
    desk = started(tmp_path / "out")
    desk.act("A", {"op": "set", "ids": [0], "state": "rejected"})
    desk.close()
    assert started(tmp_path / "out").journal("A").undoable == 1  # its own tables are no others'


def test_rotations_and_distances_stay_with_a_pick_that_was_not_moved(tmp_path):
    project = open_project(small.folder(tmp_path / "in", ("A",), picks=False))
    turns = turned_to(np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, -1], [0, 0.6, 0.8]]))
    at = 100.0 * np.arange(4)[:, None] * [0.2, 1, 0.5] + 50
    away = {"distance_gold": np.array([10.0, -20, np.nan, 40]), "threshold": np.full(4, 0.5)}
    found = Picks("A", at, np.array(["ball"] * 4), np.array([0.9, 0.8, 0.7, 0.2]), turns, away)
    desk = Desk(sitting_of(project, {"A": found}), tmp_path / "out")
    desk.act("A", {"op": "set", "ids": [0], "state": "accepted"})
    desk.act("A", {"op": "move", "id": 1, "to": (at[1] + 15).tolist()})
    desk.act("A", {"op": "set", "ids": [2], "state": "rejected"})
    desk.act("A", {"op": "object", "ids": [3], "object": "ring"})  # below its threshold, but a person says so
    desk.act("A", {"op": "add", "object": "ball", "at": [200, 30, 30]})
    kept = read_picks_csv(tmp_path / "out" / "A.csv")[""]
    assert kept.names.tolist() == ["ball", "ball", "ring", "ball"] and [*kept.columns] == ["distance_gold"]
    np.testing.assert_allclose(kept.columns["distance_gold"], [10, np.nan, 40, np.nan])
    np.testing.assert_allclose(kept.rotations, [turns[0], np.eye(3), turns[3], np.eye(3)], atol=1e-6)
    negatives = read_picks_csv(tmp_path / "out" / "A.negatives.csv")[""]
    np.testing.assert_allclose(negatives.rotations, turns[2:], atol=1e-6)
    desk.act("A", {"op": "undo"})
    desk.act("A", {"op": "set", "ids": [1], "state": None})  # moved is moved
    desk.close()
    # And from one curation to the next, whose own picks are not turned.
    entries = decided_in(tmp_path / "out")
    new = Picks("A", np.array([[60.0, 30, 300]]), np.array(["ball"]), np.array([0.9]))
    again = Desk(sitting_of(project, {"A": new}, decided=entries), tmp_path / "two")
    kept = read_picks_csv(tmp_path / "two" / "A.csv")[""]
    assert kept.names.tolist() == ["ball", "ring", "ball"]
    np.testing.assert_allclose(kept.rotations, [turns[0], turns[3], np.eye(3)], atol=1e-6)
    np.testing.assert_allclose(kept.columns["distance_gold"], [10, 40, np.nan])
    again.close()


def test_what_was_decided_need_not_be_said_again(tmp_path):
    project = open_project(small.folder(tmp_path / "in", ("A", "B"), picks=False))
    at = 100.0 * np.arange(6)[:, None] * [0.2, 1, 0.5] + 50
    first = Picks("A", at, np.array(["ball"] * 5 + ["ring"]), np.linspace(0.9, 0.4, 6))
    desk = Desk(sitting_of(project, {"A": first}, user_id="ann"), tmp_path / "one")
    desk.act("A", {"op": "set", "ids": [0], "state": "accepted"})
    desk.act("A", {"op": "set", "ids": [1], "state": "rejected"})
    desk.act("A", {"op": "set", "ids": [2], "state": "unsure"})
    desk.act("A", {"op": "move", "id": 3, "to": (at[3] + 15).tolist()})
    desk.act("A", {"op": "object", "ids": [4], "object": "ring"})
    desk.act("A", {"op": "add", "object": "ball", "at": [200, 30, 30]})
    desk.act("A", {"op": "add", "object": "ball", "at": [210, 90, 30]})
    desk.act("A", {"op": "delete", "ids": [7]})  # added by mistake: nothing is left of it
    before = {state: desk.journal("A").picks(state, CUTS) for state in ("accepted", "rejected", "unsure")}
    told = {e.when for e in desk.journal("A").entries if e.when}
    desk.close()
    # A later model finds the same places, a little aside, in another order, and two more.
    shift = np.concatenate([at[::-1] + 6, [[150, 300, 300], [60, 30, 300]]])
    found = Picks("A", shift, np.array(["ring"] + ["ball"] * 7), np.array([0.8] * 6 + [0.7, 0.2]))
    entries = decided_in(tmp_path / "one")
    assert list(entries) == ["A"]
    assert undecided(found, entries["A"], (small.BALL, small.RING)).tolist() == [True] + [False] * 5 + [True, True]
    again = Desk(
        sitting_of(project, {"A": found, "B": Picks.empty("B")}, user_id="bob", decided=entries), tmp_path / "two"
    )
    try:
        j = again.journal("A")
        assert [e.name for e in j.entries if e.state is None] == ["ring", "ball", "ball"]  # nobody looked at
        for state in ("rejected", "unsure"):
            np.testing.assert_allclose(j.picks(state, CUTS).positions, before[state].positions, atol=1e-3)
        said = np.array([e.position for e in j.entries if e.state == "accepted"])
        np.testing.assert_allclose(said, [at[0], at[3] + 15, at[4], [200, 30, 30]], atol=1e-3)
        assert {e.by for e in j.entries if e.state} == {"ann"} and {e.when for e in j.entries if e.when} <= told
        assert (tmp_path / "two" / "A.csv").is_file() and (tmp_path / "two" / "A.negatives.csv").is_file()
        line = next(line for line in again.overview() if line["run"] == "A")
        assert line["decided"] == 6
    finally:
        again.close()
    third = decided_in(tmp_path / "two")  # and so on, from folder to folder
    assert [(e.name, e.state, e.found_as) for e in third["A"]] == [(e.name, e.state, e.found_as) for e in entries["A"]]
    with pytest.raises(SelectionError, match="no folder of a curation"):
        decided_in(tmp_path / "in")


def test_decisions_about_an_object_that_the_new_picks_do_not_know_are_kept(tmp_path):
    """With the radius that the earlier folder knows; where nothing does, they are counted and it is said how."""
    place = small.folder(tmp_path / "in", ("A",), picks=False)
    project = open_project(place)
    at = 100.0 * np.arange(3)[:, None] * [0.2, 1, 0.5] + 50
    first = Picks("A", at, np.array(["ball", "ring", "ball"]), np.array([0.9, 0.8, 0.7]))
    desk = Desk(sitting_of(project, {"A": first}, user_id="ann"), tmp_path / "one")
    desk.act("A", {"op": "set", "ids": [0, 1], "state": "accepted"})
    desk.act("A", {"op": "object", "ids": [2], "object": "ring"})
    desk.act("A", {"op": "add", "object": "ring", "at": [200, 30, 30]})
    desk.close()
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "A.csv").write_text("object,x,y,z,score\nball,300,150,60,0.5\n")
    write_objects(tmp_path / "next" / "objects.json", [small.BALL])
    call = (str(tmp_path / "next"), project, {}, ReportOptions(), None, "bob", None)
    for out, more in (("two", (tmp_path / "one",)), ("two", ()), ("three", (tmp_path / "two",))):
        again, _ = begin(*call, tmp_path / out, *more)  # the second time as one goes on
        said = sorted((e.name, e.found_as or "") for e in again.journal("A").entries if e.state == "accepted")
        again.close()
        assert said == [("ball", ""), ("ring", ""), ("ring", ""), ("ring", "ball")]
        assert {o.name: o.radius for o in open_project(tmp_path / out).objects} == {
            "ball": 40.0,
            "ring": small.RING.radius,
        }
    record = json.loads((tmp_path / "one" / RECORD).read_text())
    (tmp_path / "one" / RECORD).write_text(json.dumps({k: v for k, v in record.items() if k != "radii"}))
    (tmp_path / "one" / "objects.json").unlink()  # as a curation of before
    for options, how in (
        (ReportOptions(), "give its radius with `objects=ring:RADIUS` to keep them"),
        (ReportOptions(only=["ball"]), "leave `only` out, or name it there, to keep them"),
    ):
        with heard() as told:
            desk, _ = begin(*call[:3], options, *call[4:], tmp_path / f"four-{len(how)}", tmp_path / "one")
        assert f"warning: 3 decisions about ring left out, which is no object here; {how}" in told
        assert [e.name for e in desk.journal("A").entries if e.state] == ["ball"]
        desk.close()


def test_doubt_comes_first(tmp_path):
    small.copick(tmp_path)
    desk = copick_desk(tmp_path)
    sure = {
        **desk.sitting.picks,
        "B": replace(desk.sitting.picks["B"], scores=np.full(len(desk.sitting.picks["B"]), 1.0)),
    }
    desk.close()
    desk = Desk(replace(desk.sitting, picks=sure), tmp_path / "other")
    assert [(line["run"], line["doubt"] > 0) for line in desk.overview()] == [("A", True), ("B", False)]


# ----------------------------------------------------------------------------------------------------------- the server
class Running:
    """A curation that is served from a thread of its own."""

    def __init__(self, desk, **more):
        self.curation, ready = Curation(desk, **more), threading.Event()
        self.loop = asyncio.new_event_loop()

        def run():
            asyncio.set_event_loop(self.loop)
            self.task = self.loop.create_task(serve(self.curation, bound(0), lambda url: ready.set()))
            try:
                self.loop.run_until_complete(self.task)
            except asyncio.CancelledError:
                self.loop.run_until_complete(self.loop.shutdown_default_executor())
                self.loop.close()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert ready.wait(20)

    def stop(self):
        self.loop.call_soon_threadsafe(self.task.cancel)
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def running(tmp_path):
    small.copick(tmp_path, objects=(small.BALL, small.RING))
    project = open_project(tmp_path / "copick.json")
    truth = {run: project.picks(run, "*:curator/0") for run in project.runs()}
    picks = {run: replace(t, scores=np.linspace(0.95, 0.05, len(t))) for run, t in truth.items()}
    sitting = Sitting(project, picks, truth, project.objects, CUTS, "denoised", "me")
    served = Running(Desk(sitting, tmp_path / "out"), token="r1ght-t0ken")
    yield served, tmp_path
    served.stop()


def asked(served, path, headers=(), body=None, host=None):
    import http.client

    port = served.curation.port
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    method = "GET" if body is None else "POST"
    line.request(method, path, body, {"Host": host or f"127.0.0.1:{port}", **dict(headers)})
    answer = line.getresponse()
    data = answer.read()
    line.close()
    return answer.status, data, answer.headers


RIGHT = {"X-Token": "r1ght-t0ken"}


def test_who_is_refused(running):
    served, _ = running
    assert asked(served, "/api/runs", RIGHT)[0] == 200
    assert asked(served, "/api/runs")[0] == 403
    assert asked(served, "/api/runs?token=r1ght-t0ken")[0] == 403  # a link elsewhere could carry it
    assert asked(served, "/api/runs", {"X-Token": "wrong"})[0] == 403
    assert asked(served, "/api/runs", {**RIGHT, "Origin": "http://evil.example"})[0] == 403
    assert asked(served, "/api/runs", RIGHT, host="evil.example")[0] == 403
    assert asked(served, "/")[0] == 403
    status, data, headers = asked(served, "/?token=r1ght-t0ken")
    assert status == 200 and b"tomopick curate" in data and b"r1ght-t0ken" not in data
    assert "connect-src 'self'" in headers["Content-Security-Policy"] and headers["Referrer-Policy"] == "no-referrer"


def test_requests_that_make_no_sense_are_answered(running, caplog):
    served, _ = running
    for path in (
        "/api/run?run=nothing", "/api/run", "/api/plane?run=A&axis=x&index=0", "/api/plane?run=A&axis=7&index=0",
        "/api/plane?run=A&axis=-1&index=0", "/api/plane?run=A&axis=0&index=0&low=nan", "/api/crops?run=A&ids=99999",
        "/api/crops?run=A&ids=-1", "/api/crops?run=A&ids=0,x",
    ):  # fmt: skip
        status, data, _ = asked(served, path, RIGHT)
        assert status == 400 and json.loads(data)["error"] and len(data.splitlines()) == 1, path
    for body in ("[]", "{", '{"run": "A"}', "[" * 50_000, '{"run": "A", "event": {"op": "no"}}',
                 '{"run": "A", "event": 3}', '{"run": "A", "event": [[[], 1]]}',
                 '{"run": "A", "event": {"op": "set", "ids": [0, true], "state": "rejected"}}',
                 '{"run": "A", "event": {"op": "set", "ids": [-1], "state": "rejected"}}'):  # fmt: skip
        status, data, _ = asked(served, "/api/act", RIGHT, body)
        assert status == 400 and b"error" in data
    for at, thing in (("[9, 9, 9]", 99), ("[9, 9, 9]", -1), ("[9, 9, 9]", "true"), ("[NaN, 9, 9]", 0), ("[9]", 0),
                      ("9", 0), ("[9, 9, 1e9]", 0)):  # fmt: skip
        status, data, _ = asked(served, "/api/snap", RIGHT, f'{{"run": "A", "at": {at}, "object": {thing}}}')
        assert status == 400 and b"error" in data, (at, thing)
    assert asked(served, "/api/runs", {"X-Token": b"\xff\xfe"})[0] == 403
    assert asked(served, "/api/act", {**RIGHT, "Content-Type": "text/plain; charset=none-such"}, "{}")[0] == 400
    assert asked(served, "/api/thresholds", RIGHT, '{"thresholds": {"ball": 7}}')[0] == 400
    assert asked(served, "/api/runs", RIGHT)[0] == 200
    assert not [line for line in caplog.records if line.exc_info]  # no traceback in the terminal


def test_no_particle_is_put_outside_of_the_tomogram(running):
    served, _ = running
    desk = served.curation.desk
    n, first = len(desk.journal("A").entries), desk.journal("A").entries[0]
    for event in (
        {"op": "add", "object": "ball", "at": [1e9, 5, 5]},
        {"op": "add", "object": "ball", "at": [5, 5, -5.1]},
        {"op": "move", "id": 0, "to": [235.1, 5, 5]},
        {"op": "move", "id": 0},
    ):
        status, data, _ = asked(served, "/api/act", RIGHT, json.dumps({"run": "A", "event": event}))
        assert status == 400 and (b"run A: a position that is" in data or b"outside of the tomogram" in data)
    assert desk.journal("A").entries[0] == first and len(desk.journal("A").entries) == n
    edge = {"run": "A", "event": {"op": "add", "object": "ball", "at": [234.9, 5, -4.9]}}  # 24 voxels of 10 Å
    assert asked(served, "/api/act", RIGHT, json.dumps(edge))[0] == 200


def test_a_port_that_cannot_be_had_is_said_before_anything_is_made(tmp_path):
    place = small.folder(tmp_path / "tomograms")
    with bound(0) as other:
        for port, said in ((other.getsockname()[1], "the page cannot be served there"), (99999, "0<=x<=65535")):
            call = ["curate", place, place, "--out", tmp_path / "out", "--port", port, "--no-browser"]
            done = CliRunner().invoke(main, [str(a) for a in call])
            assert done.exit_code == 2 and said in done.stderr and not (tmp_path / "out").exists()
            call = ["curate", place / "A.csv", place, "--out", tmp_path / "out", "--port", port, "--no-browser"]
            done = CliRunner().invoke(main, [str(a) for a in call])
            assert done.exit_code == 2 and said in done.stderr and not (tmp_path / "out").exists()
        with pytest.raises(
            OutputError, match=r"`port=\d+`: the page cannot be served there \(.*in use.*\); name another"
        ):
            bound(other.getsockname()[1])


def test_scores_follow_decisions(running):
    served, _ = running
    body = json.dumps({"thresholds": {"ball": 0.0, "ring": 0.0}})
    scores = json.loads(asked(served, "/api/scores", RIGHT, body)[1])
    assert scores["ball"] == {"precision": 1, "recall": 1, "f1": 1}
    act = {"run": "A", "event": {"op": "set", "ids": [0], "state": "rejected"}}
    assert asked(served, "/api/act", RIGHT, json.dumps(act))[0] == 200
    scores = json.loads(asked(served, "/api/scores", RIGHT, body)[1])
    assert scores["ball"]["precision"] == 1 and scores["ball"]["recall"] < 1 and scores["ring"]["recall"] == 1


def test_the_page_asks_nothing_of_others():
    text = curation_page()
    assert "{{" not in text.split("<script>")[0] and "http" not in text.replace("http-equiv", "").replace(
        "http://www.w3", ""
    )


# ---------------------------------------------------------------------------------------------------------- a browser
def test_a_person_curates(running, browser):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    served, place = running

    def saved():
        until(browser, "document.getElementById('saved').textContent === 'all saved'")

    def picks(query):
        return open_project(place / "copick.json").picks(run, query)

    browser.get(served.curation.url)
    until(browser, "document.getElementById('gallery').dataset.ready")
    assert "token" not in browser.current_url
    run = browser.execute_script("return document.body.dataset.run")
    journal = served.curation.desk.journal(run)
    # Click a crop, reject it with a key: the next is chosen; undo, redo.
    browser.find_element(By.CSS_SELECTOR, ".crop").click()
    first = browser.execute_script("return S.chosen[0]")
    ActionChains(browser).send_keys("x").perform()
    saved()
    assert journal.entries[first].state == "rejected" and len(picks("*:me/1-rejected")) == 1
    assert browser.execute_script("return S.chosen[0]") != first
    ActionChains(browser).send_keys("z").perform()
    until(browser, f"S.picks.state[{first}] === null")
    assert journal.entries[first].state is None
    browser.find_element(By.ID, "redo").click()
    until(browser, f"S.picks.state[{first}] === 'rejected'")
    # Drag over several and accept them.
    crops = browser.find_elements(By.CSS_SELECTOR, ".crop")
    ActionChains(browser).move_to_element(crops[1]).click_and_hold().move_to_element(crops[2]).move_to_element(
        crops[3]
    ).release().perform()
    chosen = browser.execute_script("return S.chosen")
    assert len(chosen) == 3
    ActionChains(browser).send_keys("a").perform()
    until(browser, f"S.picks.state[{chosen[2]}] === 'accepted'")
    assert [journal.entries[i].state for i in chosen] == ["accepted"] * 3
    # The same are another object.
    ActionChains(browser).send_keys("2").perform()
    until(browser, f"S.picks.object[{chosen[0]}] === 1")
    assert {journal.entries[i].name for i in chosen} == {"ring"}
    # A slider keeps fewer; saved, it holds for what nobody decided.
    browser.execute_script(
        "const s = document.querySelector('#objects [data-object=\"0\"] input'); s.value = 0.9;"
        "s.dispatchEvent(new Event('input')); s.dispatchEvent(new Event('change'))"
    )
    browser.find_element(By.ID, "keep").click()
    until(
        browser,
        "document.getElementById('keep').disabled && document.getElementById('saved').textContent === 'all saved'",
    )
    assert served.curation.desk.thresholds["ball"] == 0.9
    until(browser, "document.querySelector('.scored').textContent.startsWith('P ')")
    # Add by clicking into the section along z; move it by dragging.
    n = len(journal.entries)
    browser.execute_script("document.getElementById('snap').value = 'none'")
    canvas = browser.find_element(By.ID, "sections")
    ActionChains(browser).move_to_element(canvas).send_keys("+").perform()
    ActionChains(browser).move_to_element_with_offset(canvas, -150, -60).click().perform()
    until(browser, f"S.picks.z.length === {n + 1}")
    saved()
    ActionChains(browser).send_keys("+").perform()
    before = journal.entries[n].position
    ActionChains(browser).move_to_element_with_offset(canvas, -150, -60).click_and_hold().move_by_offset(
        30, 12
    ).release().perform()
    until(browser, f"S.picks.x[{n}] !== {before[2]} && document.getElementById('saved').textContent === 'all saved'")
    zoom = browser.execute_script("return S.zoom")
    moved = np.array(journal.entries[n].position) - before
    np.testing.assert_allclose(moved, [0, 12 / zoom, 30 / zoom], atol=1.5 / zoom)
    # The wheel goes through z; done is ticked in the list.
    at = browser.execute_script("return S.at[0]")
    ActionChains(browser).scroll_from_origin(_origin(canvas), 0, 120).perform()
    until(browser, f"S.at[0] !== {at}")
    ActionChains(browser).send_keys(Keys.ESCAPE).send_keys("d").perform()
    until(browser, "[...document.querySelectorAll('#runs .tick')].some(e => e.textContent === '✓')")
    assert journal.done
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def _origin(element):
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    return ScrollOrigin.from_element(element, -100, -100)


def test_names_do_no_harm(tmp_path, browser):
    name = "a<img src=x onerror=document.title='hit'>'\""
    place = tmp_path / "tomograms"
    place.mkdir()
    t, truth = small.tomogram("A")
    run = "R<b>&'"
    write_mrc(place / f"{run}.mrc", t.values, 10.0)
    thing = replace(small.BALL, name=name)
    picks = {run: Picks(run, truth.positions, np.full(len(truth), name), truth.scores)}
    sitting = Sitting(open_project(place, objects=["ball:40"]), picks, {}, (thing,), {name: 0.5})
    served = Running(Desk(sitting, tmp_path / "out"))
    try:
        browser.get(served.curation.url)
        until(browser, "document.getElementById('gallery').dataset.ready")
        assert browser.title == "tomopick curate" and name in browser.find_element("id", "objects").text
        assert run in browser.find_element("id", "runs").text
    finally:
        served.stop()


@pytest.mark.parametrize("width", [390, 830, 1000, 1180])
def test_a_narrow_page_does_not_scroll_sideways(running, browser, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(running[0].curation.url)
        until(browser, "document.getElementById('gallery').dataset.ready")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
