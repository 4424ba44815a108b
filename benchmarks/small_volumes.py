"""A single small volume on a CPU: PyTorch's own loops, which it would take, beside oneDNN, by turns in one run.

    python benchmarks/small_volumes.py [--recipes default,bpd,topcup] [--times 5] [--threads N]

Networks have random weights, but for `default`, and work in float32, in which PyTorch takes its own loops for a single
volume of few cells. Needs no data.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from unittest import mock

import numpy as np
import torch
from torch import nn

from tomopick import load_model, recipes
from tomopick.networks.blocks import Conv3d
from tomopick.networks.engines import EngineSpec

SHAPES = ((32, 64, 64), (64, 64, 64), (32, 96, 96), (64, 128, 128))


def network_of(name: str) -> tuple[nn.Module, int]:
    """A network, and what its tiles' edges must be divisible by."""
    if name in recipes.names():
        spec = recipes.get(name).network
        return spec.build(6), spec.multiple
    return load_model(name).network, 8


def main() -> None:
    """Prints a row a network and shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default="default,light,bpd,topcup,soup_tiny,semietpicker")
    parser.add_argument("--times", type=int, default=5, help="that each is run; the fastest counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.threads} threads, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    print(f"{'network':>14} {'volume':>11} {'own loops s':>12} {'oneDNN s':>9} {'ratio':>6} {'apart':>8}")
    for name in given.recipes.split(","):
        network, multiple = network_of(name)
        engine = EngineSpec("torch", "f32").build(network, torch.device("cpu"), multiple)
        for shape in SHAPES:
            tile = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
            seconds, answers = {}, {}
            patched = mock.patch.object(Conv3d, "_would_crawl", lambda *_: False)
            for way in ("own loops", "oneDNN") * given.times:
                with patched if way == "own loops" else nullcontext():
                    began = time.perf_counter()
                    answers[way] = engine(tile)
                    seconds[way] = min(time.perf_counter() - began, seconds.get(way, 1e9))
            apart = np.abs(answers["own loops"] - answers["oneDNN"]).max()
            before, now = seconds["own loops"], seconds["oneDNN"]
            size = "x".join(map(str, shape))
            print(f"{name:>14} {size:>11} {before:12.3f} {now:9.3f} {before / now:6.2f} {apart:8.1e}", flush=True)


if __name__ == "__main__":
    main()
