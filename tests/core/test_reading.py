"""What others wrote: pipes, deep JSON, values of other types."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopick.core.errors import ModelError, ReadError
from tomopick.core.reading import parse_json, read_bytes, require_file, typed
from tomopick.core.text import BEYOND, checked_numbers, read_json
from tomopick.data import open_project


@dataclass(frozen=True)
class Part:
    n: int
    x: float = 0.0


@dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Part, ...] = ()
    pair: tuple[int, float] = (0, 0.0)
    flags: Mapping[str, bool] = field(default_factory=dict)
    radius: float | None = None
    rest: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[str] = ()


def test_what_is_stated_is_read():
    data = {"name": "a", "parts": [{"n": 1}, {"n": 2, "x": 3}], "pair": [1, 2], "flags": {"on": True}, "radius": None,
            "rest": {"anything": [1, "x"]}, "rows": ["r"]}  # fmt: skip
    whole = Whole("a", (Part(1), Part(2, 3)), (1, 2), {"on": True}, None, {"anything": [1, "x"]}, ["r"])
    assert typed(Whole, data, "it") == whole


@pytest.mark.parametrize(
    "data, said",
    [
        ([], "it is a list; expected a table"),
        ({}, "it: no 'name' in it"),
        ({"name": 1}, "it.name is 1; expected text"),
        ({"name": "a", "newer": 1}, "it: unknown entry 'newer': update tomopick"),
        ({"name": "a", "parts": [{"n": True}]}, r"it.parts\[0\].n is True; expected a whole number"),
        ({"name": "a", "parts": [{"n": 1.5}]}, "expected a whole number"),
        ({"name": "a", "parts": {"n": 1}}, "it.parts is a table; expected a list of any number"),
        ({"name": "a", "pair": [1, 2, 3]}, "expected a list of 2"),
        ({"name": "a", "pair": [1, "2"]}, r"it.pair\[1\] is '2'; expected a finite number"),
        ({"name": "a", "pair": [1, float("nan")]}, "nan; expected a finite number"),
        ({"name": "a", "pair": [1, 10**400]}, "expected a finite number"),
        ({"name": "a", "flags": {"on": 1}}, "it.flags.on is 1; expected true or false"),
        ({"name": "a", "radius": "big\x1b[2J"}, r"it.radius is 'big\\x1b\[2J'; expected a finite number"),
        ({"name": "a", "rest": None}, "it.rest is empty; expected a table"),
        ({"name": "a", "rows": "text"}, "it.rows is 'text'; expected a table"),
    ],
)
def test_what_is_of_another_type_is_said(data, said):
    with pytest.raises(ModelError, match=said):
        typed(Whole, data, "it", ModelError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "parts", "n", "x"]), inner),
    max_leaves=8,
)


@given(JSON)
def test_any_json_is_read_or_said(data):
    try:
        assert isinstance(typed(Whole, data, "it"), Whole)
    except ReadError as error:
        assert str(error).startswith("it")


def test_deep_json_is_no_json():
    for text in ("[" * 100_000, '{"a":' * 100_000, b"[" * 100_000):
        with pytest.raises(ValueError, match=r"deeper|Expecting"):
            parse_json(text)


def test_a_pipe_is_not_read(tmp_path):
    names = ("picks.csv", "tomogram.mrc", "objects.json", "copick.json", "plain")
    for name in names:
        os.mkfifo(tmp_path / name)
        with pytest.raises(ReadError, match="is a pipe, a socket or a device; expected a file"):
            require_file(tmp_path / name)
        with pytest.raises(ReadError, match="is a pipe"):
            open_project(tmp_path / name)
    with pytest.raises(ReadError, match="is a pipe"):
        read_json(tmp_path / "objects.json", "objects")
    with pytest.raises(ReadError, match="is a pipe"):
        project = open_project(tmp_path, objects=["ball:10"])
        project.tomogram("tomogram")
    with pytest.raises(ReadError, match="is a pipe"):
        open_project("/dev/zero")


@pytest.mark.parametrize("text", ["1" + "0" * 400, '{"a": [-' + "9" * 5000 + "]}", "[" * 10**5, '{"a":' * 10**5])
def test_numbers_and_depths_beyond_all_measure_are_no_json(text):
    with pytest.raises(ValueError, match=r"digits|deeper"):
        parse_json(text)


def test_what_is_read_whole_has_an_end(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", "it", 5) == b"12345"
    with pytest.raises(ReadError, match="too much to be read; expected it"):
        read_bytes(tmp_path / "a", "it", 4)
    os.truncate(tmp_path / "a", 2**42)  # takes no room on the disk
    with pytest.raises(ReadError, match=r"4\.4e\+03 GB, too much"):
        read_bytes(tmp_path / "a", "it")
    with pytest.raises(ReadError, match="too much"):
        read_bytes(tmp_path / "a", "it", 2**50)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ReadError, match="cannot be read"):
        read_bytes(tmp_path / "loop", "it")


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_checked_numbers_are_those_that_can_be_computed_with(value):
    if abs(value) <= BEYOND:
        assert checked_numbers([repr(value)], Path("f"), "x", [3]) == [value]
    else:
        with pytest.raises(ReadError, match="f: line 3: x is"):
            checked_numbers([repr(value)], Path("f"), "x", [3])
