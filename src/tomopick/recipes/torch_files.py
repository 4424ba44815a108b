"""Reads what lies in a file that torch.save wrote (tensors and plain values) without running anything from it.

Such a file is a pickle: a program that may name any function and have it called. Here names lead to a handful of stand-
ins of our own, which know how tensors are put together, and all other names to inert placeholders; nothing is imported,
and nothing of torch or of anyone else is called.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import torch

from ..core.errors import ModelError, ReadError
from ..core.messages import reason_of
from ..core.reading import read_bytes, require_file

# The parts of a file that are storages, by the class that names their type.
_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_MAGIC = 0x1950A86A20F9469CFC6C  # of the format before torch 1.6
_VERSION = 1001
_NUMBERED = ("PUT", "BINPUT", "LONG_BINPUT")  # what a pickle says to keep a thing under a number
# What a broken or hostile pickle can raise; MemoryError: it may ask for any amount.
_FAULTS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError,
    MemoryError, RecursionError, struct.error, OSError, RuntimeError, zipfile.BadZipFile, NotImplementedError,
)  # fmt: skip


class Placeholder:
    """Stands where the file names a class or function that is none of tensors'; takes whatever it is given."""

    def __new__(cls, *args: object, **kwargs: object) -> Placeholder:
        """An empty one."""
        made = super().__new__(cls)
        made.entries = {}
        return made

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.entries: dict[Any, Any]

    def __call__(self, *args: object, **kwargs: object) -> Placeholder:
        """Itself: an object that was made cannot be called to any effect either."""
        return self

    def __setstate__(self, state: object) -> None:
        """Forgets it."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, item: object) -> None:
        """Forgets it, as do the other ways of filling a container."""

    extend = add = append


class _Ordered(dict[Any, Any]):
    """A dictionary whose attributes (a state_dict's `_metadata`) are forgotten."""

    def __setstate__(self, state: object) -> None: ...


@dataclass(frozen=True, eq=False)
class _Storage:
    """A run of numbers in the file, read when it is asked for."""

    dtype: torch.dtype
    count: int
    read: Callable[[], bytes]

    def numbers(self) -> torch.Tensor:
        """(count,) of them."""
        wanted, data = self.count * self.dtype.itemsize, self.read()
        if len(data) != wanted:
            raise ValueError(f"a storage of {len(data)} bytes, where {wanted} were announced")
        return torch.frombuffer(bytearray(data), dtype=self.dtype) if data else torch.empty(0, dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that lies in the file; `load` reads it.

    Attributes:
        storage: where its numbers are.
        offset: of its first number.
        shape, strides: as torch's.
    """

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def load(self) -> torch.Tensor:
        """The tensor, contiguous and by itself."""
        sound = all(isinstance(n, int) and n >= 0 for n in (self.offset, *self.shape, *self.strides))
        if not sound or len(self.shape) != len(self.strides):
            raise ValueError("a tensor of impossible shape")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides))
        if prod(self.shape) and last >= self.storage.count:
            raise ValueError("a tensor beyond its storage")
        # A stride of 0 makes much of little: no weight has one.
        if prod(self.shape) > self.storage.count:
            raise ValueError("a tensor larger than its storage")
        return torch.as_strided(self.storage.numbers(), self.shape, self.strides, self.offset).clone(
            memory_format=torch.contiguous_format
        )


def _tensor(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: object) -> StoredTensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return StoredTensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Any, *rest: object) -> Any:
    return tensor


# The names that mean something, and what stands in for them.
_KNOWN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Ordered,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch", "Size"): tuple,
    **{(module, name): dtype for name, dtype in _DTYPES.items() for module in ("torch", "torch.storage")},
}


class _Reader(pickle.Unpickler):
    """Unpickles with stand-ins. `storage` answers the file's references to numbers."""

    def __init__(self, file: IO[bytes], storage: Callable[[tuple[Any, ...]], _Storage]):
        super().__init__(file, encoding="utf-8", errors="replace")
        self.storage = storage

    @classmethod
    def next_in(cls, file: IO[bytes], storage: Callable[[tuple[Any, ...]], _Storage]) -> Any:
        """What the pickle that begins here says; the file stands behind it then."""
        start = file.tell()
        for count, (code, argument, _) in enumerate(pickletools.genops(file)):
            # The reader makes room for as many things as the number says, gigabytes for a few bytes of file.
            if code.name in _NUMBERED and not 0 <= int(argument or 0) <= count:
                raise pickle.UnpicklingError("a number beyond the things that there are")
        file.seek(start)
        return cls(file, storage).load()

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in; never what the name means."""
        known = _KNOWN.get((module, name))
        if isinstance(known, torch.dtype) or known is tuple:
            return known
        if known is _Ordered:
            return type("OrderedDict", (_Ordered,), {})  # a fresh one: a file may set attributes of what it is given
        if known is not None:
            return _Function(known)
        return type("Placeholder", (Placeholder,), {})

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that a reference names."""
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], torch.dtype)):
            raise pickle.UnpicklingError("a reference to something other than a tensor's numbers")
        if not isinstance(pid[4], int) or pid[4] < 0:
            raise pickle.UnpicklingError("a storage of impossible size")
        return self.storage(pid)


class _Function:
    """One of our own functions, without attributes that a file could set."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]):
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError("an attribute set where there is none")


def read_torch_file(path: str | Path) -> Any:
    """Nested dictionaries, lists, tuples and plain values, with a `StoredTensor` for every tensor.

    Of classes that are not tensors' only the items that the file put into them are kept (`Placeholder.entries`).

    Raises:
        ModelError: the file is missing, no torch file, or its tensors cannot be had this way.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        raise ModelError(
            f"{path}: a safetensors file; expected the checkpoint that torch.save wrote (.ckpt, .pt, .pth); weights of "
            "a 2D network are what to train with: `weights_folder`"
        )
    with _faults_of(path):
        require_file(path)
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_stream(read_bytes(path, "a checkpoint", 2**34))


def load_tensors(path: str | Path, table: Mapping[str, StoredTensor]) -> dict[str, torch.Tensor]:
    """The tensors of a table that was read from `path`.

    Raises:
        ModelError: one of them is not whole.
    """
    with _faults_of(Path(path)):
        return {name: tensor.load() for name, tensor in table.items()}


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    try:
        yield
    except ReadError as error:
        raise ModelError(str(error)) from None
    except _FAULTS as error:
        reason = reason_of(error)
        raise ModelError(
            f"{path}: its tensors cannot be read without running code from it, or it is no torch file ({reason}); "
            "expected a checkpoint that torch.save wrote (.ckpt, .pt, .pth): save its state_dict alone and convert that"
        ) from error


def _read_zip(path: Path) -> Any:
    """The format since torch 1.6: an uncompressed archive of one pickle and the storages."""
    archive = zipfile.ZipFile(path)  # closed with the last tensor that refers to it
    size = path.stat().st_size

    def stored(name: str) -> bytes:
        about = archive.getinfo(name)
        if about.compress_type != zipfile.ZIP_STORED:  # torch compresses nothing; a bomb would
            raise ValueError("a compressed archive")
        if max(about.file_size, about.compress_size) > size:  # room is made for as much as it says
            raise ValueError(f"a part of {max(about.file_size, about.compress_size)} bytes in a file of {size}")
        return archive.read(name)

    names = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError("an archive without data.pkl")
    folder = names[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and stored(f"{folder}byteorder") != sys.byteorder.encode():
        raise ValueError("numbers of the other byte order")

    def storage(pid: tuple[Any, ...]) -> _Storage:
        return _Storage(pid[1], pid[4], lambda: stored(f"{folder}data/{pid[2]}"))

    return _Reader.next_in(io.BytesIO(stored(names[0])), storage)


def _read_stream(data: bytes) -> Any:
    """The format before torch 1.6: five pickles in a row, then the storages one after the other."""
    file = io.BytesIO(data)
    counts: dict[str, tuple[torch.dtype, int]] = {}
    places: dict[str, tuple[int, int]] = {}

    def storage(pid: tuple[Any, ...]) -> _Storage:
        key = str(pid[2])
        counts[key] = (pid[1], pid[4])
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError("a storage that is a view of another")

        def read() -> bytes:
            start, size = places[key]
            return data[start : start + size]

        return _Storage(pid[1], pid[4], read)

    def load() -> Any:
        return _Reader.next_in(file, storage)

    if load() != _MAGIC or load() != _VERSION:
        raise ValueError("neither of torch's two formats")
    about, content, keys = load(), load(), load()
    if not about.get("little_endian", True) or sys.byteorder != "little":
        raise ValueError("numbers of the other byte order")
    for key in keys:
        dtype, count = counts[str(key)]
        (written,) = struct.unpack("<q", file.read(8))
        if written != count:
            raise ValueError(f"a storage of {written} numbers, where {count} were announced")
        places[str(key)] = (file.tell(), count * dtype.itemsize)
        file.seek(count * dtype.itemsize, io.SEEK_CUR)
    return content


def tensor_tables(content: Any, depth: int = 3) -> Iterator[Mapping[str, StoredTensor]]:
    """The tables of tensors by name in what was read, outermost first: a state_dict, or those inside a checkpoint."""
    if isinstance(content, Placeholder):
        content = content.entries
    if not isinstance(content, Mapping):
        return
    found = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, StoredTensor)}
    if found:
        yield found
    if depth:
        for value in content.values():
            yield from tensor_tables(value, depth - 1)


def plain_table(content: Any, *path: str) -> dict[str, Any]:
    """The numbers and texts by name in the dictionary that a path of names leads to; empty where there is none."""
    for name in (*path, None):
        content = content.entries if isinstance(content, Placeholder) else content
        if not isinstance(content, Mapping):
            return {}
        content = content.get(name) if name is not None else content
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, int | float | str)}
