import logging

import pytest

from tomopick.cli.options import say
from tomopick.core import progress
from tomopick.core.progress import Lines, bar, duration, on_terminal


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (89, "89 s"), (91, "2 min"), (720, "12 min"), (5399, "1 h 30 min"), (12_000, "3 h 20 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_without_a_terminal_a_line_a_minute(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO, "tomopick"), bar(100, "train", "step", done=10) as shown:
        assert isinstance(shown, Lines)
        for _ in range(30):
            now[0] += 5
            shown.set_postfix_str("loss 0.1")
            shown.update(1)
    assert caplog.messages == [
        "train: 22 of 100, 5 s a step, 6 min left: loss 0.1",
        "train: 34 of 100, 5 s a step, 6 min left: loss 0.1",
    ]


def test_fast_work_says_its_rate_and_an_unknown_total():
    lines = Lines(0, "pick", "tile")
    lines.n = 50
    assert lines.line(10.0) == "pick: 50 of ?, 5 tiles a second"


def test_quiet_is_quiet(caplog):
    with caplog.at_level(logging.WARNING, "tomopick"):
        assert isinstance(bar(3, "pick"), Lines)


def test_a_closed_standard_error_is_no_terminal(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    assert not on_terminal()
    with bar(2, "x") as shown:
        shown.update(2)
    say("what nobody hears")
