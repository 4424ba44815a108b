"""Patches a second in training: our loader and step against those of topcup 1.2.2, one network, one machine.

    python benchmarks/training.py WORK [--quick] [--peer PYTHON] [--steps N] [--workers N]

Simulates a copick project in WORK, installs topcup in an environment of its own there (or takes the Python of one, with
--peer), and measures in turn, of the network of `topcup_released` (a ResNet-34 U-Net, patches of 96^3): the loader
alone, the step alone on patches at hand, and both as they train. topcup's loader and module are used as they are; its
trainer is left out, which only spares it time. --loader measures our own loader alone, for 0, 1, 2, 4 ... processes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

SHAPE, QUICK = "184,630,630", "96,256,256"
PATCH, CROPS = 96, 4  # topcup draws four crops from each tomogram that it reads
PINS = "torch==2.13.0\ntorchvision==0.28.0\n"


def environment(work: Path) -> Path:
    """The Python of an environment with topcup in it; torchvision, which it names but does not need, is taken out."""
    place = work / "venv"
    python = place / "bin" / "python"
    if not (place / "whole").is_file():
        pins = work / "pins.txt"
        pins.write_text(PINS)
        run = ["uv", "pip", "install", "--python", str(python), "--override", str(pins)]
        subprocess.run(["uv", "venv", "--allow-existing", str(place)], check=True)
        subprocess.run([*run, "topcup==1.2.2"], check=True)
        subprocess.run(["uv", "pip", "uninstall", "--python", str(python), "torchvision"], check=True)
        (place / "whole").touch()
    return python


def rate(items: Iterable[Any], n_of: Callable[[Any], int], steps: int) -> float:
    """Patches a second over `steps` items, the first of which is not counted."""
    running: Iterator[Any] = iter(items)
    next(running)
    began, n = time.perf_counter(), 0
    for item in itertools.islice(running, steps):
        n += n_of(item)
    return n / (time.perf_counter() - began)


def theirs(project: Path, steps: int, batch: int) -> dict[str, float]:
    """Runs in topcup's environment."""
    import copick.models
    import numpy as np
    import torch
    from topcup.cli.main import DataModule
    from topcup.model import SegNet

    # It asks for a voxel spacing by its text, which copick of today never finds.
    by_number = copick.models.CopickRun.get_voxel_spacing
    copick.models.CopickRun.get_voxel_spacing = lambda run, size: by_number(run, float(size))
    root = copick.from_file(str(project))
    objects = [o for o in root.pickable_objects if o.is_particle and o.radius]
    run = root.runs[0]
    spacing = run.voxel_spacings[0].voxel_size
    kind = run.voxel_spacings[0].tomograms[0].tomo_type
    picks = run.picks[0]
    data = DataModule(
        copick_root=root, train_run_names=[r.name for r in root.runs], val_run_names=[root.runs[0].name],
        batch_size=batch // CROPS, pixelsize=spacing, recon_type=kind, user_id=picks.user_id,
        session_id=picks.session_id,
    )  # fmt: skip
    data.setup()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = [o.name for o in objects]
    module = SegNet(
        nclasses=len(objects), class_loss_weights=dict.fromkeys(names, 256.0), lvl_weights=np.array([0, 0, 1, 1]),
        backbone_args={"spatial_dims": 3, "in_channels": 1, "out_channels": len(objects), "backbone": "resnet34",
                       "pretrained": False},
        particle_ids={name: i for i, name in enumerate(names)}, particle_radius={o.name: o.radius for o in objects},
        particle_weights=dict.fromkeys(names, 1.0), score_thresholds=dict.fromkeys(names, 0.2),
    ).to(device).train()  # fmt: skip
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)

    def step(patches: dict[str, torch.Tensor]) -> int:
        loss = module(patches["input"].to(device), patches["target"].to(device))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        return len(patches["input"])

    held = next(iter(data.train_dataloader()))
    return {
        "loader": rate(data.train_dataloader(), lambda b: len(b["input"]), steps),
        "step": rate(itertools.repeat(held), step, steps),
        "both": rate(data.train_dataloader(), step, steps),
    }


def ours(project: Path, steps: int, batch: int, workers: int) -> dict[str, float]:
    """The same with our loader and loop."""
    import torch

    from tomopick import Source
    from tomopick.data import open_project
    from tomopick.networks.engines import choose_device
    from tomopick.training.loop import TrainState, train
    from tomopick.training.patches import batches

    recipe, data, sampler = _sampler(Source(open_project(project), val_runs=[]), "topcup_released")
    device = choose_device()
    objective, spec = recipe.objective.build(recipe.loss), recipe.train

    def fed() -> Iterator[Any]:
        return batches(sampler, batch, 0, steps + 1, workers)

    def stepping(items: Iterable[Any]) -> Iterator[Any]:
        network = recipe.network.build(len(data.objects)).to(device)
        yield from train(TrainState.start(network, spec, device), objective, items, spec)

    held = next(fed())
    torch.manual_seed(0)
    return {
        "loader": rate(fed(), lambda b: len(b.volume), steps),
        "step": rate(stepping(itertools.repeat(held)), lambda report: batch, steps),
        "both": rate(stepping(fed()), lambda report: batch, steps),
    }


def _sampler(source: Any, name: str) -> tuple[Any, Any, Any]:
    from tomopick.recipes import get
    from tomopick.training.dataset import gather
    from tomopick.training.patches import PatchSampler

    recipe = get(name)
    data = gather(recipe, [source])
    sampler = PatchSampler(
        data.train, data.objects, recipe.patch, recipe.target, recipe.augment, recipe.network.stride, seed=0
    )
    return recipe, data, sampler


def loaders(project: Path, steps: int, name: str) -> None:
    """Patches a second that our loader alone gives, by number of processes."""
    import os

    from tomopick import Source
    from tomopick.data import open_project
    from tomopick.training.patches import batches

    recipe, _, sampler = _sampler(Source(open_project(project), val_runs=[]), name)
    workers = [0, *itertools.takewhile(lambda n: n <= (os.cpu_count() or 1), (2**i for i in range(10)))]
    for n in workers:
        found = rate(batches(sampler, 8, 0, steps + 1, n), lambda b: len(b.volume), steps)
        print(f"{name}, {'x'.join(map(str, recipe.patch.shape))}, {n} processes: {found:.1f} patches/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--quick", action="store_true", help=f"tomograms of {QUICK}, which favours the peer")
    parser.add_argument("--peer", type=Path, help="a Python that has topcup 1.2.2, in place of a new environment")
    parser.add_argument("--steps", type=int, default=4, help="batches that are timed")
    parser.add_argument("--batch", type=int, default=4, help="patches a batch, a multiple of 4")
    parser.add_argument("--workers", type=int, default=1, help="processes of our loader; topcup's has 2")
    parser.add_argument("--loader", metavar="RECIPE", help="measure our loader alone, with a recipe's patches")
    parser.add_argument("--child", choices=("theirs", "ours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    project = args.work / ("quick" if args.quick else "full") / "copick.json"
    if args.child:
        found = theirs(project, args.steps, args.batch) if args.child == "theirs" else \
            ours(project, args.steps, args.batch, args.workers)  # fmt: skip
        print(json.dumps(found))
        return
    if not project.is_file():
        from tomopick.simulation.projects import simulate_project

        shape = tuple(int(n) for n in (QUICK if args.quick else SHAPE).split(","))
        simulate_project(project.parent, (shape[0], shape[1], shape[2]), runs=2, seed=7, tomo_types=("denoised",))
    if args.loader:
        loaders(project, args.steps, args.loader)
        return
    python = args.peer or environment(args.work)
    given = ["--steps", args.steps, "--batch", args.batch, "--workers", args.workers, *["--quick"] * args.quick]
    results = {}
    for who, runner in (("theirs", python), ("ours", Path(sys.executable))):
        command = [runner, __file__, args.work, "--child", who, *given]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{who}: {done.stderr[-2000:]}")
        results[who] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"patches of {PATCH}^3 a second:   topcup     ours    ratio")
    for what in ("loader", "step", "both"):
        a, b = results["theirs"][what], results["ours"][what]
        print(f"{what:>24}: {a:8.3f} {b:8.3f} {b / a:8.1f}")


if __name__ == "__main__":
    main()
