"""Several processes at one batch, some of which are killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small import folder, trained
from tomopick import open_project
from tomopick.core.errors import TomopickError
from tomopick.core.records import FAILED, PICKED, STARTED, Records
from tomopick.data import write_mrc
from tomopick.picking import fleet
from tomopick.picking.fleet import Job, devices_of, pick_with_workers
from tomopick.picking.picker import PickOptions
from tomopick.picking.runs import pick_runs

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the workers")
RUNS = [f"R{i:02d}" for i in range(12)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("runs") / "in", RUNS, picks=False, shape=(24, 32, 32), n=2)


def job(place, out, **more):
    return Job((str(trained()),), str(place), {}, PickOptions(device="cpu", engine="torch", **more), str(out))


def tables(out):
    return {path.stem: path.read_bytes() for path in Path(out).glob("*.csv")}


def children():
    """Processes of ours that work in a fleet."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"picking.fleet" in stat.with_name("cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_a_job_is_told_as_text(place):
    one = job(place, "out", thresholds={"ball": 0.5}, views="flips")
    one = replace(one, opening={"objects": ["ball:40"], "voxel_spacing": 10.0, "coordinate_offset": "none"})
    assert Job.parse(one.text()) == one and "\n" not in one.text()
    assert [o.name for o in Job.parse(one.text()).runs().project.objects] == ["ball"]


def test_devices(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices_of("auto", 1) == ["auto"] and devices_of("cpu", 3) == ["cpu"] * 3
    with pytest.raises(TomopickError, match="there is no GPU here"):
        devices_of("cuda:all", 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of("auto", 1) == ["auto"]  # one process is one process
    assert devices_of("auto", 4) == devices_of("cuda", 4) == ["cuda:0", "cuda:1"] * 2
    assert devices_of("cuda:all", 1) == devices_of("cuda:0,cuda:1", 1) == ["cuda:0", "cuda:1"]
    assert devices_of("cuda:1", 1) == ["cuda:1"] and devices_of("cuda:1", 2) == ["cuda:1", "cuda:1"]


def test_no_more_is_asked_for_than_is_known(place, tmp_path):
    """Where the next run is not known yet, those that were begun are finished before it is waited for."""
    made, seen = job(place, tmp_path), []

    def coming():
        yield "R00"
        yield None
        assert seen == ["R00"]
        yield from ("R01", "R02")
        yield None
        assert seen == ["R00", "R01", "R02"]
        yield from (None, "R03")

    for result in pick_runs(made.picker(), made.runs(), coming(), tmp_path):
        assert result.status == PICKED
        seen.append(result.run)
    assert seen == RUNS[:4]


def test_who_is_asked_to_stop_finishes_what_is_begun(place, tmp_path):
    made, seen = job(place, tmp_path), []
    for result in pick_runs(made.picker(), made.runs(), RUNS, tmp_path, stopped=lambda: len(seen) >= 2):
        seen.append(result.run)
    assert 2 <= len(seen) <= 4 and set(tables(tmp_path)) == set(seen)
    assert {r["status"] for r in Records(tmp_path / "records").runs().values()} == {PICKED}  # none is left begun


@linux
@pytest.mark.slow
def test_workers_that_are_killed_are_replaced(place, tmp_path):
    whole = job(place, tmp_path / "whole")
    list(pick_runs(whole.picker(), whole.runs(), RUNS, whole.out))
    fleeting, results = job(place, tmp_path / "out"), []
    for result in pick_with_workers(fleeting, RUNS, ["cpu", "cpu"]):
        results.append(result.run)
        if len(results) in (1, 5):  # once while all are at work, once while few are left
            kill(children()[0])
    assert sorted(results) == RUNS and children() == []
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")
    records = Records(tmp_path / "out" / "records").runs()
    assert len(records) == len(RUNS) and {r["status"] for r in records.values()} == {PICKED}
    assert not list((tmp_path / "out").rglob("*.part"))


@linux
@pytest.mark.slow
def test_a_run_that_kills_its_workers_is_given_up(tmp_path):
    source = folder(tmp_path / "in", ("A", "B", "C"), picks=False, shape=(24, 32, 32), n=2)
    write_mrc(source / "B.mrc", np.random.default_rng(0).standard_normal((96, 256, 256)).astype(np.float32), 10.0)
    out, over = tmp_path / "out", threading.Event()

    def murder():
        records, last = Records(out / "records"), 0.0
        while not over.wait(0.005):
            record = records.last("B")
            if record.get("status") == STARTED and record["time"] > last:
                last = record["time"]
                for pid in children():
                    kill(pid)

    murderer = threading.Thread(target=murder)
    murderer.start()
    try:
        results = {r.run: r for r in pick_with_workers(job(source, out), open_project(source).runs(), ["cpu"])}
    finally:
        over.set()
        murderer.join()
    assert [results[run].status for run in "ABC"] == [PICKED, FAILED, PICKED]
    (message,) = results["B"].messages
    assert f"run B: the process that picked it ended {fleet.TRIES} times (killed by SIGKILL)" in message
    assert Records(out / "records").failure("B")["message"] == message


@linux
def test_asked_to_stop_workers_finish_what_they_predict(place, tmp_path):
    began = time.monotonic()
    results = []
    for result in pick_with_workers(job(place, tmp_path), RUNS, ["cpu"], lambda: bool(results)):
        results.append(result.run)
    assert 1 <= len(results) < len(RUNS) and children() == []
    assert {r["status"] for r in Records(tmp_path / "records").runs().values()} == {PICKED}
    assert set(tables(tmp_path)) >= set(results) and time.monotonic() > began


def test_workers_that_cannot_begin_say_why(place, tmp_path):
    missing = replace(job(place, tmp_path), models=(str(tmp_path / "none"),))
    with pytest.raises(TomopickError, match="none"):
        list(pick_with_workers(missing, RUNS, ["cpu"]))
    assert not tables(tmp_path)


def _nothing(_job, run):
    return {"run": run, "status": "picked", "counts": {}, "seconds": 0.0, "messages": ()}


def _fails(_job, run):
    raise ValueError(run)


def test_dask_is_told_few_runs_at_a_time(place, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    from tomopick.picking import on_dask

    opened = []
    monkeypatch.setattr(Job, "runs", lambda self, runs=Job.runs: opened.append(1) or runs(self))
    threads = {"n_workers": 1, "threads_per_worker": 4, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**threads) as cluster:
        known = []

        def stopped():
            known.append(len(cluster.scheduler.tasks))
            return False

        for work, status, n in ((_nothing, PICKED, 400), (_fails, FAILED, 20)):
            monkeypatch.setattr(on_dask, "_pick", work)
            names = [f"R{i}" for i in range(n)]
            told = list(on_dask.pick_on_dask(job(place, tmp_path), names, cluster.scheduler_address, stopped))
            assert sorted(r.run for r in told) == sorted(names) and {r.status for r in told} == {status}
            assert max(known) <= 4 * 8 and len(opened) == 1  # not all of them; and the project is opened once
            opened.clear()
    assert len(Records(tmp_path / "records").runs()) == 20  # failures are noted by who hears of them


def test_a_batch_on_dask(place, tmp_path):
    """As a program, for its workers begin as programs do."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    whole = job(place, tmp_path / "whole")
    list(pick_runs(whole.picker(), whole.runs(), RUNS, whole.out))
    command = [sys.executable, "-m", "tomopick", "pick", trained(), place, "--out", tmp_path / "out", "--device", "cpu"]
    command += ["--engine", "torch", "--on"]
    done = subprocess.run([*map(str, command), "dask:local=2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tables(tmp_path / "out") == tables(tmp_path / "whole") and done.stdout.count(" in ") == len(RUNS)
    assert {r["status"] for r in Records(tmp_path / "out" / "records").runs().values()} == {PICKED}
    none = subprocess.run([*map(str, command), "dask:local=x"], capture_output=True, text=True, check=False)
    assert none.returncode == 2 and "error: dask:local=x: expected a number of processes" in none.stderr
