"""Names of others as parts of paths, and in lines of text."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopick.core.errors import OutputError
from tomopick.core.names import component, components, plain_line, quoted_cell, shown, unquoted_cell

GOOD = ["TS_01", "ribosome", "rec_TS_07_10.00Apx", "70S ribosome", "protéasome", "核糖体", "a..b", "-x", "x" * 200]
BAD = [
    "", " ", ".", "..", "../evil", "a/b", "a\\b", "/etc/passwd", "C:evil", "C:\\evil", ".hidden", "a\nb", "a\x00b",
    "a\x1b[31mb", "a ", " a", "a.", "con", "NUL.txt", "lpt1", "x" * 201, "é" * 150, "a\udcffb", "a\u2028b",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_itself(name):
    assert component(name, "run") == name


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused_in_one_plain_line(name):
    with pytest.raises(OutputError, match=r"^run '.*': cannot be the name of a file \(it .*\); rename it$") as refused:
        component(name, "run")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 300


@given(st.text(max_size=40))
def test_what_is_accepted_stays_in_its_folder(name):
    try:
        path = Path("/some/folder") / f"{component(name, 'run')}.csv"
    except OutputError:
        return
    assert path.parent == Path("/some/folder") and path.stem == name


def test_unicode_twins_are_refused():
    twins = [unicodedata.normalize(form, "protéasome") for form in ("NFC", "NFD")]
    assert components([twins[0], "other", twins[0]], "object") == [twins[0], "other"]
    with pytest.raises(OutputError, match="look alike"):
        components(twins, "object")


@given(st.text())
def test_a_line_is_plain(text):
    line = plain_line(text)
    assert len(line.splitlines()) <= 1
    assert all(c.isprintable() or c == "\t" or unicodedata.category(c) == "Zs" for c in line)


def test_what_a_terminal_would_obey_is_seen():
    assert plain_line("a\x1b[2Jb\x9bc\u202ed\r\ne") == "a\\x1b[2Jb\\x9bc\\u202ed e"
    assert plain_line("Å · ✓ 核糖体") == "Å · ✓ 核糖体"
    assert shown("a\nb" + "c" * 100) == f"'a b{'c' * 77}...'"


@given(st.text())
def test_cells_are_no_formulas_and_come_back(text):
    assert not quoted_cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unquoted_cell(quoted_cell(text)) == text or text.startswith("'")
