"""How far trainings are: read from their folders, whoever is at work there and wherever."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ..core.claims import owner_of
from ..core.errors import ModelError
from ..picking.folder import PLAN, read_log, read_record

State = Literal["finished", "running", "interrupted", "missing"]
FINISHED: Final = "finished"
RUNNING: Final = "running"
INTERRUPTED: Final = "interrupted"
MISSING: Final = "missing"


@dataclass(frozen=True)
class TrainingStanding:
    """How far one training is.

    Attributes:
        name: of the training.
        state: `finished`, `running`, `interrupted` or, where nobody has begun it, `missing`.
        step: that was taken last.
        steps: that it is to take.
        since: when the last step was noted [s since 1970]; 0 where none was.
        seconds_left: at the pace of a training that is running, which includes pauses; None where it cannot be told.
    """

    name: str
    state: State
    step: int = 0
    steps: int = 0
    since: float = 0.0
    seconds_left: float | None = None


@dataclass(frozen=True)
class PlanStanding:
    """How far the trainings in a folder are.

    Attributes:
        trainings: one by one.
        is_whole: whether there is the model that they make.
    """

    trainings: tuple[TrainingStanding, ...]
    is_whole: bool

    @property
    def left(self) -> int:
        """Trainings that are not finished, or their ensemble."""
        return sum(t.state != FINISHED for t in self.trainings) or int(not self.is_whole)


def is_training(out: Path) -> bool:
    """Whether something was trained in a folder, or is."""
    return any((out / name).is_file() for name in (PLAN, "recipe.json"))


def plan_standing(out: Path) -> PlanStanding:
    """How far the training of a folder is, or those of its plan.

    Raises:
        ModelError: what was begun there cannot be read.
    """
    if not (out / PLAN).is_file():
        one = _training(out, out.name, _steps(read_record(out / "recipe.json"), out / "recipe.json"))
        return PlanStanding((one,), one.state == FINISHED)
    plan = read_record(out / PLAN).get("plan")
    rows = plan.get("trainings") if isinstance(plan, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(r, Mapping) and isinstance(r.get("name"), str) for r in rows):
        raise ModelError(f"{out / PLAN}: names no trainings; expected what train writes")
    found = []
    for row in rows:
        folder = out / row["name"] if row.get("simulated") else out / "members" / row["name"]
        found.append(_training(folder, row["name"], _steps(row.get("recipe"), out / PLAN)))
    return PlanStanding(tuple(found), (out / "ensemble.json").is_file())


def _training(folder: Path, name: str, steps: int) -> TrainingStanding:
    if (folder / "detector.json").is_file():
        return TrainingStanding(name, FINISHED, steps, steps)
    record, log = folder / "recipe.json", folder / "log.jsonl"
    owner, begun = owner_of(folder), record.is_file()
    if not begun:
        return TrainingStanding(name, RUNNING if owner else MISSING, 0, steps)
    steps = _steps(read_record(record), record)  # the time that it may take decides, where one was given
    rows = read_log(log)
    step = rows[-1]["step"] if rows else 0
    at = (log if rows else record).stat().st_mtime
    if owner is None:
        return TrainingStanding(name, INTERRUPTED, step, steps, at)
    spent = at - record.stat().st_mtime
    left = spent / step * (steps - step) - (time.time() - at) if step and spent > 0 else None
    return TrainingStanding(name, RUNNING, step, steps, at, None if left is None else max(left, 0.0))


def _steps(recipe: Any, path: Path) -> int:
    train = recipe.get("train") if isinstance(recipe, Mapping) else None
    steps = train.get("steps") if isinstance(train, Mapping) else None
    if not isinstance(steps, int) or isinstance(steps, bool):
        raise ModelError(f"{path}: does not say how many steps there are; expected what train writes")
    return steps
