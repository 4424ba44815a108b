"""Being asked to end, and what processes that are started inherit."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

import tomopick
from tomopick.core.signals import ASKING, Terminated, cores_here, ending_cleanly, environment_of_child, held_interrupt


@pytest.mark.parametrize("number", ASKING)
def test_who_is_asked_to_end_cleans_up_once(number):
    before = signal.getsignal(number)
    cleaned = []
    with pytest.raises(Terminated), ending_cleanly():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)  # asked again while cleaning up
            cleaned.append(True)
    assert cleaned and signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with ending_cleanly(), held_interrupt() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert asked() is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, *ASKING])
def test_a_step_is_finished_first(number):
    with ending_cleanly():
        before = signal.getsignal(number)
        with held_interrupt() as asked:
            os.kill(os.getpid(), number)
            assert asked() is (KeyboardInterrupt if number == signal.SIGINT else Terminated)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is before


def test_what_a_process_that_is_started_here_inherits(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(sys, "path", ["", "/a", "/b"])
    assert environment_of_child("cpu", 64)["OMP_NUM_THREADS"] == "3"  # as the user has said
    monkeypatch.delenv("OMP_NUM_THREADS")
    mine = environment_of_child("cpu", 2, RANK="1")
    assert mine["OMP_NUM_THREADS"] == str(max(1, cores_here() // 2))
    assert mine["PYTHONPATH"] == os.pathsep.join(["/a", "/b"]) and mine["RANK"] == "1" and mine["PATH"]
    assert "OMP_NUM_THREADS" not in environment_of_child("cuda:1", 2)
    assert environment_of_child("cpu", 10**6)["OMP_NUM_THREADS"] == "1"


def test_one_place_says_what_is_inherited():
    said = [p for p in Path(tomopick.__file__).parent.rglob("*.py") if re.search(r"PYTHONPATH|affinity", p.read_text())]
    assert [p.name for p in said] == ["signals.py"]
