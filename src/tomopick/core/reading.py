"""What others wrote, taken for nothing but what it is: files that end, JSON, values of the types that were stated."""

from __future__ import annotations

import json
import math
import stat
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

from .errors import ReadError, TomopickError
from .names import shown

_DIGITS = 300  # of a whole number; floats end at 308


def require_file(path: Path) -> None:
    """Raises `ReadError` for what is there and is neither a file nor a folder: reading a pipe may never end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # whoever opens it says why
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ReadError(f"{path}: is a pipe, a socket or a device; expected a file, so save it as one")


def read_bytes(path: Path, expected: str, most: int = 2**29) -> bytes:
    """All of a file that somebody wrote for us.

    Args:
        path: of it.
        expected: what it is to be, for messages.
        most: bytes; such a file is never as large.

    Raises:
        ReadError: it cannot be read, is larger, or is no file.
    """
    require_file(path)
    try:
        size = path.stat().st_size
        if size <= most:
            return path.read_bytes()
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror or error}); expected {expected}") from None
    except MemoryError:
        pass
    raise ReadError(f"{path}: has {size / 1e9:.3g} GB, too much to be read; expected {expected}")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; raises `ValueError` for whatever is none, however deep it goes or large its numbers."""
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError("its lists go deeper than any that we write") from None


def _whole(digits: str) -> int:
    """A whole number that a float can hold: what comes after counts on that."""
    if len(digits) > _DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def typed(hint: Any, value: Any, where: str, error: type[TomopickError] = ReadError) -> Any:
    """A value of JSON as the type that is declared for it; lists become tuples, tables dataclasses.

    Args:
        hint: a type, as annotations have it.
        value: of JSON.
        where: it stands; for the message.
        error: what is raised.

    Raises:
        TomopickError: it is of another type, an entry is missing or unknown, or a number is not finite.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        return typed(args[0], value, where, error)
    if origin in (types.UnionType, typing.Union):
        kinds = [a for a in args if a is not type(None)]
        return None if value is None and len(kinds) < len(args) else typed(kinds[0], value, where, error)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) == len(value):
            return tuple(typed(k, v, f"{where}[{i}]", error) for i, (k, v) in enumerate(zip(kinds, value)))
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {str(k): typed(args[1], v, f"{where}.{k}", error) for k, v in value.items()}
    elif isinstance(origin, type) and issubclass(origin, Sequence) and isinstance(value, list | tuple):
        return [typed(args[0], v, f"{where}[{i}]", error) for i, v in enumerate(value)]
    elif hint in (int, float, str, bool) and _is_plain(hint, value):
        return value
    elif isinstance(hint, type) and is_dataclass(hint) and isinstance(value, Mapping):
        return _record(hint, value, where, error)
    raise error(f"{where} is {_said(value)}; expected {_name(hint)}")


def _record(kind: type, value: Mapping[str, Any], where: str, error: type[TomopickError]) -> Any:
    known = {f.name: f for f in fields(kind)}
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise error(f"{where}: unknown entry {shown(unknown[0])}: update tomopick")
    missing = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING and n not in value]
    if missing:
        raise error(f"{where}: no '{missing[0]}' in it")
    hints = typing.get_type_hints(kind, include_extras=True)
    return kind(**{n: typed(hints[n], v, f"{where}.{n}", error) for n, v in value.items()})


def _is_plain(hint: Any, value: Any) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def _said(value: Any) -> str:
    names = {dict: "a table", list: "a list", tuple: "a list", type(None): "empty"}
    if type(value) in names:
        return names[type(value)]
    return shown(value) if isinstance(value, str) else shown(repr(value)).strip("'")


def _name(hint: Any) -> str:
    names = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false"}
    if hint in names:
        return names[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return f"a list of {'any number' if args[-1] is Ellipsis else len(args)}"
    return "a table" if origin or is_dataclass(hint) else getattr(hint, "__name__", str(hint))
