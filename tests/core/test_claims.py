"""One process at a time works in a folder."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from tomopick.core.claims import claimed
from tomopick.core.errors import OutputError
from tomopick.core.files import is_vacant
from tomopick.core.owners import CLAIM, SILENT, Owner

WAITS = """
import sys; sys.path[:0] = {path!r}
from tomopick.core.claims import claimed
with claimed({folder!r}):
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process, that has claimed the folder `a`."""
    code = WAITS.format(path=sys.path, folder=str(tmp_path / "a"))
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "claimed\n"
    yield process
    for pipe in (process.stdin, process.stdout):
        pipe.close()
    process.wait()


def sign(folder, owner, silent_for=0.0):
    folder.mkdir(exist_ok=True)
    (folder / CLAIM).write_text(json.dumps(asdict(owner)))
    os.utime(folder / CLAIM, (time.time() - silent_for,) * 2)


def test_a_claim_is_made_and_goes(tmp_path):
    folder = tmp_path / "a" / "b"
    with claimed(folder), claimed(folder):
        assert json.loads((folder / CLAIM).read_text())["pid"] == os.getpid()
        assert is_vacant(folder)  # but for the claim
    assert not (tmp_path / "a").exists()
    (tmp_path / "c").mkdir()
    with claimed(tmp_path / "c"):
        pass
    assert (tmp_path / "c").is_dir() and not any((tmp_path / "c").iterdir())
    with claimed(folder):
        (folder / "made").touch()
    assert [p.name for p in folder.iterdir()] == ["made"]


def test_another_process_is_refused_and_told_whose_it_is(tmp_path, other):
    message = f"a: exists already, and another process works in it \\(process {other.pid} on .*, since 20"
    with pytest.raises(OutputError, match=message), claimed(tmp_path / "a"):
        pass
    other.stdin.close()
    other.wait()
    with claimed(tmp_path / "a"):
        pass


def test_the_claim_of_a_killed_process_is_taken_over(tmp_path, other):
    other.kill()
    other.wait()
    assert (tmp_path / "a" / CLAIM).exists() and is_vacant(tmp_path / "a")
    with claimed(tmp_path / "a"):
        assert json.loads((tmp_path / "a" / CLAIM).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', '{"host": "a", "pid": "x", "began": "", "since": 0}'])
def test_a_claim_that_was_not_signed_is_nobodys(tmp_path, text):
    (tmp_path / CLAIM).write_text(text)
    with claimed(tmp_path):
        pass


def test_a_process_on_another_machine_gives_signs_of_life(tmp_path):
    elsewhere = replace(Owner(), host="another-machine")
    sign(tmp_path / "a", elsewhere, SILENT / 2)
    with pytest.raises(OutputError, match="on another-machine"), claimed(tmp_path / "a"):
        pass
    sign(tmp_path / "a", elsewhere, SILENT * 2)
    with claimed(tmp_path / "a"):
        pass


def test_signs_of_life_are_given(tmp_path, monkeypatch):
    monkeypatch.setattr("tomopick.core.claims.RENEWED", 0.01)
    with claimed(tmp_path / "a"):
        claim = tmp_path / "a" / CLAIM
        os.utime(claim, (0, 0))
        until = time.monotonic() + 20
        while claim.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert claim.stat().st_mtime > 0
    until = time.monotonic() + 20
    while any(t.name == "claim" for t in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(t.name == "claim" for t in threading.enumerate())


def test_of_many_that_come_at_once_one_gets_it(tmp_path):
    sign(tmp_path / "a", replace(Owner(), pid=2**22 - 3))  # of a process that is gone
    code = WAITS.format(path=sys.path, folder=str(tmp_path / "a"))
    several = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True) for _ in range(6)
    ]  # fmt: skip
    said = [process.stdout.readline() for process in several]
    for process in several:
        process.communicate()
    assert said.count("claimed\n") == 1


def test_a_place_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"), claimed(tmp_path / "file" / "a"):
        pass
