"""Batches on a real SLURM, where it is installed: started for one test in namespaces of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from small import TINY, folder, trained
from tomopick.data import write_mrc

HERE = Path(__file__).parent / "slurm"
NEEDED = ("unshare", "slurmctld", "slurmd", "sbatch", "munged", "ip")


def why_not():
    """What is missing for a SLURM of our own; empty where nothing is."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    missing = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge, iproute2)"
    if os.geteuid():
        return "a SLURM of our own needs root"
    tried = subprocess.run(["unshare", "--mount", "--net", "--pid", "--uts", "--fork", "true"], capture_output=True)
    return "unshare is refused here" if tried.returncode else ""


def test_a_batch_on_slurm(tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    small = folder(tmp_path / "small", "ABCDEF", shape=(24, 48, 48), n=4)
    large = folder(tmp_path / "large", "A", picks=False, shape=(24, 32, 32), n=2)
    values = np.random.default_rng(0).standard_normal((64, 256, 256)).astype(np.float32)
    for name in "BCDEFGHIJKLMNO":
        write_mrc(large / f"{name}.mrc", values, 10.0)
    story = [sys.executable, HERE / "story.py", trained(), small, large, tmp_path / "out"]
    done = subprocess.run(
        list(map(str, [HERE / "with_slurm.sh", *story])), capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["array ended"] and told["all ended"]
    assert set("ACDF") <= set(told["after the array"])  # the first and the third task's
    assert told["after the repeat"] == list("ABCDEF") and told["status at last"] == 0
    assert told["status then"] == (0 if told["after the array"] == list("ABCDEF") else 1)
    assert told["dependent"] == ["PENDING", "(Dependency)"] or told["dependent"] == ["PENDING", "Dependency"]
    assert "ball" in told["scores"]
    assert told["given another turn"] and told["none is begun"] and told["and is gone"]
    assert 1 <= told["some are left"] < 15


@pytest.mark.slow
def test_a_plan_on_slurm(tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    place, simulated = (
        folder(tmp_path / name, runs, shape=(16, 64, 32), n=6) for name, runs in (("in", "ABCD"), ("sim", "PQ"))
    )
    small = ["tiling.shape=32,32,32", "tiling.overlap=8", *TINY, "train.steps=2", "train.validate_every=2"]
    out = tmp_path / "it's 100% of $HOME #1"
    story = [HERE / "with_slurm.sh", sys.executable, HERE / "plan.py", place, simulated, out, *small]
    done = subprocess.run(list(map(str, story)), capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["stages"] == ["pretraining", "members", "ensemble", "evaluation"] and told["all ended"]
    assert told["members wait"] in (["(Dependency)"], ["Dependency"]) and told["status then"] == 1
    assert told["status at last"] == ["3 of 3 trainings finished"]
    assert "ball" in told["scores"]
    assert told["again"].endswith("all is trained and put together; there is nothing to submit\n")
