"""What the help of verbs prints as an example is understood as it is printed, and runs on data of the names in it."""

import inspect
import json
import re
import shlex
import shutil

import click
import pytest
from click.testing import CliRunner

from small import MODELS, copy_of, folder, tomogram
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
    "suggest": ("next",), "init": ("project",),
}  # fmt: skip
# Run elsewhere, for the reason that stands beside it.
ELSEWHERE = {
    "--portal": "the portal is not to be asked by a test", "curate": "serves until it is stopped: tests/look",
    "napari": "is not installed", "mask": "needs the shipped model at its size",
    "my-protein": "simulates and trains for minutes", "--as-published": "trains for hours",
    "unet25d": "needs a trained 2.5D network: tests/picking", "membrane:me/1": "needs a segmentation: tests/picking",
    "tomograms.star": "needs RELION's table: tests/data",
}  # fmt: skip
BEFORE = {"--undo": "calibrate model/ copick.json --runs TS_6_4"}
VERBS = ("recipes", "doctor", "evaluate", "show", "merge", "pick", "ensemble", "soup", "calibrate", "report", "suggest",
         "export", "init")  # fmt: skip


def marked(line):
    """Slow where voxels are picked."""
    quick = any(line.startswith(f"tomopick {verb} ") for verb in ("recipes", "merge", "export", "show", "init"))
    return line if quick else pytest.param(line, marks=pytest.mark.slow)


@pytest.mark.parametrize("line", [marked(line) for verb in VERBS for line in examples(verb)])
def test_examples_run(line, shared, tmp_path, monkeypatch):
    if reason := next((why for word, why in ELSEWHERE.items() if word in line), ""):
        pytest.skip(reason)
    place = tmp_path / "here"
    shutil.copytree(shared, place)
    words = shlex.split(line)[1:]
    for name in MADE.get(words[0], ()):
        shutil.rmtree(place / name, ignore_errors=True)
    config = place / "copick.json"
    config.write_text(config.read_text().replace(json.dumps(str(shared))[1:-1], str(place)))
    monkeypatch.chdir(place)
    for user, session in (("tomopick", "1"), ("relion", "0")):
        if f"{user}/{session}" in line:
            for seed, run in enumerate(RUNS):
                open_project(config).write_picks(tomogram(run, seed, objects=(RIBOSOME,))[1], user, session)
    if before := BEFORE.get(words[-1]):
        assert CliRunner().invoke(main, shlex.split(before)).exit_code == 0
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
