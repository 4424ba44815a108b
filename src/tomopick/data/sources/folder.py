"""A folder of tomograms `RUN.mrc|.rec|.map|.zarr` with picks `RUN.csv`; or one such file."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from ...core.errors import OutputError, ReadError, SelectionError
from ...core.messages import counted, listing
from ...core.names import component, is_text, require_one_line, shown
from ...core.types import Grid, PickableObject, Picks, Tomogram
from ..choose import PicksEntry, TomogramEntry, choose_picks, choose_tomogram, require_id, require_objects, require_run
from ..names import RunNames
from ..objects import named_objects, read_objects, with_names, with_specs
from ..offset import CoordinateOffset
from ..project import Stamp, one_line
from ..regions import REGIONS_FILE, Regions
from ..tables import is_picks_csv, read_picks_csv, the_one, write_picks_csv
from ..volumes.checks import warn_once
from ..volumes.slabs import Slabs, volume_slabs
from ..volumes.volumes import contents_mark, is_volume_name, read_volume, volume_grids, volume_run, volume_start

log = logging.getLogger("tomopick")

NEGATIVES = ".negatives.csv"  # behind a run's name: places that somebody said are no particle of the named object
_ASIDE = (NEGATIVES, ".unsure.csv")  # ends of tables that hold no picks


class FolderProject:
    """Tomograms and CSV tables of one folder; it knows no tomogram types, users or sessions.

    The objects are those of `objects.json` and of the arguments; where there are neither, the names in the tables,
    without radii.
    """

    keeps_picks = False
    regions = Regions()

    def __init__(
        self,
        path: str | Path,
        voxel_spacing: float | None = None,
        objects: Sequence[str] = (),
        coordinate_offset: str | Sequence[float] | CoordinateOffset = "none",
    ) -> None:
        """Looks through the folder; opens no volume.

        Args:
            path: the folder, one volume, or one table of picks (of any number of runs).
            voxel_spacing: of every (finest) volume [Å]; instead of what the files say.
            objects: "name:radius" [Å]; they come before those of `objects.json`.
            coordinate_offset: a preset's name or zyx [voxels]; see `CoordinateOffset`.

        Raises:
            ReadError: two files of one run, or nothing that can be read.
            SelectionError: objects or an offset that are not of their form.
        """
        self.uri = str(path)
        path = Path(path)
        self._folder = path if _is_folder(path) else path.parent
        self._voxel_spacing = voxel_spacing
        self._offset = CoordinateOffset.parse(coordinate_offset)
        self._only = the_one(objects)
        self._volumes, self._tables = _contents(path, self._only)
        self._last: tuple[Path, str, dict[str, Picks]] = (path, "", {})  # table that was read, its mark, what it holds
        if not self._volumes and not self._tables:
            raise ReadError(f"{path}: no tomograms; expected RUN.mrc, RUN.rec or RUN.zarr, or picks as RUN.csv")
        self.objects = self._known_objects(objects)

    def _known_objects(self, specs: Sequence[str]) -> tuple[PickableObject, ...]:
        listed = self._folder / "objects.json"
        self.open_objects = not (listed.exists() or specs)
        if not self.open_objects:
            known = with_specs(read_objects(listed) if listed.exists() else (), specs, extend=True)
        else:
            known = named_objects(name for path in sorted(set(self._tables.values())) for name in _names_in(path))
        return tuple(o for o in known if o.is_particle)

    def __repr__(self) -> str:
        return one_line(self)

    def runs(self) -> list[str]:
        """The names of the runs, sorted."""
        return sorted(self._volumes or self._tables)

    def tomo_types(self, run: str) -> list[str]:
        """The tomogram of a run, as "@spacing"."""
        require_run(run, self._volumes or self._tables, self.uri)
        return [str(entry) for entry in self._entries(run)]

    def grid(self, run: str, tomo_type: str | None = None) -> Grid:
        """The grid of `tomogram`, from the header alone."""
        level = self._level(run, tomo_type)
        return volume_grids(self._volumes[run], self._voxel_spacing)[level]

    def header_grid(self, run: str) -> Grid | None:
        """Where a run's (finest) volume lies by what its file says; None: it does not."""
        try:
            grid = volume_grids(self._volumes[run])[0]
        except (KeyError, ReadError):
            return None
        return dataclasses.replace(grid, origin=volume_start(self._volumes[run], grid.voxel_spacing))

    def tomogram(self, run: str, tomo_type: str | None = None) -> Tomogram:
        """The tomogram, or a coarser level of its pyramid as "@spacing"."""
        level = self._level(run, tomo_type)
        values, grid = read_volume(self._volumes[run], level, self._voxel_spacing)
        return Tomogram(run, values, grid)

    def slabs(self, run: str, tomo_type: str | None = None) -> Slabs:
        """The voxels of `tomogram`, a few sections at a time."""
        return volume_slabs(self._volumes[run], self._level(run, tomo_type), self._voxel_spacing)

    def stamp(self, run: str, tomo_type: str | None = None) -> Stamp:
        """The file's path, and its size and time."""
        self._level(run, tomo_type)
        path = self._volumes[run]
        return Stamp(str(path.resolve()), contents_mark(path))

    def picks_sets(self, run: str) -> list[PicksEntry]:
        """The objects of `RUN.csv`; one table is of one user and session, whose names nobody knows."""
        require_run(run, self._volumes or self._tables, self.uri)
        picks = self._table(run)
        return [] if picks is None else self._sets(picks)

    def picks(self, run: str, query: str | None = None) -> Picks | None:
        """The picks of `RUN.csv`; None where there is no such file.

        Objects that `objects.json` or the arguments leave out are left out here, and that is logged.
        """
        require_run(run, self._volumes or self._tables, self.uri)
        picks = self._table(run)
        if picks is None:
            return None
        path, names = self._tables[run], [o.name for o in self.objects]
        unknown = sorted(set(picks.names.tolist()) - set(names))
        if unknown:
            warn_once(f"{path}: picks of {listing(unknown)} are left out; the objects are {listing(names)}")
        chosen = choose_picks(query, self._sets(picks), names, f"{self.uri}: run {run}")
        parts = Picks.join(run, [picks.of(entry.name) for entry in chosen or ()])
        return self._offset.to_true(parts, self._offset_spacing(run))

    def negatives(self, run: str) -> Picks | None:
        """The places in `RUN.negatives.csv` that are known to be none of the named objects; None: there is no table."""
        require_run(run, self._volumes or self._tables, self.uri)
        path = self._folder / f"{component(run, 'run')}{NEGATIVES}"
        if not path.is_file():
            return None
        found = Picks.join(run, read_picks_csv(path, self._only).values())
        return self._offset.to_true(found, self._offset_spacing(run))

    def write_picks(self, picks: Picks, user_id: str, session_id: str, replace: bool = False) -> None:
        """Writes `RUN.csv` beside the tomogram; user, session and rotations have no place in it.

        Raises:
            OutputError: the file exists already (it may be somebody's work) and is not to be replaced, or holds other
                runs too, or cannot be written.
        """
        require_id(user_id, "user")
        require_id(session_id, "session")
        require_run(picks.run, self._volumes or self._tables, self.uri)
        require_objects(picks.names.tolist(), [o.name for o in self.objects], self.uri)
        path = self.table(picks.run)
        if path.exists() and not replace:
            raise OutputError(f"{path}: exists already; expected no picks there, so remove it or write elsewhere")
        if path.exists() and set(read_picks_csv(path, self._only)) - {"", picks.run}:
            raise OutputError(
                f"{path}: holds picks of other runs too; expected a table of {picks.run} alone, so move it"
            )
        write_picks_csv(path, self.stated(picks))
        self._tables[picks.run] = path

    def has_picks(self, run: str, user_id: str, session_id: str) -> bool:
        """Whether there is a `RUN.csv`, whoever made it."""
        return run in self._tables or self.table(run).is_file()

    def table(self, run: str) -> Path:
        """The table of a run, whether it is there or not."""
        return self._tables.get(run) or self._folder / f"{component(run, 'run')}.csv"

    def names_in_tables(self) -> list[str]:
        """The objects that its tables of picks name, whether they are among `objects` or not."""
        found: set[str] = set()
        for path in sorted(set(self._tables.values())):
            with contextlib.suppress(ReadError):  # which asking for these picks says
                found |= {name for picks in self._picks_in(path).values() for name in picks.names.tolist()}
        return sorted(found)

    def admit(self, names: Sequence[str]) -> None:
        """Takes new objects in, without radii, where nobody has listed the project's."""
        if self.open_objects:
            self.objects = with_names(self.objects, names)

    def _table(self, run: str) -> Picks | None:
        if run not in self._tables:
            return None
        path = self._tables[run]
        tables = self._picks_in(path)
        mine = RunNames([run])
        here = next((name for name in tables if name == run), None) or next((n for n in tables if mine.find(n)), "")
        strays = {name: len(rows) for name, rows in tables.items() if name != here and self._tables.get(name) != path}
        if any(strays.values()):
            rows = counted(sum(strays.values()), "row")
            warn_once(f"{path}: left out, for the table is run {run}'s: {rows} of {listing(map(shown, strays))}")
        return None if here not in tables else dataclasses.replace(tables[here], run=run)

    def _picks_in(self, path: Path) -> dict[str, Picks]:
        """Of a table, which is read again where it has changed; one of many runs is asked for each of them."""
        mark = contents_mark(path) if path.is_file() else ""
        if self._last[:2] != (path, mark):
            self._last = path, mark, read_picks_csv(path, self._only)
        return self._last[2]

    def _sets(self, picks: Picks) -> list[PicksEntry]:
        names = [o.name for o in self.objects]
        return [PicksEntry(name) for name in sorted(set(picks.names.tolist()) & set(names)) or names]

    def _entries(self, run: str) -> list[TomogramEntry]:
        if run not in self._volumes:
            return []
        spacings = [grid.voxel_spacing for grid in volume_grids(self._volumes[run], self._voxel_spacing)]
        return [TomogramEntry("", spacings[0], lambda: spacings)]

    def _level(self, run: str, tomo_type: str | None) -> int:
        require_run(run, self._volumes or self._tables, self.uri)
        _, level = choose_tomogram(tomo_type, self._entries(run), f"{self.uri}: run {run}")
        return level

    def stated(self, picks: Picks) -> Picks:
        """The picks at the positions that a file of this data set states."""
        return self._offset.to_file(picks, self._offset_spacing(picks.run))

    def _offset_spacing(self, run: str) -> float:
        entries = self._entries(run) if self._offset else []
        tomogram = entries[0].voxel_spacing if entries else self._voxel_spacing
        return self._offset.spacing_for(tomogram, None, f"{self.uri}: run {run}")


def _names_in(path: Path) -> list[str]:
    """The objects of a table; none where it holds no picks, which asking for them says."""
    try:
        return [name for picks in read_picks_csv(path).values() for name in picks.names.tolist()]
    except ReadError as error:
        log.warning("%s: taken for no picks", error)
        return []


def _is_folder(path: Path) -> bool:
    return path.is_dir() and volume_run(path) is None


def _contents(path: Path, only: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """The volume and the table of each run; tables that name no object are of the object `only`."""
    if path.suffix.lower() == ".csv":
        return {}, {run or path.stem: path for run in read_picks_csv(path, only)}
    if not _is_folder(path):
        if not is_volume_name(path):
            raise ReadError(f"{path}: no tomogram by its name; expected .mrc, .rec, .map (or .gz of them) or .zarr")
        volume_grids(path, 1.0)  # a single volume that cannot be read is said at once
        _require_text(path)
        run = volume_run(path) or path.stem
        beside = {name for item in path.absolute().parent.iterdir() if (name := volume_run(item)) is not None}
        mine = _matched(tables_in(path.absolute().parent), sorted(beside | {run}), only, run)
        return {run: path}, {run: path.parent / mine[run].name} if run in mine else {}
    volumes: dict[str, Path] = {}
    for item in sorted(path.iterdir()):
        name = volume_run(item)
        if name is not None:
            _require_text(item)
        if name is not None and name in volumes:
            raise ReadError(f"{path}: run '{name}' is there twice, {volumes[name].name} and {item.name}; keep one")
        if name is not None:
            volumes[name] = item
    # Beside tomograms only RUN.csv is picks; without them every table is.
    if not volumes:
        return {}, {table.stem: table for table in tables_in(path) if is_picks_csv(table, only)}
    return volumes, _matched(tables_in(path), list(volumes), only)


def tables_in(folder: Path) -> list[Path]:
    """The CSV files of a folder that may hold picks, whichever way their ending is written."""
    tables = (p for p in folder.iterdir() if p.suffix.lower() == ".csv" and not p.name.startswith("."))
    found = sorted(p for p in tables if p.name != REGIONS_FILE and not p.name.lower().endswith(_ASIDE))
    for table in found:
        _require_text(table)
    return found


def _require_text(path: Path) -> None:
    """Raises `ReadError` where the name of a file, which names its run, is no text in the locale's encoding.

    Nor may there be line ends in it.
    """
    if not is_text(path.name):
        raise ReadError(f"{path.parent}: {shown(path.name)}: the file's name is no text here; rename it")
    require_one_line(path.name, str(path.parent))


def _matched(tables: Sequence[Path], runs: Sequence[str], only: str, asked: str | None = None) -> dict[str, Path]:
    """The table of each run: the one that is called like it, else the one that is by the same rule as files are.

    Args:
        tables, runs: of one folder.
        only: the object of tables that name none; "": there are no such.
        asked: the only run of interest; None: all.

    Raises:
        ReadError: two tables for a run, neither called exactly like it.
    """
    found = {table.stem: table for table in tables if table.stem in runs}
    names = RunNames([run for run in runs if run not in found])
    shortened: dict[str, Path] = {}
    for table in (t for t in tables if t.stem not in found and is_picks_csv(t, only)):
        try:
            run = names.find(table.stem)
        except SelectionError as error:
            if asked is None:
                log.warning("%s: is left out: %s", table.parent / table.name, error)
            continue
        if run is not None and run in shortened and asked in (None, run):
            raise ReadError(
                f"{table.parent}: run '{run}' has two tables, {shortened[run].name} and {table.name}; expected one, so "
                f"call it {run}.csv"
            )
        if run is not None:
            shortened[run] = table
    if asked is not None:
        names.shortened = {name: run for name, run in names.shortened.items() if run == asked}
    for line in names.said():
        log.info(f"{tables[0].parent}: tables {line}")
    return found | shortened
