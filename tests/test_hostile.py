"""Damaged files and kills: a part of what benchmarks/fuzz.py and benchmarks/kills.py do in full."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and forks are Linux's")


def run(script, *arguments):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout


def test_damaged_files_are_read_or_refused():
    assert "traceback: 0\nhang: 0\nmemory: 0\nother faults: 0" in run("fuzz.py", "--light", "--every", 60)


@pytest.mark.slow
def test_damaged_files_are_read_or_refused_by_every_verb():
    assert "traceback: 0\nhang: 0\nmemory: 0\nother faults: 0" in run("fuzz.py", "--every", 5, "--begin", 1)


@pytest.mark.slow
def test_kills_leave_nothing():
    assert "\n0 faults" in run("kills.py", "--points", 4, "--random", 10)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["last", "run", "no-fsync"])
def test_faults_put_in_on_purpose_are_noticed(mutant):
    assert "\n0 faults" not in run("kills.py", "--mutant", mutant, "--random", 0)
