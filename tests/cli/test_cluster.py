"""Parts of a batch, and what starts and watches them."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from small import folder, trained
from tomopick import open_project
from tomopick.cli import main
from tomopick.cli.options import named_runs
from tomopick.cli.schedulers import seconds_of
from tomopick.core.errors import TomopickError
from tomopick.look.page.gather import ReportOptions, gather_report

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


def test_many_named_runs_are_looked_for_in_one_list():
    class Listing:
        uri, times = "p", 0

        def runs(self):
            self.times += 1
            return [f"R{i:05d}" for i in range(10_000)]

    project = Listing()
    names = project.runs()[::-1]
    assert named_runs([*names, "R00000"], project, [project]) == names and project.times <= 3
    with pytest.raises(TomopickError, match="no run 'R1'"):
        named_runs(["R1"], project, [project])


def test_parts_of_a_simulation(tmp_path):
    small = ["--runs", "2", "--shape", "48,64,64", "--tomo-type", "wbp", "microscope.tilt_step=15"]
    small += ["specimen.distractors=0"]
    run("simulate", tmp_path / "whole", *small)
    for i, line in (
        (2, "1 of 2 runs simulated, 1 missing"),
        (1, "2 of 2 runs simulated"),
        (2, "2 of 2 runs simulated"),
    ):
        run("simulate", tmp_path / "parts", *small, "--shard", f"{i}/2")
        assert run("status", tmp_path / "parts", code=int("missing" in line)).stdout == f"{line}\n"
    whole, parts = (open_project(tmp_path / name) for name in ("whole", "parts"))
    assert whole.runs() == parts.runs() == ["SIM_000", "SIM_001"]
    for name in whole.runs():
        np.testing.assert_allclose(parts.tomogram(name).values, whole.tomogram(name).values, atol=1e-4)
        assert np.array_equal(parts.picks(name).positions, whole.picks(name).positions)


def test_what_is_curated_may_be_picked_in_parts(tmp_path):
    source = folder(tmp_path / "in", "ABC", shape=(24, 48, 48), n=3)
    for i in (1, 2):
        pick(source, tmp_path / "out", "--keep-below", "--shard", f"{i}/2")
    project = open_project(source)
    at_once, parts = (
        gather_report(str(what), project, {}, ReportOptions(device="cpu", idle=True))
        for what in (trained(), tmp_path / "out")
    )
    assert parts.thresholds == pytest.approx(at_once.thresholds, abs=1e-5) and list(parts.picks) == list("ABC")
    for name, picks in at_once.picks.items():
        np.testing.assert_allclose(parts.picks[name].positions, picks.positions, atol=1e-2)
        np.testing.assert_allclose(parts.picks[name].scores, picks.scores, atol=1e-5)


def test_a_curation_is_prepared_in_parts(tmp_path, monkeypatch):
    source, out = folder(tmp_path / "in", "ABC", shape=(24, 48, 48), n=3), tmp_path / "curated"
    (source / "D.mrc").write_bytes(b"no volume")
    pick(source, tmp_path / "whole", "--keep-below", "--runs", "A,B,C")
    desks = []

    async def serve(curation, *_):
        desks.append(curation.desk)

    monkeypatch.setattr("tomopick.look.curation.server.serve", serve)
    curate = ["curate", trained(), source, "--out", out, "--device", "cpu", "--no-browser"]
    part = run(*curate, "--shard", "1/2")
    assert "part 1/2: 2 of 4 runs" in part.stderr and not desks
    assert sorted(tables(out / "prepared")) == ["A.csv", "C.csv"]
    assert "2 of 4 runs picked, 2 missing" in run("status", out / "prepared", code=1).stdout
    assert "no volume" not in run(*curate, "--shard", "2/2", code=1).stderr
    opened = run(*curate)
    assert opened.stdout.count("finished before") == 3 and "1 of 4 runs failed" in opened.stderr
    assert tables(out / "prepared") == tables(tmp_path / "whole")
    assert desks[0].runs() == list("ABC") and not list(out.glob("*.csv"))
    line = run("curate", tmp_path / "whole", source, "--out", tmp_path / "o", "--shard", "1/2", code=2).stderr
    assert "--shard shares out what a MODEL picks, and" in line and not (tmp_path / "o").exists()


# --- how far it is ----------------------------------------------------------------------------------------------------


def test_status(tmp_path, place):
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(place, source)
    for run_name in ("D", "E"):
        (source / f"{run_name}.mrc").write_bytes(b"no volume")
    assert "there is no such file or folder" in run("status", out, code=2).stderr
    assert "nothing was picked there" in run("status", source, code=2).stderr
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


# --- on a scheduler ---------------------------------------------------------------------------------------------------


def dry(*arguments, code=0):
    return run(*arguments, "--dry-run", code=code)


def test_what_would_be_submitted(tmp_path, place, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["pick", trained(), place, "--out", "out put", "--runs", "A,B,C", "--threshold", "ball=0.5"]
    on = "slurm:time=4:00:00,gpus=1,cpus=8,mem=32G,array=64,at_once=2,partition=gpu,after=17,more=--constraint=a100"
    text = dry(*asked, "--on", on).stdout
    lines = text.splitlines()
    options = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}
    assert options >= {
        "--array=1-3%2", "--time=4:00:00", "--gres=gpu:1", "--cpus-per-task=8", "--mem=32G", "--partition=gpu",
        "--requeue", "--signal=B:TERM@120", "--open-mode=append", "--dependency=afterok:17", "--constraint=a100",
    }  # fmt: skip
    (command,) = [line for line in lines if " -m tomopick " in line]
    given = shlex.split(command)
    assert given[:3] == [sys.executable, "-m", "tomopick"] and given[-1] == "&"
    listed = f"@{tmp_path / 'out put-jobs' / 'pick-1.runs.txt'}"
    assert given[3:-1] == [
        "pick", str(trained()), str(place), "--out", "out put", "--threshold", "ball=0.5", "--runs", listed,
        "--shard", "auto/3",
    ]  # fmt: skip
    assert f"cd {tmp_path} || exit 2" in lines and not list(tmp_path.iterdir())  # nothing is written
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("pbs", ["#PBS -J 1-4%2", "#PBS -l walltime=28:00:00", "#PBS -q q", "#PBS -W depend=afterok:17", "#PBS -r y"]),
        ("lsf", ['#BSUB -J "tomopick-simulate-1[1-4]%2"', "#BSUB -W 28:00", "#BSUB -q q", '#BSUB -w "done(17)"']),
        ("slurm", ["#SBATCH --array=1-4%2", "#SBATCH --time=1-4:00:00", "#SBATCH --dependency=afterok:17"]),
    ],
)
def test_every_scheduler_says_the_same(tmp_path, monkeypatch, name, lines):
    monkeypatch.chdir(tmp_path)
    on = f"{name}:array=4,at_once=2,time=1-4:00:00,partition=q,after=17"
    text = dry("simulate", "sim", "--runs", "9", "--on", on, "--seed=3").stdout
    assert set(lines) <= set(text.splitlines())
    assert "simulate sim --seed=3 --runs 9 --shard auto/4 &" in text
    assert ("timeout --preserve-status --signal=TERM 100680 " in text) == (name == "pbs")  # 2 minutes less than 28 h
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_a_training_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    text = dry("train", "bpd", "in", "mo del", "train.steps=3", "--on", "slurm").stdout
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("more=()"))
    for begun, more in ((False, []), (True, ["--resume"])):
        if begun:
            (tmp_path / "mo del").mkdir()
            (tmp_path / "mo del" / "recipe.json").touch()
        command = lines[start + 1].replace(f"{sys.executable} -m tomopick", "printf '%s\\n'").removesuffix(" &")
        shell = subprocess.run(["bash", "-c", f"{lines[start]}\n{command}"], capture_output=True, text=True, check=True)
        assert shell.stdout.splitlines() == ["train", "bpd", "in", "mo del", "train.steps=3", *more]


@pytest.mark.parametrize(
    ("on", "line"),
    [
        ("slrum", "no scheduler 'slrum'; did you mean 'slurm'?"),
        ("slurm:tiem=1", "'tiem=1' is no setting; did you mean 'time'"),
        ("slurm:array=0", "array=0 is no whole number from 1"),
        ("pbs:time=soon", "time=soon: expected [D-]H:MM:SS"),
    ],
)
def test_what_cannot_be_submitted(tmp_path, place, on, line):
    assert line in dry("pick", trained(), place, "--out", tmp_path / "out", "--on", on, code=2).stderr
    assert not (tmp_path / "out").exists()


def test_where_there_is_no_such_scheduler(tmp_path, place, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    line = run("pick", trained(), place, "--out", tmp_path / "out", "--on", "lsf:array=2", code=2).stderr
    script = tmp_path / "out-jobs" / "pick-1.sh"
    assert f"there is no 'bsub' here; submit on a machine that has it: {script}" in line
    assert script.with_name("pick-1.runs.txt").read_text().split() == list(RUNS) and "[1-2]" in script.read_text()
    assert "2 missing" not in run("status", tmp_path / "out", code=1).stdout  # the submitter has listed them
    assert run("status", tmp_path / "out", code=1).stdout.splitlines()[0] == "0 of 5 runs picked, 5 missing"
    assert "--dry-run shows what --on would submit" in dry("evaluate", "x", "y", code=2).stderr
    both = run("pick", trained(), place, "--out", tmp_path / "o", "--on", "lsf", "--shard", "1/2", code=2).stderr
    assert "--shard is what --on gives its tasks" in both


def test_durations():
    for text, seconds in {"4:00:00": 14400, "1-00:00:00": 86400, "90": 5400, "10:30": 630}.items():
        assert seconds_of(text) == seconds


def test_parts_of_an_evaluation(tmp_path):
    place = folder(tmp_path / "in", "ABC", shape=(24, 48, 48), n=3)
    pick(place, tmp_path / "out", "--threshold", "ball=0.1")
    whole = json.loads(run("evaluate", tmp_path / "out", place, "--json").stdout)
    parts = [json.loads(run("evaluate", tmp_path / "out", place, "--json", "--shard", f"{i}/2").stdout) for i in (1, 2)]
    named = [json.loads(run("evaluate", tmp_path / "out", place, "--json", "--runs", r).stdout) for r in ("A,C", "B")]
    assert parts == named and parts[0] != whole
