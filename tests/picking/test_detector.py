import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from small import BALL, MODELS, RING, SPACING, copy_of, memory, recipe, tomogram, trained, untrained
from tomopick import Detector, FitOptions, Source, Tomogram, fit
from tomopick.core.errors import ModelError, TomopickError
from tomopick.networks.activations import Sigmoid
from tomopick.networks.losses import FocalTversky
from tomopick.picking.decoders import Components
from tomopick.picking.folder import LearnedFrom, checksum_of, shipped, version_of
from tomopick.picking.load import load_detector, load_model
from tomopick.picking.picker import PickOptions
from tomopick.picking.resample import resample
from tomopick.training.recipe import Recipe


def test_saving_and_loading_gives_the_same_heatmap(tmp_path):
    facts = {
        "tomo_types": ("wbp",), "spectrum": (1.0, -2.5) * 8, "skewness": -0.3, "contrast": {"ball": -1.2},
        "displacement": (0.5, -0.25, 1.0), "displacement_matches": 7, "scores": {"f1": {"ball": 0.1 + 0.2}},
        "learned_from": (LearnedFrom("p", ("A", "B"), ("C",)), LearnedFrom("q", unlabelled=("D",))),
        "provenance": {"seed": 3, "versions": {"torch": "x"}},
    }  # fmt: skip
    made = replace(untrained((BALL, RING), **facts), thresholds={"f1": {"ball": 0.1 + 0.2, "ring": 0.5},
                                                                 "czii": {"ball": 0.05, "ring": 0.06}})  # fmt: skip
    checksum = made.save(tmp_path)
    read = Detector.load(str(tmp_path))
    volume, _ = tomogram()
    assert np.array_equal(read.heatmap(volume).values, made.heatmap(volume).values)
    assert read.heatmap(volume).objects == ("ball", "ring")
    assert (read.method, read.objects, read.facts, read.checksum) == (made.method, made.objects, made.facts, checksum)
    assert read.thresholds == made.thresholds
    again = tmp_path / "again"
    again.mkdir()
    assert read.save(again) == checksum
    for name in ("recipe.json", "weights.safetensors", "detector.json"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("folder", sorted(p.parent for p in MODELS.glob("*/detector.json")), ids=lambda p: p.name)
def test_folders_of_earlier_versions(folder, tmp_path):
    """What an earlier version has written loads for ever, and finds what it found."""
    model = load_model(copy_of(folder, tmp_path / "m"))
    found = model.pick(tomogram("X", 9, objects=model.objects)[0]).picks
    wanted = json.loads((folder / "picks.json").read_text())
    assert sorted(found.names.tolist()) == sorted(row[0] for row in wanted)
    # Other processors round otherwise, which may turn the order of two of nearly one score.
    for name, *position, score in wanted:
        same = np.flatnonzero(found.names == name)
        nearest = same[np.abs(found.positions[same] - position).max(1).argmin()]
        np.testing.assert_allclose(found.positions[nearest], position, atol=0.1)  # [Å], of voxels of 10
        np.testing.assert_allclose(found.scores[nearest], score, atol=2e-3)
    assert sum(p.stat().st_size for p in folder.iterdir()) < 150_000


@pytest.mark.parametrize(("exclusion", "version"), [(0.0, 1), (0.5, 2)])
def test_a_version_that_would_not_heed_exclusion_refuses_the_folder(tmp_path, exclusion, version):
    """And one that need not knows it: before `exclusion` there was version 1 alone."""
    model = untrained()
    replace(model, method=replace(model.method, exclusion=exclusion)).save(tmp_path)
    for name in ("recipe.json", "detector.json"):
        assert json.loads((tmp_path / name).read_text())["format_version"] == version
    assert load_detector(tmp_path).method.exclusion == exclusion


def test_shipped_models_are_of_the_version_that_heeds_what_they_state():
    for folder in shipped().values():
        version = version_of(load_detector(folder).method.exclusion)
        for name in ("recipe.json", "detector.json"):
            assert json.loads((folder / name).read_text())["format_version"] == version


@pytest.mark.parametrize("part", ["recipe.json", "detector.json", "weights.safetensors"])
def test_a_missing_file(tmp_path, part):
    model = copy_of(trained(), tmp_path / "m")
    (model / part).unlink()
    with pytest.raises(ModelError, match=f"m: no model folder: {part} is missing"):
        load_detector(model)


@pytest.mark.parametrize("part", ["recipe.json", "weights.safetensors"])
def test_an_altered_file(tmp_path, part):
    model = copy_of(trained(), tmp_path / "m")
    data = bytearray((model / part).read_bytes())
    if part == "recipe.json":
        data = data.replace(b'"overlap": 8', b'"overlap": 4')
    else:
        data[-3] ^= 1
    (model / part).write_bytes(data)
    with pytest.raises(ModelError, match="was altered since it was written"):
        load_detector(model)


def test_truncated_files(tmp_path):
    model = copy_of(trained(), tmp_path / "m")
    weights = model / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="was altered"):
        load_detector(model)
    _set(model, checksum=checksum_of(model))  # as if somebody had made them so
    with pytest.raises(ModelError, match="not a complete model"):
        load_detector(model)
    about = model / "detector.json"
    about.write_text(about.read_text()[:-30])
    with pytest.raises(ModelError, match=r"detector.json: not valid JSON"):
        load_detector(model)
    about.write_text("[]")
    with pytest.raises(ModelError, match="expected a JSON object"):
        load_detector(model)


def _set(model, **changes):
    path = model / "detector.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, r"detector.json: format_version 99, expected 1 to 2: update tomopick"),
        ({"format_version": None}, r"format_version None, expected 1 to 2: restore the folder"),
        ({"format_version": True}, r"format_version True, expected 1 to 2: restore the folder"),
        ({"colour": "red"}, "detector.json: unknown entry 'colour': update tomopick"),
        ({"facts": {"voxel_spacing": 10, "mood": 1}}, "unknown entry 'mood'"),
        ({"facts": {}}, "no 'voxel_spacing' in it"),
        ({"facts": {"voxel_spacing": "wide"}}, "voxel_spacing is 'wide'; expected a finite number"),
        ({"facts": {"voxel_spacing": 10, "displacement": [0, 0]}}, "displacement is a list; expected a list of 3"),
        ({"facts": {"voxel_spacing": 10, "spectrum": {"a": 1}}}, "spectrum is a table; expected a list"),
        ({"facts": [1]}, "the facts of the training is a list; expected a table"),
        ({"score_maps": {"ball": {"heights": [0, 1], "scores": "x"}}}, "not a map of scores"),
        ({"thresholds": {"f1": {"ball": "high"}, "czii": {"ball": 0.1}}}, "thresholds.f1.ball is 'high'"),
        ({"objects": [{"name": "ball", "radius": "big"}]}, "radius is 'big'; expected a finite number"),
        ({"objects": [{"name": "ball", "radius": 40, "weight": 2}]}, "unknown entry 'weight'"),
        ({"objects": []}, "not a complete model"),
        ({"thresholds": {"f1": {"ball": 0.3}}}, "not a complete model"),
        ({"thresholds": {"f1": {}, "czii": {"ball": 0.1}}}, "not a complete model"),
        ({"checksum": "0"}, "was altered"),
    ],
)
def test_what_detector_json_may_not_hold(tmp_path, changes, message):
    model = copy_of(trained(), tmp_path / "m")
    _set(model, **changes)
    with pytest.raises(ModelError, match=message) as found:
        load_detector(model)
    assert "\n" not in str(found.value) and str(model) in str(found.value)


def _teach(model, **changes):
    """Changes recipe.json as another version would have written it; a dict changes a section in part."""
    path = model / "recipe.json"
    data = json.loads(path.read_text())
    for name, value in changes.items():
        data[name] = data.get(name, {}) | value if isinstance(value, dict) else value
    path.write_text(json.dumps(data, indent=1))
    _set(model, checksum=checksum_of(model))


TAUGHT_ANEW = [
    ({"train": {"momentum": 0.9}}, "TrainSpec has no field 'momentum'"),
    ({"objective": {"class": "SelfDistillation", "temperature": 2.0}}, "names the class 'SelfDistillation'"),
    ({"loss": {"class": "SharpnessAware", "rho": 0.05}}, "names the class 'SharpnessAware'"),
    ({"curriculum": ["easy", "hard"]}, "Recipe has no field 'curriculum'"),
]


@pytest.mark.parametrize(("changes", "message"), TAUGHT_ANEW, ids=["key", "objective", "loss", "section"])
def test_a_model_taught_by_a_newer_version_picks_and_is_not_trained_further(tmp_path, changes, message):
    model = copy_of(trained(), tmp_path / "m")
    _teach(model, **{"activation": {"class": "Rectified"}, "views": "none"} | changes)  # the stored one is older
    found, plain, volume = load_detector(model), load_detector(trained()), tomogram("Z", 9)[0]
    assert np.array_equal(found.pick(volume).picks.scores, plain.pick(volume).picks.scores)
    # A copy says what is not understood as it stands there, and so has the same checksum.
    again = tmp_path / "again"
    again.mkdir()
    assert found.save(again) == found.checksum
    sources = [Source(memory(), val_runs=["C"])]
    for options, out in ((FitOptions("cpu", init_from=str(model)), "new"), (FitOptions("cpu", resume=True), "m")):
        with pytest.raises(ModelError, match=message):
            fit(recipe(), sources, tmp_path / out, options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"attention": True}}, "UNetSpec has no field 'attention'"),
        ({"peaks": {"class": "SubtomogramVotes"}}, "names the class 'SubtomogramVotes'"),
        ({"activation": {"class": "Sparsemax"}}, "names the class 'Sparsemax'"),
        ({"views": "kaleidoscope"}, "views cannot be 'kaleidoscope'"),
        ({"class": "TrainSpec"}, "this is no recipe"),
    ],
)
def test_what_picking_needs_has_to_be_known(tmp_path, changes, message):
    model = copy_of(trained(), tmp_path / "m")
    _teach(model, **changes)
    with pytest.raises(TomopickError, match=message):
        load_detector(model)


def test_a_recipe_without_its_activation_is_read_by_its_loss(tmp_path):
    """As folders were written before activations were; what is written again is what was read."""
    model = copy_of(trained(), tmp_path / "m")
    data = json.loads((model / "recipe.json").read_text())
    assert "activation" not in data and "views" not in data
    data["loss"] = {"class": "FocalTversky", "alpha": 0.3, "beta": 0.7, "gamma": 2.0, "power": 1.33, "eps": 1e-6}
    (model / "recipe.json").write_text(json.dumps(data, indent=1))
    _set(model, checksum=checksum_of(model))
    found = load_detector(model)
    assert found.method.activation == Sigmoid() and found.method.views == "none"
    again = tmp_path / "again"
    again.mkdir()
    assert found.save(again) == found.checksum
    other = replace(found, method=replace(found.method, peaks=Components()))
    other.save(again)
    assert load_detector(again).method == other.method
    assert Recipe.from_json(load_detector(again).recipe_json).loss == FocalTversky()


def test_thresholds_log_and_report_may_change(tmp_path):
    model = copy_of(trained(), tmp_path / "m")
    _set(model, thresholds={"f1": {"ball": 0.7}, "czii": {"ball": 0.2}})
    (model / "log.jsonl").unlink()
    assert load_detector(model).thresholds["f1"]["ball"] == 0.7


def test_no_such_model(tmp_path):
    with pytest.raises(ModelError, match="no model 'defualt': neither a model folder nor a shipped model"):
        load_detector("defualt")
    with pytest.raises(ModelError, match=r"recipe.json is missing"):
        load_detector(tmp_path)


@pytest.mark.skipif("default" not in shipped(), reason="no model ships yet (src/tomopick/models/default)")
def test_the_shipped_model():
    detector = load_detector("default")
    size = sum(p.stat().st_size for p in shipped()["default"].rglob("*"))
    assert size <= 5e6
    assert len(detector.objects) == 6 and all(n % 16 == 0 for n in detector.method.network.widths)
    with pytest.raises(ModelError, match="did you mean 'default'"):
        load_detector("defualt")


# --- voxel spacing and findings ---------------------------------------------------------------------------------------


def test_resampling_beyond_two_per_cent():
    detector = untrained()
    whole = (48, 128, 96)
    volume, _ = tomogram(shape=whole)
    for factor, shape in ((1.019, whole), (1 / 1.019, whole), (1.03, (49, 132, 99)), (0.5, (24, 64, 48))):
        other = Tomogram("A", volume.values, replace(volume.grid, voxel_spacing=SPACING * factor))
        values, grid = detector.prepare(other)
        assert values.shape == grid.shape == shape
        resampled = abs(factor - 1) > 0.02
        assert grid.voxel_spacing == (SPACING if resampled else SPACING * factor)
        lines = [line for line in detector.findings(other, values) if "resampled" in line]
        expected = [f"voxel spacing {SPACING * factor:g} Å resampled to the model's 10 Å"] if resampled else []
        assert lines == expected


@pytest.mark.parametrize("factor", [4.2, 1 / 4.2])
def test_refused_beyond_a_factor_of_four(factor):
    volume, _ = tomogram()
    other = Tomogram("A", volume.values, replace(volume.grid, voxel_spacing=SPACING * factor))
    with pytest.raises(ModelError, match=r"run A: voxel spacing .* was trained at 10 Å; check the spacing"):
        untrained().prepare(other)


def test_the_specimen_lies_where_it_is_whatever_the_spacing():
    detector = untrained()
    volume, _ = tomogram("Z", 9, (48, 96, 96), n=14)
    native, grid = detector.prepare(volume)
    again, other = detector.prepare(resample(volume, 8.0))
    inner = (slice(6, -6),) * 3
    for axis in range(3):
        # Correlation at shifts of -1, 0 and 1 voxel; its parabola peaks where the two volumes lie on each other.
        low, mid, high = (float((np.roll(again, k, axis)[inner] * native[inner]).sum()) for k in (-1, 0, 1))
        peak = 0.5 * (low - high) / (low - 2 * mid + high)
        nominal = (grid.origin[axis] - other.origin[axis]) / grid.voxel_spacing
        assert abs(peak + nominal) < 0.05


def test_inverted_contrast_is_found():
    detector = Detector.load(trained())
    volume, _ = tomogram("Z", 9)
    assert not [f for f in _findings(detector, volume) if "contrast" in f]
    (line,) = [f for f in _findings(detector, replace(volume, values=-volume.values)) if "contrast" in f]
    assert "looks inverted" in line and "`invert=" in line


def test_another_kind_of_tomogram_is_found():
    from scipy import ndimage

    detector = Detector.load(trained())
    volume, _ = tomogram("Z", 9)
    assert _findings(detector, volume) == []
    smooth = replace(volume, values=ndimage.gaussian_filter(volume.values, 2))
    (line,) = [f for f in _findings(detector, smooth) if "spectrum" in f]
    assert "unlike denoised tomograms" in line and "another tomogram type?" in line


def _findings(detector, volume):
    values, _ = detector.prepare(volume)
    return detector.findings(volume, values)


def test_picks_are_those_of_the_whole_heatmap():
    detector = Detector.load(trained())
    volume, _ = tomogram("Z", 9, (24, 96, 48))
    whole = detector.method.peaks(detector.heatmap(volume), detector.objects, detector.thresholds["f1"])
    strips = detector.pick(volume).picks
    assert len(strips) > 5
    assert np.allclose(strips.positions, whole.positions) and np.allclose(strips.scores, whole.scores)
    assert np.all(np.diff(strips.scores) <= 0)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = untrained()
    next(model.network.parameters()).data.view(-1)[0] = float("nan")
    model.save(tmp_path)
    with pytest.raises(ModelError, match="not finite"):
        Detector.load(tmp_path)
    with pytest.raises(ModelError, match=r"run A: the network's answer is not finite"):
        model.pick(tomogram()[0], options=PickOptions(device="cpu", engine="torch", precision="f32"))


def test_what_holds_no_specimen_holds_no_picks():
    volume, truth = tomogram(shape=(24, 64, 64))
    values = volume.values.copy()
    values[:, :, 40:] = 300.0
    filled = Tomogram("A", values, volume.grid)
    model = Detector.load(trained())
    found = model.pick(filled, {"ball": 0.02}).picks
    assert len(found) and filled.void[:, :, 40:].all() and (found.positions[:, 2] < 395).all()
    held = truth.select(truth.positions[:, 2] < 360)
    distances = np.linalg.norm(held.positions[:, None] - found.positions, axis=2).min(axis=1)
    assert (distances < 20).mean() > 0.7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tiling": {"class": "LocalMaxima"}}, "Method.tiling cannot be LocalMaxima; expected TilingSpec"),
        ({"tiling": "none"}, "Method.tiling cannot be str"),
        ({"network": {"class": "ZScore"}}, "Method.network cannot be ZScore"),
        ({"network": {"widths": "wide"}}, "UNetSpec.widths is 'wide'; expected a list"),
        ({"network": {"widths": [8, 10**6]}}, "weights of another network"),
        ({"network": {"stride": "x"}}, "UNetSpec.stride is 'x'; expected a whole number"),
        ({"network": {"stride": 0}}, "not a complete model"),
        ({"name": 7}, "Method.name is 7; expected text"),
        ({"normalize": {"clip": None}}, "RobustNormalization.clip is empty; expected a finite number"),
        ({"voxel_spacing": [1]}, "Method.voxel_spacing is a list"),
    ],
)
def test_sections_of_another_type_are_said(tmp_path, changes, message):
    model = copy_of(trained(), tmp_path / "m")
    recipe_of = json.loads((model / "recipe.json").read_text())
    ((section, value),) = changes.items()
    whole = isinstance(value, dict) and "class" not in value
    recipe_of[section] = recipe_of[section] | value if whole else value
    (model / "recipe.json").write_text(json.dumps(recipe_of))
    _set(model, checksum=checksum_of(model))
    with pytest.raises(ModelError, match=re.escape(message)) as found:
        load_detector(model)
    assert "\n" not in str(found.value)


def test_what_is_hashed_is_what_is_loaded(tmp_path, monkeypatch):
    """Weights that are replaced while the model is loaded are not picked with."""
    model, other = copy_of(trained(), tmp_path / "m"), untrained()
    read = Path.read_bytes

    def replaced(path):
        data = read(path)
        if path.name == "weights.safetensors":
            weights = {k: v.contiguous() for k, v in other.network.state_dict().items()}
            path.write_bytes(save(weights))
        return data

    wanted = load_detector(model).network.state_dict()
    monkeypatch.setattr(Path, "read_bytes", replaced)
    loaded = load_detector(model).network.state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in wanted.items())
