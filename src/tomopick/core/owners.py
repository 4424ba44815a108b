"""Who has begun something: the process that signs it, and whether that process still runs."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

CLAIM = ".claim"  # a file in the folder that a process works in
SILENT = 600.0  # since a claim was last renewed until a process on another machine counts as gone [s]
OLD = 86400.0  # since a file was last written until one that nobody can be asked about counts as left over [s]


def host() -> str:
    """This machine's name, as far as it can stand in a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:24].strip("-") or "here"


def runs(pid: int) -> bool:
    """Whether a process of this machine is alive; true where that cannot be told."""
    if sys.platform == "win32":  # where signal 0 is not a question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return not _is_zombie(pid)


def began(pid: int) -> str:
    """When a process of this machine began, in its kernel's own count; empty where that cannot be told."""
    fields = _fields(pid)
    return fields[19] if len(fields) > 19 else ""


def _is_zombie(pid: int) -> bool:
    return _fields(pid)[:1] == ["Z"]


def _fields(pid: int) -> list[str]:
    """Linux's facts of a process behind its name: state first, the time it began twentieth."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        host: its machine.
        pid: its number there.
        began: when it began, for numbers are given again; empty where that cannot be told.
        since: when it took what it owns [s since 1970].
    """

    host: str = field(default_factory=host)
    pid: int = field(default_factory=os.getpid)
    began: str = field(default_factory=lambda: began(os.getpid()))
    since: float = field(default_factory=time.time)

    def is_gone(self, silent_for: float, patience: float) -> bool:
        """Whether the process has ended.

        Args:
            silent_for: how long it has given no sign of life [s].
            patience: how long one on another machine may give none [s].
        """
        if self.host != host() or sys.platform == "win32":
            return silent_for > patience
        return not runs(self.pid) or (bool(self.began) and began(self.pid) not in ("", self.began))

    def __str__(self) -> str:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {at}"
