import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from small import BALL, QUICK, RING, memory, narrowed, recipe, tomogram
from tomopick import Detector, Recipe, Source, fit, recipes
from tomopick.core.errors import ModelError, RecipeError
from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.types import Grid
from tomopick.networks import FlexibleUNetSpec, UNetSpec
from tomopick.networks.activations import Softmax
from tomopick.networks.losses import DenseCrossEntropy, DiceCrossEntropy
from tomopick.picking.decoders import UpsampledMaxima
from tomopick.picking.method import Method
from tomopick.picking.normalize import FixedLimits, RobustNormalization, ZScore
from tomopick.picking.predict import VIEWS
from tomopick.picking.published_tilings import ScanTiles
from tomopick.picking.tiling import GaussianWindow, SteepWindow
from tomopick.training.augment import Blur, Flip, Noise, Rotate, ScaleShift
from tomopick.training.schedules import Plateau
from tomopick.training.targets import BallTarget, VoxelTarget
from trainings import STEPS, brief, fit_until, losses, options, sources


@pytest.mark.parametrize("name", recipes.names())
def test_json_round_trip(name):
    made = recipes.get(name)
    assert made.name == name and made.source
    again = Recipe.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    changes = ["target=GaussianTarget", "tiling=TilingSpec", "tiling.window=GaussianWindow", "voxel_spacing=7.84"]
    changes += ["normalize=FixedLimits", "normalize.high=3", "peaks=Watershed", "train.schedule=StepDecay"]
    changed = made.override(changes).override(["target.sigmas.ribosome=40"])
    assert Recipe.from_json(json.loads(json.dumps(changed.to_json()))) == changed != made


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("train.steps=12", "train.steps", 12),
        ("train.lr=3e-4", "train.lr", 3e-4),
        ("voxel_spacing=10", "voxel_spacing", 10.0),
        ("voxel_spacing=None", "voxel_spacing", None),
        ("name=mine", "name", "mine"),
        ("patch.shape=32,64,96", "patch.shape", (32, 64, 96)),
        ("patch.shape=(32,64,96)", "patch.shape", (32, 64, 96)),
        ("network.widths=16,32", "network.widths", (16, 32)),
        ("target.sigmas.ribosome=40", "target.sigmas", {"ribosome": 40.0}),
        ("peaks.min_distances.virus-like-particle=250", "peaks.min_distances", {"virus-like-particle": 250.0}),
        ("tiling.window=GaussianWindow", "tiling.window", GaussianWindow()),
        ("tiling.window.floor=0.2", "tiling.window", SteepWindow(floor=0.2)),
        ("target=BallTarget", "target", BallTarget()),
        ("network=FlexibleUNetSpec", "network", FlexibleUNetSpec()),
        ("augment.intensity=none", "augment.intensity", ()),
        ("augment.intensity=Noise,Blur", "augment.intensity", (Noise(), Blur())),
    ],
)
def test_overrides(text, path, value):
    found = recipes.get("topcup_released" if "Flexible" in text else "bpd").override([text])
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value and type(found) is type(value)


def test_steps_of_the_augmentation_by_name_and_number():
    made = recipes.get("bpd").override(["augment.spatial.flip.axes=x", "augment.intensity.2.sigma=0.7"])
    assert made.augment.spatial[0] == Flip("x")
    assert made.augment.intensity[2] == Noise(sigma=0.7)
    assert made.augment.spatial[1:] == recipes.get("bpd").augment.spatial[1:]


def test_overrides_are_applied_together():
    made = recipes.get("bpd").override(
        ["network.widths=8,16,24,32,40", "patch.shape=64,64,64", "train.lr=1", "train.lr=2"]
    )
    assert made.network == UNetSpec((8, 16, 24, 32, 40)) and made.train.lr == 2
    # Neither half would do alone.
    made = recipes.get("bpd").override(["patch.shape=6,6,6", "network.widths=8,16", "tiling.shape=32,32,32"])
    assert made.patch.shape == (6, 6, 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.lrr=1", "TrainSpec has no field 'lrr'; did you mean 'lr'?"),
        ("trian.lr=1", "Recipe has no field 'trian'; did you mean 'train'?"),
        ("lr=1", "Recipe has no field 'lr'; did you mean 'train.lr'?"),
        ("train.lr", "'train.lr' is not an override; write section.field=value, for example train.lr=3e-4"),
        ("train.lr=fast", "TrainSpec.lr cannot be 'fast'; expected a number"),
        ("train.steps=1.5", "TrainSpec.steps cannot be '1.5'; expected a whole number"),
        ("train.steps=0", "train.steps is 0; it must be at least 1"),
        ("train.lr=-1", "train.lr is -1; it must be a positive number"),
        ("train.ema_decay=1", "train.ema_decay is 1; it must be from 0 to just below 1"),
        ("train.lr.x=1", "TrainSpec.lr has no parts; write lr=value"),
        ("voxel_spacing.x=1", "Recipe.voxel_spacing has no parts; write voxel_spacing=value"),
        ("patch.shape=32,32", "PatchSpec.shape cannot be '32,32'; expected 3 whole numbers with commas between"),
        ("tiling.window=Square", "TilingSpec.window cannot be 'Square'; expected LinearWindow or SteepWindow or Gauss"),
        (
            "target=x",
            "target cannot be 'x'; expected GaussianTarget or FixedGaussianTarget or BallTarget or VoxelTarget",
        ),
        ("augment.spatial.shear.p=1", "no step 'shear.p'; write STEP.field=value, where STEP is flip, rot90, rotate"),
        ("augment.spatial=Noise", "Augmentation.spatial cannot be 'Noise'; expected Flip or Rot90 or Rotate"),
        ("network.stride=3", "network.stride is 3; it can be 1, 2 or 4"),
        ("network.widths=", "UNetSpec.widths cannot be ''; expected a whole number"),
    ],
)
def test_what_an_override_cannot_be(text, message):
    with pytest.raises(RecipeError) as found:
        recipes.get("bpd").override([text])
    assert str(found.value).startswith(message)
    assert "\n" not in str(found.value)


def test_the_activation_is_the_losses():
    made = recipes.get("bpd_released").override(["loss=DiceCrossEntropy", "loss.background=last"])
    assert made.activation == Softmax("last") and made.method.activation == Softmax("last")
    with pytest.raises(RecipeError, match="Recipe has no field 'activation'"):
        made.override(["activation=Sigmoid"])


@pytest.mark.parametrize("name", recipes.names())
def test_a_method_is_what_picking_needs_of_a_recipe(name):
    made = recipes.get(name)
    assert Method.from_json(made.to_json()) == Method.from_json(made.method.to_json()) == made.method
    with pytest.raises(ModelError, match="says how to pick and not how it was taught"):
        Recipe.from_json(made.method.to_json())


@pytest.mark.parametrize("section", ["patch", "tiling"])
def test_shapes_must_be_multiples(section):
    with pytest.raises(RecipeError, match=rf"{section}.shape is 64,64,63; every edge must be a multiple of 4"):
        recipes.get("bpd").override([f"{section}.shape=64,64,63"])


def test_unknown_recipe():
    with pytest.raises(RecipeError, match=r"no recipe 'bdp'; did you mean 'bpd'\?"):
        recipes.get("bdp")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "Way"}, "names the class 'Way', which this version does not know"),
        ({"extra": 1}, "Recipe has no field 'extra'"),
    ],
)
def test_json_of_a_newer_version(change, message):
    with pytest.raises(ModelError, match=message):
        Recipe.from_json(recipe().to_json() | change)
    with pytest.raises(ModelError, match="this is no recipe"):
        Recipe.from_json(recipe().to_json()["train"])


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_are_values(name):
    made = recipes.get(name)
    assert made == recipes.get(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "other"


def test_widths():
    assert recipes.get("bpd").network == UNetSpec((28, 32, 36))
    # What AMX and tensor cores like.
    for name in ("light", "soup_tiny", "soup_medium", "soup_large"):
        assert all(n % 16 == 0 for n in recipes.get(name).network.widths)


def test_released_recipes_do_what_the_code_does():
    """Constants of the published code, which the recipes name as their sources."""
    topcup, soup, bpd = (recipes.get(name) for name in ("topcup_released", "soup_released_tiny", "bpd_released"))
    assert topcup.normalize == soup.normalize == recipes.get("unet25d_convnext").normalize == ZScore()
    assert bpd.normalize == FixedLimits(-1.1769942479337e-05, 1.2801160441345688e-05)
    assert topcup.tiling == ScanTiles((96, 96, 96), 0.21) and topcup.tiling.of_logits and soup.tiling.of_logits
    assert soup.tiling.plan((184, 630, 630), 4) == ((160, 384, 384), ([0, 24], [0, 246], [0, 246]))
    assert topcup.peaks == UpsampledMaxima(refined=False) and bpd.peaks.connectivity == 18
    assert bpd.peaks.min_cells_of["ribosome"] == 18.246 and soup.peaks.min_cells_of["virus-like-particle"] == 1150.3
    for name in ("unet25d_convnext", "unet25d_resnetrs"):  # a kernel of seven voxels
        assert recipes.get(name).peaks.radius_cells(CZII_OBJECTS[3], Grid((8, 8, 8), 10.012)) == 3
    assert topcup.augment.spatial[-1] == Rotate(0.0, 44.7, 0.0, 0.5, "x")
    assert soup.train.schedule == Plateau() and recipes.get("bpd").normalize == RobustNormalization()


def test_bpd_trains_as_its_model_card_says():
    bpd = recipes.get("bpd_released")
    radii = {o.name: bpd.target.radius(o) / 10 for o in CZII_OBJECTS}  # voxels of 10 Å
    assert radii == pytest.approx({o.name: 0.8 * np.log2(o.radius_angstrom) for o in CZII_OBJECTS}, abs=0.01)
    assert bpd.train.steps * bpd.train.batch_size == 35 * 1024
    assert bpd.train.lr == 1e-4 and bpd.train.weight_decay == 0
    assert not any(isinstance(step, Rotate) for step in bpd.augment.spatial)
    assert bpd.augment.intensity == (ScaleShift(0.03, 0.03, 1.0),)


def test_views_belong_to_the_method():
    published = {"bpd": 7, "bpd_released": 7, "topcup": 2, "topcup_released": 2, "semietpicker": 4}
    published |= {name: 4 for name in recipes.names() if name.startswith("soup")}
    assert {n: len(VIEWS[recipes.get(n).views]) for n in recipes.names()} == dict.fromkeys(
        recipes.names(), 1
    ) | published
    assert Recipe.from_json(recipes.get("bpd").to_json()).method.views == "turns"


def test_semietpicker_picks_by_a_window_of_half_a_radius_and_nothing_else():
    peaks = recipes.get("semietpicker").peaks
    grids = {stride: Grid((8, 8, 8), 10.0 * stride) for stride in (1, 2)}
    edges = {s: [2 * peaks.radius_cells(o, grid) + 1 for o in CZII_OBJECTS] for s, grid in grids.items()}
    assert edges == {1: [3, 3, 5, 7, 7, 7], 2: [3] * 6}
    assert not any(peaks.distance(o) for o in CZII_OBJECTS)


def test_described_and_released_methods_are_there():
    described = {"bpd", "soup_tiny", "soup_medium", "soup_large", "topcup", "unet25d_convnext", "unet25d_resnetrs"}
    released = {"bpd_released", "soup_released_tiny", "soup_released_medium", "soup_released_big", "topcup_released"}
    assert {"light", "semietpicker"} | described | released == set(recipes.names())
    assert recipes.get("soup_released_tiny").loss == DiceCrossEntropy(background="first")
    topcup = recipes.get("topcup_released").override(["loss.head_weights=0,0,1,1", "loss.particle=64"])
    assert topcup.loss == DenseCrossEntropy(64.0, 1.0, "last", head_weights=(0.0, 0.0, 1.0, 1.0))
    assert topcup.target == VoxelTarget() and topcup.network.heads == 4


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "bpd",
            ["loss=DenseCrossEntropy"],
            "loss DenseCrossEntropy needs a channel for the background, but network UN",
        ),
        ("topcup_released", ["network.background=false"], "loss DenseCrossEntropy needs"),
        ("topcup_released", ["loss=HeatmapWeightedMSE"], "loss HeatmapWeightedMSE has no channel for the background"),
        ("topcup_released", ["patch.shape=96,96,80"], "patch.shape is 96,96,80; every edge must be a multiple of 32"),
        ("topcup", ["tiling.shape=96,96,90"], "tiling.shape is 96,96,90; every edge must be a multiple of 16"),
        (
            "unet25d_convnext",
            ["patch.shape=16,128,100"],
            "patch.shape is 16,128,100; every edge must be a multiple of 8",
        ),
        ("unet25d_convnext", ["network.width=0"], "network.width is 0; it must be a positive factor"),
        ("semietpicker", ["network.stride=1"], "network.stride is 1; it can be 2 or 4"),
        ("unet25d_convnext", ["objective.mixup=2"], "objective.mixup is 2; it must be from 0 to 1"),
        ("unet25d_convnext", ["objective.mixup_alpha=0"], "objective.mixup_alpha is 0; it must be a positive number"),
        ("bpd", ["network=ConvNeXt"], "network cannot be 'ConvNeXt'; expected UNetSpec or BPDUNetSpec or"),
    ],
)
def test_parts_that_do_not_fit_together(name, changes, message):
    with pytest.raises(RecipeError) as found:
        recipes.get(name).override(changes)
    assert str(found.value).startswith(message) and "\n" not in str(found.value)


# Weights alone decide: the fastest engine rounds to half precision, and may share out its threads in another way.
EXACT = {"engine": "torch", "precision": "f32", "device": "cpu"}


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_trains_picks_and_comes_back(name, tmp_path):
    back = Detector.load(brief(name))
    assert np.isfinite(losses(brief(name))).all() and len(losses(brief(name))) == STEPS
    method = Recipe.from_json(back.recipe_json)
    assert back.method == method.method
    changed = {"voxel_spacing": back.facts.voxel_spacing, "train": method.train}
    assert method == dataclasses.replace(recipes.get(name).override(narrowed(name)), **changed)
    (tmp_path / "again").mkdir()
    assert back.save(tmp_path / "again") == back.checksum
    volume = tomogram("X", 9)[0]
    found = back.heatmap(volume, **EXACT)
    assert found.values.shape == (1, *(n // method.network.stride for n in volume.grid.shape))
    assert np.isfinite(found.values).all() and found.values.min() >= 0
    np.testing.assert_array_equal(found.values, Detector.load(tmp_path / "again").heatmap(volume, **EXACT).values)
    picks = back.pick(volume, thresholds={"ball": float(np.quantile(found.values, 0.9))}).picks
    assert set(picks.names) <= {"ball"} and np.isfinite(picks.positions).all()


# What decides whether a training goes on exactly is its objective and its random numbers, not the network: one recipe
# that is supervised, one with two networks, one that mixes patches; the others take their time.
QUICKLY = ("light", "semietpicker", "unet25d_convnext")


@pytest.mark.parametrize(
    "name", [n if n in QUICKLY else pytest.param(n, marks=pytest.mark.slow) for n in recipes.names()]
)
def test_every_recipe_resumes_exactly(name, tmp_path, told):
    method = recipes.get(name).override(narrowed(name))
    made = fit(method, sources(method), tmp_path / "whole", options())
    fit_until(2, method, tmp_path / "cut")
    fit(method, sources(method), tmp_path / "cut", options(resume=True))
    assert "resumes at step 2 of 3" in told
    mine, wanted = (load_file(tmp_path / out / "weights.safetensors") for out in ("cut", "whole"))
    assert all(torch.equal(mine[k], wanted[k]) for k in wanted)
    back = Detector.load(tmp_path / "whole")
    assert (back.method, back.recipe_json) == (made.method, made.recipe_json)
    volume = tomogram("X", 9)[0]
    np.testing.assert_array_equal(back.heatmap(volume, **EXACT).values, made.heatmap(volume, **EXACT).values)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("topcup_released", ["network.width=0.1", "patch.shape=32,32,32"]),
        ("bpd_released", ["network.widths=12,16,16", "patch.shape=24,24,24", "train.lr=1e-2", "train.batch_size=4"]),
        pytest.param("bpd_released", ["network.widths=12,16,16", "patch.shape=24,24,24", "train.lr=1e-2",
                                      "train.batch_size=4", "loss=DiceCrossEntropy"], marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_softmax_recipes_learn_to_tell_objects_from_nothing(name, more, tmp_path):
    """The objects' own maps rise where they are, whichever side the background lies on."""
    steps = ["train.steps=90", "train.validate_every=90", "train.lr=3e-3", "train.warmup_steps=5",
             "train.ema_decay=0.5", "augment.spatial=Flip", "patch.around_particles=1"]  # fmt: skip
    method = recipes.get(name).override([*QUICK, *steps, *more, "target=BallTarget"])
    project = memory(objects=(BALL, RING))
    made = fit(method, [Source(project, val_runs=["C"])], tmp_path / "model", options())
    volume, truth = tomogram("X", 9, objects=(BALL, RING))
    found = made.heatmap(volume)
    cells = np.rint(found.grid.indices(truth.positions)).astype(int)
    for channel, own in enumerate(made.objects):
        at = found.values[channel][tuple(cells[truth.names == own.name].T)]
        assert at.mean() > 1.5 * found.values[channel].mean(), own.name
