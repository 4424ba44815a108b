"""Real data: what the default length of a training reaches, and how long it takes, beside a longer one.

    python benchmarks/defaults.py WORK --volume X.mrc --picks X.csv [--steps 0,3000]

Trains on the low-y half of the tomogram, a part of which the training keeps for validation, and scores the high-y half;
0 steps: as the recipe has it. What was interrupted goes on where it stopped. Processor seconds tell how long it takes
on free cores, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

import numpy as np
import torch

from kept_runs import labelled_volume
from tomopick import FitOptions, Picks, Source, Tomogram, fit
from tomopick.core.types import PickableObject
from tomopick.data import MemoryProject
from tomopick.picking.load import load_detector
from tomopick.picking.picker import PickOptions
from tomopick.recipes import get
from tomopick.scoring.scores import matched_scores

OBJECT = PickableObject("apo-ferritin", 60.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--volume", type=Path, required=True)
    parser.add_argument("--picks", type=Path, required=True)
    parser.add_argument("--recipe", default="light")
    parser.add_argument("--init-from", default="default", help="nothing: random weights")
    parser.add_argument("--steps", default="0,3000", help="comma-separated")
    parser.add_argument("--set", action="append", default=[], help="section.field=value")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tomopick").setLevel("INFO")

    whole, picks = labelled_volume(args.volume, args.picks, OBJECT.name)
    z, y, x = whole.grid.shape
    low = whole.crop((0, 0, 0), (z, y // 2, x), "low")
    high = whole.crop((0, y // 2, 0), (z, y - y // 2, x), "high")
    truth = Picks("high", *_inside(high, picks))
    project = MemoryProject([OBJECT])
    project.add(low, Picks("low", *_inside(low, picks)))
    args.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for steps in map(int, args.steps.split(",")):
        recipe = get(args.recipe).override([*([f"train.steps={steps}"] if steps else []), *args.set])
        out = args.work / f"{Path(args.init_from).name or 'random'}-{recipe.train.steps}-{args.seed}"
        began, cpu = time.monotonic(), time.process_time()
        if (out / "detector.json").is_file():
            model = load_detector(str(out))
        else:
            options = FitOptions(args.device, args.seed, resume=out.exists(), init_from=args.init_from)
            model = fit(recipe, [Source(project)], out, options)
        spent = time.monotonic() - began, time.process_time() - cpu
        found = model.pick(high, options=PickOptions(device=args.device)).picks.of(OBJECT.name)
        score = matched_scores({"high": found}, {"high": truth}, [OBJECT]).objects[OBJECT.name][0]
        rows.append({"steps": recipe.train.steps, "f1": score.fbeta, "precision": score.precision,
                     "recall": score.recall, "seconds": spent[0], "processor_seconds": spent[1],
                     "threads": torch.get_num_threads(), "start": args.init_from or "random"})  # fmt: skip
        print(rows[-1], flush=True)
        (args.work / "defaults.json").write_text(json.dumps(rows, indent=1))


def _inside(part: Tomogram, picks: Picks) -> tuple[np.ndarray, np.ndarray]:
    inside = picks.select(part.grid.contains(picks.positions))
    return inside.positions, inside.names


if __name__ == "__main__":
    main()
