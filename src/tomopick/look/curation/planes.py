"""Sections, crops and local maxima of a volume that is not held: only an 8-bit copy of it is."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ...core.types import Grid
from ...data.volumes.slabs import Slabs

_MOST = 3e8  # bytes of the 8-bit copy, at most; larger volumes are binned in y and x
_SAMPLED = 16  # sections that the grey scale is taken from
_CROP = 72  # pixels of a crop's edge
_COLUMNS = 20  # crops in a row of a sheet


class Planes:
    """Sections of a volume along any axis, as JPEG.

    Sections along z are read from the file when asked for. Those along y and x are cut from a copy in 8 bits that a
    thread fills meanwhile; until it is there they show what there is of it.

    Args:
        slabs: the volume.
    """

    def __init__(self, slabs: Slabs) -> None:
        self.slabs, self.grid = slabs, slabs.grid
        depth, height, width = self.grid.shape
        self.bin = 1
        while depth * (height // self.bin) * (width // self.bin) > _MOST:
            self.bin += 1
        self._copy = np.zeros((depth, height // self.bin, width // self.bin), np.uint8)
        self._filled = np.zeros(depth, bool)
        self._low, self._high = self._scale()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops filling the copy."""
        self._stop.set()
        self._thread.join()

    @property
    def complete(self) -> float:
        """How much of the copy is there, 0 to 1."""
        return float(self._filled.mean())

    def wait(self) -> None:
        """Until the copy is there."""
        self._thread.join()

    def plane(self, axis: int, index: int, thickness: int = 1, window: tuple[float, float] = (0, 255)) -> bytes:
        """The mean of `thickness` sections around `index` of an axis, as a JPEG.

        Args:
            axis: 0 z, 1 y, 2 x.
            index: voxel along it.
            thickness: how many sections are averaged.
            window: grey values of the 8-bit copy that become black and white.
        """
        n = self.grid.shape[axis]
        first = min(max(0, index - (thickness - 1) // 2), n - 1)
        last = max(first + 1, min(n, first + thickness))
        if axis == 0:
            mean = self._grey(self.slabs.read(first, last).mean(axis=0))  # (y, x)
        else:
            # Beside one another where the copy is binned, so at least one.
            box = slice(first // self.bin, max(first // self.bin + 1, -(-last // self.bin)))
            cut = self._copy[:, box] if axis == 1 else self._copy[:, :, box]
            mean = cut.mean(axis=axis, dtype=np.float32)  # (z, x) or (z, y)
            mean = mean if axis == 1 else mean.T  # a section along x lies beside the one along z: (y, z)
        return _jpeg(_windowed(mean, window))

    def crops(self, positions: np.ndarray, radii: Sequence[float], window: tuple[float, float] = (0, 255)) -> bytes:
        """A sheet of boxes around positions, the mean of three sections each, as a JPEG.

        Args:
            positions: (n, 3) zyx [Å].
            radii: (n,) of the particles [Å]; a box is 1.6 of them wide on either side.
            window: as for `plane`.
        """
        rows = max(1, -(-len(positions) // _COLUMNS))
        sheet = np.full((rows * _CROP, _COLUMNS * _CROP), 21, np.uint8)
        for i, (centre, radius) in enumerate(zip(self.grid.indices(positions), radii)):
            row, column = divmod(i, _COLUMNS)
            tile = _windowed(self._crop(centre, 1.6 * radius / self.grid.voxel_spacing), window)
            sheet[row * _CROP : (row + 1) * _CROP, column * _CROP : (column + 1) * _CROP] = tile
        return _jpeg(sheet)

    def _crop(self, centre: np.ndarray, half: float) -> np.ndarray:
        z = int(np.clip(round(centre[0]), 0, self.grid.shape[0] - 1))
        planes = range(max(0, z - 1), min(self.grid.shape[0], z + 2))
        mean = np.zeros((_CROP, _CROP), np.float32)
        for k in planes:
            if not self._filled[k]:
                self._take(k)
            mean += self._sampled(self._copy[k], centre[1:], half)
        return mean / len(planes)

    def _sampled(self, plane: np.ndarray, centre: np.ndarray, half: float) -> np.ndarray:
        """(edge, edge) of a section around a centre, to the nearest cell; mid-grey outside."""
        steps = (np.arange(_CROP) + 0.5) / _CROP * 2 - 1
        at = [np.rint((c + steps * half - (self.bin - 1) / 2) / self.bin).astype(int) for c in centre]
        inside = [(a >= 0) & (a < n) for a, n in zip(at, plane.shape)]
        y, x = (np.clip(a, 0, n - 1) for a, n in zip(at, plane.shape))
        return np.where(inside[0][:, None] & inside[1], plane[np.ix_(y, x)], 127).astype(np.float32)

    def _scale(self) -> tuple[float, float]:
        """Grey values that become 0 and 255 of the copy."""
        depth = self.grid.shape[0]
        picked = np.unique(np.linspace(0, depth - 1, _SAMPLED).astype(int))
        sample = np.concatenate([self.slabs.read(int(k), int(k) + 1)[0, ::3, ::3].ravel() for k in picked])
        sample = sample[np.isfinite(sample)]
        low, high = np.percentile(sample, (0.2, 99.8)).tolist() if len(sample) else (0.0, 1.0)
        return low, high if high > low else low + 1.0

    def _grey(self, values: np.ndarray) -> np.ndarray:
        """Grey values -> the copy's 0 to 255, float32."""
        scaled = (values - self._low) * np.float32(255 / (self._high - self._low))
        return np.clip(np.nan_to_num(scaled, nan=127.0, posinf=255.0, neginf=0.0), 0, 255)

    def _fill(self) -> None:
        for k in range(self.grid.shape[0]):
            if self._stop.is_set():
                return
            if not self._filled[k]:
                self._take(k)

    def _take(self, k: int) -> None:
        _, height, width = self._copy.shape
        grey = self._grey(self.slabs.read(k, k + 1)[0])[: height * self.bin, : width * self.bin]
        if self.bin > 1:
            grey = grey.reshape(height, self.bin, width, self.bin).mean(axis=(1, 3))
        self._copy[k] = grey.astype(np.uint8)
        self._filled[k] = True


def snapped(values: np.ndarray, grid: Grid, position: np.ndarray, radius: float, dark: bool = True) -> np.ndarray:
    """The extremum of the smoothed density that is nearest to a position, within a radius of it.

    Args:
        values: (z, y, x) around the position.
        grid: of `values`.
        position: zyx [Å].
        radius: of the particle [Å]; the density is smoothed by half of it.
        dark: whether particles are darker than what surrounds them.

    Returns:
        zyx [Å], refined below a voxel; the position itself where nothing rises near it.
    """
    from scipy.ndimage import gaussian_filter, maximum_filter

    smooth = gaussian_filter(np.nan_to_num(values, nan=float(np.nanmean(values))), radius / 2 / grid.voxel_spacing)
    smooth = -smooth if dark else smooth
    peaks = np.argwhere((smooth == maximum_filter(smooth, 3)) & (smooth > smooth.mean()))
    inner = np.all((peaks > 0) & (peaks < np.array(smooth.shape) - 1), axis=1)
    places = grid.positions(peaks[inner])
    away = np.linalg.norm(places - position, axis=1)
    if not len(away) or away.min() > radius:
        return position
    z, y, x = peaks[inner][away.argmin()]
    box = smooth[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]
    shift = [_vertex(box[:, 1, 1]), _vertex(box[1, :, 1]), _vertex(box[1, 1, :])]
    return np.asarray(grid.positions(np.array([[z, y, x]]) + np.array([shift]))[0])


def _vertex(three: np.ndarray) -> float:
    """Where the parabola through three values is highest, from the middle one, within a voxel."""
    bend = float(three[0] - 2 * three[1] + three[2])
    return float(np.clip(0.5 * (three[0] - three[2]) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _windowed(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    low, high = window
    return np.clip((values - low) * (255 / max(high - low, 1)), 0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, "JPEG", quality=85)
    return out.getvalue()
