"""Names that others gave, as parts of paths and in lines of text: nothing in them is obeyed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from .errors import OutputError, ReadError

LONGEST = 200  # bytes of a name; file systems end at 255, and endings are added
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_SHOWN = 80  # characters of a name in a message
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def component(name: str, what: str) -> str:
    """The name itself, where it can be that of one file or folder, here and on other machines.

    Args:
        name: as somebody else wrote it.
        what: it is the name of; for the message.

    Raises:
        OutputError: it leads elsewhere, is hidden, too long, a device, or not to be written.
    """
    reason = _objection(name)
    if reason:
        raise OutputError(f"{what} {shown(name)}: cannot be the name of a file ({reason}); rename it")
    return name


def components(names: Iterable[str], what: str) -> list[str]:
    """Each name as `component`; all of them different for every file system.

    Raises:
        OutputError: as `component`; or two names are written alike, of letters that are composed differently.
    """
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(unicodedata.normalize("NFC", component(name, what)), name)
        if twin != name:
            raise OutputError(
                f"{what} {twin!a} and {name!a}: look alike and would be one file on some machines; rename one"
            )
    return list(seen.values())


def is_text(name: str) -> bool:
    """Whether a file's name is text: bytes that are none in the file system's encoding come as lone surrogates."""
    return name.isascii() or not any(unicodedata.category(c) == "Cs" for c in name)


def require_one_line(name: str, where: str) -> str:
    """The name itself, where it can be told in a line; control characters other than line ends can be made visible.

    Args:
        name: of a run or an object, as somebody else wrote it.
        where: what the message begins with.

    Raises:
        ReadError: it has line ends.
    """
    if len(name.splitlines()) > 1 or "\n" in name:
        raise ReadError(f"{where}: the name {shown(name)} has line ends in it; expected one line, so rename it")
    return name


def shown(name: str) -> str:
    """The name in quotes, as it can be shown on a terminal."""
    return f"'{plain_line(name[:_SHOWN])}{'...' if len(name) > _SHOWN else ''}'"


def plain_line(text: str) -> str:
    """The text in one line, in which nothing tells a terminal what to do: line ends become spaces, the rest visible."""
    line = " ".join(text.splitlines()) if not text.isprintable() else text
    return "".join(c if c.isprintable() or c == "\t" else _visible(c) for c in line)


def quoted_cell(text: str) -> str:
    """The text as a cell of a table that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def unquoted_cell(text: str) -> str:
    """What `quoted_cell` was given."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(_FORMULA) else text


def _visible(character: str) -> str:
    # A separator other than the space is not printable by Python's rule, and harmless.
    return character if unicodedata.category(character) == "Zs" else character.encode("unicode_escape").decode()


def device_objection(name: str) -> str:
    """Why a word can be no device, whatever there is here; empty where it can."""
    kind, colon, number = name.partition(":")
    if "," in name:
        return "one device at a time"
    if name.isdecimal():
        return f"a GPU by its number is cuda:{name}"
    if name != "auto" and (kind not in ("cpu", "cuda", "mps") or (colon and not number.isdecimal())):
        return "there is auto, cpu, cuda, cuda:1 and so on, and mps"
    return ""


def _objection(name: str) -> str:
    """Why a name cannot be a path's part; empty where it can."""
    if not name.strip():
        return "it is empty"
    if "/" in name or "\\" in name or re.match(r"[A-Za-z]:", name):
        return "it leads to another folder"
    if name.startswith("."):
        return "it would be hidden, or another folder"
    if name != name.strip() or name.endswith("."):
        return "it begins or ends with a space, or ends with a point"
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        return "it holds line ends, control characters or what is no text"
    if _DEVICES.fullmatch(name):
        return "it is a device's on Windows"
    if len(name.encode()) > LONGEST:
        return f"it has more than {LONGEST} bytes"
    return ""
