"""What is compared, read once, and what a reader of the comparison must know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.errors import SelectionError
from ..core.messages import listing
from ..core.records import Records
from ..core.types import MIN_DISTANCE, THRESHOLD, PickableObject, Picks
from ..data import Project
from .curves import duplicates

_SAME = 1e-3  # radii; true particles closer than that were written down twice

Thresholds = Mapping[str, float]  # by object


@dataclass(frozen=True)
class Sides:
    """What is compared, read once.

    Attributes:
        picks: run -> picks, those below the thresholds included; also of runs without truth, which are not scored.
        truth: run -> true particles of the runs that are scored.
        objects: that are scored.
        thresholds: by object, from which on picks count that tell no own; objects without one count in full.
        project: with the tomograms, where there is one.
        dropped_outside: picks left out.
        notes: what a reader must know, one line each.
    """

    picks: Mapping[str, Picks]
    truth: Mapping[str, Picks]
    objects: tuple[PickableObject, ...]
    thresholds: Thresholds = field(default_factory=dict)
    project: Project | None = None
    dropped_outside: int = 0
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> dict[str, Picks]:
        """run -> the picks that count."""
        return {
            run: p.select(p.is_kept) if THRESHOLD in p.columns else p.above(self.thresholds)
            for run, p in self.picks.items()
        }


@dataclass(frozen=True)
class Made:
    """Picks that were made just now and lie in no file.

    Attributes:
        picks: run -> picks, those below the thresholds included.
        objects: of the model.
        thresholds: of the model.
        distances: by object, smallest between two picks of the model [Å].
    """

    picks: Mapping[str, Picks]
    objects: tuple[PickableObject, ...]
    thresholds: Thresholds
    distances: Mapping[str, float] = field(default_factory=dict)


Make = Callable[[Project, list[str]], Made]  # a project and runs of it -> their picks


def usual_distances(objects: Sequence[PickableObject], made: Made | None = None) -> dict[str, float]:
    """By object, the smallest distance between picks [Å]: the model's, or what methods keep that say nothing else."""
    if made is not None:
        return dict(made.distances)
    return {o.name: MIN_DISTANCE * o.radius for o in objects if o.radius}


def twice_written(truth: Mapping[str, Picks], objects: Sequence[PickableObject]) -> list[str]:
    """A line where true particles were written down twice."""
    twice = sum(duplicates(truth, [o for o in objects if o.radius], radius=_SAME).values())
    one = "true particle was" if twice == 1 else "true particles were"
    return [f"{twice} {one} written down twice; the second of each can only be missed"] if twice else []


def require_truth_for(only: Sequence[str] | None, truth: Mapping[str, Picks], uri: str) -> None:
    """Raises `SelectionError` where nothing is to be scored: nothing true is labelled, or of the objects asked for."""
    there = {name for picks in truth.values() for name in picks.names.tolist()}
    if not there:
        raise SelectionError(
            f"{uri}: no true particle lies where its runs are labelled, so there is nothing to score; mend the region "
            "or mask (`regions`, `labelled_in`)"
        )
    if only is not None and not there & set(only):
        raise SelectionError(f"`only={','.join(only)}`: {uri} has no truth of it; there is {listing(sorted(there))}")


def without_either(
    objects: tuple[PickableObject, ...], picks: Mapping[str, Picks], truth: Mapping[str, Picks], official: bool = False
) -> tuple[tuple[PickableObject, ...], list[str]]:
    """The objects that have picks or truth, and a line about the others, which no figure can be of.

    Args:
        objects: of the project.
        picks, truth: by run.
        official: whether the mean runs over all of them even so.
    """
    there = {name for side in (picks, truth) for p in side.values() for name in np.unique(p.names).tolist()}
    idle = [o.name for o in objects if o.name not in there]
    if not idle or not there:
        return objects, []
    if official:
        return objects, [f"{listing(idle)}: neither picks nor truth; 0 in the challenge's weighted mean"]
    return tuple(o for o in objects if o.name in there), [f"{listing(idle)}: neither picks nor truth; left out"]


def mistaken(candidates: str, truth: str, same_query: bool) -> list[str]:
    """What is to be said where the two sides may be the wrong way round, or one."""
    if same_query and Path(candidates).resolve() == Path(truth).resolve():
        return [f"{truth}: picks and truth are the same; choose others with `picks` or `truth`"]
    if _from_pick(truth) and not _from_pick(candidates):
        return [f"{truth} is what pick wrote and counts as true here: the picks come first, then the truth"]
    return []


def _from_pick(place: str) -> bool:
    """Whether a folder of tables has the records that `pick` leaves beside them."""
    return any((Path(place) / f"{run}.csv").is_file() for run in Records(Path(place) / "records").runs())
