"""Densities from files: maps and atomic models, given one by one or as a folder of templates."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from ..core.colours import color_of
from ..core.errors import ReadError
from ..core.types import PickableObject
from ..data import read_map
from ..data.objects import density_parts
from .atoms import potential_of, read_atoms
from .bodies import density_of, is_built_in
from .density import BLOB_SIGMA, PROTEIN_CONTRAST, PROTEIN_VOLUME, MapDensity, require_extent

log = logging.getLogger("tomopick")

_COARSE = 10.0  # [Å] voxels of which `BLOB_SIGMA` is the natural blur
_FINE = 2.5  # [Å] spacing to which finer maps are averaged before they are blurred
_FILLED = 0.54  # of the volume that a map occupies is protein: 0.43..0.69 for 19 maps of known mass at 10 Å
_NOISE = 3.0  # root-mean-squares of the negative density, below which positive density counts as noise, too
_FLOOR = 0.2  # of a map's top, at most, counts as noise because as much is negative: rims of density are, too
_DROWNED = 1 / 3  # of a map's top, above which what counts as noise leaves too little of the density
_SHIFTED = 1e-3  # of a map's range, and ...
_SHIFTED_BY = 0.25  # ... of its noise, by which a background is off 0 where it is subtracted; less changes nothing
_SHOWS = 0.01  # of a map's top, from which a voxel counts as density
_RIM = 0.2  # of the voxels on a map's faces with density: one that fills its box; of 19 maps none has any there
_RADIUS_SHARE = 0.95  # of the mass that an object's radius holds: 88..113 % of the CZII radii for their maps

# What the maps of the folder that polnet ships hold, by PDB entry: the labelled kinds, with the name of the object ...
LABELLED: dict[str, str] = {
    "6pxm": "apo-ferritin", "1f4a": "beta-galactosidase", "6qzp": "ribosome", "7n4y": "thyroglobulin",
    "8tux": "virus-like-particle", "1fa2": "beta-amylase",
}  # fmt: skip
# ... and the others, with the mass of what the map holds [kDa], which may be a part or a multiple of the entry's. A map
# that is in neither table may be of a labelled kind (another ribosome, say) and is not used.
# Source: the entries' masses, of the whole or the part that a map's integral agrees with; for the maps of one kind of
# export have one scale (3.2 kDa per 1e6 [value x Å^3], 4 % apart, by which 3ipm and 3j9i are; 2uv8 as the labelled).
OTHERS: dict[str, float] = {
    "1bxn": 280.0, "1qvr": 297.0, "1s3x": 43.0, "1u6g": 239.0, "2cg9": 189.0, "2uv8": 2600.0, "3cf3": 271.0,
    "3d2f": 236.0, "3gl1": 85.0, "3h84": 79.0, "3ipm": 1085.0, "3j9i": 690.0, "3qm1": 31.0, "4cr2": 1309.0,
}  # fmt: skip


@dataclass(frozen=True)
class DensityFile:
    """Where an object's density is to be read.

    Attributes:
        name: of the object.
        path: a map (.mrc, .map, .ccp4) or an atomic model (.pdb, .ent, .cif, .mmcif), each may be gzipped.
        radius: of the object [Å]; None: what the density says.
        mass: [kDa]; None: that of the built-in object of the name, of the atoms, or what the map's volume implies.
        voxel_spacing: of a map [Å]; None: as its header says.
    """

    name: str
    path: str
    radius: float | None = None
    mass: float | None = None
    voxel_spacing: float | None = None

    @classmethod
    def parse(cls, text: str, field: str = "densities") -> DensityFile:
        """What `densities` was given, in the form `DENSITY_FORM`, or another field.

        Raises:
            SelectionError: not of this form.
        """
        name, path, values = density_parts(text, field)
        return cls(name, path, values.get("radius"), values.get("mass"), values.get("voxel"))

    def load(self, field: str = "densities") -> MapDensity:
        """The density, blurred to what tomograms show; `field` is as of `parse`.

        Raises:
            ReadError: a file that cannot be read, or holds no positive density, or one that is hidden by noise, fills
                its box or is larger than any particle.
        """
        try:
            return _load(self)
        except ReadError as error:
            raise ReadError(str(error).replace("`densities=", f"`{field}=")) from None

    def object(self, label: int) -> PickableObject:
        """The object of this density, to be picked."""
        radius = self.radius or round(self.load().reach_of(_RADIUS_SHARE))
        return PickableObject(self.name, float(radius), label, color_of(label))


@lru_cache(maxsize=64)
def _load(file: DensityFile) -> MapDensity:
    path = Path(os.path.expanduser(file.path))
    kind = _suffix(path)
    if kind not in _READERS:
        raise ReadError(f"{path}: '{kind}' is no kind of density; expected one of {' '.join(sorted(_READERS))}")
    if not path.is_file():
        raise ReadError(f"{path}: there is no such file; expected the density of '{file.name}'")
    values, spacing, implied = _READERS[kind](path, file)
    built_in = density_of(PickableObject(file.name, None)).mass if is_built_in(file.name) else None
    return MapDensity(file.name, values, spacing, file.mass or built_in or implied)


def _from_map(path: Path, file: DensityFile) -> tuple[np.ndarray, float, float]:
    """Values, spacing [Å] and the mass that the occupied volume implies [kDa]."""
    remedy = f"say it: `densities={file.name}={file.path},voxel=Å`"
    values, grid = read_map(path, file.voxel_spacing, remedy)
    if min(grid.shape) == 1:
        size = "x".join(str(n) for n in grid.shape if n > 1) or "1"
        raise ReadError(f"{path}: one section of {size} voxels; expected a density map, of three dimensions")
    values = cleaned(values, str(path))
    require_extent(np.array(values.shape) * grid.voxel_spacing, f"{path}: its density extends", "its voxel size")
    values, spacing = blurred(values, grid.voxel_spacing)
    return values, spacing, implied_mass(values, spacing)


def _from_atoms(path: Path, file: DensityFile) -> tuple[np.ndarray, float, float]:
    atoms = read_atoms(path)
    astray = "that no atom lies astray, and its biological assembly"
    require_extent(np.ptp(atoms.positions, axis=0), f"{path}: its atoms extend", astray)
    values, spacing = potential_of(atoms)
    thin = np.ascontiguousarray(values[::2, ::2, ::2])  # blurred enough for the double spacing
    return thin, 2 * spacing, float(atoms.weights.sum() / (PROTEIN_VOLUME * PROTEIN_CONTRAST))


_READERS: dict[str, Callable[[Path, DensityFile], tuple[np.ndarray, float, float]]] = {
    ".mrc": _from_map, ".map": _from_map, ".ccp4": _from_map, ".rec": _from_map, ".pdb": _from_atoms,
    ".ent": _from_atoms, ".cif": _from_atoms, ".mmcif": _from_atoms,
}  # fmt: skip


def cleaned(values: np.ndarray, where: str) -> np.ndarray:
    """The positive density of a map above its background; what is no larger than its noise goes with the negative.

    What the faces of the map hold is its background: their median, and how far they are spread is noise.

    Args:
        values: (z, y, x).
        where: its file, for messages.

    Raises:
        ReadError: no density, or mostly negative, or no larger than its noise, or up to the border of its box.
    """
    if not np.isfinite(values).all():
        raise ReadError(f"{where}: values that are not finite; expected a density map")
    top, bottom = float(values.max()), float(values.min())
    if top == bottom:
        raise ReadError(f"{where}: an empty map, {top:g} everywhere; expected positive density")
    values, spread = _above_background(values, where)
    top, bottom = float(values.max()), float(values.min())
    if -bottom > top:
        raise ReadError(
            f"{where}: mostly negative, {bottom:.3g} to {top:.3g}; expected positive density, so turn its sign around"
        )
    if _NOISE * spread > _DROWNED * top:
        raise ReadError(
            f"{where}: noise of {spread:.3g} around a density of {top:.3g} at most; expected a map that stands out of "
            "it, so low-pass it or mask it"
        )
    below = values[values < 0]
    floor = _NOISE * float(np.sqrt(np.mean(below.astype(np.float64) ** 2))) if len(below) else 0.0
    kept = np.where(values > max(min(floor, _FLOOR * top), _NOISE * spread), values, 0)
    filled = float(np.mean(_faces(kept) > _SHOWS * top))
    if filled > _RIM:
        raise ReadError(
            f"{where}: density on {100 * filled:.0f} % of the border of its box; expected a particle with nothing "
            "around it, so mask it or give it a larger box"
        )
    where_kept = np.nonzero(kept > _SHOWS * top)
    box = tuple(slice(max(0, i.min() - 1), i.max() + 2) for i in where_kept)
    return np.asarray(kept[box])


def _above_background(values: np.ndarray, where: str) -> tuple[np.ndarray, float]:
    """A map without a background that is clearly not 0, and how far its background is spread (as a sigma)."""
    rim = _faces(values).astype(np.float64)
    background = float(np.median(rim))
    spread = 1.4826 * float(np.median(np.abs(rim - background)))
    across = float(values.max()) - float(values.min())
    if spread < _SHIFTED * across:
        spread = 0.0  # of rounding
    if abs(background) <= max(_SHIFTED * across, _SHIFTED_BY * spread):
        return values, spread
    log.info(f"{where}: {background:.3g} all around its density, which is subtracted")
    return values - values.dtype.type(background), spread


def _faces(values: np.ndarray) -> np.ndarray:
    """The voxels on the six faces of a map, those of edges as often as they are on faces."""
    return np.concatenate([values.take(end, axis).ravel() for axis in range(3) for end in (0, -1)])


def blurred(values: np.ndarray, spacing: float) -> tuple[np.ndarray, float]:
    """A map without what voxels of 10 Å cannot show, on a lattice of about 5 Å where it was finer; and its spacing.

    Averaged over blocks up to `_FINE`, then low-passed by a Gaussian before it is sampled: nothing is aliased.
    """
    block = max(1, int(_FINE / spacing))
    if block > 1:
        padded = np.pad(values, [(0, -n % block) for n in values.shape])
        z, y, x = (n // block for n in padded.shape)
        values, spacing = padded.reshape(z, block, y, block, x, block).mean(axis=(1, 3, 5)), spacing * block
    if spacing >= _COARSE:
        return values, spacing
    sigma = BLOB_SIGMA * np.sqrt(1 - (spacing / _COARSE) ** 2) / spacing
    values = gaussian_filter(np.pad(values, int(np.ceil(3 * sigma))), sigma, mode="constant")
    every = max(1, int(5.0 / spacing))
    return np.ascontiguousarray(values[::every, ::every, ::every]), spacing * every


def implied_mass(values: np.ndarray, spacing: float) -> float:
    """Mass [kDa] of protein of the volume that a map occupies, whatever its scale.

    The volume is (sum of v)^2 / (sum of v^2): its own for an even body; blurring lets it grow.
    """
    volume = float(values.sum(dtype=np.float64) ** 2 / np.square(values, dtype=np.float64).sum()) * spacing**3
    return volume * _FILLED / PROTEIN_VOLUME


def templates(folder: Path, objects: Sequence[PickableObject]) -> tuple[list[DensityFile], list[DensityFile]]:
    """The maps of a folder: of `objects`, and of other proteins, which go unlabelled.

    A file counts by its name, without suffix: a PDB entry of `LABELLED` or the name of an object is that object; a PDB
    entry of `OTHERS` is another protein. Any other file is left aside, for it might be one of the labelled kinds.

    Raises:
        ReadError: no folder, or nothing in it that counts.
    """
    if not folder.is_dir():
        raise ReadError(f"{folder}: no such folder; expected templates such as 6pxm.mrc")
    names = {thing.name for thing in objects if thing.is_particle}
    found = {p.name.split(".")[0]: p for p in sorted(folder.iterdir()) if _suffix(p) in _READERS}
    labelled: dict[str, DensityFile] = {}
    for stem, path in found.items():
        name = stem if stem in names else LABELLED.get(stem.lower(), "")
        if name in names:
            labelled[name] = DensityFile(name, str(path))
    others = [DensityFile(s, str(p), mass=OTHERS[s.lower()]) for s, p in found.items() if s.lower() in OTHERS]
    if not labelled and not others:
        raise ReadError(f"{folder}: no template in it; expected files such as {', '.join(list(LABELLED)[:3])}.mrc")
    return list(labelled.values()), others


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
