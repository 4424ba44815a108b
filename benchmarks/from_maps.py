"""Simulated runs, no labels: a model from several densities, on unseen runs full of other things.

    python benchmarks/from_maps.py WORK --map proteasome=3j9i.mrc --map fatty-acid-synthase=2uv8.mrc --minutes 15

Simulates runs with the densities, trains on them within the time, all of it counted (`--each`: a model and as long for
each density), and scores F1 at half a radius on runs of other seeds, in which the densities lie among other proteins,
gold, carbon and membranes. Beside it, on the same runs, a matched filter with the densities: the mean over all
directions and `--turns` directions one by one, the best of which counts, with the best threshold that there is on the
very runs that are scored; the model's thresholds come from its own simulations. Repeated, it goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

from matched_filter import MatchedFilter
from tomopick import FitOptions, Source, fit, load_model
from tomopick.core.files import atomic_write
from tomopick.data import open_project
from tomopick.picking.picker import PickOptions
from tomopick.recipes import get
from tomopick.recipes.from_maps import MapOptions, for_other_volumes, simulated_with
from tomopick.scoring.scores import matched_scores
from tomopick.scoring.thresholds import calibrate
from tomopick.simulation.maps import DensityFile
from tomopick.simulation.projects import simulate_project

SHAPE, QUICK_SHAPE = (96, 256, 256), (64, 128, 128)
COPIES = "60,150"  # of each density per volume of a challenge tomogram, before runs are crowded
SEED = 6_000_000  # of those runs; the ones to learn from have others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--map", required=True, action="append", metavar="NAME=FILE[,radius=Å][,mass=kDa]")
    parser.add_argument("--minutes", type=float, default=15.0, help="of each model, simulations counted")
    parser.add_argument("--each", action="store_true", help="a model for each density, in place of one of all")
    parser.add_argument("--init-from", default="", help="nothing: random weights")
    parser.add_argument("--set", action="append", default=[], help="section.field=value")
    parser.add_argument("--turns", type=int, default=60, help="directions of the matched filter")
    parser.add_argument("--runs", type=int, default=4, help="that are scored")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=2, help="of the simulations")
    parser.add_argument("--quick", action="store_true", help="tiny runs, a few steps; says nothing")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tomopick").setLevel("INFO")

    files = [DensityFile.parse(text, "map") for text in args.map]
    settings = [f"specimen.copies.{file.name}={COPIES}" for file in files]
    simulate_project(
        args.work / "scored", QUICK_SHAPE if args.quick else SHAPE, runs=1 if args.quick else args.runs, seed=SEED,
        tomo_types=("denoised",), preset="varied", settings=settings, densities=args.map, workers=args.workers,
    )  # fmt: skip
    scored = open_project(args.work / "scored" / "copick.json")
    names = [file.name for file in files]
    objects = [o for o in scored.objects if o.name in names]
    tomograms = {run: scored.tomogram(run) for run in scored.runs()}
    truth = {run: scored.picks(run).among(names) for run in tomograms}
    rows: dict[str, dict[str, float]] = {}

    def note(label: str, scores: dict[str, float]) -> None:
        rows[label] = scores
        print(label, {name: round(value, 3) for name, value in scores.items()}, flush=True)
        with atomic_write(args.work / "scores.json") as file:
            json.dump(rows, file, indent=1)

    print("particles", {o.name: sum(len(p.of(o.name)) for p in truth.values()) for o in objects}, flush=True)
    spacing = next(iter(tomograms.values())).grid.voxel_spacing
    for label, turns in (("matched filter, all directions in one", 0), (f"{args.turns} directions", args.turns)):
        matched = MatchedFilter.of_densities({f.name: f.load() for f in files}, objects, spacing, turns)
        best = calibrate({run: matched.pick(t) for run, t in tomograms.items()}, truth, objects, "f1", 0.002)
        note(label, {name: cut.value for name, cut in best.items()})

    for texts in [[text] for text in args.map] if args.each else [args.map]:
        began = time.monotonic()
        label = DensityFile.parse(texts[0], "map").name if args.each else "all"
        out = args.work / f"model-{label}"
        if not (out / "detector.json").is_file():
            options = MapOptions(workers=args.workers)
            if args.quick:
                options = MapOptions(runs=3, across=96, workers=args.workers)
            config, found = simulated_with(texts, args.work / f"learned-{label}", options)
            left = args.minutes - (time.monotonic() - began) / 60
            how = FitOptions(args.device, init_from=args.init_from, objects=found, minutes=left)
            fit(for_other_volumes(get("light")).override(args.set), [Source(open_project(config))], out, how)
            print(f"{label}: {(time.monotonic() - began) / 60:.1f} min", flush=True)
        model = load_model(str(out))
        how = PickOptions(device=args.device, keep_below=True)
        every = {run: model.pick(t, options=how).picks for run, t in tomograms.items()}
        picks = {run: p.select(p.is_kept) for run, p in every.items()}
        own = [o for o in objects if o.name in {m.name for m in model.objects}]
        f1 = matched_scores(picks, truth, own).objects
        note(f"model of {label}", {o.name: f1[o.name][0].fbeta for o in own})
        best = calibrate(every, truth, own, "f1", 0.002)
        note(f"model of {label}, best thresholds", {name: cut.value for name, cut in best.items()})


if __name__ == "__main__":
    main()
