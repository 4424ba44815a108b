"""Under which session picks go into a project that keeps them: one for each folder of records, chosen once."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

from ..core.errors import OutputError, ReadError
from ..core.files import hidden, remove
from ..core.records import Records
from ..core.text import read_json
from ..data import Project

log = logging.getLogger("tomopick")

SESSION_FILE = "session.json"
_FIRST = "1"  # copick's own viewer takes session 0 for a tool's, which it does not change


def next_session(project: Project, user_id: str, endings: tuple[str, ...] = ()) -> str:
    """The number beyond every one that a user has in a project.

    Args:
        project: with the picks.
        user_id: whose.
        endings: that a session's number may have.
    """
    if not project.keeps_picks:
        return _FIRST
    numbers = [0]
    for run in project.runs():
        for entry in project.picks_sets(run):
            session = entry.session_id
            for ending in endings:
                session = session.removesuffix(ending)
            if entry.user_id == user_id and session.isdecimal():
                numbers.append(int(session))
    return str(max(numbers) + 1)


def session_for(project: Project, out: Path, user_id: str) -> str:
    """The session of what is picked into `out`: that of before, else the next free one, which is written down there.

    Processes that ask at the same time get the same answer: only one of them can put the file there.

    Raises:
        OutputError: the folder cannot be written, or its file is not ours.
    """
    if not project.keeps_picks:
        return "0"
    path = out / SESSION_FILE
    known = _read(path, user_id) or _recorded(out, user_id)
    if known:
        return known
    chosen = next_session(project, user_id)
    part = hidden(path)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with part.open("x", encoding="utf-8") as file:
            json.dump({"user_id": user_id, "session_id": chosen}, file)
            file.flush()
            os.fsync(file.fileno())  # an empty one after a power cut would be nobody's
        with suppress(FileExistsError):  # another process was first
            os.link(part, path)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{out}: cannot be written ({reason}); check space and permissions") from None
    finally:
        remove(part)
    found = _read(path, user_id)
    if not found:  # of another user: each has a session of their own there
        return chosen
    log.info(f"picks go to {user_id}/{found} of {project.uri}, and do so again for {out}")
    return found


def _read(path: Path, user_id: str) -> str:
    """The session that was chosen for a user; "" for none."""
    if not path.exists():
        return ""
    try:
        data = read_json(path, "the session of a folder of records")
        return str(data["session_id"]) if data["user_id"] == user_id else ""
    except (ReadError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path}: is no session of ours ({error}); remove it, or say which with `session_id`"
        ) from None


def _recorded(out: Path, user_id: str) -> str:
    """The session of what was picked into `out` before; "" for none."""
    for _, record in Records(out).each():
        made = record.get("settings")
        if isinstance(made, dict) and made.get("user_id") == user_id:
            return str(made.get("session_id", ""))
    return ""
