"""Whole runs: detectors + project -> picks. `pick_run` is independent of every other run and its output is atomic."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, get_native_id
from typing import Any, Final, Literal

import numpy as np

from ..core.errors import OutputError, SelectionError, TomopickError
from ..core.messages import reason_of
from ..core.progress import bar
from ..core.records import FAILED, PICKED, STARTED, Records
from ..core.types import Picks
from ..data import Project, atomic_write
from ..data.runs import Runs
from .given import masks_mark, require_masks
from .output import HeatmapFiles, Output, records_of
from .picker import Picker
from .places import Places
from .placing import placed
from .prepared import Prepared

_NICENESS = 19  # niceness of reading ahead; 0 is a usual thread's, 19 the most
_PATIENCE = 0.5  # for a run's files before the next is predicted [s]: tables take less, heatmaps take longer


Outcome = Literal["picked", "skipped", "failed"]
SKIPPED: Final = "skipped"


@dataclass(frozen=True)
class RunResult:
    """What became of one run.

    Attributes:
        run: its name.
        status: `picked`, `skipped` (finished before with the same model and settings) or `failed`.
        counts: picks at or above the threshold, by object.
        seconds: it took.
        messages: what was unlike the training, or why it failed.
    """

    run: str
    status: Outcome
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    messages: tuple[str, ...] = ()


_END: Any = ()  # of the runs; false, as what is not known yet


def check_objects(picker: Picker, project: Project) -> list[str]:
    """Objects that the model finds and the project has no place for, at most some of them.

    Raises:
        SelectionError: all of them.
    """
    known, wanted = {o.name for o in picker.objects}, {o.name for o in project.objects}
    if not project.keeps_picks:
        return []
    if not known & wanted:
        raise SelectionError(
            f"{project.uri}: defines {', '.join(sorted(wanted))}, but the model finds {', '.join(sorted(known))}; "
            "use a model of these objects, or add them to the project's pickable_objects"
        )
    return sorted(known - wanted)


def check_places(places: Places, runs: Runs) -> None:
    """Raises as `require_masks` for a mask that none of the runs has, or what leaves nothing of any of them."""
    require_masks(places, runs.project, runs.check(), runs.tomo_type)


def pick_run(picker: Picker, runs: Runs | Project, run: str, out: str | Path, overwrite: bool = False) -> RunResult:
    """Picks one of the runs and writes its picks and its record under `out`.

    A run that is finished with the same models, input and settings is skipped unless `overwrite`; our own picks of
    other settings, or of what lay in the same place before, are replaced.

    Raises:
        OutputError: there are picks that we did not make, that were edited since, or of an input in another place, and
            `overwrite` is not set.
        TomopickError: the run cannot be read.
    """
    runs = Runs.of(runs)
    with records_of(runs.project, Path(out)) as records:
        work = _Work(picker, runs, run, Path(out), records, overwrite)
        return work.load() or work.predict() or work.write()


def try_run(
    picker: Picker, runs: Runs, records: Records, run: str, out: str | Path, overwrite: bool = False
) -> RunResult:
    """As `pick_run`, for many runs that come one by one, with the records of `out` open; a failure is the result."""
    work = _Work(picker, runs, run, Path(out), records, overwrite)
    for step in (work.load, work.predict, work.write):
        result: RunResult | None = _attempt(work, step)
        if result is not None:
            return result
    raise AssertionError("writing ends a run")


class _Work:
    """A run on its way through `load`, `predict` and `write`; each ends with the run's result, or None to go on.

    Args:
        picker, runs, run, out, overwrite: as for `pick_run`.
        records: of `out`.
        turn: held while the project or its picks are read or written; one at a time.
    """

    def __init__(
        self, picker: Picker, runs: Runs, run: str, out: Path, records: Records, overwrite: bool,
        turn: Lock | None = None,
    ):  # fmt: skip
        self.picker, self.runs, self.run, self.overwrite = picker, runs, run, overwrite
        options = picker.options
        self.output = Output(runs.project, run, out, records, options.user_id, options.session_id, picker.objects)
        self.turn = turn or Lock()
        self.found: list[str] = []
        self.seconds = 0.0

    def load(self) -> RunResult | None:
        """Reads and normalises the tomogram, unless the run was finished before."""
        with self._timed():
            with self.turn:
                self.homeless = check_objects(self.picker, self.runs.project)
                fingerprint = self.picker.fingerprint(self.runs.tomo_type)
                self.mark = {"fingerprint": fingerprint, **_input_mark(self.runs, self.run, self.picker.options.places)}
                if not self.overwrite:
                    before, found = self.output.before()
                    same = all(before.get(k) == v for k, v in self.mark.items())
                    if self.output.check_ours(before, found, self.mark["place"]) and before["status"] == PICKED:
                        if same:
                            return RunResult(self.run, SKIPPED, before["counts"], 0.0)
                        self.found.append("picks made before with another model, input or settings are replaced")
                tomogram = self.runs.tomogram(self.run)
            self.prepared: Prepared | None = placed(
                self.picker, self.picker.prepare(tomogram), self.runs.project, tomogram
            )
        return None

    def predict(self) -> RunResult | None:
        """Finds the picks."""
        prepared, self.prepared = self.prepared, None  # makes room for the next, whatever becomes of this one
        assert prepared is not None
        keep = self.picker.options.save_heatmaps
        with self._timed(), ExitStack() as stack:
            # From here on what lies there is ours, even if we are cut off before the end. Not in turn: the record is
            # this run's alone, and the reader has its turn for as long as the next volume takes to come in.
            self.output.records.write(self.run, STARTED, {**self.mark, "settings": self.output.owner()})
            self.files = stack.enter_context(HeatmapFiles(self.output))
            shown = stack.enter_context(bar(1, self.run, "tile"))
            self.picks, unlike = self.picker.pick(prepared, _shower(shown), self.files.add if keep else None)
            shown.close()
            self.found += unlike
            stack.pop_all()  # the files are for `write` to finish
        return None

    def write(self) -> RunResult:
        """Puts picks and record in their places."""
        picks, output, picker = self.picks, self.output, self.picker
        with self._timed(), self.files:
            self.files.finish()
            if self.homeless:
                self.found.append(f"not written, for the project does not define it: {', '.join(self.homeless)}")
                picks = picks.select(~np.isin(picks.names, self.homeless))
            with self.turn:
                output.write_picks(picks)
            self.files.remove_others()
        result = RunResult(self.run, PICKED, picker.counts(picks), self.seconds, tuple(self.found))
        facts = {
            "models": list(picker.model.names),
            "thresholds": picker.thresholds,
            "settings": {"tomo_type": self.runs.tomo_type, **picker.options.settings()},
            "engines": picker.engines(),
        }
        done = {"counts": dict(result.counts), "seconds": round(self.seconds, 3), "messages": self.found}
        with self.turn:
            output.records.write(self.run, PICKED, {**self.mark, **done, **facts, "output": output.digest()})
        return result

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began


def _input_mark(runs: Runs, run: str, places: Places) -> dict[str, str]:
    """Its place, and what changes with whatever else decides the picks: contents, grid, coordinate offset, masks."""
    place, contents = runs.project.stamp(run, runs.tomo_type)
    grid = runs.grid(run)
    shift = runs.project.stated(Picks(run, np.zeros((1, 3)), np.array(["-"]))).positions[0]
    shape = "x".join(map(str, grid.shape))
    facts = f"{contents} {shape} {grid.voxel_spacing:.4f} {','.join(f'{v:.3f}' for v in shift)}"
    return {"place": place, "input": f"{facts} {masks_mark(places, runs.project, run)}".strip()}


def pick_runs(
    picker: Picker,
    runs: Runs | Project,
    names: Iterable[str | None],
    out: str | Path,
    overwrite: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[RunResult]:
    """Picks run after run; one that fails is reported as such and the others go on.

    While a run is predicted, the next is read and normalised and the one before is written, so that neither is waited
    for; no more than one volume is read ahead.

    Args:
        picker, runs, out, overwrite: as for `pick_run`.
        names: of those that are picked now, asked for one after the other; None among them says that the next is not
            known yet, so that those that were begun are finished first.
        stopped: asked before a run is predicted; where it answers yes, no more are.
    """
    turn, writing = Lock(), deque[Future[RunResult]]()
    runs = Runs.of(runs)
    records = records_of(runs.project, Path(out))
    coming = (name and _Work(picker, runs, name, Path(out), records, overwrite, turn) for name in names)
    # On a GPU the cores are free for it.
    aside = _stand_back if picker.device.type == "cpu" else None
    reader, writer = ThreadPoolExecutor(1, "read", aside), ThreadPoolExecutor(1, "write")
    try:
        loading: Future[RunResult | None] | None = None
        work = next(coming, _END)
        while work is not _END and not stopped():
            if work:
                after = next(coming, _END)
                # The first has nothing to be read beside.
                ended = loading.result() if loading else _attempt(work, work.load)
                loading = reader.submit(_attempt, after, after.load) if after else None
                ended = ended or _attempt(work, work.predict)
                writing.append(writer.submit(_attempt, work, work.write) if ended is None else _given(ended))
                wait([writing[0]], timeout=_PATIENCE if len(writing) == 1 else None)
            while writing and (writing[0].done() or not work):
                yield writing.popleft().result()
            work = after if work else next(coming, _END)
        while writing:
            yield writing.popleft().result()
    finally:  # whoever stops early, or is interrupted, finds finished runs whole
        reader.shutdown(cancel_futures=True)
        writer.shutdown()
        records.close()


def _stand_back() -> None:
    """Leaves the processor to the network: this thread, and those it starts, take what is idle.

    A network's threads wait for the slowest of them, so that one core lent to reading costs as much as all. Elsewhere
    than on Linux a thread has no priority of its own that could be set; there all share alike.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICENESS)


def _attempt(work: _Work, step: Callable[[], RunResult | None]) -> Any:
    """What a step answers; where it fails, that the run failed."""
    trace = work.output.trace
    try:
        result = step()
        if result is not None:
            trace.unlink(missing_ok=True)
        return result
    except TomopickError as error:
        return _failed(work, str(error))
    except Exception as error:
        # One bad file among thousands must not end the others; the trace is kept for whoever looks into it.
        text = traceback.format_exc()
        reason = reason_of(error)
        where = f" (see {trace})" if _keep(trace, text) else ""
        return _failed(work, f"run {work.run}: {type(error).__name__}: {reason}{where}")


def _failed(work: _Work, message: str) -> RunResult:
    with suppress(OutputError):  # a full disk: then there is only the message
        work.output.records.write(work.run, FAILED, {"message": message})
    return RunResult(work.run, FAILED, messages=(message,))


def _given(result: RunResult) -> Future[RunResult]:
    future: Future[RunResult] = Future()
    future.set_result(result)
    return future


def _keep(path: Path, text: str) -> bool:
    try:
        with atomic_write(path) as file:
            file.write(text)
    except OutputError:  # a full disk: then there is only the message
        return False
    return True


def _shower(shown: Any) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        shown.total = total
        shown.update(done - shown.n)

    return progress
