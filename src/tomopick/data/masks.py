"""Masks: volumes that say of each place whether it counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import ReadError
from ..core.messages import listing
from ..core.types import Grid
from .choose import SPACING_TOLERANCE
from .names import RunNames
from .volumes.checks import warn_once
from .volumes.volumes import is_volume_name, mask_grid, read_mask_volume, volume_run

MESH_SUFFIXES = (".ply", ".obj", ".stl", ".glb")
_DIFFERENT = 0.1  # of a box's length: what a mask may lack or have beyond the tomogram without a word
_RINGING = 0.1  # by how much a soft mask that was resampled goes beyond 0 and 1
_SECTIONS = 8  # that are looked at to tell labels from grey values
_LABELS = 16  # different ones are none of a tomogram
_ALIKE = 0.3  # of neighbours: many in thin sheets of labels, next to none in noise
_SAID = (
    ("expected a reconstructed tomogram", "expected a mask"),
    ("expected a tomogram", "expected a mask"),
    ("expected those of a tomogram", "expected those of a mask"),
    ("expected a volume", "expected a mask, a volume"),
    ("say it with `voxel_spacing`", "write it there"),
    ("make them cubes, or write it there", "make them cubes"),  # where it is written there, and they are none
)


@dataclass(frozen=True)
class Mask:
    """Where something is, of a voxel size of its own.

    Attributes:
        values: (z, y, x) bool.
        grid: where its voxels lie.
    """

    values: np.ndarray
    grid: Grid

    def contains(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) positions, zyx [Å] -> (n,) bool: in a voxel that is marked."""
        nearest = np.rint(self.grid.indices(np.reshape(positions, (-1, 3)))).astype(int)
        kept = np.clip(nearest, 0, np.asarray(self.grid.shape) - 1)
        inside = self.grid.contains(positions)
        return inside & self.values[tuple(kept.T)]

    def on(self, grid: Grid) -> np.ndarray:
        """(z, y, x) bool on another grid: the voxels whose centre lies in one that is marked."""
        if grid == self.grid:
            return self.values
        axes, inside = [], []
        for axis in range(3):
            steps = grid.origin[axis] + np.arange(grid.shape[axis]) * grid.voxel_spacing
            nearest = np.rint((steps - self.grid.origin[axis]) / self.grid.voxel_spacing).astype(int)
            inside.append((nearest >= 0) & (nearest < self.grid.shape[axis]))
            axes.append(np.clip(nearest, 0, self.grid.shape[axis] - 1))
        return self.values[np.ix_(*axes)] & inside[0][:, None, None] & inside[1][:, None] & inside[2]


def read_mask(
    place: Path,
    run: str,
    runs: Sequence[str],
    grid: Grid,
    header: Grid | None = None,
    chosen: Sequence[str] | None = None,
) -> Mask | None:
    """The mask of a run from a volume, or from a folder of `RUN.mrc` or `RUN.zarr`; None where it is of other runs.

    Args:
        place: the volume or the folder.
        run: its name.
        runs: of the project.
        grid: of the run's tomogram; a mask of as many voxels of that size lies on it, whatever its header says.
        header: where the tomogram's own file says that its voxels lie; None: at 0.
        chosen: runs that are looked at; a volume of another name is meant for the only one. None: all.

    Raises:
        ReadError: a volume that cannot be read, is no mask, or lies beside the tomogram.
    """
    path = mask_file(place, run, runs, chosen)
    if path is None:
        return None
    with _of_a_mask():
        own = _own_grid(path, grid, header)
        values = read_mask_volume(path, own.voxel_spacing)
        return fitted_mask(values, own, grid, str(path))


def require_fits(path: Path, grid: Grid, header: Grid | None = None) -> None:
    """Raises `ReadError` for a volume that is no mask of a tomogram by its header alone; reads no voxels.

    Args:
        path: of the volume.
        grid, header: of the tomogram, as for `read_mask`.
    """
    with _of_a_mask():
        own = _own_grid(path, grid, header)
        if not _lies_on(own, grid):
            _compare(own, grid, str(path))


def fitted_mask(values: np.ndarray, own: Grid, grid: Grid, where: str) -> Mask:
    """What a volume marks; of as many voxels as the tomogram and of that size, it lies on the tomogram's grid.

    Args:
        values: (z, y, x).
        own: where they lie by what the mask says.
        grid: of the tomogram.
        where: how messages call it.

    Raises:
        ReadError: it holds grey values, or lies beside the tomogram.
    """
    found = _marked(values, where)
    if not found.any():
        warn_once(f"mask {where}: marks nothing, for its values are {values.min():.3g} to {values.max():.3g}")
    if _lies_on(own, grid):
        return Mask(found, grid)
    _compare(own, grid, where)
    return Mask(found, own)


def _lies_on(own: Grid, grid: Grid) -> bool:
    return _alike(own, grid.voxel_spacing) and own.shape == grid.shape


def _alike(own: Grid, *spacings: float) -> bool:
    return any(abs(own.voxel_spacing - spacing) <= SPACING_TOLERANCE * spacing for spacing in spacings)


def _own_grid(path: Path, grid: Grid, header: Grid | None) -> Grid:
    """Where a mask's voxels lie in the tomogram's frame, whose first voxel is at 0."""
    shape = mask_grid(path, grid.voxel_spacing).shape
    try:
        own = mask_grid(path)
    except ReadError:
        if shape != grid.shape:
            raise
        return grid  # its header says nothing of a size
    if shape == grid.shape and _alike(own, grid.voxel_spacing, *([header.voxel_spacing] if header else [])):
        return grid
    start = np.array(own.origin) - (header.origin if header else 0.0)
    z, y, x = start.tolist()
    return replace(own, origin=(z, y, x))


def _compare(own: Grid, grid: Grid, where: str) -> None:
    """Says how a mask's box and the tomogram's differ, if they do; raises where they have nothing in common."""
    boxes = own.box, grid.box
    common = np.minimum(boxes[0][1], boxes[1][1]) - np.maximum(boxes[0][0], boxes[1][0])
    mine, its = map(box_text, boxes)
    what = f"mask {where}: lies at z, y, x = {mine} Å"
    if (common <= 0).any():
        raise ReadError(
            f"{where}: lies at z, y, x = {mine} Å, beside the tomogram at {its} Å; expected a mask of it, so correct "
            "the origin in its header"
        )
    spans = [box[1] - box[0] for box in boxes]
    if (common < (1 - _DIFFERENT) * np.maximum(*spans)).any():
        warn_once(f"{what}, the tomogram at {its} Å: beyond its box a mask marks nothing; are its axes z, y, x?")


def box_text(box: np.ndarray) -> str:
    """From where to where a box, (2, 3) zyx [Å], reaches along each axis, for messages."""
    return ", ".join(f"{a:.0f} to {b:.0f}" for a, b in box.T)


def _marked(values: np.ndarray, where: str) -> np.ndarray:
    """(z, y, x) bool: labels above 0; of a mask with soft edges, 0 to 1, what is at least one half.

    Raises:
        ReadError: grey values, as those of a tomogram.
    """
    low, high = float(values.min()), float(values.max())
    is_soft = low >= -_RINGING and 0.5 <= high <= 1 + _RINGING
    if is_soft and not all(np.array_equal(v, np.rint(v)) for v in values) and _is_near_ends(values):
        return np.asarray(values >= 0.5)
    if _is_of_labels(values):
        return np.asarray(values > 0)
    raise ReadError(
        f"{where}: holds grey values, {low:.4g} to {high:.4g}; expected a mask: labels, of which those above 0 are in "
        "it, or 0 to 1 with soft edges; is it a tomogram?"
    )


def _is_near_ends(values: np.ndarray) -> bool:
    """Whether most voxels are about 0 or 1."""
    near = sum(np.count_nonzero((v <= _RINGING) | (v >= 1 - _RINGING)) for v in values)
    return bool(near >= 0.5 * values.size)


def _is_of_labels(values: np.ndarray) -> bool:
    """Whether there are few values, or neighbours are often of one, where they are not of the commonest."""
    sections = values[np.unique(np.linspace(0, len(values) - 1, _SECTIONS).astype(int))]
    found, counts = np.unique(sections, return_counts=True)
    if len(found) <= _LABELS:
        return True
    there: np.ndarray = sections != found[counts.argmax()]
    shares = []
    for axis in (1, 2):
        pairs = there.take(range(there.shape[axis] - 1), axis=axis)
        alike = np.diff(sections, axis=axis) == 0
        shares.append(float(alike[pairs].mean()) if pairs.any() else 1.0)
    return max(shares) >= _ALIKE


@contextmanager
def _of_a_mask() -> Iterator[None]:
    """Says of what is wrong with a volume that it was to be a mask."""
    try:
        yield
    except ReadError as error:
        text = str(error)
        for tomogram, mask in _SAID:
            text = text.replace(tomogram, mask)
        raise ReadError(f"mask {text}") from None


def mask_file(place: Path, run: str, runs: Sequence[str], chosen: Sequence[str] | None = None) -> Path | None:
    """The volume with the mask of a run, as for `read_mask`; None where it is of other runs.

    Raises:
        ReadError: neither a volume by its name nor a folder, or a folder with several of the run.
    """
    names = RunNames(runs)
    if is_volume_name(place):
        mine = names.find(volume_run(place) or place.stem)
        only = len(runs if chosen is None else chosen) == 1
        return place if mine == run or (mine is None and only) else None
    if not place.is_dir():
        raise ReadError(
            f"{place}: is no volume by its name, and no folder; expected a mask (.mrc, .rec, .map or .zarr)"
        )
    return file_of_run(((name, p) for p in place.iterdir() if (name := volume_run(p)) is not None), run, names)


def file_of_run(files: Iterable[tuple[str, Path]], run: str, names: RunNames) -> Path | None:
    """The file of a folder that is called like a run; else the one that is of it by the rule of all others' files.

    Args:
        files: each with the name that it is called by.
        run: its name.
        names: of the runs of the project.

    Raises:
        ReadError: there are several.
    """
    known = sorted(files, key=lambda file: file[1])
    found = [p for name, p in known if name == run] or [p for name, p in known if names.find(name) == run]
    if len(found) > 1:
        raise ReadError(
            f"{found[0].parent}: has several masks of run '{run}', {listing(p.name for p in found)}; expected one, so "
            "keep one"
        )
    return found[0] if found else None
