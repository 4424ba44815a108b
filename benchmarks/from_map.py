"""Real data, no labels: a model from one density alone, on a tomogram that it has never seen.

    python benchmarks/from_map.py WORK --map 6pxm.mrc,radius=60 --volume X.mrc --picks X.csv --minutes 15

Measures the volume, simulates runs like it with the density, trains on them within the time, all of it counted, and
scores the picks of the whole volume and those of its high-y half, from random weights and from what else is named.
Beside it a matched filter with the same density, whose threshold is the best there is on the volume itself, and the
shipped model, which knows the object.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from matched_filter import MatchedFilter
from tomopick import FitOptions, PickableObject, Picks, Source, Tomogram, fit, load_model
from tomopick.data import MemoryProject, open_project
from tomopick.data.runs import Runs
from tomopick.data.tables import read_picks_csv
from tomopick.data.volumes.volumes import read_volume
from tomopick.picking.picker import PickOptions
from tomopick.recipes import get
from tomopick.recipes.from_maps import MapOptions, for_other_volumes, simulated_with
from tomopick.recipes.looks import Looks
from tomopick.scoring.scores import matched_scores
from tomopick.scoring.thresholds import calibrate
from tomopick.simulation.maps import DensityFile


def f1(picks: Picks, truth: Picks, obj: PickableObject) -> float:
    """At half a radius."""
    return matched_scores({"A": picks}, {"A": truth}, [obj]).objects[obj.name][0].fbeta


def both(picks: Picks, truth: Picks, obj: PickableObject, middle: float) -> dict[str, float]:
    """F1 of the whole volume, and of what lies beyond the middle of y [Å]."""
    high = [p.select(p.positions[:, 1] >= middle) for p in (picks, truth)]
    return {"whole": f1(picks, truth, obj), "high y": f1(high[0], high[1], obj)}


def matched_filter(tomogram: Tomogram, text: str, truth: Picks, obj: PickableObject) -> float:
    """The best F1 that the density itself can have, as a template."""
    densities = {obj.name: DensityFile.parse(text).load()}
    found = MatchedFilter.of_densities(densities, [obj], tomogram.grid.voxel_spacing).pick(tomogram)
    return calibrate({"A": found}, {"A": truth}, [obj], "f1")[obj.name].value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--map", required=True, metavar="FILE[,radius=Å][,mass=kDa]")
    parser.add_argument("--volume", type=Path, required=True)
    parser.add_argument("--picks", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--init-from", default="", help="comma-separated; nothing: random weights")
    parser.add_argument("--set", action="append", default=[], help="section.field=value")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tomopick").setLevel("INFO")

    values, grid = read_volume(args.volume)
    (known,) = read_picks_csv(args.picks).values()
    tomogram = Tomogram("A", values, grid)
    real = MemoryProject()
    real.write_tomogram(tomogram)
    rows: dict[str, Any] = {}
    middle = grid.origin[1] + grid.shape[1] // 2 * grid.voxel_spacing
    for start in args.init_from.split(","):
        began, out = time.monotonic(), args.work / (Path(start).name or "random")
        options = MapOptions(looks=Looks.of(Runs(real)), workers=args.workers)
        config, (name,) = simulated_with([f"particle={args.map}"], args.work / "simulated", options)
        obj = next(o for o in open_project(config).objects if o.name == name)
        truth = Picks("A", known.positions, np.full(len(known), name))
        if not rows:
            rows["matched filter"] = matched_filter(tomogram, f"particle={args.map}", truth, obj)
            shipped = load_model("default").pick(tomogram, options=PickOptions(device=args.device)).picks
            shipped = shipped.of("apo-ferritin")
            shipped = replace(shipped, names=np.full(len(shipped), name))
            rows["default, which knows it"] = both(shipped, truth, obj, middle)
            print(rows, flush=True)
        left = args.minutes - (time.monotonic() - began) / 60
        how = FitOptions(args.device, init_from=start, objects=[name], minutes=left)
        model = fit(for_other_volumes(get("light")).override(args.set), [Source(open_project(config))], out, how)
        picks = model.pick(tomogram, options=PickOptions(device=args.device)).picks
        rows[start or "random weights"] = both(picks, truth, obj, middle)
        print(rows, f"{(time.monotonic() - began) / 60:.1f} min", flush=True)
        (args.work / "scores.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
