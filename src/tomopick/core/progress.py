"""Progress with rate and remaining time: a bar on a terminal, elsewhere a line a minute, nothing where all is quiet."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Protocol

log = logging.getLogger("tomopick")

MOST_MINUTES = 525_600  # that anything may be asked to take: a year
EVERY = 60.0  # [s] between two lines where there is no terminal


class Shown(Protocol):
    """What a bar and its lines have in common."""

    total: Any
    n: Any

    def update(self, n: int = 1) -> Any:
        """So many more are done."""

    def set_postfix_str(self, text: str = "") -> Any:
        """What is said behind the numbers from now on."""

    def close(self) -> Any:
        """Nothing more will come."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> Any: ...


def on_terminal() -> bool:
    """Whether standard error is a terminal; where it is closed, Python has none at all."""
    return sys.stderr is not None and sys.stderr.isatty()


def bar(total: int, text: str, unit: str = "it", done: int = 0) -> Shown:
    """Progress to be updated and closed, usable with `with`; logged at the level of information, as lines are."""
    if not log.isEnabledFor(logging.INFO) or not on_terminal():
        return Lines(total, text, unit, done)
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc=text, unit=unit, file=sys.stderr, leave=False)


class Lines:
    """A line a minute, the first after a minute: short work says nothing.

    Args:
        total: how many there are; may be set later.
        text: what is done.
        unit: what is counted.
        done: how many were done before.
    """

    def __init__(self, total: int, text: str, unit: str = "it", done: int = 0) -> None:
        self.total, self.n = total, done
        self._text, self._unit, self._first = text, unit, done
        self._began = self._said = time.monotonic()
        self._behind = ""

    def update(self, n: int = 1) -> None:
        """So many more are done."""
        self.n += n
        now = time.monotonic()
        if now - self._said >= EVERY and self.n > self._first:
            self._said = now
            log.info(self.line(now - self._began))

    def line(self, seconds: float) -> str:
        """What is said after so many seconds."""
        each = seconds / max(self.n - self._first, 1)
        rate = f"{each:.2g} s a {self._unit}" if each > 1 else f"{1 / max(each, 1e-9):.3g} {self._unit}s a second"
        left = f", {duration(each * (self.total - self.n))} left" if self.total else ""
        behind = f": {self._behind}" if self._behind else ""
        return f"{self._text}: {self.n} of {self.total or '?'}, {rate}{left}{behind}"

    def set_postfix_str(self, text: str = "") -> None:
        """What is said behind the numbers from now on."""
        self._behind = text

    def close(self) -> None:
        """Nothing more will come."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
