"""Trainings of a plan in processes of their own, one at a time on each device."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..core.errors import TomopickError
from ..core.messages import counted
from ..core.signals import ended_how, environment_of_child

log = logging.getLogger("tomopick")

DEATHS = 3  # a part whose process dies this often is given up
_BETWEEN = 0.2  # looks at what has ended [s]
_REFUSED = 2  # exit code of what a user can mend


def train_parts(parts: Sequence[int], devices: Sequence[str], command: Callable[[int, str], Sequence[str]]) -> None:
    """Trains parts, each in a process; one that dies is tried again, and goes on with what it has kept.

    Whatever ends this ends the processes, which first save what they have.

    Args:
        parts: numbers.
        devices: where; a part at a time on each. Processors share the cores.
        command: of a part on a device.

    Raises:
        TomopickError: a part that cannot be trained, one line.
    """
    waiting, deaths, at_work = deque(parts), dict.fromkeys(parts, 0), list[_Part]()
    try:
        while waiting or at_work:
            taken = [part.device for part in at_work]
            for device in (d for d in dict.fromkeys(devices) if waiting):
                for _ in range(devices.count(device) - taken.count(device)):
                    if waiting:
                        number = waiting.popleft()
                        at_work.append(_Part.start(number, device, command(number, device), len(devices)))
            time.sleep(_BETWEEN)
            for part in [part for part in at_work if part.process.poll() is not None]:
                at_work.remove(part)
                if part.process.returncode:
                    deaths[part.number] += 1
                    _ended(part, deaths[part.number])
                    waiting.appendleft(part.number)
    finally:
        for part in at_work:
            part.process.terminate()
        for part in at_work:
            part.process.wait()


def _ended(part: _Part, deaths: int) -> None:
    """Says that a part is tried again; raises where that would not help."""
    part.listener.join()
    code, last = part.process.returncode, part.lines[-1].removeprefix("error: ") if part.lines else ""
    if code == _REFUSED:
        raise TomopickError(f"part {part.number}: {last or ended_how(code)}")
    if deaths >= DEATHS:
        raise TomopickError(f"part {part.number}: its process ended {counted(deaths, 'time')} ({ended_how(code)})")
    log.warning(f"part {part.number}: its process ended ({ended_how(code)}); it goes on with what it has kept")


@dataclass
class _Part:
    """A part that is being trained."""

    number: int
    device: str
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    listener: threading.Thread = field(init=False)

    @classmethod
    def start(cls, number: int, device: str, command: Sequence[str], processes: int) -> _Part:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment_of_child(device, processes),
            start_new_session=True,  # asked once to end, by us, it saves; asked twice it would not
        )
        part = cls(number, device, process)
        part.listener = threading.Thread(target=part.listen, daemon=True)
        part.listener.start()
        return part

    def listen(self) -> None:
        """Passes on what it tells."""
        assert self.process.stderr is not None
        with suppress(ValueError), self.process.stderr as lines:
            for line in lines:
                self.lines.append(line.rstrip())
                if not line.startswith("error:"):
                    log.info(f"part {self.number}: {line.rstrip()}")
