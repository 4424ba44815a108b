"""Every method at its full width on one simulated project, for equal time: what it costs and how well it picks.

    python benchmarks/zoo.py WORK [--seconds N] [--device D] [--quick] [--only light,bpd] [--page docs/methods.md]

Each network learns from 27 varied runs, then from 6 runs like the challenge's (with the true maps where --templates has
them), half of its seconds each; thresholds are set on 2 further runs and 4 that nothing has learned from are scored.
On a CPU seconds are the process's own on all cores together, volumes are smaller, and patches and batches too (48^3,
one): each row says so. Simulations are made on the cores meanwhile, and kept in WORK/data.

Repeated after an interruption it goes on where it stopped. Each row goes to --results as it is done; the page and its
picture are made of all rows there. It needs torch, SciPy, matplotlib and safetensors alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import platform
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kept_runs import keep_run, load_run, rows_of
from matched_filter import MatchedFilter
from tomopick import (
    Detector,
    FitOptions,
    MemoryProject,
    Model,
    Picks,
    Recipe,
    Runs,
    Source,
    Tomogram,
    fit,
    load_model,
    precision_recall,
)
from tomopick.core.files import atomic_write
from tomopick.core.messages import counted
from tomopick.core.presets import CZII_OBJECTS
from tomopick.models.combine import CombineOptions, combine
from tomopick.models.soup import SoupOptions, make_soup
from tomopick.networks.engines import choose_device
from tomopick.picking.folder import read_log
from tomopick.picking.memory import Means
from tomopick.picking.picker import Picker, PickOptions
from tomopick.recipes import get
from tomopick.scoring.intervals import bootstrap
from tomopick.scoring.thresholds import calibrate
from tomopick.simulation import simulate, with_densities
from tomopick.simulation.projects import spec_of
from tomopick.training.dataset import gather
from tomopick.training.fit import fit_steps
from tomopick.training.loop import TrainState
from tomopick.training.objectives import SupervisedSpec
from zoo_page import write_page

METHODS = ("light", "bpd", "soup_tiny", "semietpicker", "topcup", "soup_medium", "unet25d_convnext",
           "unet25d_resnetrs", "soup_large")  # fmt: skip
# Ensembles as published, by their members: (recipe, seed, how many of the runs; 0 all).
ENSEMBLES = {
    "soup": (("soup_tiny", 0, 0), ("soup_medium", 0, 0), ("soup_large", 0, 0)),
    "unet25d": (("unet25d_convnext", 0, 0), ("unet25d_resnetrs", 0, 0)),
    "topcup": (("topcup", 0, 2), ("topcup", 0, 4), ("topcup", 0, 0)),
    "bpd": (("bpd", 0, 0), ("bpd", 1, 0), ("bpd", 2, 0), ("bpd", 3, 0)),
}
SOUPS = {"soup_tiny": (("soup_tiny", 0, 0), ("soup_tiny", 1, 0))}  # weights averaged
CHALLENGE = (184, 630, 630)
SEED = 20_000_000  # of the simulations; nothing that ships has learned from it


@dataclass(frozen=True)
class Sizes:
    """Shapes of the simulated runs [voxels] and how many there are.

    Attributes:
        varied: shape of the runs for pretraining.
        like: shape of those like the challenge's that are learned from.
        scored: shape of those that set thresholds and are scored.
        counts: runs for pretraining, learning, learning without labels, thresholds, scores.
        crowding: particles, as a multiple of the challenge's numbers; None: the preset's.
    """

    varied: tuple[int, int, int]
    like: tuple[int, int, int]
    scored: tuple[int, int, int]
    counts: tuple[int, int, int, int, int] = (27, 6, 4, 2, 4)
    crowding: float | None = None

    def runs(self) -> dict[str, list[str]]:
        """Names of the runs by purpose; one more varied run is validated on while a network learns."""
        kinds = dict(zip("PLUVT", self.counts)) | {"W": 1}
        return {kind: [f"{kind}{i:02d}" for i in range(n)] for kind, n in kinds.items()}


SIZES = {
    "gpu": Sizes((96, 256, 256), (184, 384, 384), CHALLENGE),
    "cpu": Sizes((96, 256, 256), (184, 384, 384), (184, 384, 384)),
    "quick": Sizes((64, 128, 128), (96, 160, 160), (96, 160, 160), (2, 2, 1, 1, 2), 8.0),
}


@dataclass(frozen=True)
class Zoo:
    """One comparison in a folder."""

    work: Path
    sizes: Sizes
    seconds: float
    device: str
    workers: int
    templates: Path | None
    results: Path

    @property
    def on_cpu(self) -> bool:
        """Whether seconds are of processor time, and patches and batches small."""
        return choose_device(self.device).type == "cpu"

    def clock(self) -> float:
        """Seconds of this process's own work on a CPU, which others on the machine do not stretch; else of the wall."""
        return time.process_time() if self.on_cpu else time.perf_counter()

    # ------------------------------------------------------------------------------------------------- simulated runs
    def file(self, run: str) -> Path:
        """Where a simulated run is kept."""
        return self.work / "data" / f"{run}.npz"

    def project(self, runs: Sequence[str]) -> MemoryProject:
        """Simulated runs, in memory; waits for those that are not made yet."""
        found = MemoryProject(CZII_OBJECTS, "zoo")
        for run in runs:
            found.add(*self.read(run))
        return found

    def read(self, run: str) -> tuple[Tomogram, Picks]:
        """A simulated run with its truth."""
        while not self.file(run).is_file():
            time.sleep(0.2)
        return load_run(self.file(run).parent, run)

    def simulations(self) -> list[tuple[str, Future[None]]]:
        """Begins to simulate what is missing, what is needed first at first."""
        runs = self.sizes.runs()
        missing = [run for kind in "WPLVTU" for run in runs[kind] if not self.file(run).is_file()]
        if not missing:
            return []
        self.file("").parent.mkdir(parents=True, exist_ok=True)
        pool = ProcessPoolExecutor(min(len(missing), max(1, self.workers)), mp_context=get_context("spawn"))
        begun = [(run, pool.submit(simulated, self.file(run), run, self.sizes, self.templates)) for run in missing]
        pool.shutdown(wait=False)
        return begun

    # ------------------------------------------------------------------------------------------------------ trainings
    def recipe(self, name: str, steps: int, supervised: bool) -> Recipe:
        """The method with its schedule, averages and ramps shortened with the training; on a CPU small batches."""
        recipe = get(name)
        spec, patch = recipe.train, recipe.patch
        if self.on_cpu:
            edge = 64 if 48 % recipe.network.multiple else 48
            patch = replace(patch, shape=(edge, edge, edge)) if min(patch.shape) > edge else patch
            spec = replace(spec, batch_size=1)
        # An average over more steps than a tenth of the training would still remember its start.
        decay = min(spec.ema_decay, 1 - 10 / max(steps, 20)) if spec.ema_decay else 0.0
        spec = replace(spec, steps=steps, warmup_steps=min(spec.warmup_steps, max(1, steps // 10)), ema_decay=decay,
                       validate_every=steps + 1, keep_top=1)  # fmt: skip
        objective = recipe.objective
        if objective.semi_supervised:
            teacher = min(objective.decay, max(decay, 0.9))
            objective = SupervisedSpec() if supervised else replace(objective, ramp=steps // 8, decay=teacher)
        return replace(recipe, train=spec, patch=patch, objective=objective)

    def source(self, recipe: Recipe, stage: str, subset: int = 0) -> Source:
        """The runs to learn from: varied ones first, then those like the challenge's."""
        runs = self.sizes.runs()
        learned = runs["P"] if stage == "pretrain" else runs["L"][: subset or None]
        more = runs["U"] if recipe.objective.semi_supervised else []
        project = self.project([*learned, *runs["W"], *more])
        return Source(Runs(project, learned), val_runs=runs["W"], unlabelled_runs=tuple(more))

    def steps(self, name: str, stage: str) -> int:
        """How many steps fit into half of the budget; measured once, on a few steps whose first do not count."""
        # Both stages take the same steps, but where one learns from labels alone.
        which = stage if get(name).objective.semi_supervised else "both"
        kept = self.work / "pace" / f"{name}-{which}-{self.device}.json"
        if not kept.is_file():
            # On a GPU the first are recorded, and loaders have made some ahead.
            skipped, n = (1, 2) if self.on_cpu else (6 + 4 * self.loaders, 24)
            recipe = self.recipe(name, skipped + n + 1, stage == "pretrain")
            runs = self.sizes.runs()
            more = runs["U"][:1] if recipe.objective.semi_supervised else []
            one = self.project([runs["P"][0], *runs["W"], *more])
            there = sorted(set(self.read(runs["P"][0])[1].names.tolist()))
            source = Source(Runs(one, runs["P"][:1]), val_runs=runs["W"], unlabelled_runs=more)
            data = gather(recipe, [source], there)
            recipe = replace(recipe, voxel_spacing=data.voxel_spacing)
            network = recipe.network.build(len(data.objects))
            state = TrainState.start(network, recipe.train, choose_device(self.device))
            detector = Detector(recipe.method, data.objects, network, {}, data.facts)
            rows = fit_steps(recipe, detector, state, data, self.work, FitOptions(self.device, workers=self.loaders))
            for _ in range(skipped):
                next(rows)
            self.sync()
            began = self.clock()
            for _ in range(n):  # the last one of all would validate
                next(rows)
            self.sync()
            each = (self.clock() - began) / n
            rows.close()
            write(kept, {"seconds": each})
            tell(name, f"{each:.3g} s a step")
        return max(4, round(self.seconds / 2 / json.loads(kept.read_text())["seconds"]))

    def sync(self) -> None:
        """Waits for what a GPU was told to do."""
        if not self.on_cpu:
            torch.cuda.synchronize()

    @property
    def loaders(self) -> int:
        """Processes that make patches."""
        return 0 if self.on_cpu else max(1, min(4, self.workers - 4))

    def trained(self, name: str, seed: int = 0, subset: int = 0) -> Path:
        """The model folder of a network; what was interrupted goes on. All seeds and subsets share one pretraining."""
        start = self._stage(name, "pretrain", 0, 0, "")
        return self._stage(name, "finetune", seed, subset, str(start))

    def _stage(self, name: str, stage: str, seed: int, subset: int, start: str) -> Path:
        part = f"-{subset}" if subset else ""
        out = self.work / "models" / f"{name}-{stage}-{seed}{part}-{self.seconds:g}"
        if (out / "detector.json").is_file():
            return out
        recipe = self.recipe(name, self.steps(name, stage), stage == "pretrain")
        resume = (out / "last").is_dir()
        if out.exists() and not resume:
            shutil.rmtree(out)
        began, wall = self.clock(), time.perf_counter()
        out.parent.mkdir(parents=True, exist_ok=True)
        options = FitOptions(self.device, seed, self.loaders, resume, start)
        tell(out.name, "begins")
        detector = fit(recipe, [self.source(recipe, stage, subset)], out, options)
        spent = {"clock": self.clock() - began, "wall": time.perf_counter() - wall, "resumed": resume}
        write(out / "spent.json", spent | {"parameters": sum(p.numel() for p in detector.network.parameters())})
        return out

    # --------------------------------------------------------------------------------------------------------- scores
    def score(self, model: Model | MatchedFilter, views: str) -> dict[str, Any]:
        """How well and how fast it picks the runs that nothing has learned from; thresholds from others."""
        if isinstance(model, MatchedFilter):
            pick, objects = model.pick, model.objects
        else:
            picker = Picker(model, PickOptions(views=views, keep_below=True, device=self.device))
            pick, objects = lambda tomogram: picker.pick(tomogram)[0], picker.objects
        runs, found, truth, seconds = self.sizes.runs(), {}, {}, []
        for run in (*runs["V"], *runs["T"]):
            tomogram, truth[run] = self.read(run)
            forget_peak()
            began = self.clock()
            found[run] = pick(tomogram)
            seconds.append(self.clock() - began)
        row = {"pick_seconds": float(np.median(seconds)), "memory_gb": peak(self.on_cpu)}
        row["tomogram"] = list(self.sizes.scored)
        val, test = (({r: found[r] for r in runs[k]}, {r: truth[r] for r in runs[k]}) for k in "VT")
        for metric, name in (("czii", "F4"), ("f1", "F1")):
            cuts = {k: c.threshold for k, c in calibrate(*val, objects, metric, 0.002).items()}
            kept = {run: picks.above(cuts) for run, picks in test[0].items()}
            got = bootstrap(kept, test[1], objects, rng=np.random.default_rng(0), metric=metric)
            row[name], row[f"{name}_interval"] = got.value, [got.low, got.high]
        return row | precision(*test, objects)

    def make(self, key: tuple[str, str]) -> dict[str, Any]:
        """One row: (recipe or method, variant)."""
        name, variant = key
        plans: dict[str, Any] = {"ensemble": ENSEMBLES, "soup": SOUPS}
        members = plans.get(variant, {}).get(name, ())
        if name == "matched filter":
            row = {"parameters": 0, "steps": 0, "seconds": 0.0, "tflop": 0.0}
            labelled = map(self.read, self.sizes.runs()["L"])
            return row | self.score(MatchedFilter.of_picks(labelled, CZII_OBJECTS), "none")
        if name == "default":
            model = load_model("default")
            return {**self.cost([model], 1), "steps": 0, "seconds": 0.0} | self.score(model, "none")
        members = members or ((name, 0, 0),)
        places = [self.trained(*member) for member in members]
        models = [load_model(place) for place in places]
        views = views_of(name) if variant == "views" else "none"
        row = self.cost(models if variant != "soup" else models[:1], 1 if views == "none" else n_views(views))
        row |= self.training(places)
        return row | self.score(self.together(name, variant, models), views)

    def together(self, name: str, variant: str, models: Sequence[Any]) -> Model:
        """One model of several."""
        if len(models) == 1:
            return models[0]
        out = self.work / "models" / f"{name}-{variant}-{self.seconds:g}"
        shutil.rmtree(out, ignore_errors=True)
        runs = self.sizes.runs()["V"]
        if variant == "soup":
            return make_soup(models, out, SoupOptions(device=self.device))
        grid = Runs(self.project(runs), runs) if name == "soup" else None
        return combine(models, out, CombineOptions("grid" if grid else "uniform", device=self.device), grid)

    def cost(self, models: Sequence[Any], views: int) -> dict[str, Any]:
        """Parameters, and arithmetic for a volume of the challenge."""
        n = sum(p.numel() for m in models for p in m.network.parameters())
        return {"parameters": n, "tflop": views * sum(tflop(m) for m in models)}

    def training(self, places: Sequence[Path]) -> dict[str, Any]:
        """Steps and seconds of the trainings of a row, and the loss of the first one's two stages."""
        stages = [p for place in places for p in (place, self._pretrained(place))]
        stages = list(dict.fromkeys(stages))
        spent = [json.loads((p / "spent.json").read_text())["clock"] for p in stages if (p / "spent.json").is_file()]
        recipes = [json.loads((p / "recipe.json").read_text()) for p in stages]
        curve = [curve_of(p) for p in (self._pretrained(places[0]), places[0])]
        return {
            "steps": sum(r["train"]["steps"] for r in recipes), "seconds": sum(spent), "budget": self.seconds,
            "batch": recipes[0]["train"]["batch_size"], "patch": recipes[0]["patch"]["shape"], "curve": curve,
        }  # fmt: skip

    def _pretrained(self, place: Path) -> Path:
        name = place.name.split("-finetune-")[0]
        return place.with_name(f"{name}-pretrain-0-{self.seconds:g}")

    def rows(self) -> list[dict[str, Any]]:
        """All rows that there are, of this and of other budgets."""
        return rows_of(self.results)

    def add(self, key: tuple[str, str], row: Mapping[str, Any]) -> None:
        """A row that is done, into the results and onto the screen."""
        row = {"recipe": key[0], "variant": key[1]} | dict(row)
        row |= {"device": device_text(self.device), "runs": dict(zip(("pretrain", "train", "unlabelled", "val", "test"),
                                                                       self.sizes.counts))}  # fmt: skip
        self.results.parent.mkdir(parents=True, exist_ok=True)
        with self.results.open("a") as file:
            file.write(json.dumps(rounded(row)) + "\n")
        text = " ".join(f"{k} {row[k]:.3f} [{row[f'{k}_interval'][0]:.3f}, {row[f'{k}_interval'][1]:.3f}]"
                        for k in ("F4", "F1", "AP"))  # fmt: skip
        print(f"{key[0]:<18} {key[1]:<9} {text}; {row['pick_seconds']:.1f} s, {row['memory_gb']:.1f} GB", flush=True)


# ------------------------------------------------------------------------------------------------------------- helpers
def simulated(file: Path, run: str, sizes: Sizes, templates: Path | None) -> None:
    """Makes a run in a worker process; runs like the challenge's have the true maps where there are some."""
    torch.set_num_threads(1)
    varied = run[0] in "PW"
    shape = sizes.varied if varied else sizes.like if run[0] in "LU" else sizes.scored
    spec = spec_of("varied" if varied else "czii", shape, ("denoised",))
    specimen = spec.specimen
    if sizes.crowding:
        specimen = replace(specimen, crowding=(sizes.crowding, sizes.crowding), dominance=0.0)
    if not varied and templates is not None:
        specimen, _ = with_densities(specimen, CZII_OBJECTS, (), templates)
    made = simulate(replace(spec, specimen=specimen), CZII_OBJECTS, run=run, seed=SEED)
    keep_run(file, [made.tomograms["denoised"]], made.picks)


def precision(
    found: Mapping[str, Picks], truth: Mapping[str, Picks], objects: Any, samples: int = 300
) -> dict[str, Any]:
    """Mean over the objects of the average precision at half a radius, with its interval over runs."""

    def mean(runs: Sequence[str]) -> float:
        drawn = {f"{run}.{i}": run for i, run in enumerate(runs)}
        curves = precision_recall(
            {k: found[r] for k, r in drawn.items()}, {k: truth[r] for k, r in drawn.items()}, objects
        )
        return float(np.nanmean([c.average_precision for c in curves.values()]))

    runs, rng = list(truth), np.random.default_rng(0)
    drawn = [mean(rng.choice(runs, len(runs)).tolist()) for _ in range(samples)]
    return {"AP": mean(runs), "AP_interval": np.percentile(drawn, (2.5, 97.5)).tolist()}


def tflop(model: Detector) -> float:
    """Arithmetic of one view of a volume of the challenge, overlap of tiles included."""
    from torch.utils.flop_counter import FlopCounterMode

    multiple, tiling = model.method.network.multiple, model.method.tiling.fitted(Means)
    edges, starts = tiling.plan(CHALLENGE, multiple)
    # Counted on a small tile: convolutions cost as much a voxel in a large one.
    small = [min(edge, -(-64 // multiple) * multiple) for edge in edges]
    network = model.method.network.build(len(model.objects)).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        network(torch.zeros(1, 1, *small))
    tiles = float(np.prod([len(s) for s in starts]))
    return counted.get_total_flops() * tiles * float(np.prod(edges)) / float(np.prod(small)) / 1e12


def views_of(name: str) -> str:
    """The views that a method is published with; those of the fastest, which has none, are flips."""
    return "flips" if name == "light" else get(name).views


def n_views(name: str) -> int:
    """How many views a name stands for."""
    from tomopick.picking.predict import VIEWS as known

    return len(known[name])


def curve_of(place: Path, points: int = 40) -> list[list[float]]:
    """Loss over the steps, as means of equal parts."""
    log = read_log(place / "log.jsonl")
    parts = np.array_split(np.array([[row["step"], row["loss"]] for row in log]), min(points, len(log)))
    return [[float(part[-1, 0]), float(part[:, 1].mean())] for part in parts]


def forget_peak() -> None:
    """From now on, the largest memory is counted anew, where the system lets it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def peak(on_cpu: bool) -> float:
    """Largest memory since `forget_peak` [GB]: the GPU's, or the whole process's."""
    if not on_cpu:
        return torch.cuda.max_memory_reserved() / 1e9
    status = Path("/proc/self/status")
    if status.exists():
        found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(found[0]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def rounded(value: Any) -> Any:
    """Five digits are enough for a file that is kept."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, (list, tuple)) else value


def write(file: Path, value: Any) -> None:
    """JSON, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as out:
        out.write(json.dumps(value))


def tell(name: str, line: str) -> None:
    """What is done, to the screen."""
    print(f"{time.strftime('%H:%M:%S')} {name}: {line}", file=sys.stderr, flush=True)


def device_text(device: str) -> str:
    """The machine in words."""
    if choose_device(device).type == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    name = names[0].split(":", 1)[1].strip() if names else platform.machine()
    return f"{counted(torch.get_num_threads(), 'core')} ({name})"


def keys(only: Sequence[str]) -> list[tuple[str, str]]:
    """All rows, in the order in which they are made."""
    found: list[tuple[str, str]] = []
    for name in METHODS:
        found += [(name, "single"), *([(name, "views")] if views_of(name) != "none" else [])]
    found[2:2] = [("default", "single")]
    found += [(name, "ensemble") for name in ENSEMBLES] + [(name, "soup") for name in SOUPS]
    found.append(("matched filter", "single"))  # which takes longest, on the host, while a GPU would wait
    return [key for key in found if not only or key[0] in only]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0, help="of each training")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: tiny volumes, a few steps")
    parser.add_argument("--only", default="", help="recipes or methods, by comma")
    parser.add_argument("--variants", default="single,views,ensemble,soup")
    parser.add_argument("--templates", type=Path, help="folder of maps, as `simulate --templates` takes it")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that simulate, make patches"
    )
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "zoo.jsonl")
    parser.add_argument("--page", type=Path, help="the Markdown page to write, its picture beside it")
    args = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("tomopick").setLevel("INFO")
    kind = "quick" if args.quick else "cpu" if choose_device(args.device).type == "cpu" else "gpu"
    seconds = min(args.seconds, 4.0) if args.quick else args.seconds
    results = args.work / "zoo.jsonl" if args.quick else args.results
    zoo = Zoo(args.work, SIZES[kind], seconds, args.device, args.workers, args.templates, results)
    begun = zoo.simulations()
    if zoo.on_cpu:  # beside a training on the same cores they would only slow it
        for _, future in begun:
            future.result()
    done = {(r["recipe"], r["variant"]) for r in zoo.rows() if r.get("budget", seconds) == seconds}
    variants: Callable[[tuple[str, str]], bool] = lambda key: key[1] in args.variants.split(",")  # noqa: E731
    failed = 0
    for key in filter(variants, keys([n for n in args.only.split(",") if n])):
        for run, future in begun:
            if future.done() and future.exception():
                raise RuntimeError(f"run {run} could not be simulated") from future.exception()
        if key in done:
            continue
        try:
            zoo.add(key, zoo.make(key))
        except Exception:  # the other methods' rows are worth having
            failed += 1
            tell(" ".join(key), traceback.format_exc())
        if not zoo.on_cpu:
            gc.collect()
            torch.cuda.empty_cache()
    if args.page:
        write_page(zoo.rows(), args.page)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
