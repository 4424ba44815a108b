"""The families of networks."""

import os
import sys
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tomopick import recipes
from tomopick.core.errors import ModelError, RecipeError
from tomopick.networks import (
    AsymmetricUNetSpec,
    BPDUNetSpec,
    DeepFinderUNetSpec,
    FeaturePyramidSpec,
    FlexibleUNetSpec,
    JPUNet25DSpec,
    ResidualUNetSpec,
    UNet25DSpec,
    UNetSpec,
    VNetSpec,
    count_parameters,
)
from tomopick.networks.blocks import BatchNorm3d, Conv3d, depth_to_space
from tomopick.networks.convnext import ConvNeXt
from tomopick.networks.efficientnet3d import EfficientNet3D
from tomopick.networks.engines import autocast, place
from tomopick.networks.engines.convert import quietly
from tomopick.networks.losses import HeatmapWeightedMSE
from tomopick.networks.pretrained import find_timm, fit_shape, load_pretrained, read_weights
from tomopick.networks.resnet3d import ResNet3D
from tomopick.networks.resnetrs import ResNetRS
from tomopick.networks.unet25d_jpu import Attention, mix_neighbours
from tomopick.recipes.bpd import bpd, light

SPECS = [
    UNetSpec((4, 6, 8)),
    UNetSpec((4, 6, 8), stride=2),
    UNetSpec((4, 6), stride=4),
    UNetSpec((5,), convolutions=1),
    UNetSpec((4, 5, 6, 7), convolutions=1),
]


def built(spec: UNetSpec, n_objects: int = 2) -> torch.nn.Module:
    """With weights and statistics as unlike a fresh network's as training makes them, ready to evaluate."""
    generator = torch.Generator().manual_seed(0)
    network = spec.build(n_objects)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv3d):
                fan = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan) ** 0.5)
            elif isinstance(module, torch.nn.BatchNorm3d):
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
                module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
                module.bias.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
    return network.eval()


def noise(shape, seed=1) -> torch.Tensor:
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spec", SPECS, ids=str)
@torch.inference_mode()
def test_shapes_and_multiple(spec):
    network, m = built(spec, 3), spec.multiple
    assert m == spec.stride * 2 ** (len(spec.widths) - 1)
    for factors in ((1, 1, 1), (1, 2, 3), (3, 2, 2)):  # sufficient
        shape = tuple(m * f for f in factors)
        found = network(noise(shape))
        assert found.shape == (1, 3, *(n // spec.stride for n in shape))
        assert torch.isfinite(found).all()
    for axis in range(3):  # needed: half of it gives no output, or not one that lies on the tile's grid
        shape = [2 * m] * 3
        shape[axis] += m // 2 if m > 1 else 0
        if m == 1:
            continue
        try:
            found = network(noise(shape))
        except RuntimeError:
            continue
        assert tuple(n * spec.stride for n in found.shape[2:]) != tuple(shape)


def test_parameters_of_bpd():
    """By hand, for 6 objects; 27 weights a pair of channels, 2 of BatchNorm a channel, no biases but the head's.

    encoders  1-28 756, 28-28 21168; 32-32 27648 twice; 36-36 34992 twice
    downs     28-32 24192, 32-36 31104
    ups       36-32 31104, 32-28 24192
    decoders  64-32 55296, 32-32 27648; 56-28 42336, 28-28 21168
    norms     2 (28 + 28 + 32 + 32 + 32 + 36 + 36 + 36 + 32 + 32 + 32 + 28 + 28 + 28) = 880
    head      28 x 6 + 6 = 174
    """
    convolutions = 756 + 21168 + 2 * 27648 + 2 * 34992 + 24192 + 31104 + 31104 + 24192 + 55296 + 27648 + 42336 + 21168
    network = bpd().network.build(6)
    assert sum(p.numel() for p in network.parameters()) == convolutions + 880 + 174 == 405298


def test_the_shipped_kind_fits_in_5_megabytes():
    network = light().network.build(6)
    assert all(w % 16 == 0 for w in light().network.widths)
    assert sum(t.numel() * t.element_size() for t in network.state_dict().values()) < 5e6


@pytest.mark.parametrize("spec", SPECS, ids=str)
@torch.inference_mode()
def test_moving_the_volume_by_the_multiple_moves_the_output(spec):
    network, m = built(spec), spec.multiple
    reach = 3 * m * max(1, spec.convolutions) * len(spec.widths)
    n = 2 * -(-reach // m) * m + 4 * m
    shape = (2 * m, 2 * m, n)
    volume = noise(shape)
    moved = torch.roll(volume, m, dims=4)
    here, there = network(volume), network(moved)
    cells, edge = m // spec.stride, reach // spec.stride
    torch.testing.assert_close(there[..., edge + cells : -edge], here[..., edge : -edge - cells], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(there, here, atol=1e-3)


@pytest.mark.parametrize("stride", [2, 4])
@torch.inference_mode()
def test_a_cell_of_the_stem_is_centred_on_its_block(stride):
    """Mirrored weights on a mirrored volume give the mirrored output only where cells sit in the middle of blocks."""
    stem = built(UNetSpec((4,), stride=stride)).stem
    mirrored = built(UNetSpec((4,), stride=stride)).stem
    for module in mirrored.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.weight.copy_(module.weight.flip(2, 3, 4))
    volume = noise((16, 16, 16))
    torch.testing.assert_close(mirrored(volume.flip(2, 3, 4)).flip(2, 3, 4), stem(volume), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_half_precision_changes_little():
    for spec in (UNetSpec((16, 16, 32)), UNetSpec((16, 32), stride=2)):
        network = place(built(spec), torch.device("cpu"))
        with torch.no_grad():
            network.head.bias.fill_(0.3)
        volume = noise((16, 16, 16))
        exact = HeatmapWeightedMSE().activate(network(volume))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = HeatmapWeightedMSE().activate(network(volume))
        assert half.dtype == torch.float32 and exact.std() > 0.02
        assert (half - exact).abs().max() < 0.05
        assert (half - exact).abs().mean() < 0.01


def test_channels_last_changes_nothing():
    network = built(UNetSpec((4, 6)))
    volume = noise((8, 8, 8))
    with torch.inference_mode():
        before = network(volume)
        after = place(network, torch.device("cpu"))(volume)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_every_weight_learns():
    network = UNetSpec((4, 6, 8), stride=2).build(2).train()
    network(noise((16, 16, 16))).square().mean().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not np.any(p.grad.numpy())]
    assert still == []


@pytest.mark.parametrize("wrong", [{"widths": ()}, {"widths": (0, 4)}, {"stride": 3}])
def test_impossible_networks(wrong):
    with pytest.raises(RecipeError, match=r"^network"):
        UNetSpec(**wrong)


# The other families, small.
FAMILIES = [
    AsymmetricUNetSpec(width=0.1),
    AsymmetricUNetSpec(width=0.1, stride=4),
    BPDUNetSpec((4, 5, 6)),
    FlexibleUNetSpec("resnet34", width=0.1),
    FlexibleUNetSpec("resnet34", "transposed", deepest=16, heads=2, width=0.1),
    FlexibleUNetSpec("efficientnet-b3", width=0.2, unused=True),
    FlexibleUNetSpec("efficientnet-b3", "transposed", deepest=16, heads=1, background=False, width=0.2),
    JPUNet25DSpec(width=0.1),
    ResidualUNetSpec((4, 6, 8, 8)),
    ResidualUNetSpec((4, 6), (2,), residual_units=1, background=False),
    UNet25DSpec(width=0.1),
    VNetSpec((4, 5, 6), (1, 2, 2), 3),
    FeaturePyramidSpec(channels=8, width=0.1),
    FeaturePyramidSpec(stride=4, channels=8, width=0.1),
    DeepFinderUNetSpec((4, 5, 6)),
]


@pytest.mark.parametrize(
    ("name", "overrides", "n_objects", "published"),
    [
        ("topcup_released", [], 6, 70_661_724),
        ("topcup_released", ["network.encoder=efficientnet-b3"], 6, 19_265_836),
        ("unet25d_convnext", [], 6, 147_402_697),
        ("soup_released_tiny", [], 6, 1_489_474),
        ("soup_released_medium", [], 6, 4_536_742),
        ("soup_released_big", [], 6, 11_752_774),
        ("bpd_released", [], 5, 350_798),
    ],
)
def test_parameters_of_published_networks(name, overrides, n_objects, published):
    assert count_parameters(recipes.get(name).override(overrides).network, n_objects) == published


def test_parameters_of_published_parts():
    def count(parts):
        return sum(p.numel() for p in parts)

    with torch.device("meta"):
        whole = UNet25DSpec().build(6)
        assert count(ResNet3D().parameters()) == 63_295_808
        assert count(ResNetRS(1).parameters()) == 33_642_336
        used = FlexibleUNetSpec().build(6)
    idle = ("segmentation_heads.0", "segmentation_heads.1", "segmentation_heads.2")
    assert count(p for k, p in used.named_parameters() if not k.startswith(idle)) == 70_556_231
    assert [p.numel() for p in whole.parameters() if not p.requires_grad] == [25]
    assert count(whole.bridges.parameters()) == 29_380_800 and count(whole.head.parameters()) == 98_688


def test_parameters_of_the_networks_that_methods_are_compared_with():
    """By hand, for 6 objects.

    V-Net without norms and activations, 125 weights a pair of channels: down 16 + 2 x 32^2 + 3 x 64^2 + 3 x 128^2 +
    3 x 256^2, up 3 x 256^2 + 3 x 128^2 + 2 x 64^2 + 32^2; 8 a pair: down 16 x 32 + 32 x 64 + 64 x 128 + 128 x 256, up
    256 x 128 + 256 x 64 + 128 x 32 + 64 x 16. DeepFinder: 27 a pair of channels and a bias, 8 a pair behind doublings.
    """
    wide = 16 + 2 * 32**2 + 3 * 64**2 + 3 * 128**2 + 3 * 256**2 + 3 * 256**2 + 3 * 128**2 + 2 * 64**2 + 32**2
    narrow = 16 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 128 + 256 * 64 + 128 * 32 + 64 * 16
    with torch.device("meta"):
        network = VNetSpec().build(6)
    assert sum(p.numel() for p in network.parameters() if p.ndim == 5) == 125 * wide + 8 * narrow + 32 * 6
    fine, middle, bottom = 32 + 32**2, 32 * 48 + 48**2, 48 * 64 + 3 * 64**2
    pairs = fine + middle + bottom + (64 + 48) * 48 + 48**2 + (48 + 32) * 32 + 32**2
    biases = 2 * 32 + 2 * 48 + 4 * 64 + 2 * 48 + 2 * 32 + 64 + 48
    whole = 27 * pairs + 8 * (64**2 + 48**2) + biases + 32 * 7 + 7
    assert count_parameters(DeepFinderUNetSpec(), 6) == whole
    # The pyramid is the encoder of SemiETPicker's network, five convolutions across, one behind and the head.
    encoder = sum(p.numel() for p in ResNet3D(stem="deep", shortcut="B").parameters())
    across = (64 + 64 + 128 + 256 + 512) * 128 + 5 * 128
    assert count_parameters(FeaturePyramidSpec(), 6) == encoder + across + 27 * 128**2 + 128 + 27 * 128 * 6 + 6


@torch.inference_mode()
def test_a_v_net_without_convolutions_hands_the_volume_on():
    """With weights of 0 each level is its input, rectified: what it learns is the rest."""
    network = VNetSpec((2, 3), (1, 1), 3).build(1).eval()
    for name, p in network.named_parameters():
        p.fill_(1.0 if name.endswith("act.weight") else 0.0)
    torch.nn.init.constant_(network.head.weight, 0.25)
    volume = noise((4, 4, 4))
    torch.testing.assert_close(network(volume), 2 * 0.25 * volume)  # 2 channels up 0, the 2 of the skip


@torch.inference_mode()
def test_a_feature_pyramid_sums_its_levels():
    """With the encoder's maps 0 but for biases, every cell has the sum of all levels' biases."""
    network = FeaturePyramidSpec(channels=1, width=0.1).build(1).eval()
    for p in network.parameters():
        p.fill_(0.0)
    for i, across in enumerate(network.across):
        across.bias.fill_(2.0**i)
    network.smooth.weight[0, 0, 1, 1, 1] = network.head.weight[0, 0, 1, 1, 1] = 1.0
    found = network(noise((32, 32, 64)))
    assert found.shape == (1, 1, 16, 16, 32) and torch.equal(found, torch.full_like(found, 31.0))


@torch.inference_mode()
def test_the_deepfinder_network_sees_a_cell_and_the_next_behind_a_doubling():
    network = DeepFinderUNetSpec((1, 1, 1)).build(1)
    up = network.up_fine
    up.conv.weight.fill_(0.0)
    up.conv.bias.fill_(0.0)
    up.conv.weight[0, 0, 0, 0] = torch.tensor([1.0, 10.0])
    line = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 1, 2)
    assert up(line)[0, 0, 0, 0].tolist() == [11.0, 21.0, 22.0, 2.0]


@pytest.mark.parametrize(
    "wrong",
    [lambda: VNetSpec(kernel=4), lambda: VNetSpec((4, 8), (1,)), lambda: FeaturePyramidSpec(stride=1),
     lambda: FeaturePyramidSpec(channels=0), lambda: DeepFinderUNetSpec((4, 8))],
)  # fmt: skip
def test_impossible_networks_of_comparisons(wrong):
    with pytest.raises(RecipeError, match=r"^network\."):
        wrong()


def test_the_largest_network_gives_the_published_pyramid():
    network = place(UNet25DSpec().build(6), torch.device("cpu")).eval()
    with torch.inference_mode():
        maps = network.pyramid(noise((16, 128, 128)))
        sizes = [(80, 4, 32, 32), (160, 2, 16, 16), (320, 1, 8, 8), (640, 1, 4, 4)]
        assert [tuple(m.shape[1:]) for m in maps] == sizes
        assert network(noise((16, 32, 32))).shape == (1, 6, 16, 32, 32)


@torch.inference_mode()
def test_pyramid_of_the_other_25d_network():
    with torch.device("meta"):
        network = JPUNet25DSpec().build(6)
        maps = network.pyramid(torch.zeros(1, 1, 32, 128, 128))
    sizes = [(64, 16, 64, 64), (256, 8, 32, 32), (512, 8, 16, 16), (1024, 8, 8, 8), (2048, 8, 4, 4)]
    assert [tuple(m.shape[1:]) for m in maps] == sizes


@pytest.mark.parametrize("spec", FAMILIES, ids=str)
def test_shapes_of_the_families(spec):
    network, m = spec.build(3), spec.multiple
    n_out = 3 + int(getattr(spec, "background", False))
    network.eval()
    with torch.inference_mode():
        for factors in ((1, 1, 2), (2, 1, 1), (1, 3, 1)):
            shape = tuple(m * f for f in factors)
            found = network(noise(shape))
            assert found.shape == (1, n_out, *(n // spec.stride for n in shape))
            assert torch.isfinite(found).all()
    outputs = network.train()(torch.cat([noise([2 * m] * 3)] * 2))
    heads = getattr(spec, "heads", 1)
    assert isinstance(outputs, tuple) == (heads > 1)
    outputs = outputs if heads > 1 else (outputs,)
    assert [o.shape[2] * spec.stride * 2**i for i, o in enumerate(outputs[::-1])] == [2 * m] * heads


def test_heads_of_topcup():
    network = FlexibleUNetSpec(width=0.1).build(6).train()
    assert [tuple(o.shape) for o in network(torch.zeros(2, 1, 96, 96, 96))] == [
        (2, 7, n, n, n) for n in (6, 12, 24, 48)
    ]


@pytest.mark.parametrize("spec", FAMILIES, ids=str)
def test_every_used_weight_of_the_families_learns(spec):
    torch.manual_seed(2)
    network = spec.build(2).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    side = max(32, 2 * spec.multiple)
    outputs = network(torch.cat([noise([side] * 3, 1), noise([side] * 3, 2)]))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(o.square().mean() for o in outputs).backward()
    still = {k for k, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    unused = ("encoder._conv_head.", "encoder._bn1.", "encoder._fc.", "decoder.blocks.4.")
    idle = {k for k, _ in network.named_parameters() if getattr(spec, "unused", False) and k.startswith(unused)}
    # Instance norm takes out what the biases before it add; a last BatchNorm weight of 0 holds its branch back.
    normed = {k for k in still if isinstance(spec, ResidualUNetSpec) and k.endswith("conv.bias")}
    held = {k for k in still if isinstance(spec, JPUNet25DSpec) and k.startswith("backbone.layer")}
    # So narrow, a channel gate may have no unit that fires.
    held |= {k for k in still if isinstance(spec, JPUNet25DSpec) and ".channel." in k}
    assert still - normed - held == idle


@pytest.mark.parametrize("spec", [UNet25DSpec(width=0.1), JPUNet25DSpec(width=0.1), FAMILIES[5]], ids=str)
def test_channels_last_changes_nothing_in_the_families(spec):
    network, volume = fill(spec.build(2)), noise((32, 32, 32))
    with torch.inference_mode():
        before = network(volume)
        placed = place(network, torch.device("cpu"))
        after = placed(volume)
    assert placed is network
    assert any(p.ndim == 5 and p.is_contiguous(memory_format=torch.channels_last_3d) for p in network.parameters())
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))


@pytest.mark.parametrize("spec", [UNet25DSpec(width=0.1), JPUNet25DSpec(width=0.1)], ids=str)
@torch.inference_mode()
def test_small_tiles_of_the_25d_networks_are_padded(spec):
    network, volume = fill(spec.build(2)), noise((8, 40, 24))
    deeper = 8 if isinstance(spec, UNet25DSpec) else 0  # the other network's depth need only be a multiple of 4
    padded = torch.nn.functional.pad(volume, (0, 8, 0, 24, 0, deeper))
    torch.testing.assert_close(network(volume), network(padded)[:, :, :8, :40, :24])


def fill(network):
    """Weights and statistics that need no random numbers, the same under the same parameter names."""
    with torch.no_grad():
        for k, (name, t) in enumerate(sorted(network.state_dict().items())):
            if not t.is_floating_point():
                continue
            wave = torch.sin(torch.arange(t.numel(), dtype=torch.float64) * 0.7 + k).reshape(t.shape)
            if name.endswith("running_var"):
                value = 1 + 0.5 * wave
            elif t.ndim > 1:
                value = wave * (2 / t[0].numel()) ** 0.5
            else:
                value = 1 + 0.2 * wave if name.endswith("weight") else 0.1 * wave
            t.copy_(value)
    return network.eval()


def waves(*shape):
    return torch.sin(torch.arange(np.prod(shape), dtype=torch.float64) ** 1.5).float().reshape(1, 1, *shape)


@pytest.mark.parametrize(
    ("encoder", "mean", "deviation", "seventh"),
    [("resnet34", 412.891205, 795.747742, 186.784241), ("efficientnet-b3", 0.092489, 0.185211, 0.310061)],
)
@torch.inference_mode()
def test_outputs_of_monai_flexible_unet(encoder, mean, deviation, seventh):
    """MONAI 1.6.1's FlexibleUNet under the same names and numbers, up to its decoder's map at stride 2."""
    network = FlexibleUNetSpec(encoder, unused=True).build(6)
    fill(network.encoder), fill(network.decoder)
    found = network.decoder(network.encoder(waves(32, 32, 64)))[-1]
    assert found.shape == (1, 32, 16, 16, 32)
    facts = [float(found.mean()), float(found.std()), float(found.flatten()[7])]
    np.testing.assert_allclose(facts, [mean, deviation, seventh], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_outputs_of_monai_unet():
    """MONAI 1.6.1's UNet(3, 1, 3, (4, 6, 8, 8), (2, 2, 1), num_res_units=2) under the same names and numbers."""
    found = fill(ResidualUNetSpec((4, 6, 8, 8)).build(2))(waves(8, 12, 16))
    facts = [float(found.mean()), float(found.std()), float(found[0, 1, 2, 3, 4])]
    np.testing.assert_allclose(facts, [0.185977, 2.803742, 8.426401], rtol=1e-4, atol=1e-5)


def test_names_under_which_published_weights_load():
    with torch.device("meta"):
        resnet = FlexibleUNetSpec(unused=True).build(6).state_dict()
        b3 = FlexibleUNetSpec("efficientnet-b3", unused=True).build(6).state_dict()
        soup = ResidualUNetSpec().build(6).state_dict()
        convnext = ConvNeXt(3).state_dict()
        rs = ResNetRS(3).state_dict()
        deep = ResNet3D(stem="deep", shortcut="B").state_dict()
    blocks = [f"encoder.layer{i}.{j}.{part}" for i, n in zip((1, 2, 3, 4), (3, 4, 6, 3)) for j in range(n)
              for part in ("conv1", "bn1", "conv2", "bn2")]  # fmt: skip
    decoder = [
        f"decoder.blocks.{i}.convs.conv_{j}.{part}" for i in range(5) for j in (0, 1) for part in ("conv", "adn.N")
    ]
    others = ["encoder.conv1", "encoder.bn1", *(f"decoder.blocks.{i}.upsample.preconv" for i in range(4)),
              *(f"segmentation_heads.{i}.0" for i in range(4))]  # fmt: skip
    assert {k.rpartition(".")[0] for k in resnet} == {*blocks, *decoder, *others}
    assert len(b3) == 650 and b3["encoder._blocks.5.18._se_reduce.weight"].shape == (34, 816, 1, 1, 1)
    assert b3["encoder._fc.weight"].shape == (1000, 1536) and "encoder._blocks.0.0._expand_conv.weight" not in b3
    assert len(soup) == 49
    assert soup["model.1.submodule.1.submodule.2.0.conv.weight"].shape == (384, 64, 3, 3, 3)
    assert soup["model.1.submodule.1.submodule.1.submodule.conv.unit1.adn.A.weight"].shape == (1,)
    assert convnext["stages.1.downsample.1.weight"].shape == (160, 80, 2, 2)
    assert convnext["stages.2.blocks.7.mlp.fc1.weight"].shape == (1280, 320, 1, 1)
    assert {k.split(".", 4)[4] for k in convnext if k.startswith("stages.0.blocks.0.")} == {
        *("gamma", "conv_dw.weight", "conv_dw.bias", "norm.weight", "norm.bias"),
        *("mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"),
    }
    assert rs["layer2.0.downsample.1.weight"].shape == (512, 256, 1, 1) and "maxpool.0.weight" in rs
    assert rs["layer4.2.se.fc1.weight"].shape == (512, 2048, 1, 1) and rs["conv1.6.weight"].shape == (64, 32, 3, 3)
    assert deep["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1, 1) and deep["conv1.6.weight"].shape[0] == 64


def test_both_gates_of_the_attention_learn():
    torch.manual_seed(0)
    gates, volume = Attention(64), torch.randn(2, 64, 3, 4, 5)
    found = gates(volume)
    found.square().mean().backward()
    assert all(p.grad.any() for p in gates.parameters())
    for gate in (gates.channel[2], gates.voxel):
        torch.nn.init.zeros_(gate.weight), torch.nn.init.zeros_(gate.bias)
    torch.testing.assert_close(gates(volume), volume)  # half from each


def test_mean_over_neighbouring_slices():
    slices = torch.tensor([1.0, 2.0, 6.0, 10.0]).reshape(1, 1, 4, 1, 1).expand(2, 3, -1, 2, 2)
    for z, wanted in ((4, [1.5, 3.0, 6.0, 8.0]), (2, [1.5, 1.5]), (1, [1.0])):
        found = mix_neighbours(slices[:, :, :z])
        torch.testing.assert_close(found, torch.tensor(wanted).reshape(1, 1, z, 1, 1).expand(2, 3, -1, 2, 2))


def test_depth_to_space():
    cells = torch.arange(2 * 64 * 3, dtype=torch.float32).reshape(1, 128, 1, 3, 1)
    found = depth_to_space(cells, 4)
    assert found.shape == (1, 2, 4, 12, 4)
    for c, a, b, d, y in ((0, 0, 0, 0, 0), (1, 3, 2, 1, 2), (0, 1, 3, 0, 1)):
        assert found[0, c, a, 4 * y + b, d] == cells[0, 64 * c + 16 * a + 4 * b + d, 0, y, 0]


@pytest.mark.parametrize(("edge", "depth", "stride"), [(3, 2, 1), (4, 2, 2), (7, 4, 2), (3, 8, 1)])
def test_gradients_of_shallow_volumes_in_half_precision(edge, depth, stride):
    """What oneDNN leaves in memory instead is far off, or no number."""
    for seed in range(4):
        torch.manual_seed(seed)
        conv = Conv3d(16, 16, edge, stride=stride, padding=edge // 2, bias=False)
        volume = torch.randn(2, 16, depth, 6, 6)
        exact = torch.autograd.grad(conv(volume).square().mean(), conv.weight)[0]
        junk = [torch.full_like(conv.weight, torch.nan) for _ in range(3)]
        del junk
        with autocast(torch.device("cpu")):
            found = conv(volume)
        torch.autograd.backward(found.float().square().mean())
        assert (conv.weight.grad - exact).abs().max() < 0.05 * exact.abs().max()


def test_a_2d_kernel_in_three_dimensions():
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(4, 3, 5, 5, generator=generator)
    deep = fit_shape(flat, torch.Size((4, 3, 5, 5, 5)))
    image = torch.randn(1, 3, 9, 9, generator=generator)
    volume = image[:, :, None].expand(-1, -1, 7, -1, -1)
    found = torch.nn.functional.conv3d(volume, deep)
    torch.testing.assert_close(found[:, :, 1], torch.nn.functional.conv2d(image, flat), rtol=1e-4, atol=1e-4)
    # The same image in every channel answers alike, however many there are.
    for n in (1, 5):
        other = fit_shape(flat, torch.Size((4, n, 5, 5)))
        assert other.shape == (4, n, 5, 5)
    torch.testing.assert_close(fit_shape(flat, torch.Size((4, 1, 5, 5)))[:, 0], flat.sum(dim=1))
    assert fit_shape(flat, torch.Size((5, 3, 5, 5))) is None and fit_shape(flat[0, 0, 0], torch.Size((4,))) is None
    assert fit_shape(torch.zeros(4, 64, 1, 1), torch.Size((4, 32, 1, 1))) is None


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_pretrained_encoders(tmp_path, suffix, prefix):
    spec = UNet25DSpec(width=0.1, pretrained=str(tmp_path / f"w.{suffix}"))
    torch.manual_seed(1)
    weights = {prefix + k: torch.randn_like(v) for k, v in ConvNeXt(3, widths=(8, 16, 32, 64)).state_dict().items()}
    weights[prefix + "head.fc.weight"] = torch.zeros(1000, 64)
    if suffix == "pth":
        torch.save({"state_dict": weights}, spec.pretrained)
    else:
        save_file(weights, spec.pretrained)
    network = spec.build(2)
    spec.initialise(network)
    torch.testing.assert_close(network.backbone.stages[2].blocks[3].gamma, weights[prefix + "stages.2.blocks.3.gamma"])
    stem = weights[prefix + "stem.0.weight"]
    torch.testing.assert_close(network.backbone.stem[0].weight[:, 3], stem[:, 0] * 0.6)
    plain = UNetSpec((4, 6)).build(1)
    before = [p.detach().clone() for p in plain.parameters()]
    UNetSpec((4, 6)).initialise(plain)  # has nothing to fill
    assert all(torch.equal(p, b) for p, b in zip(plain.parameters(), before))


def test_pretrained_2d_encoders_are_inflated(tmp_path):
    spec = FlexibleUNetSpec("efficientnet-b3", width=0.2, pretrained=str(tmp_path / "b3.safetensors"))
    ours = EfficientNet3D(0.2).state_dict()
    timm = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    inverted = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
                "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    squeeze = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
    first = (0, 2, 5, 8, 13, 18, 24)
    weights, torch_seed = {}, torch.Generator().manual_seed(3)
    for name, value in ours.items():
        *path, layer, tail = name.split(".")
        if path:
            stage, index = int(path[1]), int(path[2])
            names = (inverted if stage else separable) | squeeze
            renamed = f"blocks.{stage}.{index - first[stage]}.{names[layer]}.{tail}"
        else:
            renamed = f"{timm[layer]}.{tail}"
        shape = value.shape[:2] + value.shape[3:] if value.ndim == 5 else value.shape
        weights[renamed] = torch.randn(shape, generator=torch_seed) if value.is_floating_point() else value
    save_file(weights, spec.pretrained)
    network = spec.build(2)
    spec.initialise(network)
    found = network.encoder.state_dict()
    kernel = weights["blocks.2.1.conv_dw.weight"]
    torch.testing.assert_close(found["_blocks.2.6._depthwise_conv.weight"].sum(dim=2), kernel, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["_blocks.0.0._bn2.running_mean"], weights["blocks.0.0.bn2.running_mean"])
    spec = AsymmetricUNetSpec(width=0.1, pretrained=str(tmp_path / "deep.safetensors"))
    network = spec.build(2)
    flat = {k: v.sum(dim=2) if v.ndim == 5 else v.clone() for k, v in network.encoder.state_dict().items()}
    save_file(flat, spec.pretrained)
    with torch.no_grad():
        network.encoder.layer3[1].conv2.weight.zero_()
    spec.initialise(network)
    again = network.encoder.layer3[1].conv2.weight.sum(dim=2)
    torch.testing.assert_close(again, flat["layer3.1.conv2.weight"], rtol=1e-4, atol=1e-5)


class _Evil:
    def __reduce__(self):
        return os.mkdir, (self.place,)


def test_what_pretrained_weights_cannot_be(tmp_path):
    evil = _Evil()
    evil.place = str(tmp_path / "made")
    torch.save({"weight": evil}, tmp_path / "evil.pth")
    line = (
        r"evil.pth: no weights could be read \(it holds other things than tensors, .*\); expected a .safetensors file"
    )
    with pytest.raises(ModelError, match=line):
        read_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "made").exists()
    with pytest.raises(ModelError, match=r"absent.safetensors: no weights could be read"):
        read_weights(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights at all")
    with pytest.raises(ModelError, match=r"text.safetensors: no weights could be read"):
        read_weights(tmp_path / "text.safetensors")
    (tmp_path / "nothing.pth").touch()  # of which torch says nothing at all
    with pytest.raises(ModelError, match=r"nothing.pth: no weights could be read \(EOFError\); expected"):
        read_weights(tmp_path / "nothing.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ModelError, match=r"empty.pth: holds no tensors by name"):
        read_weights(tmp_path / "empty.pth")
    weights = ConvNeXt(3, widths=(8, 16, 32, 64)).state_dict()
    save_file(weights, tmp_path / "small.safetensors")
    with pytest.raises(ModelError, match=r"stem.0.weight has shape \(8, 3, 4, 4\), not \(16, 5, 4, 4\); expected"):
        load_pretrained(ConvNeXt(5, widths=(16, 16, 32, 64)), tmp_path / "small.safetensors")
    with pytest.raises(ModelError, match=r"conv1.0.weight is missing; expected weights of a ResNetRS"):
        load_pretrained(ResNetRS(1), tmp_path / "small.safetensors")
    weights["stem.0.weight"][0, 0, 0, 0] = torch.nan
    save_file(weights, tmp_path / "nan.safetensors")
    with pytest.raises(ModelError, match=r"nan.safetensors: stem.0.weight holds values that are not finite; fetch"):
        load_pretrained(ConvNeXt(3, widths=(8, 16, 32, 64)), tmp_path / "nan.safetensors")


def test_names_on_hugging_face_without_its_client(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as where it is not installed
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"^timm/convnext_nano.in12k_ft_in1k: no such file; .*install huggingface_hub"):
        read_weights("timm/convnext_nano.in12k_ft_in1k")
    with pytest.raises(ModelError, match=r"^timm/absent.safetensors: no weights could be read"):
        read_weights("timm/absent.safetensors")
    (tmp_path / "timm").mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "timm" / "a.safetensors")
    assert read_weights("timm/a.safetensors")["a"].tolist() == [1, 1]


def test_weights_under_the_names_of_timm(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    name = "convnext_nano.in12k_ft_in1k"
    for wrong in ("convnext_nanolarge.safetensors", "convnext_tiny.pth", "convnext_nano.txt"):
        (tmp_path / wrong).touch()
    with pytest.raises(ModelError, match=r"^timm/convnext_nano.in12k_ft_in1k: no such file"):
        find_timm(name, tmp_path)
    release = tmp_path / "convnext_nano_d1h-7eb4bdea.pth"
    release.touch()
    assert find_timm(name, tmp_path) == release
    (tmp_path / "convnext_nano_in1k.pth").touch()
    with pytest.raises(
        ModelError, match=r"convnext_nano_d1h-7eb4bdea.pth, convnext_nano_in1k.pth may all be convnext_"
    ):
        find_timm(name, tmp_path)
    exact = tmp_path / f"{name}.safetensors"
    exact.touch()
    assert find_timm(name, tmp_path) == exact
    clone = tmp_path / name / "model.safetensors"
    clone.parent.mkdir()
    clone.touch()
    assert find_timm(name, tmp_path) == clone
    with pytest.raises(ModelError, match="no folder; expected one with weights under timm's file names"):
        find_timm(name, tmp_path / "absent")


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        (FlexibleUNetSpec, {"encoder": "resnet18"}),
        (FlexibleUNetSpec, {"upsample": "cubic"}),
        (FlexibleUNetSpec, {"heads": 5}),
        (FlexibleUNetSpec, {"heads": 4, "deepest": 16}),
        (FlexibleUNetSpec, {"width": 0.0}),
        (ResidualUNetSpec, {"widths": (4,)}),
        (ResidualUNetSpec, {"strides": (2, 2)}),
        (ResidualUNetSpec, {"dropout": 1.0}),
        (ResidualUNetSpec, {"residual_units": 0}),
        (BPDUNetSpec, {"widths": (1, 0, 2)}),
        (UNet25DSpec, {"decoder": (1, 2)}),
        (UNet25DSpec, {"width": -1.0}),
        (JPUNet25DSpec, {"joint": 0}),
        (JPUNet25DSpec, {"decoder": (1, 2, 3)}),
        (AsymmetricUNetSpec, {"stride": 1}),
    ],
)
def test_impossible_families(spec, wrong):
    with pytest.raises(RecipeError, match=r"network\.") as found:
        spec(**wrong)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("channels", [20, 28, 36, 48])
def test_a_batch_norm_of_any_number_of_channels_is_the_exact_one_to_half_precisions_rounding(channels):
    torch.manual_seed(0)
    x = 1 + 2 * torch.randn(4, channels, 8, 8, 4)
    x = x.bfloat16().contiguous(memory_format=torch.channels_last_3d)
    slope = torch.randn_like(x)
    found = []
    for norm, dtype in ((BatchNorm3d(channels), torch.bfloat16), (torch.nn.BatchNorm3d(channels), torch.float64)):
        torch.manual_seed(1)
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias)
        norm = norm.double() if dtype == torch.float64 else norm
        given = x.to(dtype).detach().requires_grad_()
        out = norm(given)
        if dtype == torch.bfloat16:
            assert "WideNorm" in type(out.grad_fn).__name__ and out.stride() == x.stride()
            torch.relu_(out)  # as what follows it does
            out.backward(slope)
        else:
            torch.relu(out).backward(slope.double())
        parts = out.detach().relu(), given.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var
        found.append([part.double() for part in parts])
        assert norm.num_batches_tracked == 1
    for part, exact, most in zip(*found, (4e-3, 8e-3, 4e-3, 4e-3, 1e-6, 1e-6)):
        assert (part - exact).norm() <= most * exact.norm()


@pytest.mark.parametrize("change", ["eval", "float32", "contiguous", "full"])
def test_else_a_batch_norm_is_pytorchs(change):
    torch.manual_seed(0)
    channels = 32 if change == "full" else 28
    x = torch.randn(2, channels, 4, 4, 4).contiguous(memory_format=torch.channels_last_3d)
    x = x.contiguous() if change == "contiguous" else x
    x = x if change == "float32" else x.bfloat16()
    ours, plain = BatchNorm3d(channels), torch.nn.BatchNorm3d(channels)
    for norm in (ours, plain):
        norm.train(change != "eval")
    assert torch.equal(ours(x), plain(x))
    assert torch.equal(ours.running_var, plain.running_var)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("name", ["light", "bpd", "topcup", "soup_tiny", "semietpicker", "unet25d_convnext"])
def test_no_slow_loops_for_a_single_small_volume(name: str) -> None:
    network = recipes.get(name).network.build(2).eval()
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, record_shapes=True) as profile, torch.inference_mode():
        network(torch.zeros(1, 1, 32, 32, 32))
    events = profile.key_averages(group_by_input_shape=True)
    kernels = [event.input_shapes[1][2:] for event in events if "slow_conv3d" in event.key]
    assert all(kernel == [1, 1, 1] for kernel in kernels), kernels  # which is a product of matrices, on one thread


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_a_single_small_volume_is_convolved_as_any(stride: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = Conv3d(5, 7, 3, stride=stride, padding=1, bias=bias)
    volume = torch.randn(1, 5, 6, 8, 9)
    with torch.inference_mode():
        found, wanted = conv(volume), torch.nn.functional.conv3d(volume, conv.weight, conv.bias, stride, 1)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    with quietly():
        traced = torch.jit.trace(conv, volume)
    assert "mkldnn" not in str(traced.graph)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 0), (3, 1), (5, 2), ((3, 1, 5), (2, 0, 2)), (3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_channel_by_channel(
    stride: int, kernel: int | tuple[int, int, int], padding: Any, bias: bool
) -> None:
    """Of a depthwise convolution they are those of slices, put together; also where a slice meets padding alone."""
    torch.manual_seed(0)
    conv = Conv3d(6, 6, kernel, stride=stride, padding=padding, groups=6, bias=bias)
    volumes = torch.randn(2, 6, 9, 10, 11, requires_grad=True)
    inputs = [volumes, *conv.parameters()]
    plain = torch.nn.functional.conv3d(volumes, conv.weight, conv.bias, stride, padding, 1, 6)
    slope = torch.randn_like(plain)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        made = conv(volumes)
        found = torch.autograd.grad(made, inputs, slope)
    assert "_ByChannelBackward" in {event.key for event in profile.key_averages()}
    torch.testing.assert_close(made, plain)
    for ours, theirs in zip(found, torch.autograd.grad(plain, inputs, slope)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_gradients_channel_by_channel_of_what_is_wanted_alone() -> None:
    conv = Conv3d(4, 4, 3, groups=4)
    volume = torch.randn(1, 4, 5, 5, 5)
    conv(volume).sum().backward()
    assert conv.weight.grad is not None and volume.grad is None
    frozen = Conv3d(4, 4, 3, groups=4).requires_grad_(False)
    volume.requires_grad_()
    frozen(volume).sum().backward()
    wanted = torch.nn.functional.conv_transpose3d(torch.ones(1, 4, 3, 3, 3), frozen.weight, groups=4)
    torch.testing.assert_close(volume.grad, wanted)
    assert frozen.weight.grad is None
