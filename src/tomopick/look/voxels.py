"""Looks at the voxels of a run; of a large one at its middle, so that looking takes little memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import TomopickError
from ..core.messages import listing, said_of
from ..core.statistics import LIGHT, contrast_at, skewness
from ..core.types import Grid, PickableObject, Picks, Tomogram
from ..data import Project
from ..data.labelled import labelled_picks
from ..picking.normalize import RobustNormalization
from .centring import displacement
from .checks import OK, WARNING, Finding

MOST = 48_000_000  # voxels that are looked at
_FEW = 3  # particles that tell it where only some sections are read
_SLAB = 2**28  # bytes of these sections
SECTIONS_AT_ONCE = 2**26  # bytes of sections that are read at a time


@dataclass(frozen=True)
class Seen:
    """What of a run is looked at.

    Attributes:
        tomogram: the whole, or its middle.
        whole: grid of the whole.
    """

    tomogram: Tomogram
    whole: Grid


def seen_part(project: Project, run: str, tomo_type: str | None) -> Seen:
    """The run's tomogram; where it is large, a box in its middle, read a few sections at a time."""
    grid = project.grid(run, tomo_type)
    n = int(np.prod(grid.shape))
    if n <= MOST:
        return Seen(project.tomogram(run, tomo_type), grid)
    # Across first: the specimen is thin along z, and particles need room around them.
    z = min(grid.shape[0], max(round(MOST ** (1 / 3)), round(grid.shape[0] * (MOST / n) ** (1 / 3))))
    part = (MOST / (z * grid.shape[1] * grid.shape[2])) ** 0.5
    shape = (z, max(1, round(grid.shape[1] * part)), max(1, round(grid.shape[2] * part)))
    start = tuple((a - b) // 2 for a, b in zip(grid.shape, shape))
    values = np.empty(shape, dtype=np.float32)
    slabs = project.slabs(run, tomo_type)
    step = max(1, SECTIONS_AT_ONCE // (4 * grid.shape[1] * grid.shape[2]))
    for first in range(0, shape[0], step):
        last = min(first + step, shape[0])
        sections = slabs.read(start[0] + first, start[0] + last)
        values[first:last] = sections[:, start[1] : start[1] + shape[1], start[2] : start[2] + shape[2]]
    kind = (tomo_type or "").partition("@")[0]
    return Seen(Tomogram(run, values, grid.crop(start, shape), kind), grid)


def voxel_findings(seen: Seen, project: Project, query: str | None) -> Iterator[Finding]:
    """Grey values, void, contrast at picks, and whether picks sit in the middle."""
    tomogram = seen.tomogram
    where = f"run {tomogram.run}"
    if seen.whole != tomogram.grid:
        size = " x ".join(map(str, tomogram.grid.shape[::-1]))
        yield Finding(OK, where, f"looked at its middle, {size} voxels (x, y, z)")
    values = RobustNormalization()(tomogram)
    void = tomogram.void
    skew = skewness(values, void)
    low, high = float(tomogram.specimen.min()), float(tomogram.specimen.max())
    yield Finding(OK, where, f"grey values {low:.4g} to {high:.4g}, skewness {skew:+.2f}")
    if void is not None:
        share = np.count_nonzero(void) / void.size
        text = f"{share:.2%} of its voxels hold no specimen (filled up, or left out by a mask)"
        yield Finding(OK, where, text, "they are left out of the grey scale and are not picked")
    try:
        picks = labelled_picks(project, tomogram.run, query) or Picks.empty(tomogram.run)
    except TomopickError:
        picks = Picks.empty(tomogram.run)  # said by the cheap part
    light, remedy = [], f"pick and train with `invert={tomogram.run}`"
    for o in project.objects:
        positions = picks.of(o.name).positions
        if not len(positions) or not o.radius:
            continue
        contrast = contrast_at(values, tomogram.grid, positions, o.radius, void)
        light += [o.name] if contrast > LIGHT else []
        yield from _offset_findings(values, tomogram, positions, o)
    if light:
        text = f"{listing(light)} lighter than what is around them"
        yield Finding(WARNING, where, text, f"expected dark particles: {remedy}, or check the picks")
    elif not len(picks) and skew > 0.15:
        yield Finding(WARNING, where, "looks inverted: light particles on dark?", f"if so, {remedy}")


def light_findings(project: Project, types: Mapping[str, str], query: str | None) -> Iterator[Finding]:
    """Whether particles of some runs are lighter than what is around them, by those in a few sections of each.

    Args:
        project: of the runs.
        types: run -> its tomogram, of those whose voxels nobody looks at otherwise.
        query: which picks.
    """
    light = []
    for run, tomo_type in types.items():
        try:
            light += [run] if _is_light(project, run, tomo_type, query) else []
        except TomopickError:  # said where its header and its picks are read
            continue
    if light:
        text = f"{said_of(light, 'has', 'have')} particles lighter than what is around them"
        fix = f"expected dark particles: pick and train with `invert={','.join(light)}`, or check the picks"
        yield Finding(WARNING, "", f"{'run' if len(light) == 1 else 'runs'} {text}", fix)


def _is_light(project: Project, run: str, tomo_type: str, query: str | None) -> bool:
    picks = labelled_picks(project, run, query)
    if picks is None or project.stamp(run, tomo_type).place.lower().endswith(".gz"):  # which is held whole
        return False
    slabs = project.slabs(run, tomo_type)
    spacing, (depth, height, width) = slabs.grid.voxel_spacing, slabs.grid.shape
    for o in project.objects:
        positions = picks.of(o.name).positions
        reach = int(np.ceil(2 * (o.radius or 0) / spacing)) + 1
        if len(positions) < _FEW or not o.radius or 4 * 3 * reach * height * width > _SLAB:
            continue
        # Where most of them are.
        z = np.sort(slabs.grid.indices(positions)[:, 0])
        first = round(z[np.argmax(np.searchsorted(z, z + reach) - np.arange(len(z)))]) - reach
        first, last = max(0, first), min(depth, first + 3 * reach)
        if last - first < 2 * reach:
            continue
        values = slabs.read(first, last)
        part = Tomogram(run, values, slabs.grid.crop((first, 0, 0), values.shape))
        scale = float(part.specimen.std())
        if scale > 0 and contrast_at(values, part.grid, positions, o.radius, part.void) > LIGHT * scale:
            return True
    return False


def _offset_findings(
    values: np.ndarray, tomogram: Tomogram, positions: np.ndarray, o: PickableObject
) -> Iterator[Finding]:
    found = displacement(values, tomogram.grid, positions, o.radius_angstrom)
    if found is None:
        return
    text = ", ".join(f"{v:+.2f}" for v in found.voxels)
    where = f"run {tomogram.run}, {o.name}"
    if found.significant:
        given = ",".join(f"{np.round(v * 2) / 2 + 0.0:g}" for v in found.voxels)
        yield Finding(
            WARNING, where, f"particles lie {text} voxels (z, y, x) from their {found.n} picks",
            f"`coordinate_offset={given}` (czii is 0.5,0.5,0.5)",
        )  # fmt: skip
    else:
        yield Finding(OK, where, f"picks sit in the middle ({text} voxels z, y, x; {found.n} averaged)")


def trial_findings(seen: Seen, detector: Any, timed: bool) -> Iterator[Finding]:
    """What is unlike a model's training, and how long picking takes."""
    found, seconds, views, tomogram = [], 0.0, 1, seen.tomogram
    whole = np.array(seen.whole.shape) / np.array(tomogram.grid.shape)
    for member in detector.detectors:
        values, grid = member.prepare(tomogram)
        found += [text for text in member.findings(tomogram, values) if text not in found]
        if timed:
            predictor = member.predictor()
            views = max(views, len(predictor.views))
            z, y, x = (round(n * part) for n, part in zip(grid.shape, whole))
            edges, starts = predictor.tiling.plan((z, y, x), predictor.multiple)
            began = time.perf_counter()
            predictor.tile(np.zeros(edges, dtype=np.float32))
            seconds += (time.perf_counter() - began) * len(starts[0]) * len(starts[1]) * len(starts[2])
    for text in found:
        yield Finding(WARNING, f"run {tomogram.run}", text)
    if timed:
        how = f"with the {views} views of its method" if views > 1 else "in one view"
        yield Finding(OK, f"run {tomogram.run}", f"picking takes about {max(1, round(seconds))} s here, {how}")
