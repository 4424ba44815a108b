"""What can be known at the start is said at the start: before anything is read, and for every verb that writes."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from tomopick.cli import main
from tomopick.core.errors import OutputError
from tomopick.core.files import require_writable

# No project or model is there: a verb that began to read would say so instead.
WRITES = {
    "pick": ["pick", "no-model", "no-input", "--out", "OUT"],
    "train": ["train", "light", "no-input", "OUT"],
    "export": ["export", "no.csv", "OUT", "--to", "imod"],
    "init": ["init", "no-input", "OUT"],
    "show": ["show", "no.mrc", "no.csv", "--out", "OUT"],
    "report": ["report", "no.csv", "no-input", "--out", "OUT"],
    "evaluate": ["evaluate", "no.csv", "no.csv", "--report", "OUT"],
    "doctor": ["doctor", "no-input", "--pictures", "OUT"],
    "simulate": ["simulate", "OUT", "--shape", "48,64,64"],
    "demo": ["demo", "--out", "OUT"],
    "convert": ["convert", "no.pth", "OUT"],
    "export-model": ["export-model", "no-model", "OUT"],
    "ensemble": ["ensemble", "no-model", "no-model", "OUT"],
    "soup": ["soup", "no-model", "no-model", "OUT"],
    "merge": ["merge", "no.csv", "no.csv", "--out", "OUT"],
    "curate": ["curate", "no-input", "no.csv", "--out", "OUT"],
}


def said(words):
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    return done.output


@pytest.mark.parametrize("verb", sorted(WRITES))
def test_a_place_where_nothing_can_be_written_is_refused_first(tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    text = said([word.replace("OUT", "file/x") for word in WRITES[verb]])
    assert text.startswith("error: file/x: cannot be written (") and "is no folder" in text
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and Path("file").read_text() == "mine"


NAMES = {
    "pick": ["pick", "no-model", "no-input", "--out", "o"],
    "import": ["import", "no.csv", "no-input"],
    "export": ["export", "no.csv", "o", "--to", "copick"],
    "curate": ["curate", "no-input", "no.csv", "--out", "o"],
}


@pytest.mark.parametrize("option", ["--session-id", "--user-id"])
@pytest.mark.parametrize("verb", sorted(NAMES))
def test_names_that_copick_would_change_are_refused_first(tmp_path, monkeypatch, verb, option):
    monkeypatch.chdir(tmp_path)
    what = option[2:].removesuffix("-id")
    text = said([*NAMES[verb], option, f"my_{what}"])
    assert f"{what} 'my_{what}' would be renamed by copick" in text and f"write 'my-{what}'" in text
    assert not list(tmp_path.iterdir())


def test_places(tmp_path):
    require_writable(tmp_path / "new" / "a" / "b")
    (tmp_path / "file").write_text("")
    require_writable(tmp_path / "file")
    with pytest.raises(OutputError, match="is no folder"):
        require_writable(tmp_path / "file" / "a" / "b")
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(OutputError, match="is no folder"):
        require_writable(tmp_path / "gone" / "a")
    if os.geteuid():
        (tmp_path / "shut").mkdir(mode=0o500)
        with pytest.raises(OutputError, match="no permission"):
            require_writable(tmp_path / "shut" / "a")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_numbers_that_are_none_are_refused(number):
    for words in (
        ["pick", "m", "i", "--out", "o", "--threshold", f"ball={number}"],
        ["pick", "m", "i", "--out", "o", "--min-distance", f"ball={number}"],
        ["pick", "m", "i", "--out", "o", "--inside", "a", "--within", number],
        ["show", "a", "b", "--out", "o", "--min-score", number],
        ["simulate", "o", "--vary", number],
    ):
        assert "finite number" in said(words) or "is not in the range" in said(words)
