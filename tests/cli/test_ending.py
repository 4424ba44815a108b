"""Commands that are asked to end, as a batch system does when the time is up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from small import TINY, folder
from tomopick.core.owners import CLAIM, runs
from tomopick.picking.folder import read_log


def start(*arguments):
    command = [sys.executable, "-m", "tomopick", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition, process, seconds=240):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_train_saves_and_ends(tmp_path, number):
    place, out = folder(tmp_path / "t", ("A", "B", "C")), tmp_path / "m"
    arguments = ["train", "light", place, out, "--device", "cpu", *TINY, "train.steps=100000"]
    training = start(*arguments, "train.validate_every=50000")
    wait_until(lambda: len(read_log(out / "log.jsonl")) > 3, training)
    second = start(*arguments, "train.validate_every=50000", "--resume")
    assert "another process works in it" in second.communicate()[1] and second.returncode == 2
    training.send_signal(number)
    said = training.communicate(timeout=120)[1]
    assert training.returncode == 143 and "repeat the command with --resume to go on" in said
    saved = json.loads((out / "last" / "state.json").read_text())["step"]
    assert saved == len(read_log(out / "log.jsonl")) and not (out / CLAIM).exists()
    assert not list(out.rglob(".*"))


def children(pid):
    text = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(p) for p in text.split() if runs(int(p))]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_simulate_ends_its_workers(tmp_path, number):
    out = tmp_path / "sim"
    call = ["simulate", out, "--runs", 3, "--shape", "64,160,160", "--tomo-type", "wbp", "--workers", 2]
    process = start(*call)
    wait_until(lambda: len(children(process.pid)) >= 3, process)  # two workers and what tracks their resources
    time.sleep(3)
    workers = children(process.pid)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -number)
    until = time.monotonic() + 30
    while any(map(runs, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [pid for pid in workers if runs(pid)]
    if number == signal.SIGTERM:
        assert not list(Path(out).rglob("*.part")) and os.path.isdir(out)
