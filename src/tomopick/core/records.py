"""What became of each run, as JSON lines: many processes write at once, each into a file of its own, and read all.

One file a run would make a folder of 10^5 that nothing can look through; one file for all would be written by several
machines at once, which network file systems mix up.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Final, Literal

from .errors import OutputError, ReadError
from .files import atomic_write
from .owners import host
from .reading import parse_json
from .text import read_text

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ENDING = ".records.jsonl"
RUNS = "runs.txt"  # beside them: what is to be picked, a run a line
Status = Literal["started", "picked", "failed"]
STARTED: Final = "started"
PICKED: Final = "picked"
FAILED: Final = "failed"
_LAST = 1e11  # [s since 1970] that a clock can show


_HEAD = re.compile(rb'\{"run": ("(?:[^"\\]|\\.)*"), "status": "(\w+)", "time": (\d+(?:\.\d+)?)[,}]')


class Records:
    """The records of a folder; use it with `with` where it is written to.

    A line is written whole and reaches the disk before `write` returns. What a killed process left of one is passed
    over.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._files: dict[str, int] = {}  # bytes read of each
        self._made: dict[str, bytes] = {}  # last line of a run that is started or picked
        self._failed: dict[str, bytes] = {}  # and of one that failed since
        self._lock = Lock()
        self._handle: int | None = None

    def __enter__(self) -> Records:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Gives the file up that this process writes to, if it has written anything."""
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None

    def last(self, run: str) -> dict[str, Any]:
        """How a run was started or picked last, by whatever process; empty where it was not."""
        with self._lock:
            self._read()
            return _entry(self._made.get(run, b""))

    def failure(self, run: str) -> dict[str, Any]:
        """How a run failed since; empty where it did not."""
        with self._lock:
            self._read()
            return _entry(self._failed.get(run, b""))

    def runs(self) -> dict[str, dict[str, Any]]:
        """The last record of every run."""
        return dict(self.each())

    def each(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The same one by one: those of many runs need much more memory than their lines do."""
        with self._lock:
            self._read()
            lines = self._made | self._failed
        for run, line in lines.items():
            if entry := _entry(line):
                yield run, entry

    def write(self, run: str, status: Status, facts: Mapping[str, Any]) -> None:
        """Adds a record.

        Raises:
            OutputError: the folder or the file cannot be written (no permission, disk full).
        """
        line = json.dumps({"run": run, "status": status, "time": round(time.time(), 3), **facts}).encode() + b"\n"
        with self._lock:
            try:
                _append(self._opened(), line)
            except OSError as error:
                reason = error.strerror or error
                raise OutputError(
                    f"{self.folder}: records cannot be written ({reason}); check space and permissions"
                ) from None

    def _opened(self) -> int:
        """This process's own file: one of this machine that no living process has, so that there are never many."""
        if self._handle is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._handle = _own_file(self.folder)
        return self._handle

    def _read(self) -> None:
        """What was added since the last time."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob(f"*{ENDING}")):
            begin = self._files.get(path.name, 0)
            with suppress(OSError):
                size = path.stat().st_size
                if size < begin:  # replaced: begins anew
                    begin = 0
                if size > begin:
                    with path.open("rb") as file:
                        file.seek(begin)
                        data = file.read(size - begin)
                    whole = data.rfind(b"\n") + 1
                    self._files[path.name] = begin + whole
                    for line in data[:whole].splitlines():
                        self._take(line)

    def _take(self, line: bytes) -> None:
        run, status, at = _head(line)
        if at < max(_time(self._made.get(run)), _time(self._failed.get(run))):
            return
        if status not in (STARTED, PICKED, FAILED) or at >= _LAST:
            return
        self._failed.pop(run, None)
        (self._failed if status == FAILED else self._made)[run] = line


def expect(folder: Path, runs: Iterable[str]) -> None:
    """Notes beside the records which runs are to be picked; those that were noted before stay."""
    before = expected(folder)
    wanted = sorted({*before, *runs})
    if wanted != before:
        with atomic_write(folder / RUNS) as file:
            file.write("".join(f"{run}\n" for run in wanted))


def expected(folder: Path) -> list[str]:
    """The runs that were noted, sorted; none where nothing was.

    Raises:
        ReadError: the list is there and cannot be read.
    """
    try:
        return sorted(set(read_text(folder / RUNS, "a run's name a line").splitlines()))
    except ReadError:
        if (folder / RUNS).exists():
            raise
        return []


def _own_file(folder: Path) -> int:
    """Opens the first file of this machine that no living process writes to; it is this one's as long as it lives.

    The lock need only hold on this machine, whose name is in the file's: network file systems often can no more. Where
    there are no locks at all, the process's number takes their place.
    """
    how = os.O_CREAT | os.O_RDWR | os.O_APPEND
    for number in count(1) if fcntl is not None else ():
        handle = os.open(folder / f"{host()}-{number}{ENDING}", how, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            os.close(handle)
        except OSError:
            os.close(handle)
            break
    return os.open(folder / f"{host()}-process{os.getpid()}{ENDING}", how, 0o666)


def _append(handle: int, line: bytes) -> None:
    """Adds a line that reaches the disk whole, or nothing."""
    size = os.fstat(handle).st_size
    os.lseek(handle, max(0, size - 1), os.SEEK_SET)
    if os.read(handle, 1) not in (b"", b"\n"):  # a process was killed while it wrote here
        line = b"\n" + line
    try:
        if os.write(handle, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    except OSError:
        with suppress(OSError):
            os.ftruncate(handle, size)
        raise


def _entry(line: bytes) -> dict[str, Any]:
    """A line's record; empty where it is none."""
    try:
        entry = parse_json(line)
    except ValueError:  # cut off
        return {}
    return entry if isinstance(entry, dict) and _is_record(entry) else {}


def _is_record(entry: Mapping[str, Any]) -> bool:
    """Whether a record's own entries are of their types; the facts beside them are those of whoever asks."""
    at = entry.get("time")
    timed = isinstance(at, float | int) and not isinstance(at, bool) and 0 <= at < _LAST
    return timed and isinstance(entry.get("run"), str) and entry.get("status") in (STARTED, PICKED, FAILED)


def _head(line: bytes) -> tuple[str, str, float]:
    """Run, status and time; no status where it is no record. As `write` writes it, it need not all be parsed."""
    found = _HEAD.match(line)
    if found and line.endswith(b"}") and line.count(b"{") == line.count(b"}"):
        with suppress(ValueError):
            return parse_json(found[1]), found[2].decode(), float(found[3])
    entry = _entry(line)
    return (entry["run"], entry["status"], entry["time"]) if entry else ("", "", 0.0)


def _time(line: bytes | None) -> float:
    return _head(line)[2] if line else 0.0
