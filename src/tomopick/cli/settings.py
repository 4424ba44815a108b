"""`section.field=value` looked at before anything heavy is loaded: settings.json says which fields there are.

A stand-in has the fields of a specification and none of its code, so that the same rules find the same faults; what a
value must be beyond its type, the specification says itself. scripts/settings_table.py writes the file.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from ..core.errors import RecipeError, TomopickError
from ..core.specs import LogRange, Overrides, Range

FILE = Path(__file__).with_suffix(".json")
SIMULATION = "simulation"  # among the recipes: what `simulate` takes

_PAIRS = tuple[tuple[str, Range], ...]
# Every type that a plain field of a specification has; a file can only name them.
_HINTS: dict[str, Any] = {
    str(hint): hint
    for hint in (
        *(float, int, str, bool, Range, LogRange, Mapping[str, float], _PAIRS),
        *(tuple[int, ...], tuple[float, ...], tuple[str, ...], tuple[float, float], tuple[int, int, int]),
        *(tuple[int, int, int, int], float | None, int | None, tuple[int, int, int] | None),
    )
}
# What overrides tell apart by the value that there is.
_VALUES: dict[str, Any] = {str(Mapping[str, float]): {}, str(_PAIRS): (("name", (0.0, 0.0)),)}


def require_settings(name: str, assignments: Sequence[str]) -> None:
    """Raises what overriding a recipe (or `SIMULATION`) would raise for a name that is none or a type that it has not.

    Args:
        name: of the recipe.
        assignments: each `section.field=value`.
    """
    error: tuple[type[TomopickError], str] = (RecipeError, "train.lr=3e-4")
    if name == SIMULATION:
        error = (TomopickError, "microscope.defocus=25000,45000")
    if assignments:
        Overrides(_families(), *error)(_stand_in(_table()["recipes"][name]), assignments)


def require_settings_of_model(recipe: Mapping[str, Any], assignments: Sequence[str]) -> None:
    """The same of the recipe.json of a model; one of another version is left to whoever reads it."""
    if assignments and set(_classes(recipe)) <= set(_table()["classes"]):
        Overrides(_families(), RecipeError, "tiling.overlap=32")(_stand_in(recipe), assignments)


def settings_table(recipes: Mapping[str, Any], families: Iterable[Sequence[type]]) -> dict[str, Any]:
    """What settings.json holds.

    Args:
        recipes: specifications by name.
        families: classes that may stand in one another's place.
    """
    classes: dict[str, Any] = {}
    names = [[_noted(kind, classes) for kind in family] for family in families]
    return {"families": names, "recipes": {k: _shape(v, classes) for k, v in recipes.items()}, "classes": classes}


def _shape(value: Any, classes: dict[str, Any]) -> Any:
    """The classes in a specification, without its values; None where there are none."""
    if isinstance(value, tuple) and value and is_dataclass(value[0]):
        return [_shape(item, classes) for item in value]
    if not is_dataclass(value) or isinstance(value, type):
        return None
    inside = {f.name: _shape(getattr(value, f.name), classes) for f in fields(value) if f.init}
    return {"class": _noted(type(value), classes), **{name: shape for name, shape in inside.items() if shape}}


def _noted(kind: Any, classes: dict[str, Any]) -> str:
    """The name of a class, of which each field's type, or what stands there by default, is noted."""
    if kind.__name__ not in classes:
        hints = typing.get_type_hints(kind, include_extras=True)
        classes[kind.__name__] = {}  # may hold itself
        classes[kind.__name__] |= {
            f.name: _shape(_default(f), classes) or (hint if (hint := str(hints[f.name])) in _HINTS else "")
            for f in fields(kind)
            if f.init
        }
    return str(kind.__name__)


def _default(of: Field[Any]) -> Any:
    return of.default if of.default_factory is MISSING else of.default_factory()


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


@cache
def _families() -> tuple[tuple[type, ...], ...]:
    return tuple(tuple(_kind(name) for name in family) for family in _table()["families"])


@cache
def _kind(name: str) -> type:
    """A class with the fields of the one that is called so."""
    made = []
    for key, said in _table()["classes"][name].items():
        plain = isinstance(said, str)
        value = _VALUES.get(said) if plain else None
        default = field(default_factory=partial(_itself, value) if plain else partial(_stand_in, said))
        made.append((key, _HINTS.get(said, Any) if plain else Any, default))
    return make_dataclass(name, made)


def _itself(value: Any) -> Any:
    return value


def _stand_in(shape: Any) -> Any:
    """Of a specification, or of a tuple of them."""
    if isinstance(shape, list):
        return tuple(_stand_in(item) for item in shape)
    kind = _kind(shape["class"])
    parts = {f.name: shape[f.name] for f in fields(kind) if f.name in shape}
    return kind(**{name: _stand_in(part) for name, part in parts.items() if list(_classes(part))})


def _classes(shape: Any) -> Iterable[str]:
    """The names of all classes in it."""
    if isinstance(shape, Mapping):
        yield from [shape["class"]] if "class" in shape else []
        for part in shape.values():
            yield from _classes(part)
    elif isinstance(shape, list):
        for part in shape:
            yield from _classes(part)
