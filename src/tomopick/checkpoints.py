"""What a training keeps on disk besides the finished model: best, top and last weights, and the log."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import save

from .io.atomic import atomic_folder, atomic_write
from .train import TrainState


def keep_weights(state: TrainState, score: float, out: Path, keep_top: int) -> None:
    """Weights of the best validations: `best/` and, by step, `top/`."""
    data = save({k: v.detach().cpu().contiguous() for k, v in state.averages["ema"].tensors.items()})
    top = [tuple(t) for t in state.notes.get("top", [])]
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
        state.notes["best"] = [score, state.step]
        with atomic_write(out / "best" / "weights.safetensors", binary=True) as file:
            file.write(data)


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
    rows = [line for line in path.read_text().splitlines() if line and json.loads(line)["step"] <= step]
    with atomic_write(path) as file:
        file.write("".join(f"{row}\n" for row in rows))
