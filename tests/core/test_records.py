import errno
import json
import multiprocessing
import os

import pytest

from tomopick.core import records as module
from tomopick.core.errors import OutputError
from tomopick.core.records import ENDING, FAILED, PICKED, STARTED, Records


def files(place):
    return sorted(place.glob(f"*{ENDING}"))


def test_what_is_written_is_read_by_all(tmp_path):
    with Records(tmp_path / "new") as one, Records(tmp_path / "new") as two:
        assert one.last("A") == {} == one.failure("A") and not one.runs() and not (tmp_path / "new").exists()
        one.write("A", STARTED, {"place": "x"})
        assert two.last("A")["place"] == "x" and two.last("A")["status"] == STARTED
        two.write("A", FAILED, {"message": "no"})
        assert one.failure("A")["message"] == "no" and one.last("A")["status"] == STARTED
        two.write("A", PICKED, {"place": "y"})
        one.write('B "time": 9', PICKED, {})
        assert one.failure("A") == {} and one.last("A")["place"] == "y"
        assert len(files(tmp_path / "new")) == 2  # each its own
    with Records(tmp_path / "new") as three:
        three.write("C", STARTED, {})
        assert {run: r["status"] for run, r in three.runs().items()} == {
            "A": PICKED, 'B "time": 9': PICKED, "C": STARTED,
        }  # fmt: skip
    assert len(files(tmp_path / "new")) == 2  # the first has nobody any more


def test_a_line_that_was_cut_off(tmp_path):
    with Records(tmp_path) as one:
        one.write("A", PICKED, {})
        one.write("B", PICKED, {"counts": {"ball": 3}})
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    for cut in range(len(whole) - 2, whole.index(b"\n") + 1, -1):
        path.write_bytes(whole[:cut])
        with Records(tmp_path) as again:
            assert again.last("A")["status"] == PICKED and again.last("B") == {}
            again.write("C", STARTED, {})
            assert set(again.runs()) == {"A", "C"} == set(Records(tmp_path).runs())


def test_lines_of_others_are_no_records(tmp_path):
    (tmp_path / f"other{ENDING}").write_text(
        'null\n[]\n3\n{"step": 1}\n{"run": 1, "status": "picked", "time": 1}\n{"run": "A", "status": "x", "time": 1}\n'
        '{"run": "A", "status": "picked"}\n{"run": "A", "status": "picked", "time": 5}\n'
    )
    assert Records(tmp_path).runs() == {"A": {"run": "A", "status": PICKED, "time": 5}}


def test_the_later_record_counts_whatever_file_it_is_in(tmp_path):
    def line(status, time, **more):
        return json.dumps({"run": "A", "status": status, "time": time, **more}) + "\n"

    (tmp_path / f"a{ENDING}").write_text(line(PICKED, 20.0, n=1))
    (tmp_path / f"b{ENDING}").write_text(line(STARTED, 10.0) + line(PICKED, 15.0, n=2) + line(FAILED, 19.0))
    assert Records(tmp_path).last("A")["n"] == 1 and Records(tmp_path).failure("A") == {}
    with (tmp_path / f"b{ENDING}").open("a") as file:
        file.write(line(FAILED, 21.0))
    assert Records(tmp_path).last("A")["n"] == 1 and Records(tmp_path).failure("A")["time"] == 21


def _write(place, number):
    with Records(place) as records:
        for i in range(50):
            records.write(f"{number}-{i}", PICKED, {"number": number})


def test_processes_write_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(tmp_path, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = Records(tmp_path).runs()
    assert len(found) == 150 and all(run.startswith(f"{r['number']}-") for run, r in found.items())
    assert 1 <= len(files(tmp_path)) <= 3


def test_a_full_disk(tmp_path, monkeypatch):
    with Records(tmp_path) as one:
        one.write("A", PICKED, {})
        write = os.write
        monkeypatch.setattr(module.os, "write", lambda handle, data: write(handle, data[:20]))
        with pytest.raises(OutputError, match="records cannot be written \\(No space left on device\\); check space"):
            one.write("B", PICKED, {})
        monkeypatch.undo()
        one.write("C", PICKED, {})
        assert set(one.runs()) == {"A", "C"} == set(Records(tmp_path).runs())


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.ENOSYS])
def test_without_locks_the_process_has_a_file_of_its_own(tmp_path, monkeypatch, reason):
    def refuse(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    for run in "AB":
        with Records(tmp_path) as one:
            one.write(run, PICKED, {})
    assert set(Records(tmp_path).runs()) == {"A", "B"}
    assert any(f"process{os.getpid()}" in path.name for path in files(tmp_path)) and len(files(tmp_path)) == 2
