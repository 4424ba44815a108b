"""The scripts that make published tables again: rehearsals, and what they compute themselves."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from small import copick
from tomopick import Picks
from tomopick.core.types import Grid
from tomopick.picking.published_tilings import StepTiles

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import czii
import public
import semisupervised


def rows(work):
    return [json.loads(line) for line in (work / "rows.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("czii")


def make(work, table, *more):
    czii.main(["simulated", str(work), table, "--quick", "--device", "cpu", *more])


def test_a_row_of_the_challenge_and_one_of_semi_supervision(work, capsys):
    make(work, "scores", "--rows", "bpd")
    make(work, "semi", "--rows", "SemiETPicker, 1 labelled")
    said = capsys.readouterr().out
    assert "published 0.78252" in said
    first, second = rows(work)
    assert (first["table"], first["row"], second["row"]) == ("scores", "bpd", "SemiETPicker, 1 labelled")
    assert 0 <= first["F4"] <= 1 and len(second["F1"]) == 2 and first["runs"] == 2 and second["runs"] == 1
    assert set(first["objects"]) == set(czii.QUICK_OBJECTS) and first["seconds"] > 0
    before = (work / "rows.jsonl").read_text()
    make(work, "scores", "--rows", "bpd")  # nothing is made twice
    assert (work / "rows.jsonl").read_text() == before


@pytest.mark.slow
def test_all_tables_of_the_challenge(work, capsys):
    for table in ("scores", "windows", "semi", "networks", "classes", "ablation"):
        make(work, table)
    said = capsys.readouterr().out
    for name in (*czii.METHODS, *czii.WINDOWS, *czii.BASELINES, *czii.ABLATION):
        assert f"\n{name}" in f"\n{said}"
    assert "apo-ferritin" in said and "published 0.616" in said
    flat = {row["row"]: row["F4"] for row in rows(work) if row["table"] == "windows"}
    assert len(flat) == len(czii.WINDOWS)


def test_windows_of_the_fourth_place_are_as_many_as_it_says():
    for name, (step, _) in czii.WINDOWS.items():
        n = len(StepTiles(step=(8, step, step)).plan((184, 630, 630), 8)[1][1])
        assert name.startswith(f"{n} x {n} windows")


def test_what_is_missing_is_said_in_a_line(tmp_path):
    place = str(copick(tmp_path / "p"))
    with pytest.raises(SystemExit, match=r"^error: nothing to score: give the project of the test runs with --test"):
        czii.main([place, str(tmp_path / "w"), "scores"])


@pytest.fixture
def manifest(tmp_path):
    """A Croissant manifest of three runs, one of each split."""
    from copick.ops.croissant import export_croissant
    from copick.ops.open import from_file

    place = copick(tmp_path / "project", ("A", "B", "C"))
    text = {"dataset_name": "a", "description": "b", "license": "CC0", "cite_as": "c"}
    export_croissant(
        from_file(str(place)), str(tmp_path / "project"), base_url=f"file://{tmp_path / 'project'}",
        splits={"train": ["C"], "val": ["A"], "test": ["B"]}, **text,
    )  # fmt: skip
    return tmp_path / "project" / "Croissant" / "metadata.json"


@pytest.mark.filterwarnings("ignore")
def test_a_public_benchmark_by_its_manifest(manifest, tmp_path, capsys):
    work = tmp_path / "work"
    public.main(["phantom", str(work), str(manifest), "--quick", "--device", "cpu"])
    assert "phantom, light: F4 " in capsys.readouterr().out
    (row,) = rows(work)
    assert row["runs"] == 1 and set(row["F1 by object"]) == {"ball"} and 0 <= row["F4"] <= 1
    (learned,) = json.loads((work / "models" / "light" / "detector.json").read_text())["facts"]["learned_from"]
    assert (learned["train"], learned["val"]) == (["C"], ["A"])


@pytest.mark.filterwarnings("ignore")
def test_without_a_network_it_is_said_in_a_line(tmp_path):
    with pytest.raises(SystemExit) as told:
        public.main(["phantom", str(tmp_path), "http://127.0.0.1:9/Croissant/metadata.json"])
    assert "needs a network" in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(SystemExit, match=r"^error: where is it"):
        public.main(["empiar-11830", str(tmp_path)])


def test_motors_of_a_kaggle_download(tmp_path):
    from PIL import Image

    values = np.zeros((9, 12, 16), dtype=np.uint8)
    values[4:6, 6:8, 8:10] = 200
    for run in "abc":
        (tmp_path / "train" / run).mkdir(parents=True)
        for z, image in enumerate(values):
            Image.fromarray(image).save(tmp_path / "train" / run / f"slice_{z:04d}.png")
    head = "row_id,tomo_id,Motor axis 0,Motor axis 1,Motor axis 2,Voxel spacing,Number of motors\n"
    table = head + "0,a,4.5,6.5,8.5,16,1\n1,b,-1,-1,-1,16,0\n2,c,4.5,6.5,8.5,16,2\n3,c,1,1,1,16,2\n"
    (tmp_path / "train_labels.csv").write_text(table)
    data = public.motors(tmp_path)
    assert sorted(run for runs in data.runs.values() for run in runs) == ["a", "b", "c"]
    tomogram, picks = data.project.tomogram("a"), data.project.picks("a")
    assert tomogram.grid == Grid((4, 6, 8), 32.0, (8.0, 8.0, 8.0))
    brightest = np.argwhere(tomogram.values == tomogram.values.max())
    np.testing.assert_allclose(tomogram.grid.positions(brightest), picks.positions)  # both at the motor's centre
    assert len(data.project.picks("b")) == 0 and len(data.project.picks("c")) == 2


def test_a_motor_a_tomogram():
    def at(*positions):
        n = len(positions)
        return Picks("", np.reshape(positions, (-1, 3)).astype(float), np.full(n, "motor"), np.linspace(0.9, 0.5, n))

    truth = {"hit": at((0, 0, 0)), "far": at((0, 0, 0)), "none": at(), "missed": at((0, 0, 0)), "right": at()}
    found = {"hit": at((0, 600, 800), (0, 0, 5000)), "far": at((0, 0, 1001), (0, 0, 0)), "none": at((1, 1, 1)),
             "missed": at(), "right": at()}  # fmt: skip
    # 1 hit, 2 missed, 1 false: 5 / (5 + 4 * 2 + 1)
    assert public.motor_score(found, truth) == pytest.approx(5 / 14)
    assert public.motor_score({"right": at()}, {"right": at()}) == 0.0


def test_rows_of_semi_supervision_go_on_where_they_stopped(tmp_path, capsys):
    call = [str(tmp_path), "--scale", "tiny", "--labels", "2", "--seeds", "0", "--device", "cpu", "--workers", "1",
            "--rows", "burn-in;picks + both, precise"]  # fmt: skip
    semisupervised.main([*call, "--seconds", "0"])
    assert not list(tmp_path.glob("rows-*")) and len(list((tmp_path / "data").glob("*.npz"))) == 5
    semisupervised.main(call)
    kept = (tmp_path / "rows-2-0.jsonl").read_text()
    assert [json.loads(line)["row"] for line in kept.splitlines()] == ["burn-in", "picks + both, precise"]
    capsys.readouterr()
    semisupervised.main(call)
    assert (tmp_path / "rows-2-0.jsonl").read_text() == kept
    assert "| 2 | picks + both, precise | 1 |" in capsys.readouterr().out


def test_gains_have_an_interval_over_seeds():
    rows = [
        {"labels": 2, "seed": seed, "row": row, **{name: [f1, f1] for name in semisupervised.COLUMNS}}
        for seed, plain, more in ((0, 0.5, 0.54), (1, 0.6, 0.62), (2, 0.4, 0.46))
        for row, f1 in (("supervised", plain), ("picks", more))
    ]
    # Gains 0.04, 0.02, 0.06: mean 0.04, deviation 0.02; t of 2 degrees of freedom is 4.303.
    assert "0.540 ± 0.080 (+0.040, -0.010 to +0.090)" in semisupervised.table(rows)
