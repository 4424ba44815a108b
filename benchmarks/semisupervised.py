"""What unlabelled runs are worth: SemiETPicker's table on simulated runs, with 2 and 5 labelled ones.

    python benchmarks/semisupervised.py WORK [--scale small|full] [--seeds 0,1,2] [--labels 2,5,all] [--jobs 1]
        [--device D] [--seconds N] [--rows "supervised;picks"]

Each seed draws other labelled runs; the rest of the pool is unlabelled. Validation runs (early stopping, thresholds)
and test runs are the same for all. A row of WORK/rows-LABELS-SEED.jsonl is written per finished training, so that a
repeated call goes on where the last one stopped; with --seconds none is begun later than that. WORK/table.md is made of
them. All rows of a seed and a number of labels start from the same burn-in and take equally many steps after it:
`supervised` on the labelled runs alone; `all labels` is that on the whole pool with its labels. `burn-in` is where they
start: as good as `supervised` where labels alone have little more to give. With --later two more rows start from the
`supervised` models: what co-training adds where labels alone have been learned from for longer.

A setting is to be chosen by its burn-ins alone (--rows burn-in): the table means something where their validation
scores (`val` in the rows) have levelled off and those with all labels are well above those with few.

It needs torch, SciPy and safetensors alone (and matplotlib for --picture). A seed and a number of labels is the work of
one of --jobs processes of one thread each, on a GPU too, where they take turns.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from kept_runs import Simulation, load_run, rows_of, simulate_runs
from tomopick import (
    Detector,
    FitOptions,
    MemoryProject,
    PickableObject,
    Project,
    Recipe,
    Runs,
    Source,
    fit,
    precision_recall,
    recipes,
)
from tomopick.core.presets import CZII_OBJECTS
from tomopick.picking.folder import read_log
from tomopick.picking.peaks import LOWEST_SCORE
from tomopick.picking.picker import PickOptions
from tomopick.picking.resample import matched
from tomopick.scoring.scores import matched_scores
from tomopick.training.augment import Augmentation
from tomopick.training.averaging import RunningAverage
from tomopick.training.loop import TrainState
from tomopick.training.pseudo_labels import Annotator

PLAIN = ("objective.strong=ScaleShift,Noise", "objective.strong.scaleshift.p=0.8", "objective.strong.noise.p=0.8")
DROPBLOCK = ("objective.strong=ScaleShift,Noise,DropBlock", *PLAIN[1:])
PICKS = ("objective.labels=picks",)
TEACHER = ("objective=MeanTeacherSpec", "objective.burn_in=0")
# Row of the table -> overrides of the objective; `all labels` is the supervised one with other labels.
ROWS: dict[str, tuple[str, ...]] = {
    "burn-in": ("objective=SupervisedSpec",),
    "supervised": ("objective=SupervisedSpec",),
    "mean teacher": (*TEACHER, *PLAIN, "objective.views=1"),
    "+ multi-view": (*TEACHER, *PLAIN, "objective.views=4"),
    "+ DropBlock": (*TEACHER, *DROPBLOCK, "objective.views=4"),
    "picks": (*TEACHER, *PLAIN, "objective.views=1", *PICKS),
    "picks + multi-view": (*TEACHER, *PLAIN, "objective.views=4", *PICKS),
    "picks + DropBlock": (*TEACHER, *DROPBLOCK, "objective.views=1", *PICKS),
    "picks + both": (*TEACHER, *DROPBLOCK, "objective.views=4", *PICKS),
    "picks + both, precise": (*TEACHER, *DROPBLOCK, "objective.views=4", *PICKS, "objective.precision=0.8"),
}
ALL = "all labels"
FULL = {"burn-in": ROWS["burn-in"], ALL: ROWS["supervised"]}  # rows of the whole pool
# The same once more, from the `supervised` model on: a burn-in that is longer by one stage.
LATER = {"supervised, longer": ROWS["supervised"], "+ DropBlock, later": ROWS["+ DropBlock"]}


@dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    Attributes:
        shape: of a simulated volume (z, y, x) [voxels].
        preset, settings: of the simulation.
        pool, val, test: runs.
        recipe, overrides: the method; `train.steps` are those after the burn-in.
        burn_in: overrides for the burn-in, whose best validated weights are gone on with.
        decay, ramp: of the mean teacher.
        objects: that are learned; None: all.
        strong: overrides of what is done to the student's patches.
    """

    shape: tuple[int, int, int]
    preset: str
    settings: tuple[str, ...]
    pool: int
    val: int
    test: int
    recipe: str
    overrides: tuple[str, ...]
    burn_in: tuple[str, ...]
    decay: float
    ramp: int
    objects: tuple[str, ...] | None
    strong: tuple[str, ...] = ()


SCALES = {
    # For one core: coarse, with a narrow network of another kind in the recipe; the runs differ much from one another
    # and hold so few particles that two do not tell all.
    "small": Scale(
        (36, 140, 140), "varied", ("voxel_spacing=14", "specimen.crowding=6", "specimen.dominance=0"), 22, 6, 18,
        "semietpicker",
        ("network=UNetSpec", "network.widths=16,24,32", "network.stride=2", "voxel_spacing=20", "patch.shape=16,24,24",
         "tiling.shape=24,96,96", "tiling.overlap=8", "train.steps=200", "train.batch_size=8", "train.lr=2e-3",
         "train.warmup_steps=30", "train.ema_decay=0.98", "train.validate_every=100"),
        ("train.steps=600", "train.lr=4e-3", "train.validate_every=200"), 0.99, 30,
        ("apo-ferritin", "ribosome", "thyroglobulin"),
    ),
    # A rehearsal, of which nothing is learned.
    "tiny": Scale(
        (36, 100, 100), "varied", ("voxel_spacing=14", "specimen.crowding=6", "specimen.dominance=0"), 3, 1, 1,
        "semietpicker",
        ("network=UNetSpec", "network.widths=8,12,16", "network.stride=2", "voxel_spacing=20", "patch.shape=16,24,24",
         "tiling.shape=24,64,64", "tiling.overlap=8", "train.steps=2", "train.batch_size=2", "train.warmup_steps=0",
         "train.validate_every=2"),
        (), 0.9, 0, ("apo-ferritin", "ribosome", "thyroglobulin"),
    ),
    "full": Scale(
        (184, 630, 630), "czii", (), 55, 4, 20, "semietpicker",
        ("train.steps=3000", "train.validate_every=500"), (), 0.999, 100, None,
        ("objective.strong.scaleshift.scale=0.3", "objective.strong.scaleshift.shift=0.3",
         "objective.strong.noise.sigma=0.4"),
    ),
}  # fmt: skip


def simulation(scale: Scale) -> Simulation:
    """Of its runs; where the recipe learns at a coarser voxel spacing they are resampled once and for all."""
    spacing = recipes.get(scale.recipe).override(scale.overrides).voxel_spacing
    return Simulation(scale.shape, scale.preset, scale.settings, seed=11, spacing=spacing)


def runs_of(scale: Scale) -> list[str]:
    """Names of all runs."""
    return [f"SIM_{i:03d}" for i in range(scale.pool + scale.val + scale.test)]


def loaded(work: Path, scale: Scale) -> Project:
    """The simulated runs, in memory."""
    found = MemoryProject(CZII_OBJECTS, "simulated")
    for run in runs_of(scale):
        found.add(*load_run(work / "data", run))
    return found


@dataclass(frozen=True)
class Bench:
    """The comparison.

    Attributes:
        work: folder of data, models, rows and the table.
        scale: how large.
        project: the simulated runs.
        device: where.
    """

    work: Path
    scale: Scale
    project: Project
    device: str

    def method(self, more: Sequence[str]) -> Recipe:
        """The recipe with one row's objective."""
        teacher = (f"objective.decay={self.scale.decay}", f"objective.ramp={self.scale.ramp}", *self.scale.strong)
        semi = any("MeanTeacher" in text for text in more)
        return recipes.get(self.scale.recipe).override([*self.scale.overrides, *more, *(teacher if semi else ())])

    def runs(self, seed: int, labels: int) -> tuple[list[str], list[str], list[str], list[str]]:
        """Labelled, unlabelled, validation and test runs."""
        names, at = self.project.runs(), self.scale.pool
        pool = [names[i] for i in np.random.default_rng(seed).permutation(at)]
        return pool[:labels], pool[labels:], names[at : at + self.scale.val], names[at + self.scale.val :]

    def trained(self, name: str, more: Sequence[str], seed: int, labels: int, start: str = "") -> tuple[Detector, Path]:
        """A model, trained or gone on with or simply loaded."""
        out, method = self.work / "models" / name, self.method(more)
        if (out / "detector.json").is_file():
            return Detector.load(out), out
        labelled, unlabelled, val, _ = self.runs(seed, labels)
        hidden = tuple(unlabelled) if method.objective.semi_supervised else ()
        source = Source(Runs(self.project, labelled, "denoised"), val, unlabelled_runs=hidden)
        out.parent.mkdir(parents=True, exist_ok=True)
        options = FitOptions(
            device=self.device, seed=seed, resume=(out / "recipe.json").is_file(), init_from=start,
            objects=self.scale.objects,
        )  # fmt: skip
        return fit(method, [source], out, options), out

    def file(self, seed: int, labels: int) -> Path:
        """Where the rows of a seed and a number of labels are kept."""
        return self.work / f"rows-{labels}-{seed}.jsonl"

    def row(self, seed: int, labels: int, row: str) -> dict:
        """One training after its burn-in, or that, scored on the test runs."""
        began, wall = time.process_time(), time.perf_counter()
        first = (*ROWS["burn-in"], *self.scale.burn_in)
        detector, out = self.trained(f"burn-in_{labels}_{seed}", first, seed, labels)
        if row in LATER:
            _, out = self.trained(f"supervised_{labels}_{seed}", ROWS["supervised"], seed, labels, str(out))
        if row != "burn-in":
            name = f"{row.strip('+ ').replace(' + ', '-').replace(', ', '-').replace(' ', '-')}_{labels}_{seed}"
            detector, out = self.trained(name, {**ROWS, **LATER, **FULL}[row], seed, labels, str(out))
        val = {step["step"]: step["val_score"] for step in read_log(out / "log.jsonl") if "val_score" in step}
        made = {"labels": labels, "seed": seed, "row": row, "val": val}
        made |= self.scores(detector, self.runs(seed, labels)[3])
        return made | {
            "cpu_seconds": round(time.process_time() - began), "seconds": round(time.perf_counter() - wall)
        }  # fmt: skip

    def scores(self, detector: Detector, runs: Sequence[str]) -> dict:
        """On the test runs, with the model's thresholds and without any."""
        candidates, truth, objects = {}, {}, detector.objects
        options = PickOptions(device=self.device)
        for run in runs:
            picks = self.project.picks(run)
            truth[run] = picks.among([o.name for o in objects])
            tomogram = self.project.tomogram(run, "denoised")
            candidates[run] = detector.pick(tomogram, {o.name: LOWEST_SCORE for o in objects}, options).picks
        cut = {run: picks.above(detector.thresholds["f1"]) for run, picks in candidates.items()}
        left = ["beta-amylase"] if len(objects) > 3 else []
        found = matched_scores(cut, truth, objects, exclude=left)
        curves = [precision_recall(candidates, truth, [o for o in objects if o.name not in left], radius=r)
                  for r in (0.5, 0.75)]  # fmt: skip
        best = [np.mean([(2 * c.tp / (c.n + c.n_truth)).max() for c in curve.values()]) for curve in curves]
        precision = [np.mean([c.average_precision for c in curve.values()]) for curve in curves]
        return {
            "f1": list(found.macro_f1), "best_f1": best, "average_precision": precision,
            "val_f1": detector.facts.scores["f1"], "detail": found.to_json(),
        }  # fmt: skip


# Of a row -> head of its two columns, at 0.5 and 0.75 of the objects' radii.
COLUMNS = {"f1": "F1", "best_f1": "best F1", "average_precision": "average precision"}


def table(rows: list[dict]) -> str:
    """Mean and standard deviation over the seeds; in brackets the gain over `supervised`, paired by seed, with its 95 %
    interval (Student's t). Of `+ DropBlock, later` it is the gain over `supervised, longer`.
    """
    by = {(r["labels"], r["seed"], r["row"]): r for r in rows if set(COLUMNS) <= set(r)}
    lines = ["| labelled runs | training | seeds | " + " | ".join(
        f"{name}, {r} r" for name in COLUMNS.values() for r in (0.5, 0.75)) + " |"]  # fmt: skip
    lines.append("|---" * (3 + 2 * len(COLUMNS)) + "|")
    for labels in sorted({key[0] for key in by}):
        for name in (*ROWS, *LATER, ALL):
            base = {"+ DropBlock, later": "supervised, longer", "burn-in": ""}.get(name, "supervised")
            seeds = [seed for n, seed, row in by if (n, row) == (labels, name)]
            if not seeds:
                continue
            cells = []
            for column in COLUMNS:
                values = np.array([by[labels, seed, name][column] for seed in seeds])
                plain = [by[key][column] for seed in seeds if (key := (labels, seed, base)) in by]
                gains = values - plain if len(plain) == len(seeds) and name != base else None
                for k in (0, 1):
                    gain = f" ({_interval(gains[:, k])})" if gains is not None else ""
                    cells.append(_spread(values[:, k]) + gain)
            lines.append(f"| {labels} | {name} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(bench: Bench, file: Path) -> None:
    """What the first teacher of seed 0 says of its unlabelled runs, beside the truth: a slice, and sums over all.

    Of either kind of labels: their sum, and how much of it lies where there is a particle.
    """
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    detector, method = Detector.load(bench.work / "models" / "burn-in_2_0"), bench.method(ROWS["+ DropBlock"])
    state = TrainState.start(detector.network, method.train, torch.device("cpu"))
    state.averages["teacher"] = RunningAverage.of(state.network, 0.99)
    state.notes["cuts"] = dict(detector.thresholds["f1"])
    stride = method.network.stride
    annotator = Annotator(method.peaks, method.target, detector.objects, detector.facts.voxel_spacing * stride)
    kinds = {"soft labels": method.objective, "picks": method.override(PICKS).objective}
    seen, sums, right = [], {name: np.zeros((2, len(detector.objects))) for name in kinds}, {}
    for run in bench.runs(0, 2)[1]:
        tomogram = matched(bench.project.tomogram(run, "denoised"), detector.facts.voxel_spacing, "the model")
        shape = tuple(n // method.network.multiple * method.network.multiple for n in tomogram.grid.shape)
        values = method.normalize(tomogram)[tuple(slice(n) for n in shape)]
        picks = bench.project.picks(run)
        picks = picks.among([o.name for o in detector.objects])
        truth = method.target(picks, tomogram.grid.crop((0, 0, 0), shape).downsample(stride), detector.objects).values
        volume, drawn = torch.from_numpy(np.ascontiguousarray(values))[None, None], {}
        for name, objective in kinds.items():
            said = drawn[name] = objective.build(method.loss, annotator).pseudo_labels(state, volume)[0].numpy()
            sums[name] += [heatmap.sum(axis=(1, 2, 3)) for heatmap in (said, truth)]
            right[name] = right.get(name, 0) + (said * (truth > 0.05)).sum(axis=(1, 2, 3))
        seen.append((values, drawn["soft labels"], drawn["picks"], truth))
    for name, (mine, true) in sums.items():
        for thing, sum_of, of_truth, hit in zip(detector.objects, mine, true, right[name]):
            print(f"{thing.name}: {name} sum up to {sum_of / of_truth:.1f} times the true ones, "
                  f"{100 * hit / max(sum_of, 1e-9):.0f} % of it at particles")  # fmt: skip
    values, said, picked, truth = max(seen, key=lambda made: (made[3].max(axis=(2, 3)) > 0.7).all(axis=0).sum())
    strong = Augmentation((), method.objective.strong).colour(values, np.random.default_rng(0))
    z = int(truth.max(axis=(2, 3)).min(axis=0).argmax())
    at = z * stride + stride // 2
    shown = [
        ("as the teacher sees it", values[at]), ("soft labels", said[:, z]), ("labels of its picks", picked[:, z]),
        ("the truth", truth[:, z]), ("what the student sees", strong[at]),
    ]  # fmt: skip
    spacing = detector.facts.voxel_spacing
    figure, axes = pyplot.subplots(2, 3, figsize=(11, 7.7), layout="constrained", facecolor="white")
    for axis, (title, image) in zip(axes.flat, shown):
        wide = image.shape[-1]
        if image.ndim == 3:
            axis.imshow(_coloured(image, detector.objects), interpolation="nearest")
            wide *= stride
        else:
            axis.imshow(image, cmap="gray", vmin=-3, vmax=3)
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, fontsize=15)
        bar, left = 500.0 / spacing / wide, 0.05  # of the picture's width
        for width, ink in ((7, "black"), (4, "white")):
            axis.plot([left, left + bar], [0.06, 0.06], transform=axis.transAxes, color=ink, lw=width,
                      solid_capstyle="butt")  # fmt: skip
        axis.text(left + bar / 2, 0.09, "500 Å", transform=axis.transAxes, ha="center", fontsize=13, color="white",
                  path_effects=[withStroke(linewidth=3, foreground="black")])  # fmt: skip
    axes.flat[-1].axis("off")
    marks = [Line2D([], [], lw=0, marker="s", ms=16, color=_rgb(o), label=o.name) for o in detector.objects]
    axes.flat[-1].legend(handles=marks, loc="center", fontsize=15, frameon=False)
    figure.savefig(file, dpi=100)


def _rgb(thing: PickableObject) -> list[float]:
    return [c / 255 for c in thing.color[:3]]


def _coloured(heatmap: np.ndarray, objects: Sequence[PickableObject]) -> np.ndarray:
    """(object, y, x), 0 to 1 -> (y, x, 3): on black each object in its colour, the stronger above the weaker."""
    tinted = heatmap.clip(0, 1)[..., None] * np.array([_rgb(o) for o in objects])[:, None, None]
    return tinted.max(axis=0)


def _spread(values: np.ndarray) -> str:
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def _interval(gains: np.ndarray) -> str:
    if len(gains) < 2:
        return f"{gains.mean():+.3f}"
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5
    return f"{gains.mean():+.3f}, {gains.mean() - half:+.3f} to {gains.mean() + half:+.3f}"


@dataclass(frozen=True)
class Job:
    """All rows of one seed and one number of labels; one of several processes.

    Attributes:
        work, scale, device: of the comparison.
        seed, labels: of its rows.
        rows: their names.
        end: of the clock, after which none is begun.
        quiet: no lines of the trainings.
    """

    work: Path
    scale: str
    device: str
    seed: int
    labels: int
    rows: tuple[str, ...]
    end: float
    quiet: bool = False

    def __call__(self) -> list[str]:
        """The names of the rows that it made."""
        logging.basicConfig(format="%(message)s")
        logging.getLogger("tomopick").setLevel("WARNING" if self.quiet else "INFO")
        if self.quiet:  # beside others
            torch.set_num_threads(1)
        bench = Bench(self.work, SCALES[self.scale], loaded(self.work, SCALES[self.scale]), self.device)
        file, made = bench.file(self.seed, self.labels), []
        for row in self.rows:
            if time.time() > self.end:
                break
            if any(kept["row"] == row and set(COLUMNS) <= set(kept) for kept in rows_of(file)):
                continue
            found = bench.row(self.seed, self.labels, row)
            with file.open("a") as out:
                out.write(json.dumps(found) + "\n")
            print(f"{self.labels} labels, seed {self.seed}, {row}: F1 {found['f1'][0]:.3f}, "
                  f"AP {found['average_precision'][0]:.3f}, {found['seconds']} s", flush=True)  # fmt: skip
            made.append(row)
        return made


def jobs_of(args: argparse.Namespace) -> list[Job]:
    """A job for each seed and number of labels."""
    scale, end = SCALES[args.scale], time.time() + args.seconds
    found = []
    for seed in map(int, args.seeds.split(",")):
        for labels in args.labels.split(","):
            wanted = FULL if labels == "all" else {**ROWS, **(LATER if args.later else {})}
            asked = [row.strip() for row in args.rows.split(";") if row.strip()]
            for row in asked:
                if row not in {**FULL, **ROWS, **LATER}:
                    raise SystemExit(f"no row '{row}'; there are {', '.join({**ROWS, **LATER, **FULL})}")
            rows = tuple(row for row in wanted if row in asked or not asked)
            n = scale.pool if labels == "all" else int(labels)
            found.append(Job(args.work, args.scale, args.device, seed, n, rows, end, args.jobs > 1))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the rows that are missing, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--scale", choices=sorted(SCALES), default="small")
    parser.add_argument("--labels", default="2,5,all")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", default="", help="of the table, by name and with semicolons between; without it all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each where there are several")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that simulate")
    parser.add_argument("--seconds", type=float, default=1e9, help="after which no training is begun")
    parser.add_argument("--later", action="store_true", help="two more rows")
    parser.add_argument("--only-simulate", action="store_true")
    parser.add_argument("--picture", type=Path, help="draw what the first teacher says, and stop")
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    scale, jobs = SCALES[args.scale], jobs_of(args)
    args.work.mkdir(parents=True, exist_ok=True)
    simulate_runs(args.work / "data", runs_of(scale), simulation(scale), args.workers)
    if args.picture:
        draw(Bench(args.work, scale, loaded(args.work, scale), args.device), args.picture)
    if args.only_simulate or args.picture:
        return
    if args.jobs == 1:
        for job in jobs:
            job()
    else:
        with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
            for done in as_completed([pool.submit(job) for job in jobs]):
                done.result()
    text = table([row for file in sorted(args.work.glob("rows-*.jsonl")) for row in rows_of(file)])
    (args.work / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
