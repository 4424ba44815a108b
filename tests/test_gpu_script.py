"""benchmarks/gpu.py, which is run where a GPU is, on the CPU; without what a bare GPU machine lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu.py"
ABSENT = ("copick", "mrcfile", "openvino", "zarr", "timm", "onnxruntime")

BARE = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({ABSENT!r}))  # neither found nor imported
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(out, *arguments):
    command = [sys.executable, "-c", BARE, str(SCRIPT), str(out), "--device", "cpu", "--quick", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in (out / "gpu.jsonl").read_text().splitlines()]


def test_the_telling_parts_run_on_a_bare_machine(tmp_path):
    rows = run(tmp_path, "--parts", "pick,train,parity,fit,resume")
    assert not [row for row in rows if "failed" in row]
    assert {row["part"] for row in rows} == {"machine", "pick", "train", "parity", "fit", "resume"}
    parity = [row for row in rows if row["part"] == "parity" and "found" in row]
    assert len(parity) == 4 and all(row["found"] > 0.9 for row in parity)
    went_on = next(row for row in rows if row.get("of") == "one that went on")
    assert went_on["loss_apart"] == 0 == went_on["weights_apart"]


def test_what_fails_is_told_and_what_is_late_is_left_out(tmp_path):
    rows = run(tmp_path, "--parts", "pick,train", "--minutes", "0")
    assert [row.get("skipped") for row in rows[1:]] == ["the time is up"] * 2
