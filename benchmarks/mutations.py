"""What can be wrong with a file: its bytes, lines, numbers, names, JSON, or what kind of thing it is.

Each way takes the contents and random numbers and gives other contents; `fuzz.py` draws among those that fit a file.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Mutation = Callable[[bytes, np.random.Generator], bytes]

NUMBERS = [
    "nan", "inf", "-inf", "-1", "0", "1", "1e308", "-1e308", "1e400", "1e-320", "9" * 400, "", "1,5", "1D3", "x",
    "-0.0", "1_0", "١", " ", "0x10", "1" * 20, "−5", "5.", ".", "+", "1e5e5", "None", "<NA>", "1;2", "1e9",
    "2147483648", "1e-30", "∞", "½", "True",
]  # fmt: skip
NAMES = [
    "../evil", "/tmp/evil-by-name", "", ".", "con", "a\nb", "\x1b[31mred", "=1+1", "é", "e\u0301", "n" * 300, "a/b",
    "-rf", "--out", "~", "$(id)", "%s%n", "{0}", "*", "[a-z]", "a:b", "\u202egnp.exe", "\u200b", "\u00a0", "NUL.csv",
    "tail.", "a\tb", "'; --", "<img src=x>", "\x00", "`id`", "a,b", '"', "\x07", "\x9b31m",
]  # fmt: skip
VALUES: list[Any] = [
    None, [], {}, "x", "", -1, 0, 1, 1e308, 10**400, 10**18, True, False, "../evil", [[1]], float("nan"), float("inf"),
    "\x1b[2J", {"a": {}}, "1", "nan", [None], ["x"] * 3, [1, 2, 3], [0, 0, 0], [-1.0, 1e30, 1e-30], "n" * 100_000,
    "\ud800", "\x00", [1] * 1000, {"": 0}, 2**31, -(2**63), 0.5, 1e-300,
]  # fmt: skip
_WORDS = [0, 1, -1, 2**31 - 1, -(2**31), 65536, 2**24, 7, 3, 101, 1024]
_FLOATS = [float("nan"), float("inf"), -1.0, 0.0, 1e30, 1e-30, 1.0, 3e38, -1e10]


def mutated(data: bytes, rng: np.random.Generator, kind: str) -> bytes:
    """The bytes, changed in one or two of the ways that fit them.

    Args:
        data: of the file.
        rng: draws.
        kind: `json`, `lines` (of JSON) or empty.
    """
    is_text = b"\x00" not in data[:4096]
    ways: list[Mutation] = [_bits, _cut, _bytes, _grown]
    if is_text:
        ways += [_lines, _number, _number, _name, _marked, _columns, _long]
    if kind == "json":
        ways += [_json] * 8 + [_twice, _literal]
    elif kind == "lines":
        ways += [_json_line] * 8
    elif not is_text:
        ways += [_header, _header, _word, _zeroed]
    for _ in range(int(rng.integers(1, 3))):
        data = ways[rng.integers(len(ways))](data, rng)
    return data


# --------------------------------------------------------------------------------------------------------------- bytes
def _bits(data: bytes, rng: np.random.Generator) -> bytes:
    found = bytearray(data)
    for at in rng.integers(0, max(1, len(found)), 1 + int(rng.integers(8))):
        if at < len(found):
            found[at] ^= 1 << int(rng.integers(8))
    return bytes(found)


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, len(data) + 1))] if rng.random() < 0.9 else b""


def _bytes(data: bytes, rng: np.random.Generator) -> bytes:
    at, n = int(rng.integers(0, len(data) + 1)), int(rng.integers(1, 64))
    return data[:at] + rng.bytes(n) + data[at + int(rng.integers(0, 2)) * n :]


def _grown(data: bytes, rng: np.random.Generator) -> bytes:
    return data + (data, rng.bytes(4096), b"\x00" * 2**20)[rng.integers(3)]


def _header(data: bytes, rng: np.random.Generator) -> bytes:
    """A whole number near the beginning is another: sizes, modes, lengths."""
    if len(data) < 64:
        return data
    at = 4 * int(rng.integers(0, min(64, len(data) // 4)))
    order = "little" if rng.random() < 0.7 else "big"
    value = int(rng.choice(_WORDS)).to_bytes(4, order, signed=True)  # type: ignore[arg-type]
    return data[:at] + value + data[at + 4 :]


def _word(data: bytes, rng: np.random.Generator) -> bytes:
    """A number with a fraction near the beginning is another: cells, origins, spacings."""
    if len(data) < 256:
        return data
    value = struct.pack("<f", _FLOATS[rng.integers(len(_FLOATS))])
    if rng.random() < 0.3:
        return data[:40] + value * 3 + data[52:]  # MRC's cell
    at = 4 * int(rng.integers(0, 64))
    return data[:at] + value + data[at + 4 :]


def _zeroed(data: bytes, rng: np.random.Generator) -> bytes:
    """A part is of one byte: lost blocks, padding, constant volumes."""
    at = int(rng.integers(0, len(data) + 1))
    return data[:at] + bytes([int(rng.choice([0, 255, 127]))]) * (len(data) - at)


# ---------------------------------------------------------------------------------------------------------------- text
def _lines(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.split(b"\n")
    i, j = rng.integers(0, len(lines), 2)
    how = rng.integers(5)
    if how == 0:
        del lines[i]
    elif how == 1:
        lines[i], lines[j] = lines[j], lines[i]
    elif how == 2:
        lines[i:i] = [lines[j]] * int(rng.choice([1, 1000]))
    elif how == 3:
        lines[i] = lines[i] + lines[j]
    else:
        lines[i] = lines[i][: int(rng.integers(0, len(lines[i]) + 1))]
    return b"\n".join(lines)


def _token(data: bytes, rng: np.random.Generator, new: str, digits: bool) -> bytes:
    found = list(re.finditer(rb"-?\d[\d.eE+-]*" if digits else rb"[A-Za-z_][\w.-]*", data))
    if not found:
        return data
    hit = found[rng.integers(len(found))]
    return data[: hit.start()] + new.encode("utf-8", "surrogatepass") + data[hit.end() :]


def _number(data: bytes, rng: np.random.Generator) -> bytes:
    return _token(data, rng, NUMBERS[rng.integers(len(NUMBERS))], True)


def _name(data: bytes, rng: np.random.Generator) -> bytes:
    return _token(data, rng, NAMES[rng.integers(len(NAMES))], False)


def _marked(data: bytes, rng: np.random.Generator) -> bytes:
    """Another encoding, several in one file, or other separators."""
    text = data.decode("utf-8", "replace")
    half = len(data) // 2
    return [
        b"\xef\xbb\xbf" + data, text.encode("utf-16"), text.encode("utf-16")[:-1], text.encode("utf-32-be"),
        data.replace(b"\n", b"\r\n"), data.replace(b"\n", b"\r"), data.replace(b" ", b"\t"), data.replace(b",", b";"),
        (text + "\u00e9").encode("latin-1", "replace"), b"\x00" + data,
        data[:half] + "\u00fc".encode("latin-1") + data[half:],
        data[:half] + b"\x00" + data[half:], b"\xef\xbb\xbf" * 2 + data, data.replace(b".", b","),
    ][int(rng.integers(14))]  # fmt: skip


def _columns(data: bytes, rng: np.random.Generator) -> bytes:
    """Quotes without an end, a column twice, one more or one less, a comment in the middle."""
    lines = data.split(b"\n")
    i = int(rng.integers(len(lines)))
    words = re.split(rb"([ ,\t])", lines[i])
    k = int(rng.integers(len(words)))
    how = rng.integers(6)
    if how == 0:
        words[k] = b'"' + words[k]
    elif how == 1:
        words[k] += (b"," if b"," in data else b" ") + words[k]
    elif how == 2:
        del words[k]
    elif how == 3:
        words[k] = b"#" + words[k]
    elif how == 4:
        words[k] = b"'" + words[k] + b"'"
    else:
        words = words * 1000
    lines[i] = b"".join(words)
    return b"\n".join(lines)


def _long(data: bytes, rng: np.random.Generator) -> bytes:
    """One word is very long."""
    return _token(data, rng, "w" * int(rng.choice([300, 140_000])), False)


# ---------------------------------------------------------------------------------------------------------------- JSON
def _json(data: bytes, rng: np.random.Generator) -> bytes:
    """One value somewhere inside is another, missing, or very deep."""
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return _bits(data, rng)
    places: list[tuple[Any, Any]] = []
    todo = [root]
    while todo:
        node = todo.pop()
        inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in inside:
            places.append((node, key))
            todo.append(value)
    if not places:
        return b"null"
    node, key = places[rng.integers(len(places))]
    how = rng.random()
    if how < 0.15:
        del node[key]
    elif how < 0.2:
        deep = ("[" * 50_000, "[" * 900 + "]" * 900, '{"a":' * 50_000)[rng.integers(3)]
        return json.dumps(root).replace("{", '{"a":' + deep, 1).encode()
    elif how < 0.25:
        return json.dumps(VALUES[rng.integers(len(VALUES))]).encode()
    elif how < 0.3 and isinstance(node, dict):
        node[NAMES[rng.integers(len(NAMES))]] = node.pop(key)
    elif how < 0.35 and isinstance(node, list):
        node[:] = node * 1000
    else:
        node[key] = VALUES[rng.integers(len(VALUES))]
    return json.dumps(root).encode()


def _json_line(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.rstrip(b"\n").split(b"\n")
    i = int(rng.integers(len(lines)))
    lines[i] = _json(lines[i], rng)
    return b"\n".join(lines) + b"\n"


def _twice(data: bytes, rng: np.random.Generator) -> bytes:
    """A key is there twice, with another value."""
    keys = re.findall(rb'"(?:[^"\\]|\\.)*"(?=\s*:)', data)
    if not keys:
        return data
    value = json.dumps(VALUES[rng.integers(len(VALUES))]).encode()
    key = keys[rng.integers(len(keys))]
    ends = [m.end() for m in re.finditer(rb"[{]", data)]
    at = ends[rng.integers(len(ends))]
    return data[:at] + key + b": " + value + b", " + data[at:]


def _literal(data: bytes, rng: np.random.Generator) -> bytes:
    """What only some take for JSON."""
    words = ["NaN", "-Infinity", "1e999", "01", "+1", "'x'", "undefined", "/* */ 1", "0x10", "1.", "\\u0000", "tru"]
    return _token(data, rng, words[rng.integers(len(words))], True)


# --------------------------------------------------------------------------------------------------------------- kinds
def other_kind(path: Path, place: Path, rng: np.random.Generator) -> None:
    """In the file's place is something else: a pipe, a device, a folder, a loop, another file, or nothing."""
    data = path.read_bytes()
    others = sorted(p for p in place.rglob("*") if p.is_file() and p != path and p.stat().st_size < 10**7)
    path.unlink()
    how = int(rng.integers(11))
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        path.symlink_to(("/dev/zero", "/dev/full", "/dev/tty")[rng.integers(3)])
    elif how == 2:
        path.mkdir()
    elif how == 3:
        path.symlink_to(path.name)
    elif how == 4:
        path.symlink_to("is-not-there")
    elif how == 5:
        path.symlink_to("..")
    elif how == 6:
        shutil.copy(others[rng.integers(len(others))], path)
    elif how == 7:
        path.write_bytes(b"")
    elif how == 8:
        path.write_bytes(data)
        os.truncate(path, 2**40)  # a terabyte, of which there is nothing
    elif how == 9:
        _socket(path)


def _socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # its name may be no longer than 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(before)


def zipped(data: bytes, rng: np.random.Generator) -> bytes:
    """Contents as gzip, whole or not: cut off, in several parts, twice, or with much behind them."""
    whole = gzip.compress(data, 1)
    how = rng.integers(6)
    if how == 0:
        return whole[: int(rng.integers(len(whole)))]
    if how == 1:
        return whole + whole
    if how == 2:
        return gzip.compress(whole, 1)
    if how == 3:
        return gzip.compress(data + b"\x00" * 2**28, 1)
    if how == 4:
        return whole[:-8] + rng.bytes(8)
    return whole
