"""Files of picks that the field reads and writes, each with its convention of where a voxel lies."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ...core.errors import ReadError, SelectionError
from ...core.messages import listing, near_miss
from ..names import RunNames, object_alias, plain_name, tomo_type_alias
from .base import Part, PicksFormat, Reading, RunFrame, save
from .coords import Coords, Eman2
from .dynamo import Dynamo
from .imod import ImodModel, ImodPoints
from .motl import MotiveList
from .ndjson import PortalPoints
from .relion import Relion4, Relion5
from .star import CENTRED, TomogramRow, particle_block, read_star, read_tomograms_star
from .tables import CsvTable
from .warp import Warp

__all__ = [
    "FORMATS",
    "Part",
    "PicksFormat",
    "Reading",
    "RunFrame",
    "RunNames",
    "TomogramRow",
    "detect",
    "get_format",
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
    Eman2(),
)
FORMATS: dict[str, PicksFormat] = {f.key: f for f in _ALL}

_BY_SUFFIX = {
    ".tbl": "dynamo", ".mod": "imod", ".txt": "imod-text", ".csv": "csv", ".ndjson": "ndjson", ".em": "em",
    ".coords": "coords", ".json": "eman2",
}  # fmt: skip


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
            raise SelectionError(f"--{name.replace('_', '-')} is of {listing(takers)}, not of {key}; leave it out")
    return replace(found, **given)


def detect(path: Path) -> str:
    """The key of the format that a file seems to be of, by its ending and, for STAR, its columns.

    Raises:
        ReadError: nothing known has this ending.
    """
    if path.suffix.lower() == ".star":
        blocks = read_star(path)
        if "coordinate_files" in blocks:
            return "relion5"
        table = particle_block(blocks, path)
        if "rlnTomoName" not in table and "rlnMicrographName" in table:
            return "warp"
        return "relion5" if set(CENTRED) <= set(table) else "relion4"
    if path.suffix.lower() in _BY_SUFFIX:
        return _BY_SUFFIX[path.suffix.lower()]
    raise ReadError(f"{path}: no known format by its ending; expected .star, {', '.join(_BY_SUFFIX)}, or say --from")
