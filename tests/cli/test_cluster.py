"""Parts of a batch, and what starts and watches them."""

import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from small import folder, trained
from tomopick import open_project
from tomopick.cli import main

RUNS = tuple("ABCDE")


def run(*arguments, code=0, **environment):
    result = CliRunner().invoke(main, [str(a) for a in arguments], env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def pick(source, out, *more, **how):
    return run("pick", trained(), source, "--out", out, "--device", "cpu", *more, **how)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("runs") / "in", RUNS, picks=False, shape=(24, 32, 32), n=2)


def tables(out):
    return {path.name: path.read_bytes() for path in out.glob("*.csv")}


# --- parts ------------------------------------------------------------------------------------------------------------


def test_parts_make_the_whole(tmp_path, place):
    pick(place, tmp_path / "whole")
    parts = [pick(place, tmp_path / "parts", "--shard", f"{i}/3") for i in (3, 1, 2)]
    assert tables(tmp_path / "parts") == tables(tmp_path / "whole") and len(tables(tmp_path / "whole")) == 5
    assert [done.stdout.count(": ") for done in parts] == [1, 2, 2]
    assert "part 1/3: 2 of 5 runs" in parts[1].stderr
    again = pick(place, tmp_path / "parts")
    assert again.stdout.count("finished before") == 5


def test_a_part_may_be_empty_and_a_task_of_an_array_knows_its_own(tmp_path, place):
    done = pick(place, tmp_path / "out", "--shard", "7/9")
    assert done.stdout == "" and "part 7/9: 0 of 5 runs" in done.stderr
    array = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "5"}
    pick(place, tmp_path / "out", "--shard", "auto", **array, SLURM_ARRAY_TASK_COUNT="5")
    assert sorted(tables(tmp_path / "out")) == ["B.csv"]
    line = pick(place, tmp_path / "out", "--shard", "auto", code=2).stderr
    assert "error: --shard auto: this is no task of an array" in line


def test_runs_from_a_file(tmp_path, place):
    (tmp_path / "runs.txt").write_text("B\n\nD\n")
    pick(place, tmp_path / "out", "--runs", f"@{tmp_path / 'runs.txt'}")
    assert sorted(tables(tmp_path / "out")) == ["B.csv", "D.csv"]
    line = pick(place, tmp_path / "out", "--runs", f"@{tmp_path / 'none.txt'}", code=2).stderr
    assert "none.txt: cannot be read (No such file or directory); expected a run's name a line" in line


def test_parts_of_a_simulation(tmp_path):
    small = ["--runs", "2", "--shape", "48,64,64", "--tomo-type", "wbp", "microscope.tilt_step=15"]
    small += ["specimen.distractors=0"]
    run("simulate", tmp_path / "whole", *small)
    for i in (2, 1, 2):
        run("simulate", tmp_path / "parts", *small, "--shard", f"{i}/2")
    whole, parts = (open_project(tmp_path / name) for name in ("whole", "parts"))
    assert whole.runs() == parts.runs() == ["SIM_000", "SIM_001"]
    for name in whole.runs():
        np.testing.assert_allclose(parts.tomogram(name).values, whole.tomogram(name).values, atol=1e-4)
        assert np.array_equal(parts.picks(name).positions, whole.picks(name).positions)


# --- how far it is ----------------------------------------------------------------------------------------------------


def test_status(tmp_path, place):
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(place, source)
    for run_name in ("D", "E"):
        (source / f"{run_name}.mrc").write_bytes(b"no volume")
    assert "nothing was picked there" in run("status", out, code=2).stderr
    pick(source, out, "--shard", "1/2", code=1)  # A, C and E
    lines = run("status", out, code=1).stdout.splitlines()
    assert lines[0] == "2 of 5 runs picked, 1 failed, 2 missing"
    assert lines[1] == f"  1 failed: {source / 'E.mrc'}: not an MRC file; expected a tomogram in MRC or OME-Zarr"
    assert re.fullmatch(r"\d+ runs an hour, 1 min left", lines[2])
    pick(source, out, code=1)
    lines = run("status", out, code=1).stdout.splitlines()
    assert lines[0] == "3 of 5 runs picked, 2 failed"
    assert lines[1].startswith("  2 failed: ") and lines[1].endswith("(that is D; the others are alike)")
    assert run("status", out, "--failed", code=1).stdout == "D\nE\n"
    for run_name in ("D", "E"):
        shutil.copy(place / f"{run_name}.mrc", source)
    (tmp_path / "again.txt").write_text(run("status", out, "--failed", code=1).stdout)
    pick(source, out, "--runs", f"@{tmp_path / 'again.txt'}")
    done = run("status", out, "--watch")
    assert done.stdout.splitlines()[0] == "5 of 5 runs picked"
    assert run("status", out, "--failed").stdout == ""


# --- several processes ------------------------------------------------------------------------------------------------


def test_workers_pick_what_one_process_does(tmp_path, place):
    pick(place, tmp_path / "one")
    done = pick(place, tmp_path / "two", "--workers", "2")
    assert tables(tmp_path / "two") == tables(tmp_path / "one") and done.stdout.count(" in ") == 5
    assert pick(place, tmp_path / "two").stdout.count("finished before") == 5
    names = {path.name for path in (tmp_path / "two").rglob("*") if path.is_file()}
    kept = {"objects.json", "runs.txt", *tables(tmp_path / "one")}
    assert all(name.endswith(".records.jsonl") for name in names - kept)


def test_a_worker_that_cannot_begin_says_why(tmp_path, place):
    line = pick(place, tmp_path / "out", "--workers", "2", "--engine", "tensorrt", code=2).stderr
    assert line.count("error: ") == 1 and "tensorrt" in line
