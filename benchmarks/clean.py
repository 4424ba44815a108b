"""What masks are worth while picking: false picks on gold and carbon, and the time that tiles left out save.

    python benchmarks/clean.py [--runs 3] [--shape 96,288,288] [--quick]

Phantoms like the CZII challenge's runs, but full of gold beads and with the edge of the carbon film in each, are picked
with the shipped model, with and without `--clean`. A pick is right within half a radius of a particle of its object.
Then the first of them is picked with masks that hold some part of its volume (a slab of x, as a lamella or a cell might
fill it): seconds of the network alone, the same picks checked, without and with the mask by turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tomopick import Picks, Tomogram
from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.types import DISTANCE
from tomopick.data import MemoryProject, write_mrc
from tomopick.picking.load import load_model
from tomopick.picking.options import PickOptions
from tomopick.picking.picker import Picker
from tomopick.picking.places import Places
from tomopick.picking.placing import placed
from tomopick.scoring.scores import matched_scores
from tomopick.simulation import simulate
from tomopick.simulation.run import SimulationSpec, czii_spec

SEED = 31_000_000
PARTS = (0.75, 0.5, 0.25)


def dirty(shape: tuple[int, int, int]) -> SimulationSpec:
    """Gold everywhere, and carbon over a third of the view."""
    spec = czii_spec(shape, tomo_types=("denoised",))
    specimen = replace(
        spec.specimen, thickness=(600.0, 700.0), gold=(250.0, 350.0), carbon=1.0, carbon_depth=(0.3, 0.4),
        carbon_thickness=(150.0, 250.0), frost=(20.0, 40.0), crowding=(2.0, 2.0),
    )  # fmt: skip
    return replace(spec, specimen=specimen)


def phantom(shape: tuple[int, int, int], seed: int) -> tuple[Tomogram, Picks]:
    made = simulate(dirty(shape), CZII_OBJECTS, run=f"D{seed}", seed=SEED + seed)
    (tomogram,) = made.tomograms.values()
    return tomogram, made.picks


def found(tomogram: Tomogram, places: Places, device: str) -> tuple[Picks, float]:
    """Picks at the model's thresholds, and seconds of predicting and decoding, masks made before."""
    picker = Picker(load_model("default"), PickOptions(places=places, device=device))
    project = MemoryProject(CZII_OBJECTS)
    project.write_tomogram(tomogram)
    seen = placed(picker, picker.prepare(tomogram), project, tomogram)
    began = time.perf_counter()
    picks, _ = picker.pick(seen)
    return picks, time.perf_counter() - began


def false_picks(phantoms: list[tuple[Tomogram, Picks]], device: str) -> None:
    totals = {}
    for how, places in (("as it is", Places()), ("--clean", Places(clean="surroundings"))):
        picks = {t.run: found(t, places, device)[0] for t, _ in phantoms}
        scores = matched_scores(picks, {t.run: p for t, p in phantoms}, CZII_OBJECTS)
        counts = [at[0] for at in scores.objects.values()]
        hits, wrong, missed = (sum(c) for c in zip(*((c.tp, c.fp, c.fn) for c in counts)))
        totals[how] = wrong
        print(f"{how:10s} right {hits:4d}  wrong {wrong:4d}  missed {missed:4d}  mean F1 "
              f"{np.mean([c.fbeta for c in counts]):.3f}", flush=True)  # fmt: skip
    print(f"wrong picks left by --clean: {totals['--clean'] / max(totals['as it is'], 1):.2f} of them", flush=True)


def speed(tomogram: Tomogram, folder: Path, device: str, repeats: int) -> None:
    z, y, x = tomogram.grid.shape
    masks = {1.0: Places()}
    for part in PARTS:
        values = np.zeros((z, y, x), dtype=np.float32)
        values[:, :, : round(part * x)] = 1
        write_mrc(folder / f"part-{part:g}.mrc", values, tomogram.grid)
        masks[part] = Places(inside=(str(folder / f"part-{part:g}.mrc"),))
    times: dict[float, list[float]] = {part: [] for part in masks}
    every, _ = found(tomogram, Places(), device)  # and everything is loaded
    for _ in range(repeats):
        for part, places in masks.items():
            picks, seconds = found(tomogram, places, device)
            times[part].append(seconds)
            if part < 1:
                (column,) = (v for k, v in picks.columns.items() if k.startswith(DISTANCE))
                edge = tomogram.grid.positions(np.array([[0, 0, round(part * x) - 0.5]]))[0, 2]
                same = every.select(every.positions[:, 2] <= edge)
                assert (column <= 0).all() and np.allclose(np.sort(same.scores), np.sort(picks.scores), atol=1e-6)
    for part, seconds in times.items():
        best = float(np.min(seconds))
        print(f"{part:.0%} of the volume in the mask: {best:.2f} s, {np.min(times[1.0]) / best:.2f} times as fast",
              flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--shape", default="96,288,288")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", default="picks,speed")
    parser.add_argument("--quick", action="store_true", help="one small phantom")
    args = parser.parse_args()
    z, y, x = (int(n) for n in ("48,96,96" if args.quick else args.shape).split(","))
    runs = 1 if args.quick else args.runs
    phantoms = [phantom((z, y, x), i) for i in range(runs)]
    print(json.dumps({t.run: len(p) for t, p in phantoms}), flush=True)
    if "picks" in args.only:
        false_picks(phantoms, args.device)
    if "speed" in args.only:
        with tempfile.TemporaryDirectory() as folder:
            speed(phantoms[0][0], Path(folder), args.device, 1 if args.quick else args.repeats)


if __name__ == "__main__":
    main()
