"""The one seam for data: what every source of tomograms and picks answers, and the source that lives in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable
from zlib import crc32

import numpy as np

from ..core.errors import SelectionError
from ..core.types import Grid, PickableObject, Picks, Tomogram
from .choose import PicksEntry, TomogramEntry, choose_picks, choose_tomogram, require_id, require_objects, require_run
from .regions import Regions
from .volumes.slabs import Slabs, array_slabs


class Stamp(NamedTuple):
    """What tells a tomogram from another.

    Attributes:
        place: where it lies, or its project; the same while only its contents or the settings change.
        contents: changes with what lies there, as far as sizes, times and metadata tell.
    """

    place: str
    contents: str


@runtime_checkable
class Project(Protocol):
    """Tomograms and picks of many runs; zyx and Å, the data set's coordinate offset already taken out.

    Attributes:
        uri: what the user typed; messages begin with it.
        objects: the particles; segmented things are left out.
        keeps_picks: whether picks of new sessions have their place in it; else they go to files elsewhere.
        regions: where its runs are labelled, as far as that is not everywhere.

    Every method raises `SelectionError` for a run, type, spacing or picks that are not there or not unique, and
    `ReadError` for files that cannot be read.
    """

    uri: str
    objects: tuple[PickableObject, ...]
    keeps_picks: bool
    regions: Regions

    def runs(self) -> list[str]:
        """The names of the runs, sorted."""
        ...

    def tomo_types(self, run: str) -> list[str]:
        """The tomograms of a run, as the "TYPE@spacing" to type; TYPE is empty where the source has no types."""
        ...

    def grid(self, run: str, tomo_type: str | None = None) -> Grid:
        """Where the voxels of `tomogram` lie; reads no voxels."""
        ...

    def tomogram(self, run: str, tomo_type: str | None = None) -> Tomogram:
        """The tomogram "TYPE[@spacing]", or the only one; float32, C-contiguous."""
        ...

    def slabs(self, run: str, tomo_type: str | None = None) -> Slabs:
        """The voxels of `tomogram`, a few sections at a time."""
        ...

    def stamp(self, run: str, tomo_type: str | None = None) -> Stamp:
        """What tells `tomogram` from another; reads no voxels of files."""
        ...

    def picks_sets(self, run: str) -> list[PicksEntry]:
        """The sets of picks of a run, one an object, user and session; of the project's objects alone."""
        ...

    def picks(self, run: str, query: str | None = None) -> Picks | None:
        """The picks "object:user/session" (globs), or the only ones; None where the run has none (unlabelled)."""
        ...

    def write_picks(self, picks: Picks, user_id: str, session_id: str, replace: bool = False) -> None:
        """Writes the picks of one run, whole or not at all; `replace`: a folder's table, which it refuses otherwise.

        Raises `OutputError`.
        """
        ...

    def has_picks(self, run: str, user_id: str, session_id: str) -> bool:
        """Whether `write_picks` has been here, even if it found nothing."""
        ...

    def stated(self, picks: Picks) -> Picks:
        """True positions -> those that a file of this data set states: its coordinate offset put back in."""
        ...


def sets_of(picks: Picks, objects: Sequence[PickableObject], user_id: str, session_id: str) -> list[PicksEntry]:
    """The sets that picks of one user and session make: their objects, or all where none was found."""
    names = set(picks.names.tolist()) or {o.name for o in objects}
    return [PicksEntry(name, user_id, session_id) for name in sorted(names)]


def holds_part(project: Project, picks: Picks, user_id: str, session_id: str) -> bool:
    """Whether all that a session holds in a run is among `picks`: who was cut off may write them again.

    Where picks lie in one file a run, there is no part.
    """
    if not project.keeps_picks:
        return False
    found = project.picks(picks.run, f"*:{user_id}/{session_id}")
    return found is None or _rows(found) <= _rows(picks)


def _rows(picks: Picks) -> set[tuple[str, int, int, int]]:
    """Object and place of each pick, to a tenth of an Å."""
    places = np.round(picks.positions * 10).astype(np.int64).tolist()
    return {(name, z, y, x) for name, (z, y, x) in zip(picks.names.tolist(), places)}


def one_line(project: Project) -> str:
    """A project in a line: its kind, where it is, its objects."""
    objects = ", ".join(o.name for o in project.objects) or "no objects"
    return f"<{type(project).__name__} {project.uri}: {objects}>"


class MemoryProject:
    """A project in memory: for tests, demos and data made on the fly."""

    keeps_picks = False
    regions = Regions()

    def __init__(self, objects: Iterable[PickableObject] = (), uri: str = "memory") -> None:
        self.uri = uri
        self.objects = tuple(o for o in objects if o.is_particle)
        self._tomograms: dict[str, dict[str, Tomogram]] = {}
        self._picks: dict[str, dict[tuple[str, str], Picks]] = {}

    def add(
        self, tomogram: Tomogram, picks: Picks | None = None, user_id: str = "truth", session_id: str = "0"
    ) -> None:
        """Adds a tomogram, and its run's picks where there are any."""
        self.write_tomogram(tomogram)
        if picks is not None:
            self.write_picks(picks, user_id, session_id)

    def write_tomogram(self, tomogram: Tomogram) -> None:
        """Adds a tomogram; one of the same run, type and voxel spacing is replaced."""
        values = np.ascontiguousarray(tomogram.values, dtype=np.float32)
        key = f"{tomogram.tomo_type}@{tomogram.grid.voxel_spacing:.3f}"
        self._tomograms.setdefault(tomogram.run, {})[key] = replace(tomogram, values=values)

    def __repr__(self) -> str:
        return one_line(self)

    def runs(self) -> list[str]:
        """The names of the runs, sorted."""
        return sorted({*self._tomograms, *self._picks})

    def tomo_types(self, run: str) -> list[str]:
        """The tomograms of a run, as "TYPE@spacing"."""
        require_run(run, self.runs(), self.uri)
        return sorted(self._tomograms.get(run, {}))

    def grid(self, run: str, tomo_type: str | None = None) -> Grid:
        """The grid of `tomogram`."""
        return self.tomogram(run, tomo_type).grid

    def tomogram(self, run: str, tomo_type: str | None = None) -> Tomogram:
        """The tomogram "TYPE[@spacing]", or the only one."""
        require_run(run, self.runs(), self.uri)
        tomograms = self._tomograms.get(run, {})
        entries = [
            TomogramEntry(t.tomo_type, t.grid.voxel_spacing, lambda s=t.grid.voxel_spacing: (s,))  # type: ignore[misc]
            for t in tomograms.values()
        ]
        entry, _ = choose_tomogram(tomo_type, entries, f"{self.uri}: run {run}")
        return tomograms[str(entry)]

    def slabs(self, run: str, tomo_type: str | None = None) -> Slabs:
        """The voxels of `tomogram`."""
        found = self.tomogram(run, tomo_type)
        return array_slabs(found.values, found.grid)

    def stamp(self, run: str, tomo_type: str | None = None) -> Stamp:
        """The project's name, and a checksum of the values."""
        return Stamp(self.uri, f"{crc32(self.tomogram(run, tomo_type).values.data):08x}")

    def picks_sets(self, run: str) -> list[PicksEntry]:
        """The sets of picks of a run."""
        require_run(run, self.runs(), self.uri)
        return [e for pair, picks in self._picks.get(run, {}).items() for e in sets_of(picks, self.objects, *pair)]

    def picks(self, run: str, query: str | None = None) -> Picks | None:
        """The picks "object:user/session", or the only ones."""
        names = [o.name for o in self.objects]
        chosen = choose_picks(query, self.picks_sets(run), names, f"{self.uri}: run {run}")
        if chosen is None:
            return None
        stored = self._picks[run]
        return Picks.join(run, [stored[e.user_id, e.session_id].of(e.name) for e in chosen])

    def write_picks(self, picks: Picks, user_id: str, session_id: str, replace: bool = False) -> None:
        """Stores the picks; those of the same user and session are replaced."""
        require_id(user_id, "user")
        require_id(session_id, "session")
        require_objects(picks.names.tolist(), [o.name for o in self.objects], self.uri)
        if not picks.run:
            raise SelectionError(f"{self.uri}: picks without the name of a run")
        self._picks.setdefault(picks.run, {})[user_id, session_id] = picks

    def has_picks(self, run: str, user_id: str, session_id: str) -> bool:
        """Whether there are picks of this user and session, even none found."""
        return (user_id, session_id) in self._picks.get(run, {})

    def stated(self, picks: Picks) -> Picks:
        """The picks as they are: there is no offset in memory."""
        return picks
