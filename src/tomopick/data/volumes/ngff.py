"""What the metadata of an OME-Zarr says, checked: whatever JSON lies there, the answer is levels or one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.errors import ReadError

SPATIAL = ("z", "y", "x")
# Units as NGFF names them, and as people write them [Å].
ANGSTROM = {
    **dict.fromkeys(("angstrom", "angstroms", "ångström", "å", "a"), 1.0),
    **dict.fromkeys(("nanometer", "nanometers", "nanometre", "nm"), 10.0),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micron", "um", "µm", "μm"), 1e4),
    **dict.fromkeys(("picometer", "picometre", "pm"), 0.01),
}


@dataclass(frozen=True)
class Dataset:
    """One level as the metadata states it.

    Attributes:
        path: of its array inside the store.
        sizes: of a voxel, zyx [Å]; 1 where no scale is stated.
        shift: of its first voxel, zyx [Å].
    """

    path: str
    sizes: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Multiscale:
    """A pyramid as the metadata states it.

    Attributes:
        datasets: its levels, in the order of the metadata.
        leading: axes before z, y, x, which must be of length 1.
        scaled: whether the first level has a stated scale.
    """

    datasets: tuple[Dataset, ...]
    leading: int
    scaled: bool


def read_multiscale(attributes: Any, where: str) -> Multiscale:
    """The first pyramid of a group's attributes, of NGFF 0.1 to 0.5.

    Raises:
        ReadError: none there, or anything in it that is not as NGFF has it.
    """
    attributes = _object(attributes, "the attributes", where)
    inner = attributes.get("ome", attributes)
    pyramids = _object(inner, "'ome'", where).get("multiscales")
    if not isinstance(pyramids, list) or not pyramids:
        raise ReadError(f"{where}: no multiscales in its metadata; expected OME-Zarr with axes z, y, x")
    pyramid = _object(pyramids[0], "multiscales[0]", where)
    leading, unit = _axes(pyramid.get("axes"), where)
    n = leading + 3
    shared, shared_shift, scaled_all = _transforms(pyramid, n, where)
    datasets, scaled = [], []
    listed = pyramid.get("datasets")
    if not isinstance(listed, list) or not listed:
        raise ReadError(f"{where}: no datasets in its metadata; expected the levels of an OME-Zarr")
    for item in listed:
        entry = _object(item, "a dataset", where)
        path = entry.get("path")
        if not isinstance(path, str) or not path or path.startswith("/") or ".." in path.split("/"):
            raise ReadError(f"{where}: a dataset with the path {_short(path)}; expected the name of a level inside it")
        sizes, shift, stated = _transforms(entry, n, where)
        datasets.append(Dataset(path, (sizes * shared)[-3:] * unit, (shift * shared + shared_shift)[-3:] * unit))
        scaled.append(stated or scaled_all)
    return Multiscale(tuple(datasets), leading, scaled[0])


def _axes(axes: Any, where: str) -> tuple[int, float]:
    """How many axes lie before z, y, x, and the unit of these three [Å]."""
    if axes is None or axes == []:
        return 0, 1.0
    if not isinstance(axes, list) or not all(isinstance(axis, (str, Mapping)) for axis in axes):
        raise ReadError(f"{where}: axes {_short(axes)}; expected z, y, x")
    names = [axis if isinstance(axis, str) else axis.get("name") for axis in axes]
    if tuple(names[-3:]) != SPATIAL or any(name in SPATIAL for name in names[:-3]):
        raise ReadError(f"{where}: axes {_short(names)}; expected z, y, x")
    stated = [axis.get("unit") for axis in axes[-3:] if isinstance(axis, Mapping)]
    texts = {str(unit).strip().lower() for unit in stated if unit is not None}
    if len(texts) > 1 or not texts <= set(ANGSTROM) or (texts and None in stated):
        raise ReadError(f"{where}: units {_short(stated)}; expected angstrom or nanometer on all axes")
    return len(names) - 3, ANGSTROM[texts.pop()] if texts else 1.0


def _transforms(entry: Mapping[str, Any], n: int, where: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """The product of an entry's scales, the sum of its translations (n,), and whether a scale is stated."""
    listed = entry.get("coordinateTransformations")
    scale, shift, stated = np.ones(n), np.zeros(n), False
    if listed is None:
        return scale, shift, stated
    if not isinstance(listed, list):
        raise ReadError(f"{where}: coordinateTransformations {_short(listed)}; expected a list")
    for item in listed:
        transform = _object(item, "a coordinate transformation", where)
        kind = transform.get("type")
        if kind == "scale":
            scale, stated = scale * _numbers(transform, "scale", n, where), True
            if not (scale > 0).all() or not np.isfinite(scale).all():
                raise ReadError(f"{where}: scale {_short(transform.get('scale'))}; expected three positive numbers")
        elif kind == "translation":
            shift = shift + _numbers(transform, "translation", n, where)
        elif kind != "identity":
            raise ReadError(f"{where}: a coordinate transformation {_short(kind)}; expected scale or translation")
    return scale, shift, stated


def _numbers(transform: Mapping[str, Any], key: str, n: int, where: str) -> np.ndarray:
    values = transform.get(key)
    if isinstance(values, list) and len(values) == n and all(_is_number(v) for v in values):
        return np.array(values, dtype=np.float64)
    what = "three positive numbers" if key == "scale" and n == 3 else f"{n} numbers"
    raise ReadError(f"{where}: {key} {_short(values)}; expected {what}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12


def _object(value: Any, what: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ReadError(f"{where}: {what} is {_short(value)}; expected the metadata of an OME-Zarr")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
