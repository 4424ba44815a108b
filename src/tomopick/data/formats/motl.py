"""Motive lists (.em) of TOM, AV3 and Artiatomi, which ArtiaX opens in ChimeraX."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.messages import listing
from ...core.types import Picks
from .base import Objects, Part, Reading, finite, from_eulers, rotated, to_eulers, voxel_notes
from .counted import column, columns
from .numbered import index_map_bytes, numbered_frames

ROWS = 20
_SCORE, _OTHER_SCORE, _TOMO, _X, _SHIFT, _PHI, _CLASS = 0, 3, 4, 7, 10, 16, 19  # from 0


@dataclass(frozen=True)
class MotiveList:
    """A motive list: rows 8-10 = voxel index + 1, 11-13 shifts, 17-19 phi, psi, theta (in this order), 1 the score.

    Attributes:
        key: `em`: all runs in one list, told apart by row 5. `artiax`: a list for each run and object.

    Source: ArtiaX, src/io/Artiatomi/ArtiatomiParticleData.py (rows; 1 is taken off the position; phi and psi turn about
    z, theta about x: extrinsic zxz of phi, theta, psi). copick 1.31 takes the score from row 4: it is there too.
    """

    key: str = "em"
    suffix: str = ".em"
    per_run: bool = False
    mixed: bool = True

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """The list, and for several runs the list of their numbers under the same name with `.doc`."""
        import emfile

        blocks = []
        for picks, frame in parts:
            rows = np.zeros((len(picks), ROWS))
            rows[:, _SCORE] = rows[:, _OTHER_SCORE] = picks.scores
            rows[:, _TOMO] = frame.index
            rows[:, _X : _X + 3] = frame.need_grid("a motive list").indices(picks.positions)[:, ::-1] + 1
            if picks.rotations is not None:
                phi, theta, psi = to_eulers(picks.rotations, "zxz").T
                rows[:, _PHI : _PHI + 3] = np.stack([phi, psi, theta], axis=1)
            rows[:, _CLASS] = [objects[name].label for name in picks.names.tolist()]
            blocks.append(rows)
        table = np.concatenate(blocks)
        table[:, 5] = np.arange(1, len(table) + 1)
        with tempfile.TemporaryDirectory() as folder:
            # emfile writes to paths alone.
            place = Path(folder) / "list.em"
            emfile.write(place, table[None].astype(np.float32))
            files = {path: place.read_bytes()}
        return files if self.per_run else {**files, path.with_suffix(".doc"): index_map_bytes(parts)}

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """The volume."""
        return voxel_notes(parts)

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The particles at position plus shift."""
        table = _read_list(path)
        if not len(table):
            return reading.nothing(path)
        used = [_SCORE, _OTHER_SCORE, *range(_X, _X + 3), *range(_SHIFT, _SHIFT + 3), *range(_PHI, _PHI + 3)]
        finite(table[:, used], path, "number")
        found = []
        for number, frame in numbered_frames(table[:, _TOMO], path, reading):
            rows = table[table[:, _TOMO] == number]
            voxels = (rows[:, _X : _X + 3] + rows[:, _SHIFT : _SHIFT + 3])[:, ::-1] - 1
            size = reading.pixel_size
            positions = frame.need_grid("a motive list").positions(voxels) if size is None else voxels * size
            phi, psi, theta = rows[:, _PHI : _PHI + 3].T
            angles = np.stack([phi, theta, psi], axis=1)
            column = _SCORE if np.any(rows[:, _SCORE]) else _OTHER_SCORE
            scores = rows[:, column] if np.any(rows[:, column]) else np.ones(len(rows))
            _, said = reading.names.find_with_object(path.stem)
            names = reading.objects(len(rows), path, rows[:, _CLASS], said)
            found.append(Picks(frame.run, positions, names, scores, rotated(from_eulers(angles, "zxz"), angles)))
        return found


def read_stopgap(table: Any, path: Path, reading: Reading) -> list[Picks]:
    """STOPGAP's motive list, a STAR table: `orig_x/y/z` + shifts = voxel index + 1, `phi`, `psi`, `the` as in TOM.

    Source: STOPGAP, sg_get_motl_fields.m; its coordinates are MATLAB's, as those of .em lists that it converts.
    """
    place, shift, turns = (("orig_x", "orig_y", "orig_z"), ("x_shift", "y_shift", "z_shift"), ("phi", "the", "psi"))
    missing = [c for c in (*place, "tomo_num") if c not in table]
    if missing:
        raise ReadError(f"{path}: no column {listing(missing)}; expected a STOPGAP motive list")
    if not len(table):
        return reading.nothing(path)
    tomograms = column(table, "tomo_num", path)
    found = []
    for number, frame in numbered_frames(tomograms, path, reading):
        rows = table[tomograms == number]
        voxels = (columns(rows, place, path) + columns(rows, shift, path))[:, ::-1] - 1
        size = reading.pixel_size
        positions = frame.need_grid("a motive list").positions(voxels) if size is None else voxels * size
        angles = columns(rows, turns, path)
        scores = column(rows, "score", path) if "score" in rows else np.ones(len(rows))
        classes = column(rows, "class", path) if "class" in rows else None
        names = reading.objects(len(rows), path, classes)
        found.append(Picks(frame.run, positions, names, scores, rotated(from_eulers(angles, "zxz"), angles)))
    return found


def _read_list(path: Path) -> np.ndarray:
    """(n, 20)."""
    import emfile

    try:
        _, data = emfile.read(path)
        table = np.squeeze(np.asarray(data, dtype=np.float64))
    except (OSError, KeyError, ValueError, MemoryError, TypeError, OverflowError, struct.error) as error:
        raise ReadError(f"{path}: cannot be read as EM ({type(error).__name__}); expected a motive list") from None
    table = table[None] if table.ndim == 1 else table
    if table.ndim == 2 and table.shape[1] != ROWS and table.shape[0] == ROWS:
        table = table.T
    if table.ndim != 2 or table.shape[1] != ROWS:
        raise ReadError(f"{path}: holds {table.shape} numbers, a volume by its look; expected a motive list of 20 rows")
    return table
