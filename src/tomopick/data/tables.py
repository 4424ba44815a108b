"""Picks as CSV: `object,x,y,z[,score]` in Å, Kaggle's `experiment,particle_type,x,y,z`, copick's; one reader."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ..core.errors import OutputError, ReadError
from ..core.files import atomic_write, write_together
from ..core.messages import counted, listing
from ..core.names import component, quoted_cell, require_one_line, unquoted_cell
from ..core.text import checked_numbers, read_text
from ..core.types import DISTANCE, THRESHOLD, PickableObject, Picks
from .objects import objects_text

RUN_COLUMNS = ("experiment", "run", "run_name")
OBJECT_COLUMNS = ("object", "particle_type", "object_name", "pickable_object_name")
SCORE_COLUMNS = ("score", "confidence", "conf")
TURNS = tuple(f"transform_{i}{j}" for i in range(3) for j in range(3))  # copick's names
_SHIFTS = tuple(f"transform_{i}3" for i in range(3))  # of x, y, z [Å]
KNOWN = {"id", "x", "y", "z", *RUN_COLUMNS, *OBJECT_COLUMNS, *SCORE_COLUMNS, *TURNS, *_SHIFTS, "instance_id",
         *(f"transform_3{j}" for j in range(4))}  # fmt: skip
_EXPECTED = "object,x,y,z[,score] in Å"


@dataclass(frozen=True)
class Table:
    """The rows of a CSV file as text.

    Attributes:
        path: of the file.
        header: its columns, in lower case.
        rows: of the same length.
        lines: the line of each row.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def find(self, choices: Sequence[str]) -> str | None:
        """The first of some columns that is there."""
        return next((name for name in choices if name in self.header), None)

    def column(self, name: str) -> list[str]:
        """The values of a column."""
        where = self.header.index(name)
        return [row[where] for row in self.rows]

    def texts(self, name: str) -> list[str]:
        """The names in a column, without the quotation marks that keep spreadsheets from calculating them.

        Raises:
            ReadError: one has line ends.
        """
        found = [unquoted_cell(text) for text in self.column(name)]
        for text in {text for text in found if not text.isprintable()}:
            require_one_line(text, f"{self.path}: line {self.lines[found.index(text)]}: {name}")
        return found

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """(n, k) the numbers of some columns; raises `ReadError`, with the line, for what is none."""
        found = [checked_numbers(self.column(name), self.path, name, self.lines) for name in names]
        return np.stack(found, axis=1) if found else np.zeros((len(self.rows), 0))

    def select(self, keep: Sequence[int]) -> Table:
        """Some of the rows."""
        return Table(self.path, self.header, tuple(self.rows[i] for i in keep), tuple(self.lines[i] for i in keep))

    def by_run(self) -> dict[str, Table]:
        """The rows of each run; those of a table without runs under "".

        Raises:
            ReadError: some rows name no run.
        """
        name = self.find(RUN_COLUMNS)
        if name is None:
            return {"": self}
        rows: dict[str, list[int]] = {}
        for i, run in enumerate(self.texts(name)):
            rows.setdefault(run, []).append(i)
        if "" in rows and len(rows) > 1:
            line = self.lines[rows[""][0]]
            raise ReadError(f"{self.path}: line {line}: {name} is blank; expected the run, as in other lines")
        return {run: self.select(keep) for run, keep in rows.items()}

    def scores(self) -> np.ndarray:
        """(n,) the scores; 1 where one is blank, and where there is no such column."""
        name = self.find(SCORE_COLUMNS)
        values = np.ones(len(self.rows))
        if name is not None:
            texts = self.column(name)
            stated = [i for i, text in enumerate(texts) if text]
            lines = [self.lines[i] for i in stated]
            values[stated] = checked_numbers([texts[i] for i in stated], self.path, name, lines)
        return values

    def poses(self) -> tuple[np.ndarray, np.ndarray | None]:
        """(n, 3) positions, zyx [Å], copick's translation added; (n, 3, 3) rotations, None where none is turned."""
        positions = self.numbers("zyx")
        if set(_SHIFTS) <= set(self.header):
            positions = positions + self.numbers(_SHIFTS[::-1])
        if not set(TURNS) <= set(self.header):
            return positions, None
        turns = self.numbers(TURNS).reshape(-1, 3, 3)
        return positions, turns if np.any(np.abs(turns - np.eye(3)) > 1e-9) else None

    def columns(self) -> dict[str, np.ndarray]:
        """(n,) numbers each, of the further columns that picks carry; nan where one is blank."""
        found = {}
        for name in self.header:
            if is_column(name):
                texts = [text or "nan" for text in self.column(name)]
                stated = [i for i, text in enumerate(texts) if text != "nan"]
                found[name] = np.full(len(texts), np.nan)
                lines = [self.lines[i] for i in stated]
                found[name][stated] = checked_numbers([texts[i] for i in stated], self.path, name, lines)
        return found

    def picks(self, run: str, names: Sequence[str] | np.ndarray) -> Picks:
        """The rows as picks of one run, of objects called `names`."""
        positions, rotations = self.poses()
        return Picks(run, positions, np.array(names, dtype=np.str_), self.scores(), rotations, self.columns())


def read_table(path: Path) -> Table:
    """A CSV file with x, y, z; commas, semicolons or tabs between.

    Raises:
        ReadError: unreadable, a column is missing, or a row is shorter or longer than the first line.
    """
    text = read_text(path, _EXPECTED)
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    try:
        header, between = _header(text)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=between)
        next(reader, None)
        for row in reader:
            if any(field.strip() for field in row):
                rows.append(tuple(field.strip() for field in row))
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ReadError(f"{path}: cannot be read as CSV ({error})") from None
    found = ",".join(header) or "an empty file"
    missing = [c for c in ("x", "y", "z") if c not in header]
    if missing:
        missing = missing if set(OBJECT_COLUMNS) & set(header) else ["object", *missing]
        raise ReadError(f"{path}: line 1: no column {', '.join(missing)} in '{found}'; expected {_EXPECTED}")
    twice = sorted({name for name in header if header.count(name) > 1 and name in KNOWN})
    if twice:
        raise ReadError(f"{path}: line 1: found twice: {listing(twice)}; keep one column of each")
    odd = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if odd is not None:
        none = f", none for '{header[len(rows[odd])]}'" if len(rows[odd]) < len(header) else ""
        raise ReadError(
            f"{path}: line {lines[odd]}: {counted(len(rows[odd]), 'value')}{none}; expected the "
            f"{counted(len(header), 'column')} of line 1"
        )
    return Table(path, header, tuple(rows), tuple(lines))


def is_kaggle_csv(path: Path) -> bool:
    """Whether a table is one of the CZII challenge's, by its columns."""
    try:
        header, _ = _header(read_text(path, _EXPECTED))
    except (ReadError, csv.Error):
        return False
    return {"experiment", "particle_type"} <= set(header)


def is_column(name: str) -> bool:
    """Whether a column of this name is one that picks carry: see `Picks.columns`."""
    return name == THRESHOLD or name.startswith(DISTANCE)


def number_cell(value: float) -> str:
    """A number of a pick's columns as a cell: blank where it is not known."""
    return "" if np.isnan(value) else f"{value:.6f}"


def is_picks_csv(path: Path, only: str = "") -> bool:
    """Whether the first line of the file names x, y, z and an object, which the one that is named need not be."""
    try:
        header, _ = _header(read_text(path, _EXPECTED))
    except (ReadError, csv.Error):
        return False
    return {"x", "y", "z"} <= set(header) and bool(only or set(OBJECT_COLUMNS) & set(header))


def _header(text: str) -> tuple[tuple[str, ...], str]:
    """The names of the columns, in lower case, and what stands between them."""
    first = text.split("\n", 1)[0]
    between = max(",;\t", key=first.count)
    return tuple(name.strip().lower() for name in next(csv.reader([first], delimiter=between), [])), between


def the_one(objects: Sequence[str]) -> str:
    """Whose picks a table holds that names no object, by the "name:radius" that are given: the one; "": not known."""
    return objects[0].partition(":")[0].strip() if len(objects) == 1 else ""


def read_picks_csv(path: str | Path, only: str = "") -> dict[str, Picks]:
    """The picks of each run; those of a table without a column for the run are under "".

    A table without a column for the object is of the object `only`.

    Positions are as the file has them, only turned to zyx. A table with a header alone gives no picks under "".

    Raises:
        ReadError: unreadable, a column is missing, or a row is wrong; the line is named.
    """
    table = read_table(Path(path))
    name = table.find(OBJECT_COLUMNS)
    if name is None and only:
        names = [only] * len(table.rows)
        return {run: rows.picks(run, names[: len(rows.rows)]) for run, rows in table.by_run().items()}
    if name is None:
        raise ReadError(
            f"{path}: line 1: no column object in '{','.join(table.header)}'; expected {_EXPECTED}, or one object "
            "named: `objects=NAME:RADIUS`"
        )
    nameless = next((line for line, text in zip(table.lines, table.texts(name)) if not text), None)
    if nameless is not None:
        raise ReadError(f"{path}: line {nameless}: the object has no name")
    if not table.rows:
        return {"": Picks.empty("")}
    return {run: rows.picks(run, rows.texts(name)) for run, rows in table.by_run().items()}


def write_picks_csv(path: str | Path, picks: Picks) -> None:
    """Writes `object,x,y,z,score` and the picks' columns, positions to 0.001 Å, scores to 1e-6.

    Rotations that the picks have follow in copick's columns.

    Raises:
        OutputError: the file cannot be written; then nothing is left of it.
    """
    with atomic_write(path) as handle:
        _write_rows(handle, picks)


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file is there with just this in it; one of another size is not read."""
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def write_tables(
    folder: Path, found: Mapping[str, Picks], objects: Sequence[PickableObject], overwrite: bool | None = None
) -> None:
    """RUN.csv of each run, and `objects.json` beside them, all on the disk before the first is seen.

    A table that is there already as it would be written is no hindrance: whoever was cut off can repeat it.

    Args:
        folder: to write to.
        found: by run.
        objects: of the picks.
        overwrite: replace tables that are there; None: that is not offered.

    Raises:
        OutputError: a table is there and is not to be replaced, or the folder cannot be written.
    """
    texts: dict[Path, bytes] = {}
    for run, picks in found.items():
        text = io.StringIO(newline="")
        _write_rows(text, picks)
        texts[folder / f"{component(run, 'run')}.csv"] = text.getvalue().encode()
    there = [p for p, data in texts.items() if p.exists() and not _holds(p, data)]
    if there and not overwrite:
        more = "" if overwrite is None else ", or replace it with `overwrite`"
        raise OutputError(f"{there[0]}: exists already; name another `out`{more}")
    listed = objects_text(folder / "objects.json", objects)
    write_together(texts if listed is None else {folder / "objects.json": listed, **texts})


def _write_rows(handle: IO[str], picks: Picks) -> None:
    turns = np.zeros((len(picks), 0)) if picks.rotations is None else picks.rotations.reshape(-1, 9)
    writer = csv.writer(handle, lineterminator="\n")
    writer.writerow(("object", "x", "y", "z", "score", *picks.columns, *TURNS[: turns.shape[1]]))
    more = np.column_stack([*picks.columns.values(), turns])
    for name, (z, y, x), score, rest in zip(picks.names, picks.positions, picks.scores, more):
        further = map(number_cell, rest)
        writer.writerow((quoted_cell(name), f"{x:.3f}", f"{y:.3f}", f"{z:.3f}", f"{score:.6f}", *further))
