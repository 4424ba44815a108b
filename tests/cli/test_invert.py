"""`--invert` alone, before runs, and which runs of a training are said to be inverted."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

import small
from tomopick import Source, recipes
from tomopick.cli import main
from tomopick.core.errors import SelectionError
from tomopick.data import MemoryProject, write_mrc
from tomopick.training.dataset import gather


def asked(command, *words):
    """What `--invert` came to."""
    context = main.commands[command].make_context(command, list(words))
    return context.params["invert"], context.params["arguments"]


def test_alone_or_before_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.mrc").write_text("")
    for words in (("--invert", "default", "t.mrc"), ("default", "--invert", "t.mrc"), ("default", "t.mrc", "--invert")):
        assert asked("pick", *words, "--out", "p") == (True, ("default", "t.mrc"))
    assert asked("pick", "default", "t.mrc", "--out", "p") == (False, ("default", "t.mrc"))
    for words in (("--invert", "TS_1,TS_2", "default", "t.mrc"), ("default", "t.mrc", "--invert=TS_1,TS_2")):
        assert asked("pick", *words, "--out", "p") == (("TS_1", "TS_2"), ("default", "t.mrc"))
    (tmp_path / "runs.txt").write_text("TS_1\nTS_2\n")
    assert asked("pick", "default", "t.mrc", "--out", "p", "--invert", "@runs.txt")[0] == ("TS_1", "TS_2")
    words = ("light", "t.mrc", "out", "--invert", "train.steps=3")
    found = main.commands["train"].make_context("train", list(words)).params
    assert found["invert"] is True and found["arguments"] == ("t.mrc", "out", "train.steps=3")


def picked(model, project, out, *more):
    return CliRunner().invoke(main, ["pick", str(model), str(project), "--out", str(out), *more])


def mixed(*light):
    project = MemoryProject([small.BALL])
    for seed, run in enumerate("ABC"):
        volume, truth = small.tomogram(run, seed)
        project.add(replace(volume, values=-volume.values) if run in light else volume, truth)
    return project


def test_a_minority_of_inverted_runs_is_said_and_can_be_named(caplog):
    method = recipes.get("light")
    with caplog.at_level("WARNING"):
        gather(method, [Source(mixed("B"), val_runs=["C"])])
    assert "run B: light particles on dark" in caplog.text and "`invert=B`" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):
        named = gather(method, [Source(mixed("B"), val_runs=["C"], invert=("B",))])
        plain = gather(method, [Source(mixed(), val_runs=["C"])])
    assert "light" not in caplog.text
    for a, b in zip(named.train, plain.train):
        assert (a.values == b.values).all()
    with pytest.raises(SelectionError, match="no run 'Q'"):
        gather(method, [Source(mixed(), invert=("Q",))])


def test_one_run_of_several_is_picked_inverted(tmp_path):
    model = small.trained()
    for name, light in (("plain", ()), ("mixed", ("B",))):
        place = tmp_path / name
        place.mkdir()
        for run in "AB":
            tomogram = mixed(*light).tomogram(run)
            write_mrc(place / f"{run}.mrc", tomogram.values, 10.0)
    for name, more in (("plain", []), ("mixed", ["--invert", "B"])):
        done = CliRunner().invoke(
            main, ["pick", str(model), str(tmp_path / name), "--out", str(tmp_path / f"{name}-p"), *more]
        )
        assert done.exit_code == 0, done.output
    for run in "AB":
        assert (tmp_path / "plain-p" / f"{run}.csv").read_text() == (tmp_path / "mixed-p" / f"{run}.csv").read_text()
    done = CliRunner().invoke(
        main, ["pick", str(model), str(tmp_path / "mixed"), "--out", str(tmp_path / "x"), "--invert", "BB"]
    )
    assert done.exit_code == 2 and "no run 'BB'" in done.output
