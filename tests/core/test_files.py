"""Whole or not at all: what is on disk before a name appears, and what killed processes leave."""

import os
import resource
import subprocess
import sys
import time

import pytest

from tomopick.core import files
from tomopick.core.errors import OutputError
from tomopick.core.files import atomic_folder, atomic_write, is_vacant, require_new, sweep, write_together
from tomopick.core.owners import Owner, began, host

WRITERS = {
    "write": lambda place: _write(place / "a"),
    "together": lambda place: write_together({place / "a": "1", place / "b": b"2"}),
    "folder": lambda place: _folder(place / "a"),
}


def _write(path):
    with atomic_write(path) as file:
        file.write("1")


def _folder(path):
    with atomic_folder(path) as part:
        (part / "one").write_text("1")
        (part / "deep").mkdir()
        (part / "deep" / "two").write_text("2")


def _identity(status):
    return status.st_dev, status.st_ino


@pytest.mark.parametrize("writer", WRITERS)
def test_everything_is_on_disk_before_it_is_seen(tmp_path, monkeypatch, writer):
    synced, seen = set(), []

    def fsync(handle):
        synced.add(_identity(os.fstat(handle)))

    def look(real):
        def renamed(source, target):
            inside = [os.path.join(place, name) for place, _, names in os.walk(source) for name in names]
            for path in inside or [source]:
                assert _identity(os.stat(path)) in synced, f"{path} is not on disk yet"
            seen.append(target)
            real(source, target)

        return renamed

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, look(getattr(os, name)))
    WRITERS[writer](tmp_path)
    assert len(seen) == (2 if writer == "together" else 1)
    assert _identity(os.stat(tmp_path)) in synced  # the new name itself


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, writer):
    code = (
        "import os, signal, sys; sys.path[:0] = {path!r}; from tomopick.core import files\n"
        "from pathlib import Path\n"
        "place = Path({place!r})\n"
        "for name in ('x', 'y'):\n"
        "    files.hidden(place / name).write_text('half')\n"
        "part = files.hidden(place / 'z'); part.mkdir(); (part / 'inside').write_text('half')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code.format(path=sys.path, place=str(tmp_path))], check=False)
    assert len(list(tmp_path.iterdir())) == 3
    WRITERS[writer](tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_what_others_are_writing_stays(tmp_path):
    living = tmp_path / f".x.{host()}-{os.getppid()}-0123abcd.part"
    elsewhere = tmp_path / ".x.another-machine-77-0123abcd.part"
    unsigned, foreign = tmp_path / ".x.0123abcd.part", tmp_path / ".nfs0000.part"
    for path in (living, elsewhere, unsigned, foreign):
        path.write_text("half")
    mine = files.hidden(tmp_path / "y")
    mine.write_text("half")
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5
    for path in (elsewhere, unsigned, foreign):
        os.utime(path, (time.time() - 2e5,) * 2)
    sweep(tmp_path)
    assert elsewhere.exists()  # looked through once
    sweep(tmp_path, again=True)
    assert {p.name for p in tmp_path.iterdir()} == {living.name, foreign.name, mine.name}
    files.remove(mine)
    assert not mine.exists()


def test_a_process_number_given_again_is_not_its_owner():
    me = Owner()
    assert not me.is_gone(silent_for=1e9, patience=60)
    assert Owner(pid=me.pid, began="1").is_gone(0, 60) == bool(began(me.pid))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert Owner(pid=gone.pid).is_gone(0, 60)
    elsewhere = Owner(host="another-machine")
    assert elsewhere.is_gone(61, 60) and not elsewhere.is_gone(59, 60)
    assert str(os.getpid()) in str(me) and host() in str(me)


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert is_vacant(tmp_path / "none") and is_vacant(tmp_path / "empty")
    _folder(tmp_path / "empty")
    assert (tmp_path / "empty" / "deep" / "two").read_text() == "2"
    for name in ("full", "link", "empty"):
        with pytest.raises(OutputError, match="exists already"):
            require_new(tmp_path / name)


def test_more_files_than_may_be_open(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        write_together({tmp_path / f"{i}.txt": str(i) for i in range(150)})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (tmp_path / "149.txt").read_text() == "149" and len(list(tmp_path.iterdir())) == 150


def test_long_names_have_their_hidden_ones(tmp_path):
    path = tmp_path / ("é" * 120)
    _write(path)
    assert path.read_text() == "1"


def test_what_is_large_is_written_in_pieces(tmp_path):
    made = []

    def pieces():
        for i in range(3):
            made.append(i)
            yield f"{i}é"

    write_together({tmp_path / "a": pieces(), tmp_path / "b": "whole"})
    assert (tmp_path / "a").read_text(encoding="utf-8") == "0é1é2é" and made == [0, 1, 2]


def test_a_rest_of_ours_is_nothing(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".simulation.json.{host()}-999999999-0123abcd.part").write_text("{")
    assert is_vacant(tmp_path / "out") and not list((tmp_path / "out").iterdir())
