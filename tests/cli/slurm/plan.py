"""What happens to a method of several trainings on a real SLURM, told as JSON: run inside `with_slurm.sh`.

plan.py PROJECT SIMULATED OUT [section.field=value ...]      labelled runs, of which D is validated on
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

project, simulated, out, *overrides = sys.argv[1:]
told = {}


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    return done


def tomopick(*arguments):
    return run(sys.executable, "-m", "tomopick", *arguments)


def submit():
    more = ["--seeds", "2", "--pretrain", simulated, "--val-runs", "D", "--device", "cpu", *overrides]
    done = tomopick("train", "light", project, out, *more, "--on", "slurm:time=0:10:00,cpus=1")
    return re.findall(r"^(\d+): .* of (\w+) on", done.stdout, re.M), done.stdout


def wait(numbers, seconds=400):
    """Until SLURM has none of them in its queue."""
    end = time.monotonic() + seconds
    while (queue := run("squeue", "-h", "-j", ",".join(numbers), "-o", "%i %T").stdout) and time.monotonic() < end:
        time.sleep(0.5)
    return not queue


jobs, _ = submit()
told["stages"] = [stage for _, stage in jobs]
(members,) = [number for number, stage in jobs if stage == "members"]
told["members wait"] = run("squeue", "-h", "-j", members, "-o", "%r").stdout.split()
told["status then"] = tomopick("status", out).returncode
told["all ended"] = wait([number for number, _ in jobs])
told["status at last"] = tomopick("status", out).stdout.splitlines()
(log,) = Path(f"{out}-jobs").glob("train-1-evaluation-*.log")  # under the name that the script gives, odd as it is
told["scores"] = log.read_text()
told["again"] = submit()[1]
json.dump(told, sys.stdout)
