"""The verbs that make one model of several, and `train` where it makes several of one method."""

from shutil import copyfile

import pytest
from click.testing import CliRunner

from small import copick, copy_of, trained
from tomopick.cli import main
from tomopick.core.records import Records
from tomopick.picking.load import load_model

QUICK = ["train.steps=2", "train.batch_size=2", "train.validate_every=2", "patch.shape=16,16,16", "tiling.overlap=8",
         "tiling.shape=32,32,32", "network.widths=4,8"]  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def refused(*arguments):
    """The one line of a command that exits with 2."""
    result = run(*arguments)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert result.exit_code == 2 and result.stdout == ""
    return line


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("combine")
    copick(root / "real", "CDE", tomo_types=("denoised", "wbp"))
    copy_of(trained(), root / "a")
    copy_of(trained(), root / "b")
    return root


def test_an_ensemble_is_a_model_wherever_one_is_asked_for(place, tmp_path):
    real, out = copick(tmp_path / "real", "CDE"), place / "both"
    on = ["--project", real, "--tomo-type", "denoised", "--device", "cpu"]
    made = run("ensemble", place / "a", place / "b", out, "--weights", "grid", "--val-runs", "C,D", *on)
    assert made.exit_code == 0, made.stderr
    assert "# ensemble of 2: ball" in made.stdout and f"ensemble of 2 in {out}" in made.stdout
    assert "weights 0.5, 0.5: f1" in made.stderr
    picked = run("pick", out, real, "--out", tmp_path, "--runs", "E", "--tomo-type", "denoised", "--device", "cpu")
    assert picked.exit_code == 0 and "ball in" in picked.stdout
    record = Records(tmp_path).last("E")
    assert record["models"] == [str(out)] and record["thresholds"] == load_model(out).thresholds["f1"]
    before = load_model(out)
    calibrated = run("calibrate", out, real, "--runs", "E", "--tomo-type", "denoised", "--metric", "precision=0.9",
                     "--truth", "*:curator/0", "--device", "cpu")  # fmt: skip
    assert calibrated.exit_code == 0, calibrated.stderr
    after = load_model(out)
    assert set(after.thresholds) == {*before.thresholds, "precision=0.9"} and after.checksum == before.checksum
    report = run("report", out, real, "--runs", "E", "--tomo-type", "denoised", "--truth", "*:curator/0", "--out",
                 tmp_path / "report.html", "--device", "cpu")  # fmt: skip
    assert report.exit_code == 0 and (tmp_path / "report.html").is_file(), report.stderr
    looked = run("doctor", real, out, "--tomo-type", "denoised", "--examine", "1", "--picks", "*:curator/0")
    assert looked.exit_code == 0 and "picking takes about" in looked.stdout
    line = refused("train", "light", real, tmp_path / "m", "--picks", "*:curator/0", "--init-from", out, *QUICK)
    assert "is an ensemble of 2; expected a single model: take one of its members" in line
    assert "exists already" in refused("ensemble", place / "a", place / "b", out)


def test_a_soup_of_two_models_and_of_one_training(place, tmp_path):
    real = place / "real" / "copick.json"
    made = run("soup", place / "a", place / "b", tmp_path / "s", "--project", real, "--val-runs", "C", "--tomo-type",
               "denoised", "--norm", "estimate", "--device", "cpu")  # fmt: skip
    assert made.exit_code == 0, made.stderr
    assert "of 2" in made.stdout and load_model(tmp_path / "s").facts.provenance["norm"] == "estimate"
    alone = copy_of(place / "a", tmp_path / "alone")
    (alone / "top").mkdir()
    copyfile(alone / "weights.safetensors", alone / "top" / "6.safetensors")
    assert "alone/top: 1 file of weights" in refused("soup", alone, tmp_path / "t")


@pytest.mark.parametrize("verb", ["ensemble", "soup"])
def test_what_cannot_be_combined(place, tmp_path, verb):
    a, b, out = place / "a", place / "b", tmp_path / "out"
    assert f"{verb} needs MODELs and the folder OUT" in refused(verb, a)
    assert f"{b}: exists already, and is a model; name a new folder OUT behind the MODELs" in refused(verb, a, b)
    assert "no model 'nothing'" in refused(verb, a, "nothing", out)
    assert "give --project and --val-runs" in refused(verb, a, b, out, "--weights", "grid")
    assert "say which with --project" in refused(verb, a, b, out, "--val-runs", "C")
    real = place / "real" / "copick.json"
    assert "no run 'Z'" in refused(verb, a, b, out, "--project", real, "--val-runs", "Z")
    assert not out.exists()
    if verb == "ensemble":
        assert "a single model is no ensemble" in refused(verb, a, out)
        assert "add --weights grid" in refused(verb, a, b, out, "--per-object")


def test_train_several_members_and_go_on(place, tmp_path):
    real, out = place / "real" / "copick.json", tmp_path / "seeds"
    command = ["train", "light", real, out, "--seeds", "2", "--tomo-type", "denoised", "--tomo-type", "wbp",
               "--val-runs", "E", "--device", "cpu", *QUICK]  # fmt: skip
    made = run(*command)
    assert made.exit_code == 0, made.stderr
    assert "light: 2 trainings: seed0, seed1" in made.stderr and "ensemble of 2 in" in made.stdout
    assert load_model(out).facts.tomo_types == ("denoised", "wbp")
    assert (out / "members" / "seed1" / "training.png").is_file()
    again = run(*command, "--resume")
    assert again.exit_code == 0 and "the ensemble was finished before" in again.stderr
    assert "exists already" in refused(*command)


@pytest.mark.parametrize(
    "more, message",
    [
        (["--folds", "7"], "--folds 7: 3 runs with picks (C, D, E) cannot be divided into 7 parts"),
        (["--subset", "2,9"], "9 runs to learn from are asked for, and there are 2"),
        (["--as-published"], "nothing is published under the name 'light'"),
        (
            ["--pretrain-tomo-type", "wbp"],
            "--pretrain-tomo-type is of the project to pretrain on; say which with --pre",
        ),
        (
            ["--pretrain-val-runs", "A"],
            "--pretrain-val-runs is of the project to pretrain on; say which with --pretrain",
        ),
        (["--unlabelled-runs", "D"], "learns from labels alone and has no use for unlabelled runs"),
        (["--seeds", "2", "network.colour=red"], "has no field 'colour'"),
    ],
)
def test_plans_that_cannot_be(place, tmp_path, more, message):
    real = place / "real" / "copick.json"
    line = refused("train", "light", real, tmp_path / "m", "--tomo-type", "denoised", "--device", "cpu", *QUICK, *more)
    assert message in line and not (tmp_path / "m").exists()


def test_a_method_of_several_recipes_says_which(tmp_path):
    line = refused("train", "soup", tmp_path, tmp_path / "m")
    assert "'soup' is a method of several recipes (soup_large, soup_medium, soup_tiny): take one of them" in line


def test_numbers_of_runs_must_be_numbers(place, tmp_path):
    result = run("train", "light", place / "real" / "copick.json", tmp_path / "m", "--subset", "2,x")
    assert result.exit_code == 2 and "no numbers of 1 or more" in result.stderr


def test_a_dry_run_prints_the_plan_and_leaves_nothing(place, tmp_path):
    real = place / "real" / "copick.json"
    command = ("train", "light", real, tmp_path / "m", "--tomo-type", "denoised", "--device", "cpu", *QUICK)
    text = run(*command, "--seeds", "2", "--dry-run").stdout
    assert "seed0" in text and "seed1" in text and "2 training(s), about" in text
    assert not list(tmp_path.iterdir())
