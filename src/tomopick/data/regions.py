"""Where runs are labelled: parts outside of which nobody has looked, so that nothing there is right or wrong."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..core.errors import ReadError, SelectionError
from ..core.messages import near_miss
from ..core.text import read_text
from ..core.types import Grid, Picks
from .masks import Mask

REGIONS_FILE = "regions.csv"
_COLUMNS = ("z0", "z1", "y0", "y1", "x0", "x1")
_SPAN = re.compile(r"\s*([-+.\deE]*)\s*([AÅ]?)\s*:\s*([-+.\deE]*)\s*([AÅ]?)\s*")
_FORM = "expected 10:40 in voxels, 100:400A, or : for all"


@dataclass(frozen=True)
class Span:
    """A span of one axis, from a voxel up to before another, or between two positions.

    Attributes:
        start, stop: None: from, or to, the volume's end; voxels below 0 count from its end.
        angstrom: whether they are positions [Å].
    """

    start: float | None = None
    stop: float | None = None
    angstrom: bool = False

    @classmethod
    def parse(cls, text: str) -> Span:
        """`10:40`, `0:1290A`, `800A:` or `:`; raises `SelectionError` for what is not of this form."""
        found = _SPAN.fullmatch(text)
        try:
            if found is None:
                raise ValueError
            start, stop = (_finite(part) if part else None for part in found.group(1, 3))
        except ValueError:
            raise SelectionError(f"'{text}' is no span; {_FORM}") from None
        if (found[2] and start is None) or (found[4] and stop is None):
            raise SelectionError(f"'{text}' has an A without a number; {_FORM}")
        if found[2] and stop is not None and not found[4]:
            both = f"{found[1]}:{found[3]}"
            raise SelectionError(f"'{text}' has its A behind the start alone; write {both}A in Å, or {both} in voxels")
        span = cls(start, stop, bool(found[2] or found[4]))
        if start is not None and stop is not None and not start < stop and (span.angstrom or start * stop >= 0):
            raise SelectionError(f"'{text}' is empty; expected its start before its stop")
        return span

    def __str__(self) -> str:
        start, stop = ("" if v is None else f"{v:.7g}" for v in (self.start, self.stop))
        unit = "A" if self.angstrom else ""
        return f"{start}:{stop}{unit}" if stop else f"{start}{unit}:" if start else ":"

    def bounds(self, grid: Grid, axis: int) -> tuple[float, float]:
        """From where to where [Å]; voxels count with their outer faces."""
        spacing, origin = grid.voxel_spacing, grid.origin[axis]
        faces = (0.0 if self.angstrom else -0.5 * spacing + origin), (1.0 if self.angstrom else spacing)
        ends = [v if v is None or v >= 0 or self.angstrom else v + grid.shape[axis] for v in (self.start, self.stop)]
        start, stop = (None if v is None else faces[0] + v * faces[1] for v in ends)
        return -np.inf if start is None else start, np.inf if stop is None else stop

    def objection(self, grid: Grid, axis: int) -> str | None:
        """Why it cannot be meant on a grid, and what may be; None where it can."""
        n, spacing, first = grid.shape[axis], grid.voxel_spacing, grid.origin[axis]
        size = f"{n} voxels along {'zyx'[axis]}, {first:.4g} to {first + (n - 1) * spacing:.4g} Å"
        far = [v for v in (self.start, self.stop) if v is not None and not -n - 1 <= v <= n + 1]
        if far and not self.angstrom:
            likely = min(self.start or 0, self.stop or 0) >= 0 and min(far) <= (n + 1) * spacing
            fix = f"is it in Å? write {replace(self, angstrom=True)}" if likely else f"expected 0 to {n}"
            return f"{self} reaches beyond its {size}; {fix}"
        low, high = self.bounds(grid, axis)
        if low < high and high > first - 0.5 * spacing and low < first + (n - 0.5) * spacing:
            return None
        return f"{self} holds none of its {size}; state a part of these"


def _finite(text: str) -> float:
    number = float(text)
    if not np.isfinite(number):
        raise ValueError
    return number


@dataclass(frozen=True)
class LabelledBox:
    """A box in which a run is labelled.

    Attributes:
        run: its name.
        spans: of z, y and x.
        name: of the only object that it is meant for; "" for all.
    """

    run: str
    spans: tuple[Span, Span, Span]
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> LabelledBox:
        """`RUN[:OBJECT]=z0:z1,y0:y1,x0:x1`; raises `SelectionError` for what is not of this form."""
        where, equals, spans = text.partition("=")
        run, _, name = where.strip().partition(":")
        parts = spans.split(",")
        if not equals or not run or len(parts) != 3:
            raise SelectionError(
                f"`regions={text}`: expected RUN=z0:z1,y0:y1,x0:x1 in voxels, or with A behind for Å, such as "
                "TS_1=:,0:1290A,:"
            )
        try:
            z, y, x = map(Span.parse, parts)
        except SelectionError as error:
            raise SelectionError(f"`regions={text}`: {error}") from None
        return cls(run, (z, y, x), name)


@dataclass(frozen=True)
class Region:
    """The union of boxes and masks in one run.

    Attributes:
        boxes: (low, high) corners, zyx [Å].
        masks: of any voxel size.
    """

    boxes: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    masks: tuple[Mask, ...] = ()

    def contains(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) positions, zyx [Å] -> (n,) bool."""
        positions = np.reshape(positions, (-1, 3))
        found = np.zeros(len(positions), dtype=bool)
        for low, high in self.boxes:
            found |= ((positions >= low) & (positions < high)).all(axis=1)
        for mask in self.masks:
            found |= mask.contains(positions)
        return found

    def on(self, grid: Grid) -> np.ndarray:
        """(z, y, x) bool: the voxels whose centre lies in it."""
        found = np.zeros(grid.shape, dtype=bool)
        for low, high in self.boxes:
            z, y, x = (
                (steps >= low[axis]) & (steps < high[axis])
                for axis in range(3)
                for steps in (grid.origin[axis] + np.arange(grid.shape[axis]) * grid.voxel_spacing,)
            )
            found |= z[:, None, None] & y[:, None] & x
        for mask in self.masks:
            found |= mask.on(grid)
        return found


@dataclass(frozen=True)
class Labelled:
    """Where one run is labelled.

    Attributes:
        all: for objects that have no region of their own; None: everywhere.
        own: by object.
    """

    all: Region | None = None
    own: Mapping[str, Region] = field(default_factory=dict)

    def of(self, name: str) -> Region | None:
        """Where an object is labelled; None: everywhere."""
        return self.own.get(name, self.all)

    def holds(self, picks: Picks) -> np.ndarray:
        """(n,) bool: whether each pick lies where its object is labelled."""
        found = np.ones(len(picks), dtype=bool)
        for name in set(picks.names.tolist()):
            region, mine = self.of(name), picks.names == name
            if region is not None:
                found[mine] = region.contains(picks.positions[mine])
        return found


@dataclass(frozen=True)
class Regions:
    """Where the runs of a project are labelled; runs without a part of their own are everywhere.

    Attributes:
        parts: boxes.
        masks: each a path or `NAME:user/session`; see `masks.read_mask`.
    """

    parts: tuple[LabelledBox, ...] = ()
    masks: tuple[str, ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str], masks: Sequence[str] = ()) -> Regions:
        """From `RUN=z0:z1,y0:y1,x0:x1`; raises `SelectionError` for what is not of this form."""
        return cls(tuple(map(LabelledBox.parse, texts)), tuple(masks))

    @classmethod
    def beside(cls, place: Path) -> Regions:
        """Those in the folder's `regions.csv`; none where there is no such file."""
        path = (place if place.is_dir() else place.parent) / REGIONS_FILE
        return cls(tuple(_read(path))) if path.is_file() else cls()

    def __bool__(self) -> bool:
        return bool(self.parts or self.masks)

    def __add__(self, other: Regions) -> Regions:
        """Both; of a run that both name, what `other` says."""
        named = {part.run for part in other.parts}
        kept = tuple(part for part in self.parts if part.run not in named)
        return Regions(kept + other.parts, self.masks + other.masks)

    def among(self, runs: Iterable[str]) -> Regions:
        """Those of some runs."""
        known = set(runs)
        return replace(self, parts=tuple(part for part in self.parts if part.run in known))

    def require(self, runs: Sequence[str], objects: Collection[str], uri: str) -> None:
        """Raises `SelectionError` for a run that is not there, or an object; where none is known any may be."""
        for part in self.parts:
            if part.run not in runs:
                raise SelectionError(f"{uri}: no run '{part.run}' to state a region of; {near_miss(part.run, runs)}")
            if part.name and objects and part.name not in objects:
                raise SelectionError(
                    f"{uri}: run {part.run}: no object '{part.name}' to state a region of; "
                    f"{near_miss(part.name, objects)}"
                )

    def require_within(self, run: str, grid: Grid, uri: str) -> None:
        """Raises `SelectionError` for a part of a run that cannot be meant on its grid."""
        for part in (part for part in self.parts if part.run == run):
            for axis, span in enumerate(part.spans):
                why = span.objection(grid, axis)
                if why is not None:
                    raise SelectionError(f"{uri}: run {run}: its region {why}")

    def of(self, run: str, grid: Grid, masks: Sequence[Mask] = ()) -> Labelled | None:
        """Where a run is labelled; None: everywhere.

        Args:
            run: its name.
            grid: of its tomogram, whose voxels are counted.
            masks: that were read for it.
        """
        boxes: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for part in (part for part in self.parts if part.run == run):
            low, high = np.transpose([span.bounds(grid, axis) for axis, span in enumerate(part.spans)])
            boxes.setdefault(part.name, []).append((low, high))
        if not boxes and not masks:
            return None
        own = {name: Region(tuple(found)) for name, found in boxes.items() if name}
        general = Region(tuple(boxes.get("", ())), tuple(masks))
        return Labelled(general if general.boxes or general.masks else None, own)


def _read(path: Path) -> Iterator[LabelledBox]:
    """The parts that a table states: run, z0, z1, y0, y1, x0, x1 [Å] and, if there is one, object."""
    try:
        rows = csv.DictReader(read_text(path, "a table").splitlines())
        yield from _boxes(path, rows)
    except csv.Error as error:
        raise ReadError(f"{path}: cannot be read as CSV ({error})") from None


def _boxes(path: Path, rows: csv.DictReader[str]) -> Iterator[LabelledBox]:
    missing = [name for name in ("run", *_COLUMNS) if name not in (rows.fieldnames or ())]
    if missing:
        raise ReadError(f"{path}: no column {', '.join(missing)}; expected run,{','.join(_COLUMNS)} in Å")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values() or not row["run"].strip():
            n = len(rows.fieldnames or ())
            raise ReadError(f"{path}, line {number}: expected a run and the {n} columns of line 1")
        spans = [_span(row, ends, f"{path}, line {number}") for ends in zip(_COLUMNS[::2], _COLUMNS[1::2])]
        yield LabelledBox(row["run"].strip(), (spans[0], spans[1], spans[2]), (row.get("object") or "").strip())


def _span(row: Mapping[str, str], ends: tuple[str, str], where: str) -> Span:
    """The span between two cells [Å], each of which may be empty."""
    numbers: list[float | None] = []
    for name in ends:
        text = row[name].strip()
        try:
            numbers.append(_finite(text) if text else None)
        except ValueError:
            raise ReadError(f"{where}: {name} is '{text}'; expected a number in Å, or nothing for an end") from None
    start, stop = numbers
    if start is not None and stop is not None and not start < stop:
        raise ReadError(f"{where}: {ends[0]} is {start:g} and {ends[1]} {stop:g}; expected the first below the other")
    return Span(start, stop, True)
