"""How messages say things."""

import ast
import logging
import re
from pathlib import Path

import tomopick
from tomopick.core.messages import SHOWN, counted, listing, near_miss, reason_of, said_of, untold


def test_what_was_probably_meant():
    assert near_miss("bdp", ["bpd", "light"]) == "did you mean 'bpd'?"
    assert near_miss("TS_3", ["TS_1", "TS_2", "x"]) == "did you mean 'TS_2' or 'TS_1'?"
    assert near_miss("defocs", ["defocus", "defocus_error", "dose"]) == "did you mean 'defocus'?"
    assert near_miss("MY", ["apo", "my"]) == "did you mean 'my'?"
    assert near_miss("colour", ["b", "a", "a"]) == "there is a, b"
    assert near_miss("colour", []) == "there is none"


def test_what_an_error_says_is_one_line_without_colours():
    assert reason_of(EOFError()) == "EOFError" == reason_of(EOFError(" \n"))
    assert reason_of(ValueError("\n  \x1b[1mtwo options\x1b[0m\tare\nthere")) == "two optionsare"


def test_lists_are_cut_where_nobody_reads_on():
    assert listing(range(SHOWN)) == ", ".join(map(str, range(SHOWN)))
    assert listing(range(SHOWN + 3)).endswith(f"{SHOWN - 1} and 3 more")


def test_numbers_of_things():
    assert [counted(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert said_of(["a"], "has", "have") == "a has" and said_of({"a": 0, "b": 0}, "has", "have") == "a, b have"


# Things that messages count, and what may stand before them uncounted: it is never one.
COUNTED = re.compile(r" (runs|files|picks|objects|tomograms|projects|columns|values|workers|numbers|patches|members)\b")
NEVER_ONE = {
    *(
        "len(report.picks)",
        "len(files)",
        "total",
        "n_members",
        "state.per_hour",
        "len(self.objects)",
    ),  # of several, or a rate
    *("len(picks)", "len(p)", "found.n", "out[0]"),  # behind "1 of": of all, however many
    *(
        "n",
        "len(runs)",
        "len(parts)",
        "table.shape",
        "kinds",
        "written",
        "training.subset",
    ),  # beside an `if` or a shape
}


def test_what_is_counted_agrees_with_its_number():
    """`{len(words)} columns` says "1 columns" some day; `counted` does not."""
    for path in Path(tomopick.__file__).parent.rglob("*.py"):
        for text in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.JoinedStr)):
            for number, thing in zip(text.values, text.values[1:]):
                if isinstance(number, ast.FormattedValue) and COUNTED.match(str(getattr(thing, "value", ""))):
                    said = ast.unparse(number.value)
                    where = f"{path.name}: {{{said}}}{thing.value}"
                    assert said in NEVER_ONE or said.startswith(("counted(", "'x'.join(")), where


def test_verbs_agree_with_what_is_listed():
    """`{', '.join(names)} has` says "a, b has" some day; `said_of` does not."""
    for path in Path(tomopick.__file__).parent.rglob("*.py"):
        for text in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.JoinedStr)):
            for names, said in zip(text.values, text.values[1:]):
                if isinstance(names, ast.FormattedValue) and re.match(
                    r"(', '\.join|listing)\(", ast.unparse(names.value)
                ):
                    assert not re.match(r" (has|is|was|does|lies)\b", str(getattr(said, "value", ""))), path


def test_what_is_told_of_trials_is_not(told):
    log = logging.getLogger("tomopick")
    log.info("one")
    with untold():
        log.warning("two")
        with untold():
            log.info("three")
        log.info("four")
    log.warning("five")
    assert told == ["one", "warning: five"]
