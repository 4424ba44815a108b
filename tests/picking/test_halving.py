"""Engines that run out of memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from tomopick.networks import UNetSpec
from tomopick.networks.engines import Engine
from tomopick.picking.memory import Halving


class Small(Engine):
    """Means of 2^3 voxels and their negative, on a device where only so many voxels fit."""

    def __init__(self, most: int, stride: int = 2):
        self.most, self.stride, self.seen = most, stride, []

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        if tile.size > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        assert all(n % 4 == 0 for n in tile.shape)
        self.seen.append(tile.shape)
        s = self.stride
        z, y, x = (n // s for n in tile.shape)
        cells = tile.reshape(z, s, y, s, x, s).mean(axis=(1, 3, 5))
        return np.stack([cells, -cells])


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("overlap", [0, 5, 8])
@pytest.mark.parametrize("most", [10**6, 40_000, 9_000])
def test_parts_give_the_whole(most, overlap, stride, told):
    small = Small(most, stride)
    engine = Halving(small, 4, stride, overlap)
    tile = noise(32, 48, 64)
    for _ in range(2):
        np.testing.assert_allclose(engine(tile), Small(10**9, stride)(tile), atol=1e-6)
    assert bool(told) == (most < tile.size)
    assert all(line.startswith("warning: not enough memory for tiles of ") for line in told)
    assert max(np.prod(shape) for shape in small.seen) <= most


def test_what_did_not_fit_is_not_tried_again():
    tried = []

    class Watched(Small):
        def __call__(self, tile):
            tried.append(tile.size)
            return super().__call__(tile)

    engine = Halving(Watched(40_000), 4, 2, 8)
    engine(noise(32, 48, 64))
    first = len(tried)
    engine(noise(32, 48, 64))
    assert all(n <= 40_000 for n in tried[first:])


def test_halves_share_what_is_asked_for():
    small = Small(16 * 16 * 50)
    Halving(small, 4, 2, overlap=10)(noise(16, 16, 64))
    assert small.seen == [(16, 16, 40)] * 2  # 37 and up to a multiple


def test_where_nothing_fits_another_engine_takes_over(told):
    made = []

    def instead():
        made.append(Small(10**9))
        return made[-1]

    engine = Halving(Small(10), 4, 2, 8, instead)
    tile = noise(16, 16, 32)
    for _ in range(2):
        np.testing.assert_allclose(engine(tile), Small(10**9)(tile), atol=1e-6)
    assert len(made) == 1 and "CPU" in told[-1] and sum("CPU" in line for line in told) == 1
    assert made[0].seen[-1] == tile.shape  # whole again


def test_where_nothing_fits_and_nothing_else_is_there():
    with pytest.raises(torch.OutOfMemoryError, match="not even a tile of"):
        Halving(Small(10), 4, 2, 8)(noise(16, 16, 32))


def test_other_errors_are_not_swallowed():
    class Broken(Engine):
        def __call__(self, tile):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        Halving(Broken(), 4, 2, 8)(noise(8, 8, 8))


# In a process of its own: this one may have memory to spare that a limit does not take back.
LIMITED = """
import logging, resource, sys
from pathlib import Path
import numpy as np, torch
from tomopick.networks.engines import Engine, EngineSpec
from tomopick.picking.memory import Halving
from tomopick.networks import UNetSpec

torch.manual_seed(0)
onnx = EngineSpec("onnx", "f32").build(UNetSpec((32,), convolutions=1, stride=2).build(2).eval(), "cpu", 2)
onnx(np.zeros((16, 16, 16), np.float32))

class Limited(Engine):
    def __call__(self, tile):
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (mapped + 16 * 2**20, most))
        try:
            return onnx(tile)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

logging.basicConfig(stream=sys.stdout, format="%(message)s")
np.save(sys.argv[2], Halving(Limited(), 2, 2, 24)(np.load(sys.argv[1])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory so")
def test_onnx_runtime_out_of_memory(tmp_path):
    tile = noise(64, 128, 128)
    np.save(tmp_path / "tile.npy", tile)
    command = [sys.executable, "-c", LIMITED, tmp_path / "tile.npy", tmp_path / "parts.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.startswith("not enough memory for tiles of 64x128x128: they are run in parts\n")
    torch.manual_seed(0)
    network = UNetSpec((32,), convolutions=1, stride=2).build(2).eval()
    with torch.no_grad():
        whole = network(torch.from_numpy(tile)[None, None])[0].numpy()
    # Where parts meet, each misses what lies beyond its border.
    parts = np.load(tmp_path / "parts.npy")
    assert np.abs(parts - whole).mean() < 0.01 * np.abs(whole).mean()
