"""Frozen specs as settings: `section.field=value` overrides, JSON both ways, and ranges that values are drawn from."""

from __future__ import annotations

import copy
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar

from .errors import ModelError, TomopickError
from .messages import listing, near_miss
from .reading import typed

# From, to: drawn uniformly (the second: on a log scale). As an override, one number stands for both ends.
Range = Annotated[tuple[float, float], "uniform"]
LogRange = Annotated[tuple[float, float], "log-uniform"]

Families = Sequence[tuple[type, ...]]
Bounds = Mapping[str, tuple[float, float]]
_Spec = TypeVar("_Spec")


def require_ranges(spec: Any, section: str, bounds: Bounds, error: type[TomopickError] = TomopickError) -> None:
    """Checks ranges of a spec, or single values, before anything is computed with them.

    Args:
        spec: whose fields are checked.
        section: its name, as a user writes it before the field's; may be empty.
        bounds: lowest and highest value that each field may have.
        error: what is raised.

    Raises:
        TomopickError: a field that is not finite, goes down, or leaves its bounds.
    """
    hints = typing.get_type_hints(type(spec), include_extras=True)
    for name, (low, high) in bounds.items():
        value = getattr(spec, name)
        single = hints[name] not in (Range, LogRange)
        ends = value if isinstance(value, tuple) else (value,)
        whole = len(ends) == (1 if single else 2) and all(math.isfinite(v) for v in ends)
        if not (whole and low <= ends[0] <= ends[-1] <= high):
            where, kind = ".".join(filter(None, (section, name))), "a number" if single else "low,high"
            raise error(f"{where} is {','.join(f'{v:g}' for v in ends)}; expected {kind} within {low:g}..{high:g}")


def narrowed(spec: _Spec, amount: float) -> _Spec:
    """`spec` with every range in it drawn together about its middle (on a log scale for a `LogRange`).

    Args:
        spec: a frozen dataclass; those in it are narrowed too, and what is no range stays.
        amount: 0 leaves the middles alone, 1 the whole ranges.
    """
    return _narrow(type(spec), spec, amount)


def _narrow(hint: Any, value: Any, amount: float) -> Any:
    if hint == Range:
        middle, half = (value[0] + value[1]) / 2, (value[1] - value[0]) / 2
        return value if amount == 1 else (middle - amount * half, middle + amount * half)
    if hint == LogRange:
        low, high = _narrow(Range, tuple(math.log(v) for v in value), amount)
        return value if amount == 1 else (math.exp(low), math.exp(high))
    if is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value), include_extras=True)
        return dataclasses.replace(
            value, **{f.name: _narrow(hints[f.name], getattr(value, f.name), amount) for f in fields(value) if f.init}
        )
    if typing.get_origin(hint) is tuple and isinstance(value, tuple):
        args = typing.get_args(hint)
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return tuple(_narrow(kind, item, amount) for kind, item in zip(kinds, value))
    return value


@dataclass(frozen=True)
class Overrides:
    """Changes fields of a nested frozen dataclass by text.

    Attributes:
        families: classes that may stand in one another's place.
        error: what is raised.
        example: of an override, for the message that explains them.
    """

    families: Families
    error: type[TomopickError]
    example: str

    def __call__(self, spec: _Spec, assignments: Sequence[str]) -> _Spec:
        """`spec` with every `section.field=value` applied, all at once.

        Raises:
            TomopickError: an unknown section or field (with the nearest name), or a value that does not fit.
        """
        changes: dict[str, Any] = {}
        for text in assignments:
            path, equals, value = text.partition("=")
            if not equals or not path:
                raise self.error(f"'{text}' is not an override; write section.field=value, for example {self.example}")
            section, _, name = path.partition(".")
            current = changes.get(section, self._get(spec, section))
            if name and not is_dataclass(current):
                raise self.error(f"{type(spec).__name__}.{section} has no parts; write {section}=value")
            if name:
                changes[section] = self._replace(current, name, value)
            else:
                changes[section] = self._parse_field(spec, section, value, path)
        return dataclasses.replace(typing.cast(Any, spec), **{name: _checked(part) for name, part in changes.items()})

    def _get(self, spec: Any, name: str) -> Any:
        names = [f.name for f in fields(spec) if f.init]
        if name not in names:
            inside = [f"{s}.{name}" for s in names if is_dataclass(part := getattr(spec, s)) and hasattr(part, name)]
            if len(inside) == 1:
                raise self.error(f"{type(spec).__name__} has no field '{name}'; did you mean '{inside[0]}'?")
            raise self.error(f"{type(spec).__name__} has no field '{name}'; {near_miss(name, names)}")
        return getattr(spec, name)

    def _replace(self, spec: Any, path: str, value: str) -> Any:
        """`spec` with the field that `path` leads to replaced; a step of a tuple goes by its name or number."""
        name, _, rest = path.partition(".")
        if isinstance(spec, tuple):
            names = [type(s).__name__.lower() for s in spec]
            i = int(name) if name.isdigit() else names.index(name.lower()) if name.lower() in names else len(spec)
            if i >= len(spec) or not rest:
                there = ", ".join(names) or "absent"
                raise self.error(f"no step '{path}'; write STEP.field=value, where STEP is {there}")
            return (*spec[:i], self._replace(spec[i], rest, value), *spec[i + 1 :])
        current = self._get(spec, name)
        if rest and isinstance(current, Mapping):
            return _with(spec, name, {**current, rest: self._parse(float, value, path)})
        if rest and _is_pairs(current):
            return _with(spec, name, self._with_pair(spec, name, rest, value))
        if rest and (is_dataclass(current) or self._kinds(current)):
            return _with(spec, name, self._replace(current, rest, value))
        if rest:
            raise self.error(f"{type(spec).__name__}.{name} has no parts; write {name}=value")
        return _with(spec, name, self._parse_field(spec, name, value, f"{type(spec).__name__}.{name}"))

    def _with_pair(self, spec: Any, name: str, key: str, text: str) -> tuple[tuple[str, Any], ...]:
        """A tuple of (name, value) pairs, which is a mapping that can be hashed, with one value set or added."""
        hint = typing.get_type_hints(type(spec), include_extras=True)[name]
        kind = typing.get_args(typing.get_args(hint)[0])[1]
        made = {**dict(getattr(spec, name)), key: self._parse(kind, text, f"{type(spec).__name__}.{name}.{key}")}
        return tuple(made.items())

    def _kinds(self, value: Any) -> dict[str, type]:
        """The classes that may stand where `value`, a part or a tuple of steps, stands; none for plain values."""
        steps = value if isinstance(value, tuple) else (value,)
        family = next((f for f in self.families if steps and isinstance(steps[0], f)), ())
        own = (type(value),) if is_dataclass(value) else ()
        return {kind.__name__: kind for kind in family or own}

    def _parse_field(self, spec: Any, name: str, text: str, where: str) -> Any:
        """A whole field: a plain value, or the names of the classes of a part or of steps, which get their defaults."""
        current = getattr(spec, name)
        kinds = self._kinds(current)
        if current == ():  # of no steps there are; those that may be are of the kind that stands there by default
            own = next(f for f in fields(spec) if f.name == name)
            kinds = self._kinds(own.default if own.default_factory is dataclasses.MISSING else own.default_factory())
        if not kinds:
            return self._parse(typing.get_type_hints(type(spec), include_extras=True)[name], text, where)
        if isinstance(current, tuple) and text.lower() == "none":
            return ()
        names = text.split(",") if isinstance(current, tuple) else [text]
        if not set(names) <= set(kinds):
            raise self.error(f"{where} cannot be '{text}'; expected {' or '.join(kinds)}, or set one of its fields")
        made = tuple(kinds[n]() for n in names)
        return made if isinstance(current, tuple) else made[0]

    def _parse(self, hint: Any, text: str, where: str) -> Any:
        """Text -> a value of the type that the field declares."""
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            both = f"{text},{text}" if hint in (Range, LogRange) and "," not in text else text
            return self._parse(args[0], both, where)
        if origin in (types.UnionType, typing.Union):
            if text.lower() == "none" and type(None) in args:
                return None
            return self._parse(next(a for a in args if a is not type(None)), text, where)
        try:
            if origin is tuple:
                items = text.strip("()").split(",")
                kinds = [args[0]] * len(items) if args[-1] is Ellipsis else list(args)
                if len(items) != len(kinds):
                    raise ValueError
                return tuple(self._parse(kind, item, where) for kind, item in zip(kinds, items))
            if hint is bool:
                return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
            if hint in (int, float, str) and text:
                return hint(text)
        except (ValueError, KeyError):
            pass
        raise self.error(f"{where} cannot be '{text}'; expected {in_words(hint, where)}")


_ONE = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
_SEVERAL = {int: "whole numbers", float: "numbers", bool: "times true or false", str: "words"}


def in_words(hint: Any, field: str) -> str:
    """What a field of a type takes, as it is typed: `3 whole numbers with commas between`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return "a number, or two, from,to" if hint in (Range, LogRange) else in_words(args[0], field)
    if origin in (types.UnionType, typing.Union):
        one = in_words(next(a for a in args if a is not type(None)), field)
        return f"{one}, or none" if type(None) in args else one
    keyed = origin is tuple and typing.get_origin(args[-1]) is not None and args[0] is str
    if keyed or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return f"one value at a time, by its name: {field.rpartition('.')[2]}.NAME={_example(args[-1])}"
    if origin is tuple:
        number = "" if args[-1] is Ellipsis else f"{len(args)} "
        return f"{number}{_SEVERAL.get(args[0], 'values')} with commas between"
    return _ONE.get(hint, getattr(hint, "__name__", str(hint)))


def _example(hint: Any) -> str:
    return "10,20" if hint in (Range, LogRange) else "1"


def _with(spec: Any, name: str, value: Any) -> Any:
    """`spec` with one field replaced; not checked, for the next override may be what makes it fit: see `_checked`."""
    made = copy.copy(spec)
    object.__setattr__(made, name, value)
    return made


def _checked(value: Any) -> Any:
    """A changed part made anew, with all in it, so that each spec checks itself."""
    if isinstance(value, tuple):
        return tuple(_checked(item) for item in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return dataclasses.replace(value, **{f.name: _checked(getattr(value, f.name)) for f in fields(value) if f.init})


def _is_pairs(value: Any) -> bool:
    pairs = isinstance(value, tuple) and all(isinstance(v, tuple) and len(v) == 2 for v in value)
    return bool(value) and pairs and all(isinstance(v[0], str) for v in value)


def encode(value: Any) -> Any:
    """Plain JSON values of a spec and all it holds; `decode` is the inverse."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__, **{f.name: encode(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    return value


def decode(value: Any, classes: Mapping[str, type], file: str, families: Families = ()) -> Any:
    """The spec that `encode` wrote.

    Args:
        value: plain JSON values.
        classes: every class that may occur, by name.
        file: where the values come from, for the messages.
        families: classes that may stand in one another's place.

    Raises:
        ModelError: an unknown class or field (a newer version's, perhaps), or a field of another type.
    """
    if isinstance(value, list):
        return tuple(decode(v, classes, file, families) for v in value)
    if not isinstance(value, Mapping):
        return value
    if "class" not in value:
        return {k: decode(v, classes, file, families) for k, v in value.items()}
    name = value["class"]
    if not isinstance(name, str) or name not in classes:
        raise ModelError(f"{file} names the class '{name}', which this version does not know: update tomopick")
    kind = classes[name]
    unknown = set(value) - {f.name for f in fields(kind)} - {"class"}
    if unknown:
        raise ModelError(f"{file}: {name} has no field '{sorted(unknown)[0]}': update tomopick")
    found = {k: decode(v, classes, file, families) for k, v in value.items() if k != "class"}
    return kind(**{k: fitting(kind, k, v, file, families) for k, v in found.items()})


def fitting(kind: type, name: str, value: Any, file: str, families: Families) -> Any:
    """A value read from JSON, if a spec's field can have it.

    Args:
        kind: of the spec.
        name: of its field.
        value: decoded.
        file: it comes from; for the message.
        families: classes that may stand in one another's place.

    Raises:
        ModelError: it is of another type than the field, or a class that cannot stand there.
    """
    field = next(f for f in fields(kind) if f.name == name)
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    where = f"{file}: {kind.__name__}.{name}"
    if is_dataclass(default) and not isinstance(default, type):
        family = next((f for f in families if isinstance(default, f)), (type(default),))
        if type(value) not in family:
            raise ModelError(
                f"{where} cannot be {type(value).__name__}; expected {listing(c.__name__ for c in family)}"
            )
        return value
    return _of_hint(typing.get_type_hints(kind, include_extras=True)[name], value, where)


def _of_hint(hint: Any, value: Any, where: str) -> Any:
    """As `reading.typed`, where numbers may be infinite and parts are specs already."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, tuple) and value and is_dataclass(value[0]):
        return value
    if hint is float and isinstance(value, float) and not math.isnan(value):
        return value
    if origin in (types.UnionType, typing.Union) and value is not None and origin is not tuple:
        return _of_hint(next(a for a in args if a is not type(None)), value, where)
    return typed(hint, value, where, ModelError)
