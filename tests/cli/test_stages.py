"""Methods of several trainings on a scheduler, and scripts whose paths hold what a shell would obey."""

import os
import shlex
import subprocess
import sys

import pytest
from click.testing import CliRunner

from small import TINY, folder, trained
from tomopick.cli import main
from tomopick.cli.schedulers import Script, Submission
from tomopick.core.claims import claimed

SMALL = ["tiling.shape=32,32,32", "tiling.overlap=8", *TINY, "train.steps=2", "train.validate_every=2"]
ODD = 'it\'s 100% of $HOME; "two" (x) `id` & #1'


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Labelled runs, and simulated ones to train on first."""
    there = tmp_path_factory.mktemp("data")
    folder(there / "in", "ABCD", shape=(16, 64, 32), n=6)
    folder(there / "sim", "PQ", shape=(16, 64, 32), n=6)
    return there


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A scheduler that notes what it is given, and gives numbers; where its scripts and their order are."""
    programs = tmp_path / "programs"
    programs.mkdir()
    told = tmp_path / "told"
    program = programs / "sbatch"
    program.write_text(f'#!/bin/bash\nprintf "%s\\n" "$2" >> {told}\nwc -l < {told}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return lambda: told.read_text().splitlines() if told.exists() else []


def asked(places, out, *more):
    return ["train", "light", places / "in", out, "--seeds", "2", "--pretrain", places / "sim", "--val-runs", "D",
            "--device", "cpu", *SMALL, "--on", "slurm:time=1:00:00,gpus=1,at_once=4,after=17", *more]  # fmt: skip


def options_of(text):
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]


def command_of(text):
    (line,) = [line for line in text.splitlines() if " -m tomopick " in line]
    return shlex.split(line)[3:-1]


def test_a_plan_is_submitted_as_stages(tmp_path, places, sbatch, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run(*asked(places, "out"), "--dry-run").stdout
    assert shown.count("#!/bin/bash") == 4 and not sbatch() and not (tmp_path / "out").exists()
    assert "--dependency=afterok:NUMBER-OF-train-1-members:17" in shown
    lines = run(*asked(places, "out")).stdout.splitlines()
    names = [f"train-1-{stage}" for stage in ("pretraining", "members", "ensemble", "evaluation")]
    scripts = [tmp_path / "out-jobs" / f"{name}.sh" for name in names]
    assert sbatch() == list(map(str, scripts)) and (tmp_path / "out" / "plan.json").is_file()
    assert lines == [
        f"1: 1 task of pretraining on slurm; {scripts[0]}", f"2: 2 tasks of members on slurm; {scripts[1]}",
        f"3: 1 task of ensemble on slurm; {scripts[2]}", f"4: 1 task of evaluation on slurm; {scripts[3]}",
    ]  # fmt: skip
    texts = [script.read_text() for script in scripts]
    depends = [next(o for o in options_of(text) if o.startswith("--dep")) for text in texts]
    assert depends == [f"--dependency=afterok:{after}" for after in ("17", "1:17", "2:17", "3:17")]
    assert all(f"--job-name=tomopick-{name}" in options_of(text) for name, text in zip(names, texts))
    given = [str(a) for a in asked(places, "out")[:-2]]
    assert command_of(texts[0]) == [*given, "--shard", "1/3"] and "--array" not in texts[0]
    assert command_of(texts[1]) == [*given, "${more[@]}"] and "--array=1-2%4" in options_of(texts[1])
    assert command_of(texts[2]) == [*given, "--resume"]
    assert command_of(texts[3]) == ["evaluate", "out", str(places / "in"), "--runs", "D", "--device", "cpu"]
    (line,) = [line for line in texts[1].splitlines() if line.startswith("parts=")]
    for task, part in (("1", "2/3"), ("2", "3/3")):
        shell = f'{line}\nprintf "%s\\n" "${{more[@]}}"'
        done = subprocess.run(
            ["bash", "-c", shell], env={"SLURM_ARRAY_TASK_ID": task}, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["--shard", part]


def test_only_what_is_missing_is_submitted_again(tmp_path, places, sbatch, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = [a for a in asked(places, "out") if a not in ("--on",) and not str(a).startswith("slurm")]
    run(*plain, "--shard", "1/3")
    run(*plain, "--shard", "3/3")
    with claimed(tmp_path / "out" / "members" / "seed0"):
        line = run(*asked(places, "out"), code=2).stderr
    assert "error: out: seed0: another process is at it; wait for its end, or cancel its job, and repeat" in line
    assert not sbatch() and not (tmp_path / "out-jobs").exists()
    run(*asked(places, "out"))
    assert [path.rpartition("/")[2] for path in sbatch()] == [
        "train-1-members.sh", "train-1-ensemble.sh", "train-1-evaluation.sh"]  # fmt: skip
    assert command_of((tmp_path / "out-jobs" / "train-1-members.sh").read_text())[-2:] == ["--shard", "2/3"]
    run(*plain, "--shard", "2/3")
    run(*plain, "--resume")
    line = run(*asked(places, "out")).stdout
    assert line == "out: all is trained and put together; there is nothing to submit\n" and len(sbatch()) == 3
    other = run(*asked(places, "out", "--seed", "5"), code=2)
    assert "was begun with other trainings" in other.stderr


def test_folds_are_not_evaluated_on_what_they_have_seen(tmp_path, places, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folds = ["train", "light", places / "in", "out", "--folds", "4", *SMALL, "--on", "pbs:gpus=1"]
    shown = run(*folds, "--dry-run").stdout
    assert "#PBS -J 1-4" in shown and shown.count("#!/bin/bash") == 2 and "tomopick evaluate" not in shown
    assert "--shard auto/4" in shown and "#PBS -W depend=afterok:NUMBER-OF-train-1-members" in shown
    array = run(*folds[:-1], "slurm:array=4", "--dry-run", code=2).stderr
    assert "train has a task a training, and at_once limits them; leave array=4 out" in array


@pytest.mark.parametrize("name", ["slurm", "pbs", "lsf"])
def test_several_jobs_to_wait_for(tmp_path, name):
    script = Script("x", tmp_path, ("true",), after=("1", "2"))
    expected = {"slurm": "--dependency=afterok:1:2:3", "pbs": "-W depend=afterok:1:2:3",
                "lsf": '-w "done(1) && done(2) && done(3)"'}  # fmt: skip
    assert expected[name] in script.text(Submission.parse(f"{name}:after=3"), tmp_path)


# --- odd paths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["slurm", "pbs", "lsf"])
def test_odd_paths_reach_the_program_as_they_are(tmp_path, monkeypatch, name):
    """The script is run by a real shell, with a program in Python's place that tells what it was given."""
    here = tmp_path / ODD
    here.mkdir()
    source, out = folder(here / "i n", "AB", picks=False, shape=(24, 32, 32), n=2), here / "o'ut"
    (here / "set up.sh").write_text("told=$PWD\n")
    monkeypatch.chdir(here)
    on = f"{name}:array=2,time=1:00:00,setup={here / 'set up.sh'}"
    text = run("pick", trained(), source, "--out", out, "--on", on, "--dry-run").stdout
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    log = next(line for line in text.splitlines() if ".log" in line or " -o " in line)
    (place,) = [word for word in shlex.split(log.partition(" ")[2]) if "-jobs" in word]
    folder_of_log = place.removeprefix("--output=").rpartition("/")[0]
    assert folder_of_log == str(here / "o'ut-jobs").replace("%", "%%" if name == "slurm" else "%")
    echoing = text.replace(shlex.quote(sys.executable) + " -m tomopick", 'printf "%s\\n" "$told"')
    echoing = echoing.replace("timeout --preserve-status --signal=TERM 3480 ", "")
    done = subprocess.run(["bash", "-c", echoing], capture_output=True, text=True, check=True)
    runs = f"@{out.with_name(out.name + '-jobs') / 'pick-1.runs.txt'}"
    given = ["pick", str(trained()), str(source), "--out", str(out), "--runs", runs, "--shard", "auto/2"]
    assert done.stdout.splitlines() == [str(here), *given]


def test_what_a_line_of_options_cannot_hold_is_refused(tmp_path):
    for odd in ("a\nb", "a\\b"):
        out = tmp_path / odd
        line = run("simulate", out, "--runs", "2", "--on", "slurm", "--dry-run", code=2).stderr
        assert "schedulers take no path with a line break or a backslash; name another folder" in line


def test_a_training_that_is_still_queued_is_not_submitted_beside_itself(tmp_path, places, sbatch, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queued = tmp_path / "programs" / "squeue"  # knows the third job alone
    queued.write_text('#!/bin/bash\n[ "${@: -1}" = 3 ] && echo PENDING\n[ "${@: -1}" -lt 5 ] || exit 1\n')
    queued.chmod(0o755)
    run(*asked(places, "out"))
    assert (tmp_path / "out-jobs" / "numbers.txt").read_text() == "".join(f"slurm {i}\n" for i in (1, 2, 3, 4))
    line = run(*asked(places, "out"), code=2).stderr
    assert "out: job 3 of an earlier submission: still waiting or at work; let it end, or cancel it (scancel 3)" in line
    assert len(sbatch()) == 4 and len(list((tmp_path / "out-jobs").glob("*.sh"))) == 4
    after = [a.replace("after=17", "after=3") if isinstance(a, str) else a for a in asked(places, "out")]
    run(*after)
    assert len(sbatch()) == 8
    pick = ["pick", "default", places / "in", "--out", "out", "--on", "slurm:"]
    assert "is done twice, to the same result" in run(*pick).stderr and len(sbatch()) == 9
