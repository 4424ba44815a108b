"""Warp: a RELION 3 table for `WarpTools ts_export_particles`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError, SelectionError
from ...core.types import Picks
from .base import Objects, Part, Reading, RunFrame, finite
from .star import PIXELS, particle_block, particle_table, picks_of, read_star, star_bytes, tell_unknown


@dataclass(frozen=True)
class Warp:
    """Warp: `rlnCoordinate[XYZ]` in voxels of `coords_angpix` from the centre of the first, `rlnMicrographName`.

    Attributes:
        coords_angpix: the voxel size the coordinates count in [Å], to be repeated as `--coords_angpix`; by default
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
        """The particles, in voxels of `--tilt-series-pixel-size`, `rlnDetectorPixelSize` or the tomogram."""
        table = particle_block(read_star(path), path)
        tell_unknown(table, path)
        if "rlnMicrographName" not in table or not set(PIXELS) <= set(table):
            raise ReadError(
                f"{path}: expected rlnMicrographName and rlnCoordinateX, Y, Z; is it RELION's? then --from relion5"
            )
        numbers = finite(table[list(PIXELS)].to_numpy(dtype=np.float64), path)
        if len(numbers) > 1 and numbers.max() <= 1 and numbers.min() >= 0:
            raise ReadError(
                f"{path}: coordinates lie within 0..1, parts of the tomogram's size (--normalized_coords); "
                "expected voxels, so multiply them by the size of the tomogram they were counted in"
            )
        found = []
        for name, rows in table.groupby("rlnMicrographName", sort=False):
            frame = reading.find(str(name))
            if frame is not None:
                positions = rows[list(PIXELS)].to_numpy(dtype=np.float64)[:, ::-1] * _size(rows, frame, reading)
                found.append(picks_of(rows, positions, frame.run, reading, path))
        return found


def _common_spacing(parts: Sequence[Part]) -> float:
    spacings = {round(f.need_grid("Warp").voxel_spacing, 4) for _, f in parts}
    if max(spacings) > 1.001 * min(spacings):
        raise SelectionError(
            f"Warp reads one voxel size a file, and the tomograms have {sorted(spacings)} Å; choose one with "
            "--coords-angpix"
        )
    return parts[0][1].need_grid("Warp").voxel_spacing


def _tomostar(name: str) -> str:
    """Warp calls the tomogram of TS_1.tomostar TS_1_10.00Apx.mrc, so that a run may be called so."""
    return re.sub(r"_\d+\.\d+Apx$", "", name.removesuffix(".tomostar")) + ".tomostar"


def _size(rows: Any, frame: RunFrame, reading: Reading) -> float:
    if reading.pixel_size is not None:
        return reading.pixel_size
    if "rlnDetectorPixelSize" in rows:
        return float(rows["rlnDetectorPixelSize"].iloc[0])
    return frame.need_grid("Warp").voxel_spacing
