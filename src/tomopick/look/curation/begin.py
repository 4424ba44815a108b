"""From what a user names to a desk with picks on it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import SelectionError
from ...core.messages import counted
from ...core.types import PickableObject, Picks, Tomogram
from ...data import Project
from ...data.runs import Runs
from ..page.gather import ReportOptions, gather_report
from ..page.tables import safe_colors
from .decided import decided_in, names_of
from .desk import Desk, Sitting
from .folder import objects_in, require_own_folder
from .journal import Entry
from .server import Finder

log = logging.getLogger("tomopick")

_AROUND = 4.0  # radii on either side of a click that the network sees


def begin(
    what: str,
    on: Runs | Project,
    opening: Mapping[str, Any],
    options: ReportOptions,
    model: str | None,
    user_id: str,
    session_id: str | None,
    out: Path,
    decided: Path | None = None,
) -> tuple[Desk, Finder | None]:
    """The desk, and what finds a model's maxima where there is a model.

    Args:
        what, on, opening, options: as for a report.
        model: a model's name or folder; None: the one that picked, or none.
        user_id, session_id: of who decides.
        out: folder of the decisions.
        decided: folder of earlier decisions that are taken over.

    Raises:
        TomopickError: picks, project or model that cannot be read, a folder that is another's, no tomograms.
    """
    on = Runs.of(on)
    project = on.project
    require_own_folder(out, what, project, on.check())
    picker = None
    if model is not None:
        from ...picking.load import load_model
        from ...picking.options import PickOptions
        from ...picking.picker import Picker

        picker = Picker(load_model(model), PickOptions(metric=options.metric, keep_below=True, device=options.device))
        options = replace(options, thresholds={**picker.thresholds, **options.thresholds})
    report = gather_report(what, on, opening, replace(options, idle=True))  # any object may be added
    before = {} if decided is None else decided_in(decided)
    mine = {run: entries for run, entries in before.items() if run in on.check()}
    known = _with_decided(report.objects, mine, (out, decided), project, options.only)
    mine = _of(known, mine)
    picks = {**{run: Picks.empty(run) for run in mine}, **report.picks}
    shown = {run: p for run, p in picks.items() if project.tomo_types(run)}
    if not shown:
        raise SelectionError(f"{on.uri}: no tomogram of a run with picks; curating needs something to look at")
    for run in sorted(shown):
        on.grid(run)  # says which types there are, where several could be meant
    # A page with truth weighs what has none 0; whoever trains or scores on OUT is to have what the picks came with.
    weighed = {o.name: o.score_weight for o in (*project.objects, *objects_in(Path(what)).values())}
    objects = tuple(
        replace(o, radius=o.radius_angstrom, color=_rgba(c), score_weight=weighed.get(o.name, o.score_weight))
        for o, c in zip(known, safe_colors(known))
    )
    said = {run: entries for run, entries in mine.items() if run in shown}
    sitting = Sitting(project, shown, report.truth, objects, report.thresholds, on.tomo_type, user_id, session_id, said)
    return Desk(sitting, out), None if picker is None else _finder(picker, project, sitting)


def _with_decided(
    objects: Sequence[PickableObject],
    decided: Mapping[str, Sequence[Entry]],
    folders: tuple[Path, Path | None],
    project: Project,
    only: Sequence[str] | None,
) -> tuple[PickableObject, ...]:
    """The objects, and those that nobody else knows of OUT and of earlier decisions, with the radii that these know.

    What cannot be added is said, with how many decisions are left out for it.
    """
    known = {o.name for o in objects}
    wanted = Counter(name for entries in decided.values() for e in entries for name in names_of(e))
    out, before = (objects_in(folder) if folder else {} for folder in folders)
    theirs = {name: o for name, o in before.items() if name in wanted} | out
    more = {name: o for name, o in theirs.items() if name not in known}
    if project.keeps_picks or only is not None:
        more = {}
    for name in sorted(set(wanted) - known - set(more)):
        how = f"give its radius with `objects={name}:RADIUS` to keep them"
        if project.keeps_picks:
            how = "add it to the project's pickable_objects to keep them"
        elif only is not None:
            how = "leave `only` out, or name it there, to keep them"
        log.warning(f"{counted(wanted[name], 'decision')} about {name} left out, which is no object here; {how}")
    return (*objects, *more.values())


def _of(objects: Sequence[PickableObject], decided: Mapping[str, Sequence[Entry]]) -> dict[str, list[Entry]]:
    """The decisions about objects that are curated."""
    known = {o.name for o in objects}
    return {run: [e for e in entries if names_of(e) <= known] for run, entries in decided.items()}


def _finder(picker: Any, project: Project, sitting: Sitting) -> Finder:
    """The model's pick that is nearest to a click, of what it sees around it; the click itself where there is none."""

    def find(run: str, at: np.ndarray, index: int) -> np.ndarray:
        o = sitting.objects[index]
        values, grid = project.slabs(run, sitting.tomo_type).around(at, _AROUND * o.radius_angstrom)
        picks, _ = picker.pick(Tomogram(run, values, grid))
        near = picks.of(o.name).positions
        away = np.linalg.norm(near - at, axis=1)
        return np.asarray(near[away.argmin()]) if len(near) and away.min() <= o.radius_angstrom else at

    return find


def _rgba(color: str) -> tuple[int, int, int, int]:
    red, green, blue = (int(color[k : k + 2], 16) for k in (1, 3, 5))
    return red, green, blue, 255
