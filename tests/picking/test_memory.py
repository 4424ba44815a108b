"""How far networks see, and what tiles are planned from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from small import recipe, trained, untrained
from tomopick import Detector
from tomopick.core.types import Grid
from tomopick.picking.memory import bytes_per_voxel, free_memory, left_by_groups, means, reach
from tomopick.picking.predict import predict_rows
from tomopick.picking.rows import join_rows
from tomopick.picking.tiling import LargestTiles, Means, SteepWindow, TilingSpec


def along_each(weights: torch.Tensor, outputs: int = 1) -> nn.Sequential:
    """A convolution with the same (n,) weights along z, y and x, one axis after the other."""
    made = nn.Sequential()
    for axis in range(3):
        shape, padding = [1, 1, 1], [0, 0, 0]
        shape[axis], padding[axis] = len(weights), len(weights) // 2
        conv = nn.Conv3d(1, outputs if axis == 2 else 1, tuple(shape), padding=tuple(padding), bias=False)
        with torch.no_grad():
            conv.weight.copy_(weights.view(1, 1, *shape))
        made.append(conv)
    return made.eval()


def box(width: int) -> nn.Module:
    """The mean of a cube around each voxel."""
    return along_each(torch.full((width,), 1 / width), 2)


@pytest.mark.parametrize("width", [1, 3, 9, 15])
def test_a_cube_sees_half_its_width(width):
    assert reach(box(width), 1, 1) == width // 2
    assert reach(box(width), 4, 1) == -(-(width // 2) // 4) * 4  # whole multiples


def test_an_axis_that_sees_farther_counts():
    network = nn.Conv3d(1, 1, (1, 1, 21), padding=(0, 0, 10), bias=False)
    nn.init.constant_(network.weight, 1 / 21)
    assert reach(network, 1, 1) == 10


def test_what_hardly_counts_is_out_of_sight():
    network = along_each(torch.exp(-0.5 * (torch.arange(-10, 11) / 2.0) ** 2))
    assert 3 <= reach(network, 1, 1) <= 5  # two deviations, of ten that it has


def test_stride_counts_in_voxels():
    network = nn.Sequential(nn.AvgPool3d(2), box(1))
    assert reach(network, 2, 2) == 0
    network = nn.Sequential(nn.AvgPool3d(2), nn.Conv3d(1, 1, 5, padding=2))
    assert reach(network, 2, 2) == 4


def test_nothing_is_farther_than_the_block():
    class Everywhere(nn.Conv3d):
        def forward(self, x):
            return super().forward(x) * 0 + x - x.mean() * 1000 * x.shape[-1]

    assert reach(Everywhere(1, 1, 1), 8, 1) == 64


def test_memory_of_a_network_by_hand():
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 8, 3, padding=1), nn.Conv3d(8, 1, 1))
    # The four largest: 8 and 8 (written, read), 4 and 4 channels of float32.
    assert bytes_per_voxel(network, 4) == 4 * (8 + 8 + 4 + 4)
    assert bytes_per_voxel(network.bfloat16().float(), 4) == 4 * 24


def test_means_follow_the_network():
    narrow, wide = (box(1), nn.Sequential(nn.Conv3d(1, 16, 1), nn.Conv3d(16, 2, 1)))
    small, large = (means(n, 8, 1, 2, torch.device("cpu")) for n in (narrow, wide))
    assert small.tile > 2 * large.tile > 0 and small.strip == large.strip
    six = means(narrow, 8, 1, 6, torch.device("cpu"))
    assert six.strip == pytest.approx(small.strip / 3, rel=1e-3)
    assert six.tile * bytes_per_voxel(narrow, 8) < free_memory()


def test_a_detector_plans_with_its_network():
    detector = untrained()
    fixed = detector.predictor("cpu").tiling
    assert fixed == TilingSpec((32, 32, 32), 8, SteepWindow())
    free = replace(detector, method=recipe("tiling.shape=none", "tiling.overlap=none").method)
    planned = free.predictor("cpu").tiling
    assert isinstance(planned, LargestTiles)
    spec = detector.method.network
    assert planned.means.overlap == reach(detector.network, spec.multiple, spec.stride)


def test_planned_tiles_predict_what_one_tile_does():
    """At a network's reach, what little a border changes is not much more than rounding."""
    detector = Detector.load(trained())
    spec = detector.method.network
    values = np.random.default_rng(0).standard_normal((16, 120, 48), dtype=np.float32)
    grid, made = Grid(values.shape, 10.0), detector.predictor("cpu")
    overlap = reach(detector.network, spec.multiple, spec.stride)
    assert 0 < overlap <= 32

    def heat(tiling):
        return join_rows(predict_rows(replace(made, tiling=tiling), "A", values, grid)).values

    whole = heat(LargestTiles(Means(0, 10**9, 10**9)))
    tiled = LargestTiles(Means(overlap, 16 * 64 * 48, 10**9), SteepWindow())
    assert np.prod([len(axis) for axis in tiled.plan(values.shape, spec.multiple)[1]]) >= 3
    error, bare = (np.abs(heat(t) - whole).mean() for t in (tiled, LargestTiles(Means(0, 16 * 64 * 48, 10**9))))
    assert error < 0.2 * bare


def test_the_limits_of_containers_and_batch_systems_count(tmp_path):
    own, root = tmp_path / "cgroup", tmp_path / "groups"
    assert left_by_groups(own, root) == float("inf")  # another system
    own.write_text("4:memory:/x\n0::/job/step\n")
    assert left_by_groups(own, root) == float("inf")
    for name, limit in (("", "max"), ("job", "1000"), ("job/step", "max")):
        (root / name).mkdir(exist_ok=True)
        for file, text in (("max", limit), ("current", "900"), ("stat", "anon 600\ninactive_file 250\nfile 300")):
            (root / name / f"memory.{file}").write_text(text + "\n")
    assert left_by_groups(own, root) == 350  # the job's, of which the step may take all
    (root / "job/step/memory.max").write_text("800\n")
    assert left_by_groups(own, root) == 150
    own.write_text("0::/\n")
    (root / "memory.max").write_text("500\n")
    assert left_by_groups(own, root) == 0
