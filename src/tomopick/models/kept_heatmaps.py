"""Heatmaps of runs that are kept on disk, so that many weights can be tried without predicting again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.progress import bar
from ..core.types import Grid, Heatmap, Picks, Tomogram, holds
from ..data.labelled import labelled_in
from ..data.regions import Labelled
from ..data.runs import Runs
from ..picking.ensemble import Ensemble
from ..picking.familiar import trained_on
from ..picking.picker import Picker
from ..picking.rows import decode_rows, on_one_grid

log = logging.getLogger("tomopick")

Stored = tuple[Path, tuple[str, ...]]  # a member's heatmap: its file and its objects


@dataclass(frozen=True)
class Kept:
    """A run's heatmaps of the members that have not learned from it (of all, where all have), on one grid.

    Attributes:
        run: its name.
        grid: of the tomogram.
        members: their numbers.
        strips: grid of each strip, and each member's file and objects.
        void: file of the tomogram's, where it has one.
        labelled: where nothing else can be right or wrong; None: everywhere.
    """

    run: str
    grid: Grid
    members: tuple[int, ...]
    strips: tuple[tuple[Grid, tuple[Stored, ...]], ...]
    void: Path | None = None
    labelled: Labelled | None = None

    def heatmaps(self) -> Iterator[list[Heatmap]]:
        """Strip by strip, one heatmap a member."""
        for grid, parts in self.strips:
            yield [Heatmap(self.run, np.load(path).astype(np.float32), grid, names) for path, names in parts]

    def only(self, member: int) -> Kept:
        """Of one member alone."""
        at = self.members.index(member)
        strips = tuple((grid, (parts[at],)) for grid, parts in self.strips)
        return replace(self, members=(member,), strips=strips)

    def among(self, numbers: Sequence[int]) -> Kept:
        """Of some members alone, which are numbered anew in the order given."""
        at = [self.members.index(i) for i in numbers if i in self.members]
        strips = tuple((grid, tuple(parts[k] for k in at)) for grid, parts in self.strips)
        return replace(self, members=tuple(n for n, i in enumerate(numbers) if i in self.members), strips=strips)

    def picks(self, ensemble: Ensemble, cut: float) -> Picks:
        """What an ensemble picks from the heatmaps down to a height."""
        mine = _for_members(ensemble, self.members)
        rows = (mine.join(strips) for strips in self.heatmaps())
        picks = decode_rows(rows, ensemble.peaks, mine.objects, {o.name: cut for o in mine.objects}, self.run)
        void = None if self.void is None else np.load(self.void, mmap_mode="r")
        picks = picks.select(holds(self.grid, void, picks.positions))
        return picks if self.labelled is None else picks.select(self.labelled.holds(picks))


def keep_heatmaps(picker: Picker, runs: Runs, run: str, place: Path) -> Kept:
    """Predicts a run with the members that have not learned from it.

    Args:
        picker: of the ensemble.
        runs, run: what to predict.
        place: folder for the heatmaps, two bytes a cell, object and member.
    """
    n_members = len(picker.detectors)
    unseen = [i for i, d in enumerate(picker.detectors) if run not in trained_on(d, runs.project)]
    if not unseen:
        log.warning(f"run {run}: every member has learned from it; thresholds will be too good for others")
    members = tuple(unseen or range(n_members))
    if unseen and len(unseen) < n_members:
        log.info(f"run {run}: predicted by {len(unseen)} of {n_members} members, that have not learned from it")
    tomogram = runs.tomogram(run)
    strips = []
    with bar(1, run, "tile") as shown:

        def progress(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        parts, unlike = picker.parts(tomogram, progress, members)
        for line in unlike:
            log.warning(f"run {run}: {line}")
        for n, heatmaps in enumerate(on_one_grid(parts)):
            files = []
            for i, heatmap in zip(members, heatmaps):
                path = place / f"{run}-{n}-{i}.npy".replace("/", "_")
                # Three digits are enough for a score, and half the disk.
                np.save(path, heatmap.values.astype(np.float16))
                files.append((path, heatmap.objects))
            strips.append((heatmaps[0].grid, tuple(files)))
    labelled = labelled_in(runs.project, run, runs.tomo_type)
    return Kept(run, tomogram.grid, members, tuple(strips), _kept_void(tomogram, place), labelled)


def _kept_void(tomogram: Tomogram, place: Path) -> Path | None:
    if tomogram.void is None:
        return None
    path = place / f"{tomogram.run}-void.npy".replace("/", "_")
    np.save(path, tomogram.void)
    return path


def _for_members(ensemble: Ensemble, numbers: Sequence[int]) -> Ensemble:
    """Some members alone; an object that none of them has a weight for counts alike in those that know it."""
    members = [ensemble.members[i] for i in numbers]
    names = {name for m in members for name in m.weights}
    idle = {name for name in names if not sum(m.weights.get(name, 0.0) for m in members)}
    equal = [replace(m, weights={k: 1.0 if k in idle else w for k, w in m.weights.items()}) for m in members]
    return replace(ensemble, members=tuple(equal))
