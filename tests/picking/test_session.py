"""The session that picks go to in a copick project: the next free one, chosen once for a folder of records."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

import small
import tomopick as tp
from tomopick.cli import main
from tomopick.core.errors import OutputError
from tomopick.core.types import Picks
from tomopick.data import open_project
from tomopick.picking.session import next_session, reserved_session, session_for


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def made(project, session, user="tomopick"):
    project.write_picks(Picks.empty("A"), user, session)


def test_the_next_free_number(tmp_path):
    project = open_project(small.copick(tmp_path / "in", ("A", "B")))
    assert next_session(project, "tomopick") == "1"  # 0 is for tools, and cannot be changed in copick's own viewer
    made(project, "0")
    made(project, "7")
    made(project, "mine")
    made(project, "40", "other")
    assert next_session(project, "tomopick") == "8"
    made(project, "9-rejected")
    assert next_session(project, "tomopick", ("-rejected",)) == "10"
    assert next_session(small.memory(), "tomopick") == "1"


def test_chosen_once_for_a_folder_and_said(tmp_path, told):
    project = open_project(small.copick(tmp_path / "in", ("A", "B")))
    made(project, "4")
    assert session_for(project, tmp_path / "a", "tomopick") == "5"
    assert any("picks go to tomopick/5" in line for line in told)
    made(project, "5")
    assert session_for(project, tmp_path / "a", "tomopick") == "5"
    assert session_for(project, tmp_path / "b", "tomopick") == "6"
    assert session_for(project, tmp_path / "b", "me") == "1"
    (tmp_path / "b" / "session.json").write_text("[]")
    with pytest.raises(OutputError, match=r"no session of ours.*`session_id`"):
        session_for(project, tmp_path / "b", "tomopick")
    assert session_for(small.memory(), tmp_path / "c", "tomopick") == "0" and not (tmp_path / "c").exists()


def test_many_at_once_choose_the_same(tmp_path):
    config = small.copick(tmp_path / "in", ("A",))
    projects = [open_project(config) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        chosen = list(pool.map(lambda p: session_for(p, tmp_path / "out", "tomopick"), projects))
    assert set(chosen) == {"1"}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["session.json"]


def test_pick_repeats_and_shards_go_to_one_session(tmp_path):
    config = small.copick(tmp_path / "in", ("A", "B"))
    call = ("pick", small.trained(), config, "--out", tmp_path / "out", "--device", "cpu")
    first = run(*call, "--shard", "1/2")
    assert first.exit_code == 0 and "picks go to tomopick/1" in first.stderr
    again = run(*call)
    assert again.exit_code == 0 and again.output.count("finished before") == 1
    project = open_project(config)
    assert all(project.has_picks(r, "tomopick", "1") for r in "AB") and not project.has_picks("A", "tomopick", "2")
    other = run(*call[:3], "--out", tmp_path / "two", "--device", "cpu")
    assert other.exit_code == 0 and open_project(config).has_picks("B", "tomopick", "2")
    # What records tell of a session counts too, as those do that an earlier version left.
    (tmp_path / "out" / "session.json").unlink()
    assert run(*call).output.count("finished before") == 2
    assert json.loads((tmp_path / "two" / "session.json").read_text())["session_id"] == "2"


def test_from_python(tmp_path):
    project = open_project(small.copick(tmp_path / "in", ("A",)))
    list(tp.pick(small.trained(), project, tmp_path / "out", device="cpu"))
    assert project.has_picks("A", "tomopick", "1")
    list(tp.pick(small.trained(), project, tmp_path / "own", device="cpu", session_id="x"))
    assert project.has_picks("A", "tomopick", "x")


def test_a_session_is_on_the_disk_before_it_is_seen(tmp_path, monkeypatch):
    flushed, link = [], os.link
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))

    def linked(part, path):
        assert os.stat(part).st_ino in flushed and os.stat(part).st_size
        link(part, path)

    monkeypatch.setattr(os, "link", linked)
    project = open_project(small.copick(tmp_path / "in", ("A",)))
    assert session_for(project, tmp_path / "out", "me") == "1" and flushed


def test_two_folders_at_once_get_two_sessions_and_one_folder_keeps_its_own(tmp_path):
    config = small.copick(tmp_path / "in", ("A",))
    projects = [open_project(config) for _ in range(8)]
    outs = [tmp_path / f"out{i}" for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        chosen = list(pool.map(lambda p, out: session_for(p, out, "tomopick"), projects, outs))
    assert sorted(chosen) == [str(n) for n in range(1, 9)]  # none has a pick yet
    kept = next((tmp_path / "in").rglob(".tomopick")) / "sessions"
    assert sorted(os.listdir(kept)) == [f"tomopick_{n}" for n in range(1, 9)]
    (outs[0] / "session.json").unlink()  # killed before it could write that down
    assert session_for(open_project(config), outs[0], "tomopick") == chosen[0]
    assert session_for(open_project(config), outs[0], "me") == "1"  # numbers are each user's
    made(open_project(config), chosen[0])
    (outs[0] / "session.json").unlink()
    assert session_for(open_project(config), outs[0], "tomopick") == "9"  # what has picks is not begun anew
    assert open_project(config).runs() == ["A"]


def test_a_project_that_takes_no_file_is_asked_for_the_next_number(tmp_path):
    project = open_project(small.copick(tmp_path / "in", ("A",)))
    made(project, "3")
    (project.overlay / ".tomopick").write_text("a file where the folder would be")
    assert reserved_session(project, tmp_path / "out", "tomopick") == ("4", False)
    assert session_for(project, tmp_path / "out", "tomopick") == "4"
