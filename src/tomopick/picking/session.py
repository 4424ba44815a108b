"""Under which session picks go into a project that keeps them: one for each folder of records, chosen once.

A number that was chosen is kept from then on: in a project on this machine's disks a small file of the overlay says
whose it is, so that two who begin before either has written a pick get two.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

from ..core.errors import OutputError, ReadError
from ..core.files import hidden, remove, sweep
from ..core.owners import host
from ..core.records import Records
from ..core.text import read_json
from ..data import Project
from ..data.sources.copick import CopickProject

log = logging.getLogger("tomopick")

SESSION_FILE = "session.json"
_FIRST = "1"  # copick's own viewer takes session 0 for a tool's, which it does not change


_KEPT = Path(".tomopick") / "sessions"  # in the overlay: a file USER_SESSION for each that was chosen


def next_session(project: Project, user_id: str, endings: tuple[str, ...] = ()) -> str:
    """The number beyond every one that a user has in a project, or that was reserved there for one of its folders.

    Args:
        project: with the picks.
        user_id: whose.
        endings: that a session's number may have.
    """
    if not project.keeps_picks:
        return _FIRST
    return str(max(0, *_numbers(project, user_id, endings), *map(int, _reserved(project, user_id))) + 1)


def _numbers(project: Project, user_id: str, endings: tuple[str, ...]) -> set[int]:
    """Those that a user has picks of."""
    numbers = {0}
    for run in project.runs():
        for entry in project.picks_sets(run):
            session = entry.session_id
            for ending in endings:
                session = session.removesuffix(ending)
            if entry.user_id == user_id and session.isdecimal():
                numbers.add(int(session))
    return numbers


def reserved_session(project: Project, out: Path, user_id: str, endings: tuple[str, ...] = ()) -> tuple[str, bool]:
    """The next free session, and whether nobody else can get it any more: not where the overlay cannot be written.

    Args:
        project: with the picks.
        out: folder that the session is for; asked again before there are picks, it gets the same.
        user_id: whose.
        endings: that a session's number may have.
    """
    if not project.keeps_picks:
        return _FIRST, True
    taken = _numbers(project, user_id, endings)
    mine = [n for n, owner in _reserved(project, user_id).items() if owner == _owner(out) and int(n) not in taken]
    if mine:
        return min(mine, key=int), True
    while True:
        chosen = next_session(project, user_id, endings)
        done = reserve(project, out, user_id, chosen)
        if done is not False:
            return chosen, done is True


def reserve(project: Project, out: Path, user_id: str, session_id: str) -> bool | None:
    """Keeps a session for a folder: True: it is its own now; False: it is another's; None: none can be kept."""
    folder = _folder(project)
    if folder is None:
        return None
    path = folder / f"{user_id}_{session_id}"
    try:
        _put(path, _owner(out))
        return True
    except FileExistsError:
        return _owner_in(path) == _owner(out)
    except OSError:
        return None


def _put(path: Path, data: dict[str, str]) -> None:
    """Writes a file that is whole as soon as it is seen; of several processes one succeeds.

    Raises:
        FileExistsError: another was first.
        OSError: it cannot be written.
    """
    part = hidden(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        with part.open("x", encoding="utf-8") as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())  # an empty one after a power cut would be nobody's
        os.link(part, path)
    finally:
        remove(part)


def holder_of(project: Project, user_id: str, session_id: str) -> str:
    """The folder that a session is kept for, as it is told; "" where it is kept for none, or for one that is gone."""
    folder = _folder(project)
    owner = {} if folder is None else _owner_in(folder / f"{user_id}_{session_id}")
    if owner.get("host") == host():
        return owner["out"] if Path(owner["out"]).exists() else ""
    return f"{owner['out']} on {owner['host']}" if owner else ""


def _folder(project: Project) -> Path | None:
    overlay = project.overlay if isinstance(project, CopickProject) else None
    return None if overlay is None else overlay / _KEPT


def _reserved(project: Project, user_id: str) -> dict[str, dict[str, str]]:
    """By number of a user's sessions that are kept, for which folder."""
    folder = _folder(project)
    names = [] if folder is None or not folder.is_dir() else sorted(os.listdir(folder))
    mine = {name: name.removeprefix(f"{user_id}_") for name in names if name.startswith(f"{user_id}_")}
    return {n: _owner_in(folder / name) for name, n in mine.items() if folder is not None and n.isdecimal()}


def _owner(out: Path) -> dict[str, str]:
    return {"out": str(out.resolve()), "host": host()}


def _owner_in(path: Path) -> dict[str, str]:
    """What a file says of whom it is for; nothing where it is not there, or being written."""
    try:
        data = read_json(path, "for which folder a session is kept")
        return {key: str(data[key]) for key in ("out", "host")}
    except (ReadError, KeyError, TypeError):
        return {}


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
    chosen, _ = reserved_session(project, out, user_id)
    try:
        with suppress(FileExistsError):  # another process was first
            _put(path, {"user_id": user_id, "session_id": chosen})
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{out}: cannot be written ({reason}); check space and permissions") from None
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
