"""MRC volumes: what the header says, checked, and the voxels as float32."""

from __future__ import annotations

import gzip
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.files import atomic_write
from ...core.messages import reason_of
from ...core.reading import require_file
from ...core.types import FARTHEST, Grid, Vector
from .checks import checked_spacing, empty_volume, require_room, require_volume, warn_once

ITEM_BYTES = {0: 1, 1: 2, 2: 4, 6: 2, 12: 2}  # the modes that hold one real number a voxel
AT_ONCE = 2**24  # bytes of a file that are read at a time
LAST_MODE = 101  # 4-bit, the highest number MRC2014 gives away
HEADER_BYTES = 1024
DEFLATE = 1032  # bytes that one byte of gzip becomes at most
LARGE, SQUEEZED = 2**30, 50  # [bytes] and bytes to one: what is larger and packed better is unpacked by nobody
STACK_SUFFIXES = (".st", ".ali", ".mrcs")
IMOD_STAMP = 1146047817
TILT_HEADERS = (b"SERI", b"AGAR", b"FEI1", b"FEI2")  # extended headers with a record for each image, as cameras write
RECONSTRUCTION = re.compile(r"(^|[_.-])(rec|recon|reconstruction)([_.-]|$)")  # of IMOD, ISPG 0 says nothing there
TILT_COMPANIONS = (".tlt", ".rawtlt", ".mdoc")


def read_mrc_grid(path: Path, voxel_spacing: float | None = None) -> Grid:
    """The grid, from the header alone; the header's origin and start are not heeded.

    Args:
        path: an MRC file, gzipped or not.
        voxel_spacing: [Å]; instead of the header's.

    Raises:
        ReadError: no MRC file, truncated, not one volume with z as its first axis, or no voxel size.
    """
    return _grid(path, _checked_header(path, insisted=voxel_spacing is not None), voxel_spacing)


def read_mrc(path: Path, voxel_spacing: float | None = None) -> tuple[np.ndarray, Grid]:
    """The voxels (z, y, x) float32 and their grid.

    Raises:
        ReadError: as `read_mrc_grid`.
    """
    grid, offset, dtype = mrc_layout(path, voxel_spacing)
    return _floats(path, grid.shape, offset, dtype), grid


def mrc_layout(path: Path, voxel_spacing: float | None = None) -> tuple[Grid, int, np.dtype[Any]]:
    """The grid, where the (unzipped) voxels begin [bytes], and how each is stored.

    Raises:
        ReadError: as `read_mrc_grid`.
    """
    return _layout(path, _checked_header(path, insisted=voxel_spacing is not None), voxel_spacing)


def _layout(
    path: Path, header: Any, voxel_spacing: float | None, remedy: str = "say it with `voxel_spacing`"
) -> tuple[Grid, int, np.dtype[Any]]:
    stored = np.dtype("u1") if _unsigned_bytes(header) else mode_dtype(int(header.mode))
    dtype = stored.newbyteorder(header.mode.dtype.byteorder)
    return _grid(path, header, voxel_spacing, remedy), HEADER_BYTES + int(header.nsymbt), dtype


def _floats(path: Path, shape: tuple[int, int, int], offset: int, dtype: np.dtype[Any]) -> np.ndarray:
    """The voxels, read a few sections at a time: nothing as large is held beside them, nor more read than there is."""
    values = empty_volume(shape, str(path))
    section = shape[1] * shape[2] * dtype.itemsize
    step = max(1, AT_ONCE // section)
    zipped = _is_zipped(path)
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            file.seek(offset)
            for z in range(0, shape[0], step):
                part = values[z : z + step]
                data = file.read(len(part) * section)
                if len(data) != len(part) * section:
                    raise ReadError(
                        f"{path}: ends before its {shape} voxels do; expected a whole file, so copy it again"
                    )
                part[...] = np.frombuffer(data, dtype).reshape(part.shape)
            if zipped and len(file.read(section)) == section:
                raise ReadError(f"{path}: goes on behind the {shape} voxels of its header; save the volume anew")
    except (OSError, EOFError, zlib.error) as error:
        raise ReadError(f"{path}: cannot be read as MRC ({error}); expected a whole MRC volume") from None
    return values


def mode_dtype(mode: int) -> np.dtype[Any]:
    """How voxels of an MRC mode are stored, in native order."""
    from mrcfile.utils import dtype_from_mode

    return np.dtype(dtype_from_mode(mode))


def read_map(path: Path, voxel_spacing: float | None, remedy: str) -> tuple[np.ndarray, Grid]:
    """A density map (z, y, x) float32 and its grid, as `read_mrc`; ISPG 0, which programs leave in maps, is ignored.

    Args:
        path: an MRC or CCP4 file, gzipped or not.
        voxel_spacing: [Å]; instead of the header's.
        remedy: what to do about a header without voxel size, for the message.

    Raises:
        ReadError: no MRC file, truncated, or no voxel size.
    """
    grid, offset, dtype = _layout(path, _checked_header(path, volume=False), voxel_spacing, remedy)
    return _floats(path, grid.shape, offset, dtype), grid


def read_map_grid(path: Path, voxel_spacing: float | None, remedy: str) -> Grid:
    """The grid of `read_map`, from the header alone."""
    return _grid(path, _checked_header(path, volume=False), voxel_spacing, remedy)


def mrc_start(path: Path, voxel_spacing: float) -> Vector:
    """Where the header says that the first voxel's centre lies, zyx [Å]: by its ORIGIN, else by its start in voxels.

    IMOD's own origin is that of its coordinates as seen from the first voxel, so of the other sign, unless a flag says
    so or the header is of MRC2014. Source: IMOD, libiimod/mrcfiles.c.

    Args:
        path: an MRC file.
        voxel_spacing: [Å], in which the start is counted.
    """
    header = mrc_header(path)
    origin = np.array([header.origin.z, header.origin.y, header.origin.x], dtype=np.float64)
    start = np.array([header.nzstart, header.nystart, header.nxstart], dtype=np.float64) * voxel_spacing
    if np.isfinite(origin).all() and origin.any():
        stamp, flags = _imod_words(header)
        start = -origin if stamp == IMOD_STAMP and not flags & 4 and int(header.nversion) == 0 else origin
    z, y, x = np.clip(start, -FARTHEST, FARTHEST).tolist()
    return z, y, x


def write_mrc(path: str | Path, values: np.ndarray, grid: Grid | float) -> None:
    """Writes a volume (z, y, x) as float32 MRC, its origin in the header.

    Args:
        path: of the file.
        values: (z, y, x).
        grid: where the voxels lie; or their spacing [Å], where the first lies at 0.

    Raises:
        OutputError: the file cannot be written; then nothing is left of it.
    """
    from mrcfile.mrcinterpreter import MrcInterpreter

    grid = grid if isinstance(grid, Grid) else Grid(values.shape, grid)
    with atomic_write(path, binary=True) as handle, MrcInterpreter() as mrc:
        mrc._iostream = handle
        mrc._create_default_attributes()
        mrc.set_data(np.ascontiguousarray(values, dtype=np.float32))
        mrc.voxel_size = grid.voxel_spacing
        mrc.header.origin = tuple(grid.origin[::-1])
        mrc.set_volume()


def _checked_header(path: Path, volume: bool = True, insisted: bool = False) -> Any:
    if path.name.lower().removesuffix(".gz").endswith(STACK_SUFFIXES):
        raise ReadError(f"{path}: a tilt series or image stack by its name; expected a reconstructed tomogram")
    header = mrc_header(path)
    _check(path, header, _is_zipped(path))
    if volume:
        _check_is_volume(path, header, insisted)
    return header


def mrc_header(path: Path) -> Any:
    """What the header of an MRC file says, as it says it.

    Raises:
        ReadError: no MRC file.
    """
    import mrcfile

    require_file(path)
    try:
        _peek(path, _is_zipped(path))
        with warnings.catch_warnings():
            # mrcfile warns about what `_check` says better, with the file's name and what to do.
            warnings.simplefilter("ignore")
            with mrcfile.open(path, mode="r", permissive=True, header_only=True) as mrc:
                return mrc.header.copy()
    except (OSError, EOFError, ValueError, zlib.error, MemoryError) as error:
        reason = reason_of(error)
        raise ReadError(f"{path}: cannot be read as MRC ({reason}); expected a whole MRC volume") from None


def _is_zipped(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _peek(path: Path, zipped: bool) -> None:
    """Refuses what is no MRC before mrcfile makes room for the extended header that a text file seems to have."""
    with gzip.open(path) if zipped else path.open("rb") as handle:
        start = handle.read(HEADER_BYTES)
    numbers = np.frombuffer(start[:96].ljust(96, b"\xff"), dtype="<i4")
    orders = [n for n in (numbers, numbers.byteswap()) if n[:3].min() > 0 and 0 <= n[3] <= LAST_MODE]
    if len(start) < HEADER_BYTES or not orders:
        raise ReadError(f"{path}: not an MRC file; expected a tomogram in MRC or OME-Zarr")
    most = _bytes_at_most(path, zipped)
    if not any(0 <= n[23] <= most for n in orders):
        raise _not_extended(path, int(orders[0][23]))


def _not_extended(path: Path, promised: int) -> ReadError:
    return ReadError(
        f"{path}: its header promises an extended header of {promised} bytes that is not there (as some programs leave "
        "it); copying again cannot help: set nsymbt to 0, or save the volume anew"
    )


def _bytes_at_most(path: Path, zipped: bool) -> int:
    """How many bytes a file can hold; gzip makes at most `DEFLATE` of one."""
    return path.stat().st_size * (DEFLATE if zipped else 1)


def _check(path: Path, header: Any, zipped: bool) -> None:
    mode, shape = int(header.mode), (int(header.nz), int(header.ny), int(header.nx))
    stamped = bytes(header.map)[:3] == b"MAP"
    if mode not in ITEM_BYTES:
        raise ReadError(f"{path}: MRC mode {mode}; expected one of {sorted(ITEM_BYTES)}, so save it as 32-bit floats")
    section = ITEM_BYTES[mode] * shape[1] * shape[2]
    expected = HEADER_BYTES + int(header.nsymbt) + section * shape[0]
    found = path.stat().st_size
    require_room(shape, str(path))
    if zipped and expected > _bytes_at_most(path, zipped):
        raise ReadError(
            f"{path}: {found} bytes cannot hold the {shape} voxels of its header; expected a whole file, so copy it "
            "again"
        )
    if zipped and expected > max(LARGE, SQUEEZED * found):
        raise ReadError(
            f"{path}: {expected / 1e9:.3g} GB, packed into {found / 1e6:.3g} MB: no tomogram with noise in it packs as "
            "small; expected one, so unpack it (gunzip) if you know what it holds"
        )
    if not zipped and 0 < int(header.nsymbt) == expected - found:
        raise _not_extended(path, int(header.nsymbt))
    if not zipped and found < expected:
        what = "truncated" if stamped else "not an MRC file, or truncated"
        raise ReadError(f"{path}: {what}: {found} bytes, expected {expected} for {shape} voxels; copy it again")
    surplus = (found - expected) / section
    if not zipped and surplus >= 1:
        raise ReadError(
            f"{path}: {found} bytes, but its header says {shape} voxels of {expected} bytes: {surplus:.4g} sections "
            "more; expected a header that fits, so save the volume anew"
        )
    if not zipped and found > expected:
        warn_once(f"{path}: {found - expected} bytes behind its voxels, which are not heeded")
    order = (int(header.mapc), int(header.mapr), int(header.maps))
    if order not in ((1, 2, 3), (0, 0, 0)):
        raise ReadError(f"{path}: axis order {order}; expected (1, 2, 3), so rewrite the volume as x, y, z")


def _check_is_volume(path: Path, header: Any, insisted: bool) -> None:
    """Refuses stacks; that a volume has an image stack's extended header can be insisted on."""
    shape = (int(header.nz), int(header.ny), int(header.nx))
    nz, ispg, mz = shape[0], int(header.ispg), int(header.mz)
    if 401 <= ispg <= 630:
        raise ReadError(f"{path}: a stack of {nz // max(mz, 1)} volumes (ISPG {ispg}); expected one volume a file")
    require_volume(shape, str(path))
    # IMOD leaves ISPG 0 in true volumes, so that alone says nothing. MRC2014 stacks have one section a unit cell,
    # and SerialEM's raw tilt series have their .mdoc beside them.
    if ispg == 0 and (mz == 1 or path.with_name(path.name + ".mdoc").exists()):
        raise ReadError(
            f"{path}: a tilt series or image stack of {nz} images (ISPG 0); expected a tomogram; "
            "if it is one, save it as a volume (ISPG 1)"
        )
    kind = bytes(header.exttyp)
    insisted = insisted or bool(RECONSTRUCTION.search(path.name.lower()))
    if int(header.nsymbt) and kind in TILT_HEADERS and not insisted:
        raise ReadError(
            f"{path}: a tilt series of {nz} images by its extended header ({kind.decode()}); expected a tomogram; if "
            "it is one, say so with its `voxel_spacing`, or call it NAME_rec.mrc"
        )
    if ispg == 0 and not RECONSTRUCTION.search(path.name.lower()):
        _check_named_mrc(path, nz)


def _check_named_mrc(path: Path, images: int) -> None:
    """Of an ISPG of 0 in a file that is not called a reconstruction: programs call tilt series .mrc as well."""
    base = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    for suffix in TILT_COMPANIONS:
        beside = path.with_name(base).with_suffix(suffix)
        if beside.exists():
            raise ReadError(
                f"{path}: a tilt series of {images} images (ISPG 0, with {beside.name} beside it); expected a "
                "tomogram; if it is one, save it as a volume (ISPG 1)"
            )
    warn_once(f"{path}: ISPG 0 in its header, as of an image stack; it is taken for a tomogram")


def _grid(path: Path, header: Any, voxel_spacing: float | None, remedy: str = "say it with `voxel_spacing`") -> Grid:
    shape = (int(header.nz), int(header.ny), int(header.nx))
    if voxel_spacing is not None:
        return Grid(shape, voxel_spacing)
    cell = np.array([header.cella.z, header.cella.y, header.cella.x], dtype=np.float64)
    samples = np.array([header.mz, header.my, header.mx], dtype=np.float64)
    sizes = np.divide(cell, samples, out=np.zeros(3), where=samples > 0)
    return Grid(shape, checked_spacing(sizes, str(path), remedy))


def _unsigned_bytes(header: Any) -> bool:
    """Whether mode 0 holds 0..255, as IMOD wrote it before 2012; the rule is IMOD's own.

    Source: IMOD, libcfshr/b3dutil.c, readBytesSigned; what could be either is read as MRC2014 says, signed.
    """
    if int(header.mode) != 0:
        return False
    stamp, flags = _imod_words(header)
    if stamp == IMOD_STAMP:
        return not flags & 1
    low, high = float(header.dmin), float(header.dmax)
    return high >= 128 and -low <= high - 128


def _imod_words(header: Any) -> tuple[int, int]:
    """IMOD's stamp, and its flags."""
    order = header.mode.dtype.byteorder
    stamp, flags = np.frombuffer(bytes(header.extra2)[40:48], dtype=np.dtype("i4").newbyteorder(order)).tolist()
    return stamp, flags
