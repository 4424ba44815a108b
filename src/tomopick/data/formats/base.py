"""What every format of picks is given and gives."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ...core.errors import OutputError, ReadError, SelectionError
from ...core.files import write_together
from ...core.messages import counted, listing
from ...core.text import BEYOND, checked_numbers, read_text
from ...core.types import Grid, PickableObject, Picks, Vector
from ..names import RunNames, object_alias

log = logging.getLogger("tomopick")


@dataclass(frozen=True)
class RunFrame:
    """What a file needs to know of a run beside its picks.

    Attributes:
        run: our name of it.
        title: the other program's name of it; ours where that says nothing else.
        index: its number, for files that number tomograms.
        grid: of the volume whose voxels coordinates are counted in; None where there is none.
        centre: middle of the whole tomogram, zyx [Å]; None where it is not known.
        pixel_size: of the tilt series [Å].
        optics: RELION's optics of the tilt series, by column.
        choices: tomograms of different grids, one of which has to be chosen before voxels can be counted.
    """

    run: str
    title: str = ""
    index: int = 1
    grid: Grid | None = None
    centre: Vector | None = None
    pixel_size: float | None = None
    optics: Mapping[str, float] = field(default_factory=dict)
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the other program calls it."""
        return self.title or self.run

    def need_grid(self, format_name: str) -> Grid:
        """The grid; raises `SelectionError` where there is none."""
        if self.grid is None and self.choices:
            raise SelectionError(
                f"run {self.run}: {format_name} counts in voxels, and the tomograms differ in theirs; "
                f"say which with `tomo_type`: {listing(self.choices)}"
            )
        if self.grid is None:
            raise SelectionError(
                f"run {self.run}: {format_name} counts in voxels, and there is no tomogram to count in; "
                "give the tomograms with `tomograms`, or their voxel size with `voxel_spacing`"
            )
        return self.grid

    def need_centre(self, format_name: str) -> np.ndarray:
        """(3,) the centre, zyx [Å]; raises `SelectionError` where it is not known."""
        if self.centre is None:
            raise SelectionError(
                f"run {self.run}: {format_name} counts from the middle of the tomogram, whose size is not known; "
                "give RELION's tomograms.star with `tomograms_star`, or the tomograms with `tomograms`"
            )
        return np.asarray(self.centre, dtype=np.float64)


Part = tuple[Picks, RunFrame]
Objects = Mapping[str, PickableObject]


@dataclass(frozen=True)
class Reading:
    """How a file's names and numbers are to be understood.

    Attributes:
        frame: gives the frame of one of our runs.
        names: finds our runs by others' names.
        unmatched: names of tomograms that no run has; what is read adds to it.
        name: the object of all picks, where the file does not say.
        labels: objects by class number.
        pixel_size: of the coordinates [Å], in place of what the file says.
        index_map: file with lines "number path-or-name" for formats that number tomograms.
        new_objects: whether objects may come in that the project does not have yet.
    """

    frame: Callable[[str], RunFrame]
    names: RunNames
    unmatched: list[str] = field(default_factory=list)
    name: str | None = None
    labels: Mapping[int, str] = field(default_factory=dict)
    pixel_size: float | None = None
    index_map: Path | None = None
    new_objects: bool = False

    def find(self, name: str) -> RunFrame | None:
        """The frame of the run that the file calls `name`; None, and it is noted, where no run is called so."""
        run = self.names.find(name)
        if run is None:
            if name not in self.unmatched:
                self.unmatched.append(name)
            return None
        return self.frame(run)

    def find_file(self, path: Path) -> tuple[RunFrame | None, str | None]:
        """The frame (and object) that a file of one tomogram is of: by its name, its folders', or the only run.

        A file that is called after another tomogram, or lies in a folder that is, goes neither to a run that a folder
        farther up is called after nor to the only one.
        """
        run, name = self.names.find_with_object(path.stem)
        if run is None and not self.names.names_another(path.stem):
            run, elsewhere = self.names.find_folder(path.absolute().parent.parts)
            if run is None and not elsewhere and len(self.names.runs) == 1:
                run = self.names.runs[0]
                log.warning(f"{path.name}: names no run; it is taken for '{run}', the only one")
        if run is None:
            self.unmatched.append(path.name)
            return None, None
        return self.frame(run), name

    def nothing(self, path: Path, of: str = "") -> list[Picks]:
        """No picks, of the run that an empty file (or the list that names it, `of`) stands for."""
        run = self.names.find(of) if of else self.names.find_with_object(path.stem)[0]
        if run is None and len(self.names.runs) == 1 and not self.names.names_another(path.stem):
            run = self.names.runs[0]
        known = "" if run is not None else ", and its name is no run's: nothing is known of any"
        log.warning(f"{path}: holds no particles{known}")
        return [] if run is None else [Picks.empty(run)]

    def in_angstrom(self, path: Path) -> None:
        """Says so where a pixel size was asked for and the file's coordinates need none."""
        if self.pixel_size is not None:
            log.warning(f"{path}: its coordinates are in Å, so that `pixel_size` does not count for them")

    def objects(self, n: int, path: Path, classes: np.ndarray | None = None, said: str | None = None) -> np.ndarray:
        """(n,) the object of each pick: as told, as `said` or the file's name ends, by class number, or the only one.

        Raises:
            SelectionError: nobody says which object it is.
        """
        known = list(self.labels.values())
        endings = [n for n in known if path.stem.lower().endswith(n.lower())]
        name = self.name or (self.object(said) if said else None) or max(endings, key=len, default=None)
        numbers = [] if classes is None else np.asarray(classes).astype(int).tolist()
        if name is None and len(known) == 1:
            name = known[0]
        if name is not None:
            return np.full(n, name)
        if len(numbers) == n and all(c in self.labels for c in numbers):
            return np.array([self.labels[c] for c in numbers], dtype=np.str_)
        if not n:
            return np.zeros(0, dtype=np.str_)
        raise SelectionError(
            f"{path}: does not say which object the picks are; expected one of "
            f"{listing(known) or 'the objects of the project'}, so name it with `name=OBJECT`"
        )

    def object(self, said: str) -> str:
        """The object that a file calls `said`; a new one by copick's rules where the project takes new ones."""
        known = list(self.labels.values())
        name = object_alias(said, known)
        if name in known or not self.new_objects:
            return name
        return re.sub(r'[<>:"/\\|?*\x00-\x1F\x7F\s_]+', "-", said.strip()).strip("-") or "object"


@runtime_checkable
class PicksFormat(Protocol):
    """A kind of file; its fields are the choices its writer leaves.

    Attributes:
        key: what the command line calls it.
        suffix: of its files.
        per_run: one file a run (True), or one for all.
        mixed: one file may hold several objects and tells them apart when it is read again.
    """

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def suffix(self) -> str: ...  # noqa: D102
    @property
    def per_run(self) -> bool: ...  # noqa: D102
    @property
    def mixed(self) -> bool: ...  # noqa: D102

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """The files that stand for the picks, not yet on disk.

        Args:
            parts: picks of each run, none of them twice.
            path: of the main file; others lie beside it.
            objects: by name; their labels are the class numbers.
        """
        ...

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """What must be known to use the files of these picks, one line each."""
        ...

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The picks of the runs that are known; raises `ReadError` for what is not such a file."""
        ...


def voxel_notes(parts: Sequence[Part]) -> list[str]:
    """The volume that voxels are counted in."""
    lines = {}
    for _, frame in parts:
        if frame.grid is not None:
            z, y, x = frame.grid.shape
            size = "" if frame.grid.shape == (1, 1, 1) else f" of a volume of {x} x {y} x {z} (x, y, z)"
            lines[frame.grid] = f"counted in voxels of {frame.grid.voxel_spacing:.4g} Å{size}"
    return list(lines.values())[:3]


def save(files: Mapping[Path, bytes], overwrite: bool = False) -> list[Path]:
    """Writes files that belong together, all or none; gives their paths.

    A file that is there already as it would be written is no hindrance: whoever was cut off can repeat it.

    Raises:
        OutputError: one exists (and is not to be replaced), or cannot be written.
    """
    taken = [str(path) for path, data in files.items() if path.exists() and not _holds(path, data)]
    if taken and not overwrite:
        raise OutputError(
            f"{listing(taken)}: exists already; expected a new name, so choose another or replace it with `overwrite`"
        )
    write_together(files)
    return list(files)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def to_eulers(rotations: np.ndarray, sequence: str) -> np.ndarray:
    """(n, 3, 3) matrices -> (n, 3) Euler angles [degrees], in scipy's notation of the sequence."""
    from scipy.spatial.transform import Rotation

    if not len(rotations):
        return np.zeros((0, 3))
    with warnings.catch_warnings():
        # At the poles only the sum of two angles counts; scipy sets one to zero, which is as good as any, and says so.
        warnings.simplefilter("ignore", UserWarning)
        return Rotation.from_matrix(rotations).as_euler(sequence, degrees=True)


def from_eulers(angles: np.ndarray, sequence: str) -> np.ndarray:
    """(n, 3) Euler angles [degrees] -> (n, 3, 3) matrices."""
    from scipy.spatial.transform import Rotation

    if not len(angles):
        return np.zeros((0, 3, 3))
    return Rotation.from_euler(sequence, np.asarray(angles, dtype=np.float64), degrees=True).as_matrix()


def rotated(rotations: np.ndarray, angles: np.ndarray) -> np.ndarray | None:
    """The rotations, or None where every angle is zero: nobody has said an orientation."""
    return rotations if np.any(np.abs(angles) > 1e-9) else None


def load_numbers(path: Path, expected: str, widths: Sequence[int]) -> np.ndarray:
    """(rows, columns) of a text of numbers, none where the file is empty; lines that begin with # are left out.

    Args:
        path: of the file.
        expected: what a line is to be, for messages.
        widths: numbers of columns that will do.

    Raises:
        ReadError: no text, a line of another width than the first or than `widths`, or a number that is none.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    for i, line in enumerate(read_text(path, expected).splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) not in widths:
            raise ReadError(
                f"{path}: line {i} has {counted(len(words), 'column')}; expected {expected}, so cut out the others"
            )
        if rows and len(words) != len(rows[0]):
            raise ReadError(
                f"{path}: line {i} has {counted(len(words), 'value')}, others {len(rows[0])}; expected {expected}"
            )
        rows.append(words)
        lines.append(i)
    if not rows:
        return np.zeros((0, min(widths)))
    found = [checked_numbers(c, path, f"column {k + 1}", lines) for k, c in enumerate(zip(*rows))]
    return np.stack(found, axis=1)


def finite(numbers: np.ndarray, path: Path, what: str = "coordinate") -> np.ndarray:
    """The numbers themselves, (n, ...); raises `ReadError` where one is not finite, or beyond all measure."""
    bad = ~(np.abs(numbers) <= BEYOND).all(axis=tuple(range(1, np.ndim(numbers))))
    if np.any(bad):
        row = int(np.flatnonzero(bad)[0]) + 1
        raise ReadError(f"{path}: row {row} has a {what} that is no finite number; mend or remove it")
    return numbers
