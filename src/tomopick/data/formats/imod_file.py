"""The parts of an IMOD model file that picks are read from; each has to end within the file before it is believed."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import ReadError
from ...core.reading import read_bytes

WANTED = (b"OBJT", b"CONT", b"MINX")


def read_imod(path: Path) -> Any:
    """imodmodel's model of the file, of objects, contours and the image's transformation alone.

    imodmodel itself reads on for ever where a file ends before its end mark, and makes room for as many points as a
    contour says that it has.

    Raises:
        ReadError: no IMOD model, or one that is cut off or damaged.
    """
    from imodmodel.parsers import parse_model

    data = read_bytes(path, "an IMOD model")
    try:
        if data[:4] != b"IMOD":
            raise ReadError(f"{path}: begins with {data[:4]!r}; expected an IMOD model, which begins with b'IMOD'")
        return parse_model(io.BytesIO(b"".join(_parts(data))))
    except (OSError, ValueError, LookupError, struct.error, OverflowError, MemoryError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, _CutOffError) else type(error).__name__
        raise ReadError(f"{path}: cannot be read as an IMOD model ({reason}); save it again") from None


class _CutOffError(ValueError):
    """The file ends within one of its parts."""


def _parts(data: bytes) -> Iterator[bytes]:
    """Header, the parts that are wanted, and the end mark; every length is held against what there is."""
    from imodmodel.binary_specification import ModFileSpecification as Specification

    def size(name: str) -> int:
        return struct.calcsize(f">{''.join(getattr(Specification, name).values())}")

    at = size("ID") + size("MODEL_HEADER")
    yield _whole(data, 0, at)
    objects, contours = size("OBJECT_HEADER"), size("CONTOUR_HEADER")
    meshes, image = size("MESH_HEADER"), size("MINX")
    while (tag := _whole(data, at, 4)) != b"IEOF":
        at += 4
        if tag == b"OBJT":
            length = objects
        elif tag == b"CONT":
            length = contours + 12 * _count(data, at)
        elif tag == b"MESH":
            length = meshes + 12 * _count(data, at) + 4 * _count(data, at + 4)
        else:
            length = 4 + _count(data, at)
        part = _whole(data, at, length)
        if tag in WANTED and (tag != b"MINX" or length == 4 + image):
            yield tag + part
        at += length
    yield b"IEOF"


def _count(data: bytes, at: int) -> int:
    (number,) = struct.unpack(">i", _whole(data, at, 4))
    if number < 0:
        raise _CutOffError(f"a length of {number} at byte {at}")
    return int(number)


def _whole(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise _CutOffError(f"it ends at byte {len(data)}, within a part that goes to byte {at + length}")
    return data[at : at + length]
