"""An object is added to the shipped model from two small simulated runs: what it learns, and what it forgets.

    python benchmarks/add_object.py WORK --density proteasome=3j9i.mrc,radius=75

Simulates two runs to learn from and one to score, with the object among the shipped model's (which are not labelled in
the runs that are learned from), adds it with and without holding the old objects, and scores both on the third run and
on phantoms of the demo.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from tomopick import FitOptions, Runs, Source, fit
from tomopick.core.presets import CZII_OBJECTS
from tomopick.data import open_project
from tomopick.picking.load import load_detector
from tomopick.picking.picker import PickOptions
from tomopick.recipes import get
from tomopick.scoring.scores import czii_score, matched_scores
from tomopick.simulation.projects import simulate_project

SHAPE, DEMO_SHAPE = (96, 256, 256), (128, 512, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--density", required=True, metavar="NAME=FILE[,radius=Å]")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--phantoms", type=int, default=3, help="of the demo, for what is forgotten")
    parser.add_argument("--only", default="held,alone", help="held: with what the model knew; alone: the object alone")
    parser.add_argument("--set", action="append", default=[], help="section.field=value")
    parser.add_argument("--workers", type=int, default=2, help="of the simulation")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    name = args.density.partition("=")[0]

    simulate_project(args.work / "runs", SHAPE, runs=3, seed=4_000_000, tomo_types=("denoised",),
                     densities=[args.density], settings=[f"specimen.copies.{name}=400,800"],
                     workers=args.workers)  # fmt: skip
    project = open_project(args.work / "runs" / "copick.json")
    *learned, unseen = project.runs()
    models = {"default": load_detector("default")}
    for how in args.only.split(","):
        out, began = args.work / how, time.monotonic()
        if not (out / "detector.json").is_file():
            chosen = {"add": [name]} if how == "held" else {"objects": [name]}
            options = FitOptions(args.device, init_from="default", **chosen)
            source = Source(Runs(project, learned[:1], picks=f"{name}:*/*"), val_runs=learned[1:])
            fit(get("light").override([f"train.steps={args.steps}", *args.set]), [source], out, options)
        models[how] = load_detector(str(out))
        print(f"{how}: {time.monotonic() - began:.0f} s", flush=True)

    simulate_project(args.work / "demo", DEMO_SHAPE, runs=args.phantoms, seed=0, tomo_types=("denoised",),
                     workers=args.workers)  # fmt: skip
    demo = open_project(args.work / "demo" / "copick.json")
    rows = {}
    for label, model in models.items():
        options = {m: PickOptions(device=args.device, metric=m) for m in ("f1", "czii")}
        row = {}
        if any(o.name == name for o in model.objects):
            picks = model.pick(project.tomogram(unseen), options=options["f1"]).picks.of(name)
            objects = [o for o in model.objects if o.name == name]
            scores = matched_scores({unseen: picks}, {unseen: project.picks(unseen).of(name)}, objects)
            row["f1"] = scores.objects[name][0].fbeta
        if len(model.objects) > 1:
            found = {run: model.pick(demo.tomogram(run), options=options["czii"]).picks for run in demo.runs()}
            old = [o.name for o in CZII_OBJECTS]
            truth = {run: demo.picks(run) for run in demo.runs()}
            row["f4"] = czii_score({r: p.among(old) for r, p in found.items()}, truth, CZII_OBJECTS).score
        rows[label] = row
        print(label, row, flush=True)
    (args.work / "scores.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
