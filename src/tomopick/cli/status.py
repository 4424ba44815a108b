"""The verb that watches what is at work in a folder: status."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..core.messages import counted, listing
from . import early
from .flags import with_flags
from .options import echo

_BETWEEN = 5.0  # looks of --watch [s]
_SHOWN = 8  # reasons


@click.command("status")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--watch", is_flag=True, help="Look again every few seconds until all is done.")
@click.option("--failed", "failed_only", is_flag=True, help="The names of failed runs alone, one a line.")
def status_command(out: Path, watch: bool, failed_only: bool) -> None:
    """Say how far is what `pick`, `train` or `simulate` writes into OUT: done, failed and why, missing; time left.

    It may run anywhere that sees OUT, while any number of processes work there. The exit code is 0 when all is done,
    else 1.

    \b
    Examples:
      tomopick status picks/ --watch
      tomopick status ensemble/; tomopick status sim/
      tomopick status picks/ --failed > again.txt; tomopick pick default tomograms/ --out picks/ --runs @again.txt
    """
    early.require_places([out])
    look, verb = _at_work(out)
    shown = ""
    while True:
        state = look()
        text = "\n".join(state.failed) if failed_only else "\n".join(state.lines)
        if text != shown and (text or not failed_only):
            if watch and sys.stdout.isatty():
                click.clear()
            echo(with_flags(text, verb))
        shown = text
        if not watch or not state.left:
            sys.exit(0 if state.is_whole else 1)
        time.sleep(_BETWEEN)


@dataclass(frozen=True)
class _Seen:
    """What is shown of a batch, whatever makes it."""

    lines: Sequence[str]
    left: int
    is_whole: bool
    failed: Iterable[str] = ()


def _at_work(out: Path) -> tuple[Callable[[], _Seen], str]:
    """What looks at a folder, and the verb that writes into it."""
    from ..core.errors import ReadError
    from ..picking.standing import records_at

    try:
        folder = records_at(out)
    except ReadError as error:
        from ..simulation.standing import is_simulation

        if is_simulation(out):
            return lambda: _simulated(out), "simulate"
        from ..recipes.standing import is_training

        if is_training(out):
            return lambda: _trained(out), "train"
        raise ReadError(f"{error}, or one of train or simulate") from None
    from ..core.records import Records
    from ..picking.standing import standing

    records = Records(folder)

    def picked() -> _Seen:
        state = standing(records)
        return _Seen(_lines(state), state.left, state.is_whole, state.failed)

    return picked, "pick"


def _simulated(out: Path) -> _Seen:
    from ..simulation.standing import simulation_standing

    state = simulation_standing(out)
    total = len(state.made) + len(state.missing)
    missing = f", {len(state.missing)} missing" if state.missing else ""
    lines = [f"{len(state.made)} of {counted(total, 'run')} simulated{missing}"]
    if state.missing and state.per_hour:
        lines.append(f"{state.per_hour:.0f} runs an hour" + _time_left(state.seconds_left))
    return _Seen(lines, len(state.missing), state.is_whole)


def _trained(out: Path) -> _Seen:
    from ..recipes.standing import INTERRUPTED, MISSING, RUNNING, plan_standing

    state = plan_standing(out)
    states = [t.state for t in state.trainings]
    rest = "".join(f", {states.count(s)} {s}" for s in (RUNNING, INTERRUPTED, MISSING) if s in states)
    done = states.count("finished")
    lines = [f"{done} of {counted(len(states), 'training')} finished{rest}"]
    for t in state.trainings:
        at = f"  {t.name}: step {t.step:,} of {t.steps:,}"
        if t.state == RUNNING:
            lines.append(at + _time_left(t.seconds_left))
        elif t.state == INTERRUPTED:
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(t.since))
            lines.append(f"{at}, silent since {since}; nobody works there, so repeat the command with `resume`")
    if done == len(states) and not state.is_whole:
        lines.append("not put together yet: repeat the command with `resume`")
    return _Seen(lines, state.left, state.is_whole)


def _lines(state: Any) -> list[str]:
    from ..picking.standing import reasons

    parts = {
        "failed": len(state.failed), "running": len(state.running), "silent": len(state.silent),
        "missing": len(state.missing),
    }  # fmt: skip
    rest = "".join(f", {n} {name}" for name, n in parts.items() if n)
    lines = [f"{len(state.picked)} of {counted(state.total, 'run')} picked{rest}"]
    for reason, n, run in reasons(state.failed)[:_SHOWN]:
        lines.append(f"  {n} failed: {reason}" + (f" (that is {run}; the others are alike)" if n > 1 else ""))
    if state.silent:
        run, since = min(state.silent.items(), key=lambda item: item[1])
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(since))
        lines.append(
            f"  silent since they were started, the first ({run}) at {at}: {listing(state.silent)}; whoever did has "
            "probably ended, so repeat the command"
        )
    if state.per_hour:
        lines.append(f"{state.per_hour:.0f} runs an hour" + _time_left(state.seconds_left))
    return lines


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes = max(1, round(seconds / 60))
    return f", {minutes // 60} h {minutes % 60} min left" if minutes >= 60 else f", {minutes} min left"
