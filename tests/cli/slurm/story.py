"""What happens to a batch on a real SLURM, told as JSON on standard output: run inside `with_slurm.sh`.

story.py MODEL SMALL LARGE OUT      two folders of tomograms: of short runs and of long ones
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from tomopick.core.records import PICKED, Records

model, small, large, out = sys.argv[1:]
told = {}


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    return done


def tomopick(*arguments):
    return run(sys.executable, "-m", "tomopick", *arguments)


def submit(place, source, on):
    done = tomopick("pick", model, source, "--out", place, "--device", "cpu", "--engine", "torch", "--on", on)
    return re.match(r"\d+", done.stdout)[0]


def states(number):
    """By task, of those that SLURM still has in its queue."""
    done = run("squeue", "-h", "-r", "-j", number, "-o", "%K %T")
    return dict(line.split() for line in done.stdout.splitlines())


def wait(true, seconds=240):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.3)
    return true()


# An array, one task of which is cancelled; the same again; and a job that waits for it.
first = submit(f"{out}/array", small, "slurm:array=3,time=0:10:00,cpus=1")
run("scancel", f"{first}_2")
told["array ended"] = wait(lambda: not states(first))
told["after the array"] = sorted(p.stem for p in Path(out, "array").glob("*.csv"))
told["status then"] = tomopick("status", f"{out}/array").returncode
second = submit(f"{out}/array", small, "slurm:array=3,time=0:10:00,cpus=1")
on = f"slurm:after={second},time=0:10:00"
dependent = tomopick("evaluate", f"{out}/array", small, "--on", on)
told["dependent"] = run("squeue", "-h", "-j", re.match(r"\d+", dependent.stdout)[0], "-o", "%T %r").stdout.split()
told["all ended"] = wait(lambda: not states(second) and not states(re.match(r"\d+", dependent.stdout)[0]))
told["after the repeat"] = sorted(p.stem for p in Path(out, "array").glob("*.csv"))
told["status at last"] = tomopick("status", f"{out}/array").returncode
told["scores"] = "".join(path.read_text() for path in Path.cwd().glob("evaluate-jobs/*.log"))

# A task whose time is over finishes what it is at, and is given another turn.
turn = submit(f"{out}/turns", large, "slurm:time=0:10:00")
records = Records(f"{out}/turns/records")
wait(lambda: PICKED in [r["status"] for r in records.runs().values()])
run("scancel", "--batch", "--signal=TERM", turn)
told["given another turn"] = wait(lambda: "PENDING" in run("squeue", "-h", "-j", turn, "-o", "%T").stdout, 60)
told["none is begun"] = {r["status"] for r in records.runs().values()} == {PICKED}
told["some are left"] = len(records.runs())
run("scancel", turn)
told["and is gone"] = wait(lambda: not run("squeue", "-h", "-j", turn).stdout, 60)
json.dump(told, sys.stdout)
