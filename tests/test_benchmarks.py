"""Every script in benchmarks/ can be started: what it imports is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parent.parent / "benchmarks").glob("*.py"))
PEERS = {"copick_utils", "monai", "octopi", "topcup"}  # installed only where they are compared with

PROGRAM = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name}|{error.name}|{error}")
"""


def test_every_script_imports():
    assert len(SCRIPTS) > 10
    command = [sys.executable, "-c", PROGRAM, str(SCRIPTS[0].parent), *(path.stem for path in SCRIPTS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    failed = [line.split("|") for line in done.stdout.splitlines()]
    assert not [text for _, name, text in failed if name.partition(".")[0] not in PEERS]


@pytest.mark.slow
def test_the_loop_goes_round(tmp_path):
    command = [sys.executable, str(SCRIPTS[0].parent / "active.py"), str(tmp_path / "out"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "rows.json").read_text())
    assert [(r["arm"], r["round"]) for r in rows] == [
        ("weak", 0),
        *((a, 1) for a in ("doubt", "random", "score", "full")),
    ]
    assert all(0 <= r["f1"] <= 1 for r in rows)
    again = subprocess.run(command, capture_output=True, text=True)  # nothing is left to do
    assert again.returncode == 0 and json.loads((tmp_path / "out" / "rows.json").read_text()) == rows
    assert "| doubt |" in again.stdout
