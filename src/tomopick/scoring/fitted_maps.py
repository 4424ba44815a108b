"""Score maps measured on picks and true particles, and how they do on runs that they were not measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..core.errors import SelectionError
from ..core.types import PickableObject, Picks
from .matching import scored_picks
from .score_maps import ScoreMap


def fit_maps(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], objects: Sequence[PickableObject]
) -> tuple[dict[str, ScoreMap], dict[str, str]]:
    """The map of each object that has enough picks, and why the others have none.

    Args:
        candidates: run -> all picks, with heights as scores.
        truth: run -> true particles.
        objects: that are mapped.
    """
    maps, refused = {}, {}
    for o in objects:
        try:
            maps[o.name] = ScoreMap.fit(*scored_picks(candidates, truth, o)[:2])
        except SelectionError as error:
            refused[o.name] = str(error)
    return maps, refused


def held_out_scores(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], groups: Sequence[Sequence[str]], obj: PickableObject
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) scores by maps that were fitted without the pick's own group of runs, and (n,) whether each is right.

    Empty where there is one group, or where what is left is too little to fit on.
    """
    scores, hits = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for group in groups:
        rest = {run: truth[run] for run in truth if run not in group}
        try:
            fitted = ScoreMap.fit(*scored_picks(candidates, rest, obj)[:2])
        except SelectionError:
            return np.zeros(0), np.zeros(0, dtype=bool)
        found, right, _ = scored_picks(candidates, {run: truth[run] for run in group}, obj)
        scores.append(fitted(found))
        hits.append(right)
    return np.concatenate(scores), np.concatenate(hits)
