"""What a kill leaves: every verb that writes, killed before each change of the file system, and at random moments.

    python benchmarks/kills.py                          # all states, and 100 kills at random moments
    python benchmarks/kills.py --scenes train --points 10 --random 0
    python benchmarks/kills.py --mutant last            # a fault put in on purpose: it has to be noticed

Each command is run once to its end. Before each opening, removal or renaming of a file, and before one is flushed to
the disk, what lies there is kept: that is what SIGKILL leaves. Before each renaming it is kept as a power cut leaves
it, too: what has not reached the disk is empty. From each of these states, and after kills at random moments, the
command is simply repeated. Asked: the repetition ends well (or says that it is done, where it is), what is there is
what the whole run left, and nothing else.
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
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
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
    Scene("merge", ("merge", "picks.csv", "t/B.csv", "--out", "OUT/m", *fuzz.AT)),
    Scene("suggest", ("suggest", "model", "t", "--out", "OUT/next", "--device", "cpu")),
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


def _never_flushed() -> None:
    from tomopick.core import files

    class Careless:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        @staticmethod
        def fsync(handle: int) -> None:
            pass

    files.os = Careless()  # type: ignore[assignment]


MUTANTS: dict[str, tuple[Callable[[], None], str]] = {
    "last": (_last_in_place, "train"),
    "run": (_copied_into_view, "simulate"),
    "no-fsync": (_never_flushed, "export imod"),
}


# ------------------------------------------------------------------------------------------------------------ running
def run(place: Path, arguments: tuple[str, ...], states: Path | None = None, moment: float | None = None) -> int:
    """The command in a process of its own; gives its exit status.

    Args:
        place: folder to run in.
        arguments: of the command.
        states: folder for what a kill before each change would leave; None: nobody asks.
        moment: when to kill it [s]; None: never.
    """
    child = os.fork()
    if not child:
        _child(place, arguments, states)
    if moment is not None:
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _child(place: Path, arguments: tuple[str, ...], states: Path | None) -> None:
    try:
        handle = os.open(place.parent / "said", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(handle, stream)
        os.chdir(place)
        if states is not None:
            _watch(place, States(place, states))
        code = fuzz._command(list(arguments))
        sys.stdout.flush()
        os._exit(code)
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
        os._exit(3)


def _watch(place: Path, states: States) -> None:
    """Keeps the state of a folder before each change of the file system below it."""
    root = str(place.resolve())

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
            states.keep(seen=event == "os.rename")

    def flushed(handle: int, flush: Callable[[int], None] = os.fsync) -> None:
        path = os.path.realpath(f"/proc/self/fd/{handle}")
        if path.startswith(root):
            states.keep()
        flush(handle)
        states.flushed(path)

    sys.addaudithook(hook)
    os.fsync = flushed


@dataclass
class States:
    """What a folder holds, again and again: `N` as a kill leaves it, `N-cut` as a power cut does.

    A kill leaves what was written; whatever no process has flushed to the disk is empty after a power cut. What has
    not changed since the last state is a link to it, for nobody writes there; a state like the last one is none.

    Attributes:
        place: the folder.
        kept: where its states are kept.
        on_disk: when each file that was flushed to the disk had been written, its size and a checksum, by its number.
    """

    place: Path
    kept: Path
    on_disk: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    _busy: bool = False
    _last: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    _n: int = 0

    def flushed(self, path: str) -> None:
        """Notes that what a file holds is on the disk."""
        if os.path.isfile(path):
            about, data = os.stat(path), Path(path).read_bytes()
            self.on_disk[about.st_ino] = about.st_mtime_ns, len(data), zlib.crc32(data)

    def keep(self, seen: bool = False) -> None:
        """Keeps the state of now; `seen`: also as a power cut would leave it."""
        if self._busy:  # what copying opens
            return
        self._busy = True
        try:
            now = self._look()
            if now != self._last or seen:
                target = self.kept / f"{self._n:05d}"
                self._copy(now, target)
                if seen:
                    self._cut(now, target)
                self._last, self._n = now, self._n + 1
        finally:
            self._busy = False

    def _look(self) -> dict[str, tuple[int, int, int]]:
        """Number, size and time of each file, and -1 of each folder, by its path."""
        found: dict[str, tuple[int, int, int]] = {}
        for at, folders, names in os.walk(self.place):
            for name in folders:
                found[os.path.relpath(os.path.join(at, name), self.place)] = (-1, 0, 0)
            for name in names:
                about = os.lstat(os.path.join(at, name))
                path = os.path.relpath(os.path.join(at, name), self.place)
                found[path] = about.st_ino, about.st_size, about.st_mtime_ns
        return found

    def _copy(self, now: dict[str, tuple[int, int, int]], target: Path) -> None:
        last = self.kept / f"{self._n - 1:05d}"
        target.mkdir()
        for path, about in now.items():
            if about[0] < 0:
                (target / path).mkdir(parents=True, exist_ok=True)
                continue
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            if self._last.get(path) == about:
                os.link(last / path, target / path)
            else:
                shutil.copy2(self.place / path, target / path)

    def _cut(self, now: dict[str, tuple[int, int, int]], target: Path) -> None:
        """Beside a state, the same where what is not on the disk is lost; it was there before the command was run.

        What was only added to a file that had been flushed leaves what it held then.
        """
        cut = target.with_name(f"{target.name}-cut")
        shutil.copytree(target, cut, copy_function=os.link)
        for path, (n, _, when) in now.items():
            then, size, mark = self.on_disk.get(n, (0, 0, 0))
            if n >= 0 and when > self.began and then != when:
                data = (cut / path).read_bytes()[:size]
                (cut / path).unlink()
                (cut / path).write_bytes(data if zlib.crc32(data) == mark else b"")

    def __post_init__(self) -> None:
        self.began = time.time_ns()


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
        with suppress(ValueError):  # of what was cut off
            return [_lasting(json.loads(line)) for line in (data.splitlines() if path.suffix == ".jsonl" else [data])]
    return data


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if k not in VOLATILE}
    return [_lasting(v) for v in value] if isinstance(value, list) else value


class Checker:
    """One scene: run to its end once, with what each kill would leave, and repeated from there.

    Args:
        store: the files to begin with.
        scene: the command.
    """

    def __init__(self, store: Path, scene: Scene) -> None:
        self.scene = scene
        self._folder = tempfile.TemporaryDirectory(prefix="kills-")
        self._base = Path(self._folder.name)
        self._begin, self._states, self._place = (self._base / name for name in ("begin", "states", "case"))
        shutil.copytree(store, self._begin)
        (self._begin / "OUT").mkdir()
        self._states.mkdir()
        self._put(self._begin)
        code = run(self._place, scene.arguments, self._states)
        if code:
            raise SystemExit(f"{scene.name} ended with {code}: {self._said()[-2000:]}")
        self.wanted = tree(self._place)
        self.states = sorted(path.name for path in self._states.iterdir())
        self._put(self._begin)
        began = time.monotonic()
        run(self._place, scene.arguments)
        self.seconds = time.monotonic() - began

    def close(self) -> None:
        """Removes its files."""
        self._folder.cleanup()

    def after(self, state: str) -> str:
        """What is wrong once the command is repeated from a state; empty where nothing is."""
        self._put(self._states / state)
        return self._repeated(tree(self._place) == self.wanted)

    def killed(self, moment: float) -> str:
        """What is wrong after a kill at a moment [s], and a repetition; empty where nothing is."""
        self._put(self._begin)
        code = run(self._place, self.scene.arguments, moment=moment)
        if code not in (-9, 0):
            return f"ended with {code} where it was to be killed"
        return self._repeated(tree(self._place) == self.wanted) if code else self._differs()

    def _put(self, state: Path) -> None:
        """The same folder each time, for files hold its path."""
        shutil.rmtree(self._place, ignore_errors=True)
        shutil.copytree(state, self._place)
        (self._base / "said").write_text("")

    def _said(self) -> str:
        return (self._base / "said").read_text()

    def _repeated(self, finished: bool) -> str:
        again = self.scene.again if (self._place / "OUT" / "m" / "recipe.json").exists() else ()
        code = run(self._place, (*self.scene.arguments, *again))
        if code and not (finished and tree(self._place) == self.wanted):  # what was made whole may be said to be there
            return f"cannot be repeated: {(self._said().strip().splitlines() or ['silence'])[-1][:300]}"
        return self._differs()

    def _differs(self) -> str:
        found = tree(self._place)
        other = sorted(k for k in {*found, *self.wanted} if found.get(k) != self.wanted.get(k))
        return f"differs from the whole run: {', '.join(other[:5])}" if other else ""


def main() -> None:
    """Prints a table; exit code 1 where a kill left a trace (with --mutant: where none did)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", help="comma-separated; default: all")
    parser.add_argument("--points", type=int, default=10**9, help="states a scene, evenly spread")
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
        log, rng = Log(options.log), random.Random(options.seed)
        moments = [(rng.randrange(len(scenes)), rng.random()) for _ in range(options.random)]
        faults = [f for i, s in enumerate(scenes) for f in _of_scene(Path(folder), i, s, options.points, moments, log)]
    print(f"kills at random moments: {len(moments)}")
    print(f"{len(faults)} faults")
    sys.exit(bool(faults) != bool(options.mutant))


class Log:
    """What was found at each kill, kept in a file where one is given; what had no fault is not tried again."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.past = {row["kill"] for row in map(json.loads, lines) if not row["fault"]}

    def fault(self, kill: str, find: Callable[[], str]) -> str:
        """What a kill leaves; empty where that is nothing."""
        if kill in self.past:
            return ""
        found = find()
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"kill": kill, "fault": found}) + "\n")
        return found


def _of_scene(store: Path, i: int, scene: Scene, most: int, moments: list[tuple[int, float]], log: Log) -> list[str]:
    """The faults of the i-th scene: from its states, at most so many, and at those moments that are its own."""
    checker = Checker(store, scene)
    n, faults = len(checker.states), {}
    tried = checker.states[:: max(1, -(-n // most))] if most else []
    for state in tried:
        name = f"state {state} of {n}"
        faults[name] = log.fault(f"{scene.name} {name}", lambda state=state: checker.after(state))
    mine = [(k, part * checker.seconds) for k, (which, part) in enumerate(moments) if which == i]
    for k, moment in mine:
        name = f"random {k}"
        faults[name] = log.fault(f"{scene.name} {name}", lambda moment=moment: checker.killed(moment))
    checker.close()
    found = [f"  {name}: {text}" for name, text in faults.items() if text]
    cuts = sum(state.endswith("cut") for state in tried)
    print(
        f"{scene.name}: {len(tried) - cuts} of {sum(not s.endswith('cut') for s in checker.states)} states that a kill "
        f"leaves, {cuts} that a power cut does, {len(mine)} kills at random moments: {len(found)} faults"
    )
    print("".join(f"{line}\n" for line in found), end="", flush=True)
    return found


if __name__ == "__main__":
    main()
