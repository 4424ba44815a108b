"""A model's candidates, picked once for a curation: in one process or in parts by several, before anybody looks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path

from ...core.records import expect
from ...data.runs import Runs
from ...picking.load import load_model
from ...picking.options import PickOptions
from ...picking.output import records_of
from ...picking.picker import Picker
from ...picking.runs import RunResult, pick_runs
from ..page.gather import ReportOptions

log = logging.getLogger("tomopick")
FOLDER = "prepared"  # in the folder of the curation: a folder of picks as any other


def prepare(model: str, on: Runs, options: ReportOptions, out: Path, part: Sequence[str]) -> Iterator[RunResult]:
    """Picks down to a low score into `out/prepared`, which `begin` opens; runs that are there are left alone.

    Args:
        model: its name or folder.
        on: the runs of the curation.
        options: metric, views and device.
        out: folder of the curation.
        part: those of the runs that are picked here.

    Raises:
        TomopickError: a model or project that cannot be set up; a run that cannot be picked is a result.
    """
    # Candidates are nobody's picks yet: also a project that keeps picks gets them only once a person has decided.
    project = copy(on.project)
    project.keeps_picks = False
    names = on.check()
    picked = PickOptions(metric=options.metric, keep_below=True, views=options.views, device=options.device)
    picker = Picker(load_model(model), picked)
    if picker.positions_depend_on_threshold:
        log.info("its decoder finds other positions with another threshold: there are no picks below the thresholds")
    place = out / FOLDER
    expect(records_of(project, place).folder, names)
    return pick_runs(picker, Runs(project, names, on.tomo_type), part, place)
