"""Trains the shipped model `surroundings`: sample, gold, carbon and membranes, from simulations made meanwhile.

    python benchmarks/train_surroundings.py OUT [--device cuda] [--seconds 420] [--workers N] [--seed 0] [--quick]
    python benchmarks/train_surroundings.py OUT --score surroundings

Volumes are simulated in memory by other processes while the network learns from those that are there, each as all of
its tomogram types, two of three varied and one like the CZII challenge's; the truth is the simulator's own. What is
written into OUT is a model folder, and `iou.json` with intersections over unions on runs of seeds that were never
learned from. Copy recipe.json, detector.json, weights.safetensors and README.md to src/tomopick/models/surroundings to
ship it. OUT/state.pt holds what a training has come to: the same command goes on from there, for the seconds that are
left of it.

A flat piece of a membrane whose normal no tilt comes near to gives no signal (the missing wedge; a third to a half of
a sphere). Such pieces are neither learned from nor counted.

`--score` measures a model at its own cuts instead, on runs of a third kind of seeds: those that vary as for training,
and those like the CZII challenge's with gold and membranes in them. It writes OUT/scores.json.

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
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.types import PickableObject
from tomopick.networks.activations import Sigmoid
from tomopick.networks.engines import autocast, place
from tomopick.networks.unet import UNetSpec
from tomopick.picking.detector import Detector
from tomopick.picking.folder import TrainingFacts
from tomopick.picking.load import load_detector
from tomopick.picking.method import Method
from tomopick.picking.resample import onto
from tomopick.picking.tiling import SteepWindow, TilingSpec
from tomopick.simulation import simulate
from tomopick.simulation.run import SimulationSpec, czii_spec

log = logging.getLogger("surroundings")

NAMES = ("sample", "gold", "carbon", "membrane")
COLORS = ((86, 180, 233, 255), (230, 159, 0, 255), (213, 94, 0, 255), (0, 158, 115, 255))
SPACING = 20.0  # [Å]: two voxels across a membrane
TYPES = ("denoised", "wbp", "ctfdeconvolved", "isonetcorrected")
TRAIN_SEED, VAL_SEED, TEST_SEED = 11_000_000, 12_000_000, 13_000_000
MOST_RUNS = 900  # that are kept in memory
LEAST_RUNS = 4  # before learning begins
MEMBRANES = ("found of what shows", "found of what is hidden", "right within a voxel", "overlap with hidden ones")
STATE = "state.pt"
KEEP_EVERY = 60.0  # seconds between what is kept of a training
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
    """One run as the network sees it: (type, z, y, x) normalised values, (name, z, y, x) bool.

    `hidden` (z, y, x) is of membranes that lie in the missing wedge.
    """

    values: np.ndarray
    truth: np.ndarray
    hidden: np.ndarray


def spec_of(plan: Plan, types: tuple[str, ...]) -> SimulationSpec:
    """Runs with far more around the particles than is usual."""
    spec = SimulationSpec(plan.shape, voxel_spacing=(8.0, 13.0), tomo_types=types)
    specimen = replace(
        spec.specimen,
        gold=(0.0, 120.0), membranes=(0.0, 140.0), frost=(0.0, 60.0), carbon=0.45, carbon_depth=(0.05, 0.5),
        carbon_thickness=(100.0, 300.0), crowding=(0.3, 8.0),
    )  # fmt: skip
    return replace(spec, specimen=specimen)


def like_czii(plan: Plan, types: tuple[str, ...]) -> SimulationSpec:
    """Runs like the challenge's, in thinner ice, with gold and membranes."""
    spec = czii_spec(plan.shape, tomo_types=types)
    specimen = replace(spec.specimen, thickness=(900.0, 1100.0), membranes=(60.0, 120.0), gold=(10.0, 60.0), carbon=0.5)
    return replace(spec, specimen=specimen)


KINDS = {"varied": spec_of, "like CZII": like_czii}


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


def make(job: tuple[Plan, tuple[str, ...], int, str]) -> Sample:
    """Simulates a run of a kind and brings it to the network's grid."""
    plan, types, seed, kind = job
    made = simulate(KINDS[kind](plan, types), CZII_OBJECTS, run=f"s{seed}", seed=seed, surroundings=True)
    detector = blank(plan)
    seen = [detector.prepare(t) for t in made.tomograms.values()]
    source, target = next(iter(made.tomograms.values())).grid, seen[0][1]
    # Not as tomograms are: an empty part of a mask is no void.
    *truth, hidden = (
        onto(made.surroundings[name].astype(np.float32), source, target) > 0.5 for name in (*NAMES, "hidden membrane")
    )
    values = np.stack([np.asarray(values, dtype=np.float16) for values, _ in seen])
    return Sample(values, np.stack(truth), hidden & ~truth[-1])


class Supply:
    """Runs that other processes simulate: never more begun than they are at.

    Args:
        plan: sizes.
        workers: processes; 0: simulated here, when one is asked for.
        seed: of the training.
        most: runs, in all of this call.
    """

    def __init__(self, plan: Plan, workers: int, seed: int, most: int = MOST_RUNS) -> None:
        self.plan, self.seed, self.most = plan, TRAIN_SEED + 100_000 * seed, most
        self.pool = None
        if workers:
            self.pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin_worker)
        self.workers, self.made, self._begun = workers, 0, 0
        self.val: deque[Future[Sample]] = deque()
        self.coming: deque[Future[Sample]] = deque()

    def validation(self) -> list[Sample]:
        """The runs that are scored; waits for them."""
        kinds = [tuple(KINDS)[i % 2] for i in range(self.plan.val_runs)]
        jobs = [(self.plan, TYPES[:2], VAL_SEED + i, kind) for i, kind in enumerate(kinds)]
        return list(self.pool.map(make, jobs)) if self.pool else [make(job) for job in jobs]

    def take(self) -> list[Sample]:
        """What has become ready since the last time."""
        if self.pool is None:
            return [make(self._next())] if self.made < self.plan.val_runs + LEAST_RUNS else []
        while len(self.coming) < 2 * self.workers and self._begun < self.most:
            self.coming.append(self.pool.submit(make, self._next()))
        ready = [f for f in self.coming if f.done()]
        self.coming = deque(f for f in self.coming if not f.done())
        return [f.result() for f in ready]

    def close(self) -> None:
        """Lets the processes end."""
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> tuple[Plan, tuple[str, ...], int, str]:
        self.made, self._begun = self.made + 1, self._begun + 1
        return self.plan, TYPES, self.seed + self.made, "varied" if self.made % 3 else "like CZII"


def batch_of(samples: list[Sample], plan: Plan, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
    """Grey values (b, 1, z, y, x), truth and what counts (b, name, z, y, x) of random crops, turned and varied.

    Half of the crops are around something rare.
    """
    values, truths, counted = [], [], []
    for _ in range(plan.batch):
        s = samples[int(rng.integers(len(samples)))]
        kind = int(rng.integers(len(s.values)))
        start = _start(s, plan.crop, rng)
        box = tuple(slice(a, a + n) for a, n in zip(start, plan.crop))
        shows = np.ones((len(NAMES), *s.hidden.shape), dtype=bool)[(slice(None), *box)]
        shows[-1] = ~s.hidden[box]
        flips = tuple(-1 - axis for axis in range(3) if rng.random() < 0.5)
        turn = bool(rng.random() < 0.5)
        for found, whole in (
            (values, s.values[(kind, *box)]),
            (truths, s.truth[(slice(None), *box)]),
            (counted, shows),
        ):
            found.append(_turned(_filled(whole, plan.crop), flips, turn).astype(np.float32))
    grey, truth, shows = (torch.from_numpy(np.stack(v)) for v in (values, truths, counted))
    return _varied(grey[:, None], rng), truth, shows


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


def loss_of(logits: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, and the soft Dice of each name over the batch, which weighs rare ones as much as the sample."""
    heat = logits.sigmoid() * counted
    both = (heat * truth).sum(dim=(0, 2, 3, 4))
    dice = 1 - (2 * both + 10) / (heat.sum(dim=(0, 2, 3, 4)) + truth.sum(dim=(0, 2, 3, 4)) + 10)
    return binary_cross_entropy_with_logits(logits, truth, weight=counted) + dice.mean()


@torch.no_grad()
def heatmaps(network: nn.Module, sample: Sample, multiple: int, device: torch.device) -> Iterator[np.ndarray]:
    """(name, z, y, x) of each of a run's tomogram types."""
    network.eval()
    z, y, x = sample.truth.shape[1:]
    shape = tuple(-(-n // multiple) * multiple for n in (z, y, x))
    for values in sample.values:
        grey = torch.from_numpy(_filled(values.astype(np.float32), shape))[None, None].to(device)
        yield network(grey)[0].float().sigmoid().cpu().numpy()[:, :z, :y, :x]


def counts_of(network: nn.Module, val: list[Sample], multiple: int, device: torch.device) -> np.ndarray:
    """(name, cut, 2): voxels in both and in either of heatmap above a cut and truth, over all runs and types."""
    found = np.zeros((len(NAMES), len(CUTS), 2))
    for s in val:
        for heat in heatmaps(network, s, multiple, device):
            heat[-1][s.hidden] = 0
            for k, cut in enumerate(CUTS):
                above = heat >= cut
                found[:, k, 0] += (above & s.truth).sum(axis=(1, 2, 3))
                found[:, k, 1] += (above | s.truth).sum(axis=(1, 2, 3))
    return found


def of_membranes(marked: np.ndarray, shown: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """(measure, 2): numerators and denominators of `MEMBRANES`, of (z, y, x) bool volumes."""
    every = shown | hidden
    near = binary_dilation(every, np.ones((3, 3, 3)))
    pairs = (
        (marked & shown, shown),
        (marked & hidden, hidden),
        (marked & near, marked),
        (marked & every, marked | every),
    )
    return np.array([[a.sum(), b.sum()] for a, b in pairs], dtype=float)


def score(model: str, runs: int, args: argparse.Namespace) -> None:
    """Intersections over unions of a model at its own cuts, and more of membranes, on runs of both kinds."""
    detector = load_detector(model)
    device = torch.device(args.device)
    network, cuts = detector.network.to(device), np.array([detector.thresholds["f1"][n] for n in NAMES])
    plan, told = Plan(), {}
    for kind in KINDS:
        voxels, more = np.zeros((2, len(NAMES), 2)), np.zeros((2, len(MEMBRANES), 2))
        for i in range(runs):
            s = make((plan, TYPES[:2], TEST_SEED + i, kind))
            for k, heat in enumerate(heatmaps(network, s, detector.method.network.multiple, device)):
                above = heat >= cuts[:, None, None, None]
                more[k] += of_membranes(above[-1], s.truth[-1], s.hidden)
                above[-1] &= ~s.hidden
                both, either = (above & s.truth).sum(axis=(1, 2, 3)), (above | s.truth).sum(axis=(1, 2, 3))
                voxels[k] += np.stack([both, either], axis=1)
            log.info("%s, %d of %d", kind, i + 1, runs)
        for which, v, m in zip(TYPES, voxels, more):
            iou, shares = v[:, 0] / np.maximum(v[:, 1], 1), m[:, 0] / np.maximum(m[:, 1], 1)
            told[f"{kind}, {which}"] = {n: round(float(v), 3) for n, v in zip((*NAMES, *MEMBRANES), (*iou, *shares))}
            log.info("%s, %s: %s", kind, which, told[f"{kind}, {which}"])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "scores.json").write_text(json.dumps({"model": model, "runs": runs, **told}, indent=1) + "\n")


def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves the running average of the weights on."""
    with torch.no_grad():
        for a, b in zip(average.state_dict().values(), network.state_dict().values()):
            if a.dtype.is_floating_point:
                a.lerp_(b, 1 - decay)
            else:
                a.copy_(b)


@torch.no_grad()
def mix(network: nn.Module, before: nn.Module, share: float) -> None:
    """Makes a network's weights so much of themselves and the rest of those of another."""
    earlier = before.state_dict()
    for name, values in network.state_dict().items():
        if values.dtype.is_floating_point:
            values.lerp_(earlier[name].to(values), 1 - share)


def write(detector: Detector, network: nn.Module, counts: np.ndarray, told: dict[str, Any], out: Path) -> None:
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


def card(detector: Detector, told: dict[str, Any]) -> str:
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
        *began(told),
        "- scored on simulated runs of other seeds, whose cuts are the best there; membranes in the missing wedge are "
        "left out", "",
        "| what | cut | intersection over union |", "|---|--:|--:|", *rows, "",
        "Made by benchmarks/train_surroundings.py; use it by `tomopick mask` and `tomopick pick --clean`.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def began(told: dict[str, Any]) -> list[str]:
    """A line on the model that a training began with."""
    before = told.get("before")
    if not before:
        return []
    mean = "" if told["share"] == 1 else f"; the mean of both, {told['share']:.0%} of it the later one's"
    return [f"- began with a model of {before['runs']} runs and {before['steps']} steps{mean}"]


def train(plan: Plan, args: argparse.Namespace) -> None:
    """Learns until the time is up, then writes the model."""
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    supply = Supply(plan, args.workers, args.seed, args.learn_runs)
    try:
        detector = blank(plan)
        if args.init_from:
            detector.network.load_state_dict(load_detector(args.init_from).network.state_dict())
        network = place(detector.network, device)
        average = copy.deepcopy(network)
        optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr, weight_decay=0.01)
        held = {"network": network, "average": average, "optimizer": optimizer}
        step, spent, supply.made = restored(args.out / STATE, held, device)
        rng = np.random.default_rng((args.seed, step))
        val = supply.validation()
        samples: list[Sample] = []
        clock = time.process_time if device.type == "cpu" else time.monotonic  # others share a CPU
        kept, losses, began = spent, deque(maxlen=100), clock()
        log.info("%d validation runs; from step %d", len(val), step)
        while True:
            samples = (samples + supply.take())[-MOST_RUNS:]
            if len(samples) < LEAST_RUNS:
                time.sleep(0.05)
                continue
            now = spent + clock() - began
            share = now / args.seconds if not args.quick else step / 3
            for group in optimizer.param_groups:
                group["lr"] = args.lr * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
            if share >= 1:
                break
            network.train()
            grey, truth, counted = (v.to(device, non_blocking=True) for v in batch_of(samples, plan, rng))
            with autocast(device):
                logits = network(grey)
            loss = loss_of(logits.float(), truth, counted)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
            follow(average, network, min(0.998, 1 - 1 / (step + 1)))
            if step % 20 == 0:
                losses.append(loss.item())
            if now - kept > KEEP_EVERY:
                kept = now
                keep(args.out / STATE, held, step, now, supply.made)
                log.info("step %d, loss %.3f, %d runs", step, float(np.mean(losses)), supply.made)
        told = {"steps": step, "runs": supply.made, "seconds": round(now), "seed": args.seed}
        if args.init_from:
            before = load_detector(args.init_from)
            mix(average, before.network, args.average)
            told |= {"before": dict(before.facts.provenance), "share": args.average}
        write(detector, average, counts_of(average, val, plan_multiple(plan), device), told, args.out)
    finally:
        supply.close()


def keep(path: Path, held: dict[str, Any], step: int, spent: float, made: int) -> None:
    """What a training has come to, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    states = {name: part.state_dict() for name, part in held.items()}
    torch.save({**states, "step": step, "spent": spent, "made": made}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def restored(path: Path, held: dict[str, Any], device: torch.device) -> tuple[int, float, int]:
    """Steps, processor seconds and runs of a training that was cut off; 0 of a new one."""
    if not path.is_file():
        return 0, 0.0, 0
    state = torch.load(path, map_location=device, weights_only=True)
    for name, part in held.items():
        part.load_state_dict(state[name])
    return state["step"], state["spent"], state["made"]


def plan_multiple(plan: Plan) -> int:
    """What edges must be divisible by."""
    return UNetSpec(widths=plan.widths).multiple


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=420.0, help="of the training; of its processor on a CPU")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--learn-runs", type=int, default=MOST_RUNS, help="that are simulated to learn from, at most")
    parser.add_argument("--val-runs", type=int, default=Plan.val_runs, help="by which its cuts are chosen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--init-from", default="", metavar="MODEL", help="whose weights it begins with")
    parser.add_argument("--average", type=float, default=1.0, metavar="SHARE",
                        help="of the new weights in the mean with those of --init-from")  # fmt: skip
    parser.add_argument("--score", default="", metavar="MODEL", help="measure this one, and train none")
    parser.add_argument("--runs", type=int, default=8, help="of each kind that --score measures")
    parser.add_argument("--quick", action="store_true", help="a minute on a CPU, and a useless model")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.score:
        score(args.score, args.runs, args)
        return
    plan = Plan(val_runs=args.val_runs)
    if args.device.startswith("cpu"):
        plan = replace(plan, crop=(32, 64, 64), batch=4)
    if args.quick:
        plan = Plan((48, 96, 96), (16, 32, 32), 2, 1, (8, 8, 8, 8))
        args.workers = min(args.workers, 1)
    if args.average < 1 and not args.init_from:
        parser.error("--average needs the model of --init-from")
    train(plan, args)


if __name__ == "__main__":
    main()
