"""`train --on`: one job, or of a plan of several trainings the jobs that follow one another."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ..core.errors import OutputError, TomopickError
from ..core.files import require_writable
from ..core.messages import listing
from . import early
from .grounds import asked_plan, fit_options, grounds_of, is_planned
from .on import Stage, Work
from .options import without_overrides
from .schedulers import MORE

# Options of `train` that an evaluation on the first project's runs understands, and their names there.
_OF_BOTH = {
    "tomo_type": "--tomo-type", "picks": "--truth", "voxel_spacing": "--voxel-spacing", "objects": "--object",
    "regions": "--region", "labelled_in": "--labelled-in", "coordinate_offset": "--coordinate-offset",
}  # fmt: skip


def train_places(
    recipe: str, arguments: tuple[str, ...], *, maps: tuple[str, ...], as_published: bool, unlabelled: tuple[str, ...],
    pretrain: str | None, like: str | None, init_from: str, **_: Any,
) -> tuple[list[str], str, list[str]]:  # fmt: skip
    """The projects, OUT and the settings, after a look at what can be mistyped: nothing heavy is loaded for it."""
    places, overrides = without_overrides(arguments)
    if len(places) < 2 and not (maps and places):
        raise TomopickError("train needs at least one PROJECT and the folder OUT, in this order; see train --help")
    *projects, out = places
    # A recipe that learns from maps has other augmentations.
    plain = [text for text in overrides if not (maps and text.startswith("augment."))]
    early.require_recipe(recipe, plain, as_published)
    require_writable(out)
    early.require_places([*projects, *unlabelled, pretrain, like])
    early.require_models([init_from] if init_from else [])
    return projects, out, overrides


def train_work(
    recipe: str, arguments: tuple[str, ...], learn: list[str] | None, resume: bool, maps: tuple[str, ...] = (),
    **choices: Any,
) -> Work:  # fmt: skip
    """One task, which goes on with what an earlier turn has left; or stages, where several trainings are asked for."""
    projects, last, overrides = train_places(recipe, arguments, maps=maps, **choices)
    out = Path(last)
    if is_planned(choices) and not maps:
        given = {**choices, "learn": learn, "resume": resume}
        work = _staged(recipe, overrides, projects, out, given)
        if work is not None:
            return work
    if resume:
        return Work(out)
    place = shlex.quote(str(out.absolute()))
    # What a plan of one member starts from lies beside it.
    looks = f"ls -A {place} 2> /dev/null" + (f"; ls -d {place}-pretrained* 2> /dev/null" if choices["pretrain"] else "")
    return Work(out, more=(MORE,), before=f'more=(); if [ -n "$({looks})" ]; then more=(--resume); fi\n')


def _staged(recipe: str, overrides: list[str], projects: list[str], out: Path, choices: dict[str, Any]) -> Work | None:
    """What is left of a plan: pretraining, members, their ensemble, its evaluation; None of a single training."""
    from ..recipes.as_published import begin_parts, left_of
    from ..recipes.shares import unseen_runs

    options = fit_options(choices, choices["learn"])
    grounds = grounds_of(projects, choices, choices["learn"])
    plan = asked_plan(recipe, overrides, grounds, options, choices)
    left = left_of(plan, out)
    if left is None:
        return None
    unseen = unseen_runs(plan, grounds, options)
    stages = []
    if left.pretraining:
        stages.append(Stage("pretraining", left.pretraining, left.of))
    if left.members:
        stages.append(Stage("members", left.members, left.of))
    if left.ensemble:
        stages.append(Stage("ensemble", more=("--resume",)))
        if unseen:
            words = _first(projects[0], unseen, choices)
            stages.append(Stage("evaluation", instead=("evaluate", str(out), *words)))
        note = "" if unseen else "an evaluation on runs that it has not learned from may follow: after={after}"
    else:
        note = f"{out}: all is trained and put together; there is nothing to submit"

    def prepare() -> None:
        begin_parts(plan, grounds, out, options)
        _refuse_at_work(out)

    return Work(
        out,
        prepare=prepare,
        stages=tuple(stages),
        done=frozenset({"shard", "resume"}),
        note=note,
    )


def _refuse_at_work(out: Path) -> None:
    """Raises where jobs of an earlier submission are at work: tasks beside them would fail, and with them the rest."""
    from ..core.claims import owner_of
    from ..recipes.standing import RUNNING, plan_standing

    names = [t.name for t in plan_standing(out).trainings if t.state == RUNNING]
    if names or owner_of(out):
        what = listing(names) or "the ensemble"
        raise OutputError(f"{out}: {what}: another process is at it; wait for its end, or cancel its job, and repeat")


def _first(project: str, runs: list[str], choices: dict[str, Any]) -> list[str]:
    """Arguments of an evaluation on runs of the first project, read as it was to train."""
    # Once, or once a project; of several types with commas the first is what is validated on.
    given = {name: choices[name][:1] for name in ("tomo_type", "picks", "coordinate_offset")}
    given["tomo_type"] = [kinds.split(",")[0] for kinds in given["tomo_type"]]
    given["regions"] = [region for region in choices["regions"] if region.partition("=")[0] in runs]
    given["voxel_spacing"] = [] if choices["voxel_spacing"] is None else [f"{choices['voxel_spacing']:g}"]
    words = [project, "--runs", ",".join(runs), "--device", choices["device"]]
    for name, flag in _OF_BOTH.items():
        for value in given.get(name, choices[name]):
            words += [flag, value]
    if choices["learn"]:
        words += ["--objects", ",".join(choices["learn"])]
    return [*words, *(["--drop-outside"] if choices["drop_outside"] else [])]
