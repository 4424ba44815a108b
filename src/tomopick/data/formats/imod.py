"""IMOD models (.mod), and the text of `point2model` and `model2point`."""

from __future__ import annotations

import logging
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
from .base import Objects, Part, Reading, RunFrame, finite, load_numbers, voxel_notes
from .imod_file import read_imod

log = logging.getLogger("tomopick")

# The middle of voxel (i, j, k), xyz: X and Y run from 0 to NX and NY, Z from -0.5 to NZ - 0.5.
MIDDLE = np.array([0.5, 0.5, 0.0])
_ANGSTROM = -10  # IMOD's number for the unit of `pixelsize`
_UNITS = {_ANGSTROM: 1.0, -9: 10.0, -6: 1e4, -12: 0.01}  # [Å]
_ALIKE = 0.01  # sizes that differ by less are one
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
        """The points of the model where its image's voxels lie; IMOD objects give the names of particles."""
        frame, said = reading.find_file(path)
        if frame is None:
            return []
        model = read_imod(path)
        wanted = _chosen(model, path, reading, said)
        parts = []
        for o, name in wanted:
            points = _native(np.concatenate([c.points for c in o.contours]), model)
            names = reading.objects(len(points), path, None, name)
            parts.append(Picks(frame.run, _model_positions(finite(points, path), model, frame, reading, path), names))
        return [Picks.join(frame.run, parts)] if parts else reading.nothing(path, frame.run)


def _chosen(model: Any, path: Path, reading: Reading, said: str | None) -> list[tuple[Any, str | None]]:
    """The IMOD objects with points, and what each is called; outlines (closed contours) are no picks.

    Where some are called like particles of the project, others are left out, unless it takes new objects.

    Raises:
        ReadError: there are outlines alone.
    """
    filled = [o for o in model.objects if any(len(c.points) for c in o.contours)]
    closed = [o for o in filled if _is_outline(o)]
    points = [o for o in filled if not _is_outline(o)]
    if closed and not points:
        raise ReadError(
            f"{path}: has closed contours alone, which are outlines; expected points, so in 3dmod set the object's "
            "type to scattered (Edit > Object > Type) if they are picks"
        )
    if closed:
        log.warning(f"{path}: left out, for closed contours are outlines: {_listed(closed, model)}")
    if reading.name is not None or said is not None:
        return [(o, said) for o in points]
    known = list(reading.labels.values())
    named = {id(o): reading.object(_text(o.header.name)) for o in points if _text(o.header.name).strip()}
    if any(name in known for name in named.values()) and not reading.new_objects:
        others = [o for o in points if named.get(id(o)) not in known]
        if others:
            log.warning(f"{path}: left out, for the project has no such objects: {_listed(others, model)}")
        return [(o, named[id(o)]) for o in points if o not in others]
    if not reading.new_objects and len(known) == 1 and named:
        log.warning(f"{path}: {_listed(points, model)} is taken for {known[0]}, the only object")
    return [(o, named.get(id(o)) if reading.new_objects else None) for o in points]


def _is_outline(o: Any) -> bool:
    """Whether points are joined round an area: contours of three points or more, of an object that is closed."""
    loose = o.header.flags.scattered or o.header.flags.open
    return not loose and any(len(c.points) > 2 and not c.header.flags.open for c in o.contours)


def _listed(objects: Sequence[Any], model: Any) -> str:
    numbers = {id(o): i + 1 for i, o in enumerate(model.objects)}
    return listing(f"IMOD object {numbers[id(o)]} '{_text(o.header.name)}'" for o in objects)


def _native(points: np.ndarray, model: Any) -> np.ndarray:
    """(n, 3) xyz in the whole image as it lies in its file: turned back where it was last viewed on its side.

    Source: binspec.html, flags 10, 14, 16 and 17; libimod, imodFlipYZ and imodRot90X; 3dmod, ivwSetModelTrans: `ctrans`
    holds the origin of the part that was loaded and `otrans` that of the whole image.
    """
    flags, minx = model.header.flags, model.minx
    points = points.copy()
    if flags.model_rotx:  # by 90 degrees about x
        middle = 0.5 if flags.z_coordinates_start_from_negative_half else 1.0
        low = middle if middle == 0.5 else 0.0
        points[:, 1:] = np.stack([model.header.zmax - middle - points[:, 2], points[:, 1] - low], axis=1)
    elif flags.model_last_viewed_onYZ_flipped_or_rotated:
        points[:, 1:] = points[:, :0:-1]
    if minx is not None and flags.otrans_has_image_origin_values and all(v > 0 for v in minx.cscale):
        points += (np.array(minx.otrans) - np.array(minx.ctrans)) / np.array(minx.cscale)
    return points


def _model_positions(points: np.ndarray, model: Any, frame: RunFrame, reading: Reading, path: Path) -> np.ndarray:
    """(n, 3) zyx [Å]; a model of an image with voxels of another size counts in these."""
    size = _pixel_size(model)
    grid = frame.grid
    if reading.pixel_size is not None or grid is None or size is None or grid.shape == _shape(model):
        return _positions(points, frame, reading)
    if abs(size / grid.voxel_spacing - 1) <= _ALIKE:
        return _positions(points, frame, reading)
    log.warning(f"{path}: was drawn on voxels of {size:.4g} Å, the tomogram's are {grid.voxel_spacing:.4g} Å")
    return (points - MIDDLE)[:, ::-1] * size


def _shape(model: Any) -> tuple[int, int, int]:
    """(z, y, x) of the image that the model was last shown on."""
    head = model.header
    turned = head.flags.model_last_viewed_onYZ_flipped_or_rotated or head.flags.model_rotx
    return (head.ymax, head.zmax, head.xmax) if turned else (head.zmax, head.ymax, head.xmax)


def _pixel_size(model: Any) -> float | None:
    """Of the image [Å]; None where the model does not say (1 stands for nothing said, as in MRC headers)."""
    if model.minx is not None and model.minx.cscale[0] > 0:
        size = float(model.minx.cscale[0])
    else:
        size = float(model.header.pixelsize) * _UNITS.get(int(model.header.units), 0.0)
    return size if np.isfinite(size) and size > 0 and size != 1 else None


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
        numbers = load_numbers(path, "x y z, with contour and object in front, as model2point writes them", (3, 4, 5))
        if not len(numbers):
            return reading.nothing(path, frame.run)
        points = numbers[:, -3:]
        classes = numbers[:, 0] if numbers.shape[1] == 5 else None
        names = reading.objects(len(points), path, classes, said)
        return [Picks(frame.run, _positions(points, frame, reading), names)]


def _positions(points: np.ndarray, frame: RunFrame, reading: Reading) -> np.ndarray:
    voxels = (points - MIDDLE)[:, ::-1]
    if reading.pixel_size is not None:
        return voxels * reading.pixel_size
    return frame.need_grid("IMOD").positions(voxels)


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name
