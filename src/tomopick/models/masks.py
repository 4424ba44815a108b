"""Masks that a model makes of whole runs: segmentations of a copick project, or volumes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..core.errors import OutputError, SelectionError
from ..core.messages import SHOWN, listing, near_miss
from ..core.names import component
from ..core.types import Grid
from ..data import CopickProject, write_mrc
from ..data.labelled import header_of
from ..data.masks import Mask
from ..data.runs import Runs
from ..data.sources.copick_write import write_segmentation
from ..picking.load import load_model
from ..picking.placing import model_masks

log = logging.getLogger("tomopick")


@dataclass(frozen=True)
class MaskOptions:
    """What is marked, and where it goes.

    Attributes:
        names: of what the model knows; None: all.
        thresholds: of its heatmaps, by name, in place of its own.
        out: folder of NAME/RUN.mrc; None: segmentations of the project.
        user_id, session_id: of segmentations.
        device: where the model runs.
        overwrite: replace what is there.
    """

    names: Sequence[str] | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    out: Path | None = None
    user_id: str = "tomopick"
    session_id: str = "1"
    device: str = "auto"
    overwrite: bool = False


def make_masks(model: str, runs: Runs, options: MaskOptions) -> Iterator[tuple[str, dict[str, float]]]:
    """Marks run after run; gives its name, and the share of the volume that each name takes.

    Args:
        model: its folder, or a shipped one's name.
        runs: of a project.
        options: what, and where it goes.

    Raises:
        SelectionError: a name that the model does not know, a threshold that is none, or a project that keeps no
            segmentations without `out`.
        OutputError: masks of some run are there already, so that none is made; or they cannot be written.
    """
    known = [o.name for o in load_model(model).objects]
    _require_known(model, known, options)
    names = list(options.names or known)
    project = runs.project
    if options.out is None and not isinstance(project, CopickProject):
        raise SelectionError(f"{project.uri}: keeps no segmentations; name a folder for volumes with `out`")
    wanted = runs.check()
    _refuse_there(runs, wanted, names, options)
    for run in wanted:
        tomogram = runs.tomogram(run)
        masks = model_masks(model, tomogram, options.device, options.thresholds)
        for name in names:
            _write(runs, run, name, masks[name], tomogram.grid, options)
        yield run, {name: float(masks[name].values.mean()) for name in names}


def _file(out: Path, name: str, run: str) -> Path:
    return out / component(name, "mask") / f"{component(run, 'run')}.mrc"


def _require_known(model: str, known: Sequence[str], options: MaskOptions) -> None:
    """Raises `SelectionError` for names and thresholds that the model has no use for."""
    asked = [(name, f"only={name}") for name in options.names or ()]
    asked += [(name, f"thresholds={name}={value:g}") for name, value in options.thresholds.items()]
    for name, given in asked:
        if name not in known:
            raise SelectionError(f"`{given}`: {model} knows no such thing; {near_miss(name, known)}")
    for name, value in options.thresholds.items():
        if not 0 < value <= 1:
            raise SelectionError(f"`thresholds={name}={value:g}`: heatmaps lie between 0 and 1; choose one there")
        if options.names and name not in options.names:
            raise SelectionError(
                f"`thresholds={name}={value:g}`: {name} is not marked; name it with `only` too, or leave it out"
            )


def _refuse_there(runs: Runs, wanted: Sequence[str], names: Sequence[str], options: MaskOptions) -> None:
    """Raises `OutputError`, before anything is made, where masks of some run are there: nobody knows who made them."""
    if options.overwrite:
        return
    there = {run: found for run in wanted if (found := _there(runs, run, names, options))}
    if not there:
        return
    first = next(found for masks in there.values() for found in masks.values())
    how = ["replace masks with `overwrite`", "name another `out` or `session_id`"]
    if bare := [run for run in wanted if run not in there]:
        list_ = f"`runs={','.join(bare)}`" if len(bare) <= SHOWN else "`runs`"
        how.append(f"mark those that have none with {list_}")
    begun = [run for run, masks in there.items() if len(masks) < len(names)]
    some = f", and not all masks of {listing(begun)}" if begun else ""
    raise OutputError(f"{first}: exists already{some}; {', or '.join(how)}")


def _there(runs: Runs, run: str, names: Sequence[str], options: MaskOptions) -> dict[str, str]:
    """Where masks of a run are already, by name."""
    if options.out is not None:
        return {n: str(p) for n in names if (p := _file(options.out, n, run)).exists()}
    if not isinstance(runs.project, CopickProject):
        return {}
    wanted = {f"{name}:{options.user_id}/{options.session_id}": name for name in names}
    stored = ((wanted.get(text.rpartition("@")[0]), text) for text in runs.project.segmentations(run))
    return {name: f"{runs.uri}: run {run}: {text}" for name, text in stored if name is not None}


def _write(runs: Runs, run: str, name: str, mask: Mask, grid: Grid, options: MaskOptions) -> None:
    """A volume on the mask's own grid; a segmentation on the tomogram's, which copick asks for."""
    if options.out is not None:
        # In the frame of the tomogram's own header, as other programs and `read_mask` have it.
        header = header_of(runs.project, run)
        start = np.array(mask.grid.origin) + (header.origin if header else 0.0)
        z, y, x = start.tolist()
        there = replace(mask.grid, origin=(z, y, x))
        write_mrc(_file(options.out, name, run), mask.values.astype(np.float32), there)
    elif isinstance(runs.project, CopickProject):
        values = mask.on(grid).astype(np.uint8)
        write_segmentation(runs.project, run, name, values, grid, options.user_id, options.session_id)
