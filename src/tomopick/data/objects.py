"""Pickable objects from a file, from the command line, or from the names in picks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.colours import color_of
from ..core.errors import ReadError, SelectionError
from ..core.files import atomic_write
from ..core.messages import near_miss
from ..core.names import plain_line, shown
from ..core.reading import typed
from ..core.text import read_json
from ..core.types import PickableObject

_LARGEST = 1e6  # [Å] of a radius, or of any other figure
_FIGURES = {"radius": "Å", "mass": "kDa", "voxel": "Å"}  # of a density, and their units
DENSITY_FORM = "NAME=FILE[,radius=Å][,mass=kDa][,voxel=Å]"


def object_from_fields(fields: dict[str, Any], where: str) -> PickableObject:
    """The object of copick's `pickable_objects` entry (its `metadata.score_weight` counts).

    Raises:
        ReadError: no name, or a radius or label that is no number.
    """
    try:
        name = typed(str, fields["name"], "name")
        label = typed(int, fields.get("label") or 1, "label")
        radius = None if fields.get("radius") is None else float(fields["radius"])
        metadata = fields.get("metadata") or {}
        weight = float(metadata.get("score_weight", 1.0)) if isinstance(metadata, dict) else 1.0
        r, g, b, a = (int(v) for v in fields.get("color") or color_of(label))
        if not name.strip() or not math.isfinite(weight) or (radius is not None and not 0 < radius < _LARGEST):
            raise ValueError("a name, a radius above 0 and a finite weight are needed")
        if plain_line(name) != name:  # it is told in lines
            raise ValueError("a name without line ends and control characters is needed")
    except (KeyError, TypeError, ValueError, OverflowError, ReadError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else error
        raise ReadError(
            f"{where}: {shown(repr(fields))} is no pickable object ({said}); expected name, radius, label"
        ) from None
    return PickableObject(name, radius, label, (r, g, b, a), weight, bool(fields.get("is_particle", True)))


def read_objects(path: Path) -> tuple[PickableObject, ...]:
    """The objects of an `objects.json`: a list like copick's pickable_objects, or a copick configuration.

    Raises:
        ReadError: not JSON, or not such a list.
    """
    data = read_json(path, 'a list of objects such as [{"name": "ribosome", "radius": 150}]')
    if isinstance(data, dict):
        data = data.get("pickable_objects")
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise ReadError(f'{path}: expected a list of objects such as [{{"name": "ribosome", "radius": 150}}]')
    numbered = [{"label": i + 1, **fields} for i, fields in enumerate(data)]
    return tuple(object_from_fields(fields, str(path)) for fields in numbered)


def write_objects(path: Path, objects: Sequence[PickableObject]) -> None:
    """Writes `objects.json` beside tables of picks, so that whoever opens them knows radii, colours and weights.

    Objects that are listed there already stay.
    """
    text = objects_text(path, objects)
    if text is not None:
        with atomic_write(path) as file:
            file.write(text)


def objects_text(path: Path, objects: Sequence[PickableObject]) -> str | None:
    """What `write_objects` writes; None where nothing is to be added."""
    listed = {o.name: o for o in read_objects(path)} if path.exists() else {}
    wanted = listed | {o.name: o for o in objects}
    if wanted == listed:
        return None
    rows = [
        {
            "name": o.name,
            "radius": o.radius,
            "label": o.label,
            "color": list(o.color),
            "metadata": {"score_weight": o.score_weight},
        }
        for o in wanted.values()
    ]
    return json.dumps(rows, indent=1)


def named_objects(names: Iterable[str]) -> tuple[PickableObject, ...]:
    """Objects known by their names alone; nobody has said their radius yet."""
    return tuple(PickableObject(name, None, i + 1, color_of(i + 1)) for i, name in enumerate(sorted(set(names))))


def with_names(known: Sequence[PickableObject], names: Iterable[str]) -> tuple[PickableObject, ...]:
    """`known`, and the names that are not among them, without radii."""
    objects = {o.name: o for o in known}
    for name in names:
        label = max((o.label for o in objects.values()), default=0) + 1
        objects.setdefault(name, PickableObject(name, None, label, color_of(label)))
    return tuple(objects.values())


def with_specs(known: Sequence[PickableObject], specs: Sequence[str], extend: bool) -> tuple[PickableObject, ...]:
    """`known` with the radii of "name:radius" put in [Å]; names it does not have are added where `extend`.

    Raises:
        SelectionError: not of this form, or two radii of one object, or an unknown name where the set of objects is the
            project's own.
    """
    require_one_radius(specs)
    objects = {o.name: o for o in known}
    for spec in specs:
        name, radius = object_and_radius(spec)
        if name in objects:
            objects[name] = replace(objects[name], radius=radius if radius is not None else objects[name].radius)
        elif extend:
            label = max((o.label for o in objects.values()), default=0) + 1
            objects[name] = PickableObject(name, radius, label, color_of(label))
        else:
            raise SelectionError(f"`objects={spec}`: the project has no object '{name}'; {near_miss(name, objects)}")
    return tuple(objects.values())


def require_one_radius(specs: Sequence[str], field: str = "objects") -> None:
    """Raises `SelectionError` for what is not "name:radius" [Å], and for an object that is given two radii.

    Args:
        specs: to look over.
        field: that they were given as, for the messages.
    """
    before: dict[str, str] = {}
    for spec in specs:
        name, radius = object_and_radius(spec, field)
        other = before.setdefault(name, spec) if radius is not None else spec
        if radius is not None and object_and_radius(other, field)[1] != radius:
            raise SelectionError(f"`{field}={spec}`: '{other}' was given before; expected one radius of an object")


def object_and_radius(spec: str, field: str = "objects") -> tuple[str, float | None]:
    """What "name:radius" [Å] says; the radius may be left out.

    Args:
        spec: what was given.
        field: that it was given as, for the message.

    Raises:
        SelectionError: not of this form.
    """
    name, colon, text = spec.strip().partition(":")
    try:
        radius = float(text) if colon else None
    except ValueError:
        radius = -1.0
    if not name or (radius is not None and not 0 < radius < _LARGEST):
        given = f"`{field}={spec}`" if spec else f"`{field}` ''"
        raise SelectionError(f"{given}: expected NAME:RADIUS with the radius in Å, such as ribosome:150")
    return name, radius


def density_parts(text: str, field: str = "densities") -> tuple[str, str, dict[str, float]]:
    """Name, file and figures (`radius`, `mass`, `voxel`) of a density in the form `DENSITY_FORM`.

    Args:
        text: what was given; of `maps`, the name may be left out.
        field: that it was given as, for the message.

    Raises:
        SelectionError: not of this form, or a figure is given twice.
    """
    given, form = f"`{field}={text}`", DENSITY_FORM
    if field == "maps":
        text, form = _with_name(text), f"[NAME=]{DENSITY_FORM.partition('=')[2]}"
    name, equals, rest = text.partition("=")
    path, *options = rest.split(",")
    values: dict[str, float] = {}
    for option in options:
        key, _, number = (part.strip() for part in option.partition("="))
        if key not in _FIGURES:
            raise SelectionError(f"{given}: expected {form}, and no '{option.strip()}'; {near_miss(key, _FIGURES)}")
        if key in values:
            raise SelectionError(f"{given}: {key} is given twice; expected it once")
        try:
            values[key] = float(number)
        except ValueError:
            values[key] = -1.0
        if not 0 < values[key] < _LARGEST:
            raise SelectionError(f"{given}: {key} is '{number}'; expected a number of {_FIGURES[key]} above 0")
    if not (name and not set('_ <>:"/\\|?*') & set(name) and equals and path):
        raise SelectionError(f"{given}: expected {form}, the name without space or _")
    return name, path, values


def _with_name(text: str) -> str:
    """A density whose name was left out, with that of its file."""
    path = text.partition(",")[0]
    if "=" in path:
        return text
    stem = re.sub(r'[_ <>:"/\\|?*]+', "-", Path(path).name.split(".")[0]).strip("-")
    return f"{stem}={text}"
