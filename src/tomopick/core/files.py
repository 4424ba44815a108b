"""Outputs appear whole or not at all: written beside their place under a hidden name, then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import OutputError


@contextmanager
def atomic_write(path: str | Path, binary: bool = False) -> Iterator[IO[Any]]:
    """A file open for writing (UTF-8 text unless `binary`) that takes its place at `path` when the block ends well.

    If the block fails, what was at `path` before is untouched and nothing is left behind.

    Raises:
        OutputError: the folder or the file cannot be written (no permission, disk full, a folder in its place).
    """
    path = Path(path)
    part = _hidden(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its files are private to the user (0600), and projects are shared.
        with part.open("xb") if binary else part.open("x", encoding="utf-8", newline="") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check space and permissions"
        ) from None
    finally:
        _remove(part)


def write_together(texts: dict[Path, str]) -> None:
    """Writes text files that belong together: all are on disk before the first takes its place.

    Raises:
        OutputError: as `atomic_write`; then none has changed, unless a rename itself failed.
    """
    with ExitStack() as stack:
        for path, text in texts.items():
            stack.enter_context(atomic_write(path)).write(text)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder that takes its place at `path` when the block ends well, and goes when it does not.

    Raises:
        OutputError: `path` exists already, or cannot be written.
    """
    path = Path(path)
    require_new(path)
    part = _hidden(path)
    try:
        part.mkdir(parents=True)
        yield part
        os.rename(part, path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check space and permissions"
        ) from None
    finally:
        _remove(part)


def require_new(path: str | Path) -> None:
    """Raises `OutputError` where there is something already; for who would find out after hours of work."""
    if Path(path).exists():
        raise OutputError(f"{path}: exists already; expected a new name, so remove it or choose another")


def _hidden(path: Path) -> Path:
    return path.absolute().with_name(f".{path.absolute().name}.{uuid.uuid4().hex[:8]}.part")


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        # A clean-up that fails must not hide why the writing failed.
        try:
            part.unlink(missing_ok=True)
        except OSError:
            return
