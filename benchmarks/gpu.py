"""What a GPU makes of it: one prepared script that goes from the most telling part to the least, within a time.

    python benchmarks/gpu.py OUT                           # all parts, on the GPU, within 8 minutes
    python benchmarks/gpu.py OUT --minutes 4 --parts pick,train,parity
    python benchmarks/gpu.py OUT --device cpu --quick      # that it runs: tiny volumes and narrowed networks

Parts: `pick`, seconds by step of a tomogram of 184 x 630 x 630 voxels with the shipped model, by way of the host and on
the device; `train`, Mvoxel/s of `light` with patches made by the host's processes and on the device, launched and
recorded; `parity`, its picks and its network against the CPU's; `fit`, a whole short training; `resume`, how far a
training that goes on comes from one that never stopped, beside two that never stopped; `memory`, with a part of the
card's memory; `recipes`, seconds by step and the network's parity of every recipe, with random weights; `trainings`,
Mvoxel/s of every recipe; `processes`, several on one card. A part that fails says why, and the next begins; each line
is printed as it is known and appended to OUT/gpu.jsonl. Nothing is read from files but the shipped model.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from tomopick import load_model, recipes
from tomopick.core.signals import environment_of_child
from tomopick.core.types import Grid, PickableObject, Picks, Tomogram
from tomopick.networks.engines import EngineSpec, choose_device
from tomopick.picking.detector import Detector
from tomopick.picking.folder import TrainingFacts
from tomopick.picking.picker import Picker, PickOptions
from tomopick.picking.predict import VIEWS
from tomopick.picking.tensors import uploaded
from tomopick.training.loop import TrainState, train
from tomopick.training.patches import LabelledVolume, PatchSampler, batches
from tomopick.training.recipe import Recipe
from tomopick.training.recorded import Recorder
from tomopick.training.tensor_patches import made_on

SPACING = 10.012444  # of the shipped model [Å]
SCRATCH = Path(tempfile.gettempdir()) / f"tomopick-gpu-{os.getuid()}"  # of volumes and models that need no keeping
NARROW = {name: ["network.width=0.1"] for name in recipes.names()} | {
    **{name: ["network.widths=8,8,8"] for name in ("bpd", "light", "bpd_released", "soup_tiny")},
    **{
        f"soup_{size}": ["network.widths=8,8,8,8"]
        for size in ("medium", "released_tiny", "released_medium", "released_big")
    },
    "soup_large": ["network.widths=8,8,8,8,8"],
}
FIRST = ("topcup", "unet25d_convnext", "unet25d_resnetrs", "semietpicker", "bpd", "topcup_released")  # of recipes
OBJECTS = tuple(
    PickableObject(name, radius, label)
    for label, (name, radius) in enumerate(
        {"apo-ferritin": 60.0, "beta-amylase": 65.0, "beta-galactosidase": 90.0, "ribosome": 150.0,
         "thyroglobulin": 130.0, "virus-like-particle": 135.0}.items(), 1)
)  # fmt: skip


@dataclass
class Bench:
    """What all parts share.

    Attributes:
        out: folder of the results.
        device: where it runs.
        quick: tiny volumes and narrowed networks.
        until: of the monotonic clock; nothing is begun behind it.
        workers: processes that make patches.
    """

    out: Path
    device: torch.device
    quick: bool
    until: float
    workers: int
    began: float = field(default_factory=time.monotonic)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a tomogram."""
        return (32, 64, 64) if self.quick else (184, 630, 630)

    @property
    def gpu(self) -> bool:
        """Whether it is one."""
        return self.device.type == "cuda"

    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.until

    def sync(self) -> None:
        """Waits for the device."""
        if self.gpu:
            torch.cuda.synchronize()

    def clock(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds of a piece of work, and what it gave."""
        self.sync()
        began = time.perf_counter()
        found = work()
        self.sync()
        return time.perf_counter() - began, found

    def told(self, part: str, **figures: Any) -> None:
        """One line of results."""
        row = {"part": part, **figures, "at": round(time.monotonic() - self.began, 1)}
        text = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print(text, flush=True)
        with (self.out / "gpu.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def recipe(self, name: str) -> Recipe:
        """A recipe, narrowed where it is to be quick."""
        method = recipes.get(name)
        return method.override([*NARROW[name], "patch.shape=32,32,32", "train.batch_size=2"]) if self.quick else method


@dataclass
class Timed:
    """An engine that notes how long it takes, and what it is given."""

    engine: Any
    bench: Bench
    seconds: float = 0.0
    voxels: int = 0

    @property
    def tensors_on(self) -> torch.device | None:
        """As the engine's own."""
        return self.engine.tensors_on

    def __call__(self, tile: Any) -> Any:
        """The engine's answer."""
        seconds, found = self.bench.clock(lambda: self.engine(tile))
        self.seconds += seconds
        self.voxels += int(np.prod(tile.shape))
        return found


def phantom(shape: Sequence[int], seed: int = 0, spacing: float = SPACING) -> tuple[Tomogram, Picks]:
    """Dark balls of all sizes in smooth noise, and where they are; kept in a file, for a large one takes seconds."""
    place = SCRATCH / f"phantom-{'x'.join(map(str, shape))}-{seed}.npz"
    if not place.is_file():
        part = place.with_name(f"{os.getpid()}-{place.name}")
        values, centres, names = _made(shape, seed, spacing)
        np.savez(part, values=values, centres=centres, names=names)
        part.replace(place)
    with np.load(place) as kept:
        values, centres, names = kept["values"], kept["centres"], kept["names"]
    grid = Grid((shape[0], shape[1], shape[2]), spacing)
    return Tomogram("phantom", values, grid, "denoised"), Picks("phantom", grid.positions(centres), names)


def _made(shape: Sequence[int], seed: int, spacing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(tuple(shape), dtype=np.float32)
    for axis in range(3):
        values += np.roll(values, 1, axis)
    values *= np.float32(1 / np.sqrt(8))
    n = max(6, int(np.prod(shape) / 60_000))
    centres = rng.random((n, 3)) * (np.asarray(shape) - 1)
    names = []
    for i, centre in enumerate(centres):
        obj = OBJECTS[i % len(OBJECTS)]
        radius = obj.radius_angstrom / spacing
        reach = int(1.5 * radius)
        low = np.maximum(centre.astype(int) - reach, 0)
        high = np.minimum(centre.astype(int) + reach + 1, shape)
        box = tuple(slice(a, b) for a, b in zip(low, high))
        zyx = np.ogrid[box]
        distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(zyx, centre))) / radius
        values[box] -= (2.5 / (1 + np.exp(8 * (distance - 0.8)))).astype(np.float32)
        names.append(obj.name)
    return values, centres, np.array(names)


def fresh(tomogram: Tomogram) -> Tomogram:
    """The same volume, of which nothing is known yet."""
    return Tomogram(tomogram.run, tomogram.values, tomogram.grid, tomogram.tomo_type)


def untrained(method: Recipe) -> Detector:
    """A recipe's detector with random weights."""
    torch.manual_seed(0)
    network = method.network.build(len(OBJECTS)).eval()
    cuts = {m: {o.name: 0.9 for o in OBJECTS} for m in ("f1", "czii")}
    facts = TrainingFacts(voxel_spacing=SPACING)
    return Detector(method.method, OBJECTS, network, cuts, facts, recipe_json=method.to_json())


def picker_of(bench: Bench, model: Any, on_device: bool | None, **more: Any) -> Picker:
    """A picker by torch's own engines, on the device or by way of the host."""
    engine = "auto" if bench.gpu else "torch"
    return Picker(model, PickOptions(**{"device": str(bench.device), "engine": engine, **more}), on_device=on_device)


def by_steps(bench: Bench, picker: Picker, tomogram: Tomogram, times: int) -> dict[str, float]:
    """Medians of seconds by step, and how many voxels the network computed over those of the volume."""
    if not bench.quick:
        picker.pick(fresh(tomogram))  # sets up and records
    rows: list[dict[str, float]] = []
    plain = picker.predictors
    for _ in range(times):
        volume = fresh(tomogram)
        engines = [Timed(p.engine, bench) for p in plain]
        picker.predictors = [replace(p, engine=e) for p, e in zip(plain, engines)]
        prepare, prepared = bench.clock(lambda volume=volume: picker.prepare(volume))
        pick, (picks, _) = bench.clock(lambda prepared=prepared: picker.pick(prepared))
        picker.predictors = plain
        network, computed = sum(e.seconds for e in engines), sum(e.voxels for e in engines)
        whole = prepare + pick if bench.quick else bench.clock(lambda: picker.pick(fresh(tomogram)))[0]
        views = sum(len(p.views) for p in plain)
        size = float(np.prod(prepared.members[0][0].shape)) * views
        rows.append({"s": whole, "prepare": prepare, "network": network, "rest": pick - network,
                     "computed": computed / size, "picks": float(len(picks))})  # fmt: skip
    found = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    return found | {"network_share": found["network"] / found["s"]}


def part_pick(bench: Bench) -> None:
    """Seconds by step with the shipped model."""
    model, tomogram = load_model("default"), phantom(bench.shape)[0]
    there = picker_of(bench, model, True)
    bench.told(
        "pick", way="device", engine=there.engines()[0], **by_steps(bench, there, tomogram, 1 if bench.quick else 7)
    )
    if bench.gpu:
        sent, normalize = uploaded(fresh(tomogram), bench.device), model.detectors[0].method.normalize
        steps = {"upload": lambda: uploaded(fresh(tomogram), bench.device), "normalise": lambda: normalize(sent)}
        for what, work in steps.items():
            work()
            bench.told("pick", step=what, s=min(bench.clock(work)[0] for _ in range(5)))
        bench.told("pick", peak_gib=torch.cuda.max_memory_allocated() / 2**30)
    here = picker_of(bench, model, False)
    bench.told("pick", way="host", **by_steps(bench, here, tomogram, 1 if bench.quick else 2))


def volumes(bench: Bench, n: int = 2) -> list[LabelledVolume]:
    """Labelled volumes to train on."""
    made = []
    for seed in range(n):
        tomogram, picks = phantom((40, 64, 64) if bench.quick else (184, 320, 320), seed)
        known = dict.fromkeys(o.name for o in OBJECTS)
        made.append(LabelledVolume(tomogram.values, tomogram.grid, picks, known))
    return made


def sampler_of(method: Recipe, data: Sequence[LabelledVolume]) -> PatchSampler:
    """What draws a recipe's labelled patches."""
    return PatchSampler(data, OBJECTS, method.patch, method.target, method.augment, method.network.stride, 0)


def started(bench: Bench, method: Recipe) -> TrainState:
    """A training before its first step."""
    torch.manual_seed(0)
    return TrainState.start(method.network.build(len(OBJECTS)), method.train, bench.device)


def supervised(method: Recipe) -> Any:
    """A recipe's objective; of a semi-supervised one, that of its labelled half."""
    spec = getattr(method.objective, "labelled", method.objective)
    return spec.build(method.loss)


def rate(
    bench: Bench, method: Recipe, data: Sequence[LabelledVolume], steps: int, on_device: bool, recorded: bool
) -> dict[str, float]:
    """Mvoxel/s of a training's steps, patches and all, behind some that are not counted; and the last loss."""
    sampler, state, batch_size = sampler_of(method, data), started(bench, method), method.train.batch_size
    skipped = 1 if bench.quick else 8
    stop = steps + skipped
    stream: Iterator[Any]
    if on_device:
        stream = made_on(bench.device, sampler, batch_size, 0, stop, bench.workers)
    else:
        stream = batches(sampler, batch_size, 0, stop, bench.workers)
    slope = Recorder(supervised(method)) if recorded else None
    reports = train(state, supervised(method), stream, method.train, slope)
    for report in islice(reports, skipped):
        report.loss  # noqa: B018 (waits for the step)
    bench.sync()
    began, counted = time.perf_counter(), list(reports)
    loss = counted[-1].loss
    seconds = (time.perf_counter() - began) / len(counted)
    mode = getattr(slope, "_recorded", {})
    return {"Mvoxel/s": batch_size * float(np.prod(method.patch.shape)) / seconds / 1e6, "ms": 1e3 * seconds,
            "loss": loss, "recordings": len(mode)}  # fmt: skip


def part_train(bench: Bench) -> None:
    """Mvoxel/s of `light`, in three ways, and the step's own speed on one batch over and over."""
    method, data = bench.recipe("light"), volumes(bench)
    for way, on_device, recorded in (
        ("on the device, recorded", True, bench.gpu), ("on the device, launched", True, False), ("host", False, False),
    ):  # fmt: skip
        steps = 2 if bench.quick else 150 if on_device else 60
        bench.told("train", recipe="light", way=way, **rate(bench, method, data, steps, on_device, recorded))
    sampler = sampler_of(method, data)
    for what, recorded in (("step alone, recorded", True), ("step alone, launched", False)):
        if recorded and not bench.gpu:
            continue
        batch = next(made_on(bench.device, sampler, method.train.batch_size, 0, 1))
        state, objective = started(bench, method), supervised(method)
        n, skipped = (1, 1) if bench.quick else (60, 6)
        reports = train(
            state, objective, [batch] * (n + skipped), method.train, Recorder(objective) if recorded else None
        )
        for report in islice(reports, skipped):
            report.loss  # noqa: B018
        seconds = bench.clock(lambda reports=reports: [None for _ in reports])[0] / n
        bench.told("train", recipe="light", way=what, ms=1e3 * seconds,
                   **{"Mvoxel/s": batch.volume.numel() / seconds / 1e6})  # fmt: skip
    count = 2 if bench.quick else 40
    made = made_on(bench.device, sampler, method.train.batch_size, 0, count + 4, bench.workers)
    next(made)
    seconds = bench.clock(lambda: [None for _ in made])[0] / (count + 3)
    bench.told("train", recipe="light", way="patches alone, on the device", ms=1e3 * seconds)


def matched(one: Picks, other: Picks, reach: float = 10.0) -> float:
    """Share of picks of one that the other has within a reach [Å], of the same object."""
    hits = total = 0
    for name in {*one.names.tolist()}:
        mine, theirs = one.of(name).positions, other.of(name).positions
        total += len(mine)
        if len(theirs):
            hits += int((cKDTree(theirs).query(mine)[0] < reach).sum())
    return hits / max(total, 1)


def part_parity(bench: Bench) -> None:
    """Picks of the shipped model down to a score of 0.1, against the CPU's in float32."""
    tomogram = phantom((32, 80, 80) if bench.quick else (128, 320, 320), 3)[0]
    model = load_model("default")
    floor = dict.fromkeys((o.name for o in model.objects), 0.1)
    options = {"thresholds": floor}
    own = model if bench.quick else load_model("default")
    cpu = Picker(own, PickOptions(device="cpu", engine="torch", precision="f32", thresholds=floor))
    seconds, (wanted, _) = bench.clock(lambda: cpu.pick(fresh(tomogram)))
    bench.told("parity", of="CPU, torch, f32", picks=len(wanted), s=seconds)
    for precision in ("f32", "half"):
        for on_device in (True, False):
            own = model if bench.quick else load_model("default")
            found = picker_of(bench, own, on_device, precision=precision, **options)
            picks = found.pick(fresh(tomogram))[0]
            bench.told("parity", of=f"{found.engines()[0]}, {'device' if on_device else 'host'}", picks=len(picks),
                       found=matched(wanted, picks), back=matched(picks, wanted))  # fmt: skip


def part_fit(bench: Bench) -> None:
    """A whole short training from a project in memory to a model folder."""
    from tomopick import FitOptions, Source, fit
    from tomopick.data import MemoryProject

    project = MemoryProject(OBJECTS)
    for seed, run in enumerate("ABC"):
        tomogram, picks = phantom((40, 64, 64) if bench.quick else (96, 256, 256), seed)
        project.add(replace(tomogram, run=run), replace(picks, run=run))
    steps = 3 if bench.quick else 200
    method = bench.recipe("light").override([f"train.steps={steps}", f"train.validate_every={max(2, steps // 2)}"])
    out = SCRATCH / f"fit-{os.getpid()}-{time.time():.0f}"
    options = FitOptions(str(bench.device), workers=bench.workers)
    seconds, made = bench.clock(lambda: fit(method, [Source(project, val_runs=["C"])], out, options))
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    bench.told("fit", steps=len(rows), s=seconds, first=rows[0]["loss"], last=rows[-1]["loss"],
               score=rows[-1].get("val_score"), thresholds=len(made.thresholds["f1"]))  # fmt: skip


def part_resume(bench: Bench) -> None:
    """How far weights and losses of a training that was cut off in the middle come from one that was not."""
    method, data = bench.recipe("light"), volumes(bench, 1)
    half = 2 if bench.quick else 20
    place = SCRATCH / f"state-{os.getpid()}"
    place.mkdir(exist_ok=True)

    def steps(state: TrainState, first: int, stop: int) -> list[float]:
        stream = made_on(bench.device, sampler_of(method, data), method.train.batch_size, first, stop)
        objective = supervised(method)
        return [
            r.loss for r in train(state, objective, stream, method.train, Recorder(objective) if bench.gpu else None)
        ]

    whole, again, cut, gone_on = (started(bench, method) for _ in range(4))
    wanted, same = steps(whole, 0, 2 * half), steps(again, 0, 2 * half)
    found = steps(cut, 0, half)
    cut.save(place)
    gone_on.load(place)
    found += steps(gone_on, half, 2 * half)

    def apart(one: TrainState, other: TrainState) -> float:
        pairs = zip(one.averages["ema"].tensors.values(), other.averages["ema"].tensors.values())
        return max(float((a.float() - b.float()).norm() / b.float().norm().clamp(min=1e-9)) for a, b in pairs)

    for what, losses, state in (("two that never stopped", same, again), ("one that went on", found, gone_on)):
        worst = max(abs(a - b) / abs(b) for a, b in zip(losses, wanted))
        bench.told("resume", of=what, loss_apart=worst, weights_apart=apart(state, whole))


def part_recipes(bench: Bench) -> None:
    """Seconds by step of every recipe with random weights, and how near its network is to the CPU's."""
    tomogram = phantom(bench.shape)[0]
    for name in [*FIRST, *(n for n in recipes.names() if n not in FIRST)]:
        if bench.late():
            bench.told("recipes", skipped=f"{name} and what follows: the time is up")
            return
        try:
            method = bench.recipe(name)
            model = untrained(method.override(["peaks=LocalMaxima"]) if bench.quick else method)
            edge = -(-48 // method.network.multiple) * method.network.multiple
            tile = np.random.default_rng(0).standard_normal((edge,) * 3, dtype=np.float32)
            answers = [
                EngineSpec("torch", precision).build(method.network.build(6).eval(), device, method.network.multiple)
                for precision, device in (("f32", "cpu"), ("f32", bench.device), ("half", bench.device))
            ]
            for engine in answers:
                engine.network.load_state_dict(model.network.state_dict())
            wanted, f32, half = (engine(tile) for engine in answers)
            apart = [float(np.abs(found - wanted).max() / wanted.std()) for found in (f32, half)]
            del answers
            # In haste the views of one recipe stand for all: they are the same code.
            told = {"views": "none"} if bench.quick and name != FIRST[0] else {}
            picker = picker_of(bench, model, True, **told)
            figures = by_steps(bench, picker, tomogram, 1 if bench.quick else 2)
            views = len(VIEWS[told.get("views", method.views)])
            bench.told("recipes", recipe=name, views=views, f32_apart=apart[0], half_apart=apart[1], **figures)
        except Exception as error:
            bench.told("recipes", recipe=name, failed=f"{type(error).__name__}: {str(error)[:300]}")
            traceback.print_exc()
        if bench.gpu:
            torch.cuda.empty_cache()


def part_trainings(bench: Bench) -> None:
    """Mvoxel/s of every recipe, patches by the host's processes and on the device."""
    data = volumes(bench)
    for name in [*FIRST, *(n for n in recipes.names() if n not in FIRST)]:
        for on_device in (True,) if bench.quick else (False, True):
            if bench.late():
                bench.told("trainings", skipped=f"{name} and what follows: the time is up")
                return
            try:
                method = bench.recipe(name)
                steps = 1 if bench.quick else 16
                figures = rate(bench, method, data, steps, on_device, on_device and bench.gpu)
                bench.told("trainings", recipe=name, way="device" if on_device else "host", **figures)
            except Exception as error:
                bench.told("trainings", recipe=name, failed=f"{type(error).__name__}: {str(error)[:300]}")
                traceback.print_exc()
            if bench.gpu:
                torch.cuda.empty_cache()


def child(bench: Bench, task: str, processes: int) -> subprocess.Popen[str]:
    """This script for one task, in a process of its own, of so many that run side by side."""
    quick = ["--quick"] if bench.quick else []
    call = [sys.executable, __file__, str(bench.out), "--device", str(bench.device), *quick, "--child", task]
    environment = environment_of_child(str(bench.device), processes)
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def ended(process: subprocess.Popen[str]) -> str:
    """What a process printed; one that takes too long is ended, for the others' sake."""
    try:
        return process.communicate(timeout=100)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0] + "\nended: it took too long"


def part_memory(bench: Bench) -> None:
    """Picking with so many GiB of the card: seconds, its highest use, and whether the picks are the same."""
    together = [(0, 2)] if bench.quick else [(0,), (6,), (12,), (24,)]
    for limits in together:
        if bench.late():
            return
        for process in [child(bench, f"memory:{gib}", len(limits)) for gib in limits]:
            print(ended(process).strip(), flush=True)
    found = [bench.out / f"memory-{gib}.npz" for gib in (0, 24, 12, 6, 2)]
    tables = {path.stem: np.load(path) for path in found if path.is_file()}
    if "memory-0" not in tables:
        return
    whole = _picks(tables["memory-0"])
    for name, table in tables.items():
        bench.told("memory", limit=name, found=matched(whole, _picks(table)), back=matched(_picks(table), whole))


def _picks(table: Any) -> Picks:
    return Picks("A", table["positions"], table["names"], table["scores"])


def child_memory(bench: Bench, gib: float) -> None:
    """Picks under a limit of memory."""
    if gib and bench.gpu:
        total = torch.cuda.get_device_properties(bench.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / total), bench.device)
    tomogram, picker = phantom(bench.shape)[0], picker_of(bench, load_model("default"), True)
    picker.pick(fresh(tomogram))
    seconds, (picks, _) = bench.clock(lambda: picker.pick(fresh(tomogram)))
    peak = torch.cuda.max_memory_reserved(bench.device) / 2**30 if bench.gpu else 0.0
    edges = picker.predictors[0].tiling.plan(tomogram.grid.shape, picker.predictors[0].multiple)[0]
    bench.told("memory", gib=gib, s=seconds, peak_gib=peak, tile="x".join(map(str, edges)), picks=len(picks))
    np.savez(bench.out / f"memory-{gib:g}.npz", positions=picks.positions, names=picks.names, scores=picks.scores)


def part_processes(bench: Bench) -> None:
    """Volumes a second of one, two and four processes on one card."""
    for n in (2,) if bench.quick else (1, 2, 4):
        if bench.late():
            return
        go = bench.out / f"go-{n}-{time.time():.0f}"
        running = [child(bench, f"processes:{go}", n) for _ in range(n)]
        ready = time.monotonic() + 60
        while len(list(bench.out.glob(f"{go.name}.ready*"))) < n and time.monotonic() < ready:
            time.sleep(0.05)
        go.touch()
        texts = [ended(process) for process in running]
        rates = [float(line.split()[-1]) for text in texts for line in text.splitlines() if line.startswith("RATE")]
        bench.told("processes", n=n, volumes_per_s=sum(rates), each=[round(r, 2) for r in rates])
        if len(rates) < n:
            print("\n".join(texts), flush=True)


def child_processes(bench: Bench, go: Path) -> None:
    """Picks volumes once all are ready, and prints how many a second."""
    tomogram, picker = phantom(bench.shape)[0], picker_of(bench, load_model("default"), True)
    picker.pick(fresh(tomogram))
    go.with_name(f"{go.name}.ready{os.getpid()}").touch()
    while not go.exists():
        time.sleep(0.01)
    n = 1 if bench.quick else 10
    seconds, _ = bench.clock(lambda: [picker.pick(fresh(tomogram)) for _ in range(n)])
    print(f"RATE {n / seconds:.4f}", flush=True)


PARTS: dict[str, Callable[[Bench], None]] = {
    "pick": part_pick, "train": part_train, "parity": part_parity, "fit": part_fit, "resume": part_resume,
    "memory": part_memory, "recipes": part_recipes, "trainings": part_trainings, "processes": part_processes,
}  # fmt: skip
CHILDREN = {"memory": lambda b, v: child_memory(b, float(v)), "processes": lambda b, v: child_processes(b, Path(v))}


def main() -> int:
    """Runs the parts; the exit code says how many failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="tiny volumes and narrowed networks")
    parser.add_argument("--parts", default=",".join(PARTS), help="in this order; all: %(default)s")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no part begins")
    parser.add_argument("--workers", type=int, default=-1, help="processes that make patches; -1: half of the cores")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    workers = given.workers if given.workers >= 0 else 0 if given.quick else min(8, (os.cpu_count() or 2) // 2)
    until = time.monotonic() + 60 * given.minutes
    bench = Bench(given.out, choose_device(given.device), given.quick, until, workers)
    if given.child:
        name, _, value = given.child.partition(":")
        CHILDREN[name](bench, value)
        return 0
    card = torch.cuda.get_device_name(bench.device) if bench.gpu else f"CPU, {torch.get_num_threads()} threads"
    bench.told(
        "machine", card=card, torch=torch.__version__, numpy=np.__version__, cores=os.cpu_count(), workers=workers
    )
    failed = 0
    for name in given.parts.split(","):
        if bench.late():
            bench.told(name, skipped="the time is up")
            continue
        try:
            seconds, _ = bench.clock(lambda name=name: PARTS[name](bench))
            bench.told(name, done_s=seconds)
        except Exception as error:
            failed += 1
            bench.told(name, failed=f"{type(error).__name__}: {str(error)[:300]}")
            traceback.print_exc()
            sys.stderr.flush()
        if bench.gpu:
            torch.cuda.empty_cache()
    return failed


if __name__ == "__main__":
    sys.exit(main())
