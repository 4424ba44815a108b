"""Outputs appear whole or not at all: written beside their place under a hidden name, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import OutputError
from .owners import CLAIM, OLD, Owner, host

# .NAME.HOST-PID-RANDOM.part; without host and process as older versions named it.
_HIDDEN = re.compile(r"\..+\.(?:(?P<host>[A-Za-z0-9-]+)-(?P<pid>\d+)-)?[0-9a-f]{8}\.(?:part|heatmaps)")
_LONGEST = 150  # bytes of a file's name that its hidden name repeats; file systems end at 255

_mine: set[str] = set()  # hidden names of this process that are being written
_swept: set[tuple[int, str]] = set()  # folders that this process has cleared of what others left


@contextmanager
def atomic_write(path: str | Path, binary: bool = False) -> Iterator[IO[Any]]:
    """A file open for writing (UTF-8 text unless `binary`) that takes its place at `path` when the block ends well.

    If the block fails, what was at `path` before is untouched and nothing is left behind.

    Raises:
        OutputError: the folder or the file cannot be written (no permission, disk full, a folder in its place).
    """
    path = Path(path)
    with _saying(path), _part_of(path) as part:
        # Not tempfile: its files are private to the user (0600), and projects are shared.
        with part.open("xb") if binary else part.open("x", encoding="utf-8", newline="") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
        _settle(path.parent)


def write_together(files: Mapping[Path, str | bytes | Iterable[str]]) -> None:
    """Writes files that belong together: all are on disk, and closed, before the first takes its place.

    Args:
        files: what each is to hold; what is large may come in pieces.

    Raises:
        OutputError: as `atomic_write`; then none has changed, unless a rename itself failed.
    """
    parts: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            parts[path] = part = hidden(path)
            with _saying(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                sweep(path.parent)
                if path.is_dir():  # the one place that a rename does not take, found before the first
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                with part.open("xb") as handle:
                    for piece in [data] if isinstance(data, str | bytes) else data:
                        handle.write(piece.encode() if isinstance(piece, str) else piece)
                    handle.flush()
                    os.fsync(handle.fileno())
        for path, part in parts.items():
            with _saying(path):
                os.replace(part, path)
        for folder in {path.parent for path in files}:
            _settle(folder)
    finally:
        for part in parts.values():
            remove(part)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder that takes its place at `path` when the block ends well, and goes when it does not.

    Raises:
        OutputError: `path` exists already and is no empty folder, or cannot be written.
    """
    path = Path(path)
    require_new(path)
    with _saying(path), _part_of(path) as part:
        part.mkdir()
        yield part
        flush(part)
        if path.is_dir():
            path.rmdir()  # an empty one, over which not every system renames
        os.rename(part, path)
        _settle(path.parent)


def require_writable(path: str | Path) -> None:
    """Raises `OutputError` where nothing can be written under a name; for who would find out after hours of work."""
    path = Path(path)
    there = next((p for p in (path, *path.absolute().parents) if os.path.lexists(p)), path)
    if there.is_file() and there == path:
        there = path.absolute().parent  # a file is replaced by another in its folder
    if not there.is_dir():
        raise OutputError(f"{path}: cannot be written ({there} is no folder); choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written (no permission for {there}); check it, or choose another place")


def require_new(path: str | Path) -> None:
    """Raises `OutputError` where there is something already; for who would find out after hours of work."""
    if not is_vacant(path):
        raise OutputError(f"{path}: exists already; expected a new name, so remove it or choose another")


def is_vacant(path: str | Path) -> bool:
    """Whether there is nothing, or a folder that holds nothing but what a killed process of ours left in it."""
    path = Path(path)
    if path.is_dir():
        sweep(path, again=True)
        return not any(entry.name != CLAIM for entry in path.iterdir())
    return not (path.exists() or path.is_symlink())


def hidden(path: Path) -> Path:
    """A new name beside `path` that nothing lists, signed by this process; `remove` ends it."""
    path = path.absolute()
    name = path.name.encode("utf-8", "surrogateescape")[:_LONGEST].decode("utf-8", "ignore")
    part = path.with_name(f".{name}.{host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    _mine.add(part.name)
    return part


def remove(part: Path) -> None:
    """Removes a file or folder that `hidden` named, if it is there."""
    _clear(part)
    _mine.discard(part.name)


def sweep(folder: Path, again: bool = False) -> None:
    """Removes what processes that were killed left in a folder under hidden names; once a process and folder.

    Args:
        folder: to look through.
        again: even if this process has done so before.
    """
    key = os.getpid(), os.path.abspath(folder)
    if key in _swept and not again:
        return
    _swept.add(key)
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = _HIDDEN.fullmatch(entry.name)
            if found and entry.name not in _mine and _is_left(found, entry):
                _clear(Path(entry.path))


def _is_left(found: re.Match[str], entry: os.DirEntry[str]) -> bool:
    silent_for = time.time() - entry.stat(follow_symlinks=False).st_mtime
    if found["pid"] is None:
        return silent_for > OLD
    owner = Owner(found["host"], int(found["pid"]), began="", since=0.0)
    # A container's processes all have the same numbers: what has ours and is not in writing is a predecessor's.
    return (owner.host, owner.pid) == (host(), os.getpid()) or owner.is_gone(silent_for, OLD)


def flush(folder: Path) -> None:
    """Files of a folder and of those in it reach the disk before it is renamed; else a power cut leaves empty ones."""
    for place, _, names in os.walk(folder):
        for name in names:
            _settle(Path(place) / name)
        _settle(Path(place))


def _settle(path: Path) -> None:
    """What a file or folder holds reaches the disk; where a system cannot do that, it is as it was before."""
    if path.is_dir() and sys.platform == "win32":
        return
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """A hidden name in the folder of `path`, which is made and cleared; whatever is left there goes."""
    part = hidden(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        yield part
    finally:
        remove(part)


@contextmanager
def _saying(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check space and permissions"
        ) from None


def _clear(part: Path) -> None:
    # A clean-up that fails must not hide why the writing failed.
    with suppress(OSError):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
