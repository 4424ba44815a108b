"""Real data: BPD trained from scratch on one half of a tomogram picks the other half.

    python benchmarks/apoferritin.py --volume X.mrc --picks X.csv

Trains on low y, keeps a strip of that half to choose the threshold, leaves a gap, and picks the high-y half. Beside it:
a matched filter with the average of the training picks, and the shipped model with no training at all.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import resource
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kept_runs import labelled_volume
from matched_filter import MatchedFilter
from tomopick import (
    Detector,
    FitOptions,
    MemoryProject,
    PickableObject,
    Picks,
    Runs,
    Source,
    Tomogram,
    fit,
)
from tomopick.picking.picker import PickOptions
from tomopick.recipes import get
from tomopick.scoring.intervals import bootstrap_f1
from tomopick.scoring.scores import matched_scores
from tomopick.scoring.thresholds import calibrate

# BPD on a half-sized grid with widths in multiples of 16, for two CPU cores; set on the training half alone.
OVERRIDES = (
    "network.stride=2", "network.widths=32,48,64", "patch.shape=48,64,64", "tiling.shape=96,128,128",
    "train.batch_size=4", "train.steps=400", "train.lr=2e-3", "train.warmup_steps=50", "train.validate_every=100",
)  # fmt: skip
OBJECT = PickableObject("apo-ferritin", 60.0)
REACH = 1.25


def split(tomogram: Tomogram, picks: Picks) -> dict[str, tuple[Tomogram, Picks]]:
    """Train, strip and test parts along y; between any two lies at least a particle's radius."""
    z, y, x = tomogram.grid.shape
    gap = round(OBJECT.radius_angstrom / tomogram.grid.voxel_spacing)
    half = y // 2
    strip = half - gap - round(0.2 * half)
    bounds = {"train": (0, strip - gap), "strip": (strip, half - gap), "test": (half, y)}
    parts = {}
    for name, (start, stop) in bounds.items():
        part = tomogram.crop((0, start, 0), (z, stop - start, x), name)
        inside = picks.select(part.grid.contains(picks.positions))
        parts[name] = (part, Picks(name, inside.positions, inside.names))
    return parts


def matched_filter(parts: Mapping[str, tuple[Tomogram, Picks]]) -> Picks:
    """Normalised cross-correlation with the average training particle, threshold chosen on the strip."""
    matched = MatchedFilter.of_picks([parts["train"]], [OBJECT], REACH)
    strip, test = (matched.pick(parts[name][0]) for name in ("strip", "test"))
    cut = calibrate({"strip": strip}, {"strip": parts["strip"][1]}, [OBJECT], "f1")[OBJECT.name].threshold
    return test.select(test.scores >= cut)


def report(label: str, picks: Picks, truth: Picks, extra: Mapping[str, float] | None = None) -> dict:
    """F1 at 0.5 and 1.0 radius with a bootstrap interval, printed and returned."""
    row: dict = {"picker": label, "picks": len(picks), "truth": len(truth), **(extra or {})}
    text = f"{label:32s} {len(picks):4d} picks of {len(truth)}"
    for radius in (0.5, 1.0):
        scores = matched_scores({"test": picks}, {"test": truth}, [OBJECT], radii=(radius,))
        low, high = bootstrap_f1(
            {"test": picks}, {"test": truth}, [OBJECT], radius=radius, rng=np.random.default_rng(0)
        )
        counts = scores.objects[OBJECT.name][0]
        row[f"f1_{radius}"] = {**counts.to_json(), "low": low, "high": high}
        text += f"   F1 at {radius} r: {counts.fbeta:.3f}"
        text += f" [{low:.3f}, {high:.3f}]" if math.isfinite(low) else ""
    print(text + "".join(f"   {k} {v:.1f}" for k, v in (extra or {}).items()), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=Path, required=True)
    parser.add_argument("--picks", type=Path, required=True)
    parser.add_argument("--recipe", default="bpd")
    parser.add_argument("--set", action="append", default=[], help="section.field=value, on top of the benchmark's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--views", default="flips", choices=("none", "flips", "all"))
    parser.add_argument("--shipped", default="default", help="shipped model, or a model folder; 'none' leaves it out")
    parser.add_argument("--no-train", action="store_true", help="only the baseline and the shipped model")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tomopick").setLevel("INFO")

    whole, picks = labelled_volume(args.volume, args.picks, OBJECT.name)
    parts = split(whole, picks)
    test, truth = parts["test"]
    print({k: (v[0].grid.shape, len(v[1])) for k, v in parts.items()})
    rows = [report("matched filter", matched_filter(parts), truth)]

    if args.shipped != "none":
        from tomopick.picking.load import load_detector

        shipped: Detector = load_detector(args.shipped)
        began = time.perf_counter()
        found = shipped.pick(test, options=PickOptions(device=args.device, views=args.views)).picks.of(OBJECT.name)
        seconds = time.perf_counter() - began
        rows.append(report(f"shipped '{args.shipped}', no training", found, truth, {"pick_seconds": seconds}))

    if not args.no_train:
        project = MemoryProject([OBJECT])
        for name in ("train", "strip"):
            project.add(*parts[name])
        source = Source(Runs(project, ["train"]), val_runs=["strip"])
        recipe = get(args.recipe).override([*OVERRIDES, *args.set])
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            options = FitOptions(device=args.device, seed=args.seed)
            detector = fit(recipe, [source], Path(folder) / "model", options)
            seconds = time.perf_counter() - began
        cut = thresholds_with_views(detector, parts["strip"], args.device, args.views)
        began = time.perf_counter()
        found = detector.pick(test, cut, PickOptions(device=args.device, views=args.views)).picks
        extra = {"train_seconds": seconds, "pick_seconds": time.perf_counter() - began}
        rows.append(report(f"{args.recipe}, trained from scratch", found, truth, extra))

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"peak memory {peak:.1f} GiB")
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "peak_gib": peak}, indent=1))


def thresholds_with_views(
    detector: Detector, strip: tuple[Tomogram, Picks], device: str, views: str
) -> dict[str, float]:
    """The threshold that is best on the strip, chosen with the same test-time augmentation as the picking."""
    tomogram, truth = strip
    candidates = detector.pick(tomogram, {OBJECT.name: 0.05}, PickOptions(device=device, views=views)).picks
    best = calibrate({truth.run: candidates}, {truth.run: truth}, detector.objects, "f1", tolerance=0.01)
    return {OBJECT.name: best[OBJECT.name].threshold}


if __name__ == "__main__":
    main()
