"""OME-Zarr volumes: the pyramid's grids from the metadata, and the voxels of one level as float32."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.messages import reason_of
from ...core.names import shown
from ...core.reading import require_file
from ...core.types import Grid, Vector
from .checks import checked_spacing, empty_volume, require_volume, warn_once
from .ngff import read_multiscale
from .zarr3 import NAME, Array3, read_node

_METADATA = (".zgroup", ".zattrs", ".zarray", ".zmetadata")
CHUNK = re.compile(r"^(c[./])?\d+([./]\d+)*$")  # a chunk's key below its array, in Zarr 2 and 3
MOST_MISSING = 0.5  # of a level's chunks; a volume that lacks more is not whole
_ABSENT = (
    KeyError,
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
)  # what else goes wrong is no chunk's lack

# That turn numbers into bytes and back, and nothing else; a codec named pickle runs what it is given.
CODECS = frozenset(
    ("adler32", "astype", "bitround", "blosc", "bz2", "crc32", "delta", "fixedscaleoffset", "gzip", "lz4", "lzma",
     "packbits", "quantize", "shuffle", "zlib", "zstd")
)  # fmt: skip


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes:
        path: of its array inside the store.
        grid: where its voxels lie, in the coordinates of the finest level.
        leading: axes of length 1 before z, y, x.
    """

    path: str
    grid: Grid
    leading: int = 0


def read_levels(store: Any, where: str, voxel_spacing: float | None = None) -> tuple[Level, ...]:
    """The levels, finest first; no voxels are read.

    Coarser levels are local means (copick's, the portal's), which their metadata does not tell: a level of factor f
    begins (f - 1) / 2 fine voxels further in, unless it states a translation itself.

    Args:
        store: a path, or a Zarr store as copick gives it.
        where: how messages call it.
        voxel_spacing: of the finest level [Å]; instead of the metadata's.

    Raises:
        ReadError: no OME-Zarr volume with axes z, y, x, a unit that is no length, a single image, thin along another
            axis than z, or voxels of no known size.
    """
    group = _group(store, where)
    stated = read_multiscale(group.attributes, where)
    # Only stores that lie in a folder take a spacing from the command line.
    remedy = "say it with `voxel_spacing`" if isinstance(store, (str, Path)) else "correct its metadata"
    if voxel_spacing is None and not stated.scaled:
        raise ReadError(f"{where}: no voxel size in its metadata; expected a scale, so {remedy}")
    found = sorted(stated.datasets, key=lambda dataset: float(np.mean(dataset.sizes)))
    finest, start = found[0].sizes, found[0].shift
    fine = float(np.mean(finest)) if voxel_spacing is not None else checked_spacing(finest, where, remedy)
    factor_of_override = 1.0 if voxel_spacing is None else voxel_spacing / fine
    levels = []
    for dataset in found:
        ratio = float(np.mean(dataset.sizes)) / float(np.mean(finest))
        spacing = fine * ratio * factor_of_override
        moved = not np.allclose(dataset.shift, start)
        corner = dataset.shift - start if moved else np.full(3, (ratio - 1) / 2 * fine)
        z, y, x = (float(v) * factor_of_override for v in corner)
        shape = _shape(group.array(dataset.path), stated.leading, dataset.path, where)
        levels.append(Level(dataset.path, Grid(shape, spacing, (z, y, x)), stated.leading))
    require_volume(levels[0].grid.shape, where)
    return tuple(levels)


def first_voxel(store: Any, where: str) -> Vector:
    """Where the metadata say that the first voxel of the finest level lies, zyx [Å]; 0 where they do not.

    Raises:
        ReadError: no OME-Zarr.
    """
    stated = read_multiscale(_group(store, where).attributes, where)
    z, y, x = min(stated.datasets, key=lambda dataset: float(np.mean(dataset.sizes))).shift.tolist()
    return z, y, x


def read_level(store: Any, level: Level, where: str) -> np.ndarray:
    """The voxels of one level, (z, y, x) float32, C-contiguous; only its chunks are touched.

    Chunks that are missing are of one value, as Zarr has it, and their number is said.

    Raises:
        ReadError: a chunk cannot be read, or most are missing.
    """
    sections, shape = open_level(store, level, where), level.grid.shape
    values = empty_volume(shape, where)
    for z in range(0, shape[0], sections.step):
        values[z : z + sections.step] = sections[z : z + sections.step]
    sections.require_whole()
    return values


@dataclass(frozen=True)
class _Sections:
    """An array as a volume.

    Attributes:
        array: that is read.
        leading: axes before z, y, x.
        where: how messages call it.
        heeded: tells which chunks a store elsewhere lacks; those of a folder are counted before it is read.
    """

    array: Any
    leading: int
    where: str
    heeded: _Heeded | None = None

    def require_whole(self) -> None:
        """Says how many chunks were found missing in a store elsewhere; raises `ReadError` where most are."""
        if self.heeded is not None:
            _require_chunks(len(self.heeded.absent), int(self.array.nchunks), self.where)

    @property
    def step(self) -> int:
        """Sections of a chunk: read by as many, each is opened once."""
        return (
            max(1, int(self.array.chunks[self.leading])) if self.leading == 0 else int(self.array.shape[self.leading])
        )

    def __getitem__(self, sections: slice) -> np.ndarray:
        """(z, y, x) of some sections."""
        try:
            if isinstance(self.array, Array3):
                if not self.leading:
                    return self.array[sections]
                return self.array[:].reshape(self.array.shape[self.leading :])[sections]
            where = (0,) * self.leading + (sections,)
            if self.array.fill_value is not None:
                return np.asarray(self.array[where])
            # Without a fill value the library leaves what is missing to chance.
            first, last, _ = sections.indices(self.array.shape[self.leading])
            blank = np.zeros((max(0, last - first), *self.array.shape[self.leading + 1 :]), self.array.dtype)
            return np.asarray(self.array.get_basic_selection(where, out=blank))
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            if self.heeded is not None and isinstance(error, OSError):
                raise  # of the way to it, which whoever knows its address tells
            raise ReadError(f"{self.where} cannot be read ({_line(error)}); copy the volume again") from None


def open_level(store: Any, level: Level, where: str) -> _Sections:
    """One level, whose sections are read by slicing; no voxels are read yet.

    Raises:
        ReadError: most of its chunks are missing.
    """
    array = _group(store, where).array(level.path)
    folder, name = folder_of(store), f"{where}: level {level.path}"
    if folder is not None:
        _count_chunks(folder / level.path, int(array.nchunks), name)
    return _Sections(array, level.leading, name, _heeded(store) if folder is None else None)


def folder_of(store: Any) -> Path | None:
    """The folder that a store is, where it lies on this machine."""
    if isinstance(store, (str, Path)):
        return Path(store)
    path, system = getattr(store, "path", None), getattr(store, "fs", None)
    local = system is None or "file" in np.atleast_1d(getattr(system, "protocol", ())).tolist()
    return Path(path) if isinstance(path, str) and local and Path(path).is_dir() else None


def _count_chunks(folder: Path, whole: int, where: str) -> None:
    there = sum(1 for path in _files(folder, where) if CHUNK.match(os.path.relpath(path, folder).replace(os.sep, "/")))
    _require_chunks(whole - there, whole, where)


def _require_chunks(missing: int, whole: int, where: str) -> None:
    if missing > MOST_MISSING * whole:
        raise ReadError(f"{where} lacks {missing} of its {whole} chunks; expected a whole volume, so copy it again")
    if missing > 0:
        warn_once(f"{where} lacks {missing} of its {whole} chunks (files); there it holds no specimen")


def _files(folder: str | Path, where: str) -> Iterator[str]:
    """Paths of all files below a folder; raises `ReadError` for what is none, and may never end."""
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path, where)
        elif entry.is_file():
            yield entry.path
        elif not entry.is_dir():  # a link to a folder may lead round in a circle
            raise ReadError(f"{where}: {entry.name} is no file; expected the chunks of a volume, so copy it again")


class _Heeded:
    """How a back-end's store gives chunks: what it lacks is told from what could not be had.

    The library takes every error of the operating system for a chunk that is not there, and fills it with zeros: a
    time-out, a connection that broke, a disk that fails, a server that has too much to do.

    Attributes:
        absent: keys of the chunks that were asked for and are not there.
    """

    def __init__(self, store: Any) -> None:
        self.absent: set[str] = set()
        self._store, self._ask = store, store.getitems
        # Of what it has not, a bucket that may not be listed says that it is forbidden.
        store.exceptions = _ABSENT if folder_of(store) is not None else (*_ABSENT, PermissionError)
        store.getitems = self

    def __call__(self, keys: Sequence[str], **how: Any) -> Mapping[str, Any]:
        """The chunks that are there; raises what kept others from coming."""
        found = self._ask(keys, **how)
        lacking = set(keys) - set(found)
        if lacking - self.absent:
            self.absent |= lacking
            try:
                self._store[".zattrs"]
            except KeyError as error:  # now even what was there is not
                raise PermissionError(f"{min(lacking)}: {error.__cause__ or error}") from None
        return found


def _heeded(store: Any) -> _Heeded | None:
    """Makes a back-end's store tell what it lacks; None for stores of another kind."""
    if not (hasattr(store, "exceptions") and hasattr(store, "getitems")):
        return None
    return store.getitems if isinstance(store.getitems, _Heeded) else _Heeded(store)


def _require_files(folder: Path) -> None:
    """Raises `ReadError` where what describes a group or array is a pipe or a device."""
    for name in (*_METADATA, NAME):
        require_file(folder / name)


@dataclass(frozen=True)
class _Group:
    """The root of an OME-Zarr.

    Attributes:
        attributes: its metadata.
        node: what holds the arrays: a folder of Zarr 3, or a group of the Zarr library.
        where: how messages call it.
        folder: where it lies on this machine.
    """

    attributes: Mapping[str, Any]
    node: Any
    where: str
    folder: Path | None

    def array(self, path: str) -> Any:
        """The array of a level; raises `ReadError` where there is none."""
        if self.folder is not None:
            _require_files(self.folder / path)
        if isinstance(self.node, Path):
            if not (self.node / path / NAME).is_file():
                raise self._absent(path)
            return Array3(self.node / path, self.where)
        try:
            found = self.node[path]
            kind, shape = np.dtype(found.dtype).kind, tuple(map(int, found.shape))
        except KeyError:
            raise self._absent(path) from None
        except Exception as error:  # a damaged .zarray makes the library raise whatever it stumbles over
            raise ReadError(f"{self.where}: level '{path}' cannot be opened ({_line(error)})") from None
        if kind not in "biuf":
            raise ReadError(f"{self.where}: level '{path}' holds {found.dtype}, {shape}; expected real numbers")
        codecs = [c.codec_id for c in (found.compressor, *(found.filters or ())) if c is not None]
        other = sorted(set(codecs) - CODECS)
        if other:
            raise ReadError(
                f"{self.where}: level '{path}' is packed with {shown(other[0])}, which is not opened; expected one of "
                f"{', '.join(sorted(CODECS))}, so save it again"
            )
        return found

    def _absent(self, path: str) -> ReadError:
        return ReadError(f"{self.where}: level '{path}' of its metadata is not there; expected a whole OME-Zarr")


def _group(store: Any, where: str) -> _Group:
    import zarr

    folder = folder_of(store)
    if folder is not None:
        _require_files(folder)
    if isinstance(store, (str, Path)):
        if (Path(store) / NAME).exists():
            node = read_node(Path(store), where)
            return _Group(node.get("attributes") or {}, Path(store), where, folder)
        store = str(store)
    _heeded(store)
    try:
        group = zarr.open_group(store, mode="r")
        return _Group(group.attrs.asdict(), group, where, folder)
    except OSError as error:
        if folder is None:  # the way to it, which whoever knows its address tells
            raise
        raise ReadError(f"{where}: cannot be read ({_line(error)}); expected OME-Zarr") from None
    except Exception as error:  # as for arrays; and back-ends raise what their own libraries do
        raise ReadError(f"{where}: cannot be read as Zarr ({_line(error)}); expected OME-Zarr") from None


def _line(error: Exception) -> str:
    return " ".join(reason_of(error).split())[:200]


def _shape(array: Any, leading: int, path: str, where: str) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in array.shape)
    if len(shape) != leading + 3:
        raise ReadError(f"{where}: level '{path}' is {shape}; expected a volume (z, y, x)")
    if any(n != 1 for n in shape[:leading]):
        raise ReadError(f"{where}: level '{path}' is {shape}: several channels or times; expected one volume")
    z, y, x = shape[leading:]
    return z, y, x
