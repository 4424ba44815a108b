"""What a person says of labels and objects reaches the library from the command line."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.ndimage import gaussian_filter

from small import BALL, RING, TINY, folder, trained
from tomopick.cli import main
from tomopick.data import write_mrc


def run(*args):
    done = CliRunner().invoke(main, [str(a) for a in args])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    place = folder(tmp_path_factory.mktemp("steer") / "vols", runs=("A", "B", "C"))
    (place / "A.negatives.csv").write_text("object,x,y,z\nball,100,200,120\n")
    return place


def test_regions_reach_training_and_every_score(volumes, tmp_path):
    region = ("--region", "A=:,0:32,:", "--region", "C=:,0:320A,:")
    run("doctor", volumes, "--examine", 0, *region)
    out = run("train", "light", volumes, tmp_path / "m", "--device", "cpu", "--val-runs", "C", *region, *TINY,
              "tiling.shape=32,32,32", "tiling.overlap=8")  # fmt: skip
    assert "1 of them labelled in part" in out and "places that are known to be none: 1 of ball" in out
    model = trained(BALL)
    measured = ("evaluate", model, volumes, "--runs", "A", "--json", "--device", "cpu")
    whole, part = (run(*measured, *more) for more in ((), region))
    assert "true particles lie where their run is not labelled" in part and "not labelled" not in whole
    sizes = [json.loads(t[t.index("\n{") :])["matched"]["objects"]["ball"] for t in (whole, part)]
    assert sizes[0] != sizes[1]
    told = run("calibrate", model, volumes, "--runs", "A", "--dry-run", "--json", "--device", "cpu", *region)
    assert json.loads(told[told.index("{") :])["objects"]["ball"]["n_truth"] < 14
    run("report", model, volumes, "--out", tmp_path / "r.html", "--runs", "A", "--device", "cpu", *region)


def test_a_region_of_no_run_is_refused(volumes):
    done = CliRunner().invoke(main, ["doctor", str(volumes), "--region", "Z=:,:,:"])
    assert done.exit_code == 2 or "no run 'Z'" in str(done.exception)


def test_an_object_is_added(volumes, tmp_path):
    place = tmp_path / "rings"
    place.mkdir()
    for name in "ABC":
        (place / f"{name}.mrc").symlink_to(volumes / f"{name}.mrc")
        (place / f"{name}.csv").write_text((volumes / f"{name}.csv").read_text().replace("ball,", "ring,"))
    out = run("train", "light", place, tmp_path / "m", "--device", "cpu", "--init-from", trained(BALL), "--add",
              "ring:60", "--val-runs", "C", *TINY, "tiling.shape=32,32,32", "tiling.overlap=8")  # fmt: skip
    assert "whose thresholds of ball are kept" in out


def test_who_competes_is_said(volumes, tmp_path):
    model = trained(BALL, RING)
    for flag in ("--exclude", "--no-exclude"):
        run("pick", model, volumes, "--runs", "A", "--out", tmp_path / flag, flag, "--device", "cpu")


def test_a_map_becomes_a_model(tmp_path, monkeypatch):
    from functools import partial

    from tomopick.recipes import from_maps

    z, y, x = np.meshgrid(*[np.arange(24) - 11.5] * 3, indexing="ij")
    write_mrc(tmp_path / "ball.mrc", gaussian_filter((z**2 + y**2 + x**2 < 100).astype(np.float32), 1), 5.0)
    monkeypatch.setattr(from_maps, "MapOptions", partial(from_maps.MapOptions, runs=3, across=64))
    out = run("train", "light", tmp_path / "m", "--from-map", f"{tmp_path / 'ball.mrc'},radius=50", "--device", "cpu",
              "--like", folder(tmp_path / "own", runs=("A",), picks=False), *TINY, "tiling.shape=32,32,32",
              "tiling.overlap=8")  # fmt: skip
    assert "# light: ball" in out and (tmp_path / "m-simulated" / "copick.json").is_file()
    done = CliRunner().invoke(main, ["train", "light", str(tmp_path / "n"), "--like", str(tmp_path)])
    assert done.exit_code != 0 and not (tmp_path / "n").exists()
