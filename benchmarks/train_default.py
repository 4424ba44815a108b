"""Makes the shipped model: simulates runs, trains `light` on them, and scores it on phantoms of seeds it never saw.

    python benchmarks/train_default.py WORK [--templates FOLDER] [--init-from MODEL [--average]] [--device cuda]
        [--minutes M] [--stop-after training]
    python benchmarks/train_default.py WORK --score default,WORK/model [--templates FOLDER]

With --templates half of the training runs, and all that thresholds are set on, hold the true maps (and others as
distractors) in place of the analytic densities.

With --init-from it goes on with an earlier model; --average then takes the mean of the weights before and after, in
WORK/averaged: what the later simulations taught, with less of the earlier ones lost.

--score takes any models through the same phantoms: the demo's, and (with --templates) the same of true maps. Models are
chosen by what their thresholds reach on the runs that set them; phantoms only tell how good the choice was.

Repeated after an interruption it goes on where it stopped. Copy recipe.json, detector.json, weights.safetensors and
README.md of WORK/model (or WORK/averaged) to src/tomopick/models/default to ship it.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from kept_runs import keep_run, load_run
from tomopick import Detector, FitOptions, MemoryProject, Picks, Runs, Source, Tomogram, czii_score, fit
from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.progress import bar
from tomopick.models.soup import SoupOptions, make_soup
from tomopick.picking.cards import model_card
from tomopick.picking.exclusion import Exclusion
from tomopick.picking.load import load_detector
from tomopick.picking.measured import with_measured
from tomopick.picking.peaks import LOWEST_SCORE
from tomopick.picking.picker import Picker, PickOptions
from tomopick.recipes import get
from tomopick.recipes.from_maps import for_other_volumes
from tomopick.scoring.scores import matched_scores
from tomopick.simulation import simulate, with_densities
from tomopick.simulation.projects import spec_of

TRAIN_SHAPE, VAL_SHAPE, DEMO_SHAPE = (96, 192, 192), (96, 384, 384), (128, 512, 512)
AS_SHIPPED = ("train.steps=1600", "train.lr=2e-3", "train.lr_from_model=1", "train.warmup_steps=100")
# Seeds of training and validation; the demo's phantoms use small ones.
TRAIN_SEED, VAL_SEED, CALIBRATION_SEED = 7_000_000, 8_000_000, 9_000_000


# What runs are drawn from: half like the challenge's, where what is alike lies side by side; much varied; one object
# dense in a thin layer; and apo-ferritin alone in one (the field's usual test specimen).
KINDS = ("czii", "varied", "czii", "dominated", "czii", "ferritin")

Job = tuple[str, tuple[int, int, int], str, int, Path | None]  # kind, shape, run, seed, folder of maps


def one(job: Job) -> tuple[Tomogram, Picks]:
    """A run that is simulated, as denoised tomogram, and its truth."""
    kind, shape, run, seed, templates = job
    spec = spec_of("czii" if kind == "czii" else "varied", shape, ("denoised",))
    if kind in ("dominated", "ferritin"):
        spec = replace(spec, specimen=replace(spec.specimen, dominance=1.0))
    if templates is not None:
        spec = replace(spec, specimen=with_densities(spec.specimen, CZII_OBJECTS, (), templates)[0])
    objects = CZII_OBJECTS[:1] if kind == "ferritin" else CZII_OBJECTS
    made = simulate(spec, objects, run=run, seed=seed)
    return made.tomograms["denoised"], made.picks


def kept(file: Path, job: Job) -> Path:
    """Simulates a run into a file, unless it is there."""
    if not file.is_file():
        tomogram, picks = one(job)
        keep_run(file, [tomogram], picks)
    return file


def simulated(folder: Path, jobs: Sequence[Job], workers: int, text: str) -> MemoryProject:
    """Runs, in memory; what an earlier start simulated is read."""
    folder.mkdir(parents=True, exist_ok=True)
    project = MemoryProject(CZII_OBJECTS, text)
    files = [folder / f"{job[2]}{'m' if job[4] else ''}.npz" for job in jobs]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool, bar(len(jobs), text, "run") as shown:
        for job, file in zip(jobs, pool.map(kept, files, jobs, chunksize=2)):
            project.add(*load_run(folder, file.stem, name=job[2]))
            shown.update(1)
    return project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--recipe", default="light")
    parser.add_argument("--train-runs", type=int, default=200, help="of all kinds together")
    parser.add_argument("--val-runs", type=int, default=8, help="of all kinds together")
    parser.add_argument("--templates", type=Path, help="folder of maps, as `simulate --templates` takes it")
    parser.add_argument("--test-seeds", default="0,1,2,3,4", help="phantoms of the demo to score on")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--minutes", type=float, help="of training; its steps follow")
    parser.add_argument("--init-from", default="", help="model to start from, such as `default`")
    parser.add_argument("--average", action="store_true", help="the mean of its weights and the new ones")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--stop-after", choices=("simulations", "training", "thresholds"))
    parser.add_argument("--score", default="", help="models to score, by comma, in place of making one")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tomopick").setLevel("INFO")
    if args.average and not args.init_from:
        parser.error("--average needs --init-from: the model whose weights the new ones are averaged with")
    if args.score:
        score([load_detector(name) for name in args.score.split(",")], args)
        return
    out = args.work / "model"
    if not (out / "detector.json").is_file():
        teach(out, args)
    if args.stop_after == "simulations":
        return
    if args.average:
        # By names that do not change with where this runs, for the model says what it was made of.
        both = [replace(load_detector(args.init_from), name=args.init_from), replace(Detector.load(out), name="model")]
        out = args.work / "averaged"
        if not out.exists():
            make_soup(both, out, SoupOptions())
    if args.stop_after == "training":
        return
    if not (out / "thresholds.json").is_file():
        set_thresholds(Detector.load(out), out, args)
    if args.stop_after != "thresholds":
        score([Detector.load(out)], args)


def teach(out: Path, args: argparse.Namespace) -> None:
    """Simulates what it learns from, and trains."""
    recipe = for_other_volumes(get(args.recipe)).override([*AS_SHIPPED, *args.set])
    # Of each kind every other run is of the true maps: neither their shapes nor the analytic ones are all there is.
    maps = [args.templates if i // len(KINDS) % 2 else None for i in range(args.train_runs)]
    jobs = [(KINDS[i % len(KINDS)], TRAIN_SHAPE, f"T{i:04d}", TRAIN_SEED, maps[i]) for i in range(args.train_runs)]
    jobs_held = [(KINDS[i % len(KINDS)], VAL_SHAPE, f"V{i}", VAL_SEED, args.templates) for i in range(args.val_runs)]
    began = time.perf_counter()
    project = simulated(args.work / "data", jobs, args.workers, "simulated training runs")
    held = simulated(args.work / "data", jobs_held, args.workers, "simulated held-out runs")
    print(f"simulated {args.train_runs + args.val_runs} runs in {time.perf_counter() - began:.0f} s", flush=True)
    if args.stop_after == "simulations":
        return
    options = FitOptions(
        device=args.device, workers=args.workers if args.workers > 1 else 0, resume=out.exists(),
        init_from=args.init_from, minutes=args.minutes,
    )  # fmt: skip
    args.work.mkdir(parents=True, exist_ok=True)
    fit(recipe, [Source(project, val_runs=[]), Source(Runs(held, []), val_runs=held.runs())], out, options)


def set_thresholds(detector: Detector, out: Path, args: argparse.Namespace) -> None:
    """Thresholds on runs like those that people have: CZII phantoms of the demo's size, and apo-ferritin alone."""
    jobs = [("czii", DEMO_SHAPE, f"C{i}", CALIBRATION_SEED, args.templates) for i in range(10)]
    jobs += [("ferritin", VAL_SHAPE, f"F{i}", CALIBRATION_SEED, args.templates) for i in range(2)]
    candidates, truth = picked(detector, jobs, args.device, LOWEST_SCORE)
    made = with_measured(detector, {LOWEST_SCORE: candidates}, truth, detector.objects, "the defaults")
    made.save(out)
    (out / "README.md").write_text(model_card(made))
    about = {"seed": CALIBRATION_SEED, "runs": [job[2] for job in jobs], "reached": made.facts.scores}
    (out / "thresholds.json").write_text(json.dumps(about, indent=1))
    print(f"on the runs that thresholds are set on: {made.facts.scores}", flush=True)


def picked(
    detector: Detector, jobs: Sequence[Job], device: str, floor: float
) -> tuple[dict[str, Picks], dict[str, Picks]]:
    """Picks and truth of simulated runs, by run."""
    candidates, truth = {}, {}
    # Thresholds are of each object by itself; who competes for a density is told by them.
    picker = Picker(detector, PickOptions(keep_below=True, device=device, exclude=False))
    with bar(len(jobs), f"pick with {detector.name or 'the model'}", "run") as shown:
        for job in jobs:
            tomogram, truth[job[2]] = one(job)
            found = picker.pick(tomogram)[0]
            candidates[job[2]] = found.above({o.name: floor for o in detector.objects})
            shown.update(1)
    return candidates, truth


def score(detectors: Sequence[Detector], args: argparse.Namespace) -> None:
    """F-beta 4 and mean F1 of the five objects that count, at the thresholds of each, on phantoms of seeds not seen."""
    found = {}
    for maps in [None, args.templates] if args.templates else [None]:
        jobs = [("czii", DEMO_SHAPE, "phantom", int(seed), maps) for seed in args.test_seeds.split(",")]
        for detector in detectors:
            candidates, truth = {}, {}
            for job in jobs:
                one_found, one_truth = picked(detector, [job], args.device, LOWEST_SCORE)
                candidates[str(job[3])], truth[str(job[3])] = one_found["phantom"], one_truth["phantom"]
            at = {m: {run: p.above(detector.thresholds[m]) for run, p in candidates.items()} for m in ("czii", "f1")}
            cuts, stated = detector.thresholds, detector.method.exclusion
            competing = Exclusion.of(detector.objects, cuts, cuts["f1"], stated, None)
            at["f1"] = {run: competing(p) for run, p in at["f1"].items()}
            challenge = czii_score(at["czii"], truth, detector.objects)
            ignored = [o.name for o in detector.objects if o.score_weight == 0]
            f1 = matched_scores(at["f1"], truth, detector.objects, exclude=ignored)
            mean = f1.macro_f1[0]
            what = "true maps" if maps else "the demo"
            print(f"{detector.name}: phantoms of {what}: F4 {challenge.score:.3f}, mean F1 {mean:.3f}", flush=True)
            print(challenge.table(), f1.table(), sep="\n", flush=True)
            found[f"{detector.name} {what}"] = {"F4": challenge.score, "F1": mean}
    args.work.mkdir(parents=True, exist_ok=True)
    (args.work / "scores.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
