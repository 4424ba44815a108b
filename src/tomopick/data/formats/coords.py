"""Plain coordinates (.coords) and EMAN2's boxes (JSON)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import OutputError, ReadError
from ...core.types import Picks
from .base import Objects, Part, Reading, finite, load_numbers, voxel_notes


@dataclass(frozen=True)
class Coords:
    """Lines "x y z": voxel indices from 0, as crYOLO, TomoTwin and ArtiaX have them; no score, no rotation.

    Source: ArtiaX, src/io/Coords/CoordsParticleData.py (positions are taken as they are, as those of 0-based lists).
    """

    key: str = "coords"
    suffix: str = ".coords"
    per_run: bool = True
    mixed: bool = False

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """The coordinates of the one run in `parts`."""
        ((picks, frame),) = parts
        voxels = frame.need_grid(".coords").indices(picks.positions)[:, ::-1]
        return {path: "".join(f"{x:.4f} {y:.4f} {z:.4f}\n" for x, y, z in voxels).encode()}

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """The volume."""
        return voxel_notes(parts)

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The coordinates of one tomogram."""
        frame, said = reading.find_file(path)
        if frame is None:
            return []
        numbers = load_numbers(path, "lines 'x y z'")
        if numbers.shape[1] != 3 or not len(numbers):
            raise ReadError(f"{path}: has {numbers.shape[1]} columns; expected x y z in voxels, so cut out the others")
        voxels = finite(numbers, path)[:, ::-1]
        size = reading.pixel_size
        positions = frame.need_grid(".coords").positions(voxels) if size is None else voxels * size
        return [Picks(frame.run, positions, reading.objects(len(voxels), path, None, said))]


@dataclass(frozen=True)
class Eman2:
    """EMAN2's info files: `boxes_3d` = (index - size/2) * apix / apix_unbin, [x, y, z, how, score, class]; read only.

    Source: cryoem/eman2, programs/e2spt_tempmatch.py, where the boxes of a tomogram with `apix_unbin` are written.
    """

    key: str = "eman2"
    suffix: str = ".json"
    per_run: bool = True
    mixed: bool = True

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """Not offered: an info file holds much besides, which we would lose."""
        raise OutputError(f"{path}: EMAN2's info files are read, not written; expected another format, such as imod")

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """Nothing: it is not written."""
        return []

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The boxes of one tomogram; `class_list` gives the objects' names."""
        frame, said = reading.find_file(path)
        if frame is None:
            return []
        boxes, apix, classes = _load(path)
        numbers = finite(np.array([b[:3] for b in boxes], dtype=np.float64).reshape(-1, 3), path)
        positions = numbers[:, ::-1] * (reading.pixel_size or apix) + frame.need_centre("EMAN2")
        parts = []
        ids = np.array([int(b[5]) if len(b) > 5 else 0 for b in boxes])
        for k in sorted(set(ids.tolist())):
            here = ids == k
            names = reading.objects(int(here.sum()), path, None, said or classes.get(k))
            parts.append(Picks(frame.run, positions[here], names))
        return [Picks.join(frame.run, parts)]


def _load(path: Path) -> tuple[list[Any], float, dict[int, str]]:
    """Boxes, unbinned pixel size [Å], name of each class."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        boxes = data["boxes_3d"]
        classes = {int(k): str(v["name"]) for k, v in data.get("class_list", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(f"{path}: no EMAN2 boxes ({error!r}); expected an info file with boxes_3d") from None
    if "apix_unbin" not in data:
        raise ReadError(
            f"{path}: has no apix_unbin, so its boxes are of an older EMAN2 and count differently; "
            "expected an info file of a tomogram that EMAN2 reconstructed, so save them from e2spt_boxer again"
        )
    return boxes, float(data["apix_unbin"]), classes
