"""What the help of verbs prints as an example is understood as it is printed, and runs on data of the names in it."""

import glob
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from small import MODELS, copy_of, folder, narrowed, tomogram
from telling import interrupted_at
from tomopick import PickableObject, recipes
from tomopick.cli import main
from tomopick.core.errors import ReadError
from tomopick.data import create_copick_project, open_project, write_picks_csv, write_run


def examples(name):
    """The command lines of a verb's help, continued ones joined."""
    text = inspect.cleandoc(main.commands[name].help or "").replace("\\\n", " ")
    return [line.strip() for line in re.findall(rf"(?:^|\s)(tomopick {name}(?: .*)?)$", text, re.M)]


@pytest.mark.parametrize("name", sorted(main.commands))
def test_examples_are_understood(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = examples(name)
    assert found
    for line in found:
        command, args = main.commands[name], shlex.split(re.split(r"[;>|]", line)[0])[2:]
        try:
            command.make_context(name, args)
        except click.exceptions.Exit:
            pass
        except (click.UsageError, ReadError) as error:  # a file that the example supposes may be missing, nothing else
            assert re.search(r"does not exist|there is no such file", str(error)), f"{line}: {error}"


def test_methods_and_recipes_are_one_list():
    for name in recipes.methods():
        done = CliRunner().invoke(main, ["recipes", name])
        assert done.exit_code == 0 and name in done.output
    told = CliRunner().invoke(main, ["recipes", "soup"]).output
    assert "soup_tiny, soup_medium" in told.replace("soup_large, soup_medium, soup_tiny", "soup_tiny, soup_medium")
    assert "--as-published" in told


RIBOSOME = PickableObject("ribosome", 40.0, 1)
RUNS = ("TS_5_4", "TS_6_4", "TS_6_6", "TS_69_2", "TS_07")
MODEL_NAMES = (
    "model",
    "seed0",
    "seed1",
    "seed2",
    "fold0",
    "fold1",
    "fold2",
    "tiny",
    "medium",
    "large",
    "bpd",
    "topcup",
)


def renamed(place):
    """A copy of a small model that calls what it finds a ribosome."""
    copy_of(MODELS / "ball", place)
    about = place / "detector.json"
    about.write_text(about.read_text().replace('"ball"', '"ribosome"'))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Everything that examples suppose, made once."""
    place = tmp_path_factory.mktemp("examples")
    for name in MODEL_NAMES:
        renamed(place / name)
    for step in (10, 20):  # what a training keeps
        (place / "model" / "top").mkdir(exist_ok=True)
        shutil.copy(place / "model" / "weights.safetensors", place / "model" / "top" / f"{step}.safetensors")
    folder(place / "tomograms", RUNS, objects_json=False, objects=(RIBOSOME,))
    folder(place / "alone", ("tomogram",), objects=(RIBOSOME,), objects_json=False)
    (place / "alone" / "tomogram.mrc").rename(place / "tomogram.mrc")
    project = create_copick_project(place, [RIBOSOME])
    for seed, run in enumerate(RUNS):
        made, picks = tomogram(run, seed, objects=(RIBOSOME,))
        write_run(project, [made], picks, "curator", "0")
    for name in ("picks", "picks_a", "picks_b", "next"):
        (place / name).mkdir()
        for seed, run in enumerate(RUNS):
            write_picks_csv(place / name / f"{run}.csv", tomogram(run, seed, objects=(RIBOSOME,))[1])
    shutil.copy(place / "alone" / "tomogram.csv", place / "picks" / "tomogram.csv")
    for name in ("picks.csv", "truth.csv"):
        write_picks_csv(place / name, tomogram("TS_07", 4, objects=(RIBOSOME,))[1])
    return place


# What an example makes, where another supposes that it is there.
MADE = {
    "pick": ("picks",), "ensemble": ("ensemble", "soup", "both"), "soup": ("soup", "averaged"), "merge": ("agreed",),
    "suggest": ("next",), "init": ("project",), "train": ("model", "soup"), "finish": ("model",),
}  # fmt: skip
# Run elsewhere, for the reason that stands beside it.
ELSEWHERE = {
    "--portal": "the portal is not to be asked by a test", "napari": "is not installed",
    "--from-map": "simulates for minutes: tests/recipes/test_from_maps.py",
    "--as-published": "trains for hours: tests/recipes/test_as_published.py",
    "unet25d": "needs a trained 2.5D network: tests/picking", "membrane:me/1": "needs a segmentation: tests/picking",
    "tomograms.star": "needs RELION's table: tests/data", "convert": "needs published weights: tests/recipes",
    "status ensemble/": "needs the trainings of a plan: tests/cli/test_stages.py",
}  # fmt: skip
SERVED = ("curate", "view")  # until they are stopped
# Words of an example, and what stands in their place to make it small.
SMALLER = {"--shape 96,256,256": "--shape 48,96,96", "--runs 4": "--runs 1"}
FEW = ["patch.shape=16,16,16", "tiling.shape=32,32,32", "tiling.overlap=8", "train.steps=2", "train.batch_size=1",
       "train.validate_every=2"]  # fmt: skip
VERBS = ("recipes", "doctor", "evaluate", "show", "merge", "pick", "ensemble", "soup", "calibrate", "report", "suggest",
         "export", "init", "train", "curate", "mask", "view", "simulate", "demo", "status", "finish", "convert",
         "import", "export-model")  # fmt: skip


def test_every_verb_s_examples_are_run():
    assert set(VERBS) == set(main.commands)


def copick_runs(place, runs=RUNS, user="curator"):
    """A copick project in a folder of its own, without picks where there is no user."""
    place.mkdir()
    project = create_copick_project(place, [RIBOSOME])
    for seed, run in enumerate(runs):
        made, picks = tomogram(run, seed, objects=(RIBOSOME,))
        write_run(project, [made], picks if user else picks.above({"ribosome": 2.0}), user or "nobody", "0")
    return place / "copick.json"


def other_projects(line):
    """Projects that an example has besides the one that all have."""
    if "real.json" in line:
        copick_runs(Path("sim"), ("SIM_0", "SIM_1"), "simulation")
        shutil.copy("copick.json", "real.json")
    if "rest.json" in line:
        copick_runs(Path("rest"), ("TS_A", "TS_B"), "")
        shutil.copy("rest/copick.json", "rest.json")


def with_another_object(line):
    """A protein that the model does not know yet, in every table."""
    for seed, run in enumerate(RUNS):
        write_picks_csv(Path("tomograms", f"{run}.csv"), tomogram(run, seed, objects=(ANOTHER,))[1])


def begun_training(line):
    """One that has been validated, and then interrupted."""
    words = ["train", "light", "tomograms/", "model/", "--object", "ribosome:40", *narrowed("light"), "train.steps=9"]
    with interrupted_at("step 4"):
        done = CliRunner().invoke(main, words)
    assert done.exit_code == 130 and "interrupted" in done.output, done.output


def one_that_failed(line):
    """Runs that are picked, one of which cannot be read at first."""
    shutil.rmtree("picks")
    volume = Path("tomograms/TS_07.mrc")
    whole = volume.read_bytes()
    volume.write_bytes(whole[:2000] if "--failed" in line else whole)
    CliRunner().invoke(main, ["pick", "default", "tomograms/", "--out", "picks/"])
    volume.write_bytes(whole)


def foreign_files(line):
    """What other programs wrote of these runs."""
    words = ["run_data.star", "--to", "relion5", "--tilt-series-pixel-size", "10"]
    words = words if "run_data.star" in line else ["models/", "--to", "imod"]
    done = CliRunner().invoke(main, ["export", "copick.json", *words])
    assert done.exit_code == 0, done.output
    for path in map(Path, done.stdout.split()):
        path.rename(path.name.replace("_ribosome", ""))
    for path in Path("tomograms").glob("*.csv"):
        path.unlink()


def first_decisions(line):
    """What a curation has decided before, for the next."""
    for name in ("next", "next2"):
        shutil.copytree("picks", name, dirs_exist_ok=True)
    shutil.copytree("model", "model2")
    served("tomopick curate next/ tomograms/ --out curated/")
    if "suggest" in line:  # which makes it
        shutil.rmtree("next2")


ANOTHER = PickableObject("my-protein", 40.0, 2)
PREPARED = {
    "--add": with_another_object, "train": other_projects, "finish": begun_training, "status": one_that_failed,
    "import": foreign_files, "--decided": first_decisions,
    "--undo": lambda line: CliRunner().invoke(main, shlex.split("calibrate model/ copick.json --runs TS_6_4")),
}  # fmt: skip


def small_enough(words):
    """What makes a training take seconds; a network that is begun with stays as it is."""
    if words[0] != "train":
        return words
    if "--init-from" in words:
        return [*words, *FEW]
    return [*words, *narrowed(words[1])]


def served(line):
    """A verb that serves a page until Ctrl-C."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", *shlex.split(line), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as running:
        told = []
        for text in running.stdout:
            told.append(text)
            if text.startswith("http"):
                running.send_signal(signal.SIGINT)
    assert running.returncode in (0, 130) and any(text.startswith("http") for text in told), told


def marked(line):
    """Slow where voxels are picked, made or learned from."""
    quick = ("recipes", "merge", "export", "show", "init", "import", "finish")
    return line if line.split()[1] in quick else pytest.param(line, marks=pytest.mark.slow)


@pytest.mark.parametrize("line", [marked(line) for verb in VERBS for line in examples(verb)])
def test_examples_run(line, shared, tmp_path, monkeypatch):
    if reason := next((why for word, why in ELSEWHERE.items() if word in line), ""):
        pytest.skip(reason)
    place = tmp_path / "here"
    shutil.copytree(shared, place)
    for words, others in SMALLER.items():
        line = line.replace(words, others)
    verb = line.split()[1]
    for name in MADE.get(verb, ()):
        if not (verb == "train" and f"--init-from {name}/" in line):
            shutil.rmtree(place / name, ignore_errors=True)
    config = place / "copick.json"
    config.write_text(config.read_text().replace(json.dumps(str(shared))[1:-1], str(place)))
    monkeypatch.chdir(place)
    for user, session in (("tomopick", "1"), ("relion", "0")):
        if f"{user}/{session}" in line:
            for seed, run in enumerate(RUNS):
                open_project(config).write_picks(tomogram(run, seed, objects=(RIBOSOME,))[1], user, session)
    for word, prepare in PREPARED.items():
        if word in line.split():
            prepare(line)
    if verb in SERVED:
        served(line)
        return
    for command in line.split(";"):
        command, _, redirected = command.partition(">")
        words = [w for word in shlex.split(command)[1:] for w in sorted(glob.glob(word)) or [word]]
        done = CliRunner().invoke(main, small_enough(words), catch_exceptions=False)
        assert done.exit_code == (1 if "--failed" in words else 0), done.output
        if redirected:
            Path(redirected.strip()).write_text(done.stdout)
