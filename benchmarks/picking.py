"""What picking costs beside the network: peaks, tiles, memory, and reading while predicting.

    python benchmarks/picking.py peaks                      six full-resolution heatmaps of 184x630x630 -> picks
    python benchmarks/picking.py tiles MODEL PROJECT        planned tiles against tiles that share 96 voxels: the same
                                                            picks? and how many voxels does the network see?
    python benchmarks/picking.py memory [MODEL]             peak memory over growing volumes, stride 1, six objects
    python benchmarks/picking.py parts MODEL PROJECT        seconds of each step, network and all others
    python benchmarks/picking.py batch MODEL PROJECT        many tomograms in a row: time lost to reading and writing

MODEL is a model folder or `default`; PROJECT whatever `tomopick pick` reads, such as what `tomopick simulate` wrote.
Ratios of one run can be trusted; seconds only on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from tomopick import Detector, Grid, Heatmap, Picks, open_project
from tomopick.core.presets import CZII_OBJECTS
from tomopick.networks.activations import Rectified
from tomopick.picking.load import load_detector
from tomopick.picking.memory import STRIP
from tomopick.picking.peaks import LOWEST_SCORE, LocalMaxima, window_maximum
from tomopick.picking.picker import Picker, PickOptions
from tomopick.picking.predict import Predictor, predict_rows
from tomopick.picking.rows import decode_rows
from tomopick.picking.runs import pick_run, pick_runs
from tomopick.picking.tiling import LargestTiles, Means, SteepWindow, TilingSpec
from tomopick.training.targets import GaussianTarget

SHAPE, SPACING = (184, 630, 630), 10.0


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    seconds[name] = time.perf_counter() - wall
    seconds[f"{name} cpu"] = time.process_time() - cpu


def heatmaps(shape: tuple[int, int, int], noise: float) -> Heatmap:
    """Particles of the six CZII objects, of unlike heights, on noise that does not fall below 0."""
    rng = np.random.default_rng(0)
    grid = Grid(shape, SPACING)
    n = int(100 * np.prod(shape) / np.prod(SHAPE))
    centres = rng.uniform(0, np.array(shape) * SPACING, (n * len(CZII_OBJECTS), 3))
    heat = GaussianTarget()(Picks("A", centres, np.repeat([o.name for o in CZII_OBJECTS], n)), grid, CZII_OBJECTS)
    for channel in heat.values:
        coarse = rng.standard_normal([n // 2 + 1 for n in shape], dtype=np.float32)
        fine = ndimage.zoom(coarse, 2, order=1)[tuple(slice(n) for n in shape)]
        channel *= rng.uniform(0.3, 1)
        channel += np.maximum(fine, 0) * np.float32(noise)
    return heat


def peaks(args: argparse.Namespace) -> None:
    heat = heatmaps(args.shape, 0.003)
    find = LocalMaxima()
    for threshold in (0.3, LOWEST_SCORE):
        seconds: dict[str, float] = {}
        with timed(seconds, "picks"):
            found = find(heat, CZII_OBJECTS, {o.name: threshold for o in CZII_OBJECTS})
        print(f"threshold {threshold:g}: {len(found)} picks in {seconds['picks']:.2f} s "
              f"({seconds['picks cpu']:.2f} s of processor)")  # fmt: skip
    seconds = {}
    with timed(seconds, "plain"):
        for obj, values in zip(CZII_OBJECTS, heat.values):
            np.argwhere((values == window_maximum(values, find.radius_cells(obj, heat.grid))) & (values > 0.3))
    print(f"window maximum of every voxel, before refinement: {seconds['plain']:.2f} s ({seconds['plain cpu']:.2f})")


def kept(found: Picks, wanted: Picks, distance: float) -> float:
    """Share of the wanted picks that are found within a distance [Å] and 0.02 of score."""
    n = 0
    for name in set(wanted.names.tolist()):
        a, b = wanted.of(name), found.of(name)
        if len(b):
            near, at = cKDTree(b.positions).query(a.positions)
            n += int(((near <= distance) & (np.abs(a.scores - b.scores[at]) <= 0.02)).sum())
    return n / max(1, len(wanted))


def tiles(args: argparse.Namespace) -> None:
    detector = load_detector(args.model)
    project = open_project(args.project)
    tomogram = project.tomogram(project.runs()[0])
    values, grid = detector.prepare(tomogram)
    free = replace(detector, method=replace(detector.method, tiling=TilingSpec(window=SteepWindow())))
    planned = free.predictor(args.device)
    own = detector.method.tiling
    ways = {
        "sharing 96": TilingSpec((192, 192, 192), 96, SteepWindow()),
        "recipe's": own if isinstance(own, TilingSpec) and own.shape else TilingSpec((128, 128, 128), 48),
        "planned": planned.tiling,
    }
    if args.tile:  # what a machine of less memory would plan
        assert isinstance(planned.tiling, LargestTiles)
        ways["planned"] = replace(planned.tiling, means=replace(planned.tiling.means, tile=args.tile))
    low = {o.name: 0.1 for o in detector.objects}
    wanted = None
    for name, tiling in ways.items():
        began = time.perf_counter()
        rows = predict_rows(replace(planned, tiling=tiling), tomogram.run, values, grid)
        found = decode_rows(rows, detector.method.peaks, detector.objects, low, tomogram.run)
        seconds = time.perf_counter() - began
        wanted = wanted or found
        edges, starts = tiling.plan(grid.shape, planned.multiple)
        seen = np.prod(edges) * np.prod([len(axis) for axis in starts]) / np.prod(grid.shape)
        cuts = detector.thresholds["f1"]
        same = [kept(f, w, grid.voxel_spacing) for f, w in
                ((found, wanted), (found, wanted.above(cuts)))]  # fmt: skip
        print(f"{name}: tiles {'x'.join(map(str, edges))}, {seen:.2f} network voxels a voxel, {seconds:.1f} s, "
              f"{len(found)} picks, the same {same[0]:.2%}, of those above the thresholds {same[1]:.2%}")  # fmt: skip


class Copies:
    """Stands for a network: six channels of the tile itself, so that all memory is ours."""

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (6, z, y, x)."""
        return np.broadcast_to(tile, (6, *tile.shape))


def memory_child(shape: tuple[int, int, int], model: str) -> None:
    """Peak memory of one prediction, less what is there before it and the volume."""
    rng = np.random.default_rng(0)
    values = np.empty(shape, dtype=np.float32)
    for plane in values:
        plane[:] = np.maximum(rng.standard_normal(plane.shape, dtype=np.float32) - 3, 0) * np.float32(0.2)
    grid = Grid(shape, SPACING)
    if model:
        detector = load_detector(model)
        objects, predictor = detector.objects, detector.predictor("cpu")
        predictor.engine(np.zeros((64, 64, 64), np.float32))
    else:
        cell = 4 * len(CZII_OBJECTS)
        tiling = LargestTiles(Means(40, 4_000_000, STRIP // cell), SteepWindow())
        objects = CZII_OBJECTS
        predictor = Predictor(Copies(), Rectified(), tiling, 1, 8, tuple(o.name for o in CZII_OBJECTS))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decode_rows(predict_rows(predictor, "A", values, grid), LocalMaxima(), objects, {o.name: 0.3 for o in objects}, "A")
    print(values.nbytes / 2**20, before / 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(args: argparse.Namespace) -> None:
    print("volume, its MiB, MiB beyond it and what was there before prediction")
    for shape in ((184, 315, 630), (184, 630, 630), (184, 1260, 630), (300, 630, 630), (300, 960, 928)):
        text = "x".join(map(str, shape))
        command = [sys.executable, __file__, "memory", args.model or "", "--child", ",".join(map(str, shape))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{text}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'killed'}")
            continue
        volume, before, peak = map(float, done.stdout.split()[-3:])
        print(f"{text}: {volume:.0f} {peak - before:.0f}", flush=True)


def parts(args: argparse.Namespace) -> None:
    project = open_project(args.project)
    seconds: dict[str, float] = {}
    with timed(seconds, "load model and engine"):
        picker = Picker(load_detector(args.model), PickOptions(device=args.device))
    detector: Detector = picker.detectors[0]
    run = project.runs()[0]
    with timed(seconds, "read"):
        tomogram = project.tomogram(run)
    with timed(seconds, "normalise"):
        values, grid = detector.prepare(tomogram)
    with timed(seconds, "compare with training"):
        detector.findings(tomogram, values)
    predictor = picker.predictors[0]
    spent = 0.0

    class Clock:
        def __call__(self, tile: np.ndarray) -> np.ndarray:
            nonlocal spent
            began = time.perf_counter()
            out = predictor.engine(tile)
            spent += time.perf_counter() - began
            return out

    for name in ("first", "second"):
        spent = 0.0
        with timed(seconds, f"predict, {name} time"):
            strips = list(predict_rows(replace(predictor, engine=Clock()), run, values, grid))
        seconds[f"of which network, {name} time"] = spent
    with timed(seconds, "peaks"):
        picks = decode_rows(strips, detector.method.peaks, detector.objects, detector.thresholds["f1"], run)
    with tempfile.TemporaryDirectory() as out, timed(seconds, "all of it, by pick_run"):
        pick_run(picker, project, run, Path(out), overwrite=True)
    print(f"{'x'.join(map(str, grid.shape))}, {len(picks)} picks, {', '.join(picker.engines())}")
    for name, value in seconds.items():
        if not name.endswith(" cpu"):
            processor = f" ({seconds[f'{name} cpu']:.2f} s of processor)" if f"{name} cpu" in seconds else ""
            print(f"{name}: {value:.2f} s{processor}")


def batch(args: argparse.Namespace) -> None:
    project = open_project(args.project)
    runs = (project.runs() * args.runs)[: args.runs] if len(project.runs()) < args.runs else project.runs()[: args.runs]
    picker = Picker(load_detector(args.model), PickOptions(device=args.device))
    run = runs[0]
    prepared = picker.prepare(project.tomogram(run))
    picker.pick(prepared)  # warm
    seconds: dict[str, float] = {}
    with timed(seconds, "alone"):
        picker.pick(prepared)
    with tempfile.TemporaryDirectory() as out:
        with timed(seconds, "turn"):
            for one in runs:
                pick_run(picker, project, one, Path(out), overwrite=True)
        with timed(seconds, "together"):
            for result in pick_runs(picker, project, runs, Path(out), overwrite=True):
                assert result.status == "picked", result
    n, alone = len(runs), seconds["alone"]
    print(f"{n} tomograms; predicting one takes {alone:.2f} s ({seconds['alone cpu']:.1f} s of processor)")
    for text, name in (("one after the other", "turn"), ("reading and writing beside it", "together")):
        each, processor = seconds[name] / n, seconds[f"{name} cpu"] / n
        print(f"{text}: {each:.2f} s a tomogram ({processor:.1f} s of processor), {each / alone - 1:+.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = {f.__name__: f for f in (peaks, tiles, memory, parts, batch)}
    parser.add_argument("what", choices=verbs)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("project", nargs="?", default="")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", type=lambda t: tuple(map(int, t.split(","))), default=SHAPE, help="of `peaks`")
    parser.add_argument("--runs", type=int, default=6, help="of `batch`")
    parser.add_argument("--tile", type=int, default=0, help="voxels of the largest tile, of `tiles`")
    parser.add_argument("--child", type=lambda t: tuple(map(int, t.split(","))), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        memory_child(args.child, args.model)
    else:
        verbs[args.what](args)


if __name__ == "__main__":
    main()
