"""Many tiny runs by many processes, some of which are killed: is every run picked once, and what does it cost?

    python benchmarks/fleet.py kills [--runs 10000] [--workers 8] [--kills 100] [--on dask:local=8] [--out DIR]
        runs of 24 x 32 x 32 voxels by `pick --workers` (or --on), with so many SIGKILLs to random workers at random
        times; the result is compared with the undisturbed one: the same tables, one record a run, no file left over
    python benchmarks/fleet.py overhead [--sizes 100,1000,10000]
        processor time a run beside reading and picking it, in projects of so many runs: folder and copick
    python benchmarks/fleet.py status [--runs 100000] [--files 64]
        seconds that `tomopick status` takes over the records of so many runs
    python benchmarks/fleet.py dask [--sizes 100,1000,10000]
        what a run costs as a task of Dask that does nothing: processor time, tasks that the scheduler knows, memory

Processor time is what to compare where other programs run; seconds only on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from tomopick import Detector, Grid, PickableObject, Picks, Tomogram, open_project, recipes, write_mrc
from tomopick.core.records import ENDING, PICKED, Records, expect
from tomopick.data import create_copick_project, write_run
from tomopick.picking.detector import TrainingFacts
from tomopick.picking.fleet import Job
from tomopick.picking.picker import Picker, PickOptions
from tomopick.picking.runs import pick_runs

SHAPE, DIFFERENT = (24, 32, 32), 50  # volumes; the runs are hard links to them
BALL = PickableObject("ball", 40.0, 1)


def model(place: Path) -> Path:
    """A small network with random weights, whose threshold lets some picks through."""
    import torch

    torch.manual_seed(0)
    method = recipes.get("light").override(["network.widths=8,16", "tiling.shape=32,32,32", "tiling.overlap=8"])
    cuts = {m: {"ball": 0.3} for m in ("f1", "czii")}
    Detector(method, (BALL,), method.network.build(1).eval(), cuts, TrainingFacts(voxel_spacing=10.0)).save(place)
    return place


def folder(place: Path, n: int) -> Path:
    rng = np.random.default_rng(0)
    (place / "volumes").mkdir(parents=True)
    for i in range(min(n, DIFFERENT)):
        write_mrc(place / "volumes" / f"{i}.mrc", rng.standard_normal(SHAPE).astype(np.float32), 10.0)
    (place / "runs").mkdir()
    for i in range(n):
        os.link(place / "volumes" / f"{i % DIFFERENT}.mrc", place / "runs" / f"TS_{i:06d}.mrc")
    return place / "runs"


def copick(place: Path, n: int) -> Path:
    """A copick project, of which one run is written and the others are links to it."""
    project = create_copick_project(place, [BALL])
    values = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    write_run(project, [Tomogram("TS_000000", values, Grid(SHAPE, 10.0), "wbp")], Picks.empty("TS_000000"), "a", "0")
    first = place / "ExperimentRuns" / "TS_000000"
    shutil.rmtree(first / "Picks", ignore_errors=True)
    for i in range(1, n):
        (first.with_name(f"TS_{i:06d}") / "VoxelSpacing10.000").mkdir(parents=True)
        link = first.with_name(f"TS_{i:06d}") / "VoxelSpacing10.000" / "wbp.zarr"
        link.symlink_to(first / "VoxelSpacing10.000" / "wbp.zarr")
    return place / "copick.json"


def pick(weights: Path, source: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tomopick", "pick", weights, source, "--out", out, "--device", "cpu", *more]
    command += ["--engine", "torch"]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, start_new_session=True)


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Processes below a process that do the picking."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    below = {process.pid}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return [pid for pid in below - {process.pid} if _picks(pid)]


def _picks(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"picking.fleet" in command or (b"spawn_main" in command and b"resource_tracker" not in command)


def kills(args: argparse.Namespace) -> int:
    place = Path(tempfile.mkdtemp(prefix="tomopick-fleet-", dir=args.out))
    weights, source = model(place / "model"), folder(place, args.runs)
    began = time.monotonic()
    if pick(weights, source, place / "whole", "--workers", "2").wait():
        raise SystemExit("the undisturbed batch failed")
    undisturbed = time.monotonic() - began
    how = ["--on", args.on] if args.on else ["--workers", str(args.workers)]
    began, rng, killed, attempts = time.monotonic(), random.Random(args.seed), 0, 0
    while True:  # a batch that ends for whatever reason is repeated, as its user would
        attempts += 1
        process = pick(weights, source, place / "out", *how)
        while process.poll() is None:
            finished = len(Records(place / "out" / "records").runs())
            # Spread over the whole batch: so many kills as its progress calls for, not one in a row after the other.
            if killed < args.kills * min(1.0, finished / (0.95 * args.runs)) and (pids := workers_of(process)):
                os.kill(rng.choice(pids), signal.SIGKILL)
                killed += 1
            time.sleep(rng.uniform(0.05, 0.4))
        if process.returncode == 0 or attempts > 20:
            break
    seconds = time.monotonic() - began
    return _verdict(place, args, killed, attempts, (undisturbed, seconds))


def _verdict(place: Path, args: argparse.Namespace, killed: int, attempts: int, seconds: tuple[float, float]) -> int:
    whole, out = ({p.name: p.read_bytes() for p in (place / n).glob("*.csv")} for n in ("whole", "out"))
    records = Records(place / "out" / "records").runs()
    lines = Counter()
    for path in (place / "out" / "records").glob(f"*{ENDING}"):
        for line in path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                lines["cut off"] += 1
                continue
            lines[entry["status"]] += 1
    left = [p for p in (place / "out").rglob("*") if p.is_file() and (p.name.startswith(".") or ".part" in p.name)]
    statuses = Counter(r["status"] for r in records.values())
    files = len(list((place / "out" / "records").iterdir()))
    print(
        f"{args.runs} runs, {killed} kills, {attempts} calls, {seconds[1]:.0f} s (undisturbed, 2: {seconds[0]:.0f} s)"
    )
    print(f"runs by status: {dict(statuses)}; lines of records: {dict(lines)} in {files} files")
    print(f"tables: {len(out)}, equal to the undisturbed: {sum(out.get(n) == t for n, t in whole.items())}; "
          f"files left over: {len(left)}")  # fmt: skip
    good = statuses == {PICKED: args.runs} and out == whole and not left and len(whole) == args.runs
    print("as it should be" if good else f"NOT as it should be; look at {place}")
    if good:
        shutil.rmtree(place)
    return 0 if good else 1


def overhead(args: argparse.Namespace) -> int:
    """A hundred runs of projects of growing size."""
    picked = 100
    print(f"{'project':>8} {'runs':>7} {'open s':>7} {'alone ms':>9} {'batch ms':>9} {'overhead ms a run':>18}")
    with tempfile.TemporaryDirectory(prefix="tomopick-fleet-", dir=args.out) as scratch:
        weights = model(Path(scratch) / "model")
        for kind, make in (("folder", folder), ("copick", copick)):
            for n in args.sizes:
                source = make(Path(scratch) / f"{kind}{n}", n)
                began = time.process_time()
                project = open_project(source)
                runs = random.Random(0).sample(project.runs(), picked)
                opened = time.process_time() - began
                picker = Picker(Detector.load(weights), PickOptions(device="cpu", engine="torch"))
                for run in runs[:5]:
                    picker.pick(project.tomogram(run))
                began = time.process_time()
                for run in runs:
                    picker.pick(project.tomogram(run))
                alone = time.process_time() - began
                began = time.process_time()
                for result in pick_runs(picker, project, runs, Path(scratch) / f"{kind}{n}-out"):
                    assert result.status == PICKED, result
                batch = time.process_time() - began
                ms = 1000 / picked
                print(f"{kind:>8} {n:>7} {opened:>7.2f} {alone * ms:>9.1f} {batch * ms:>9.1f} "
                      f"{(batch - alone) * ms:>18.1f}", flush=True)  # fmt: skip
    return 0


def status(args: argparse.Namespace) -> int:
    facts = {
        "fingerprint": "0123456789abcdef", "place": "/data/project/tomograms/TS_000000.mrc", "input": "1 " * 20,
        "counts": {f"object{i}": 100 for i in range(6)}, "seconds": 20.0, "messages": [], "models": ["default"],
        "thresholds": {f"object{i}": 0.5 for i in range(6)}, "settings": vars(PickOptions()),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="tomopick-fleet-", dir=args.out) as scratch:
        place = Path(scratch) / "records"
        expect(place, (f"TS_{i:06d}" for i in range(args.runs)))
        for number in range(args.files):
            with (place / f"node{number}-1{ENDING}").open("w") as file:
                for i in range(number, args.runs, args.files):
                    about = {"run": f"TS_{i:06d}", "time": 1000.0 + i}
                    file.write(json.dumps({**about, "status": "started"}) + "\n")
                    file.write(json.dumps({**about, "status": PICKED, **facts}) + "\n")
        size = sum(p.stat().st_size for p in place.iterdir())
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "tomopick", "status", scratch], capture_output=True, text=True)
        seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        print(done.stdout.strip())
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"{args.runs} runs, {args.files} files, {size / 1e6:.0f} MB: {seconds:.1f} s, of processor {busy:.1f} s; "
            f"{after.ru_maxrss / 1024:.0f} MB of memory"
        )
    return done.returncode


def _nothing(_job: str, run: str) -> dict[str, object]:
    return {"run": run, "status": PICKED, "counts": {}, "seconds": 0.0, "messages": ()}


def dask(args: argparse.Namespace) -> int:
    import distributed

    from tomopick.picking import on_dask

    on_dask._pick = _nothing  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(prefix="tomopick-fleet-", dir=args.out) as scratch:
        place = Path(scratch)
        options = PickOptions(device="cpu", engine="torch")
        job = Job((str(model(place / "model")),), str(folder(place / "data", 2)), {}, options, str(place / "out"))
        threads = {"n_workers": 1, "threads_per_worker": 8, "processes": False, "dashboard_address": None}
        with distributed.LocalCluster(**threads) as cluster:
            for n in args.sizes:
                known: list[int] = []

                def stopped(known: list[int] = known) -> bool:
                    known.append(len(cluster.scheduler.tasks))
                    return False

                before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
                runs = [f"R{i:05d}" for i in range(n)]
                done = sum(1 for _ in on_dask.pick_on_dask(job, runs, cluster.scheduler_address, stopped))
                busy = (time.process_time() - began) / n * 1000
                more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
                print(f"{done} of {n} runs: {busy:.1f} ms each, {max(known)} tasks known at most, {more:.0f} MB more")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "overhead", "status", "dask"])
    parser.add_argument("--runs", type=int)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on", default="")
    parser.add_argument("--files", type=int, default=64)
    parser.add_argument("--sizes", type=lambda t: [int(n) for n in t.split(",")], default=[100, 1000, 10_000])
    parser.add_argument("--out", type=Path, help="Folder for scratch files.")
    args = parser.parse_args()
    args.runs = args.runs or {"status": 100_000}.get(args.what, 10_000)
    return {"kills": kills, "overhead": overhead, "status": status, "dask": dask}[args.what](args)


if __name__ == "__main__":
    sys.exit(main())
