"""What unlabelled runs are worth: SemiETPicker's table on simulated runs, with 2 and 5 labelled ones.

    python benchmarks/semisupervised.py WORK [--scale small|full] [--seeds 0,1,2] [--labels 2,5,all] [--threads 1]

Each seed draws other labelled runs; the rest of the pool is unlabelled. Validation runs (early stopping, thresholds)
and test runs are the same for all. A row of WORK/rows.jsonl is written per finished training, so that a repeated call
goes on where the last one stopped (and calls with other --labels may run beside it); WORK/table.md is made of them.
All rows of a seed and a number of labels start from the same burn-in and take equally many steps after it: `supervised`
on the labelled runs alone; `all labels` is that on the whole pool with its labels. `burn-in` is where they start: as
good as `supervised` where labels alone have little more to give. With --later two more rows start from the `supervised`
models: what co-training adds where labels alone have been learned from for longer.

A setting is to be chosen by its burn-ins alone (--rows burn-in): the table means something where their validation
scores (`val` in the rows) have levelled off and those with all labels are well above those with few.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tomopick import (
    Detector,
    FitOptions,
    MemoryProject,
    Project,
    Recipe,
    Runs,
    Source,
    fit,
    open_project,
    precision_recall,
    recipes,
)
from tomopick.picking.folder import read_log
from tomopick.picking.peaks import LOWEST_SCORE
from tomopick.picking.picker import PickOptions
from tomopick.picking.resample import matched
from tomopick.scoring.scores import matched_scores
from tomopick.simulation.projects import simulate_project
from tomopick.training.augment import Augmentation
from tomopick.training.averaging import RunningAverage
from tomopick.training.loop import TrainState

PLAIN = ("objective.strong=ScaleShift,Noise", "objective.strong.scaleshift.p=0.8", "objective.strong.noise.p=0.8")
DROPBLOCK = ("objective.strong=ScaleShift,Noise,DropBlock", *PLAIN[1:])
TEACHER = ("objective=MeanTeacherSpec", "objective.burn_in=0")
# Row of the table -> overrides of the objective; `all labels` is the supervised one with other labels.
ROWS: dict[str, tuple[str, ...]] = {
    "burn-in": ("objective=SupervisedSpec",),
    "supervised": ("objective=SupervisedSpec",),
    "mean teacher": (*TEACHER, *PLAIN, "objective.views=1"),
    "+ multi-view": (*TEACHER, *PLAIN, "objective.views=4"),
    "+ DropBlock": (*TEACHER, *DROPBLOCK, "objective.views=4"),
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
    "full": Scale(
        (184, 630, 630), "czii", (), 55, 4, 20, "semietpicker",
        ("train.steps=3000", "train.validate_every=500"), (), 0.999, 100, None,
        ("objective.strong.scaleshift.scale=0.3", "objective.strong.scaleshift.shift=0.3",
         "objective.strong.noise.sigma=0.4"),
    ),
}  # fmt: skip


def simulated(work: Path, scale: Scale) -> Project:
    """The runs, simulated once; where the recipe learns at a coarser voxel spacing they are resampled once, too."""
    place, n = work / "data" / "copick.json", scale.pool + scale.val + scale.test
    # What is complete stays: a comparison goes on with the runs that it began with.
    if not place.is_file() or len(open_project(str(place)).runs()) < n:
        simulate_project(
            place.parent, scale.shape, runs=n, seed=11, tomo_types=("denoised",), preset=scale.preset,
            settings=scale.settings,
        )  # fmt: skip
    made, spacing = open_project(str(place)), recipes.get(scale.recipe).override(scale.overrides).voxel_spacing
    if spacing is None:
        return made
    coarse = MemoryProject(made.objects, uri=str(place))
    for run in made.runs():
        coarse.add(matched(made.tomogram(run, "denoised"), spacing, "the recipe"), made.picks(run))
    return coarse


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

    def row(self, seed: int, labels: int, row: str) -> dict:
        """One training after its burn-in, or that, scored on the test runs."""
        began = time.process_time()
        first = (*ROWS["burn-in"], *self.scale.burn_in)
        detector, out = self.trained(f"burn-in_{labels}_{seed}", first, seed, labels)
        if row in LATER:
            _, out = self.trained(f"supervised_{labels}_{seed}", ROWS["supervised"], seed, labels, str(out))
        if row != "burn-in":
            name = f"{row.strip('+ ').replace(', ', '-').replace(' ', '-')}_{labels}_{seed}"
            detector, out = self.trained(name, {**ROWS, **LATER, **FULL}[row], seed, labels, str(out))
        val = {step["step"]: step["val_score"] for step in read_log(out / "log.jsonl") if "val_score" in step}
        made = {"labels": labels, "seed": seed, "row": row, "val": val}
        made |= self.scores(detector, self.runs(seed, labels)[3])
        return made | {"cpu_seconds": round(time.process_time() - began)}

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
    """Mean and standard deviation over the seeds; in brackets the gain over `supervised`, paired by seed.

    Of `+ DropBlock, later` it is the gain over `supervised, longer`.
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
                    gain = f" ({_spread(gains[:, k], '+')})" if gains is not None else ""
                    cells.append(_spread(values[:, k]) + gain)
            lines.append(f"| {labels} | {name} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(bench: Bench, file: Path) -> None:
    """What the first teacher of seed 0 says of its unlabelled runs, beside the truth: a slice, and sums over all."""
    from matplotlib import pyplot

    detector, method = Detector.load(bench.work / "models" / "burn-in_2_0"), bench.method(ROWS["+ DropBlock"])
    state = TrainState.start(detector.network, method.train, torch.device("cpu"))
    state.averages["teacher"] = RunningAverage.of(state.network, 0.99)
    objective, stride = method.objective.build(method.loss), method.network.stride
    seen, sums = [], np.zeros((2, len(detector.objects)))
    for run in bench.runs(0, 2)[1]:
        tomogram = matched(bench.project.tomogram(run, "denoised"), detector.facts.voxel_spacing, "the model")
        shape = tuple(n // method.network.multiple * method.network.multiple for n in tomogram.grid.shape)
        values = method.normalize(tomogram)[tuple(slice(n) for n in shape)]
        picks = bench.project.picks(run)
        picks = picks.among([o.name for o in detector.objects])
        truth = method.target(picks, tomogram.grid.crop((0, 0, 0), shape).downsample(stride), detector.objects).values
        said = objective.pseudo_labels(state, torch.from_numpy(np.ascontiguousarray(values))[None, None])[0].numpy()
        sums += [heatmap.sum(axis=(1, 2, 3)) for heatmap in (said, truth)]
        seen.append((values, said, truth))
    for thing, mine, true in zip(detector.objects, *sums):
        print(f"{thing.name}: the sum of the teacher's labels is {mine / true:.1f} times that of the true ones")
    values, said, truth = max(seen, key=lambda made: (made[2].max(axis=(2, 3)) > 0.7).all(axis=0).sum())
    strong = Augmentation((), method.objective.strong).colour(values, np.random.default_rng(0))
    z = int(truth.max(axis=(2, 3)).min(axis=0).argmax())
    at = z * stride + stride // 2
    shown = [
        ("as the teacher sees it", values[at]), ("what it says", said[:, z]), ("the truth", truth[:, z]),
        ("what the student sees", strong[at]),
    ]  # fmt: skip
    figure, axes = pyplot.subplots(1, 4, figsize=(14, 4.1))
    for axis, (title, image) in zip(axes, shown):
        if image.ndim == 3:  # objects as red, green and blue
            axis.imshow(np.moveaxis(image[:3], 0, -1).clip(0, 1))
        else:
            axis.imshow(image, cmap="gray", vmin=-3, vmax=3)
        axis.set(title=title, xticks=[], yticks=[])
    figure.suptitle(f"red {', green '.join(o.name for o in detector.objects[:2])}, blue {detector.objects[2].name}")
    figure.tight_layout()
    figure.savefig(file, dpi=80)


def _spread(values: np.ndarray, sign: str = "") -> str:
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--scale", choices=sorted(SCALES), default="small")
    parser.add_argument("--labels", default="2,5,all")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", default="", help="of the table, by name; without it all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--later", action="store_true", help="two more rows")
    parser.add_argument("--only-simulate", action="store_true")
    parser.add_argument("--picture", type=Path, help="draw what the first teacher says, and stop")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tomopick").setLevel("INFO")
    if args.threads:
        torch.set_num_threads(args.threads)
    scale = SCALES[args.scale]
    args.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.work, scale, simulated(args.work, scale), args.device)
    if args.picture:
        draw(bench, args.picture)
    if args.only_simulate or args.picture:
        return
    kept = args.work / "rows.jsonl"
    for seed in map(int, args.seeds.split(",")):
        for labels in args.labels.split(","):
            n = scale.pool if labels == "all" else int(labels)
            wanted = FULL if labels == "all" else {**ROWS, **(LATER if args.later else {})}
            for row in [row for row in wanted if row in args.rows.split(",") or not args.rows]:
                if any((n, seed, row) == (r["labels"], r["seed"], r["row"]) and set(COLUMNS) <= set(r)
                       for r in read_log(kept)):  # fmt: skip
                    continue
                made = bench.row(seed, n, row)
                with kept.open("a") as file:
                    file.write(json.dumps(made) + "\n")
                print(f"{n} labels, seed {seed}, {row}: F1 {made['f1']}", flush=True)
                (args.work / "table.md").write_text(table(read_log(kept)))
    print(table(read_log(kept)))


if __name__ == "__main__":
    main()
