"""Whether a radius may be a diameter: beside what a model or a preset says of the same object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.spatial import cKDTree

from ..core.presets import CZII_OBJECTS
from ..core.types import PickableObject, Picks

TWICE = (1.7, 2.4)  # ratios that a radius and a diameter of one particle have


_TOUCHING = 1.5  # radii, within which particles of one kind hardly ever have a neighbour: 2 radii would touch
_MANY = 0.3  # of an object's particles that are nearer; in the CZII runs and in dense apo-ferritin at most 0.024 are
_FEWEST = 10  # particles that tell


def diameter_doubts(truth: Mapping[str, Picks], objects: Iterable[PickableObject]) -> list[str]:
    """A line for each object whose true particles lie so close together that its radius may be a diameter."""
    lines = []
    for o in (o for o in objects if o.radius):
        radius = o.radius_angstrom
        runs = [picks.of(o.name).positions for picks in truth.values()]
        nearest = [cKDTree(p).query(p, 2)[0][:, 1] for p in runs if len(p) > 1]
        distances = np.concatenate(nearest) if nearest else np.zeros(0)
        close = int(np.count_nonzero(distances < _TOUCHING * radius))
        if len(distances) >= _FEWEST and close > _MANY * len(distances):
            lines.append(
                f"{close} of {len(distances)} true {o.name} lie within {_TOUCHING:g} radii of another, where they "
                f"would overlap: is {radius:g} Å the diameter? then say `objects={o.name}:{radius / 2:g}`"
            )
    return lines


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
