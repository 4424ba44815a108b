import json

import pytest

from tomopick.core.errors import ReadError
from tomopick.core.records import ENDING, FAILED, PICKED, RUNS, STARTED, Records, expect, expected
from tomopick.picking.standing import LOST_AFTER, reasons, records_at, standing


def written(place, *entries, name="one"):
    lines = [json.dumps({"run": run, "status": status, "time": time, **more}) for run, status, time, more in entries]
    (place / f"{name}{ENDING}").write_text("\n".join(lines) + "\n")
    return Records(place)


def test_each_run_is_one_thing(tmp_path):
    now = 10_000.0
    records = written(
        tmp_path,
        ("A", STARTED, 100.0, {}), ("A", PICKED, 110.0, {"seconds": 10.0}),
        ("B", STARTED, 9_900.0, {}), ("C", STARTED, now - LOST_AFTER - 1, {}),
        ("D", STARTED, 9_000.0, {}), ("D", FAILED, 9_010.0, {"message": "why"}),
        ("E", FAILED, 9_010.0, {"message": "why"}), ("E", STARTED, 9_800.0, {}),
    )  # fmt: skip
    expect(tmp_path, ["F", "A", "G"])
    state = standing(records, now)
    assert state.picked == ("A",) and state.failed == {"D": "why"} and state.missing == ("F", "G")
    assert set(state.running) == {"B", "E"} and state.silent == {"C": now - LOST_AFTER - 1}
    assert (state.total, state.left, state.is_whole) == (7, 5, False)
    assert state.per_hour == 0 and state.seconds_left is None  # the only one was long ago
    expect(tmp_path, ["H"])
    assert standing(records, now).missing == ("F", "G", "H")


def test_runs_that_take_long_are_waited_for(tmp_path):
    slow = ("A", PICKED, 9_000.0, {"seconds": 1000.0}), ("B", STARTED, 6_000.0, {})
    assert set(standing(written(tmp_path, *slow), 10_000.0).running) == {"B"}


def test_rate_and_time_left(tmp_path):
    records = written(tmp_path, *((f"{i:04d}", PICKED, 1000.0 + 2 * i, {"seconds": 8.0}) for i in range(300)))
    expect(tmp_path, [f"{i:04d}" for i in range(400)])
    state = standing(records, 1600.0)
    assert state.per_hour == pytest.approx(1800, rel=0.02) and state.seconds_left == pytest.approx(200, rel=0.02)
    assert standing(records, 1600.0 + 2 * LOST_AFTER).per_hour == 0


def test_reasons_are_grouped():
    failed = {f"TS_{i}": f"run TS_{i}: {i} voxels are not finite" for i in range(1, 9)} | {
        "X": "run X: the disk is full"
    }
    assert reasons(failed) == [
        ("run TS_1: 1 voxels are not finite", 8, "TS_1"),
        ("run X: the disk is full", 1, "X"),
    ]


def test_where_records_are(tmp_path):
    with pytest.raises(ReadError, match="nothing was picked there"):
        records_at(tmp_path)
    (tmp_path / "records").mkdir()
    expect(tmp_path / "records", ["A"])
    assert records_at(tmp_path) == tmp_path / "records" == records_at(tmp_path / "records")


def test_records_that_are_damaged_are_none(tmp_path):
    good = '{"run": "A", "status": "picked", "time": 5.0, "seconds": "long"}'
    bad = ['{"run": "B", "status": "picked", "time": 5.0, "x": }', '{"run": "C", "status": 3, "time": 5}', '"D"',
           '{"run": "E", "status": "picked", "time": 1e308}', '{"run": "F", "status": "picked", "time": NaN}',
           '{"run": "G", "time": 5}', '{"run": ["H"], "status": "picked", "time": 5}', "[" * 10**5,
           '{"run": "I", "status": "failed", "time": true}']  # fmt: skip
    (tmp_path / f"one{ENDING}").write_text("\n".join([*bad, good]) + "\n")
    assert list(Records(tmp_path).runs()) == ["A"]
    assert standing(Records(tmp_path), 10.0).picked == ("A",)


def test_a_list_of_runs_that_is_no_text(tmp_path):
    assert expected(tmp_path) == []
    (tmp_path / RUNS).write_bytes(b"A\xf2\n")
    with pytest.raises(ReadError, match=r"runs.txt: is no text .*expected a run's name a line"):
        standing(written(tmp_path, ("A", PICKED, 5.0, {})), 10.0)
