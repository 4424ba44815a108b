"""What a training keeps on disk besides the finished model: best, top and last weights, and the log."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ..core.errors import OutputError, RecipeError
from ..core.files import atomic_folder, atomic_write, hidden, remove, sweep
from ..picking.detector import Detector
from ..picking.folder import read_log
from .loop import StepReport, TrainSpec, TrainState, require_finite

FIRST = 16  # steps of a training whose losses are fetched one by one
GATHERED = 16  # afterwards, on a GPU


def keep_weights(state: TrainState, score: float, out: Path, keep_top: int, detector: Detector | None = None) -> None:
    """Weights of the best validations: `best/` and, by step, `top/`.

    Args:
        state: of the training.
        score: of its averaged weights.
        out: the model folder.
        keep_top: how many are kept in `top/`.
        detector: with thresholds of these weights; then `best/` is a model folder.
    """
    data = save({k: v.detach().cpu().contiguous() for k, v in state.averages["ema"].tensors.items()})
    top = [(kept, step) for kept, step in state.notes.get("top", [])]
    top = sorted([*top, (score, state.step)], reverse=True)
    for _, step in top[keep_top:]:
        (out / "top" / f"{step}.safetensors").unlink(missing_ok=True)
    top = top[:keep_top]
    state.notes["top"] = top
    if (score, state.step) in top:
        with atomic_write(out / "top" / f"{state.step}.safetensors", binary=True) as file:
            file.write(data)
    best = state.notes.get("best")
    # A tie goes to the later weights: they have seen more.
    if best is None or score >= best[0]:
        state.notes["best"] = (score, state.step)
        if detector is None:
            with atomic_write(out / "best" / "weights.safetensors", binary=True) as file:
                file.write(data)
        else:
            keep_best(detector, state, out / "best")


def keep_best(detector: Detector, state: TrainState, best: Path) -> None:
    """A whole model folder of the averaged weights, in place of the one before."""
    network = detector.method.network.build(len(detector.objects))
    network.load_state_dict(state.averages["ema"].tensors)
    known = {**detector.facts.provenance, "step": state.step}
    model = replace(detector, network=network, facts=replace(detector.facts, provenance=known))
    new = best.with_name("best.new")
    shutil.rmtree(new, ignore_errors=True)
    with atomic_folder(new) as folder:
        model.save(folder)
    _take_place(new, best)


def _take_place(new: Path, old: Path) -> None:
    """Puts a whole folder where another is, which is never half there: it goes under a hidden name first."""
    aside = hidden(old)
    try:
        if old.is_dir():
            old.rename(aside)
        new.rename(old)
    finally:
        remove(aside)


def stale(state: TrainState) -> int:
    """Validations since the one with the best score."""
    scores = list(state.notes.get("scores", ()))
    best = max(scores, default=0.0)
    # A tie goes to the later weights, as in `keep_weights`.
    return 0 if not scores else len(scores) - 1 - max(i for i, s in enumerate(scores) if s >= best)


def last_state(out: Path) -> Path | None:
    """The state to resume from; None where none was saved yet."""
    old, new = out / "last", out / "last.new"
    sweep(out, again=True)
    if not (out / "best").is_dir() and (out / "best.new").is_dir():
        (out / "best.new").rename(out / "best")
    if not old.is_dir() and new.is_dir():  # cut off between the removal of one and the renaming of the other
        new.rename(old)
    return old if old.is_dir() else None


def save_last(state: TrainState, out: Path) -> None:
    """Replaces `last/` so that an interruption at any moment leaves a whole one."""
    old, new = out / "last", out / "last.new"
    shutil.rmtree(new, ignore_errors=True)
    with atomic_folder(new) as folder:
        state.save(folder)
    _take_place(new, old)


def cut_log(path: Path, step: int) -> None:
    """Drops the rows of steps that were taken after the last save and will be taken again."""
    rows = read_log(path)
    with atomic_write(path) as file:
        file.write("".join(f"{json.dumps(row)}\n" for row in rows if row["step"] <= step))


class StepLog:
    """Rows of the log, whose losses are fetched from the device together: each asked for alone would be waited for.

    Args:
        path: of the log; None: nothing is written.
        spec: of the training.
        at_once: rows that are held at most.
    """

    def __init__(self, path: Path | None, spec: TrainSpec, at_once: int):
        self.path, self.spec, self.at_once = path, spec, at_once
        self.loss = math.nan  # the last that is known
        self._seen = 0
        self._rows: list[tuple[dict[str, Any], torch.Tensor | float]] = []

    def add(self, row: dict[str, Any], report: StepReport) -> None:
        """Takes a row in, whose loss may not be known yet."""
        self._rows.append((row, report.value))
        self._seen += 1

    def due(self) -> bool:
        """Whether enough are held; of the first steps, which are timed, each is."""
        return len(self._rows) >= (1 if self._seen <= FIRST else self.at_once)

    def fetch(self) -> None:
        """Puts the losses into the rows that are held.

        Raises:
            RecipeError: one is no number.
        """
        on_device = [value for _, value in self._rows if isinstance(value, torch.Tensor)]
        known = iter(torch.stack(on_device).tolist() if on_device else ())
        self._rows = [(row, next(known) if isinstance(value, torch.Tensor) else value) for row, value in self._rows]
        for row, value in self._rows:
            row["loss"] = self.loss = require_finite(float(value), row["step"], self.spec)

    def write(self, lasting: bool = False) -> None:
        """Appends the rows that are held to the log; `lasting`: they are on the disk then, as a saved state needs."""
        if self.path is not None:
            append_log(self.path, [row for row, _ in self._rows], lasting)
        self._rows = []

    def close(self) -> None:
        """Fetches and writes what is held, as far as it can be."""
        with suppress(RecipeError):
            self.fetch()
            self.write()


def append_log(path: Path, rows: Iterable[Mapping[str, Any]], lasting: bool = False) -> None:
    """More rows; `lasting`: until they are on the disk.

    Raises:
        OutputError: the disk refuses.
    """
    try:
        with path.open("a", encoding="utf-8") as log:
            log.writelines(json.dumps(row) + "\n" for row in rows)
            if lasting:
                log.flush()
                os.fsync(log.fileno())
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); make room and go on with `resume`"
        ) from None
