"""The families of networks."""

import numpy as np
import pytest
import torch

from tomopick.engines import place
from tomopick.errors import RecipeError
from tomopick.losses import HeatmapWeightedMSE
from tomopick.networks import UNetSpec
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
    with pytest.raises(RecipeError, match=r"network\."):
        UNetSpec(**wrong)
