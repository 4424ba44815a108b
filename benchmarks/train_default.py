"""Makes the shipped model: simulates runs, trains `light` on them, and scores it on phantoms of seeds it never saw.

    python benchmarks/train_default.py WORK [--templates FOLDER] [--init-from MODEL [--average]] [--device cuda]

With --templates half of the training runs, and all that thresholds are set on, hold the true maps (and others as
distractors) in place of the analytic densities.

With --init-from it goes on with an earlier model; --average then takes the mean of the weights before and after, in
WORK/averaged: what the later simulations taught, with less of the earlier ones lost.

Repeated after an interruption it goes on where it stopped. Copy recipe.json, detector.json, weights.safetensors and
README.md of WORK/model (or WORK/averaged) to src/tomopick/models/default to ship it.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from tomopick import Detector, FitOptions, Source, fit
from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.progress import bar
from tomopick.data import MemoryProject
from tomopick.models.soup import SoupOptions, make_soup
from tomopick.picking.cards import model_card
from tomopick.picking.load import load_detector
from tomopick.picking.peaks import LOWEST_SCORE
from tomopick.picking.picker import PickOptions
from tomopick.recipes import get
from tomopick.scoring.scores import czii_score, matched_scores
from tomopick.scoring.thresholds import calibrate, displacement
from tomopick.simulation import simulate, with_densities
from tomopick.simulation.projects import spec_of
from tomopick.training.augment import Blur, Noise, ScaleShift

TRAIN_SHAPE, VAL_SHAPE, DEMO_SHAPE = (96, 192, 192), (96, 384, 384), (128, 512, 512)
# Wider than a recipe's own, for the real volumes are yet another domain.
INTENSITY = (ScaleShift(scale=0.6, shift=0.4, p=0.9), Blur(1.0, 0.25), Noise(0.5, 0.4))
# Seeds of training and validation; the demo's phantoms use small ones.
TRAIN_SEED, VAL_SEED, CALIBRATION_SEED = 7_000_000, 8_000_000, 9_000_000


# What runs are drawn from: like the challenge's, much varied, one object dense in a thin layer, and apo-ferritin alone
# in one (the field's usual test specimen).
KINDS = ("czii", "varied", "dominated", "ferritin")


def one(job: tuple[str, tuple[int, int, int], str, int, Path | None]):
    kind, shape, run, seed, templates = job
    spec = spec_of("czii" if kind == "czii" else "varied", shape, ("denoised",))
    if kind in ("dominated", "ferritin"):
        spec = replace(spec, specimen=replace(spec.specimen, dominance=1.0))
    if templates is not None:
        spec = replace(spec, specimen=with_densities(spec.specimen, CZII_OBJECTS, (), templates)[0])
    objects = CZII_OBJECTS[:1] if kind == "ferritin" else CZII_OBJECTS
    made = simulate(spec, objects, run=run, seed=seed)
    return made.tomograms["denoised"], made.picks


def simulated(jobs: list, workers: int, text: str) -> MemoryProject:
    project = MemoryProject(CZII_OBJECTS, text)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool, bar(len(jobs), text, "run") as shown:
        for tomogram, picks in pool.map(one, jobs, chunksize=2):
            project.add(tomogram, picks)
            shown.update(1)
    return project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--recipe", default="light")
    parser.add_argument("--train-runs", type=int, default=200, help="of all kinds together")
    parser.add_argument("--val-runs", type=int, default=8, help="of all kinds together")
    parser.add_argument("--templates", type=Path, help="folder of maps, as `simulate --templates` takes it")
    parser.add_argument("--test-seeds", default="0,1,2", help="phantoms of the demo to score on")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--init-from", default="", help="model to start from, such as `default`")
    parser.add_argument("--average", action="store_true", help="the mean of its weights and the new ones")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tomopick").setLevel("INFO")
    if args.average and not args.init_from:
        parser.error("--average needs --init-from: the model whose weights the new ones are averaged with")

    recipe = get(args.recipe).override(["train.steps=1600", "train.lr=2e-3", "train.validate_every=200", *args.set])
    recipe = replace(recipe, augment=replace(recipe.augment, intensity=INTENSITY))
    out = args.work / "model"
    if not (out / "detector.json").is_file():
        # Of each kind every other run is of the true maps: neither their shapes nor the analytic ones are all there is.
        maps = [args.templates if i // len(KINDS) % 2 else None for i in range(args.train_runs)]
        jobs = [(KINDS[i % len(KINDS)], TRAIN_SHAPE, f"T{i:04d}", TRAIN_SEED, maps[i]) for i in range(args.train_runs)]
        began = time.perf_counter()
        project = simulated(jobs, args.workers, "simulated training runs")
        held = simulated(
            [(KINDS[i % len(KINDS)], VAL_SHAPE, f"V{i}", VAL_SEED, args.templates) for i in range(args.val_runs)],
            args.workers,
            "simulated held-out runs",
        )
        print(f"simulated {args.train_runs + args.val_runs} runs in {time.perf_counter() - began:.0f} s", flush=True)
        options = FitOptions(
            device=args.device, workers=args.workers if args.workers > 1 else 0, resume=out.exists(),
            init_from=args.init_from,
        )  # fmt: skip
        args.work.mkdir(parents=True, exist_ok=True)
        sources = [Source(project, val_runs=[]), Source(held, train_runs=[], val_runs=held.runs())]
        fit(recipe, sources, out, options)
    if args.average:
        # By names that do not change with where this runs, for the model says what it was made of.
        both = [replace(load_detector(args.init_from), name=args.init_from), replace(Detector.load(out), name="model")]
        out = args.work / "averaged"
        if not out.exists():
            make_soup(both, out, SoupOptions())
    if not (out / "thresholds.json").is_file():
        set_thresholds(Detector.load(out), out, args)
    score(Detector.load(out), [int(s) for s in args.test_seeds.split(",")], args)


def set_thresholds(detector: Detector, out: Path, args: argparse.Namespace) -> None:
    """Thresholds on runs like those that people have: CZII phantoms of the demo's size, and apo-ferritin alone."""
    jobs = [("czii", DEMO_SHAPE, f"C{i}", CALIBRATION_SEED, args.templates) for i in range(10)]
    jobs += [("ferritin", VAL_SHAPE, f"F{i}", CALIBRATION_SEED, args.templates) for i in range(2)]
    floor = {o.name: LOWEST_SCORE for o in detector.objects}
    candidates, truth = {}, {}
    with bar(len(jobs), "set thresholds", "run") as shown:
        for job in jobs:
            tomogram, truth[job[2]] = one(job)
            candidates[job[2]] = detector.pick(tomogram, floor, PickOptions(device=args.device)).picks
            shown.update(1)
    found = {m: calibrate(candidates, truth, detector.objects, m, tolerance=0.005) for m in ("f1", "czii")}
    thresholds = {m: {k: c.threshold for k, c in best.items()} for m, best in found.items()}
    shift, n = displacement(candidates, truth, detector.objects, thresholds["f1"])
    scores = {m: {k: c.value for k, c in best.items()} for m, best in found.items()}
    facts = replace(detector.facts, scores=scores, displacement=shift, displacement_matches=n)
    made = replace(detector, thresholds=thresholds, facts=facts)
    made.save(out)
    (out / "README.md").write_text(model_card(made))
    (out / "thresholds.json").write_text(json.dumps({"seed": CALIBRATION_SEED, "runs": [job[2] for job in jobs]}))


def score(detector: Detector, seeds: list[int], args: argparse.Namespace) -> None:
    candidates, truth, seconds = {}, {}, 0.0
    for seed in seeds:
        tomogram, picks = one(("czii", DEMO_SHAPE, "phantom", seed, None))
        run = f"seed {seed}"
        truth[run] = picks
        began = time.perf_counter()
        candidates[run] = detector.pick(tomogram, detector.thresholds["czii"], PickOptions(device=args.device)).picks
        seconds += time.perf_counter() - began
    result = czii_score(candidates, truth, detector.objects)
    print(f"demo phantoms of seeds {seeds}, {seconds / len(seeds):.1f} s each to pick, thresholds for czii")
    print(result.table())
    f1 = {run: p.above(detector.thresholds["f1"]) for run, p in candidates.items()}
    print("thresholds for f1")
    print(matched_scores(f1, truth, detector.objects).table())
    (args.work / "scores.json").write_text(json.dumps(result.to_json(), indent=1))


if __name__ == "__main__":
    main()
