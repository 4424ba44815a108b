"""What a training keeps on disk besides the finished model: best, top and last weights, and the log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from ..core.errors import OutputError
from ..core.files import atomic_folder, atomic_write, sweep
from ..picking.detector import Detector
from ..picking.folder import read_log
from .loop import TrainState


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
            _keep_best(detector, state, out / "best")


def _keep_best(detector: Detector, state: TrainState, best: Path) -> None:
    """A whole model folder of the averaged weights, in place of the one before."""
    network = detector.method.network.build(len(detector.objects))
    network.load_state_dict(state.averages["ema"].tensors)
    known = {**detector.facts.provenance, "step": state.step}
    model = replace(detector, network=network, facts=replace(detector.facts, provenance=known))
    new = best.with_name("best.new")
    shutil.rmtree(new, ignore_errors=True)
    with atomic_folder(new) as folder:
        model.save(folder)
    shutil.rmtree(best, ignore_errors=True)
    new.rename(best)


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
    shutil.rmtree(old, ignore_errors=True)
    new.rename(old)


def cut_log(path: Path, step: int) -> None:
    """Drops the rows of steps that were taken after the last save and will be taken again."""
    rows = read_log(path)
    with atomic_write(path) as file:
        file.write("".join(f"{json.dumps(row)}\n" for row in rows if row["step"] <= step))


def append_log(path: Path, row: Mapping[str, Any]) -> None:
    """One more row.

    Raises:
        OutputError: the disk refuses.
    """
    try:
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); make room and go on with `resume`"
        ) from None
