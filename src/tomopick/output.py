"""Where the picks of a run go: whole or not at all, and never over what somebody else made."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import OutputError
from .io import CopickProject, Project, atomic_write, write_mrc, write_picks_csv
from .types import Heatmap, Picks


@dataclass(frozen=True)
class Output:
    """The picks of one run, `out/RUN.csv` or a copick project's own, and the record of how they were made.

    Attributes:
        project: the input; a copick project takes its picks itself.
        run: its name.
        out: folder of RUN.csv, heatmaps and `records/`.
        user_id, session_id: of picks in a copick project.
    """

    project: Project
    run: str
    out: Path
    user_id: str
    session_id: str

    @property
    def _csv(self) -> Path:
        return self.out / f"{self.run}.csv"

    def record(self) -> dict[str, Any]:
        """How the run was picked before; empty where it was not."""
        try:
            data = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def write_record(self, data: Mapping[str, Any]) -> None:
        """Replaces the record."""
        with atomic_write(self._record) as file:
            file.write(json.dumps(data, indent=1))

    @property
    def _record(self) -> Path:
        return self.out / "records" / f"{self.run}.json"

    def digest(self) -> str:
        """Of the picks that are there; empty where there are none."""
        if not isinstance(self.project, CopickProject):
            return hashlib.sha256(self._csv.read_bytes()).hexdigest()[:16] if self._csv.is_file() else ""
        if not self.project.has_picks(self.run, self.user_id, self.session_id):
            return ""
        picks = self.project.picks(self.run, f"*:{self.user_id}/{self.session_id}")
        assert picks is not None
        stated = self.project.stated(picks)
        rows = zip(stated.names.tolist(), np.round(stated.positions, 2).tolist(), np.round(stated.scores, 4).tolist())
        return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()[:16]

    def check_ours(self, record: Mapping[str, Any]) -> bool:
        """Whether there are picks, made by us.

        Raises:
            OutputError: there are picks that the record does not account for.
        """
        found = self.digest()
        if not found:
            return False
        # A run that was cut off may have left its picks without saying so.
        if record.get("status") == "started" or record.get("output") == found:
            return True
        where = f"picks of {self.user_id}/{self.session_id} in {self.project.uri}"
        place = where if isinstance(self.project, CopickProject) else str(self._csv)
        what = "were edited since tomopick made them" if record else f"are not known to {self._record.parent}"
        raise OutputError(
            f"run {self.run}: {place}: there are picks that {what}; name another place (--out, --session-id), "
            "or replace them with --overwrite"
        )

    def write_picks(self, picks: Picks) -> None:
        """Writes the picks, in place of those that are there."""
        if isinstance(self.project, CopickProject):
            self.project.write_picks(picks, self.user_id, self.session_id)
        else:
            write_picks_csv(self._csv, self.project.stated(picks))


class HeatmapFiles:
    """Strips of heatmap -> `RUN_OBJECT_heatmap.mrc`, one an object, on the heatmap's own grid.

    Strips go to disk as they come, so that no more than one object's volume is ever in memory.
    """

    def __init__(self, output: Output) -> None:
        self._out, self._run = output.out, output.run
        self._part = output.out / f".{output.run}.{uuid.uuid4().hex[:8]}.heatmaps"
        self._first: Heatmap | None = None
        self._rows = 0

    def __enter__(self) -> HeatmapFiles:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._part, ignore_errors=True)

    def add(self, strip: Heatmap) -> None:
        """Takes the next strip.

        Raises:
            OutputError: the disk refuses.
        """
        try:
            self._part.mkdir(parents=True, exist_ok=True)
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
        for channel, name in enumerate(self._first.objects):
            values = np.memmap(self._part / str(channel), dtype=np.float32, mode="r", shape=(self._rows, z, x))
            spacing = self._first.grid.voxel_spacing
            write_mrc(self._out / f"{self._run}_{name}_heatmap.mrc", values.transpose(1, 0, 2), spacing)
