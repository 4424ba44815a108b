"""All runs of a curation: their picks, what was decided, and what is written of it."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import OutputError, ReadError, SelectionError
from ...core.files import atomic_write
from ...core.names import component
from ...core.text import read_json
from ...core.types import PickableObject, Picks
from ...data import Project
from ...data.choose import require_id
from ...data.labelled import REJECTED
from ...data.objects import write_objects
from ...data.tables import read_picks_csv, write_picks_csv
from ...picking.session import holder_of, reserve, reserved_session
from .decided import events_of, with_decided
from .folder import RECORD, TABLES, folder_lock, link_volume
from .journal import STATES, Entry, Journal, vector, write_events

DOUBTFUL = 0.15  # a score this near to its threshold is in doubt
UNSURE = "-unsure"  # behind the session of the accepted ones, in a copick project
_PROVENANCE = (
    "pick", "object", "x", "y", "z", "score", "state", "decided", "origin", "found_as", "found_x", "found_y", "found_z",
    "by", "when",
)  # fmt: skip


@dataclass(frozen=True)
class Sitting:
    """What is curated, and for whom.

    Attributes:
        project: with the tomograms.
        picks: by run.
        truth: by run, where there is any.
        objects: that picks may have, with radii.
        thresholds: by object, from which on an undecided pick counts as accepted.
        tomo_type: `TYPE[@spacing]`.
        user_id: who decides.
        session_id: of the accepted picks in a copick project; None: the next that is free.
        decided: by run, what was said in an earlier curation and need not be said again.
    """

    project: Project
    picks: Mapping[str, Picks]
    truth: Mapping[str, Picks]
    objects: tuple[PickableObject, ...]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    tomo_type: str | None = None
    user_id: str = "curator"
    session_id: str | None = None
    decided: Mapping[str, Sequence[Entry]] = field(default_factory=dict)


class Desk:
    """The picks of all runs while they are curated; one process holds it, several threads may ask.

    Args:
        sitting: what is curated.
        out: folder of the journals, and of the tables where the project keeps no picks. Begun before: goes on there.

    Raises:
        OutputError: another process holds the folder, it cannot be written, or it was begun by another user.
        ReadError: what lies there cannot be read.
    """

    def __init__(self, sitting: Sitting, out: Path) -> None:
        self.sitting, self.out = sitting, out
        self._journals: dict[str, Journal] = {}
        self._written: dict[str, dict[str, Picks]] = {}
        self._listed: set[str] = set()  # objects that were put beside the tables
        self._lines: dict[str, list[tuple[Entry, str, str]]] = {}  # of provenance, by run
        self._lock = threading.RLock()
        self._claim = folder_lock(out)
        self.session_id, self._is_kept = "", True
        self.thresholds = {o.name: float(sitting.thresholds.get(o.name, 0.0)) for o in sitting.objects}
        try:
            self._open_record()
            for run in sitting.decided:
                if not self._path("candidates", run, ".csv").is_file():
                    self.journal(run)
                    self._write(run)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the folder."""
        self._claim.close()

    def runs(self) -> list[str]:
        """Those with picks, sorted."""
        return sorted(self.sitting.picks)

    def journal(self, run: str) -> Journal:
        """The decisions on one run.

        Raises:
            SelectionError: no such run.
        """
        with self._lock:
            if run not in self.sitting.picks:
                raise SelectionError(f"no run '{run}' is curated here")
            if run not in self._journals:
                names = [o.name for o in self.sitting.objects]
                candidates = self._candidates(run)
                self._journals[run] = Journal(self._path("journal", run, ".jsonl"), candidates, names)
            return self._journals[run]

    def act(self, run: str, event: Mapping[str, Any]) -> list[int]:
        """Carries out an event on a run and writes what follows from it; gives the numbers of changed picks."""
        if event.get("op") in ("add", "move"):
            self.place(run, event.get("at" if event["op"] == "add" else "to"))
        with self._lock:
            changed = self.journal(run).act(event, self.sitting.user_id, _now())
            self._write(run)
            return changed

    def place(self, run: str, at: Any) -> tuple[float, float, float]:
        """A position that a particle of a run may have, zyx [Å].

        Raises:
            SelectionError: no such run, no position, or one outside of its tomogram.
        """
        if run not in self.sitting.picks:
            raise SelectionError(f"no run '{run}' is curated here")
        try:
            found = vector(at)
        except (TypeError, ValueError, OverflowError):
            raise SelectionError(f"run {run}: a position that is not understood; expected z, y, x in Å") from None
        if not self.sitting.project.grid(run, self.sitting.tomo_type).contains(np.array([found]))[0]:
            there = ", ".join(f"{v:.4g}" for v in found)
            raise SelectionError(f"run {run}: z, y, x = {there} Å lies outside of the tomogram; choose a place in it")
        return found

    def set_thresholds(self, thresholds: Mapping[str, float]) -> None:
        """Undecided picks of the runs that were looked at count by these from now on.

        Raises:
            SelectionError: an unknown object, or a threshold that is no score.
        """
        for name, value in thresholds.items():
            if name not in self.thresholds or not 0 <= float(value) <= 1:
                raise SelectionError(f"threshold {name}={value}: expected an object of this curation and 0 to 1")
        with self._lock:
            self.thresholds |= {k: float(v) for k, v in thresholds.items()}
            self._write_record()
            for run in self.runs():
                if self._touched(run):
                    self.journal(run)
                    self._write(run)

    def overview(self) -> list[dict[str, Any]]:
        """One line a run, the most doubtful first: how many picks are kept, in doubt and decided, and whether done."""
        return sorted((self._line(run) for run in self.runs()), key=lambda line: (-line["doubt"], line["run"]))

    def _line(self, run: str) -> dict[str, Any]:
        if not self._touched(run):  # then the picks themselves say it all, and no journal need be opened
            picks = self.sitting.picks[run]
            cuts = np.array([self.thresholds.get(n, 0.0) for n in picks.names.tolist()])
            doubt = int((np.abs(picks.scores - cuts) < DOUBTFUL).sum())
            return {"run": run, "n": len(picks), "kept": int((picks.scores >= cuts).sum()), "doubt": doubt,
                    "decided": 0, "done": False}  # fmt: skip
        journal = self.journal(run)
        there = [e for e in journal.entries if not e.removed]
        kept = sum(journal.state_of(e, self.thresholds) == "accepted" for e in there)
        open_ = [abs((e.score or 0.0) - self.thresholds.get(e.name, 0.0)) for e in there if e.state is None]
        return {"run": run, "n": len(there), "kept": kept, "doubt": sum(d < DOUBTFUL for d in open_),
                "decided": len(there) - len(open_), "done": journal.done}  # fmt: skip

    def _touched(self, run: str) -> bool:
        return run in self._journals or self._path("journal", run, ".jsonl").is_file()

    def _candidates(self, run: str) -> Picks:
        """The picks as they were when the run was first opened here: what is written down counts in their order."""
        kept = self._path("candidates", run, ".csv")
        if kept.is_file():
            found = read_picks_csv(kept)
            return Picks.join(run, [found[""]]) if "" in found else Picks.empty(run)
        picks = self.sitting.picks[run]
        picks = picks.among([o.name for o in self.sitting.objects])
        if entries := self.sitting.decided.get(run, ()):
            picks = with_decided(picks, entries, self.sitting.objects)
            # Before the candidates, which say that the run was opened: one without the other is made anew.
            write_events(self._path("journal", run, ".jsonl"), events_of(entries, len(picks)))
        write_picks_csv(kept, picks)
        return Picks.join(run, read_picks_csv(kept).values())  # as it will be read again, to the last digit

    def _path(self, folder: str, run: str, ending: str) -> Path:
        return self.out / folder / f"{component(run, 'run')}{ending}"

    def _write(self, run: str) -> None:
        """The picks by state, where training and every other verb look for them, and who decided what.

        What is on disk as it is to be is left there: of 10^4 picks most are not touched by an event.
        """
        journal, project = self.journal(run), self.sitting.project
        written = self._written.setdefault(run, {})
        found = {state: journal.picks(state, self.thresholds) for state in STATES}
        new = {state: picks for state, picks in found.items() if not _same(picks, written.get(state))}
        if project.keeps_picks:
            self._require_own_session()
            ends = {"accepted": "", "rejected": REJECTED, "unsure": UNSURE}
            for state, picks in new.items():
                session = self.session_id + ends[state]
                if len(picks) or state == "accepted" or project.has_picks(run, self.sitting.user_id, session):
                    project.write_picks(picks, self.sitting.user_id, session)
        else:
            for state, picks in new.items():
                path = self.out / f"{run}{TABLES[state]}"
                if len(picks) or state == "accepted" or path.exists():
                    write_picks_csv(path, project.stated(picks))
            link_volume(self.out, project, run, self.sitting.tomo_type)
            self._list(found["accepted"])
        written |= new
        self._write_provenance(journal)

    def _list(self, picks: Picks) -> None:
        """Objects that picks are of, beside the tables, so that whoever trains on them knows their radii."""
        names = set(picks.names.tolist()) - self._listed
        if names:
            write_objects(self.out / "objects.json", [o for o in self.sitting.objects if o.name in names])
            self._listed |= names

    def _write_provenance(self, journal: Journal) -> None:
        known = self._lines.setdefault(journal.run, [])
        for i, e in enumerate(journal.entries):
            state = "removed" if e.removed else journal.state_of(e, self.thresholds) or "below threshold"
            if i == len(known):
                known.append((e, state, _provenance(i, e, state)))
            elif known[i][0] is not e or known[i][1] != state:
                known[i] = e, state, _provenance(i, e, state)
        del known[len(journal.entries) :]
        with atomic_write(self._path("provenance", journal.run, ".csv")) as file:
            file.write(_line(_PROVENANCE) + "".join(line for _, _, line in known))

    def _open_record(self) -> None:
        path, sitting = self.out / RECORD, self.sitting
        require_id(sitting.user_id, "user")
        if path.is_file():
            try:
                record = read_json(path, "a record of a curation")
                user, session, cuts = str(record["user_id"]), str(record["session_id"]), dict(record["thresholds"])
                self._is_kept = bool(record.get("session_is_kept", True))
            except (ReadError, ValueError, KeyError, TypeError) as error:
                raise ReadError(f"{path}: no record of a curation ({error!r}); choose a new folder") from None
            if user != sitting.user_id:
                raise OutputError(
                    f"{self.out}: a curation by '{user}'; you are '{sitting.user_id}': choose a folder of your own"
                )
            if sitting.session_id not in (None, session):
                raise OutputError(f"{self.out}: a curation of session '{session}'; choose another folder for another")
            self.session_id = session
            self.thresholds |= {k: float(v) for k, v in cuts.items() if k in self.thresholds}
            return
        self._choose_session()
        self._write_record()

    def _choose_session(self) -> None:
        """The session that was asked for, or the next that is free; kept for this folder where the project can be."""
        project, user = self.sitting.project, self.sitting.user_id
        asked = self.sitting.session_id
        if asked is None:
            self.session_id, self._is_kept = reserved_session(project, self.out, user, (REJECTED, UNSURE))
            return
        require_id(asked, "session")
        self.session_id = asked
        holder, taken = holder_of(project, user, asked), _taken(self.sitting, asked)
        if taken or holder not in ("", str(self.out.resolve())):
            what = f"there are picks of {user}/{asked} already" if taken else f"{user}/{asked} is kept for {holder}"
            raise OutputError(f"{project.uri}: {what}; choose another session, or none for the next that is free")
        self._is_kept = not project.keeps_picks or bool(reserve(project, self.out, user, asked))

    def _require_own_session(self) -> None:
        """Before the first picks are written: where a session could not be kept, another may have been quicker.

        Raises:
            OutputError: another was, and the session was asked for; else there is a next one.
        """
        if self._is_kept:
            return
        while _taken(self.sitting, self.session_id):
            before = self.session_id
            self._choose_session()  # says it where that one was asked for
            if self.session_id == before:
                raise OutputError(f"{self.sitting.project.uri}: no session of {self.sitting.user_id} is free")
        self._is_kept = True
        self._write_record()

    def _write_record(self) -> None:
        record: dict[str, Any] = {
            "user_id": self.sitting.user_id,
            "session_id": self.session_id,
            "thresholds": self.thresholds,
            "radii": {o.name: o.radius for o in self.sitting.objects},
        }
        record |= {} if self._is_kept else {"session_is_kept": False}
        with atomic_write(self.out / RECORD) as file:
            file.write(json.dumps({**record, "project": self.sitting.project.uri}, indent=1))


def _taken(sitting: Sitting, session: str) -> bool:
    project, ends = sitting.project, ("", REJECTED, UNSURE)
    return project.keeps_picks and any(
        project.has_picks(run, sitting.user_id, session + end) for run in sitting.picks for end in ends
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _same(picks: Picks, other: Picks | None) -> bool:
    if other is None or (picks.rotations is None) != (other.rotations is None) or [*picks.columns] != [*other.columns]:
        return False
    numbers = [(picks.positions, other.positions), (picks.scores, other.scores)]
    numbers += [(picks.columns[title], other.columns[title]) for title in picks.columns]
    if picks.rotations is not None and other.rotations is not None:
        numbers.append((picks.rotations, other.rotations))
    same = np.array_equal(picks.names, other.names)
    return same and all(np.array_equal(a, b, equal_nan=True) for a, b in numbers)


def _provenance(i: int, e: Entry, state: str) -> str:
    """The line of pick `i`."""
    z, y, x = e.position
    before = ["", "", ""] if e.found_at is None else [f"{v:.3f}" for v in e.found_at[::-1]]
    return _line(
        [i, e.name, f"{x:.3f}", f"{y:.3f}", f"{z:.3f}", "" if e.score is None else f"{e.score:.6g}", state,
         "yes" if e.state else "no", "added" if e.added else "moved" if e.found_at else "model",
         e.found_as or "", *before, e.by, e.when]
    )  # fmt: skip


def _line(values: Sequence[Any]) -> str:
    file = io.StringIO()
    csv.writer(file).writerow(values)
    return file.getvalue()


PICK_FIELDS = ("object", "z", "y", "x", "score", "state", "origin", "was")  # of a pick, as the page has it


def rows_of(journal: Journal, names: Sequence[str], numbers: Sequence[int] | None = None) -> list[tuple[Any, ...]]:
    """`PICK_FIELDS` of picks: object number, z, y, x [Å], score, what a person said, flags; `numbers` None: of all."""
    place = {name: i for i, name in enumerate(names)}
    entries = journal.entries if numbers is None else [journal.entries[i] for i in numbers]
    return [
        (place[e.name], *e.position, e.score, "removed" if e.removed else e.state,
         "added" if e.added else "moved" if e.found_at else "", e.found_as)
        for e in entries
    ]  # fmt: skip
