"""Masks that a model makes of whole runs: segmentations of a copick project, or volumes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..core.errors import OutputError, SelectionError
from ..core.messages import near_miss
from ..core.names import component
from ..core.types import Grid
from ..data import CopickProject, write_mrc
from ..data.masks import Mask
from ..data.runs import Runs
from ..data.sources.copick_write import write_segmentation
from ..data.sources.folder import FolderProject
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
        SelectionError: a name that the model does not know, or a project that keeps no segmentations without `out`.
        OutputError: masks that are there already, or cannot be written.
    """
    known = [o.name for o in load_model(model).objects]
    for name in [*(options.names or ()), *options.thresholds]:
        if name not in known:
            raise SelectionError(f"`only={name}`: {model} knows no such thing; {near_miss(name, known)}")
    names = list(options.names or known)
    project = runs.project
    if options.out is None and not isinstance(project, CopickProject):
        raise SelectionError(f"{project.uri}: keeps no segmentations; name a folder for volumes with `out`")
    for run in runs.check():
        _refuse_there(runs, run, names, options)
        tomogram = runs.tomogram(run)
        masks = model_masks(model, tomogram, options.device, options.thresholds)
        for name in names:
            _write(runs, run, name, masks[name], tomogram.grid, options)
        yield run, {name: float(masks[name].values.mean()) for name in names}


def _file(out: Path, name: str, run: str) -> Path:
    return out / component(name, "mask") / f"{component(run, 'run')}.mrc"


def _refuse_there(runs: Runs, run: str, names: Sequence[str], options: MaskOptions) -> None:
    if options.overwrite:
        return
    found = ""
    if options.out is not None:
        found = next((str(p) for n in names if (p := _file(options.out, n, run)).exists()), "")
    elif isinstance(runs.project, CopickProject):
        wanted = [f"{name}:{options.user_id}/{options.session_id}@" for name in names]
        there = runs.project.segmentations(run)
        found = next((f"{runs.uri}: run {run}: {t}" for t in there if any(t.startswith(w) for w in wanted)), "")
    if found:
        raise OutputError(
            f"{found}: exists already; name another `out` or `session_id`, or replace it with `overwrite`"
        )


def _write(runs: Runs, run: str, name: str, mask: Mask, grid: Grid, options: MaskOptions) -> None:
    """A volume on the mask's own grid; a segmentation on the tomogram's, which copick asks for."""
    if options.out is not None:
        # In the frame of the tomogram's own header, as other programs and `read_mask` have it.
        header = runs.project.header_grid(run) if isinstance(runs.project, FolderProject) else None
        start = np.array(mask.grid.origin) + (header.origin if header else 0.0)
        z, y, x = start.tolist()
        there = replace(mask.grid, origin=(z, y, x))
        write_mrc(_file(options.out, name, run), mask.values.astype(np.float32), there)
    elif isinstance(runs.project, CopickProject):
        values = mask.on(grid).astype(np.uint8)
        write_segmentation(runs.project, run, name, values, grid, options.user_id, options.session_id)
