"""Files of picks that the field reads and writes, each with its convention of where a voxel lies."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ...core.errors import ReadError, SelectionError
from ...core.messages import listing, near_miss
from ...core.text import read_json
from ..names import RunNames, object_alias, plain_name, tomo_type_alias
from .base import Part, PicksFormat, Reading, RunFrame, save
from .coords import Coords
from .dynamo import Dynamo
from .imod import ImodModel, ImodPoints
from .motl import MotiveList
from .ndjson import PortalPoints
from .particles import M_NAME
from .read_only import ELSEWHERE, Cbox, CopickPicks, DeepFinder, Eman2, ReadOnly
from .relion import Relion4, Relion5
from .star import CENTRED, TomogramRow, read_tomograms_star
from .star_text import read_documents
from .tables import CsvTable
from .warp import Warp

__all__ = [
    "FORMATS",
    "WRITTEN",
    "Part",
    "PicksFormat",
    "Reading",
    "RunFrame",
    "RunNames",
    "TomogramRow",
    "detect",
    "get_format",
    "is_foreign",
    "object_alias",
    "plain_name",
    "read_tomograms_star",
    "save",
    "tomo_type_alias",
]

_ALL: tuple[PicksFormat, ...] = (
    Relion5(),
    Relion4(),
    Warp(),
    Dynamo(),
    ImodModel(),
    ImodPoints(),
    CsvTable(),
    PortalPoints(),
    MotiveList(key="artiax", per_run=True, mixed=False),
    MotiveList(),
    Coords(),
    Cbox(),
    DeepFinder(),
    CopickPicks(),
    Eman2(),
    *ELSEWHERE,
)
FORMATS: dict[str, PicksFormat] = {f.key: f for f in _ALL}
WRITTEN = tuple(f.key for f in _ALL if not isinstance(f, ReadOnly))

_BY_SUFFIX = {
    ".tbl": "dynamo", ".mod": "imod", ".txt": "imod-text", ".csv": "csv", ".ndjson": "ndjson", ".em": "em",
    ".coords": "coords", ".cbox": "cbox", ".xml": "deepfinder", ".box": "box", ".tloc": "tloc",
}  # fmt: skip


def is_foreign(path: Path) -> bool:
    """Whether a file of this name is another program's: tables are ours as well, and JSON may be a project's."""
    return path.suffix.lower() in {".star", *_BY_SUFFIX} - {".csv"}


def get_format(key: str, **choices: Any) -> PicksFormat:
    """The format called `key`; of `choices` those that it leaves to the user and that are not None.

    Raises:
        SelectionError: an unknown format, or a choice it does not have.
    """
    if key not in FORMATS:
        raise SelectionError(f"no format '{key}'; {near_miss(key, FORMATS)}")
    found: Any = FORMATS[key]
    given = {name: value for name, value in choices.items() if value is not None}
    known = {f.name for f in fields(found)}
    for name in given:
        if name not in known:
            takers = [k for k, f in FORMATS.items() if name in {g.name for g in fields(f)}]  # type: ignore[arg-type]
            raise SelectionError(f"`{name}` is of {listing(takers)}, not of {key}; leave it out")
    return replace(found, **given)


def detect(path: Path) -> str:
    """The key of the format that a file seems to be of, by its ending and, for STAR, its columns.

    Raises:
        ReadError: nothing known has this ending.
    """
    if path.suffix.lower() == ".star":
        names = {str(column) for blocks in read_documents(path) for table in blocks.values() for column in table}
        if M_NAME in names or ("rlnTomoName" not in names and "rlnMicrographName" in names):
            return "warp"
        return "relion4" if not set(CENTRED) <= names and "rlnCoordinateX" in names else "relion5"
    if path.suffix.lower() == ".json":
        data = read_json(path, "copick's picks or an EMAN2 info file")
        return "copick-json" if isinstance(data, dict) and "pickable_object_name" in data else "eman2"
    if path.suffix.lower() in _BY_SUFFIX:
        return _BY_SUFFIX[path.suffix.lower()]
    raise ReadError(
        f"{path}: no known format by its ending; expected .star, .json, {', '.join(_BY_SUFFIX)}, or say `format`"
    )
