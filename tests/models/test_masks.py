"""Masks that a model makes, and picks that keep to them."""

import re

import mrcfile
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import small
from tomopick.cli import main
from tomopick.core.types import PickableObject
from tomopick.data import open_project, read_picks_csv
from tomopick.data.labelled import mask_of
from tomopick.data.runs import Runs
from tomopick.models.masks import MaskOptions, make_masks
from tomopick.picking import placing
from tomopick.picking.placing import model_masks

KINDS = tuple(PickableObject(n, None, i + 1, is_particle=False) for i, n in enumerate(("sample", "gold", "carbon")))


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Of a network whose logits are the grey values, so that what is dark or light is what it marks."""
    made = small.untrained(KINDS)
    network = made.network
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
    head = network.head
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.9, 0.0, 0.0]))  # all is sample, nothing is gold or carbon
    (tmp_path / "model").mkdir()
    made.save(tmp_path / "model")
    placing._ready.cache_clear()
    yield tmp_path / "model"
    placing._ready.cache_clear()  # by the name of a shipped model, too


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_volumes_of_a_folder(tmp_path, model):
    place = small.folder(tmp_path / "in", ("A", "B"), picks=False)
    call = ("mask", model, place, "--out", tmp_path / "masks", "--device", "cpu")
    done = run(*call, "--objects", "sample,gold")
    assert done.exit_code == 0, done.output
    assert "A: sample 100.00%, gold 0.00%" in done.stdout
    with mrcfile.open(tmp_path / "masks" / "sample" / "A.mrc") as file:
        assert file.data.min() == 1 and file.data.shape == (12, 32, 24) and file.voxel_size.x == pytest.approx(20)
        assert file.header.origin.x == pytest.approx(5)  # cells of two voxels
    assert sorted(p.name for p in (tmp_path / "masks").iterdir()) == ["gold", "sample"]
    again = run(*call)
    assert again.exit_code == 2 and "exists already" in again.stderr and not (tmp_path / "masks" / "carbon").exists()
    assert run(*call, "--overwrite").exit_code == 0
    assert "A: sample 0.00%" in run(*call, "--overwrite", "--threshold", "sample=0.95").stdout
    assert "knows no such thing; did you mean 'gold'" in run(*call, "--objects", "golf").stderr
    for cut, why in (
        ("golt=0.4", "--threshold golt=0.4: .* knows no such thing; did you mean 'gold'"),
        ("gold=1.5", "--threshold gold=1.5: heatmaps lie between 0 and 1; choose one there"),
        ("gold=0", "--threshold gold=0: heatmaps lie between 0 and 1"),
        ("carbon=0.4", "--threshold carbon=0.4: carbon is not marked; name it with --objects too, or leave it out"),
    ):
        wrong = run(*call, "--overwrite", "--objects", "sample,gold", "--threshold", cut)
        assert wrong.exit_code == 2 and re.search(why, wrong.stderr), wrong.output
    nowhere = run("mask", model, place, "--device", "cpu")
    assert nowhere.exit_code == 2 and "--out" in nowhere.stderr


def test_masks_of_one_run_that_are_there_leave_the_others_unwritten(tmp_path, model):
    place = small.folder(tmp_path / "in", ("A", "B", "C"), picks=False)
    call = ("mask", model, place, "--out", tmp_path / "masks", "--device", "cpu", "--objects")
    assert run(*call, "sample", "--runs", "B").exit_code == 0
    assert run(*call, "gold", "--runs", "B,C").exit_code == 0
    before = sorted((tmp_path / "masks").rglob("*.mrc"))
    again = run(*call, "sample,gold")
    assert again.exit_code == 2 and sorted((tmp_path / "masks").rglob("*.mrc")) == before
    assert "sample/B.mrc: exists already, and not all masks of C; replace masks with --overwrite, " in again.stderr
    assert "or mark those that have none with --runs A\n" in again.stderr
    assert run(*call, "sample,gold", "--runs", "A").exit_code == 0  # as it was told
    config = small.copick(tmp_path / "copick", ("A", "B"))
    call = ("mask", model, config, "--device", "cpu")
    assert run(*call, "--runs", "B").exit_code == 0
    again = run(*call)
    assert again.exit_code == 2 and "run B: " in again.stderr and "with --runs A\n" in again.stderr
    assert not open_project(config).segmentations("A")


def test_what_is_written_lies_where_it_was_made_whatever_the_tomograms_origin(tmp_path, model):
    place = small.folder(tmp_path / "in", ("A",), picks=False)
    for origin in (0, 1234.5):
        with mrcfile.open(place / "A.mrc", "r+") as file:
            file.header.origin = (origin, -origin, 3 * origin)
        project = open_project(place)
        made = model_masks(str(model), project.tomogram("A"), "cpu")["sample"]
        options = MaskOptions(out=tmp_path / "masks", names=("sample",), device="cpu", overwrite=True)
        list(make_masks(str(model), Runs(project), options))
        read = mask_of(project, "A", str(tmp_path / "masks" / "sample"), project.grid("A"), "inside")
        assert read.grid == made.grid and (read.values == made.values).all()


def test_segmentations_of_a_copick_project(tmp_path, model):
    config = small.copick(tmp_path / "in", ("A",))
    runs = Runs(open_project(config))
    shares = dict(make_masks(str(model), runs, MaskOptions(device="cpu")))
    assert shares["A"]["sample"] == 1 and shares["A"]["gold"] == 0
    found = open_project(config).segmentations("A")
    assert sorted(found) == [f"{name}:tomopick/1@10.000" for name in ("carbon", "gold", "sample")]
    values, grid = found["gold:tomopick/1@10.000"]()
    assert values.max() == 0 and grid == runs.grid("A")
    again = run("mask", model, config, "--device", "cpu")
    assert again.exit_code == 2 and "--session-id" in again.stderr
    # And picks keep to them.
    call = ("pick", small.trained(), config, "--device", "cpu", "--out")
    inside = run(*call, tmp_path / "a", "--inside", "sample")
    outside = run(*call, tmp_path / "b", "--outside", "sample", "--outside", "gold:tomopick/1@10")
    assert (inside.exit_code, outside.exit_code) == (0, 0), inside.output + outside.output
    project = open_project(config)
    assert len(project.picks("A", "*:tomopick/1")) > 5 and len(project.picks("A", "*:tomopick/2")) == 0


def test_clean_picks_lie_in_the_sample_and_on_nothing_else(tmp_path, model, monkeypatch):
    place = small.folder(tmp_path / "in", ("A",), picks=False)
    call = ("pick", small.trained(), place, "--device", "cpu", "--out")
    assert run(*call, tmp_path / "plain").exit_code == 0
    known = {"surroundings": model}
    monkeypatch.setattr("tomopick.picking.load.shipped", lambda: known)
    done = run(*call, tmp_path / "clean", "--clean")
    assert done.exit_code == 0, done.output
    plain, clean = (read_picks_csv(tmp_path / n / "A.csv")[""] for n in ("plain", "clean"))
    np.testing.assert_allclose(clean.positions, plain.positions)
    assert {"distance_sample", "distance_gold", "distance_carbon"} == set(clean.columns)
    made = small.untrained(KINDS)
    with torch.no_grad():
        for p in made.network.parameters():
            p.zero_()
        made.network.head.bias.copy_(torch.tensor([1.0, 1.0, 0.0]))  # all is gold as well
    made.save(model)
    placing._ready.cache_clear()
    done = run(*call, tmp_path / "gold", "--clean")
    assert done.exit_code == 0 and len(read_picks_csv(tmp_path / "gold" / "A.csv")[""]) == 0
