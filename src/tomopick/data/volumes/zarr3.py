"""Arrays of Zarr 3 in a local folder, read: the Zarr library that copick needs knows version 2 alone."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.text import read_json

NAME = "zarr.json"
_KINDS = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "float32", "float64", "bool")
NOWHERE = 2**64 - 1  # offset of a chunk that a shard lacks
_LARGEST = 2**31  # bytes of a chunk; more is a mistake


def read_node(folder: Path, where: str) -> Mapping[str, Any]:
    """The metadata of a group or array.

    Raises:
        ReadError: there is none, or it is no object of Zarr 3.
    """
    try:
        data = read_json(folder / NAME, "a whole OME-Zarr")
    except ReadError as error:
        raise ReadError(f"{where}: {error}") from None
    if not isinstance(data, dict) or data.get("zarr_format") != 3:
        raise ReadError(f"{where}: {folder.name}/{NAME} does not say zarr_format 3; expected a whole OME-Zarr")
    return data


@dataclass(frozen=True)
class _Layout:
    """How an array (or a shard of one) is cut into chunks and these into bytes.

    Attributes:
        shape: of the whole.
        chunk: shape of a chunk.
        codecs: names and settings, in the order of writing.
        dtype: of the values.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    codecs: tuple[tuple[str, Mapping[str, Any]], ...]
    dtype: np.dtype[Any]

    @property
    def counts(self) -> tuple[int, ...]:
        """Chunks along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunk))


class Array3:
    """An array of Zarr 3 as far as reading needs it.

    Args:
        folder: of the array.
        where: how messages call the volume.

    Raises:
        ReadError: metadata that is not as Zarr 3 has it, or a codec or data type that is not read.
    """

    def __init__(self, folder: Path, where: str):
        self.folder, self.where = folder, where
        node = read_node(folder, where)
        try:
            kind = node["data_type"]
            if kind not in _KINDS:
                raise ReadError(f"{where}: data type {kind!r}; expected one of {', '.join(_KINDS)}")
            self.dtype = np.dtype(kind)
            grid = node["chunk_grid"]
            if node["node_type"] != "array" or grid["name"] != "regular":
                raise ValueError("chunk_grid")
            shape, chunk = _shape(node["shape"]), _shape(grid["configuration"]["chunk_shape"])
            keys = node["chunk_key_encoding"]
            self._prefix = {"default": "c", "v2": ""}[keys["name"]]
            self._separator = keys.get("configuration", {}).get("separator", "/" if self._prefix else ".")
            self.fill_value = _fill(node["fill_value"], self.dtype)
            self._layout = _Layout(shape, chunk, _codecs(node["codecs"], where), self.dtype)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ReadError(f"{where}: {folder.name}/{NAME} is not that of an array ({error})") from None
        if len(shape) != len(chunk) or self._separator not in ("/", "."):
            raise ReadError(f"{where}: {folder.name}/{NAME}: chunks {chunk} of an array {shape}; expected alike")
        self.shape, self.chunks = shape, chunk

    @property
    def nchunks(self) -> int:
        """Chunks that a whole array has."""
        return math.prod(self._layout.counts)

    def __getitem__(self, key: Any) -> np.ndarray:
        """A slice along the first axis, or all of it (`...`)."""
        first, last, _ = slice(None).indices(self.shape[0]) if key is ... else key.indices(self.shape[0])
        out = np.full((max(0, last - first), *self.shape[1:]), self.fill_value, dtype=self.dtype)
        rows = range(first // self.chunks[0], -(-last // self.chunks[0]))
        for index in itertools.product(rows, *(range(n) for n in self._layout.counts[1:])):
            try:
                data = self._file(index).read_bytes()
            except FileNotFoundError:
                continue
            try:
                chunk = _decoded(data, self._layout, self.fill_value)
            except (ValueError, RuntimeError, zlib.error, KeyError, IndexError, OverflowError) as error:
                raise ReadError(f"{self.where}: chunk {index} cannot be decoded ({error}); copy it again") from None
            _put(out, chunk, [i * c for i, c in zip(index, self.chunks)], first)
        return out

    def _file(self, index: Sequence[int]) -> Path:
        return self.folder / self._separator.join([*([self._prefix] if self._prefix else []), *map(str, index)])


def _put(out: np.ndarray, chunk: np.ndarray, start: Sequence[int], first: int) -> None:
    """Copies that part of a chunk which lies in `out`, whose first axis begins at `first`."""
    begin = [start[0] - first, *start[1:]]
    low = [max(0, -b) for b in begin]
    high = [min(c, n - b) for c, n, b in zip(chunk.shape, out.shape, begin)]
    if all(a < b for a, b in zip(low, high)):
        target = tuple(slice(b + a, b + z) for b, a, z in zip(begin, low, high))
        out[target] = chunk[tuple(slice(a, z) for a, z in zip(low, high))]


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(isinstance(n, int) and 0 < n < 2**31 for n in value):
        raise ValueError(f"shape {value!r}")
    return tuple(value)


def _fill(value: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(value, str) and value.startswith("0x"):
        return np.array(int(value, 16), dtype=f"u{dtype.itemsize}").view(dtype)[()]
    if isinstance(value, str):
        value = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}[value]
    return dtype.type(value)


def _codecs(listed: Any, where: str) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Raises `ReadError` for what is not read."""
    known = ("transpose", "bytes", "gzip", "zstd", "blosc", "crc32c", "sharding_indexed")
    found = []
    for item in listed:
        name = item if isinstance(item, str) else item["name"]
        if name not in known:
            raise ReadError(f"{where}: codec {name!r}; expected one of {', '.join(known)}")
        settings = {} if isinstance(item, str) else item.get("configuration") or {}
        found.append((name, settings))
        if name == "sharding_indexed":
            _codecs(settings["codecs"], where)
            _codecs(settings["index_codecs"], where)
    return tuple(found)


def _decoded(data: bytes | memoryview, layout: _Layout, fill: Any) -> np.ndarray:
    """A chunk's bytes -> its values."""
    shape, order = layout.chunk, None
    size = math.prod(shape) * layout.dtype.itemsize
    if size > _LARGEST:
        raise ValueError(f"a chunk of {size} bytes")
    swapped = layout.dtype
    array = None
    for name, settings in reversed(layout.codecs):
        if name == "transpose":
            order = [int(k) for k in settings["order"]]
        elif name == "bytes":
            swapped = layout.dtype.newbyteorder("<" if settings.get("endian", "little") == "little" else ">")
        elif name == "sharding_indexed":
            array = _shard(data, layout, settings, fill)
        else:
            data = _unpacked(name, data, size)
    if array is None:
        stored = [shape[k] for k in order] if order else shape
        array = np.frombuffer(data, dtype=swapped).reshape(stored)
    return array.transpose(np.argsort(order)) if order else array


def _unpacked(name: str, data: bytes | memoryview, size: int) -> bytes | memoryview:
    """Bytes out of one compressor, no more than are expected of a chunk (and a checksum)."""
    if name == "crc32c":
        return data[:-4]
    if name == "gzip":
        unpacked = zlib.decompressobj(wbits=31).decompress(data, size + 4)
        return unpacked
    from numcodecs import Blosc, Zstd

    # The library believes what a Blosc header says of lengths, whatever there is behind it.
    if name == "blosc" and np.frombuffer(bytes(data[:16]).ljust(16), "<u4")[[1, 3]].tolist() != [size, len(data)]:
        raise ValueError(f"{len(data)} bytes that are not a Blosc chunk of {size}")
    codec = Blosc() if name == "blosc" else Zstd()
    out = np.empty(size, dtype=np.uint8)
    codec.decode(data, out)
    return out.data  # no copy: of what was never written there is nothing in memory


def _shard(data: bytes | memoryview, layout: _Layout, settings: Mapping[str, Any], fill: Any) -> np.ndarray:
    """The chunks within a shard, put together."""
    inner = _Layout(layout.chunk, _shape(settings["chunk_shape"]), _codecs(settings["codecs"], ""), layout.dtype)
    names = [name for name, _ in _codecs(settings["index_codecs"], "")]
    n = math.prod(inner.counts)
    length = 16 * n + (4 if "crc32c" in names else 0)
    raw = data[:length] if settings.get("index_location", "end") == "start" else data[-length:]
    places = np.frombuffer(raw[: 16 * n], dtype="<u8").reshape(n, 2).tolist()
    out = np.full(layout.chunk, fill, dtype=layout.dtype)
    for index, (offset, size) in zip(_indices(inner.counts), places):
        if offset != NOWHERE:
            chunk = _decoded(data[offset : offset + size], inner, fill)
            _put(out, chunk, [i * c for i, c in zip(index, inner.chunk)], 0)
    return out


def _indices(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(n) for n in counts))
