"""A training step and a pick on quiet and on crowded cores, in turns in one run, with and without patient threads.

    python benchmarks/crowded.py [--busy 2] [--threads 2] [--rounds 2]

Crowded is a busy loop a core beside it, which leaves it half of the cores. Threads that have nothing to do wait by
spinning, as OpenMP has them (`active`, what there was), or asleep (`passive`, which the command line sets). Seconds of
`light` with 8 patches of 64^3, and of the shipped model on a volume of 64 x 192 x 192 with PyTorch's engine and with
OpenVINO where it is installed. Needs no data.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

BUSY = "while True: pass"


def training() -> Callable[[], object]:
    import torch

    from tomopick import recipes
    from tomopick.training.heap import kept_heap
    from tomopick.training.loop import TrainState, train
    from tomopick.training.patches import Batch

    recipe = recipes.get("light")
    torch.manual_seed(0)
    state = TrainState.start(recipe.network.build(6), recipe.train, torch.device("cpu"))
    batch = Batch(torch.randn(8, 1, 64, 64, 64), torch.rand(8, 6, 32, 32, 32) ** 8, torch.ones(8, 6), torch.zeros(8, 0))
    kept_heap(torch.device("cpu")).__enter__()
    rows = train(state, recipe.objective.build(recipe.loss), itertools.repeat(batch), recipe.train)
    return lambda: next(rows)


def picking(engine: str) -> Callable[[], object]:
    import numpy as np

    from tomopick import load_model
    from tomopick.networks.engines import EngineSpec

    predictor = load_model("default").predictor("cpu", engine=EngineSpec(engine))
    tile = np.random.default_rng(0).standard_normal((64, 192, 192), dtype=np.float32)
    return lambda: predictor.engine(tile)


def measure(what: str, times: int) -> None:
    """Prints a line when it is ready, and then seconds whenever a line comes in."""
    work = training() if what == "step" else picking(what.removeprefix("pick "))
    for _ in range(2):
        work()
    print("ready", flush=True)
    for _ in sys.stdin:
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
        print(json.dumps(taken), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=2, help="busy loops")
    parser.add_argument("--threads", type=int, default=2, help="of the work")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--times", type=int, default=3, help="of each in a round")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        measure(args.child, args.times)
        return
    engines = ["torch", *(["openvino"] if find_spec("openvino") else [])]
    print(f"{'what':>14} {'waiting':>8} {'quiet s':>8} {'crowded s':>10} {'ratio':>6}")
    for what, policy in itertools.product(["step", *(f"pick {e}" for e in engines)], ["active", "passive"]):
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "OMP_WAIT_POLICY": policy}
        if policy == "active":  # what there is without a word
            del environment["OMP_WAIT_POLICY"]
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", what, "--times", str(args.times)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert child.stdin and child.stdout
        child.stdout.readline()
        found: dict[str, list[float]] = {"quiet": [], "crowded": []}
        for _, how in itertools.product(range(args.rounds), found):
            busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(args.busy if how == "crowded" else 0)]
            child.stdin.write("\n")
            child.stdin.flush()
            found[how] += json.loads(child.stdout.readline())
            for loop in busy:
                loop.kill()
                loop.wait()
        child.stdin.close()
        child.wait()
        quiet, crowded = (statistics.median(found[how]) for how in ("quiet", "crowded"))
        print(f"{what:>14} {policy:>8} {quiet:8.2f} {crowded:10.2f} {crowded / quiet:6.2f}", flush=True)


if __name__ == "__main__":
    main()
