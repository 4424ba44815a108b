"""IMOD models (.mod), and the text of `point2model` and `model2point`."""

from __future__ import annotations

import logging
import struct
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.messages import listing
from ...core.types import Picks
from ..names import object_alias
from .base import Objects, Part, Reading, RunFrame, finite, load_numbers, voxel_notes

log = logging.getLogger("tomopick")

# The middle of voxel (i, j, k), xyz: X and Y run from 0 to NX and NY, Z from -0.5 to NZ - 0.5.
MIDDLE = np.array([0.5, 0.5, 0.0])
_ANGSTROM = -10  # IMOD's number for the unit of `pixelsize`
_SIZE = 5  # of spheres whose radius nobody says [voxels]


@dataclass(frozen=True)
class ImodModel:
    """A model of one tomogram: an IMOD object of scattered points for each kind of particle, by its name.

    The point of voxel (i, j, k) is (i + 0.5, j + 0.5, k). Scores and rotations have no place in it.

    Source: bio3d.colorado.edu/imod/doc/binspec.html, "Model Coordinate Conventions" and flag 10.
    """

    key: str = "imod"
    suffix: str = ".mod"
    per_run: bool = True
    mixed: bool = True

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """The model of the one run in `parts`."""
        from imodmodel.models import ImodModel as Model

        ((picks, frame),) = parts
        grid = frame.need_grid("IMOD")
        model = Model(objects=[self._object(picks, frame, name, objects) for name in sorted(set(picks.names.tolist()))])
        header = model.header = model.header.model_copy(deep=True)
        header.zmax, header.ymax, header.xmax = grid.shape
        header.flags.z_coordinates_start_from_negative_half = True
        header.pixelsize, header.units = grid.voxel_spacing, _ANGSTROM
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # imodmodel calls pydantic in an old way, and writes to paths alone.
            warnings.simplefilter("ignore", DeprecationWarning)
            place = Path(folder) / "points.mod"
            model.to_file(place)
            return {path: place.read_bytes()}

    def _object(self, picks: Picks, frame: RunFrame, name: str, objects: Objects) -> Any:
        from imodmodel.models import Contour, Object, ObjectFlags, ObjectHeader

        grid = frame.need_grid("IMOD")
        points = grid.indices(picks.of(name).positions)[:, ::-1] + MIDDLE
        kind = objects[name]
        size = max(1, round(kind.radius / grid.voxel_spacing)) if kind.radius else _SIZE
        header = ObjectHeader(name=name[:63], contsize=1, flags=ObjectFlags(0), pdrawsize=size)
        header.flags.scattered = True
        header.red, header.green, header.blue = (v / 255 for v in kind.color[:3])
        return Object(header=header, contours=[Contour(points=points)])

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """The volume."""
        return voxel_notes(parts)

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """All points of the model; IMOD objects that are called like particles give their names."""
        frame, said = reading.find_file(path)
        if frame is None:
            return []
        model = _load(path)
        minx = model.minx
        if minx is not None and (np.any(minx.ctrans) or np.any(minx.crot)):
            log.warning("%s: was drawn on a part of its image, or on a turned one; its points may be shifted", path)
        parts = []
        for o in model.objects:
            points = np.concatenate([c.points for c in o.contours]) if o.contours else np.zeros((0, 3))
            if len(points):
                parts.append(_picks(points, frame, reading, path, said or _text(o.header.name)))
        return [Picks.join(frame.run, parts)]


@dataclass(frozen=True)
class ImodPoints:
    """The text of `model2point` and for `point2model -scat`: lines "object contour x y z", "contour x y z" or "x y z".

    Coordinates are those of `ImodModel`; IMOD objects are numbered by class.
    """

    key: str = "imod-text"
    suffix: str = ".txt"
    per_run: bool = True
    mixed: bool = True

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """The text of the one run in `parts`."""
        ((picks, frame),) = parts
        points = frame.need_grid("IMOD").indices(picks.positions)[:, ::-1] + MIDDLE
        order = np.argsort([objects[name].label for name in picks.names.tolist()], kind="stable")
        lines = [f"{objects[str(picks.names[i])].label} 1 " + " ".join(f"{v:.4f}" for v in points[i]) for i in order]
        return {path: ("\n".join(lines) + "\n").encode()}

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """The volume."""
        return voxel_notes(parts)

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The points of a text with three, four or five columns."""
        frame, said = reading.find_file(path)
        if frame is None:
            return []
        numbers = load_numbers(path, "points as model2point writes")
        if numbers.shape[1] not in (3, 4, 5) or not len(numbers):
            raise ReadError(f"{path}: has {numbers.shape[1]} columns; expected x y z, with contour and object in front")
        points = finite(numbers[:, -3:], path)
        classes = numbers[:, 0] if numbers.shape[1] == 5 else None
        names = reading.objects(len(points), path, classes, said)
        return [Picks(frame.run, _positions(points, frame, reading), names)]


def _picks(points: np.ndarray, frame: RunFrame, reading: Reading, path: Path, said: str) -> Picks:
    known = list(reading.labels.values())
    name = object_alias(said, known)
    names = reading.objects(len(points), path, None, name if name in known else None)
    return Picks(frame.run, _positions(finite(points, path), frame, reading), names)


def _positions(points: np.ndarray, frame: RunFrame, reading: Reading) -> np.ndarray:
    voxels = (points - MIDDLE)[:, ::-1]
    if reading.pixel_size is not None:
        return voxels * reading.pixel_size
    return frame.need_grid("IMOD").positions(voxels)


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def _load(path: Path) -> Any:
    from imodmodel.models import ImodModel as Model

    try:
        with path.open("rb") as handle:
            start = handle.read(4)
        if start != b"IMOD":
            raise ReadError(f"{path}: begins with {start!r}; expected an IMOD model, which begins with b'IMOD'")
        model = Model.from_file(path)
    except (OSError, ValueError, struct.error, IndexError) as error:
        raise ReadError(f"{path}: cannot be read as an IMOD model ({type(error).__name__}); save it again") from None
    if not any(len(c.points) for o in model.objects for c in o.contours):
        raise ReadError(f"{path}: has no points in {listing(f'object {i + 1}' for i in range(len(model.objects)))}")
    return model
