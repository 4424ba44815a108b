"""The CZII challenge as Kaggle hands it out: `static` and `overlay` folders without a copick configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...core.errors import ReadError
from ...core.files import write_together
from ...core.names import require_one_line
from ...core.presets import CZII_OBJECTS
from ...core.types import Grid, Picks, Tomogram
from ..choose import PicksEntry, TomogramEntry, choose_picks, choose_tomogram, require_id, require_objects, require_run
from ..objects import with_specs
from ..offset import CoordinateOffset
from ..picksjson import PicksFile, picks_files, read_picks_json
from ..project import Stamp, one_line
from ..regions import Regions
from ..volumes.slabs import Slabs, volume_slabs
from ..volumes.volumes import contents_mark, read_volume, volume_grids


class KaggleProject:
    """Runs of `ExperimentRuns/RUN/VoxelSpacing*/TYPE.zarr` and `RUN/Picks/*.json`, in one or two folders.

    Who picked is read from inside the files, for Kaggle's names tell only the object.
    """

    keeps_picks = False
    regions = Regions()

    def __init__(
        self,
        path: str | Path,
        objects: Sequence[str] = (),
        coordinate_offset: str | Sequence[float] | CoordinateOffset = "none",
    ) -> None:
        """Looks through the folder.

        Args:
            path: the download, its `train` or `static` folder, an `ExperimentRuns`, or a folder of `RUN/Picks`.
            objects: "name:radius" [Å], instead of the challenge's radii.
            coordinate_offset: a preset's name or zyx [voxels]; the challenge's own is `czii`.

        Raises:
            ReadError: no such layout.
        """
        self.uri = str(path)
        self._roots = kaggle_roots(Path(path))
        if not self._roots:
            raise ReadError(f"{path}: not Kaggle's layout; expected static/ExperimentRuns or RUN/Picks/*.json")
        folders = (run for root in self._roots for run in _run_folders(root))
        self._runs = frozenset(require_one_line(run.name, str(run.parent)) for run in folders)
        self._offset = CoordinateOffset.parse(coordinate_offset)
        self.objects = with_specs(CZII_OBJECTS, objects, extend=False)

    def __repr__(self) -> str:
        return one_line(self)

    def runs(self) -> list[str]:
        """The names of the runs, sorted."""
        return sorted(self._runs)

    def tomo_types(self, run: str) -> list[str]:
        """The tomograms of a run, as "TYPE@spacing"; the spacing is the metadata's, not the folder's."""
        require_run(run, self._runs, self.uri)
        return sorted(str(entry) for entry, _ in self._tomograms(run))

    def grid(self, run: str, tomo_type: str | None = None) -> Grid:
        """The grid of `tomogram`, from the metadata alone."""
        path, _, level = self._choose(run, tomo_type)
        return volume_grids(path)[level]

    def tomogram(self, run: str, tomo_type: str | None = None) -> Tomogram:
        """The tomogram "TYPE[@spacing]", or the only one."""
        path, entry, level = self._choose(run, tomo_type)
        values, grid = read_volume(path, level)
        return Tomogram(run, values, grid, entry.tomo_type)

    def slabs(self, run: str, tomo_type: str | None = None) -> Slabs:
        """The voxels of `tomogram`, a few sections at a time."""
        path, _, level = self._choose(run, tomo_type)
        return volume_slabs(path, level)

    def stamp(self, run: str, tomo_type: str | None = None) -> Stamp:
        """The download's folder, and sizes and times of the store's metadata."""
        return Stamp(str(self._roots[-1].resolve()), contents_mark(self._choose(run, tomo_type)[0]))

    def picks_sets(self, run: str) -> list[PicksEntry]:
        """The sets of picks of a run."""
        require_run(run, self._runs, self.uri)
        return list(self._sets(run))

    def picks(self, run: str, query: str | None = None) -> Picks | None:
        """The picks "object:user/session", or the only ones; None where the run has none."""
        require_run(run, self._runs, self.uri)
        names = [o.name for o in self.objects]
        files = self._sets(run)
        chosen = choose_picks(query, list(files), names, f"{self.uri}: run {run}")
        if chosen is None:
            return None
        parts = []
        for file in (files[entry] for entry in chosen):
            spacing = self._offset_spacing(run, file.voxel_spacing)
            parts.append(self._offset.to_true(file.picks, spacing))
        return Picks.join(run, parts)

    def write_picks(self, picks: Picks, user_id: str, session_id: str, replace: bool = False) -> None:
        """Writes `Picks/USER_SESSION_OBJECT.json`, copick's names, beside Kaggle's own (in `overlay`)."""
        require_id(user_id, "user")
        require_id(session_id, "session")
        require_run(picks.run, self._runs, self.uri)
        names = [o.name for o in self.objects]
        require_objects(picks.names.tolist(), names, self.uri)
        stale = [e.name for e in self._sets(picks.run) if (e.user_id, e.session_id) == (user_id, session_id)]
        spacing = self._offset_spacing(picks.run, None)
        shifted = self._offset.to_file(picks, spacing)
        texts = picks_files(shifted, names, stale, (user_id, session_id, spacing if self._offset else None))
        folder = self._roots[-1] / picks.run / "Picks"
        write_together({folder / name: text for name, text in texts.items()})

    def has_picks(self, run: str, user_id: str, session_id: str) -> bool:
        """Whether there are picks of this user and session, even none found."""
        return any((e.user_id, e.session_id) == (user_id, session_id) for e in self._sets(run))

    def _sets(self, run: str) -> dict[PicksEntry, PicksFile]:
        names = [o.name for o in self.objects]
        return {_entry(f): f for f in self._files(run) if f.name in names}

    def _files(self, run: str) -> list[PicksFile]:
        paths = [p for root in self._roots for p in sorted((root / run / "Picks").glob("*.json"))]
        return [read_picks_json(path, run) for path in paths if not path.name.startswith(".")]

    def _tomograms(self, run: str) -> list[tuple[TomogramEntry, Path]]:
        found = {}
        for root in self._roots:
            for path in sorted((root / run).glob("VoxelSpacing*/*.zarr")):
                if not path.name.endswith("_features.zarr") and not path.name.startswith("."):
                    spacings = [grid.voxel_spacing for grid in volume_grids(path)]
                    entry = TomogramEntry(path.stem, spacings[0], lambda s=spacings: s)  # type: ignore[misc]
                    found[str(entry)] = entry, path  # the overlay comes last: it hides the static one
        return list(found.values())

    def _choose(self, run: str, tomo_type: str | None) -> tuple[Path, TomogramEntry, int]:
        require_run(run, self._runs, self.uri)
        found = dict(self._tomograms(run))
        entry, level = choose_tomogram(tomo_type, list(found), f"{self.uri}: run {run}")
        return found[entry], entry, level

    def stated(self, picks: Picks) -> Picks:
        """The picks at the positions that a file of this data set states."""
        return self._offset.to_file(picks, self._offset_spacing(picks.run, None))

    def _offset_spacing(self, run: str, picks_file: float | None) -> float:
        tomograms = [entry.voxel_spacing for entry, _ in self._tomograms(run)] if self._offset else []
        return self._offset.spacing_for(min(tomograms, default=None), picks_file, f"{self.uri}: run {run}")


def kaggle_roots(path: Path) -> tuple[Path, ...]:
    """The folders that hold the runs, the one to write to last; none where it is not Kaggle's layout."""
    for top in (path, path / "train"):
        roots = [top / name / "ExperimentRuns" for name in ("static", "overlay")]
        if any(root.is_dir() for root in roots):
            return tuple(roots)
    if path.name in ("static", "overlay") and (path / "ExperimentRuns").is_dir():
        return kaggle_roots(path.parent)
    for top in (path / "ExperimentRuns", path):
        if _run_folders(top):
            return (top,)
    return ()


def _run_folders(root: Path) -> list[Path]:
    folders = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")] if root.is_dir() else []
    return [p for p in folders if any(p.glob("VoxelSpacing*")) or any(p.glob("Picks/*.json"))]


def _entry(file: PicksFile) -> PicksEntry:
    return PicksEntry(file.name, file.user_id, file.session_id)
