"""Starting from another model: channels follow their object, in networks of every family."""

import sys

import pytest
import torch
from safetensors.torch import save_file

from small import BALL, RING, memory
from telling import heard
from tomopick import Detector, FitOptions, PickableObject, Source, fit, recipes
from tomopick.core.errors import ModelError
from tomopick.picking.folder import TrainingFacts
from tomopick.training.transfer import channel_axes, imagenet_weights, like, take_over

CUBE = PickableObject("cube", 50.0)
NARROW = {
    "bpd": ["network.widths=4,8"],
    "bpd_released": [],
    "soup_large": ["network.widths=4,4,4,4,4"],
    "soup_released_tiny": ["network.widths=4,8,8,8"],
    "topcup": ["network.width=0.05"],
    "topcup_released": ["network.width=0.05"],
    "unet25d_convnext": ["network.width=0.05"],
    "unet25d_resnetrs": ["network.width=0.05"],
    "semietpicker": ["network.width=0.05"],
}


def detector(recipe, objects, seed=0):
    torch.manual_seed(seed)
    network, facts = recipe.network.build(len(objects)).eval(), TrainingFacts(10.0)
    return Detector(recipe.method, objects, network, {}, facts, name="old", recipe_json=recipe.to_json())


def started(recipe, objects, start):
    torch.manual_seed(1)
    network = recipe.network.build(len(objects)).eval()
    with heard() as told:
        take_over(network, recipe, objects, start)
    return network, told


@torch.no_grad()
def heat(recipe, network):
    edge = max(32, recipe.network.multiple)
    x = torch.randn(1, 1, edge, edge, edge, generator=torch.Generator().manual_seed(0))
    return network(x)


@pytest.mark.parametrize("name", sorted(NARROW))
def test_objects_keep_their_channels_in_another_order(name):
    recipe = recipes.get(name).override(NARROW[name])
    old = detector(recipe, (BALL, RING))
    new, told = started(recipe, (RING, BALL), old)
    before, after = (recipe.loss.activate(heat(recipe, n)) for n in (old.network, new))
    torch.testing.assert_close(after[:, [1, 0]], before, atol=1e-5, rtol=1e-4)
    assert told == ["starts from old; heads kept: ring, ball; new: none"]


@pytest.mark.parametrize("name", sorted(set(NARROW) - {"soup_released_tiny"}))  # its last layer mixes the channels
def test_a_new_object_leaves_the_others_alone(name):
    recipe = recipes.get(name).override(NARROW[name])
    old = detector(recipe, (BALL, RING))
    new, told = started(recipe, (CUBE, RING), old)
    first = int(getattr(recipe.loss, "background", "") == "first")
    torch.testing.assert_close(
        heat(recipe, new)[:, first + 1], heat(recipe, old.network)[:, first + 1], atol=1e-5, rtol=1e-4
    )
    assert told == ["starts from old; heads kept: ring; new: cube"]


def test_a_background_keeps_its_channel_wherever_it_lies():
    first = recipes.get("bpd_released")
    last = first.override(["loss.background=last"])
    old = detector(first, (BALL, RING))
    new, _ = started(last, (BALL, RING), old)
    before, after = first.loss.activate(heat(first, old.network)), last.loss.activate(heat(last, new))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)


def test_what_depends_on_the_number_of_objects():
    shuffled = recipes.get("unet25d_convnext").override(NARROW["unet25d_convnext"])
    assert channel_axes(shuffled, 2) == {"head.weight": (64, 0, 0, 0, 0), "head.bias": (64,)}
    four = recipes.get("topcup_released").override(NARROW["topcup_released"])
    assert len(channel_axes(four, 2)) == 8  # four heads


@pytest.mark.parametrize("other", [["network.widths=4,16"], ["network.widths=4"], ["network.convolutions=1"]])
def test_another_network_is_refused(other):
    recipe = recipes.get("bpd").override(NARROW["bpd"])
    start = detector(recipes.get("bpd").override(other), (BALL,))
    with pytest.raises(ModelError, match=r"old: its network .* is another than this recipe's"):
        started(recipe, (BALL,), start)


def test_a_start_decides_the_spacing_and_warns_of_other_grey_values(told):
    recipe = recipes.get("bpd").override(NARROW["bpd"])
    assert like(recipe, detector(recipe, (BALL,))).voxel_spacing == 10.0
    own = recipe.override(["voxel_spacing=12", "normalize=ZScore"])
    assert like(own, detector(recipe, (BALL,))) == own
    assert told[0] == "at 10 Å, as old was trained" and "another normalisation" in told[1]


def test_a_recipe_starts_from_the_weights_that_it_names_or_says_loudly_that_it_does_not(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    recipe = recipes.get("topcup").override(
        ["patch.shape=32,32,32", "tiling.shape=32,32,32", "tiling.overlap=0", "train.steps=1",
         "train.validate_every=1", "train.batch_size=2", "train.lr=1e-12", "train.ema_decay=0"]
    )  # fmt: skip
    state = recipe.network.build(1).encoder.state_dict()
    flat = {name: (w.sum(dim=2) if w.ndim == 5 else w).contiguous() for name, w in state.items()}
    save_file(flat, tmp_path / "efficientnet_b3_ra2-cf984f9c.safetensors")
    source = Source(memory(("A", "B")), val_runs=())
    made = fit(recipe, [source], tmp_path / "m", FitOptions("cpu", weights_folder=str(tmp_path)))
    stem = made.network.encoder.state_dict()["_conv_stem.weight"]
    torch.testing.assert_close(stem.sum(dim=2), flat["_conv_stem.weight"], rtol=1e-4, atol=1e-5)
    assert "RANDOM" not in caplog.text
    fit(recipe, [source], tmp_path / "n", FitOptions("cpu"))
    assert "topcup starts from RANDOM weights" in caplog.text and "`weights_folder`" in caplog.text
    caplog.clear()
    fit(recipe.override(["imagenet=none"]), [source], tmp_path / "o", FitOptions("cpu"))
    assert "RANDOM" not in caplog.text
    with pytest.raises(ModelError, match="no folder"):
        fit(recipe, [source], tmp_path / "p", FitOptions("cpu", weights_folder=str(tmp_path / "absent")))
    assert not (tmp_path / "p" / "recipe.json").exists()


def test_weights_of_another_network_than_the_recipe_has_by_now(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    save_file({"conv_stem.weight": torch.ones(4, 3, 3, 3)}, tmp_path / "efficientnet_b3-a.safetensors")
    own = recipes.get("topcup").override(["network.encoder=resnet34", "patch.shape=32,32,32", "train.steps=1"])
    with pytest.raises(
        ModelError, match=r"is missing; .* calls `imagenet` \(efficientnet_b3.ra2_in1k\): .*imagenet=none"
    ):
        fit(own, [Source(memory(("A", "B")))], tmp_path / "m", FitOptions("cpu", weights_folder=str(tmp_path)))
    assert not (tmp_path / "m").exists()


def test_which_imagenet_weights_a_new_network_looks_for():
    """One of its own for each family of a plan; none where they would not fit, or were named, or are not wanted."""
    names = {name: imagenet_weights(recipes.get(name)) for name in recipes.names()}
    assert {k: v for k, v in names.items() if v} == {
        "topcup": "efficientnet_b3.ra2_in1k", "unet25d_convnext": "convnext_nano.in12k_ft_in1k",
        "unet25d_resnetrs": "resnetrs50.tf_in1k",
    }  # fmt: skip
    for override in ("imagenet=none", "network.width=0.5", "network.pretrained=a.pth"):
        assert imagenet_weights(recipes.get("topcup").override([override])) == ""
