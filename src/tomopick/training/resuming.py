"""The folder of a training: whether one can begin there, what it was begun with, and going on with it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ModelError, OutputError
from ..core.files import atomic_write, is_vacant
from ..core.messages import listing
from ..core.owners import CLAIM
from ..picking.detector import Detector
from ..picking.folder import PLAN, read_record, version_of
from .checkpoints import cut_log, last_state
from .dataset import Data
from .loop import TrainState
from .patches import LabelledVolume
from .recipe import Recipe

log = logging.getLogger("tomopick")


def require_place(out: Path, resume: bool) -> None:
    """Nothing, where a training can begin in the folder, or go on in it.

    Raises:
        OutputError: there is something and it is not to be gone on with, or nothing that could be.
    """
    begun = any((out / name).is_file() for name in ("recipe.json", PLAN))
    if begun and not resume:
        raise OutputError(f"{out}: exists already; expected a new folder (or `resume` to go on with its training)")
    if begun:
        return
    if not is_vacant(out):
        raise OutputError(f"{out}: exists already, and holds no training to go on with; expected a new folder")
    if resume:
        raise OutputError(f"{out}: nothing to resume there; leave `resume` out to begin a training")


@contextmanager
def refused_without_trace(out: Path, *made: str) -> Iterator[None]:
    """Where a training fails before its first step, what it `made` of a folder that was vacant goes again.

    Where a claim made the folder, that removes it.
    """
    vacant = is_vacant(out)
    try:
        yield
    except Exception:
        steps, there = out / "log.jsonl", {path.name for path in out.iterdir()} if out.is_dir() else set()
        begun = steps.is_file() and steps.stat().st_size
        if vacant and not begun and there <= {*made, steps.name, CLAIM}:
            for name in (*made, steps.name):
                (out / name).unlink(missing_ok=True)
        raise


def begin_training(recipe: Recipe, detector: Detector, state: TrainState, out: Path, seed: int, data: Data) -> None:
    """A new folder with what resuming needs to know."""
    state.notes["data"] = _data_of(detector, seed, data)
    write_recipe(recipe, out)


def write_recipe(recipe: Recipe, out: Path) -> Recipe:
    """The recipe, written into the folder for who resumes."""
    with atomic_write(out / "recipe.json") as file:
        file.write(json.dumps({"format_version": version_of(recipe.exclusion)} | recipe.to_json(), indent=1))
    return recipe


def _data_of(detector: Detector, seed: int, data: Data) -> dict[str, Any]:
    """What decides the batches besides the recipe, as JSON values."""
    facts = detector.facts
    runs = [[list(part.train), list(part.val), list(part.unlabelled)] for part in facts.learned_from]
    return {
        "seed": seed, "objects": [o.name for o in detector.objects], "runs": runs,
        "tomogram types": list(facts.tomo_types), "inverted runs": list(facts.provenance.get("inverted", ())),
        "labels": _told_of([*data.train, *data.val]), "labelled parts": _parts_of([*data.train, *data.val]),
    }  # fmt: skip


def _told_of(volumes: Sequence[LabelledVolume]) -> str:
    """How many labels there are, and by what the very same ones are known again."""
    sums, n = hashlib.sha256(), 0
    for volume in volumes:
        n += len(volume.picks)
        for picks in (volume.picks, volume.negatives):
            if picks is not None:
                sums.update(f"{picks.names.tolist()} {np.round(picks.positions, 2).tolist()}".encode())
        masks = {name: None if mask is None else int(np.count_nonzero(mask)) for name, mask in volume.known.items()}
        sums.update(f"{volume.grid} {sorted(masks.items())}".encode())
    return f"{n} picks ({sums.hexdigest()[:8]})"


def _parts_of(volumes: Sequence[LabelledVolume]) -> str:
    """How many voxels of volumes that are labelled in part are, and by what the very same ones are known again."""
    sums, n = hashlib.sha256(), 0
    for volume in volumes:
        packed: dict[int, bytes] = {}  # objects mostly share a mask
        for name, mask in sorted(volume.known.items()):
            if mask is None:
                continue
            if id(mask) not in packed:
                packed[id(mask)], n = np.packbits(mask).tobytes(), n + int(np.count_nonzero(mask))
            sums.update(f"{volume.picks.run} {name} {mask.shape}".encode() + packed[id(mask)])
    return f"{n} voxels ({sums.hexdigest()[:8]})" if n else ""


def gone_on(
    state: TrainState, recipe: Recipe, detector: Detector, out: Path, seed: int, data: Data, timed: bool = False
) -> Recipe:
    """Takes up the state of the training in a folder; gives the recipe to go on with.

    `timed` is as for `check_same`.

    Raises:
        ModelError: the training was begun with another recipe, other data or another seed.
    """
    recipe = check_same(recipe, out, timed)
    saved = last_state(out)
    if saved:
        state.load(saved)
    mine = _data_of(detector, seed, data)
    begun = state.notes.setdefault("data", mine)
    for key in (key for key in mine if key in begun):  # older versions knew less of it
        if begun[key] != mine[key]:
            had, has = ("none" if known[key] in ([], "") else str(known[key]) for known in (begun, mine))
            raise ModelError(
                f"{out}: was begun with {key} {had}, not {has}; "
                "resume with the same data and seed, or train into a new folder"
            )
    steps = _begun(out).train.steps
    if recipe.train.steps > steps:
        log.info(f"goes on to step {recipe.train.steps}, not {steps}; the schedule is stretched over all")
    cut_log(out / "log.jsonl", state.step)
    write_recipe(recipe, out)  # which may be longer than it was begun
    log.info(f"resumes at step {state.step} of {recipe.train.steps}")
    return recipe


def _settings(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a recipe as they are set, `train.lr`, with their values."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _settings(item, f"{name}.{key}" if name else key)
    else:
        yield name, value


def check_same(recipe: Recipe, out: Path, timed: bool = False) -> Recipe:
    """The recipe to go on with, where the training in a folder was begun with this one; it may only be longer.

    Args:
        recipe: with a voxel spacing, or with that of the training data, whatever it was.
        out: the model folder, finished or not.
        timed: its steps and warm-up were fitted to a time, so those in the folder count.

    Raises:
        ModelError: it was begun with another.
    """
    begun = _begun(out)
    recipe = recipe if recipe.voxel_spacing else replace(recipe, voxel_spacing=begun.voxel_spacing)
    if timed:
        train = replace(recipe.train, steps=begun.train.steps, warmup_steps=begun.train.warmup_steps)
        recipe = replace(recipe, train=train)
    longer = recipe.train.steps > begun.train.steps
    same = replace(recipe, train=replace(recipe.train, steps=begun.train.steps)) if longer else recipe
    if begun != same:
        had, has = dict(_settings(begun.to_json())), dict(_settings(same.to_json()))
        different = [
            f"{k}={had.get(k, '-')}, not {has.get(k, '-')}" for k in {**had, **has} if had.get(k) != has.get(k)
        ]
        fewer = f" (`tomopick finish {out}` ends it now)" if recipe.train.steps < begun.train.steps else ""
        raise ModelError(
            f"{out}: was begun with {listing(different)}; resume with the same recipe and overrides (train.steps may "
            f"be larger){fewer}, or train into a new folder"
        )
    return recipe


def _begun(out: Path) -> Recipe:
    """The recipe that the training in a folder was begun with."""
    written = read_record(out / "recipe.json")
    written.pop("format_version", None)
    return Recipe.from_json(written)
