"""How far a batch is: read from the records and the list of runs, whoever is at work there and wherever."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from statistics import median

from ..core.errors import ReadError
from ..core.records import ENDING, FAILED, PICKED, RUNS, Records, expected

RECENT = 200  # runs that the rate is measured on
LOST_AFTER = 600.0  # [s] a run that was started so long ago, and several times longer than runs take, is silent
_PATIENCE = 5.0  # times as long as runs take


@dataclass(frozen=True)
class Standing:
    """How far a batch is.

    Attributes:
        picked: runs that are finished.
        failed: why, by run.
        running: when it was started [s since 1970], by run; not yet silent.
        silent: the same, of runs that were started so long ago that whoever did has probably ended.
        missing: runs that nobody has started.
        per_hour: runs picked lately; 0 where that cannot be told.
    """

    picked: tuple[str, ...]
    failed: Mapping[str, str]
    running: Mapping[str, float]
    silent: Mapping[str, float]
    missing: tuple[str, ...]
    per_hour: float

    @property
    def total(self) -> int:
        """How many runs there are."""
        return len(self.picked) + len(self.failed) + self.left

    @property
    def left(self) -> int:
        """Runs that are neither picked nor failed."""
        return len(self.running) + len(self.silent) + len(self.missing)

    @property
    def is_whole(self) -> bool:
        """Whether every run is picked."""
        return not self.left and not self.failed

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None where that cannot be told."""
        return self.left / self.per_hour * 3600 if self.left and self.per_hour else None


def records_at(out: Path) -> Path:
    """The folder of the records of what is picked into `out`.

    Raises:
        ReadError: there are none.
    """
    for folder in (out / "records", out):
        if (folder / RUNS).is_file() or any(folder.glob(f"*{ENDING}")):
            return folder
    raise ReadError(f"{out}: nothing was picked there; expected the folder that pick was given as `out`")


def standing(records: Records, now: float | None = None) -> Standing:
    """How far the batch of these records is."""
    now = time.time() if now is None else now
    wanted = {*expected(records.folder)}
    picked, failed, begun = {}, {}, {}
    seconds = []
    for run, record in records.each():
        wanted.add(run)
        if record["status"] == PICKED:
            picked[run] = record["time"]
            taken = record.get("seconds", 0.0)
            seconds.append(taken if isinstance(taken, float | int) and 0 <= taken < inf else 0.0)
        elif record["status"] == FAILED:
            failed[run] = str(record.get("message", ""))
        else:
            begun[run] = record["time"]
    takes = median(seconds) if seconds else 0.0
    patience = max(LOST_AFTER, _PATIENCE * takes)
    silent = {run: since for run, since in begun.items() if now - since > patience}
    return Standing(
        tuple(sorted(picked)),
        dict(sorted(failed.items())),
        {run: since for run, since in begun.items() if run not in silent},
        silent,
        tuple(sorted(wanted - {*picked, *failed, *begun})),
        _rate(list(picked.values()), now, patience),
    )


def reasons(failed: Mapping[str, str]) -> list[tuple[str, int, str]]:
    """Why runs failed, alike ones together, most frequent first: reason, number of runs, one of them."""
    kinds = {run: _kind(message, run) for run, message in failed.items()}
    numbers = Counter(kinds.values())
    examples = {kind: run for run, kind in reversed(kinds.items())}
    return [(failed[examples[kind]], n, examples[kind]) for kind, n in numbers.most_common()]


def _rate(times: Sequence[float], now: float, patience: float) -> float:
    """Runs an hour lately; 0 where nothing was finished for long."""
    recent = sorted(times)[-RECENT:]
    if len(recent) < 2 or now - recent[-1] > patience:
        return 0.0
    return 3600 * (len(recent) - 1) / max(now - recent[0], 1e-3)


def _kind(message: str, run: str) -> str:
    """A message without what differs from run to run."""
    return re.sub(r"\d+", "#", re.sub(rf"(?<!\w){re.escape(run)}(?!\w)", "RUN", message))
