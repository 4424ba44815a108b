"""Seconds and peak memory of each stage of a simulated run, and how they grow with the volume.

    python benchmarks/simulate.py [--shapes 92,315,315 184,630,630] [--tomo-type wbp,denoised] [--device cuda]

Every volume is made in a process of its own. The bounds that one run of 184 x 630 x 630 voxels is held to: with `wbp`
alone 15 s, with all types 60 s, on two cores and 4 GiB.
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
import time
from multiprocessing import get_context
from pathlib import Path

from tomopick.core.presets import CZII_OBJECTS
from tomopick.simulation import TOMO_TYPES, arrays_of, simulate
from tomopick.simulation.projects import PRESETS, spec_of

Row = tuple[str, float, float, float]  # stage, seconds, processor seconds, peak memory [GB]
REFERENCE = 184 * 630 * 630


def peak_since(reset: bool) -> float:
    """Largest resident memory since the last reset [GB]; of the whole process where the system cannot forget it."""
    status, forget = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1e-9 if sys.platform == "darwin" else 1e-6)
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    if reset:
        forget.write_text("5")
    return int(found[1]) * 1024e-9 if found else float("nan")


def measure(job: tuple[str, tuple[int, int, int], tuple[str, ...], int, str]) -> list[Row]:
    """The stages of one run, in a new process: the clocks start when everything is imported."""
    preset, shape, tomo_types, seed, device = job
    spec, arrays = spec_of(preset, shape, tomo_types), arrays_of(device)
    rows: list[Row] = []
    began = ["", time.perf_counter(), time.process_time()]

    def stage(name: str) -> None:
        now, processor = time.perf_counter(), time.process_time()
        peak = peak_since(reset=True)
        if began[0]:
            rows.append((began[0], now - began[1], processor - began[2], peak))
        began[:] = [name, now, processor]

    simulate(spec, CZII_OBJECTS, run="benchmark", seed=seed, arrays=arrays, stage=stage)
    stage("")
    return rows


def shape_of(text: str) -> tuple[int, int, int]:
    z, y, x = (int(part) for part in text.split(","))
    return z, y, x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", type=shape_of, default=[(92, 315, 315), (184, 630, 630)])
    parser.add_argument("--tomo-type", default=",".join(TOMO_TYPES))
    parser.add_argument("--preset", default="czii", choices=list(PRESETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    for shape in args.shapes:
        job = (args.preset, shape, tuple(args.tomo_type.split(",")), args.seed, args.device)
        with get_context("spawn").Pool(1) as pool:  # peak memory is a process's
            (rows,) = pool.map(measure, [job])
        voxels = shape[0] * shape[1] * shape[2]
        print(f"\n{shape[0]} x {shape[1]} x {shape[2]} voxels, preset {args.preset}, {args.device}")
        print(f"{'stage':<18}{'s':>8}{'cpu s':>8}{'peak GB':>9}{'ns/voxel':>10}")
        for name, seconds, processor, peak in rows:
            print(f"{name:<18}{seconds:>8.2f}{processor:>8.2f}{peak:>9.2f}{1e9 * seconds / voxels:>10.1f}")
        total, processor = sum(row[1] for row in rows), sum(row[2] for row in rows)
        most = max(row[3] for row in rows)
        print(f"{'all':<18}{total:>8.2f}{processor:>8.2f}{most:>9.2f}{1e9 * total / voxels:>10.1f}")
        if voxels == REFERENCE:
            bound = 15 if args.tomo_type == "wbp" else 60
            print(f"bound: {bound} s and {4 * 1.073741824:.2f} GB (4 GiB)")


if __name__ == "__main__":
    main()
