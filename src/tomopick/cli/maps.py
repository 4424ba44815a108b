"""`train --from-map`: runs are simulated for a density before anything is learned."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..core.errors import TomopickError


def with_simulated(
    projects: list[str], out: Path, learn: list[str] | None, choices: dict[str, Any]
) -> tuple[list[str], list[str] | None]:
    """The projects, before them that of the runs simulated with the objects of maps, and the objects to learn.

    The time that it takes is part of what the training may take.
    """
    if choices["like_tomo_type"] and not choices["like"]:
        raise TomopickError("--like-tomo-type is of the tomograms to simulate the like of; say which: --like TOMOGRAMS")
    if not choices["maps"]:
        if choices["like"]:
            raise TomopickError("--like says what simulated runs are to be like; give a map: --from-map FILE")
        return projects, learn
    if choices["dry_run"]:
        raise TomopickError("--dry-run looks at projects, and those of --from-map are simulated first; leave one out")
    from ..data.open import open_project
    from ..data.runs import Runs
    from ..look.simulated import draw_simulated
    from ..recipes.from_maps import MapOptions, simulated_with
    from ..recipes.looks import Looks
    from ..training.sources import Source

    began, place = time.monotonic(), out.absolute().parent / f"{out.name}-simulated"
    looks = Looks()
    if choices["like"]:
        project = open_project(choices["like"], voxel_spacing=choices["voxel_spacing"])
        runs = Runs(project, tomo_type=choices["like_tomo_type"])
        with Source(runs, role="like").told():
            looks = Looks.of(runs)
    options = MapOptions(looks=looks, seed=choices["seed"], draw=draw_simulated)
    config, names = simulated_with(choices["maps"], place, options)
    if choices["minutes"]:
        choices["minutes"] = max(choices["minutes"] - (time.monotonic() - began) / 60, choices["minutes"] / 3)
    return [str(config), *projects], learn or list(names)
