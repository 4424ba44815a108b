"""From which score on picks were kept when they were made, for those that were written down below it too."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from pathlib import Path

import numpy as np

from ..core.messages import counted, listing
from ..core.records import Records
from ..core.types import THRESHOLD, Picks


def picked_thresholds(picks: Mapping[str, Picks], place: str) -> tuple[dict[str, float], list[str]]:
    """By object, from which score on picks were kept when they were made, and what is to be said of it.

    The picks tell it themselves (`THRESHOLD`), or the records beside them do. Empty where nobody does. Where runs were
    picked with different thresholds it is the highest.

    Args:
        picks: run -> picks, those below the thresholds included.
        place: where they lie.
    """
    told: dict[str, set[float]] = {}
    records = Records(Path(place) / "records").each() if Path(place).is_dir() else ()
    for run, record in records:
        found = record.get("thresholds")
        if run in picks and isinstance(found, dict):
            for name, value in found.items():
                told.setdefault(str(name), set()).add(float(value))
    for p in picks.values():
        for name, value in {*zip(p.names.tolist(), p.columns.get(THRESHOLD, np.zeros(0)).tolist())}:
            if value == value:
                told.setdefault(name, set()).add(value)
    cuts = {name: floor(max(values) * 1e6) / 1e6 for name, values in told.items()}  # scores in files have six decimals
    # The same number, written down with fewer digits.
    torn = sorted(name for name, values in told.items() if max(values) - min(values) > 1e-5)
    lines = [f"{listing(torn)}: runs were picked with different thresholds; the highest counts"] if torn else []
    below = sum(len(p) - len(p.above(cuts)) for p in picks.values())
    if below:
        lines.append(f"{counted(below, 'pick')} below the thresholds that they were picked with do not count")
    return cuts, lines
