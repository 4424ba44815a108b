"""Compares the published methods: every recipe on one simulated project, with equal budgets, scored on held-out runs.

    python benchmarks/methods.py WORK [--scale small|full|tiny] [--device cuda] [--stages 1] [--table docs/methods.md]

Each stage (one training, one way of picking) leaves a row in WORK/rows and is skipped when it is there, so that an
interrupted comparison goes on where it stopped; `--stages N` ends after N of them. `small` runs on one core in half an
hour with narrow networks and short trainings, `full` on a GPU with the recipes as they are and at most ten minutes a
stage, `tiny` in a minute to try the script itself. `--table` writes the page, a picture beside it.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from tomopick import Detector, FitOptions, Source, fit
from tomopick import simulation as simulator
from tomopick.core.presets import CZII_OBJECTS
from tomopick.data import atomic_write, create_copick_project, open_project, write_run
from tomopick.data.runs import Runs
from tomopick.models.combine import CombineOptions, combine
from tomopick.models.soup import SoupOptions, make_soup, top_candidates
from tomopick.networks.engines import choose_device
from tomopick.picking.load import load_model
from tomopick.picking.picker import Picker, PickOptions
from tomopick.recipes import get
from tomopick.scoring.scores import czii_score, matched_scores
from tomopick.simulation.projects import spec_of
from tomopick.training.dataset import gather
from tomopick.training.fit import fit_steps
from tomopick.training.loop import TrainState
from tomopick.training.recipe import Recipe

METHODS = (
    *("bpd", "soup_tiny", "soup_medium", "soup_large", "topcup"),
    *("unet25d_convnext", "unet25d_resnetrs", "semietpicker"),
)
VARIANTS = ("single", "tta", "ensemble", "soup")
TITLES = {"single": "single", "tta": "flips", "ensemble": "two seeds", "soup": "soup"}
SEED = 31


@dataclass(frozen=True)
class Scale:
    """What a comparison costs.

    Attributes:
        shape: of the simulated tomograms [voxels].
        train, unlabelled, val, test: how many runs; unlabelled ones are for semi-supervised recipes alone.
        crowding: particles, as a multiple of the challenge's numbers.
        seconds: of each training's steps.
        trial: steps that tell what a step costs.
        common: overrides of every recipe.
        own: further ones, by recipe.
    """

    shape: tuple[int, int, int]
    train: int
    unlabelled: int
    val: int
    test: int
    crowding: tuple[float, float]
    seconds: float
    trial: int = 5
    common: tuple[str, ...] = ()
    own: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def runs(self) -> dict[str, list[str]]:
        """Names of the runs by purpose."""
        found, first = {}, 0
        for purpose in ("train", "unlabelled", "val", "test"):
            n = getattr(self, purpose)
            found[purpose] = [f"SIM_{i:03d}" for i in range(first, first + n)]
            first += n
        return found


_NARROW = {
    "bpd": ("network.widths=16,24,32", "network.stride=2"),
    "soup_tiny": ("network.widths=12,24,48", "network.stride=2"),
    "soup_medium": ("network.widths=12,24,48,96", "network.stride=2"),
    "soup_large": ("network.widths=12,24,48,96,120", "network.stride=2"),
    **dict.fromkeys(("topcup", "unet25d_convnext", "unet25d_resnetrs", "semietpicker"), ("network.width=0.25",)),
}
_SHORT = (
    *("patch.shape=32,64,64", "train.batch_size=2"),
    *("tiling=TilingSpec", "tiling.shape=64,192,192", "tiling.overlap=32"),
)
SCALES = {
    "tiny": Scale((64, 96, 96), 2, 1, 1, 1, (6.0, 7.0), 1.5, 2, _SHORT, _NARROW),
    "small": Scale((64, 192, 192), 8, 4, 2, 4, (4.0, 5.0), 50.0, 5, _SHORT, _NARROW),
    "full": Scale((184, 630, 630), 12, 4, 2, 4, (0.9, 1.1), 420.0, 12),
}


@dataclass(frozen=True)
class Bench:
    """One comparison in a folder."""

    work: Path
    scale: Scale
    device: str

    def row(self, stage: str) -> Path:
        """Where a stage leaves what it found."""
        return self.work / "rows" / f"{stage}.json"

    def read(self, stage: str) -> dict[str, Any]:
        """What a finished stage found."""
        return json.loads(self.row(stage).read_text())

    def clock(self) -> float:
        """Seconds of this process's own work on a CPU, which others on the machine do not stretch; else of the wall."""
        return time.process_time() if self.device == "cpu" else time.perf_counter()

    def project(self) -> Any:
        """The simulated project."""
        return open_project(self.work / "project" / "copick.json")

    def recipe(self, name: str, steps: int) -> Recipe:
        """The method at this scale; its schedule, averages and ramps shortened with the training."""
        changes = [*self.scale.common, *self.scale.own.get(name, ()), f"train.steps={steps}", "train.keep_top=2"]
        changes += [f"train.validate_every={max(1, -(-steps // 2))}", f"train.warmup_steps={max(1, steps // 10)}"]
        recipe = get(name).override(changes)
        # An average over more steps than a tenth of the training would still remember its start.
        decay = min(recipe.train.ema_decay or 0.9, 1 - 10 / max(steps, 20))
        recipe = replace(recipe, train=replace(recipe.train, ema_decay=decay))
        if hasattr(recipe.objective, "ramp"):
            teacher = min(recipe.objective.decay, decay)
            recipe = replace(recipe, objective=replace(recipe.objective, ramp=steps // 8, decay=teacher))
        return recipe

    def source(self, recipe: Recipe) -> Source:
        """The runs to learn from."""
        runs = self.scale.runs()
        more = runs["unlabelled"] if getattr(recipe.objective, "semi_supervised", False) else ()
        return Source(self.project(), train_runs=runs["train"], val_runs=runs["val"], unlabelled_runs=tuple(more))


# --------------------------------------------------------------------------------------------------------------- stages
def simulate(bench: Bench, run: str) -> dict[str, Any]:
    """One run into the project."""
    spec = spec_of("czii", bench.scale.shape, ("denoised",))
    spec = replace(spec, specimen=replace(spec.specimen, crowding=bench.scale.crowding))
    made = simulator.simulate(spec, CZII_OBJECTS, run=run, seed=SEED)
    place = bench.work / "project"
    project = bench.project() if (place / "copick.json").is_file() else create_copick_project(place, CZII_OBJECTS)
    write_run(project, list(made.tomograms.values()), made.picks, "simulation", "0")
    return {"particles": len(made.picks)}


def pace(bench: Bench, name: str) -> dict[str, Any]:
    """Seconds a step, from a short training whose first step, which sets everything up, does not count."""
    n = 2 * bench.scale.trial
    recipe = bench.recipe(name, n)
    data = gather(recipe, [bench.source(recipe)])
    # Validation is left out: it comes once or twice in a training, however many steps that takes.
    recipe = replace(recipe, voxel_spacing=data.voxel_spacing, train=replace(recipe.train, validate_every=n + 1))
    device = choose_device(bench.device)
    network = recipe.network.build(len(data.objects))
    detector = Detector(recipe.method, data.objects, network, {}, data.facts)
    state = TrainState.start(network, recipe.train, device)
    with tempfile.TemporaryDirectory() as place:
        rows = fit_steps(recipe, detector, state, data, Path(place), FitOptions(bench.device))
        next(rows)
        began = bench.clock()
        # Half of a semi-supervised training is burn-in; the last step would validate.
        for _ in range(n - 2):
            next(rows)
        each = (bench.clock() - began) / (n - 2)
        rows.close()
    return {"seconds": each, "steps": max(n, round(bench.scale.seconds / each))}


def train(bench: Bench, name: str, seed: int) -> dict[str, Any]:
    """One training of the steps that fit into the budget; an interrupted one goes on."""
    steps = bench.read(f"{name}-pace")["steps"]
    out = bench.work / "models" / f"{name}-{seed}"
    recipe = bench.recipe(name, steps)
    resume = (out / "last").is_dir()
    if out.exists() and not resume:
        shutil.rmtree(out)
    began = bench.clock()
    detector = fit(recipe, [bench.source(recipe)], out, FitOptions(bench.device, seed=seed, resume=resume))
    n = sum(p.numel() for p in detector.network.parameters())
    return {"parameters": n, "steps": steps, "seconds": bench.clock() - began, "resumed": resume}


def pick(bench: Bench, name: str, variant: str) -> dict[str, Any]:
    """Scores of one way of picking on the runs that nothing has learned from or was measured on."""
    model = _model(bench, name, variant)
    picker = Picker(load_model(model), PickOptions(views="flips" if variant == "tta" else "none", keep_below=True,
                                                     device=bench.device))  # fmt: skip
    project, found, truth, seconds = bench.project(), {}, {}, []
    for run in bench.scale.runs()["test"]:
        tomogram, truth[run] = project.tomogram(run), project.picks(run)
        began = bench.clock()
        found[run], _ = picker.pick(tomogram)
        seconds.append(bench.clock() - began)
    cuts = picker.model.thresholds
    kept = {m: {run: p.above(cuts[m]) for run, p in found.items()} for m in ("czii", "f1")}
    czii = czii_score(kept["czii"], truth, picker.objects)
    matched = matched_scores(kept["f1"], truth, picker.objects)
    f4 = {o: c.fbeta for o, c in czii.objects.items()}
    return {"seconds": statistics.median(seconds), "czii": czii.score, "f4": f4, "f1": list(matched.macro_f1)}


def _model(bench: Bench, name: str, variant: str) -> Path:
    """The folder to pick with; made where it is a mean of several."""
    models, runs = bench.work / "models", Runs(bench.project(), bench.scale.runs()["val"])
    out = models / f"{name}-{variant}"
    if variant in ("single", "tta"):
        return models / f"{name}-0"
    shutil.rmtree(out, ignore_errors=True)
    if variant == "ensemble":
        of = [load_model(models / f"{name}-{seed}") for seed in (0, 1)]
        combine(of, out, CombineOptions(device=bench.device), runs)
    elif variant == "soup":
        first = load_model(models / f"{name}-0")
        make_soup(top_candidates(first), out, SoupOptions(device=bench.device), runs)
    else:  # the best of every method together
        combine([load_model(models / f"{m}-0") for m in METHODS], out, CombineOptions(device=bench.device), runs)
    return out


def stages(bench: Bench) -> list[tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]]:
    """All that is to be done, in order: (name, function, arguments)."""
    runs = [run for names in bench.scale.runs().values() for run in names]
    found: list[tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]] = []
    found += [(f"simulate-{run}", simulate, (run,)) for run in runs]
    for name in METHODS:
        found.append((f"{name}-pace", pace, (name,)))
        found += [(f"{name}-train-{seed}", train, (name, seed)) for seed in (0, 1)]
        found += [(f"{name}-{variant}", pick, (name, variant)) for variant in VARIANTS]
    return [*found, ("all-together", pick, ("all", "together"))]


def _simulated(bench: Bench, workers: int) -> None:
    """The runs that are missing, several at once."""
    missing = [
        args[0] for name, function, args in stages(bench) if function is simulate and not bench.row(name).exists()
    ]
    if workers < 2 or len(missing) < 3:
        return
    do(bench, f"simulate-{missing[0]}", simulate, (missing[0],))  # makes the project
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for made in [pool.submit(do, bench, f"simulate-{run}", simulate, (run,)) for run in missing[1:]]:
            made.result()


def do(bench: Bench, name: str, function: Callable[..., dict[str, Any]], arguments: Sequence[Any]) -> None:
    """Runs a stage and keeps what it found."""
    began = time.perf_counter()
    row = {"stage": name, **function(bench, *arguments), "device": device_text(bench.device)}
    row["wall"] = time.perf_counter() - began
    bench.row(name).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(bench.row(name)) as file:
        file.write(json.dumps(row, indent=1))
    print(f"{name}: {row['wall']:.0f} s", flush=True)


def device_text(device: str) -> str:
    """The machine in words."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    name = models[0].split(":", 1)[1].strip() if models else name
    n = torch.get_num_threads()
    return f"{'one core' if n == 1 else f'{n} cores'} ({name})"


# ----------------------------------------------------------------------------------------------------------- the page
def table(bench: Bench, scale: str) -> str:
    """The page, in Markdown, of the stages that are finished."""
    done = [m for m in METHODS if all(bench.row(f"{m}-{v}").is_file() for v in VARIANTS)]
    objects = [o.name for o in CZII_OBJECTS]
    lines = [_method_text(bench, scale), "", "![F-beta 4 against seconds to pick](methods.png)", ""]
    lines += ["| recipe | parameters | steps | train [s] | pick [s] | variant | F4 | F1 at 0.5 | F1 at 0.75 |",
              "|---|--:|--:|--:|--:|---|--:|--:|--:|"]  # fmt: skip
    for m in done:
        trained = bench.read(f"{m}-train-0")
        for v in VARIANTS:
            row = bench.read(f"{m}-{v}")
            head = f"| `{m}` | {trained['parameters']:,} | {trained['steps']} | {trained['seconds']:.0f} "
            head = head if v == "single" else "| | | | "
            scores = " | ".join(f"{x:.3f}" for x in (row["czii"], *row["f1"]))
            lines.append(f"{head}| {row['seconds']:.1f} | {TITLES[v]} | {scores} |")
    if bench.row("all-together").is_file():
        row = bench.read("all-together")
        scores = " | ".join(f"{x:.3f}" for x in (row["czii"], *row["f1"]))
        lines.append(f"| all {len(METHODS)} together | | | | {row['seconds']:.1f} | ensemble | {scores} |")
    lines += ["", "F-beta 4 of each object, single models:", ""]
    lines += ["| recipe | " + " | ".join(objects) + " |", "|---" + "|--:" * len(objects) + "|"]
    for m in done:
        f4 = bench.read(f"{m}-single")["f4"]
        lines.append(f"| `{m}` | " + " | ".join(f"{f4[o]:.3f}" for o in objects) + " |")
    overrides = [f"`{m}`: `{' '.join(bench.scale.own[m])}`" for m in done if m in bench.scale.own]
    if bench.scale.common:
        common = f"Overrides of every recipe: `{' '.join(bench.scale.common)}`"
        lines += ["", f"{common}; further ones: {'; '.join(overrides)}."]
    return "\n".join(lines) + "\n"


def _method_text(bench: Bench, scale: str) -> str:
    s, runs = bench.scale, bench.scale.runs()
    shape = " x ".join(map(str, s.shape))
    truths = sum(bench.read(f"simulate-{run}")["particles"] for run in runs["test"])
    machine = bench.read(f"{METHODS[0]}-pace")["device"]
    return f"""# The methods compared

Every recipe on the same simulated project with equal budgets: `python benchmarks/methods.py WORK --scale {scale}`.

{s.train} labelled run(s) of {shape} voxels to learn from, {s.val} to set thresholds on and {s.test} with {truths}
particles to score on, none of which any training has seen; `semietpicker` learns from {s.unlabelled} unlabelled run(s)
besides. Each training may take steps for {s.seconds:.0f} seconds, however many these are, so that a light network takes
more of them; `train` is all of a training with its validations. `pick` is the median for one run. Machine: {machine}{
        "; seconds are of the process's own work" if bench.device == "cpu" else ""
    }.

F4 is the challenge's F-beta 4, weighted over the objects, with thresholds for `czii`; F1 is the mean over the objects
after one-to-one matching, with thresholds for `f1`. *flips*: the mean over four mirrored views (thresholds of the
single model). *two seeds*: an ensemble of two trainings. *soup*: the mean weights of one training's two checkpoints.{
        _CARE if s.common else ""
    }"""


_CARE = """

Read it with care: networks this small, trained this briefly, on phantoms of a few dozen particles rank methods by how
fast they learn and not by how far they get. Differences of a few hundredths are within chance."""


def picture(bench: Bench, out: Path) -> None:
    """F-beta 4 of every method and variant against the seconds that picking takes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    colors = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2", "#999999", "#000000")
    markers = {"single": "o", "tta": "s", "ensemble": "D", "soup": "^"}
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for color, m in zip(colors, METHODS):
        for v in VARIANTS:
            if bench.row(f"{m}-{v}").is_file():
                row = bench.read(f"{m}-{v}")
                axes.scatter(row["seconds"], row["czii"], color=color, marker=markers[v], s=55,
                             label=m if v == "single" else None)  # fmt: skip
    for v, marker in markers.items():
        axes.scatter([], [], color="0.4", marker=marker, label=TITLES[v])
    axes.set(xscale="log", xlabel="seconds to pick one run", ylabel="F-beta 4, weighted")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--scale", choices=sorted(SCALES), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--stages", type=int, help="end after so many")
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate")
    parser.add_argument("--table", type=Path, help="the Markdown page to write")
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)
    bench = Bench(args.work, SCALES[args.scale], args.device)
    _simulated(bench, args.workers)
    left = [stage for stage in stages(bench) if not bench.row(stage[0]).is_file()]
    for name, function, arguments in left[: args.stages]:
        do(bench, name, function, arguments)
    if later := len(left) - len(left[: args.stages]):
        print(f"{later} stages are left; run the same again", file=sys.stderr)
    if args.table:
        with atomic_write(args.table) as file:
            file.write(table(bench, args.scale))
        picture(bench, args.table.with_name("methods.png"))


if __name__ == "__main__":
    main()
