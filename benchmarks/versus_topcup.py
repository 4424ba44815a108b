"""TopCUP's own picker and ours side by side: one network, one simulated tomogram, the same cores, one after the other.

    python benchmarks/versus_topcup.py WORK [--quick] [--venv FOLDER] [--threads N]

The network is ours: `topcup_released`, trained for a few hundred steps on simulated tomograms, and written back under
the peer's names (Lightning's checkpoint, made by the peer's own classes). topcup 1.2.2 runs in an environment of its
own, which is made if it is missing; all that is patched is that `.cuda()` does nothing and that the volume is read from
a file both can read. Its windows, its two views, its up-sampling, its suppression and its thresholds are its own.

(a) does what topcup does: its windows and views, mean of logits, maxima of the up-sampled map. Picks are the same
where they lie within one voxel and their scores within 0.02; both count voxel i at i times the spacing, topcup's order
of axes apart. (b) is ours as it ships, with the same two views: planned tiles, maxima on the network's own grid; (c) is
that with one view. Thresholds for F-beta 4 are measured on the held-out tomograms of the training, for (a) and
topcup with (a), for (b) and (c) with each.

Seconds are from reading the volume to having written the picks; `start` is what comes before, once a process: imports,
reading the network, preparing the engine. Memory is the process's peak. Repeated after an interruption it goes on
where it stopped; what it makes stays in WORK.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from parity_topcup import environment
from tomopick import Detector, FitOptions, Picks, Runs, Source, czii_score, fit, open_project
from tomopick.picking.decoders import UpsampledMaxima
from tomopick.picking.peaks import LOWEST_SCORE, LocalMaxima
from tomopick.picking.picker import PickOptions
from tomopick.picking.published_tilings import ScanTiles
from tomopick.picking.tiling import TilingSpec
from tomopick.recipes import get
from tomopick.recipes.weights import mirrored
from tomopick.scoring.thresholds import calibrate
from tomopick.simulation.projects import simulate_project

# A network that finds the large particles after a few hundred steps on a CPU. The labels are those of the recipe; what
# is left out (mixing, tilting) pays over thousands of steps only, and a supervised second head speeds up the start.
# While it trains it is validated on larger tiles than it will pick with, which is faster and changes nothing.
SHORT = (
    "train.batch_size=2", "train.lr=1e-3", "train.warmup_steps=20", "patch.around_particles=0.75",
    "objective.mixup=0", "loss.head_weights=0,0,1,1", "augment.spatial=Flip,Rot90",
    "tiling=TilingSpec", "peaks=LocalMaxima",
)  # fmt: skip
TRAIN_SHAPE, VAL_SHAPE = (128, 256, 256), (96, 256, 256)
TRAIN_SEED, VAL_SEED, TEST_SEED = 21, 22, 23
TYPES = ("denoised",)
FULL, QUICK = (184, 630, 630), (96, 256, 256)
WITHIN, SCORES_WITHIN = 1.0, 0.02  # voxels, score
TARGETS = {"a": {"faster": 5.0, "same": 0.99}, "b": {"faster": 10.0, "memory": 2.5}}

# argv: settings, volume, picks, threads, engine, precision. Both print one line of JSON. Their peak memory is the
# kernel's VmHWM, not ru_maxrss, which a new process takes over from the one that started it.
PEER = """
import time; began = time.perf_counter()
import json, sys
import numpy as np, torch
import monai
from topcup.data.augmentation import get_basic_transform_list
from topcup.data.utils import collate_fn
from topcup.model import SegNet
torch.Tensor.cuda = SegNet.cuda = lambda self, *args, **kwargs: self
settings, volume, picks = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3]
torch.set_num_threads(int(sys.argv[4]))
model = SegNet.ensemble_from_checkpoints(settings["checkpoint"])
model.output_dir, model.score_thresholds = picks, settings["thresholds"]
started = time.perf_counter()
values = np.load(volume).transpose(2, 1, 0)
meta = dict(run_name="test", pixelsize=settings["spacing"], pickable_objects=settings["radii"], dim=values.shape)
data = dict(meta=meta, input=values, dataset_type="custom", has_ground_truth=False)
batch = collate_fn([monai.transforms.Compose(get_basic_transform_list(["input"]))(data)])
model.predict_step(batch, 0)
model.on_predict_epoch_end()
ended = time.perf_counter()
memory = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024 / 1e9
print(json.dumps(dict(start=started - began, seconds=ended - started, memory=memory, engine="torch f32")))
"""
OURS = """
import time; began = time.perf_counter()
import csv, json, pathlib, sys
import numpy as np, torch
from dataclasses import replace
from tomopick import Detector, Grid, Tomogram
from tomopick.networks.engines import EngineSpec
from tomopick.picking.picker import Picker, PickOptions
settings, volume, picks = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3]
torch.set_num_threads(int(sys.argv[4]))
detector = Detector.load(settings["model"])
if settings["as_topcup"]:
    how = PickOptions(device="cpu", engine=sys.argv[5], precision=sys.argv[6])
    predictor = detector.predictor("cpu", "none", EngineSpec(sys.argv[5], sys.argv[6]))  # is kept
else:
    how = dict(device="cpu", engine=sys.argv[5], precision=sys.argv[6], views=settings["views"])
    picker = Picker(detector, PickOptions(thresholds=settings["thresholds"], **how))
    predictor = picker.predictors[0]
# Up to a constant in every cell, of which a softmax knows nothing; the background is what the objects leave.
def logits(heatmap):
    p = np.concatenate([heatmap.values, np.maximum(1 - heatmap.values.sum(axis=0, keepdims=True), 1e-12)])
    return np.log(np.maximum(p, 1e-30, out=p), out=p)
# topcup mirrors the volume and not its windows, which then lie elsewhere; the mean is one of logits.
def picked_as_topcup_does(tomogram):
    mirror = replace(tomogram, values=tomogram.values[::-1, ::-1, ::-1])
    mean = logits(detector.heatmap(mirror, how))[:, ::-1, ::-1, ::-1]
    here = detector.heatmap(tomogram, how)
    mean = torch.from_numpy((mean + logits(here)) / 2).softmax(0).numpy()[:-1]
    return detector.method.peaks(replace(here, values=mean), detector.objects, settings["thresholds"])
started = time.perf_counter()
values = np.load(volume)
tomogram = Tomogram("test", values, Grid(values.shape, settings["spacing"]))
if settings["as_topcup"]:
    found = picked_as_topcup_does(tomogram)
else:  # as `tomopick pick` does
    prepared = picker.prepare(tomogram)
    del values, tomogram
    found, _ = picker.pick(prepared)
pathlib.Path(picks).mkdir(parents=True, exist_ok=True)
with open(pathlib.Path(picks) / "picks.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["x", "y", "z", "particle_type", "conf"])
    for (z, y, x), name, score in zip(found.positions, found.names, found.scores):
        table.writerow([x, y, z, name, score])
ended = time.perf_counter()
memory = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024 / 1e9
print(json.dumps(dict(start=started - began, seconds=ended - started, memory=memory,
                      engine=str(predictor.engine))))
"""
CHECKPOINT = """
import json, pathlib, sys
import numpy as np, torch, pytorch_lightning as pl
from topcup.model import SegNet
settings, weights, out = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3]
names = list(settings["radii"])
model = SegNet(nclasses=len(names), class_loss_weights=dict.fromkeys(names, 256), lvl_weights=np.array([0, 0, 0, 1]),
               backbone_args=dict(spatial_dims=3, in_channels=1, out_channels=len(names), backbone="resnet34",
                                  pretrained=False),
               particle_ids={name: i for i, name in enumerate(names)}, particle_radius=settings["radii"],
               particle_weights=dict.fromkeys(names, 1.0), score_thresholds=settings["thresholds"],
               output_dir=pathlib.Path("."))
model.load_state_dict(torch.load(weights, weights_only=True))
trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
trainer.strategy.connect(model)
trainer.save_checkpoint(out)
print(out)
"""


def trained(work: Path, steps: int) -> Detector:
    """The network that both are given: `topcup_released`, trained on simulated tomograms."""
    out = work / "model"
    if not (out / "detector.json").is_file():
        simulate_project(work / "sim" / "train", TRAIN_SHAPE, runs=6, seed=TRAIN_SEED, tomo_types=TYPES)
        simulate_project(work / "sim" / "val", VAL_SHAPE, runs=2, seed=VAL_SEED, tomo_types=TYPES)
        train, held = (open_project(work / "sim" / part / "copick.json") for part in ("train", "val"))
        changes = [*SHORT, f"train.steps={steps}", f"train.validate_every={-(-steps // 3)}"]
        recipe = get("topcup_released").override(changes)
        sources = [Source(train, val_runs=[]), Source(Runs(held, []), val_runs=held.runs())]
        said = FitOptions(device="cpu", resume=out.exists())
        fit(recipe, sources, out, said)
    return Detector.load(out)


def ways(detector: Detector) -> dict[str, tuple[Detector, str]]:
    """The detector that picks as topcup does, and the one that picks as ours; each with its views."""
    tiling, peaks = ScanTiles((96, 96, 96), 0.21), UpsampledMaxima(refined=False)
    as_theirs = replace(detector, method=replace(detector.method, tiling=tiling, peaks=peaks), score_maps={})
    as_ours = replace(
        detector, method=replace(detector.method, tiling=TilingSpec(), peaks=LocalMaxima()), score_maps={}
    )
    return {"a": (as_theirs, "opposite"), "b": (as_ours, "opposite"), "c": (as_ours, "none")}


def calibrated(detector: Detector, views: str, held: Any) -> dict[str, float]:
    """Thresholds for F-beta 4 on the held-out tomograms; of an object that was never found, out of the way."""
    options = PickOptions(device="cpu", views=views)
    floor = {o.name: LOWEST_SCORE for o in detector.objects}
    found = {run: detector.pick(held.tomogram(run), floor, options).picks for run in held.runs()}
    truth = {run: held.picks(run) for run in held.runs()}
    best = calibrate(found, truth, detector.objects, "czii", tolerance=0.002)
    return {name: cut.threshold if cut.calibrated else 0.5 for name, cut in best.items()}


def run(python: str | Path, program: str, arguments: Sequence[object], threads: int) -> str:
    """The last line that a program prints, run in a process of its own."""
    environ = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    command = [str(python), "-W", "ignore", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def read_picks(path: Path) -> Picks:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    positions = np.array([[float(row[axis]) for axis in "zyx"] for row in rows]).reshape(-1, 3)
    return Picks("test", positions, np.array([row["particle_type"] for row in rows], dtype=str),
                 np.array([float(row["conf"]) for row in rows]))  # fmt: skip


def one_each(picks: Picks) -> Picks:
    """One pick a place: of several objects' picks in the very same voxel topcup writes the first object's alone."""
    order = np.argsort(picks.names, kind="stable")  # the objects' order is that of the alphabet
    places = np.round(picks.positions[order], 1)
    return picks.select(order[np.sort(np.unique(places, axis=0, return_index=True)[1])])


def agreement(a: Picks, b: Picks, voxel: float) -> dict[str, float]:
    """Share of each one's picks that the other has too: the same object, one voxel, 0.02 of score, one to one."""
    a, b = one_each(a), one_each(b)
    same = 0
    for name in set(a.names) | set(b.names):
        mine, other = a.of(name), b.of(name)
        if not len(mine) or not len(other):
            continue
        near = cKDTree(mine.positions).query_ball_tree(cKDTree(other.positions), WITHIN * voxel * (1 + 1e-6))
        taken: set[int] = set()
        for i in np.argsort(-mine.scores):
            alike = [j for j in near[i] if j not in taken and abs(mine.scores[i] - other.scores[j]) <= SCORES_WITHIN]
            if alike:
                taken.add(min(alike, key=lambda j: float(np.linalg.norm(mine.positions[i] - other.positions[j]))))
        same += len(taken)
    return {"of ours": same / max(1, len(a)), "of theirs": same / max(1, len(b)), "both": same}


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| | engine | start [s] | seconds | times faster | peak memory [GB] | picks | same picks | F-beta 4 |",
             "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in rows.items():
        same = f"{min(row['agreement']['of ours'], row['agreement']['of theirs']):.2%}" if "agreement" in row else "-"
        lines.append(
            f"| {name} | {row['engine']} | {row['start']:.1f} | {row['seconds']:.1f} | {row['faster']:.1f} | "
            f"{row['memory']:.2f} | {row['picks']} | {same} | {row['score']:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tomogram of 96 x 256 x 256 voxels")
    parser.add_argument("--venv", type=Path, help="topcup's environment; default: WORK/venv")
    parser.add_argument("--steps", type=int, default=300, help="of training the network")
    parser.add_argument("--engine", default="auto", help="of ours")
    parser.add_argument("--precision", default="half", help="of our engine: half or f32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tomopick").setLevel("INFO")
    torch.set_num_threads(args.threads)
    work, shape = args.work, QUICK if args.quick else FULL
    python, detector = environment(args.venv or work / "venv"), trained(work, args.steps)
    held = open_project(work / "sim" / "val" / "copick.json")
    place = work / ("quick" if args.quick else "full")
    simulate_project(work / "sim" / place.name, shape, runs=1, seed=TEST_SEED, tomo_types=TYPES)
    project = open_project(work / "sim" / place.name / "copick.json")
    (name,) = project.runs()
    tomogram, truth = project.tomogram(name), replace(project.picks(name), run="test")
    place.mkdir(exist_ok=True)
    np.save(place / "volume.npy", tomogram.values)
    spacing = tomogram.grid.voxel_spacing
    rows: dict[str, dict[str, Any]] = {}
    found: dict[str, Picks] = {}
    for way, (made, views) in ways(detector).items():
        if (place / f"{way}.json").is_file():
            continue
        (place / way).mkdir(exist_ok=True)
        made.save(place / way)
        cuts = calibrated(made, views, held)
        settings = {"model": str(place / way), "as_topcup": way == "a", "thresholds": cuts, "spacing": spacing}
        settings["views"] = views
        settings["radii"] = {o.name: o.radius_angstrom for o in made.objects}
        settings["checkpoint"] = str(place / "theirs.ckpt")
        (place / f"{way}.json").write_text(json.dumps(settings))
    state = {f"model.{k}": v for k, v in mirrored(detector.network.state_dict()).items()}
    torch.save(state, place / "theirs.pt")
    run(python, CHECKPOINT, [place / "a.json", place / "theirs.pt", place / "theirs.ckpt"], args.threads)
    for row, program, interpreter, settings, file in (
        ("topcup 1.2.2", PEER, python, "a.json", "val_pred_df_seed.csv"),
        ("(a) ours, its windows and views", OURS, sys.executable, "a.json", "picks.csv"),
        ("(b) ours, as it ships, two views", OURS, sys.executable, "b.json", "picks.csv"),
        ("(c) ours, as it ships, one view", OURS, sys.executable, "c.json", "picks.csv"),
    ):
        out = place / f"picks-{len(rows)}"
        out.mkdir(exist_ok=True)
        given = [place / settings, place / "volume.npy", out, args.threads, args.engine, args.precision]
        rows[row] = json.loads(run(interpreter, program, given, args.threads))
        found[row] = read_picks(out / file)
        print(f"{row}: {rows[row]['seconds']:.1f} s, {len(found[row])} picks", file=sys.stderr, flush=True)
    theirs = next(iter(rows))
    for row, measured in rows.items():
        measured["picks"] = len(found[row])
        measured["faster"] = rows[theirs]["seconds"] / measured["seconds"]
        measured["score"] = czii_score({"test": found[row]}, {"test": truth}, detector.objects).score
        if row != theirs:
            measured["agreement"] = agreement(found[row], found[theirs], spacing)
    about = {"volume": shape, "threads": args.threads, "processor": platform.processor(), "targets": TARGETS}
    (place / "versus.json").write_text(json.dumps({**about, "rows": rows}, indent=1))
    print(f"{'x'.join(map(str, shape))} voxels, {args.threads} threads; {len(truth)} true particles\n\n{table(rows)}")


if __name__ == "__main__":
    main()
