"""Processes: being asked to end, and what those that are started here inherit.

SIGTERM (a batch system's time is up) and SIGHUP (a terminal is gone) do what Ctrl-C does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ASKING = tuple(s for s in (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")) if s is not None)


class Terminated(KeyboardInterrupt):
    """This process was asked to end by a signal other than Ctrl-C's."""


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Signals that ask this process to end raise `Terminated`, so that whatever is open is cleaned up; once.

    In another thread than the main one nothing changes, and what is ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ASKING}
    asked: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        if not asked:  # cleaning up is not to be interrupted by those who ask twice
            asked.append(number)
            raise Terminated

    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Signals that ask this process to end do so themselves, for who waits where none of our handlers would be run.

    Nothing is cleaned up. In another thread than the main one nothing changes, and what is ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ASKING}
    ours = {number: handler for number, handler in before.items() if callable(handler)}
    for number in ours:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


@contextmanager
def held_interrupt(
    numbers: tuple[int, ...] = (signal.SIGINT, *ASKING), once: float = 0.0
) -> Iterator[Callable[[], type[KeyboardInterrupt] | None]]:
    """What to raise if this process was asked to end, for who wants to finish a step first; asked again it ends so.

    What comes within `once` [s] of the first is no second asking: a launcher of several processes passes on what the
    terminal has told them too.

    In another thread than the main one nothing is held, nor is a signal that is ignored.
    """
    before = {number: signal.getsignal(number) for number in numbers}
    asked: list[int] = []
    began: list[float] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def hold(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 1:
            began.append(time.monotonic())
        if once and time.monotonic() - began[0] < once:
            return
        for other, handler in before.items():
            signal.signal(other, handler)
        if once and callable(handler := before[signal.Signals(number)]):
            handler(number, frame)

    for number, handler in before.items():
        if handler not in (signal.SIG_IGN, None):
            signal.signal(number, hold)
    try:
        yield lambda: (KeyboardInterrupt if signal.SIGINT in asked else Terminated) if asked else None
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def cores_here() -> int:
    """Cores that this process may use: a scheduler may have left it a part of the machine."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def environment_of_child(device: str, processes: int, **more: str) -> dict[str, str]:
    """The environment of a process that is started here: it finds the modules that this one found.

    Args:
        device: where it computes. On a processor it is given its share of the cores, unless the user has said how
            many threads there are to be (OMP_NUM_THREADS).
        processes: that share the cores.
        more: variables in addition.
    """
    share = {} if device.startswith("cuda") else {"OMP_NUM_THREADS": str(max(1, cores_here() // processes))}
    return {**share, **os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **more}


def ended_how(code: int | None) -> str:
    """How a process has ended, by its exit code."""
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
