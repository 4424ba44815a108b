"""Whole runs: detectors + project -> picks. `pick_run` is independent of every other run and its output is atomic."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .detector import Detector, decode
from .engines import choose_device
from .errors import OutputError, SelectionError, TomopickError
from .io import Project, atomic_write
from .io.select import near_miss
from .output import HeatmapFiles, Output
from .peaks import LOWEST_SCORE
from .predict import Predictor, average_rows, predict_rows
from .progress import bar
from .types import Grid, Heatmap, PickableObject, Picks, Tomogram


@dataclass(frozen=True)
class PickOptions:
    """How to pick.

    Attributes:
        tomo_type: what to read, `TYPE[@spacing]`.
        metric: whose calibrated thresholds are used, `f1` or `czii`.
        thresholds: by object, in place of the calibrated ones.
        keep_below: write picks under the threshold too, down to a score of 0.02.
        views: test-time augmentation: `none`, `flips` or `all`.
        invert: the volume has light particles on dark.
        offset: `none`, or `fitted` to take the displacement out that training measured.
        save_heatmaps: write heatmaps/RUN_OBJECT_heatmap.mrc beside the picks.
        user_id, session_id: of the picks in a copick project.
        device: where to run.
    """

    tomo_type: str | None = None
    metric: str = "f1"
    thresholds: Mapping[str, float] = field(default_factory=dict)
    keep_below: bool = False
    views: str = "none"
    invert: bool = False
    offset: str = "none"
    save_heatmaps: bool = False
    user_id: str = "tomopick"
    session_id: str = "0"
    device: str = "auto"

    def settings(self) -> dict[str, Any]:
        """What decides the picks, as JSON values (where it runs does not)."""
        return {k: v for k, v in vars(self).items() if k not in ("device", "thresholds")} | {
            "thresholds": dict(self.thresholds)
        }


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
    status: str
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    messages: tuple[str, ...] = ()


class Picker:
    """One or several detectors set up once for many runs; several are averaged.

    Args:
        detectors: members with equal weights; thresholds are the mean over the members that know an object, its radius
            is the first one's of them, and how peaks are found is the first member's.
        options: how to pick.
    """

    def __init__(self, detectors: Sequence[Detector], options: PickOptions):
        self.detectors, self.options = list(detectors), options
        known: dict[str, PickableObject] = {}
        for o in (o for d in self.detectors for o in d.objects):
            known.setdefault(o.name, o)
        self.objects = tuple(known.values())
        names = [o.name for o in self.objects]
        for name, value in options.thresholds.items():
            if name not in names:
                raise SelectionError(f"--threshold {name}={value:g}: no model knows '{name}'; {near_miss(name, names)}")
            if not 0 <= value <= 1:
                raise SelectionError(f"--threshold {name}={value:g}: scores lie between 0 and 1; choose one there")
        self.thresholds = {name: self._threshold(name) for name in names}
        device = choose_device(options.device)
        self.predictors: list[Predictor] = [d.predictor(device, options.views) for d in detectors]

    def _threshold(self, name: str) -> float:
        if name in self.options.thresholds:
            return float(self.options.thresholds[name])
        known = [d.thresholds[self.options.metric][name] for d in self.detectors if name in d.thresholds["f1"]]
        return float(np.mean(known))

    def differences(self) -> list[str]:
        """Where the members disagree on what can only be one: what is used, one line each."""
        peaks = self.detectors[0].recipe.peaks
        found = []
        if any(d.recipe.peaks != peaks for d in self.detectors):
            found.append(f"the models find peaks in different ways; used is that of {self.detectors[0].name}: {peaks}")
        stated = {(o.name, o.radius) for d in self.detectors for o in d.objects}
        names = [name for name, _ in stated]
        used = [f"{o.name} {o.radius_angstrom:g} Å" for o in self.objects if names.count(o.name) > 1]
        if used:
            found.append(f"the models know other radii; used are those of the first that knows one: {', '.join(used)}")
        return found

    def fingerprint(self) -> str:
        """Changes with the weights, the recipe, the version and whatever else decides the picks."""
        moved = [d.facts.displacement for d in self.detectors] if self.options.offset == "fitted" else None
        facts = [__version__, [d.checksum for d in self.detectors], self.thresholds, self.options.settings(), moved]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def rows(self, tomogram: Tomogram, progress: Callable[[int, int], None]) -> tuple[Iterator[Heatmap], list[str]]:
        """Finished rows of (averaged) heatmap, and what is unlike the training."""
        if self.options.invert:
            tomogram = replace(tomogram, values=-tomogram.values)
        members, found = [], []
        # Members that see grey values alike share one normalised copy of the volume.
        prepared: dict[Any, tuple[np.ndarray, Grid]] = {}
        for i, (detector, predictor) in enumerate(zip(self.detectors, self.predictors)):
            key = (detector.recipe.normalize, detector.facts.voxel_spacing)
            if key not in prepared:
                prepared[key] = detector.prepare(tomogram)
            values, grid = prepared[key]
            found += [line for line in detector.findings(tomogram, values) if line not in found]
            counting = replace(predictor, progress=progress if i == 0 else predictor.progress)
            members.append(predict_rows(counting, tomogram.run, values, grid))
        return (members[0] if len(members) == 1 else average_rows(members)), found

    def pick(
        self,
        tomogram: Tomogram,
        progress: Callable[[int, int], None] = lambda done, total: None,
        keep: Callable[[Heatmap], None] | None = None,
    ) -> tuple[Picks, list[str]]:
        """Picks of one tomogram, best first, and what is unlike the training.

        Args:
            tomogram: to pick.
            progress: told tiles done and of all.
            keep: given each strip of heatmap as it is finished.
        """
        rows, found = self.rows(tomogram, progress)
        watched = _watched(rows, keep) if keep else rows
        floor = {k: min(t, LOWEST_SCORE) if self.options.keep_below else t for k, t in self.thresholds.items()}
        picks = decode(watched, self.detectors[0].recipe.peaks, self.objects, floor, tomogram.run)
        if self.options.offset == "fitted":
            picks = picks.shifted(-np.mean([d.facts.displacement for d in self.detectors], axis=0))
        # Where the volume is no multiple of the stride, the last cells reach beyond it.
        return picks.select(tomogram.grid.contains(picks.positions)), found

    def counts(self, picks: Picks) -> dict[str, int]:
        """Picks at or above the threshold, by object."""
        kept = picks.above(self.thresholds)
        return {name: len(kept.of(name)) for name in self.thresholds}


def _watched(rows: Iterator[Heatmap], keep: Callable[[Heatmap], None]) -> Iterator[Heatmap]:
    for strip in rows:
        keep(strip)
        yield strip


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


def pick_run(picker: Picker, project: Project, run: str, out: str | Path, overwrite: bool = False) -> RunResult:
    """Picks one run and writes its picks and its record under `out`.

    A run that is finished with the same models, input and settings is skipped unless `overwrite`; our own picks of
    other settings, or of what lay in the same place before, are replaced.

    Raises:
        OutputError: there are picks that we did not make, that were edited since, or of an input in another place, and
            `overwrite` is not set.
        TomopickError: the run cannot be read.
    """
    options = picker.options
    homeless = check_objects(picker, project)
    output = Output(project, run, Path(out), options.user_id, options.session_id, picker.objects)
    mark = {"fingerprint": picker.fingerprint(), **_input_mark(project, run, options.tomo_type)}
    before = output.record()
    found: list[str] = []
    if not overwrite:
        same = all(before.get(k) == v for k, v in mark.items())
        if output.check_ours(before, mark["place"]) and before.get("status") == "picked":
            if same:
                return RunResult(run, "skipped", before["counts"], 0.0)
            found.append("picks made before with another model, input or settings are replaced")
    began = time.perf_counter()
    tomogram = project.tomogram(run, options.tomo_type)
    # From here on what lies there is ours, even if we are cut off before the end.
    output.write_record({**mark, "status": "started"})
    with HeatmapFiles(output) as files, bar(1, run, "tile") as shown:
        picks, unlike = picker.pick(tomogram, _shower(shown), files.add if options.save_heatmaps else None)
        files.finish()
    found += unlike
    if homeless:
        found.append(f"not written, for the project does not define it: {', '.join(homeless)}")
        picks = picks.select(~np.isin(picks.names, homeless))
    output.write_picks(picks)
    seconds = time.perf_counter() - began
    result = RunResult(run, "picked", picker.counts(picks), seconds, tuple(found))
    names = [d.name for d in picker.detectors]
    facts = {"models": names, "thresholds": picker.thresholds, "settings": options.settings()}
    done = {"status": "picked", "counts": dict(result.counts), "seconds": seconds, "messages": found}
    output.write_record({**mark, **done, **facts, "output": output.digest()})
    return result


def _input_mark(project: Project, run: str, tomo_type: str | None) -> dict[str, str]:
    """Its place, and what changes with whatever else of it decides the picks: contents, grid, coordinate offset."""
    place, contents = project.stamp(run, tomo_type)
    grid = project.grid(run, tomo_type)
    shift = project.stated(Picks(run, np.zeros((1, 3)), np.array(["-"]))).positions[0]
    shape = "x".join(map(str, grid.shape))
    facts = f"{contents} {shape} {grid.voxel_spacing:.4f} {','.join(f'{v:.3f}' for v in shift)}"
    return {"place": place, "input": facts}


def pick_runs(
    picker: Picker, project: Project, runs: Sequence[str], out: str | Path, overwrite: bool = False
) -> Iterator[RunResult]:
    """Picks run after run; one that fails is reported as such and the others go on."""
    for run in runs:
        output = Output(project, run, Path(out), picker.options.user_id, picker.options.session_id)
        trace = output.records / f"{run}.error.txt"
        try:
            yield pick_run(picker, project, run, out, overwrite)
            trace.unlink(missing_ok=True)
        except TomopickError as error:
            yield RunResult(run, "failed", messages=(str(error),))
        except Exception as error:
            # One bad file among thousands must not end the others; the trace is kept for whoever looks into it.
            text = traceback.format_exc()
            reason = (str(error).splitlines() or [""])[0]
            where = f" (see {trace})" if _keep(trace, text) else ""
            yield RunResult(run, "failed", messages=(f"run {run}: {type(error).__name__}: {reason}{where}",))


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
