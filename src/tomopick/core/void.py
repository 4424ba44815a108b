"""Voxels that hold no specimen: blank sections, rims, wedges, corners of a turned volume, what a mask left out.

Whatever filled them up left one value, exactly, in regions that reach what only filling reaches. Noise never does
that, and neither does what lies within the specimen: equal voxels of byte volumes are scattered, gold that was cut off
at the brightest value is a ball.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK = 4  # edge of the blocks in which equal voxels are counted
SOLID = 16  # voxels of one value in a block that do not come about by chance
_SHARE = 0.15  # of a region's voxels that lie in blocks of one value, at least
RARE = 0.005  # of the voxels that are of a value by chance; below it those beside a region are taken for its corners
LEAST = 1 / 16  # of a block's voxels that let a region reach into it
CROWD = 512  # voxels in blocks of one value that make a region void where others of this value are
BOX_EDGE = 16  # of a region inside the volume that fills its box, as a chunk that is missing does [voxels], at least
_KINDS = 4  # fill values of one volume
SMOOTH = 0.6  # of what surrounds a region that differs from it by one step of the grey values: then it is no fill
_MOST = 0.98  # of a volume; where more is of one value that is the specimen's surroundings, as in a phantom
_SAMPLED = 128  # voxels along an axis that tell which grey values the specimen has
_NEAR = 0.25  # of the specimen's deviation: grey values that are like a fill
_OFTEN = 0.1  # of the voxels next to a void that are of one value: it may be another fill
_EXCESS = 20.0  # times as many voxels of a value as of those near it do not come about by chance
APRON = 2  # voxels beside a void that interpolation or a soft mask may have changed


def find_void(values: np.ndarray, finite: bool | None = None) -> np.ndarray | None:
    """(z, y, x) bool, True where a volume (z, y, x) holds no specimen; None where it does everywhere.

    A region is void where it is of one value and takes in a corner of the volume, or reaches from one of its faces to
    the opposite one, or is a box, or lies at such a region of another value; smaller ones of the same value then are,
    too, down to single voxels of a value that the specimen does not have. What is not finite is of one value.

    Args:
        values: the volume.
        finite: whether all of it is; None: it is looked through.
    """
    blank = [z for z, section in enumerate(values) if _alike(section[0, 0], section[-1, -1]) and _constant(section)]
    rivals = _candidates(values, blank, finite)
    if not (blank or rivals):
        return None
    found = np.zeros(values.shape, dtype=bool)
    found[blank] = True
    taken = _take(found, values, rivals, None)
    if found.any() and (len(others := _next_to(values, found)) or len(rivals) > 1):
        first = found.copy()
        for value in others:
            _mark_others(found, values, value)  # it may be too thin to fill blocks
        _take(found, values, [*rivals, *(v for v in others if v not in rivals)], taken)
        if np.count_nonzero(found) > _MOST * found.size:  # the second was no fill, but what the specimen lies in
            found = first
    n = np.count_nonzero(found)
    return found if 0 < n <= _MOST * found.size else None


def _take(found: np.ndarray, values: np.ndarray, rivals: list[float], taken: np.ndarray | None) -> np.ndarray:
    """Sets the void of some values; gives the blocks (z, y, x) into which it reaches.

    Args:
        found: (z, y, x) bool, what is known to be void.
        values: the volume.
        rivals: that may be fills.
        taken: blocks that are void already, at which another fill may lie; None: none is known.
    """
    known = np.zeros([len(_starts(n)) for n in values.shape], dtype=bool) if taken is None else taken
    for value in rivals:
        counts = _Counts.of(values, value)
        accepted = counts.regions(taken)
        if (accepted & ~known).any() and not _smooth(values, value, counts, accepted, rivals):
            _mark(found, values, value, counts, accepted)
            _mark_others(found, values, value)
            known = known | accepted
    return known


def _next_to(values: np.ndarray, found: np.ndarray) -> list[float]:
    """Values that much of what lies next to a void is of, the most frequent first."""
    met = []
    for z in range(0, len(values), max(1, len(values) // _SAMPLED)):
        near = found[max(0, z - 1)] | found[min(z + 1, len(values) - 1)]
        near[1:] |= found[z, :-1]
        near[:-1] |= found[z, 1:]
        near[:, 1:] |= found[z, :, :-1]
        near[:, :-1] |= found[z, :, 1:]
        met.append(values[z][near & ~found[z]])
    shown, n = np.unique(np.concatenate(met), return_counts=True)
    most = np.argsort(-n, kind="stable")[:_KINDS]
    return [float(shown[i]) for i in most if n[i] > _OFTEN * n.sum() and np.isfinite(shown[i])]


def beside(void: np.ndarray) -> np.ndarray:
    """The void and the voxels next to it that are no longer what was measured."""
    grown = void.copy()
    for axis in range(3):
        source = grown.copy()
        for step in range(1, APRON + 1):
            ahead = (slice(None),) * axis + (slice(step, None),)
            behind = (slice(None),) * axis + (slice(None, -step),)
            grown[ahead] |= source[behind]
            grown[behind] |= source[ahead]
    return grown


def _constant(section: np.ndarray) -> bool:
    return bool(section.min() == section.max()) or not np.isfinite(section).any()


def _alike(one: float, other: float) -> bool:
    return bool(one == other) or not (np.isfinite(one) or np.isfinite(other))


def _equal(section: np.ndarray, value: float) -> np.ndarray:
    return section == value if np.isfinite(value) else ~np.isfinite(section)


def _candidates(values: np.ndarray, blank: list[int], finite: bool | None) -> list[float]:
    """Values of which small squares on the faces, or cubes within, consist; the most frequent first."""
    inner = [z for z in range(len(values)) if z not in blank]
    faces = [values[inner[0]], values[inner[-1]]] if inner else []
    faces += [values[:, 0], values[:, -1], values[:, :, 0], values[:, :, -1]]
    met = [_squares(face) for face in faces]
    if min(values.shape) > 2 * BLOCK:
        met.append(_cubes(values))
    found, n = np.unique(np.concatenate(met), return_counts=True)
    kinds = [float(v) for v in found[np.argsort(-n, kind="stable")][:_KINDS] if np.isfinite(v)]
    if finite is None:
        finite = bool(np.isfinite(values.min()) and np.isfinite(values.max()))
    return kinds if finite else [*kinds, np.nan]


def _squares(face: np.ndarray) -> np.ndarray:
    """The values of the squares of 4 x 4 pixels of a face that are of one value."""
    h, w = (n // BLOCK * BLOCK for n in face.shape)
    first = face[:h:BLOCK, :w:BLOCK]
    same = first == face[3:h:BLOCK, 3:w:BLOCK]
    if not same.any():
        return first[same]
    at = np.argwhere(same) * BLOCK
    y, x = (at[:, k, None, None] + np.arange(BLOCK).reshape((-1, 1) if k == 0 else (1, -1)) for k in range(2))
    squares = face[y, x].reshape(len(at), -1)
    return squares[(squares == squares[:, :1]).all(axis=1), 0]


def _cubes(values: np.ndarray) -> np.ndarray:
    """The values of the cubes of 4^3 voxels, one in every 8^3, that are of one value."""
    z, y, x = (n - BLOCK for n in values.shape)
    first = values[1:z:8, 1:y:8, 1:x:8]
    far = values[BLOCK : z + 3 : 8, BLOCK : y + 3 : 8, BLOCK : x + 3 : 8]
    at = np.argwhere(first == far) * 8 + 1
    if not len(at):
        return np.zeros(0, dtype=values.dtype)
    at = at[:: max(1, len(at) // 4096)]
    z, y, x = (at[:, k, None] + np.indices((BLOCK,) * 3)[k].ravel() for k in range(3))
    cubes = values[z, y, x]
    return cubes[(cubes == cubes[:, :1]).all(axis=1), 0]


def _starts(n: int) -> np.ndarray:
    """Where blocks begin along an axis; those on the faces are one voxel deep, so that what is thin fills them."""
    return np.unique([0, *range(1, max(1, n - 1), BLOCK), n - 1])


@dataclass(frozen=True)
class _Counts:
    """How many voxels of each block are of one value.

    Attributes:
        counts, sizes: (blocks along z, y, x) voxels of the value, and of all.
        starts: of the blocks along z, y, x.
        shape: of the volume.
    """

    counts: np.ndarray
    sizes: np.ndarray
    starts: tuple[np.ndarray, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, values: np.ndarray, value: float) -> _Counts:
        """Of a (z, y, x) volume."""
        starts = tuple(_starts(n) for n in values.shape)
        lengths = [np.diff([*s, n]) for s, n in zip(starts, values.shape)]
        counts = np.zeros([len(s) for s in starts], dtype=np.uint8)
        for row, (z, n) in enumerate(zip(starts[0], lengths[0])):
            equal = np.zeros(values.shape[1:], dtype=np.uint8)
            for section in values[z : z + n]:
                equal += _equal(section, value)
            if equal.any():
                along_x = np.add.reduceat(equal, starts[2], axis=1, dtype=np.uint8)
                counts[row] = np.add.reduceat(along_x, starts[1], axis=0, dtype=np.uint8)
        sizes = (lengths[0][:, None, None] * lengths[1][:, None] * lengths[2]).astype(np.uint8)
        return cls(counts, sizes, starts, values.shape)

    def regions(self, beside: np.ndarray | None = None) -> np.ndarray:
        """(blocks) bool: those into which a void reaches; one may lie at what is void already, `beside`."""
        from scipy import ndimage

        full = self.counts == self.sizes
        solid = full & (self.sizes >= SOLID)
        none = np.zeros_like(full)
        if not solid.any():
            return none
        others = self.counts[(self.sizes == BLOCK**3) & ~full]
        chance = float(np.median(others)) / BLOCK**3 if len(others) else 0.0
        member = full | (self.counts >= min(0.9, max(LEAST, 4 * chance)) * self.sizes)
        labels, n = ndimage.label(member, structure=np.ones((3, 3, 3), dtype=bool))
        flat = labels.ravel()
        voxels = np.bincount(flat, weights=self.counts.ravel(), minlength=n + 1)
        within = np.bincount(flat, weights=(self.counts * solid).ravel(), minlength=n + 1)
        firm = within >= _SHARE * voxels
        placed = self._placed(labels, full)
        if beside is not None:
            placed[labels[ndimage.binary_dilation(beside, structure=np.ones((3, 3, 3)))]] = True
        placed &= firm
        placed[0] = False
        if not placed.any():
            return none
        placed |= firm & (within >= CROWD)
        placed[0] = False
        found = placed[labels]
        # Its corners reach into blocks that hold little else of the value.
        return ndimage.binary_dilation(found, structure=np.ones((3, 3, 3))) if chance < RARE else found

    def _placed(self, labels: np.ndarray, full: np.ndarray) -> np.ndarray:
        """Of each region: whether it lies as filling does."""
        from scipy import ndimage

        result = np.zeros(labels.max() + 1, dtype=bool)
        result[labels[np.ix_(*[[0, -1]] * 3)].ravel()] = True
        for number, place in enumerate(ndimage.find_objects(labels), 1):
            result[number] |= any(s.start == 0 and s.stop == n for s, n in zip(place, labels.shape))
        for number, place in enumerate(ndimage.find_objects(labels * full), 1):
            if place is not None and not result[number]:
                edges = [e[s.stop] - e[s.start] for e, s in zip(self.ends(), place)]
                result[number] = min(edges) >= BOX_EDGE and full[place].all()
        return result

    def ends(self) -> list[np.ndarray]:
        """Along z, y, x: where blocks begin, and where the last one ends."""
        return [np.append(s, n) for s, n in zip(self.starts, self.shape)]

    def boxes(self, blocks: np.ndarray) -> Iterator[tuple[slice, ...]]:
        """The voxels of each of (n, 3) blocks."""
        ends = self.ends()
        for block in blocks:
            yield tuple(slice(int(e[i]), int(e[i + 1])) for e, i in zip(ends, block))


def _smooth(values: np.ndarray, value: float, counts: _Counts, accepted: np.ndarray, rivals: list[float]) -> bool:
    """Whether grey values lead up to a region in the smallest steps there are, as to the darkest or the emptiest part
    of a volume of few grey values; what was filled up ends at once."""
    edge = np.argwhere(accepted & (counts.counts < counts.sizes))
    edge = edge[:: max(1, len(edge) // 512)]
    if not len(edge) or not np.isfinite(value):
        return False
    around = np.concatenate([values[box].ravel() for box in counts.boxes(edge)]).astype(np.float64)
    others = around[~np.isin(around, rivals) & np.isfinite(around)]
    if not len(others):
        return False
    step = float(np.diff(np.unique(np.append(others, value))).min())
    return bool((np.abs(others - value) <= 1.5 * step).mean() > SMOOTH)


def _mark_others(found: np.ndarray, values: np.ndarray, value: float) -> None:
    """Sets the other voxels of a fill value where the specimen has none such: tips and islands of what was masked.

    Of a value that ends the specimen's range, as where it was cut off, that is only known if nothing is near it.
    """
    steps = tuple(slice(None, None, max(1, n // _SAMPLED)) for n in values.shape)
    sample = values[steps][~found[steps]].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    others = sample[sample != value]
    if not len(others):
        return
    near = others[np.abs(others - value) <= _NEAR * others.std()] if np.isfinite(value) else others[:0]
    if len(near):
        level = len(near) / len(np.unique(near))  # voxels of a grey value of the specimen
        if not others.min() < value < others.max() or len(sample) - len(others) < _EXCESS * level:
            return
    for section, out in zip(values, found):
        out |= _equal(section, value)


def _mark(found: np.ndarray, values: np.ndarray, value: float, counts: _Counts, accepted: np.ndarray) -> None:
    """Sets those voxels of the value that lie in accepted blocks."""
    ends = counts.ends()
    lengths = [np.diff(e) for e in ends]
    for row, (z, n) in enumerate(zip(ends[0], lengths[0])):
        if accepted[row].any():
            inside = np.repeat(np.repeat(accepted[row], lengths[1], axis=0), lengths[2], axis=1)
            for section, out in zip(values[z : z + n], found[z : z + n]):
                out |= inside & (_equal(section, value))
