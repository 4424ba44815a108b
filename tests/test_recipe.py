import dataclasses
import json

import pytest

from small import recipe
from tomopick import Recipe, recipes
from tomopick.augment import Blur, Flip, Noise
from tomopick.errors import ModelError, RecipeError
from tomopick.networks import UNetSpec
from tomopick.tiling import GaussianWindow, LinearWindow


@pytest.mark.parametrize("name", recipes.names())
def test_json_round_trip(name):
    made = recipes.get(name)
    assert made.name == name and made.source
    again = Recipe.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    changed = made.override(["target.sigmas.ribosome=40", "tiling.window=GaussianWindow", "voxel_spacing=7.84"])
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
        ("tiling.window.floor=0.2", "tiling.window", LinearWindow(0.2)),
        ("augment.intensity=none", "augment.intensity", ()),
        ("augment.intensity=Noise,Blur", "augment.intensity", (Noise(), Blur())),
    ],
)
def test_overrides(text, path, value):
    found = recipes.get("bpd").override([text])
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
        ("train.lr=fast", "TrainSpec.lr cannot be 'fast'; expected float"),
        ("train.steps=1.5", "TrainSpec.steps cannot be '1.5'; expected int"),
        ("train.steps=0", "train.steps is 0; it must be at least 1"),
        ("train.lr=-1", "train.lr is -1; it must be a positive number"),
        ("train.ema_decay=1", "train.ema_decay is 1; it must be from 0 to just below 1"),
        ("train.lr.x=1", "TrainSpec.lr has no parts; write lr=value"),
        ("voxel_spacing.x=1", "Recipe.voxel_spacing has no parts; write voxel_spacing=value"),
        ("patch.shape=32,32", "PatchSpec.shape cannot be '32,32'; expected tuple[int, int, int]"),
        ("tiling.window=Square", "TilingSpec.window cannot be 'Square'; expected LinearWindow or GaussianWindow"),
        ("target=x", "target cannot be 'x'; expected GaussianTarget, or set one of its fields"),
        ("augment.spatial.shear.p=1", "no step 'shear.p'; write STEP.field=value, where STEP is flip, rot90, rotate"),
        ("augment.spatial=Noise", "Augmentation.spatial cannot be 'Noise'; expected Flip or Rot90 or Rotate"),
        ("network.stride=3", "network.stride is 3; it can be 1, 2 or 4"),
        ("network.widths=", "UNetSpec.widths cannot be ''; expected int"),
    ],
)
def test_what_an_override_cannot_be(text, message):
    with pytest.raises(RecipeError) as found:
        recipes.get("bpd").override([text])
    assert str(found.value).startswith(message)
    assert "\n" not in str(found.value)


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
        ({"class": "Method"}, "names the class 'Method', which this version does not know"),
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
    assert all(n % 16 == 0 for n in made.network.widths) or name == "bpd"  # what AMX and tensor cores like
    assert made.network.widths == (28, 32, 36) or name != "bpd"
