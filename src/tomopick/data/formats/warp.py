"""Warp: a RELION 3 table for `WarpTools ts_export_particles`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import SelectionError
from ...core.types import Picks
from .base import Objects, Part, Reading
from .particles import read_particles
from .star import PIXELS, particle_table, star_bytes


@dataclass(frozen=True)
class Warp:
    """Warp: `rlnCoordinate[XYZ]` in voxels of `coords_angpix` from the centre of the first, `rlnMicrographName`.

    Attributes:
        coords_angpix: the voxel size the coordinates count in [Å], to be repeated to WarpTools; by default
            the tomograms' own.

    Source: warpem.github.io/warp/reference/warptools/tomogram_particle_files ("starting from zero at the center of the
    first voxel"; ZYZ as in RELION); warpem/warp#288: centred coordinates are not read, #373: names must match.
    """

    coords_angpix: float | None = None
    key: str = "warp"
    suffix: str = ".star"
    per_run: bool = False
    mixed: bool = False

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """One table for all tilt series; raises `SelectionError` for no voxel size, or several, to count in."""
        size = self.coords_angpix or _common_spacing(parts)
        voxels = {p.run: p.positions[:, ::-1] / size for p, _ in parts}
        table = particle_table(parts, voxels, PIXELS, objects)
        table["rlnMicrographName"] = [_tomostar(f.name) for p, f in parts for _ in range(len(p))]
        return {path: star_bytes({"": table})}

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """The option that Warp needs."""
        size = self.coords_angpix or _common_spacing(parts)
        return [f"for WarpTools ts_export_particles: --coords_angpix {size:.6g}"]

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The particles, shifts applied; coordinates of which nothing is said are in the tomogram's voxels."""
        return read_particles(path, reading)


def _common_spacing(parts: Sequence[Part]) -> float:
    spacings = {round(f.need_grid("Warp").voxel_spacing, 4) for _, f in parts}
    if max(spacings) > 1.001 * min(spacings):
        raise SelectionError(
            f"Warp reads one voxel size a file, and the tomograms have {sorted(spacings)} Å; choose one with "
            "`coords_angpix`"
        )
    return parts[0][1].need_grid("Warp").voxel_spacing


def _tomostar(name: str) -> str:
    """Warp calls the tomogram of TS_1.tomostar TS_1_10.00Apx.mrc, so that a run may be called so."""
    return re.sub(r"_\d+\.\d+Apx$", "", name.removesuffix(".tomostar")) + ".tomostar"
