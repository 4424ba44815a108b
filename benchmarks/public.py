"""A recipe trained and scored on a public benchmark, the published figure beside ours: one command each.

    python benchmarks/public.py phantom WORK                  POPSICLE's phantom, streamed from its manifest
    python benchmarks/public.py motorbench WORK               POPSICLE's flagellar motors
    python benchmarks/public.py byu WORK FOLDER               Kaggle's flagellar motors: the unpacked download
    python benchmarks/public.py empiar-11830 WORK PROJECT     a copick project of it, such as `init --portal` writes
    python benchmarks/public.py NAME WORK PROJECT light train.steps=500 --device cuda

PROJECT is a copick configuration or a Croissant manifest (metadata.json), here or at an address; two benchmarks have
one that is taken without it. Runs are learned from, validated on and scored as the manifest's `split` says; where it
says nothing, three fifths, one and one of a fixed shuffled order are. Thresholds are those of the training. A row of
WORK/rows.jsonl is written when it is done, and a repeated call goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kept_runs import rows_of
from tomopick import (
    FitOptions,
    Grid,
    MemoryProject,
    Model,
    PickableObject,
    Picks,
    Project,
    Runs,
    Source,
    Tomogram,
    TomopickError,
    czii_score,
    fit,
    load_model,
    open_project,
    recipes,
)
from tomopick.core.errors import ReadError, SelectionError
from tomopick.picking.picker import Picker, PickOptions
from tomopick.picking.predict import VIEWS
from tomopick.scoring.scores import matched_scores

POPSICLE = "https://huggingface.co/datasets/biohub/popsicle/resolve/main/{}/Croissant/metadata.json"
MOTOR = PickableObject("motor", 400.0, 1)  # a Gaussian of half its radius is as wide as the third place's
BYU_REACH, BYU_BETA, BYU_SPACING = 1000.0, 2.0, 32.0  # [Å] of a hit, of F-beta, [Å] a voxel that is learned at
SPLITS = {"train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
QUICK = ("network.widths=4,6,8", "patch.shape=16,16,16", "train.steps=2", "train.batch_size=2", "train.warmup_steps=0",
         "train.validate_every=2")  # fmt: skip
LEARN_FIRST = {"train": 3, "val": 1, "test": 1}  # fifths, where nobody has divided the runs


@dataclass(frozen=True)
class Benchmark:
    """One public benchmark.

    Attributes:
        manifest: where it is found; "": that has to be said.
        metric: what is published of it: F4 (the challenge's), F1, or F2 (a motor a tomogram at most).
        published: figures.
        source: of them.
    """

    manifest: str
    metric: str
    published: str
    source: str


BENCHMARKS = {
    "phantom": Benchmark(POPSICLE.format("phantom"), "F4", "in its paper", "POPSICLE, arXiv:2606.10255"),
    "motorbench": Benchmark(POPSICLE.format("motorbench"), "F1", "in its paper", "POPSICLE, arXiv:2606.10255"),
    "byu": Benchmark("", "F2", "0.86392 on one GPU; 0.87656 second place", "BYU flagellar motors, Kaggle 2025"),
    "empiar-11830": Benchmark("", "F1", "-", "EMPIAR-11830, Chlamydomonas reinhardtii"),
}


@dataclass(frozen=True)
class Data:
    """What is learned from, and how its runs are divided.

    Attributes:
        project: with the runs.
        runs: names by purpose: train, val, test.
    """

    project: Project
    runs: Mapping[str, Sequence[str]]


def gathered(benchmark: Benchmark, place: str, work: Path) -> Data:
    """The runs of a benchmark.

    Raises:
        TomopickError: nothing there, no network, or runs that do not suffice.
    """
    if benchmark.metric == "F2":
        return motors(Path(place))
    if not place:
        raise SelectionError("where is it? give a copick configuration or a Croissant manifest as PROJECT")
    splits: dict[str, list[str]] = {}
    if place.endswith("metadata.json"):
        project, splits = croissant(place, work)
    else:
        project = open_project(place)
    return Data(project, splits if splits.get("test") else divided(project.runs()))


def divided(runs: Sequence[str]) -> dict[str, list[str]]:
    """Three fifths of a shuffled order to learn from, one to validate on, one to score; each has a run at least."""
    if len(runs) < 3:
        raise SelectionError(f"{len(runs)} runs; expected three or more: to learn from, to validate on and to score")
    order = [sorted(runs)[i] for i in np.random.default_rng(0).permutation(len(runs))]
    one = max(1, len(runs) // sum(LEARN_FIRST.values()))
    return {"test": order[:one], "val": order[one : 2 * one], "train": order[2 * one :]}


def croissant(place: str, work: Path) -> tuple[Project, dict[str, list[str]]]:
    """The project of a manifest, and its runs by split; its objects are the manifest's."""
    import copick
    import fsspec

    config = work / "copick.json"
    overlay = work / "overlay"
    try:
        copick.from_croissant(place, f"local://{overlay.resolve()}", overlay_fs_args={"auto_mkdir": True},
                              output_path=str(config))  # fmt: skip
        with fsspec.open(place.rsplit("/", 1)[0] + "/runs.csv", "rt") as file:
            rows = list(csv.DictReader(file))
    except Exception as error:  # whatever a back-end raises
        reason = (str(error).splitlines() or [""])[0][:120]
        raise ReadError(
            f"{place}: cannot be read ({type(error).__name__}: {reason}); it needs a network: where there is none, "
            "give a copy of the data as PROJECT"
        ) from error
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for row in rows:
        kind = SPLITS.get((row.get("split") or "").lower())
        if kind:
            splits[kind].append(row["name"])
    if splits["test"] and not splits["val"]:  # every fifth, in a fixed order
        order = sorted(splits["train"])
        splits["val"], splits["train"] = order[::5], [run for i, run in enumerate(order) if i % 5]
    return open_project(str(config)), splits


def motors(folder: Path) -> Data:
    """Kaggle's flagellar motors: slices as pictures, one table of labels; a run without a motor has no picks."""
    table = folder / "train_labels.csv"
    if not table.is_file():
        raise ReadError(
            f"{table}: not there; give the unpacked download of byu-locating-bacterial-flagellar-motors-2025"
        )
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    project = MemoryProject((MOTOR,), str(folder))
    by_run: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_run.setdefault(row["tomo_id"], []).append(row)
    for run, labels in by_run.items():
        spacing = float(labels[0]["Voxel spacing"])
        found = [[float(row[f"Motor axis {k}"]) for k in range(3)] for row in labels if float(row["Motor axis 0"]) >= 0]
        values, factor = slices(folder / "train" / run, BYU_SPACING / spacing)
        grid = Grid(values.shape, spacing * factor, ((factor - 1) / 2 * spacing,) * 3)
        positions = np.reshape(found, (-1, 3)) * spacing
        project.add(Tomogram(run, values, grid, "tomogram"), Picks(run, positions, np.full(len(positions), MOTOR.name)))
    return Data(project, divided(project.runs()))


def slices(folder: Path, factor: float) -> tuple[np.ndarray, int]:
    """A folder of pictures, one a slice -> (z, y, x) means of cubes of voxels, and how many along an edge."""
    from PIL import Image

    files, n = sorted([*folder.glob("*.jpg"), *folder.glob("*.png")]), max(1, round(factor))
    if len(files) < n:
        raise ReadError(f"{folder}: {len(files)} slices (.jpg, .png); expected those of a tomogram")
    made = []
    for start in range(0, len(files) // n * n, n):
        stack = np.mean([np.asarray(Image.open(file).convert("L"), np.float32) for file in files[start : start + n]], 0)
        y, x = (edge // n * n for edge in stack.shape)
        made.append(stack[:y, :x].reshape(y // n, n, x // n, n).mean(axis=(1, 3)))
    return np.stack(made), n


def trained(data: Data, recipe: str, settings: Sequence[str], out: Path, device: str) -> Model:
    """The recipe's model of the training runs."""
    if (out / "detector.json").is_file():
        return load_model(out)
    method = recipes.get(recipe).override(list(settings))
    source = Source(Runs(data.project, data.runs["train"]), val_runs=data.runs["val"])
    out.parent.mkdir(parents=True, exist_ok=True)
    return fit(method, [source], out, FitOptions(device, resume=(out / "recipe.json").is_file()))


def scored(data: Data, model: Model, metric: str, device: str, views: str | None) -> dict[str, object]:
    """The test runs picked and scored."""
    chosen = "czii" if metric != "F1" else "f1"
    picker, found, truth, seconds = Picker(model, PickOptions(metric=chosen, device=device, views=views)), {}, {}, []
    for run in data.runs["test"]:
        tomogram, began = data.project.tomogram(run), time.perf_counter()
        found[run] = picker.pick(tomogram)[0]
        seconds.append(time.perf_counter() - began)
        truth[run] = (data.project.picks(run) or Picks.empty(run)).among([o.name for o in model.objects])
    matched = matched_scores(found, truth, model.objects)
    value = {
        "F1": lambda: matched.macro_f1[0],
        "F4": lambda: czii_score(found, truth, model.objects).score,
        "F2": lambda: motor_score(found, truth),
    }[metric]()
    objects = {name: counts[0].fbeta for name, counts in matched.objects.items()}
    return {metric: value, "F1 by object": objects, "seconds": float(np.median(seconds)), "runs": len(truth)}


def motor_score(found: Mapping[str, Picks], truth: Mapping[str, Picks]) -> float:
    """F-beta 2 over tomograms, each answered by its best pick or by none: a hit lies within 1000 Å of a motor.

    An answer further off is a miss, and one where there is no motor is false.

    Source: the metric of Kaggle's byu-locating-bacterial-flagellar-motors-2025, as its description has it.
    """
    hits = false = missed = 0
    for run, motors_of in truth.items():
        best = found[run].positions[np.argsort(-found[run].scores)[:1]]  # (0 or 1, 3)
        if not len(motors_of):
            false += len(best)
        elif len(best) and np.linalg.norm(motors_of.positions - best, axis=1).min() <= BYU_REACH:
            hits += 1
        else:
            missed += 1
    square = BYU_BETA**2
    whole = (1 + square) * hits + square * missed + false
    return (1 + square) * hits / whole if whole else 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes a row, if it is missing, and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument("work", type=Path)
    parser.add_argument("more", nargs="*", metavar="[PROJECT] [RECIPE] [section.field=value ...]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tta", choices=sorted(VIEWS), help="views that are scored; without it those of the recipe")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: a narrow network, two steps")
    args = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("tomopick").setLevel("INFO")
    benchmark = BENCHMARKS[args.benchmark]
    settings = [text for text in args.more if "=" in text.partition("/")[0]]
    words = [text for text in args.more if text not in settings]
    settings += QUICK if args.quick else ()
    names = [text for text in words if text in recipes.names()]
    places = [text for text in words if text not in names]
    recipe, place = (names or ["light"])[0], (places or [benchmark.manifest])[0]
    kept, key = args.work / "rows.jsonl", {"benchmark": args.benchmark, "recipe": recipe, "settings": settings}
    args.work.mkdir(parents=True, exist_ok=True)
    try:
        row = next((row for row in rows_of(kept) if all(row[k] == v for k, v in key.items())), None)
        if row is None:
            data = gathered(benchmark, place, args.work)
            model = trained(data, recipe, settings, args.work / "models" / recipe, args.device)
            row = {**key, **scored(data, model, benchmark.metric, args.device, args.tta)}
            with kept.open("a") as file:
                file.write(json.dumps(row) + "\n")
    except TomopickError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{args.benchmark}, {recipe}: {benchmark.metric} {row[benchmark.metric]:.5f} over {row['runs']} runs, "
          f"{row['seconds']:.2f} s a tomogram; published: {benchmark.published} ({benchmark.source})")  # fmt: skip


if __name__ == "__main__":
    main()
