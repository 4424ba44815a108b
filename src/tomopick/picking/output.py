"""Where the picks of a run go: whole or not at all, and never over what somebody else made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import OutputError
from ..core.files import hidden, remove, sweep
from ..core.names import component
from ..core.records import STARTED, Records
from ..core.types import Grid, Heatmap, PickableObject, Picks
from ..data import Project, write_mrc, write_picks_csv
from ..data.objects import write_objects


@dataclass(frozen=True)
class Output:
    """The picks of one run, `out/RUN.csv` or the project's own, and the record of how they were made.

    Attributes:
        project: the input; one that keeps picks takes them itself.
        run: its name.
        out: folder of RUN.csv, `heatmaps/` and `records/`; of the records alone where the project keeps the picks.
        records: of this and other runs.
        user_id, session_id: of picks in a project.
        objects: that are picked.
    """

    project: Project
    run: str
    out: Path
    records: Records
    user_id: str
    session_id: str
    objects: tuple[PickableObject, ...] = ()

    @property
    def _csv(self) -> Path:
        return self.out / f"{component(self.run, 'run')}.csv"

    @property
    def trace(self) -> Path:
        """Where it is told at length why the run failed, if that was nothing a user can cause."""
        return self.records.folder / f"{component(self.run, 'run')}.error.txt"

    def before(self) -> tuple[dict[str, Any], str]:
        """How the run was picked before, and the digest of what is there; of one moment, for others may be at it."""
        record = self.records.last(self.run)
        while True:
            # Whoever makes picks says so first, so that an unchanged record is of what was found.
            found, again = self.digest(), self.records.last(self.run)
            if again == record:
                return record, found
            record = again

    def digest(self) -> str:
        """Of the picks that are there; empty where there are none."""
        if not self.project.keeps_picks:
            return hashlib.sha256(self._csv.read_bytes()).hexdigest()[:16] if self._csv.is_file() else ""
        if not self.project.has_picks(self.run, self.user_id, self.session_id):
            return ""
        picks = self.project.picks(self.run, f"*:{self.user_id}/{self.session_id}")
        if picks is None:
            return ""
        stated = self.project.stated(picks)
        rows = zip(stated.names.tolist(), np.round(stated.positions, 2).tolist(), np.round(stated.scores, 4).tolist())
        return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()[:16]

    def check_ours(self, record: Mapping[str, Any], found: str, place: str) -> bool:
        """Whether there are picks, made by us from the input at `place`; `record` and `found` as from `before`.

        Raises:
            OutputError: there are picks that the record does not account for, or it is of another input.
        """
        # Where a project keeps the picks, the record is all that tells ours from others', so it is not given up.
        there = record.get("place", place)
        if there != place and (found or self.project.keeps_picks):
            raise OutputError(
                f"run {self.run}: {self.records.folder} knows it of {there}, but the input is {place}: runs of one "
                "name need folders of their own; name another with `out`, or replace what is there with `overwrite`"
            )
        if not found:
            return False
        # A run that was cut off may have left its picks without saying so.
        other = self._is_of_other_picks(record)
        if not other and (record.get("status") == STARTED or record.get("output") == found):
            return True
        where = f"picks of {self.user_id}/{self.session_id} in {self.project.uri}"
        held = where if self.project.keeps_picks else str(self._csv)
        edited = bool(record) and not other
        what = "were edited since tomopick made them" if edited else f"are not known to {self.records.folder}"
        raise OutputError(
            f"run {self.run}: {held}: there are picks that {what}; name another place (`out`, `session_id`), "
            "or replace them with `overwrite`"
        )

    def owner(self) -> dict[str, str]:
        """Whose the picks are, as records have it."""
        return {"user_id": self.user_id, "session_id": self.session_id}

    def _is_of_other_picks(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is of picks of another user or session in the same project, and tells nothing of these."""
        made = record.get("settings", {})
        return self.project.keeps_picks and any(made.get(key, mine) != mine for key, mine in self.owner().items())

    def write_picks(self, picks: Picks) -> None:
        """Writes the picks, in place of those that are there."""
        if self.project.keeps_picks:
            self.project.write_picks(picks, self.user_id, self.session_id)
        else:
            write_picks_csv(self._csv, self.project.stated(picks))
            write_objects(self.out / "objects.json", self.objects)


def records_of(project: Project, out: Path) -> Records:
    """The records of what is picked into `out`: apart from the tables where these are there too."""
    return Records(out if project.keeps_picks else out / "records")


class HeatmapFiles:
    """Strips of heatmap -> `heatmaps/RUN_OBJECT_heatmap.mrc`, one an object, on the heatmap's own grid.

    In the folder of the tables they would be taken for tomograms, and the tables not for picks.

    Strips go to disk as they come, so that no more than one object's volume is ever in memory.
    """

    def __init__(self, output: Output) -> None:
        self._out, self._run = output.out, output.run
        self._objects = [o.name for o in output.objects]
        self._part = hidden(output.out / f"{component(output.run, 'run')}.heatmaps")
        self._first: Heatmap | None = None
        self._rows = 0

    def __enter__(self) -> HeatmapFiles:
        return self

    def __exit__(self, *_: object) -> None:
        remove(self._part)

    def add(self, strip: Heatmap) -> None:
        """Takes the next strip.

        Raises:
            OutputError: the disk refuses.
        """
        try:
            if self._first is None:
                self._part.mkdir(parents=True, exist_ok=True)
                sweep(self._out)
            for channel, values in enumerate(strip.values):
                with (self._part / str(channel)).open("ab") as file:
                    # Rows of y first: the next strip goes on behind them.
                    file.write(np.ascontiguousarray(values.transpose(1, 0, 2), dtype=np.float32).tobytes())
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"{self._out}: heatmaps cannot be written ({reason}); make room") from None
        self._first = self._first or strip
        self._rows += strip.grid.shape[1]

    def finish(self) -> None:
        """Puts the volumes in their places, where there were any strips."""
        if self._first is None:
            return
        z, _, x = self._first.grid.shape
        grid = Grid((z, self._rows, x), self._first.grid.voxel_spacing, self._first.grid.origin)
        for channel, name in enumerate(self._first.objects):
            values = np.memmap(self._part / str(channel), dtype=np.float32, mode="r", shape=(self._rows, z, x))
            write_mrc(self._path(name), values.transpose(1, 0, 2), grid)

    def remove_others(self) -> None:
        """Where there were no strips: heatmaps of picks that were there before, or of a process that was killed."""
        for name in self._objects if self._first is None else ():
            with suppress(OSError):
                self._path(name).unlink()

    def _path(self, name: str) -> Path:
        return self._out / "heatmaps" / f"{self._run}_{component(name, 'object')}_heatmap.mrc"
