"""One process at a time works in a folder: it claims the folder as soon as it looks at it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

from .errors import OutputError, ReadError
from .owners import CLAIM, SILENT, Owner
from .reading import parse_json
from .text import read_text

RENEWED = 60.0  # seconds between signs of life, for processes on other machines

_held: dict[str, int] = {}  # folders that this process has claimed, and which process that was


@contextmanager
def claimed(folder: str | Path) -> Iterator[None]:
    """The folder is this process's while the block runs; it is made if need be, and goes again if it stays empty.

    A claim within a claim of the same process is none. The claim of a process that has ended, or on another machine
    has given no sign of life for ten minutes, is taken over.

    Raises:
        OutputError: another process works in it, or it cannot be written.
    """
    path = Path(folder).absolute()
    if _held.get(str(path)) == os.getpid():
        yield
        return
    made = [place for place in (path, *path.parents) if not place.exists()]
    claim, ended = path / CLAIM, threading.Event()
    try:
        path.mkdir(parents=True, exist_ok=True)
        owner = _take(claim)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{folder}: cannot be written ({reason}); check space and permissions") from None
    if owner is not None:
        raise OutputError(
            f"{folder}: exists already, and another process works in it ({owner}); wait for its end, or name another"
        )
    _held[str(path)] = os.getpid()
    threading.Thread(target=_renew, args=(claim, ended), daemon=True, name="claim").start()
    try:
        yield
    finally:
        ended.set()
        del _held[str(path)]
        with suppress(OSError):
            claim.unlink()
        with suppress(OSError):  # the first that is not empty ends it
            for place in made:
                place.rmdir()


def owner_of(folder: Path) -> Owner | None:
    """Who works in a folder; None where nobody does, or whoever did has ended."""
    try:
        text, at = read_text(folder / CLAIM, "whose the folder is"), (folder / CLAIM).stat().st_mtime
    except (OSError, ReadError):
        return None
    owner = _parse(text)
    return None if owner is None or owner.is_gone(time.time() - at, SILENT) else owner


def _take(claim: Path) -> Owner | None:
    """Signs the claim; or gives its owner, where that still works."""
    while True:
        with claim.open("a+", encoding="utf-8") as file:
            _lock(file)
            if not _is_still(file, claim):  # its owner has ended in the meantime
                continue
            file.seek(0)
            owner = _parse(file.read(4096))
            silent_for = time.time() - os.fstat(file.fileno()).st_mtime
            if owner is not None and owner != _me(owner) and not owner.is_gone(silent_for, SILENT):
                return owner
            file.truncate(0)
            file.write(json.dumps(asdict(Owner())))
            file.flush()
            return None


def _me(owner: Owner) -> Owner:
    """This process, as it would have signed then: a container's processes all have the same number."""
    mine = Owner()
    return Owner(mine.host, mine.pid, mine.began, owner.since)


def _parse(text: str) -> Owner | None:
    """Whose the claim is; nobody's, where it was cut off before it was signed."""
    try:
        data = parse_json(text)
        pid = int(data["pid"])
        return Owner(str(data["host"]), pid, str(data["began"]), float(data["since"])) if 0 < pid < 2**31 else None
    except (KeyError, TypeError, ValueError):
        return None


def _lock(file: IO[str]) -> None:
    """Keeps others from judging the same claim; where a system or a file system cannot, the judgement is quick."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _is_still(file: IO[str], claim: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(claim))
    except OSError:
        return False


def _renew(claim: Path, ended: threading.Event) -> None:
    while not ended.wait(RENEWED):
        with suppress(OSError):
            os.utime(claim)
