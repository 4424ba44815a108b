"""Plain coordinates (.coords)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import ReadError
from ...core.types import Picks
from ..plausible import SPECK, within_one
from .base import Objects, Part, Reading, load_numbers, voxel_notes


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
        numbers = load_numbers(path, "lines 'x y z' in voxels", (3,))
        if not len(numbers):
            return reading.nothing(path, frame.run)
        voxels = numbers[:, ::-1]
        size = reading.pixel_size
        if size is None and within_one(voxels) and max(frame.need_grid(".coords").shape) > SPECK:
            raise ReadError(
                f"{path}: coordinates lie within 0..1, the first voxel; are they parts of the tomogram's size? "
                "expected voxels, so multiply them by it"
            )
        positions = frame.need_grid(".coords").positions(voxels) if size is None else voxels * size
        return [Picks(frame.run, positions, reading.objects(len(voxels), path, None, said))]
