"""Peers' networks beside ours on one machine's processor, in one run: seconds and processor seconds.

    python benchmarks/versus.py WORK [--peers octopi,deepfinder,topcup] [--threads 2] [--times 2] [--edge 96]

Each peer is installed in an environment of its own in WORK (what cannot be installed is said in one line), which builds
the peer's default network with random weights and runs it on a block of noise in float32, as the peer would. The same
architecture of ours then runs on the same block with the best engine that is installed; and the shipped model runs too.
A tomogram of 184 x 630 x 630 voxels takes as many voxels as the peer's windows have there, by its own edges and steps;
ours those of the tiles that our recipe or the model plans. One view each. Reading, blending and finding picks are left
out: `versus_topcup.py` measures all of it for one peer, with trained weights.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOLUME = (184, 630, 630)

CLOCK = """
import json, sys, time
edge, times, threads = map(int, sys.argv[1:])
{network}
run()
taken = []
for _ in range(times):
    began = time.perf_counter(), time.process_time()
    run()
    taken.append((time.perf_counter() - began[0], time.process_time() - began[1]))
print(json.dumps([min(column) for column in zip(*taken)]))
"""
TORCH = """
import torch
torch.set_num_threads(threads)
{network}
network.eval()
given = torch.randn(1, 1, edge, edge, edge)
def run():
    with torch.inference_mode():
        network(given)
"""
KERAS = """
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
import numpy, tensorflow
tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
tensorflow.config.threading.set_inter_op_parallelism_threads(1)
{network}
given = numpy.random.default_rng(0).standard_normal((1, edge, edge, edge, 1), dtype=numpy.float32)
def run():
    network.predict(given, verbose=0)
"""
TORCH_ALONE = ("torch==2.13.0", "numpy", "scipy")


@dataclass(frozen=True)
class Peer:
    """A peer's network.

    Attributes:
        name: with its version.
        packages: of each call of pip.
        network: Python that makes it and `run`.
        window: edge [voxels].
        step: from one window to the next [voxels].
        ours: the same architecture.
    """

    name: str
    packages: tuple[tuple[str, ...], ...]
    network: str
    window: int
    step: int
    ours: Callable[[], Any]

    def computed(self) -> float:
        """Voxels of all its windows in a tomogram."""
        counts = [1 + max(0, math.ceil((n - self.window) / self.step)) for n in VOLUME]
        return float(math.prod(counts) * self.window**3)


def octopi_like() -> Any:
    from tomopick.networks import ResidualUNetSpec

    return ResidualUNetSpec(widths=(48, 64, 80, 80), strides=(2, 2, 1), residual_units=1, dropout=0.0)


def deepfinder_like() -> Any:
    from tomopick.networks import DeepFinderUNetSpec

    return DeepFinderUNetSpec()


def topcup_like() -> Any:
    from tomopick import recipes

    return recipes.get("topcup_released").network


PEERS = {
    # octopi/models/common.py, get_default_unet_params; entry points: windows of 96, overlap 0.5.
    "octopi": Peer(
        "octopi 1.7.0", (TORCH_ALONE, ("--no-deps", "monai==1.5.0", "octopi==1.7.0")),
        TORCH.replace("{network}", """
from octopi.models.Unet import myUNet
network = myUNet().build_model(dict(num_classes=7, channels=[48, 64, 80, 80], strides=[2, 2, 1], num_res_units=1,
                                    dropout=0.0))
"""),
        96, 48, octopi_like,
    ),
    # deepfinder/inference.py, Segment: patches of 192 that share 55.
    "deepfinder": Peer(
        "DeepFinder 0.2.1", (("tensorflow-cpu", "numpy"), ("--no-deps", "cryoet-deepfinder==0.2.1")),
        KERAS.replace("{network}", """
from deepfinder.models import my_model
network = my_model(edge, 7)
"""),
        192, 137, deepfinder_like,
    ),
    # topcup/cli: windows of 96, overlap 0.21; torchvision is named by it and not needed.
    "topcup": Peer(
        "topcup 1.2.2",
        (TORCH_ALONE, ("pytorch-lightning>=2.4,<2.5", "einops", "pandas", "scikit-learn", "copick>=1.31,<2", "mrcfile",
                       "zarr<3", "numcodecs<0.16", "torch==2.13.0"), ("--no-deps", "monai==1.5.0", "topcup==1.2.2")),
        TORCH.replace("{network}", """
from topcup.model import SegNet
import numpy
objects = [f"o{i}" for i in range(6)]
module = SegNet(nclasses=6, class_loss_weights=dict.fromkeys(objects, 256.0), lvl_weights=numpy.array([0, 0, 1, 1]),
    backbone_args=dict(spatial_dims=3, in_channels=1, out_channels=6, backbone="resnet34", pretrained=False),
    particle_ids={name: i for i, name in enumerate(objects)}, particle_radius=dict.fromkeys(objects, 60.0),
    particle_weights=dict.fromkeys(objects, 1.0), score_thresholds=dict.fromkeys(objects, 0.2))
network = next(child for child in module.children() if sum(p.numel() for p in child.parameters()) > 1e6)
"""),
        96, 75, topcup_like,
    ),
}  # fmt: skip


def python_of(peer: Peer, place: Path) -> Path:
    """The Python of its environment, made if it is missing."""
    python = place / "bin" / "python"
    if not (place / "whole").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, capture_output=True)
        for packages in peer.packages:
            call = [str(python), "-m", "pip", "install", "-q", "--no-input", *packages]
            subprocess.run(call, check=True, capture_output=True, text=True)
        subprocess.run(
            [str(python), "-m", "pip", "uninstall", "-q", "-y", "torchvision"], check=True, capture_output=True
        )
        (place / "whole").touch()
    return python


def clocked(python: Path, code: str, numbers: Sequence[int]) -> list[float]:
    """Seconds of one block in another Python, and processor seconds."""
    call = [str(python), "-W", "ignore", "-c", code, *map(str, numbers)]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def ours(engine: Any, edge: int, times: int) -> list[float]:
    """The same with an engine of ours."""
    import numpy as np

    tile = np.random.default_rng(0).standard_normal((edge, edge, edge), dtype=np.float32)
    engine(tile)
    taken = []
    for _ in range(times):
        began = time.perf_counter(), time.process_time()
        engine(tile)
        taken.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return [min(column) for column in zip(*taken)]


def planned(tiling: Any, multiple: int) -> float:
    """Voxels that a tiling computes of a tomogram."""
    edges, starts = tiling.plan(VOLUME, multiple)
    return float(math.prod(edges) * math.prod(len(axis) for axis in starts))


def told(
    name: str, engine: str, seconds: Sequence[float], edge: int, voxels: float, than: Sequence[float] = ()
) -> list[float]:
    """A row; seconds and processor seconds a tomogram."""
    whole = [s / edge**3 * voxels for s in seconds]
    ratios = [f"{a / b:.1f}" for a, b in zip(than or whole, whole)]
    figures = f"{voxels / math.prod(VOLUME):.2f} | {whole[0]:.1f} | {whole[1]:.1f} | {' | '.join(ratios)}"
    print(f"| {name} | {engine} | {seconds[1] / edge**3 * 1e6:.2f} | {figures} |", flush=True)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--edge", type=int, default=96, help="of the block")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # for both sides: spinning is no work

    import torch

    from tomopick import load_model
    from tomopick.networks.engines import EngineSpec
    from tomopick.picking.tiling import TilingSpec

    torch.set_num_threads(args.threads)
    numbers = (args.edge, args.times, args.threads)
    print(
        "| network | engine | processor s a million voxels | computed of a tomogram | s a tomogram | processor s "
        "a tomogram | times faster | by processor |"
    )
    print("|---|---|---|---|---|---|---|---|")
    default = load_model("default").predictor("cpu")
    for key in args.peers.split(","):
        peer = PEERS[key]
        try:
            python = python_of(peer, args.work / key)
            code = CLOCK.replace("{network}", peer.network)
            theirs = told(peer.name, "its own, f32", clocked(python, code, numbers), args.edge, peer.computed())
        except subprocess.CalledProcessError as error:
            last = (str(error.stderr or "").strip().splitlines() or [str(error)])[-1]
            print(f"{peer.name}: not installed or not run here: {last[:200]}", flush=True)
            continue
        spec = peer.ours()
        torch.manual_seed(0)
        engine = EngineSpec().build(spec.build(6).eval(), "cpu", spec.multiple)
        seconds = ours(engine, args.edge, args.times)
        told("the same in its windows, ours", str(engine), seconds, args.edge, peer.computed(), theirs)
        tiles = planned(TilingSpec((192, 192, 192), 32), spec.multiple)
        told("the same in our tiles", str(engine), seconds, args.edge, tiles, theirs)
        seconds = ours(default.engine, args.edge, args.times)
        told("the shipped model, as it ships", str(default.engine), seconds, args.edge,
             planned(default.tiling, default.multiple), theirs)  # fmt: skip


if __name__ == "__main__":
    main()
