"""Trains the shipped model `surroundings`: sample, gold, carbon and membranes, from simulations made meanwhile.

    python benchmarks/train_surroundings.py OUT [--device cuda] [--seconds 420] [--workers N] [--seed 0] [--quick]

Volumes are simulated in memory by other processes while the network learns from those that are there, each as all of
its tomogram types; the truth is the simulator's own. What is written into OUT is a model folder, and `iou.json` with
intersections over unions on runs of seeds that were never learned from. Copy recipe.json, detector.json,
weights.safetensors and README.md to src/tomopick/models/surroundings to ship it.

Neither zarr, copick, mrcfile nor OpenVINO are needed. `--quick` takes a minute on a CPU and makes a useless model.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import os
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.types import PickableObject
from tomopick.networks.activations import Sigmoid
from tomopick.networks.unet import UNetSpec
from tomopick.picking.detector import Detector
from tomopick.picking.folder import TrainingFacts
from tomopick.picking.method import Method
from tomopick.picking.resample import onto
from tomopick.picking.tiling import SteepWindow, TilingSpec
from tomopick.simulation import simulate
from tomopick.simulation.run import SimulationSpec

log = logging.getLogger("surroundings")

NAMES = ("sample", "gold", "carbon", "membrane")
COLORS = ((86, 180, 233, 255), (230, 159, 0, 255), (213, 94, 0, 255), (0, 158, 115, 255))
SPACING = 20.0  # [Å]: two voxels across a membrane
TYPES = ("denoised", "wbp", "ctfdeconvolved", "isonetcorrected")
TRAIN_SEED, VAL_SEED = 11_000_000, 12_000_000
MOST_RUNS = 900  # that are kept in memory
LEAST_RUNS = 4  # before learning begins
CUTS = np.round(np.arange(0.2, 0.81, 0.05), 2)


@dataclass(frozen=True)
class Plan:
    """Sizes of a training.

    Attributes:
        shape: of simulated volumes (z, y, x) [voxels].
        crop: what the network sees at a time, in voxels of `SPACING`.
        batch: crops a step.
        val_runs: that are scored.
        widths: of the network.
    """

    shape: tuple[int, int, int] = (112, 208, 208)
    crop: tuple[int, int, int] = (40, 80, 80)
    batch: int = 8
    val_runs: int = 16
    widths: tuple[int, ...] = (16, 24, 32, 40)


@dataclass(frozen=True)
class Sample:
    """One run as the network sees it: (type, z, y, x) normalised values, (name, z, y, x) bool."""

    values: np.ndarray
    truth: np.ndarray


def spec_of(plan: Plan, types: tuple[str, ...]) -> SimulationSpec:
    """Runs with far more around the particles than is usual."""
    spec = SimulationSpec(plan.shape, voxel_spacing=(8.0, 13.0), tomo_types=types)
    specimen = replace(
        spec.specimen,
        gold=(0.0, 120.0), membranes=(0.0, 140.0), frost=(0.0, 60.0), carbon=0.45, carbon_depth=(0.05, 0.5),
        carbon_thickness=(100.0, 300.0), crowding=(0.3, 8.0),
    )  # fmt: skip
    return replace(spec, specimen=specimen)


def blank(plan: Plan) -> Detector:
    """The untrained model."""
    method = Method(
        "surroundings", "tomopick; a 3D U-Net on simulated surroundings", voxel_spacing=SPACING,
        network=UNetSpec(widths=plan.widths), activation=Sigmoid(), tiling=TilingSpec(window=SteepWindow()),
    )  # fmt: skip
    objects = tuple(PickableObject(n, None, i + 1, c, is_particle=False) for i, (n, c) in enumerate(zip(NAMES, COLORS)))
    cuts = {metric: dict.fromkeys(NAMES, 0.5) for metric in ("f1", "czii")}
    return Detector(method, objects, method.network.build(len(NAMES)), cuts, TrainingFacts(SPACING, TYPES))


def begin_worker() -> None:
    """One thread for each process: they share the cores."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def make(job: tuple[Plan, tuple[str, ...], int]) -> Sample:
    """Simulates a run and brings it to the network's grid."""
    plan, types, seed = job
    made = simulate(spec_of(plan, types), CZII_OBJECTS, run=f"s{seed}", seed=seed, surroundings=True)
    detector = blank(plan)
    seen = [detector.prepare(t) for t in made.tomograms.values()]
    source, target = next(iter(made.tomograms.values())).grid, seen[0][1]
    # Not as tomograms are: an empty part of a mask is no void.
    truth = [onto(made.surroundings[name].astype(np.float32), source, target) > 0.5 for name in NAMES]
    return Sample(np.stack([np.asarray(values, dtype=np.float16) for values, _ in seen]), np.stack(truth))


class Supply:
    """Runs that other processes simulate: never more begun than they are at.

    Args:
        plan: sizes.
        workers: processes; 0: simulated here, when one is asked for.
        seed: of the training.
    """

    def __init__(self, plan: Plan, workers: int, seed: int) -> None:
        self.plan, self.seed = plan, TRAIN_SEED + 100_000 * seed
        self.pool = None
        if workers:
            self.pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin_worker)
        self.workers, self.made = workers, 0
        self.val: deque[Future[Sample]] = deque()
        self.coming: deque[Future[Sample]] = deque()

    def validation(self) -> list[Sample]:
        """The runs that are scored; waits for them."""
        jobs = [(self.plan, TYPES[:2], VAL_SEED + i) for i in range(self.plan.val_runs)]
        return list(self.pool.map(make, jobs)) if self.pool else [make(job) for job in jobs]

    def take(self) -> list[Sample]:
        """What has become ready since the last time."""
        if self.pool is None:
            return [make(self._next())] if self.made < self.plan.val_runs + LEAST_RUNS else []
        while len(self.coming) < 2 * self.workers:
            self.coming.append(self.pool.submit(make, self._next()))
        ready = [f for f in self.coming if f.done()]
        self.coming = deque(f for f in self.coming if not f.done())
        return [f.result() for f in ready]

    def close(self) -> None:
        """Lets the processes end."""
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> tuple[Plan, tuple[str, ...], int]:
        self.made += 1
        return self.plan, TYPES, self.seed + self.made


def batch_of(samples: list[Sample], plan: Plan, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(b, 1, z, y, x) grey values and (b, name, z, y, x) truth of random crops, turned and with other grey values.

    Half of the crops are around something rare.
    """
    values, truths = [], []
    for _ in range(plan.batch):
        s = samples[int(rng.integers(len(samples)))]
        kind = int(rng.integers(len(s.values)))
        start = _start(s, plan.crop, rng)
        box = tuple(slice(a, a + n) for a, n in zip(start, plan.crop))
        value, truth = _filled(s.values[(kind, *box)], plan.crop), _filled(s.truth[(slice(None), *box)], plan.crop)
        flips = tuple(-1 - axis for axis in range(3) if rng.random() < 0.5)
        turn = bool(rng.random() < 0.5)
        values.append(_turned(value, flips, turn).astype(np.float32))
        truths.append(_turned(truth, flips, turn))
    grey = torch.from_numpy(np.stack(values))[:, None]
    return _varied(grey, rng), torch.from_numpy(np.stack(truths).astype(np.float32))


def _start(s: Sample, crop: tuple[int, int, int], rng: np.random.Generator) -> list[int]:
    shape = s.truth.shape[1:]
    middle = np.array([rng.integers(n) for n in shape])
    rare = 1 + int(rng.integers(len(NAMES) - 1))
    if rng.random() < 0.5 and s.truth[rare].any():
        # A marked voxel, by its number among those of a section that has some.
        sections = np.flatnonzero(s.truth[rare].any(axis=(1, 2)))
        z = int(rng.choice(sections))
        yx = np.argwhere(s.truth[rare][z])
        middle = np.array([z, *yx[int(rng.integers(len(yx)))]])
    return [int(np.clip(m - n // 2, 0, max(0, size - n))) for m, n, size in zip(middle, crop, shape)]


def _filled(box: np.ndarray, crop: tuple[int, int, int]) -> np.ndarray:
    more = [(0, n - have) for n, have in zip(crop, box.shape[-3:])]
    return np.pad(box, [(0, 0)] * (box.ndim - 3) + more)


def _turned(box: np.ndarray, flips: tuple[int, ...], turn: bool) -> np.ndarray:
    box = np.flip(box, flips)
    return np.ascontiguousarray(box.swapaxes(-1, -2) if turn else box)


def _varied(grey: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Other contrast, brightness and noise, crop by crop."""
    b = len(grey)
    scale = torch.from_numpy(np.exp(rng.uniform(-0.5, 0.5, b)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.4, 0.4, b).astype(np.float32))
    noise = torch.from_numpy((rng.random(b) ** 2 * (rng.random(b) < 0.6)).astype(np.float32))
    shape = (-1, 1, 1, 1, 1)
    return grey * scale.view(shape) + shift.view(shape) + noise.view(shape) * torch.randn(grey.shape)


def loss_of(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, and the soft Dice of each name over the batch, which weighs rare ones as much as the sample."""
    heat = logits.sigmoid()
    both = (heat * truth).sum(dim=(0, 2, 3, 4))
    dice = 1 - (2 * both + 10) / (heat.sum(dim=(0, 2, 3, 4)) + truth.sum(dim=(0, 2, 3, 4)) + 10)
    return binary_cross_entropy_with_logits(logits, truth) + dice.mean()


@torch.no_grad()
def counts_of(network: nn.Module, val: list[Sample], multiple: int, device: torch.device) -> np.ndarray:
    """(name, cut, 2): voxels in both and in either of heatmap above a cut and truth, over all runs and types."""
    network.eval()
    found = np.zeros((len(NAMES), len(CUTS), 2))
    for s in val:
        shape = tuple(-(-n // multiple) * multiple for n in s.truth.shape[1:])
        for values in s.values:
            grey = torch.from_numpy(_filled(values.astype(np.float32), shape))[None, None].to(device)
            heat = network(grey)[0].float().sigmoid().cpu().numpy()
            z, y, x = s.truth.shape[1:]
            for k, cut in enumerate(CUTS):
                above = heat[:, :z, :y, :x] >= cut
                found[:, k, 0] += (above & s.truth).sum(axis=(1, 2, 3))
                found[:, k, 1] += (above | s.truth).sum(axis=(1, 2, 3))
    return found


def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves the running average of the weights on."""
    with torch.no_grad():
        for a, b in zip(average.state_dict().values(), network.state_dict().values()):
            if a.dtype.is_floating_point:
                a.lerp_(b, 1 - decay)
            else:
                a.copy_(b)


def write(detector: Detector, network: nn.Module, counts: np.ndarray, told: dict[str, object], out: Path) -> None:
    """The model folder with the cuts that are best on the validation runs, and what was measured there."""
    iou = counts[..., 0] / np.maximum(counts[..., 1], 1)
    best = iou.argmax(axis=1)
    cuts = {name: float(CUTS[k]) for name, k in zip(NAMES, best)}
    scores = {name: float(iou[i, k]) for i, (name, k) in enumerate(zip(NAMES, best))}
    facts = replace(detector.facts, scores={"iou": scores}, provenance=told)
    made = replace(
        detector, network=copy.deepcopy(network).cpu().eval(), thresholds={"f1": cuts, "czii": cuts}, facts=facts
    )
    out.mkdir(parents=True, exist_ok=True)
    made.save(out)
    (out / "README.md").write_text(card(made, told))
    (out / "iou.json").write_text(json.dumps({"iou": scores, "cuts": cuts, **told}, indent=1) + "\n")
    log.info("step %s, %s runs: %s", told["steps"], told["runs"], {k: round(v, 3) for k, v in scores.items()})


def card(detector: Detector, told: dict[str, object]) -> str:
    """What the model is, in Markdown."""
    n = sum(p.numel() for p in detector.network.parameters())
    rows = [
        f"| {o.name} | {detector.thresholds['f1'][o.name]:g} | {detector.facts.scores['iou'][o.name]:.3f} |"
        for o in detector.objects
    ]
    lines = [
        "# surroundings: sample, gold, carbon, membranes", "",
        f"- method: {detector.method.source}; {n:,} parameters, at {SPACING:g} Å",
        f"- learned from {told['runs']} simulated runs (tomogram types: {', '.join(TYPES)}) in {told['steps']} steps",
        "- scored on simulated runs of other seeds, whose cuts are the best there", "",
        "| what | cut | intersection over union |", "|---|--:|--:|", *rows, "",
        "Made by benchmarks/train_surroundings.py; use it by `tomopick mask` and `tomopick pick --clean`.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def train(plan: Plan, args: argparse.Namespace) -> None:
    """Learns until the time is up; writes the model each fifth of it and at the end."""
    device, began = torch.device(args.device), time.monotonic()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    supply = Supply(plan, args.workers, args.seed)
    try:
        detector = blank(plan)
        network = detector.network.to(device)
        average = copy.deepcopy(network)
        optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr, weight_decay=0.01)
        val = supply.validation()
        samples: list[Sample] = []
        step, next_write, losses = 0, 0.2, deque(maxlen=100)
        log.info("%.0f s: %d validation runs", time.monotonic() - began, len(val))
        while True:
            samples = (samples + supply.take())[-MOST_RUNS:]
            if len(samples) < LEAST_RUNS:
                time.sleep(0.05)
                continue
            share = (time.monotonic() - began) / args.seconds if not args.quick else step / 3
            for group in optimizer.param_groups:
                group["lr"] = args.lr * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
            if share >= 1:
                break
            network.train()
            grey, truth = batch_of(samples, plan, rng)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = network(grey.to(device, non_blocking=True))
            loss = loss_of(logits.float(), truth.to(device, non_blocking=True))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
            follow(average, network, min(0.998, 1 - 1 / (step + 1)))
            if step % 20 == 0:
                losses.append(loss.item())
            if share >= next_write:
                next_write += 0.2
                told = {"steps": step, "runs": supply.made, "seconds": round(time.monotonic() - began)}
                log.info("loss %.3f", float(np.mean(losses)) if losses else float("nan"))
                write(detector, average, counts_of(average, val, plan_multiple(plan), device), told, args.out)
        told = {"steps": step, "runs": supply.made, "seconds": round(time.monotonic() - began), "seed": args.seed}
        write(detector, average, counts_of(average, val, plan_multiple(plan), device), told, args.out)
    finally:
        supply.close()


def plan_multiple(plan: Plan) -> int:
    """What edges must be divisible by."""
    return UNetSpec(widths=plan.widths).multiple


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--quick", action="store_true", help="a minute on a CPU, and a useless model")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan = Plan()
    if args.device.startswith("cpu"):
        plan = replace(plan, crop=(32, 64, 64), batch=2)
    if args.quick:
        plan = Plan((48, 96, 96), (16, 32, 32), 2, 1, (8, 8, 8, 8))
        args.workers = min(args.workers, 1)
    train(plan, args)


if __name__ == "__main__":
    main()
