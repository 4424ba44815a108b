"""What a kill leaves: every verb that writes, killed before each change of the file system, and at random moments.

    python benchmarks/kills.py                          # all crash points, then 100 kills at random moments
    python benchmarks/kills.py --scenes train --points 10 --random 0
    python benchmarks/kills.py --mutant last            # a fault put in on purpose: it has to be noticed

Each command is run once to its end, then again and again in a process that kills itself (SIGKILL) before the k-th
opening, removal or renaming of a file, or before it flushes one to the disk, and is then simply repeated. Asked: the
repetition ends well (or says that it is done, where it is), what is there is what the whole run left, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzz

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree"}
VOLATILE = {"seconds", "time", "commit", "host", "pid", "fitted", "date", "created", "when"}
CPU = fuzz.CPU


@dataclass(frozen=True)
class Scene:
    """A command that writes.

    Attributes:
        name: of it.
        arguments: of the command.
        again: what is added where it is repeated.
    """

    name: str
    arguments: tuple[str, ...]
    again: tuple[str, ...] = ()


SCENES = (
    Scene("pick", ("pick", "model", "t", "--out", "OUT", "--save-heatmaps", *CPU)),
    Scene("pick copick", ("pick", "model", "copick/copick.json", "--out", "OUT", *CPU)),
    Scene("train", ("train", "light", "t", "OUT/m", "--device", "cpu", *fuzz.AT, *fuzz.TRAIN), ("--resume",)),
    Scene("init", ("init", "t", "OUT/p", *fuzz.AT)),
    Scene("export imod", ("export", "many.csv", "OUT/", "--to", "imod", "--voxel-spacing", "10")),
    Scene("export copick", ("export", "many.csv", "OUT/c", "--to", "copick")),
    Scene("export into copick", ("export", "all.csv", "copick/copick.json", "--to", "copick")),
    Scene("import", ("import", "made/A.star", "copick/copick.json", "--as", "ball", "--user-id", "x")),
    Scene("import into folder", ("import", "rows.csv", "t", "--overwrite")),
    Scene("finish", ("finish", "begun")),
    Scene(
        "export relion5",
        (
            "export",
            "many.csv",
            "OUT/p.star",
            "--to",
            "relion5",
            "--voxel-spacing",
            "10",
            "--tilt-series-pixel-size",
            "2",
            "--tomograms-star",
            "tomograms.star",
        ),
    ),
    Scene("evaluate", ("evaluate", "picks.csv", "t/B.csv", "--report", "OUT/e.html", *fuzz.AT)),
    Scene("doctor", ("doctor", "t", "--pictures", "OUT/d")),
    Scene("ensemble", ("ensemble", "model", "training", "OUT/e")),
    Scene("soup", ("soup", "model", "model", "OUT/s")),
    Scene("calibrate", ("calibrate", "model", "t", "--device", "cpu")),
    Scene("export-model", ("export-model", "model", "OUT/net", "--to", "torchscript")),
    Scene("show", ("show", "A.mrc", "picks.csv", "--out", "OUT/s.png", *fuzz.AT)),
    Scene("report", ("report", "picked", "A.mrc", "--out", "OUT/r.html", *fuzz.AT)),
    Scene("simulate", ("simulate", "OUT/sim", "--shape", "48,64,64", "--tomo-type", "wbp")),
)


# ------------------------------------------------------------------------------------------------------------ mutants
def _last_in_place() -> None:
    from tomopick.training import checkpoints, fit

    def save(state: Any, out: Path) -> None:
        (out / "last").mkdir(exist_ok=True)
        state.save(out / "last")

    checkpoints.save_last = fit.save_last = save


def _copied_into_view() -> None:
    from tomopick.data.sources import copick_write

    class Copying:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        @staticmethod
        def rename(source: Path, target: Path) -> None:
            shutil.copytree(source, target)

    copick_write.os = Copying()  # type: ignore[assignment]


MUTANTS: dict[str, tuple[Callable[[], None], str]] = {
    "last": (_last_in_place, "train"),
    "run": (_copied_into_view, "simulate"),
}


# ------------------------------------------------------------------------------------------------------------ running
def run(
    place: Path, arguments: tuple[str, ...], point: int | None = None, moment: float | None = None
) -> tuple[int, int]:
    """The command in a process of its own; gives its exit status and how many crash points it passed.

    Args:
        place: folder to run in.
        arguments: of the command.
        point: to kill it before.
        moment: when to kill it [s]; None: never.
    """
    passed = place.parent / "passed"
    child = os.fork()
    if not child:
        _child(place, arguments, point, passed)
    if moment is not None:
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, int(passed.read_text() or 0) if passed.exists() else 0


def _child(place: Path, arguments: tuple[str, ...], point: int | None, passed: Path) -> None:
    try:
        handle = os.open(place.parent / "said", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(handle, stream)
        os.chdir(place)
        count = _watch(place, point)
        code = fuzz._command(list(arguments))
        sys.stdout.flush()
        counted = count[0]
        count[0] = -(10**9)
        passed.write_text(str(counted))
        os._exit(code)
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
        os._exit(3)


def _watch(place: Path, point: int | None) -> list[int]:
    """Counts changes of the file system below the folder; kills this process before the one asked for."""
    count = [0]
    root = str(place.resolve())

    def passes() -> None:
        count[0] += 1
        if count[0] - 1 == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not isinstance(path, str | bytes | os.PathLike):
                return
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not (writes or (isinstance(mode, str) and set(mode) & set("wax+"))):
                return
        elif event not in CHANGES:
            return
        if os.path.abspath(os.fsdecode(arguments[0])).startswith(root):
            passes()

    def flushed(handle: int, flush: Callable[[int], None] = os.fsync) -> None:
        if os.path.realpath(f"/proc/self/fd/{handle}").startswith(root):
            passes()
        flush(handle)

    sys.addaudithook(hook)
    os.fsync = flushed
    return count


def tree(place: Path) -> dict[str, Any]:
    """Every file below a folder, with what of its contents does not depend on when it was written."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in place.rglob("*") if p.is_file()):
        name = str(path.relative_to(place))
        if name.endswith(".records.jsonl"):
            rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
            found["records"] = {row["run"]: row["status"] for row in rows}
        else:
            found[name] = _contents(path, str(place.parent).encode())
    return found


def _contents(path: Path, folder: bytes) -> Any:
    data = path.read_bytes().replace(folder, b"PLACE")
    if path.suffix == ".mrc":
        return data[1024:]  # its labels tell the time
    if path.suffix in (".png", ".html", ".pt", ".ptl"):
        return "there"
    if path.suffix in (".json", ".jsonl"):
        return [_lasting(json.loads(line)) for line in (data.splitlines() if path.suffix == ".jsonl" else [data])]
    return data


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if k not in VOLATILE}
    return [_lasting(v) for v in value] if isinstance(value, list) else value


@dataclass
class Checker:
    """One scene, killed and repeated.

    Attributes:
        store: the files to begin with.
        scene: the command.
        wanted: what the whole run leaves.
        points: it has.
        seconds: it took.
    """

    store: Path
    scene: Scene
    wanted: dict[str, Any]
    points: int
    seconds: float

    @classmethod
    def of(cls, store: Path, scene: Scene) -> Checker:
        """Runs it to its end."""
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            place = Path(folder) / "case"
            shutil.copytree(store, place)
            (place / "OUT").mkdir()
            began = time.monotonic()
            code, points = run(place, scene.arguments)
            if code:
                raise SystemExit(f"{scene.name} ended with {code}: {(place.parent / 'said').read_text()[-2000:]}")
            return cls(store, scene, tree(place), points, time.monotonic() - began)

    def fault(self, point: int | None = None, moment: float | None = None) -> str:
        """What is wrong after a kill and a repetition; empty where nothing is."""
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            place = Path(folder) / "case"
            shutil.copytree(self.store, place)
            (place / "OUT").mkdir()
            killed, _ = run(place, self.scene.arguments, point, moment)
            if killed not in (-9, 0):
                return f"ended with {killed} where it was to be killed"
            finished = tree(place) == self.wanted
            again = self.scene.again if (place / "OUT" / "m" / "recipe.json").exists() else ()
            code, _ = run(place, (*self.scene.arguments, *again)) if killed else (0, 0)
            said = (place.parent / "said").read_text()
            if code and not (finished and tree(place) == self.wanted):  # what was made whole may be said to be there
                return f"cannot be repeated: {said.strip().splitlines()[-1][:300]}"
            found = tree(place)
            other = sorted(k for k in {*found, *self.wanted} if found.get(k) != self.wanted.get(k))
            return f"differs from the whole run: {', '.join(other[:5])}" if other else ""


def main() -> None:
    """Prints a table; exit code 1 where a kill left a trace (with --mutant: where none did)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", help="comma-separated; default: all")
    parser.add_argument("--points", type=int, default=10**9, help="crash points a scene, evenly spread")
    parser.add_argument("--random", type=int, default=100, help="kills at random moments")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="keep what was found here, a line each; go on with what it has not")
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    options = parser.parse_args()
    fuzz._warm()
    names = options.scenes.split(",") if options.scenes else [s.name for s in SCENES]
    if options.mutant:
        change, name = MUTANTS[options.mutant]
        change()
        names = [name]
    scenes = [s for s in SCENES if s.name in names]
    with tempfile.TemporaryDirectory(prefix="kills-corpus-") as folder:
        fuzz.make_corpus(Path(folder), simulated=False)
        checkers = [Checker.of(Path(folder), scene) for scene in scenes]
        log = Log(options.log)
        faults = _at_points(checkers, options.points, log) + _at_random(checkers, options.random, options.seed, log)
    print(f"{len(faults)} faults")
    sys.exit(bool(faults) != bool(options.mutant))


class Log:
    """What was found at each kill, kept in a file where one is given; what had no fault is not tried again."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.past = {row["kill"] for row in map(json.loads, lines) if not row["fault"]}

    def fault(self, checker: Checker, kill: str, **when: Any) -> str:
        """What a kill leaves; empty where that is nothing."""
        kill = f"{checker.scene.name} {kill}"
        if kill in self.past:
            return ""
        found = checker.fault(**when)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"kill": kill, "fault": found}) + "\n")
        return found


def _at_points(checkers: list[Checker], most: int, log: Log) -> list[str]:
    faults, tried = [], 0
    for checker in checkers:
        step = max(1, -(-checker.points // most)) if most else checker.points + 1
        points = range(0, checker.points, step)
        bad = [(k, f) for k in points if (f := log.fault(checker, f"{k} of {checker.points}", point=k))]
        tried += len(points)
        print(f"{checker.scene.name}: {len(points)} of {checker.points} crash points, {len(bad)} faults", flush=True)
        for k, text in bad:
            print(f"  before change {k}: {text}", flush=True)
        faults += [text for _, text in bad]
    print(f"crash points: {tried} of {sum(c.points for c in checkers)}")
    return faults


def _at_random(checkers: list[Checker], n: int, seed: int, log: Log) -> list[str]:
    rng, faults = random.Random(seed), []
    for i in range(n):
        checker = rng.choice(checkers)
        moment = rng.uniform(0, checker.seconds)
        text = log.fault(checker, f"random {i}", moment=moment)
        if text:
            print(f"  {checker.scene.name}, killed after {moment:.3f} s: {text}", flush=True)
            faults.append(text)
    print(f"kills at random moments: {n}, {len(faults)} faults")
    return faults


if __name__ == "__main__":
    main()
