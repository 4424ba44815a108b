"""Tables in Å: our CSV with the run in it, and copick's CSV."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...core.messages import listing
from ...core.names import quoted_cell
from ...core.types import Picks
from ..tables import KNOWN, OBJECT_COLUMNS, RUN_COLUMNS, TURNS, Table, is_column, number_cell, read_table
from .base import Objects, Part, Reading

log = logging.getLogger("tomopick")

HEADER = ("run", "object", "x", "y", "z", "score")


@dataclass(frozen=True)
class CsvTable:
    """`run,object,x,y,z,score` in Å from the centre of voxel 0, and `transform_00`..`transform_22` of rotations.

    What is written can be read wherever tomopick reads a CSV; copick's CSV (`run_name,x,y,z,transform_...`), Kaggle's
    (`experiment,particle_type,x,y,z`) and `object,x,y,z` are read too.
    """

    key: str = "csv"
    suffix: str = ".csv"
    per_run: bool = False
    mixed: bool = True

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """One table of all runs, positions to 0.0001 Å and scores to 1e-6."""
        turned = any(p.rotations is not None for p, _ in parts)
        columns = list(dict.fromkeys(name for p, _ in parts for name in p.columns))
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow((*HEADER, *columns, *(TURNS if turned else ())))
        for picks, frame in parts:
            turns = np.tile(np.eye(3), (len(picks), 1, 1)) if picks.rotations is None else picks.rotations
            for i, (name, (z, y, x), score) in enumerate(zip(picks.names.tolist(), picks.positions, picks.scores)):
                row = [quoted_cell(frame.name), quoted_cell(name), *(f"{v:.4f}" for v in (x, y, z)), f"{score:.6f}"]
                row += [number_cell(picks.columns[c][i]) if c in picks.columns else "" for c in columns]
                writer.writerow(row + ([f"{v:.8f}" for v in turns[i].ravel()] if turned else []))
        return {path: text.getvalue().encode()}

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """The unit."""
        return ["in Å from the centre of the first voxel"]

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The rows of each run; a table without runs is of the run that the file is called after."""
        table = read_table(path)
        unknown = [c for c in table.header if c not in KNOWN and not is_column(c)]
        if unknown:
            log.warning(f"{path}: left out, for picks have no place for them: {listing(unknown)}")
        named = table.find(RUN_COLUMNS) is not None
        if named and not table.rows:
            return reading.nothing(path)
        found = []
        for name, rows in table.by_run().items():
            frame = reading.find(name) if named else reading.find_file(path)[0]
            if frame is not None:
                picks = rows.picks(frame.run, self._names(rows, path, reading))
                size = reading.pixel_size
                found.append(picks if size is None else replace(picks, positions=picks.positions * size))
        return found

    def _names(self, rows: Table, path: Path, reading: Reading) -> np.ndarray:
        column = rows.find(OBJECT_COLUMNS)
        if column is None or reading.name is not None:
            return reading.objects(len(rows.rows), path)
        return np.array([reading.object(text) for text in rows.texts(column)], dtype=np.str_)
