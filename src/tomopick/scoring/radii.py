"""Whether a radius may be a diameter: beside what a model or a preset says of the same object."""

from __future__ import annotations

from collections.abc import Iterable

from ..core.presets import CZII_OBJECTS
from ..core.types import PickableObject

TWICE = (1.7, 2.4)  # ratios that a radius and a diameter of one particle have


def radius_doubts(objects: Iterable[PickableObject], others: Iterable[PickableObject] = CZII_OBJECTS) -> list[str]:
    """A line for each object whose radius is about twice, or half, that of the same name among others.

    Args:
        objects: as the project says.
        others: as a model, or else the CZII challenge, knows them.
    """
    known = {o.name: o.radius for o in others if o.radius}
    lines = []
    for o in (o for o in objects if o.radius and o.name in known):
        ratio = max(o.radius / known[o.name], known[o.name] / o.radius) if o.radius else 1.0
        if TWICE[0] <= ratio <= TWICE[1]:
            lines.append(
                f"{o.name} has a radius of {o.radius:g} Å here and of {known[o.name]:g} Å elsewhere: is one of them a "
                f"diameter? say it with `objects={o.name}:RADIUS`"
            )
    return lines
