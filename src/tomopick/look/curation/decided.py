"""What was decided in an earlier curation, taken over into one of new picks: nobody has to say it twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ...core.errors import SelectionError
from ...core.types import PickableObject, Picks
from ...data.tables import read_picks_csv
from ...scoring.matching import REACH
from .folder import RECORD
from .journal import Entry, Journal, picks_of


def decided_in(folder: Path) -> dict[str, list[Entry]]:
    """By run, what a person said about picks in a curation's folder, of whatever object; nothing that was taken back.

    Raises:
        SelectionError: no curation's folder.
        ReadError: one that cannot be read.
    """
    if not (folder / RECORD).is_file():
        raise SelectionError(f"`decided`: {folder} is no folder of a curation (it has no {RECORD}); name one's OUT")
    found: dict[str, list[Entry]] = {}
    for path in sorted((folder / "journal").glob("*.jsonl")):
        run = path.stem
        kept = folder / "candidates" / f"{run}.csv"
        tables = read_picks_csv(kept) if kept.is_file() else {}
        picks = Picks.join(run, [*tables.values()]) if tables else Picks.empty(run)
        found[run] = [e for e in Journal(path, picks, None).entries if e.state is not None and not e.removed]
    return {run: entries for run, entries in found.items() if entries}


def names_of(entry: Entry) -> set[str]:
    """The objects that a decision is about: what the pick is, and what it was taken for."""
    return {entry.name, entry.found_as or entry.name}


def undecided(picks: Picks, entries: Sequence[Entry], objects: Sequence[PickableObject]) -> np.ndarray:
    """(n,) bool: picks that are none of those which were decided: further than half a radius from all of them."""
    free = np.ones(len(picks), dtype=bool)
    for o in objects:
        places = [at for e in entries for name, at in _places(e) if name == o.name]
        mine = picks.names == o.name
        if places and mine.any():
            away, _ = cKDTree(np.array(places)).query(picks.positions[mine])
            free[mine] = away > REACH * o.radius_angstrom
    return free


def _places(entry: Entry) -> list[tuple[str, tuple[float, float, float]]]:
    """What a pick is called and where it lies, now and as the model had it."""
    first = entry.found_as or entry.name, entry.found_at or entry.position
    return [(entry.name, entry.position), first, (entry.name, first[1])]


def with_decided(picks: Picks, entries: Sequence[Entry], objects: Sequence[PickableObject]) -> Picks:
    """Candidates of a new curation: what was decided as a model once had it, then new picks of other places."""
    old = [e for e in entries if not e.added]
    kept = picks_of(picks.run, [replace(e, name=e.found_as or e.name, position=e.found_at or e.position) for e in old])
    new = picks.select(undecided(picks, entries, objects))
    if kept.rotations is not None or new.rotations is not None:  # one of no turn is as in a file: that of none
        kept, new = (p if p.rotations is not None else replace(p, rotations=_none(len(p))) for p in (kept, new))
    return Picks.join(picks.run, [kept, new])


def _none(n: int) -> np.ndarray:
    return np.tile(np.eye(3), (n, 1, 1))


def events_of(entries: Sequence[Entry], first_added: int) -> list[dict[str, Any]]:
    """The events that say of `with_decided` candidates what was said before, signed by who said it then.

    Args:
        entries: that were decided.
        first_added: how many candidates there are; what a person added is numbered from there on.
    """
    events: list[dict[str, Any]] = []
    alike: dict[tuple[str, str, str], list[int]] = {}
    number = iter(range(first_added, first_added + len(entries)))
    old = iter(range(len(entries)))
    for e in entries:
        signed: Mapping[str, Any] = {"by": e.by, "when": e.when}
        i = next(number) if e.added else next(old)
        if e.added:
            events.append({"op": "add", "object": e.name, "at": list(e.position), **signed})
        if e.found_as:
            events.append({"op": "object", "ids": [i], "object": e.name, **signed})
        if e.found_at:
            events.append({"op": "move", "id": i, "to": list(e.position), **signed})
        alike.setdefault((str(e.state), e.by, e.when), []).append(i)
    sets = [{"op": "set", "ids": ids, "state": s, "by": by, "when": w} for (s, by, w), ids in alike.items()]
    return events + sets
