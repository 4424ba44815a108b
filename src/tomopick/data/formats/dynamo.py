"""Dynamo tables (.tbl) with their list of tomograms (.doc)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.errors import ReadError
from ...core.messages import counted
from ...core.text import checked_numbers, read_text
from ...core.types import Picks
from .base import Objects, Part, Reading, RunFrame, from_eulers, rotated, to_eulers, voxel_notes
from .numbered import index_map_bytes, numbered_frames

COLUMNS = 36  # up to apix; a table may end where its writer stops
_CC, _FTYPE, _TOMO, _CLASS, _X, _APIX = 9, 12, 19, 21, 23, 35  # from 0


@dataclass(frozen=True)
class Dynamo:
    """Columns 24-26: voxel index + origin in the catalogue's volume; 4-6 shifts; 7-9 tdrot, tilt, narot; 10 cc.

    Attributes:
        origin: number of the first voxel, 0 or 1. Dynamo's documentation does not say; 0 is what copick, dynamo2m and
            dynamo2relion assume, 1 is MATLAB's own. They differ by one voxel.
        tilt_range: lowest and highest tilt [degrees]; without it column 13 says that the range is full, and Dynamo
            corrects for no missing wedge.

    Source: wiki.dynamo.biozentrum.unibas.ch, Table_convention; dynamo_euler2matrix, whose inverse takes the particle's
    frame to the tomogram's (as in copick 1.31: scipy's extrinsic zxz, inverted).
    """

    origin: int = 0
    tilt_range: tuple[float, float] | None = None
    key: str = "dynamo"
    suffix: str = ".tbl"
    per_run: bool = False
    mixed: bool = True

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """The table, and the list of its tomograms under the same name with `.doc`."""
        blocks = [self._rows(picks, frame, objects) for picks, frame in parts]
        table = np.concatenate(blocks)
        table[:, 0] = np.arange(1, len(table) + 1)
        text = "".join(" ".join(_number(v) for v in row) + "\n" for row in table)
        return {path: text.encode(), path.with_suffix(".doc"): index_map_bytes(parts)}

    def _rows(self, picks: Picks, frame: RunFrame, objects: Objects) -> np.ndarray:
        grid = frame.need_grid("Dynamo")
        rows = np.zeros((len(picks), COLUMNS))
        rows[:, 1] = 1  # to be aligned
        if picks.rotations is not None:
            rows[:, 6:9] = to_eulers(np.swapaxes(picks.rotations, 1, 2), "zxz")
        rows[:, _CC] = picks.scores
        if self.tilt_range is not None:
            rows[:, _FTYPE : _FTYPE + 3] = (1, *self.tilt_range)
        rows[:, _TOMO] = frame.index
        rows[:, _CLASS] = [objects[name].label for name in picks.names.tolist()]
        rows[:, _X : _X + 3] = grid.indices(picks.positions)[:, ::-1] + self.origin
        rows[:, _APIX] = grid.voxel_spacing
        return rows

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """The volume and the origin."""
        return [*voxel_notes(parts), f"the first voxel has the number {self.origin} (`origin`)"]

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The particles at coordinate plus shift."""
        table = _read_table(path)
        if not len(table):
            return reading.nothing(path)
        found = []
        for number, frame in numbered_frames(table[:, _TOMO], path, reading):
            rows = table[table[:, _TOMO] == number]
            voxels = (rows[:, _X : _X + 3] + rows[:, 3:6])[:, ::-1] - self.origin
            positions = _positions(voxels, rows, frame, reading)
            turns = rotated(np.swapaxes(from_eulers(rows[:, 6:9], "zxz"), 1, 2), rows[:, 6:9])
            names = reading.objects(len(rows), path, rows[:, _CLASS])
            scores = rows[:, _CC] if np.any(rows[:, _CC]) else np.ones(len(rows))
            found.append(Picks(frame.run, positions, names, scores, turns))
        return found


def _positions(voxels: np.ndarray, rows: np.ndarray, frame: RunFrame, reading: Reading) -> np.ndarray:
    """Å of voxels of the frame's volume, or of one whose voxel size the options or each row of the table tell."""
    sizes = rows[:, _APIX] if rows.shape[1] > _APIX else np.zeros(len(rows))
    sizes = np.full(len(rows), reading.pixel_size) if reading.pixel_size else sizes
    own = sizes <= 0
    if frame.grid is not None:
        own |= np.abs(sizes / frame.grid.voxel_spacing - 1) <= 1e-3
    positions = voxels * sizes[:, None]
    if own.any():
        positions[own] = frame.need_grid("Dynamo").positions(voxels[own])
    return positions


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6f}"


def _read_table(path: Path) -> np.ndarray:
    """(n, columns); what is not used stays 0, for there may be complex numbers (column 28) and NaN in it."""
    rows: list[list[str]] = []
    lines: list[int] = []
    for i, line in enumerate(read_text(path, "a Dynamo table").splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < _X + 3 or (rows and len(fields) != len(rows[0])):
            raise ReadError(
                f"{path}: line {i} has {counted(len(fields), 'column')}; expected 26 or more, alike in all lines"
            )
        rows.append(fields)
        lines.append(i)
    table = np.zeros((len(rows), len(rows[0]) if rows else COLUMNS))
    for k in (*range(3, 10), _TOMO, _CLASS, *range(_X, _X + 3), _APIX):
        if k < table.shape[1]:
            table[:, k] = checked_numbers([row[k] for row in rows], path, f"column {k + 1}", lines)
    return table
