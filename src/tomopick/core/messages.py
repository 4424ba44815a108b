"""How messages say things: what was probably meant, lists that can still be read, numbers of things."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, replace
from difflib import SequenceMatcher, get_close_matches
from typing import Any, TypeVar

from .errors import SelectionError

Options = TypeVar("Options", bound=Any)  # a dataclass
SHOWN = 12  # names in one message; more is noise

_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x1f\x7f]")  # colours of a terminal too

_untold: ContextVar[bool] = ContextVar("untold", default=False)
# The one channel for what is told: every room logs to it, and the command line shows it line by line. Elsewhere
# warnings alone are shown, until somebody sets another level: importing copick opens the root logger to all else.
_log = logging.getLogger("tomopick")
_log.addFilter(lambda record: not _untold.get())
if _log.level == logging.NOTSET:
    _log.setLevel(logging.WARNING)


@contextmanager
def untold() -> Iterator[None]:
    """Nothing is told of what is done inside: trials, and what is decided for others to decide anew."""
    before = _untold.set(True)
    try:
        yield
    finally:
        _untold.reset(before)


def reason_of(error: BaseException) -> str:
    """The first line of what an error says, as it may stand in a message; its kind where it says nothing."""
    lines = [_CONTROL.sub("", line).strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)


def near_miss(name: str, known: Iterable[str]) -> str:
    """The end of a message: the likely meant names, or what there is."""
    known = sorted(set(known))
    alike = [repr(k) for k in known if k.casefold() == name.casefold() != ""]
    if alike:
        return f"did you mean {' or '.join(alike)}?"
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        # Beside a name that is right but for a letter, others that are somewhat like it were not meant.
        likeness = [SequenceMatcher(None, c, name).ratio() for c in close]
        meant = [repr(c) for c, like in zip(close, likeness) if like > likeness[0] - 0.15]
        return f"did you mean {' or '.join(meant)}?"
    return f"there is {listing(known)}" if known else "there is none"


def listing(items: Iterable[object]) -> str:
    """The items in one line, cut where it would no longer be read."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more


def with_fields(options: Options, given: Mapping[str, Any]) -> Options:
    """Options with some fields given by name.

    Raises:
        SelectionError: a name that is no field, with the near misses.
    """
    known = [f.name for f in fields(options)]
    for name in given:
        if name not in known:
            raise SelectionError(f"there is no argument '{name}'; {near_miss(name, known)}")
    return replace(options, **given)


def require_arguments(function: Callable[..., Any], given: Iterable[str]) -> None:
    """Raises `SelectionError`, with the near misses, for a name that is no keyword of a function."""
    known = [name for name, p in inspect.signature(function).parameters.items() if p.default is not p.empty]
    for name in given:
        if name not in known:
            raise SelectionError(f"there is no argument '{name}'; {near_miss(name, known)}")


def counted(number: int, thing: str) -> str:
    """`1 run`, `2 runs`."""
    ending = "es" if thing.endswith(("ch", "sh", "x")) else "s"
    return f"{number} {thing}{'' if number == 1 else ending}"


def said_of(names: Iterable[str], one: str, several: str) -> str:
    """The names with their verb: `a has`, `a, b have`."""
    known = list(names)
    return f"{', '.join(known)} {one if len(known) == 1 else several}"
