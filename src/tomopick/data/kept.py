"""From which score on picks were kept when they were made, for those that were written down below it too."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from pathlib import Path

import numpy as np

from ..core.messages import counted, listing
from ..core.records import Records
from ..core.types import THRESHOLD, Picks
from .volumes.checks import warn_once


def picked_thresholds(picks: Mapping[str, Picks], place: str) -> tuple[dict[str, Picks], dict[str, float], list[str]]:
    """The picks, each with the threshold that it was picked with; the highest by object; what is to be said of it.

    The picks tell it themselves (`THRESHOLD`), or the records beside them do. Where nobody does, it has none.

    Args:
        picks: run -> picks, those below the thresholds included.
        place: where they lie.
    """
    found = dict(picks)
    records = Records(Path(place) / "records").each() if Path(place).is_dir() else ()
    for run, record in records:
        cuts = record.get("thresholds")
        if run in found and THRESHOLD not in picks[run].columns and isinstance(cuts, dict):
            told = {str(name): float(value) for name, value in cuts.items()}
            column = np.array([told.get(name, np.nan) for name in found[run].names.tolist()])
            found[run] = found[run].with_column(THRESHOLD, column)
    each: dict[str, set[float]] = {}
    for p in found.values():
        for name, value in {*zip(p.names.tolist(), p.columns.get(THRESHOLD, np.zeros(0)).tolist())}:
            if value == value:
                each.setdefault(name, set()).add(value)
    highest = {name: floor(max(v) * 1e6) / 1e6 for name, v in each.items()}  # scores in files have six decimals
    # The same number, written down with fewer digits.
    torn = sorted(name for name, v in each.items() if max(v) - min(v) > 1e-5)
    lines = (
        [f"{listing(torn)}: runs were picked with different thresholds; each pick counts by its own"] if torn else []
    )
    below = sum(int((~p.is_kept).sum()) for p in found.values())
    if below:
        lines.append(f"{counted(below, 'pick')} below the thresholds that they were picked with do not count")
    return found, highest, lines


def without_below(picks: Picks, where: str) -> Picks:
    """The picks that their model kept: candidates below are no labels. Says so, once for what is read again."""
    kept = picks.is_kept
    if kept.all():
        return picks
    run = f": run {picks.run}" if picks.run else ""
    below = counted(int((~kept).sum()), "candidate")
    warn_once(f"{where}{run}: left out: {below} below the threshold of the model that found them")
    return picks.select(kept)
