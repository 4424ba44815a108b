"""A prepared tomogram with the places where its picks are kept: masks that are given, and those that a model makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..core.types import Tomogram
from ..data import Project
from ..data.masks import Mask
from .load import load_model
from .masking import places_of_run
from .options import PickOptions
from .peaks import distances_of
from .picker import Picker
from .prepared import Prepared

_SAMPLE = "sample"
_DIRT = ("gold", "carbon")  # that no particle lies on


def placed(picker: Picker, seen: Prepared, project: Project, tomogram: Tomogram) -> Prepared:
    """With the places where picks of a project's run are kept, if some were asked for.

    Args:
        picker: with the options.
        seen: the tomogram as it is picked.
        project: whose masks are meant.
        tomogram: as read.

    Raises:
        TomopickError: a mask or model that is not there, or cannot be read.
    """
    options = picker.options
    if not options.places:
        return seen
    # What a peak is compared with lies no further away than its kind are from each other.
    distances = distances_of(picker.peaks, picker.objects)
    margin = max([2 * max((o.radius or 0.0 for o in picker.objects), default=0.0), *distances.values()])
    clean = {}
    if options.places.clean:
        masks = model_masks(options.places.clean, tomogram, options.device)
        clean = {name: masks[name] for name in (_SAMPLE, *_DIRT) if name in masks}
    return replace(seen, places=places_of_run(options.places, project, seen.run, seen.grid, margin, clean))


def model_masks(
    model: str, tomogram: Tomogram, device: str = "auto", thresholds: Mapping[str, float] | None = None
) -> dict[str, Mask]:
    """What a model marks in a tomogram, by the names that it knows, on its own grid.

    Args:
        model: its folder or name; kept ready from call to call.
        tomogram: to be marked.
        device: where it runs.
        thresholds: of its heatmaps, by name, in place of its own.

    Raises:
        TomopickError: no such model, or it cannot take the tomogram.
    """
    picker = _ready(model, device)
    cuts = {**picker.thresholds, **(thresholds or {})}
    strips = list(picker.rows(tomogram)[0])
    first = strips[0].grid
    values = np.concatenate([_above(s.values, [cuts[name] for name in s.objects]) for s in strips], axis=2)
    grid = replace(first, shape=values.shape[1:])
    return {name: Mask(mask, grid) for name, mask in zip(strips[0].objects, values)}


@lru_cache(maxsize=4)
def _ready(model: str, device: str) -> Picker:
    return Picker(load_model(model), PickOptions(device=device, exclude=False))  # nothing is picked


def _above(values: np.ndarray, cuts: list[float]) -> np.ndarray:
    """(object, z, y, x) heatmap -> bool."""
    return np.asarray(values >= np.array(cuts, dtype=np.float32)[:, None, None, None])
