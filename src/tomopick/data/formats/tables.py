"""Tables in Å: our CSV with the run in it, and copick's CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.errors import ReadError
from ...core.names import quoted_cell, unquoted_cell
from ...core.types import Picks
from ..names import object_alias
from .base import Objects, Part, Reading, finite, rotated

HEADER = ("run", "object", "x", "y", "z", "score")
TURNS = tuple(f"transform_{i}{j}" for i in range(3) for j in range(3))  # copick's names
_RUNS = ("run", "run_name", "experiment")
_OBJECTS = ("object", "particle_type", "object_name", "pickable_object_name")


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
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow((*HEADER, *(TURNS if turned else ())))
        for picks, frame in parts:
            turns = np.tile(np.eye(3), (len(picks), 1, 1)) if picks.rotations is None else picks.rotations
            for i, (name, (z, y, x), score) in enumerate(zip(picks.names.tolist(), picks.positions, picks.scores)):
                row = [quoted_cell(frame.name), quoted_cell(name), *(f"{v:.4f}" for v in (x, y, z)), f"{score:.6f}"]
                writer.writerow(row + ([f"{v:.8f}" for v in turns[i].ravel()] if turned else []))
        return {path: text.getvalue().encode()}

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """The unit."""
        return ["in Å from the centre of the first voxel"]

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The rows of each run; a table without runs is of the run that the file is called after."""
        header, rows = _rows(path)
        run = next((header.index(c) for c in _RUNS if c in header), None)
        found = []
        groups: dict[str, list[list[str]]] = {}
        for row in rows:
            groups.setdefault(unquoted_cell(row[run].strip()) if run is not None else "", []).append(row)
        for name, part in groups.items():
            frame = reading.find(name) if run is not None else reading.find_file(path)[0]
            if frame is not None:
                found.append(_picks(path, header, part, frame.run, reading))
        return found


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle)
            header = [name.strip().lower() for name in next(reader, [])]
            rows = [row for row in reader if any(value.strip() for value in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReadError(f"{path}: cannot be read as CSV ({error})") from None
    missing = [c for c in "xyz" if c not in header]
    if missing:
        raise ReadError(f"{path}: no column {', '.join(missing)} in '{','.join(header)}'; expected {','.join(HEADER)}")
    short = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if short is not None:
        raise ReadError(f"{path}: row {short + 2} has {len(rows[short])} values; expected the {len(header)} of line 1")
    return header, rows


def _picks(path: Path, header: list[str], rows: list[list[str]], run: str, reading: Reading) -> Picks:
    def numbers(columns: Sequence[str]) -> np.ndarray:
        where = [header.index(c) for c in columns]
        try:
            return np.array([[float(row[i]) for i in where] for row in rows], dtype=np.float64).reshape(-1, len(where))
        except ValueError as error:
            raise ReadError(f"{path}: run {run}: {error}; expected numbers in {', '.join(columns)}") from None

    positions = finite(numbers("zyx"), path)
    blank = "score" not in header or all(not row[header.index("score")].strip() for row in rows)
    scores = np.ones(len(rows)) if blank else numbers(["score"])[:, 0]
    rotations = None
    if set(TURNS) <= set(header):
        turns = numbers(TURNS).reshape(-1, 3, 3)
        rotations = rotated(turns, turns - np.eye(3))
    column = next((header.index(c) for c in _OBJECTS if c in header), None)
    if column is None or reading.name is not None:
        names = reading.objects(len(rows), path, None, None)
    else:
        names = np.array(
            [object_alias(unquoted_cell(row[column].strip()), reading.labels.values()) for row in rows], dtype=np.str_
        )
    return Picks(run, positions, names, scores, rotations)
