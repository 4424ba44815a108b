"""Real data: trained on a tomogram of which only a part is picked, with and without saying so; and on a few picks.

    python benchmarks/partial.py --volume X.mrc --picks X.csv

Only the picks of the lower quarter of y are given. F1 on the high-y half, from the shipped model and from random
weights: with the region stated, with the same quarter cropped by hand, and with nothing said. Then 10, 25, 50 and 100
picks drawn from the low-y half as the only labels of it, learned from as positive among unlabelled.

`--json FILE --picture FILE.png` draws the second part of what was measured before, and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kept_runs import labelled_volume
from tomopick import FitOptions, Picks, Source, Tomogram, fit
from tomopick.core.types import PickableObject
from tomopick.data import MemoryProject
from tomopick.data.regions import Regions
from tomopick.picking.load import load_detector
from tomopick.picking.picker import PickOptions
from tomopick.recipes import get
from tomopick.scoring.scores import matched_scores

OBJECT = PickableObject("apo-ferritin", 60.0)
FEW = (10, 25, 50, 100)


def f1(detector, test: Tomogram, truth: Picks, device: str) -> float:
    """At half a radius."""
    found = detector.pick(test, options=PickOptions(device=device)).picks.of(OBJECT.name)
    return matched_scores({"test": found}, {"test": truth}, [OBJECT]).objects[OBJECT.name][0].fbeta


def trained(tomogram: Tomogram, picks: Picks, options: FitOptions, overrides: Sequence[str], regions: Regions):
    """A model from one run, a part of which the training keeps for validation."""
    project = MemoryProject([OBJECT])
    project.add(tomogram, picks)
    project.regions = regions
    with tempfile.TemporaryDirectory() as folder:
        return fit(get("light").override(overrides), [Source(project)], Path(folder) / "model", options)


def draw(rows: Sequence[dict], out: Path) -> None:
    """F1 against the number of picks that were given, for each way to take the rest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), dpi=110, layout="constrained")
    axes = figure.add_subplot(xscale="log", ylim=(0, 1.02), xticks=FEW, xticklabels=[str(n) for n in FEW])
    axes.minorticks_off()
    axes.set_xlabel("picks that were given, of a half of the tomogram")
    axes.set_ylabel("F1 at half a radius, other half")
    for how, text, style in (("pu", "the rest unknown (pu)", "o-"), ("negative", "the rest background", "s--")):
        mine = sorted((r["picks"], r["f1"]) for r in rows if r["labels"].endswith(f"unlabelled={how}"))
        axes.plot(*zip(*mine), style, label=text)
    for row in (row for row in rows if row["labels"] == "all of the half"):
        axes.axhline(row["f1"], color="0.4", linestyle=":", label=f"all {row['picks']} picks of the half")
    axes.grid(color="0.92")
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=Path)
    parser.add_argument("--picks", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--set", action="append", default=[], help="section.field=value")
    parser.add_argument("--seeds", default="0", help="by comma")
    parser.add_argument("--starts", default="default,", help="models to start from, by comma; nothing: random weights")
    parser.add_argument("--labels", default="", help="only those whose name begins so, by comma")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", default="quarter,few", help="quarter, few, or both with a comma")
    parser.add_argument("--json", type=Path, help="the figures, rewritten after each training")
    parser.add_argument("--picture", type=Path, help="draw what --json holds, and measure nothing")
    args = parser.parse_args()
    if args.picture:
        return draw(json.loads(args.json.read_text()), args.picture)
    if args.volume is None or args.picks is None:
        parser.error("--volume and --picks are needed to measure")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tomopick").setLevel("INFO")

    whole, picks = labelled_volume(args.volume, args.picks, OBJECT.name)
    z, y, x = whole.grid.shape
    test = whole.crop((0, y // 2, 0), (z, y - y // 2, x), "test")
    truth = picks.select(test.grid.contains(picks.positions))
    low = whole.crop((0, 0, 0), (z, y // 2, x), "all")
    half = picks.select(low.grid.contains(picks.positions))
    quarter = whole.crop((0, 0, 0), (z, y // 4, x), "all")
    known = picks.select(quarter.grid.contains(picks.positions))
    stated = Regions.parse([f"all=:,0:{y // 4},:"])
    rows = []

    def note(**row) -> None:
        rows.append(row)
        print(row, flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1))

    note(labels="none", start="default", f1=f1(load_detector("default"), test, truth, args.device))
    overrides = [f"train.steps={args.steps}", *args.set]
    for seed in map(int, args.seeds.split(",")):
        for start in args.starts.split(","):
            tries = {
                "region stated": (whole, known, stated, ()),
                "cropped by hand": (quarter, known, Regions(), ()),
                "nothing said": (whole, known, Regions(), ()),
            }
            if "quarter" not in args.only:
                tries = {}
            if "few" in args.only:
                rng = np.random.default_rng(seed)
                tries["all of the half"] = (low, half, Regions(), ())
                for n in FEW:
                    some = half.select(np.sort(rng.permutation(len(half))[:n]))
                    for how in ("negative", "pu"):
                        tries[f"{n} picks, unlabelled={how}"] = (low, some, Regions(), (f"loss.unlabelled={how}",))
            for labels, (tomogram, given, regions, more) in tries.items():
                if not labels.startswith(tuple(args.labels.split(","))):
                    continue
                began = time.perf_counter()
                options = FitOptions(device=args.device, seed=seed, init_from=start)
                model = trained(tomogram, given, options, [*overrides, *more], regions)
                seconds = time.perf_counter() - began
                note(labels=labels, picks=len(given), start=start or "random", seed=seed,
                     f1=f1(model, test, truth, args.device), seconds=round(seconds))  # fmt: skip


if __name__ == "__main__":
    main()
