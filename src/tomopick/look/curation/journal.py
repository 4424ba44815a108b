"""What a person decided about the picks of one run: a journal of events, from which the decisions are told anew.

Every event is on disk before it is answered, so that nothing is lost with the browser or the server; undoing one adds
another line and removes none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import OutputError, ReadError, SelectionError
from ...core.files import atomic_write
from ...core.reading import parse_json
from ...core.text import read_text
from ...core.types import DISTANCE, Picks

STATES = ("accepted", "rejected", "unsure")  # what a person may say; a pick that nobody looked at has none


@dataclass(frozen=True)
class Entry:
    """One pick as it stands now.

    Attributes:
        name: its object.
        position: zyx [Å].
        score: the model's; None for what a person added.
        state: of `STATES`; None: undecided, so that its score and the threshold decide.
        found_at: where the model put it, zyx [Å], if it was moved; None otherwise.
        found_as: the object that the model took it for, if a person says another.
        added: whether a person added it.
        removed: whether the person who added it took it away again.
        by, when: who decided last, and when [ISO 8601, UTC].
        turn: its rotation, row by row, if the model's pick had one and lies where it was.
        distances: from masks [Å], by column, of the same.
    """

    name: str
    position: tuple[float, float, float]
    score: float | None = None
    state: str | None = None
    found_at: tuple[float, float, float] | None = None
    found_as: str | None = None
    added: bool = False
    removed: bool = False
    by: str = ""
    when: str = ""
    turn: tuple[float, ...] | None = field(default=None, compare=False, repr=False)
    distances: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)


class Journal:
    """The picks of one run, what was decided about them, and how to take it back.

    Args:
        path: of the journal, JSON lines; made at the first event.
        candidates: the model's picks, in the order that their numbers follow.
        objects: names that a pick may have; None: any.

    Raises:
        ReadError: the file is no journal, or one of other picks.
    """

    def __init__(self, path: Path, candidates: Picks, objects: Sequence[str] | None) -> None:
        self.path, self.run, self.objects = path, candidates.run, None if objects is None else tuple(objects)
        self._candidates = list(_found(candidates))
        self.entries: list[Entry] = list(self._candidates)
        self.done = False
        self._applied: list[dict[str, Any]] = []
        self._undone: list[dict[str, Any]] = []
        for event in _read(path):
            try:
                self._take(event)
            except (KeyError, TypeError, ValueError, IndexError, OverflowError, SelectionError) as error:
                raise ReadError(
                    f"{path}: does not belong to these picks of run {self.run} ({error}); curate into a new folder"
                ) from None

    @property
    def undoable(self) -> int:
        """How many events can be taken back."""
        return len(self._applied)

    def act(self, event: Mapping[str, Any], by: str, when: str) -> list[int]:
        """Carries out an event and writes it down; gives the numbers of the picks that changed.

        Args:
            event: `op` of set (ids, state), object (ids, object), move (id, to), add (object, at), delete (ids),
                done (value), undo, redo; positions zyx [Å].
            by, when: who says so, and when.

        Raises:
            SelectionError: no such pick, object, state or event.
            OutputError: it cannot be written down; then it has not happened.
        """
        full = {**event, "by": by, "when": when}
        before = list(self.entries)
        held = self.done, list(self._applied), list(self._undone)
        try:
            self._take(full)
            _append(self.path, full)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            self._restore(before, *held)
            raise SelectionError(f"run {self.run}: an event that is not understood ({error!r})") from None
        except (SelectionError, OutputError):
            self._restore(before, *held)
            raise
        n = max(len(before), len(self.entries))
        padded = [*self.entries, *[None] * (n - len(self.entries))]
        return [i for i, (a, b) in enumerate(zip([*before, *[None] * (n - len(before))], padded)) if a is not b]

    def _restore(self, entries: list[Entry], done: bool, applied: list[Any], undone: list[Any]) -> None:
        self.entries, self.done, self._applied, self._undone = entries, done, applied, undone

    def _take(self, event: dict[str, Any]) -> None:
        op = event["op"]
        if op == "undo":
            if self._applied:
                self._undone.append(self._applied.pop())
                self._again()
        elif op == "redo":
            if self._undone:
                self._applied.append(self._undone.pop())
                self._apply(self._applied[-1])
        else:
            self._apply(event)
            self._applied.append(event)
            self._undone.clear()

    def _again(self) -> None:
        self.entries, self.done = list(self._candidates), False
        for event in self._applied:
            self._apply(event)

    def _apply(self, event: Mapping[str, Any]) -> None:
        op = event["op"]
        if op == "done":
            self.done = bool(event["value"])
        elif op == "add":
            entry = Entry(self._object(event["object"]), vector(event["at"]), None, "accepted", added=True)
            self.entries.append(self._signed(entry, event))
        elif op == "move":
            self._change([event["id"]], event, lambda e: _moved(e, vector(event["to"])))
        elif op == "set":
            state = event["state"]
            if state is not None and state not in STATES:
                raise SelectionError(f"no state '{state}'; there is {', '.join(STATES)}")
            self._change(event["ids"], event, lambda e: replace(e, state=state))
        elif op == "object":
            name = self._object(event["object"])
            self._change(event["ids"], event, lambda e: _renamed(e, name))
        elif op == "delete":
            # What the model found and is none teaches; what a person added by mistake does not.
            self._change(
                event["ids"], event, lambda e: replace(e, removed=True) if e.added else replace(e, state="rejected")
            )
        else:
            raise SelectionError(f"no event '{op}'")

    def _change(self, ids: Sequence[int], event: Mapping[str, Any], change: Any) -> None:
        for i in ids:
            if type(i) is not int or not 0 <= i < len(self.entries):
                raise SelectionError(f"run {self.run}: no pick {i}; there are {len(self.entries)}")
        for i in ids:
            self.entries[i] = self._signed(change(self.entries[i]), event)

    def _signed(self, entry: Entry, event: Mapping[str, Any]) -> Entry:
        return replace(entry, by=str(event.get("by", "")), when=str(event.get("when", "")))

    def _object(self, name: Any) -> str:
        if self.objects is not None and name not in self.objects:
            raise SelectionError(f"no object '{name}'; there is {', '.join(self.objects)}")
        return str(name)

    def state_of(self, entry: Entry, thresholds: Mapping[str, float]) -> str | None:
        """What an entry counts as: what a person said, or accepted where its score reaches the threshold."""
        if entry.removed:
            return None
        if entry.state is not None:
            return entry.state
        return "accepted" if (entry.score or 0.0) >= thresholds.get(entry.name, 0.0) else None

    def picks(self, state: str, thresholds: Mapping[str, float]) -> Picks:
        """The picks that count as `state`; rejected ones as what the model took them for, where it was mistaken.

        A pick that a person says is another object is also a rejected one of the object that it was taken for.
        """
        found = [e for e in self.entries if self.state_of(e, thresholds) == state]
        if state == "rejected":
            renamed = [e for e in self.entries if e.found_as and self.state_of(e, thresholds) != "rejected"]
            found += [
                replace(e, name=e.found_as or "", position=e.found_at or e.position) for e in renamed if not e.removed
            ]
        return picks_of(self.run, found)


def picks_of(run: str, entries: Sequence[Entry]) -> Picks:
    """The picks of a run, with their distances from masks, and rotations where any has one: of the others, none.

    The threshold that a pick was found with is left out: a table with it would not count what a person accepted below.
    """
    turns = None
    if any(e.turn for e in entries):
        turns = np.array([e.turn or np.eye(3).ravel() for e in entries]).reshape(-1, 3, 3)
    titles = dict.fromkeys(title for e in entries for title in e.distances)
    return Picks(
        run,
        np.array([e.position for e in entries], dtype=np.float64).reshape(-1, 3),
        np.array([e.name for e in entries], dtype=np.str_),
        np.array([1.0 if e.score is None else e.score for e in entries]),
        turns,
        {title: np.array([e.distances.get(title, np.nan) for e in entries]) for title in titles},
    )


def _found(picks: Picks) -> Iterator[Entry]:
    """Each pick as the model found it."""
    titles = [title for title in picks.columns if title.startswith(DISTANCE)]
    away = [dict(zip(titles, row)) for row in zip(*(picks.columns[title].tolist() for title in titles))]
    turns = None if picks.rotations is None else picks.rotations.reshape(-1, 9).tolist()
    for i, (name, at, score) in enumerate(zip(picks.names, picks.positions, picks.scores)):
        turn = None if turns is None else tuple(turns[i])
        yield Entry(str(name), vector(at), float(score), turn=turn, distances=away[i] if titles else {})


def vector(values: Any) -> tuple[float, float, float]:
    """Three finite numbers; raises `ValueError` or `TypeError` for what is none."""
    z, y, x = (float(v) for v in values)
    if not np.isfinite([z, y, x]).all():
        raise ValueError("a position that is no finite number")
    return z, y, x


def _moved(entry: Entry, to: tuple[float, float, float]) -> Entry:
    start = entry.found_at or (None if entry.added else entry.position)
    return replace(entry, position=to, found_at=start, state="accepted", turn=None, distances={})


def _renamed(entry: Entry, name: str) -> Entry:
    first = entry.found_as or (None if entry.added else entry.name)
    return replace(entry, name=name, found_as=None if first == name else first, state="accepted")


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a journal; a last line that was cut off in the middle is taken away."""
    if not path.is_file():
        return
    text = read_text(path, "a journal of curation: restore it or curate into a new folder")
    whole, _, rest = text.rpartition("\n")
    if rest:
        with atomic_write(path) as file:
            file.write(whole + "\n" if whole else "")
    for i, line in enumerate(whole.splitlines(), 1):
        try:
            event = parse_json(line)
        except ValueError:
            event = None
        if not isinstance(event, dict) or "op" not in event:
            raise ReadError(f"{path}: line {i} is no event; restore it or curate into a new folder")
        yield event


def write_events(path: Path, events: Sequence[Mapping[str, Any]]) -> None:
    """A new journal of events that happened elsewhere, whole or not at all."""
    with atomic_write(path) as file:
        file.write("".join(_as_line(event) for event in events))


def _as_line(event: Mapping[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":")) + "\n"


def _append(path: Path, event: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(_as_line(event))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check space and permissions"
        ) from None
