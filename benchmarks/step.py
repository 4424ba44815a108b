"""Seconds of a training step on the CPU, as it is and in a plain way, in turns in one run; and the losses of both.

    python benchmarks/step.py [--recipes light,bpd] [--patch 64] [--batch N] [--steps 4] [--rounds 2] [--threads N]

The plain way is PyTorch's own batch norm, depthwise convolutions and unfused AdamW, and memory that goes back to the
system with every tensor. Patches are random and made beforehand; both sides see the same; --patch and --batch are the
recipe's own where they are not said. Needs no data.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext


def measure(name: str, plain: bool, args: argparse.Namespace) -> dict[str, object]:
    """Seconds, processor seconds and losses of so many steps behind two that do not count."""
    import torch

    from tomopick import recipes
    from tomopick.networks.blocks import BatchNorm3d, Conv3d
    from tomopick.training.heap import kept_heap
    from tomopick.training.loop import TrainState, train
    from tomopick.training.patches import Batch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    recipe = recipes.get(name)
    network, n = recipe.network.build(6), args.batch or recipe.train.batch_size
    shape = (args.patch,) * 3 if args.patch else recipe.patch.shape
    for module in network.modules():
        if plain and type(module) is BatchNorm3d:
            module.__class__ = torch.nn.BatchNorm3d
        elif plain and type(module) is Conv3d and module.groups > 1:
            module.__class__ = torch.nn.Conv3d
    state = TrainState.start(network, recipe.train, torch.device("cpu"))
    for group in state.optimizer.param_groups if plain else ():
        group["fused"] = None
    cells = [edge // recipe.network.stride for edge in shape]
    volume, target = torch.randn(n, 1, *shape), torch.rand(n, 6, *cells) ** 8
    batch = Batch(volume, target, torch.ones(n, 6), torch.zeros(n, 0))
    found: dict[str, list[float]] = {"seconds": [], "processor": [], "losses": []}
    with nullcontext() if plain else kept_heap(torch.device("cpu")):
        rows = train(state, recipe.objective.build(recipe.loss), itertools.repeat(batch), recipe.train)
        for i in range(args.steps + 2):
            began, processor = time.perf_counter(), time.process_time()
            loss = next(rows).loss
            found["losses"].append(loss)
            if i >= 2:
                found["seconds"].append(time.perf_counter() - began)
                found["processor"].append(time.process_time() - processor)
    return {**found, "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default="light,bpd")
    parser.add_argument("--patch", type=int, default=0, help="edge of a patch [voxels]")
    parser.add_argument("--batch", type=int, default=0, help="patches a step")
    parser.add_argument("--steps", type=int, default=4, help="that are timed, of each side in each round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        name, side = args.child
        print(json.dumps(measure(name, side == "plain", args)))
        return
    print(f"{'recipe':>10} {'side':>6} {'s a step':>9} {'processor s':>12} {'GB':>5}")
    for name in args.recipes.split(","):
        runs: dict[str, list[dict]] = {"plain": [], "ours": []}
        for side in ("plain", "ours") * args.rounds:
            command = [sys.executable, __file__, "--child", name, side]
            for given in ("patch", "batch", "steps", "threads"):
                command += [f"--{given}", getattr(args, given)]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr[-2000:])
            runs[side].append(json.loads(done.stdout.splitlines()[-1]))
        best = {}
        for side, found in runs.items():
            seconds, processor = (
                statistics.median([value for run in found for value in run[key]]) for key in ("seconds", "processor")
            )
            best[side] = seconds, processor
            gb = max(run["gb"] for run in found)
            print(f"{name:>10} {side:>6} {seconds:9.3f} {processor:12.3f} {gb:5.2f}", flush=True)
        ratios = [a / b for a, b in zip(best["plain"], best["ours"])]
        apart = max(abs(a / b - 1) for a, b in zip(runs["plain"][0]["losses"], runs["ours"][0]["losses"]))
        print(
            f"{name}: {ratios[0]:.2f} times as fast, {ratios[1]:.2f} by processor; losses differ by {apart:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
