"""Small labelled data and a small trained model that several tests share; real code throughout, no mocks."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from tomopick import Detector, FitOptions, Grid, PickableObject, Picks, Source, Tomogram, fit, recipes
from tomopick.data import MemoryProject, create_copick_project, write_mrc, write_picks_csv, write_run

torch.set_num_threads(1)
if "TOMOPICK_CACHE" not in os.environ:  # not into the user's own
    os.environ["TOMOPICK_CACHE"] = tempfile.mkdtemp(prefix="tomopick-tests-cache-")
    atexit.register(shutil.rmtree, os.environ["TOMOPICK_CACHE"], ignore_errors=True)

MODELS = Path(__file__).parent / "data" / "models"  # that data/models/make_models.py has trained
SPACING = 10.0
BALL = PickableObject("ball", 40.0, 1)
RING = PickableObject("ring", 60.0, 2, (86, 180, 233, 255))
TINY = ["network.widths=8,16", "patch.shape=16,16,16", "train.steps=6", "train.batch_size=2", "train.validate_every=3"]

NARROW = {name: ["network.width=0.1"] for name in recipes.names()} | {
    **{name: ["network.widths=4,6,8"] for name in ("bpd", "light", "bpd_released", "soup_tiny")},
    # A watershed of what an untrained network gives, at every threshold that is tried, takes most of a minute.
    **{f"soup_released_{size}": ["network.widths=4,6,8,8", "peaks=LocalMaxima"] for size in ("tiny", "medium", "big")},
    "soup_medium": ["network.widths=4,5,6,7"],
    "soup_large": ["network.widths=4,5,6,7,8"],
}
QUICK = ["patch.shape=32,32,32", "tiling=TilingSpec", "tiling.shape=32,32,32", "tiling.overlap=8",
         "train.batch_size=2", "train.steps=3", "train.validate_every=2"]  # fmt: skip


def narrowed(name):
    """Overrides that make a recipe small enough to train in seconds."""
    return [*QUICK, *NARROW[name]]


def recipe(*more):
    return recipes.get("light").override(["tiling.shape=32,32,32", "tiling.overlap=8", *TINY, *more])


def tomogram(run="A", seed=0, shape=(24, 64, 48), n=14, objects=(BALL,), spacing=SPACING, tomo_type="denoised"):
    """Dark balls (and dark shells) in noise, apart from each other, and where they are."""
    rng = np.random.default_rng(seed)
    grid = Grid(shape, spacing)
    extent = np.array(shape) * spacing
    centres, names = [], []
    while len(centres) < n:
        name = objects[len(centres) % len(objects)].name
        p = rng.uniform(70, extent - 70)
        if all(np.linalg.norm(p - q) > 110 for q in centres):
            centres.append(p)
            names.append(name)
    zyx = np.stack(np.meshgrid(*[np.arange(s) * spacing for s in shape], indexing="ij"))
    values = rng.standard_normal(shape).astype(np.float32)
    for p, name in zip(centres, names):
        d = np.sqrt(((zyx - p[:, None, None, None]) ** 2).sum(0))
        shape_of = np.exp(-0.5 * (d / 20) ** 2) if name == "ball" else np.exp(-0.5 * ((d - 50) / 12) ** 2)
        values -= 6 * shape_of.astype(np.float32)
    return Tomogram(run, values, grid, tomo_type), Picks(run, np.array(centres), np.array(names))


def memory(runs=("A", "B", "C"), objects=(BALL,), **more):
    project = MemoryProject(objects)
    for seed, run in enumerate(runs):
        project.add(*tomogram(run, seed, objects=objects, **more))
    return project


def folder(place: Path, runs=("A", "B"), picks=True, objects_json=True, **more):
    """A folder project on disk."""
    place.mkdir(parents=True, exist_ok=True)
    for seed, run in enumerate(runs):
        t, p = tomogram(run, seed, **more)
        write_mrc(place / f"{run}.mrc", t.values, t.grid.voxel_spacing)
        if picks:
            write_picks_csv(place / f"{run}.csv", p)
    if objects_json:
        (place / "objects.json").write_text('[{"name": "ball", "radius": 40}]')
    return place


def copick(place: Path, runs=("A", "B"), objects=(BALL,), tomo_types=("denoised",)):
    """A copick project on disk; its truth is curator/0."""
    project = create_copick_project(place, objects)
    for seed, run in enumerate(runs):
        made = [tomogram(run, seed, tomo_type=kind, objects=objects) for kind in tomo_types]
        write_run(project, [t for t, _ in made], made[0][1], "curator", "0")
    return place / "copick.json"


def taught(out: Path, objects=(BALL,), steps=150) -> Path:
    """Trains a model folder that finds balls (and rings), on the CPU: some seconds."""
    more = [f"train.steps={steps}", f"train.validate_every={steps}", "train.lr=5e-3", "train.warmup_steps=5",
            "train.batch_size=4", "train.ema_decay=0.9"]  # fmt: skip
    fit(recipe(*more), [Source(memory(objects=objects), val_runs=["C"])], out, FitOptions("cpu"))
    return out


@functools.cache
def trained(*objects) -> Path:
    """A model folder that finds balls, or balls and rings, without what only its training needed."""
    place = Path(tempfile.mkdtemp(prefix="tomopick-tests-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    name = "_and_".join(o.name for o in objects or (BALL,))
    return copy_of(MODELS / name, place / name)


def copy_of(model: Path, place: Path) -> Path:
    shutil.copytree(model, place)
    return place


def untrained(objects=(BALL,), **facts):
    from tomopick.picking.folder import TrainingFacts

    torch.manual_seed(0)
    method = recipe()
    cuts = {m: {o.name: 0.3 for o in objects} for m in ("f1", "czii")}
    network = method.network.build(len(objects)).eval()
    told = TrainingFacts(**{"voxel_spacing": SPACING, **facts})
    return Detector(method.method, tuple(objects), network, cuts, told, recipe_json=method.to_json())
