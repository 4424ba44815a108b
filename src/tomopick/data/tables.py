"""Picks as CSV: `object,x,y,z[,score]`, in Å; Kaggle's `experiment,particle_type,x,y,z` is read as well."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.errors import ReadError
from ..core.files import atomic_write
from ..core.names import quoted_cell, unquoted_cell
from ..core.types import Picks

RUN_COLUMNS = ("experiment", "run", "run_name")
OBJECT_COLUMNS = ("object", "particle_type")
SCORE_COLUMNS = ("score",)


def is_picks_csv(path: Path) -> bool:
    """Whether the first line of the file names an object and x, y, z."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            header = [name.strip().lower() for name in next(csv.reader(handle), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return {"x", "y", "z"} <= set(header) and bool(set(OBJECT_COLUMNS) & set(header))


def read_picks_csv(path: str | Path) -> dict[str, Picks]:
    """The picks of each run; those of a table without a column for the run are under "".

    Positions are as the file has them, only turned to zyx. A table with a header alone gives no picks under "".

    Raises:
        ReadError: unreadable, a column is missing, or a row is wrong; the line is named.
    """
    path = Path(path)
    rows: dict[str, list[tuple[str, float, float, float, float]]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle)
            columns = _columns(path, next(reader, []))
            if columns["run"] is None:
                rows[""] = []
            for row in reader:
                if any(field.strip() for field in row):
                    run, values = _parse_row(path, reader.line_num, row, columns)
                    rows.setdefault(run, []).append(values)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReadError(f"{path}: cannot be read as CSV ({error})") from None
    return {run: _picks(run, values) for run, values in rows.items()}


def _columns(path: Path, header: Sequence[str]) -> dict[str, int | None]:
    names = [name.strip().lower() for name in header]

    def find(*choices: str) -> int | None:
        return next((names.index(choice) for choice in choices if choice in names), None)

    columns = {axis: find(axis) for axis in ("x", "y", "z")}
    columns |= {"object": find(*OBJECT_COLUMNS), "score": find(*SCORE_COLUMNS), "run": find(*RUN_COLUMNS)}
    missing = [name for name in ("object", "x", "y", "z") if columns[name] is None]
    if missing:
        found = ",".join(names) or "an empty file"
        raise ReadError(
            f"{path}: line 1: no column {', '.join(missing)} in '{found}'; expected object,x,y,z[,score] in Å"
        )
    return columns


def _parse_row(
    path: Path, line: int, row: Sequence[str], columns: dict[str, int | None]
) -> tuple[str, tuple[str, float, float, float, float]]:
    def field(name: str, default: str = "") -> str:
        index = columns[name]
        if index is None:
            return default
        if index >= len(row):
            raise ReadError(
                f"{path}: line {line}: {len(row)} values, none for '{name}'; expected the columns of line 1"
            )
        return row[index].strip()

    def number(name: str, default: str = "") -> float:
        text = field(name, default)
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise ReadError(f"{path}: line {line}: {name} is '{text}'; expected a finite number")
        return value

    name = unquoted_cell(field("object"))
    if not name:
        raise ReadError(f"{path}: line {line}: the object has no name")
    score = number("score") if field("score", "") else 1.0
    return unquoted_cell(field("run")), (name, number("z"), number("y"), number("x"), score)


def _picks(run: str, rows: Sequence[tuple[str, float, float, float, float]]) -> Picks:
    names = np.array([row[0] for row in rows], dtype=np.str_)
    numbers = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 4)
    return Picks(run, numbers[:, :3], names, numbers[:, 3])


def write_picks_csv(path: str | Path, picks: Picks) -> None:
    """Writes `object,x,y,z,score`, positions to 0.001 Å, scores to 1e-6; rotations have no place in it.

    Raises:
        OutputError: the file cannot be written; then nothing is left of it.
    """
    with atomic_write(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("object", "x", "y", "z", "score"))
        for name, (z, y, x), score in zip(picks.names, picks.positions, picks.scores):
            writer.writerow((quoted_cell(name), f"{x:.3f}", f"{y:.3f}", f"{z:.3f}", f"{score:.6f}"))
