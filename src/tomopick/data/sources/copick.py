"""copick projects: every back-end is read through the copick library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import OutputError, ReadError
from ...core.files import write_together
from ...core.messages import reason_of
from ...core.names import component, require_one_line
from ...core.reading import parse_json
from ...core.text import read_json
from ...core.types import Grid, PickableObject, Picks, Tomogram
from ..choose import PicksEntry, TomogramEntry, choose_picks, choose_tomogram, require_id, require_objects, require_run
from ..objects import object_from_fields, with_specs
from ..offset import CoordinateOffset
from ..picksjson import PicksFile, parse_picks, picks_files
from ..project import Stamp, one_line
from ..regions import Regions
from ..volumes.omezarr import first_voxel, read_levels
from ..volumes.slabs import Slabs, zarr_slabs
from ..volumes.volumes import contents_mark, read_zarr
from .backends import reads
from .copick_config import load_root, local_path


class CopickProject:
    """A copick configuration: filesystem, CryoET data portal or mlcroissant.

    Lists of runs and tomograms are read once; what other processes add later is seen by a new project.
    """

    keeps_picks = True
    regions = Regions()

    def __init__(
        self,
        path: str | Path,
        objects: Sequence[str] = (),
        coordinate_offset: str | Sequence[float] | CoordinateOffset = "none",
    ) -> None:
        """Opens the configuration.

        Args:
            path: of the JSON file.
            objects: "name:radius" [Å], for objects that have no radius there, or another.
            coordinate_offset: a preset's name or zyx [voxels]; see `CoordinateOffset`.

        Raises:
            ReadError: no copick configuration, or its folders are not there.
            SelectionError: objects or an offset that are not of their form, or an object it does not have.
        """
        self.uri = str(path)
        self._config = Path(path)
        self.root = load_root(self._config)
        roots = (getattr(self.root.config, f"{kind}_root", None) for kind in ("static", "overlay"))
        self.where_data_lie = next((root for root in roots if root and local_path(root) is None), None)
        self._offset = CoordinateOffset.parse(coordinate_offset)
        self._listed: Any = None
        self._by_name: dict[str, Any] = {}
        known = [object_from_fields(o.model_dump(), self.uri) for o in self.root.config.pickable_objects]
        self.objects: tuple[PickableObject, ...] = with_specs(
            [o for o in known if o.is_particle], objects, extend=False
        )

    def __repr__(self) -> str:
        return one_line(self)

    @reads
    def runs(self) -> list[str]:
        """The names of the runs, sorted."""
        return sorted(require_one_line(run.name, f"{self.uri}: run") for run in self.root.runs)

    @reads
    def tomo_types(self, run: str) -> list[str]:
        """The tomograms of a run, as "TYPE@spacing"; the spacing as copick calls it."""
        return sorted(str(entry) for entry in self._tomograms(run))

    @reads
    def grid(self, run: str, tomo_type: str | None = None) -> Grid:
        """The grid of `tomogram`, from its metadata alone."""
        found = self._tomograms(run)
        entry, level = choose_tomogram(tomo_type, list(found), f"{self.uri}: run {run}")
        return self._levels(run, entry, found[entry])[level]

    @reads
    def tomogram(self, run: str, tomo_type: str | None = None) -> Tomogram:
        """The tomogram "TYPE[@spacing]", or the only one."""
        found = self._tomograms(run)
        entry, level = choose_tomogram(tomo_type, list(found), f"{self.uri}: run {run}")
        values, grid = read_zarr(found[entry].zarr(), f"{self.uri}: run {run}, {entry}", level)
        return Tomogram(run, values, grid, entry.tomo_type)

    @reads
    def slabs(self, run: str, tomo_type: str | None = None) -> Slabs:
        """The voxels of `tomogram`, a few sections at a time."""
        found = self._tomograms(run)
        entry, level = choose_tomogram(tomo_type, list(found), f"{self.uri}: run {run}")
        slabs = zarr_slabs(found[entry].zarr(), f"{self.uri}: run {run}, {entry}", level)
        return Slabs(slabs.grid, partial(_asking, self, slabs.read))

    @reads
    def stamp(self, run: str, tomo_type: str | None = None) -> Stamp:
        """The configuration's path, and sizes and times of the store's metadata, or what it says where it is remote."""
        found = self._tomograms(run)
        entry, _ = choose_tomogram(tomo_type, list(found), f"{self.uri}: run {run}")
        tomogram = found[entry]
        paths = [local_path(getattr(tomogram, f"{kind}_path", None)) for kind in ("overlay", "static")]
        there = next((path for path in paths if path is not None and path.is_dir()), None)
        return Stamp(str(self._config.resolve()), contents_mark(there or tomogram.zarr()))

    @reads
    def picks_sets(self, run: str) -> list[PicksEntry]:
        """The sets of picks of a run."""
        return list(self._sets(run))

    @reads
    def picks(self, run: str, query: str | None = None) -> Picks | None:
        """The picks "object:user/session", or the only ones; None where the run has none."""
        names = [o.name for o in self.objects]
        found = self._sets(run)
        chosen = choose_picks(query, list(found), names, f"{self.uri}: run {run}")
        if chosen is None:
            return None
        parts = []
        for entry in chosen:
            file = self._load(run, entry, found[entry])
            spacing = self._offset_spacing(run, file.voxel_spacing)
            parts.append(self._offset.to_true(file.picks, spacing))
        return Picks.join(run, parts)

    @reads
    def segmentations(self, run: str) -> dict[str, Segmentation]:
        """The segmentations of a run, by `NAME:user/session@spacing`; none is read yet."""
        found = self._run(run).segmentations
        stored = {f"{s.name}:{s.user_id}/{s.session_id}@{s.voxel_size:.3f}": s for s in found}
        where = f"{self.uri}: run {run}, segmentation"
        return {name: Segmentation(self, run, s, f"{where} {name}") for name, s in stored.items()}

    def write_picks(self, picks: Picks, user_id: str, session_id: str, replace: bool = False) -> None:
        """Writes one picks file an object into the overlay; those of the same user and session are replaced.

        In a local overlay all files are complete before the first becomes visible; elsewhere copick stores them one
        after the other.

        Raises:
            OutputError: copick would rename the user or session, or the overlay cannot be written.
        """
        require_id(user_id, "user")
        require_id(session_id, "session")
        names = [o.name for o in self.objects]
        require_objects(picks.names.tolist(), names, self.uri)
        stale = [e.name for e in self._sets(picks.run) if (e.user_id, e.session_id) == (user_id, session_id)]
        spacing = min((e.voxel_spacing for e in self._tomograms(picks.run)), default=None)
        texts = picks_files(self.stated(picks), names, stale, (user_id, session_id, spacing))
        run = self._run(picks.run)
        folder = self.overlay_folder(picks.run)
        if folder is not None:
            write_together({folder / "Picks" / name: text for name, text in texts.items()})
        else:
            _store_remote(run, texts, self.uri)
        run.refresh_picks()

    @reads
    def has_picks(self, run: str, user_id: str, session_id: str) -> bool:
        """Whether there are picks of this user and session, even none found."""
        self._run(run).refresh_picks()  # other processes may be picking the same project
        return any((e.user_id, e.session_id) == (user_id, session_id) for e in self._sets(run))

    @reads
    def stated(self, picks: Picks) -> Picks:
        """The picks at the positions that a file of this data set states."""
        return self._offset.to_file(picks, self._offset_spacing(picks.run, None))

    @property
    def overlay(self) -> Path | None:
        """The folder that is written to; None where it does not lie on this machine."""
        return local_path(getattr(self.root.config, "overlay_root", None))

    def overlay_folder(self, run: str) -> Path | None:
        """The run's folder in the overlay; None where the overlay is not a local folder."""
        return None if self.overlay is None else self.overlay / "ExperimentRuns" / component(run, "run")

    def _run(self, run: str) -> Any:
        known = self.root.runs
        if known is not self._listed:  # copick lists them anew now and then
            self._listed, self._by_name = known, {r.name: r for r in known}
        if run not in self._by_name and len(known) != len(self._by_name):  # or adds one
            self._by_name = {r.name: r for r in known}
        require_run(run, self._by_name, self.uri)
        return self._by_name[run]

    def _tomograms(self, run: str) -> dict[TomogramEntry, Any]:
        found: dict[str, tuple[TomogramEntry, Any]] = {}
        for spacing in self._run(run).voxel_spacings:
            for tomogram in spacing.tomograms:
                entry = TomogramEntry(tomogram.tomo_type, spacing.voxel_size, self._lazy_levels(run, tomogram))
                found[str(entry)] = entry, tomogram  # copick lists the overlay last: it hides the static one
        return dict(found.values())

    def _lazy_levels(self, run: str, tomogram: Any) -> Any:
        where = f"{self.uri}: run {run}, {tomogram.tomo_type}"
        return lambda: [level.grid.voxel_spacing for level in read_levels(tomogram.zarr(), where)]

    def _levels(self, run: str, entry: TomogramEntry, tomogram: Any) -> list[Grid]:
        return [level.grid for level in read_levels(tomogram.zarr(), f"{self.uri}: run {run}, {entry}")]

    def _sets(self, run: str) -> dict[PicksEntry, Any]:
        # Files of an object that the configuration has not (any more) are nobody's business here.
        names = [o.name for o in self.objects]
        try:
            stored = self._run(run).picks
        except IndexError:
            raise ReadError(
                f"{self.uri}: run {run}: a picks file is not called USER_SESSION_OBJECT.json; rename it, or give "
                "tomopick the folder itself if it is Kaggle's"
            ) from None
        entries = [(PicksEntry(p.pickable_object_name, p.user_id, p.session_id), p) for p in stored]
        return {entry: picks for entry, picks in entries if entry.name in names}

    def _load(self, run: str, entry: PicksEntry, picks: Any) -> PicksFile:
        where = f"{self.uri}: run {run}, picks {entry}"
        path = _place(picks)
        try:
            if path is not None:
                data = read_json(path, "copick's picks")
            else:
                text = _text_of(picks)
                data = picks.load().model_dump() if text is None else parse_json(text)
        except (OSError, ValueError, TypeError, RecursionError, OverflowError, ReadError) as error:
            raise ReadError(f"{where}: cannot be read ({reason_of(error)})") from None
        return parse_picks(data, run, where)

    def _offset_spacing(self, run: str, picks_file: float | None) -> float:
        spacings = []
        if self._offset:  # the folder's name is rounded (10.000 for 10.012), so the metadata is asked
            spacings = [self._levels(run, e, t)[0].voxel_spacing for e, t in self._tomograms(run).items()]
        return self._offset.spacing_for(min(spacings, default=None), picks_file, f"{self.uri}: run {run}")


@reads
def _asking(project: CopickProject, ask: Callable[..., Any], *arguments: Any) -> Any:
    """What is read later than it is found, from the same back-end."""
    return ask(*arguments)


@dataclass(frozen=True)
class Segmentation:
    """One that is stored, read when it is called.

    Attributes:
        project: it is of.
        run: it is of.
        stored: copick's.
        where: how messages call it.
    """

    project: CopickProject
    run: str
    stored: Any
    where: str

    def __call__(self) -> tuple[np.ndarray, Grid]:
        """(z, y, x) and where its voxels lie in the frame of the run's tomograms, whose first voxel is at 0."""
        return _asking(self.project, self._read)

    def _read(self) -> tuple[np.ndarray, Grid]:
        store = self.stored.zarr()
        values, grid = read_zarr(store, self.where, mask=True)
        start = np.array(first_voxel(store, self.where))
        if not start.any():  # copick's own tools state none: such a segmentation begins where its tomogram does
            return values, grid
        tomogram = next(iter(self.project._tomograms(self.run).values()), None)
        if tomogram is not None:
            start -= first_voxel(tomogram.zarr(), f"{self.project.uri}: run {self.run}, {tomogram.tomo_type}")
        z, y, x = start.tolist()
        return values, replace(grid, origin=(z, y, x))

    def mark(self) -> str:
        """Changes when it is replaced, where it lies on this machine; else with what it says of itself."""
        path = local_path(getattr(self.stored, "path", None))
        there = path is not None and path.is_dir()
        return _asking(self.project, lambda: contents_mark(path if there else self.stored.zarr()))


def _place(picks: Any) -> Path | None:
    """Where a file of picks lies, if it does on this machine; there it is read as any file of others."""
    system = getattr(picks, "fs", None)
    if system is None or "file" not in np.atleast_1d(getattr(system, "protocol", ())).tolist():
        return None
    path = local_path(getattr(picks, "path", None))
    return path if path is not None and path.exists() else None


def _text_of(picks: Any) -> str | None:
    """A picks file on another machine, as it is there; None where copick has it from something else than files."""
    system, path = getattr(picks, "fs", None), str(getattr(picks, "path", ""))
    # The portal's are lists of points, which copick itself turns into picks.
    return system.cat_file(path).decode() if system is not None and path.endswith(".json") else None


def _store_remote(run: Any, texts: Mapping[str, Iterable[str]], uri: str) -> None:
    """Each file in one go, as we wrote it: copick's own writing leaves out what its model does not name."""
    from copick.models import CopickPicksFile

    for text in map("".join, texts.values()):
        meta = CopickPicksFile.model_validate_json(text)
        try:
            picks = run.new_picks(meta.pickable_object_name, meta.session_id, meta.user_id, exist_ok=True)
            if getattr(picks, "fs", None) is None:
                picks.meta = meta
                picks.store()
                continue
            picks.fs.makedirs(picks.directory, exist_ok=True)
            picks.fs.pipe_file(picks.path, text.encode())
        except OSError as error:
            raise OutputError(f"{uri}: run {run.name}: picks cannot be written ({error}); check the overlay") from None
