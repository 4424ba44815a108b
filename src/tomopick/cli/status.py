"""The verb that watches a batch: status."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from ..core.messages import counted, listing
from .flags import with_flags
from .options import echo

_BETWEEN = 5.0  # looks of --watch [s]
_SHOWN = 8  # reasons


@click.command("status")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--watch", is_flag=True, help="Look again every few seconds until all is done.")
@click.option("--failed", "failed_only", is_flag=True, help="The names of failed runs alone, one a line.")
def status_command(out: Path, watch: bool, failed_only: bool) -> None:
    """Say how far the batch is that `pick` writes into OUT: picked, failed and why, missing; rate and time left.

    It may run anywhere that sees OUT, while any number of processes work there. The exit code is 0 when every run is
    picked, else 1.

    \b
    Examples:
      tomopick status picks/ --watch
      tomopick status picks/ --failed > again.txt; tomopick pick default tomograms/ --out picks/ --runs @again.txt
    """
    from ..core.records import Records
    from ..picking.standing import records_at, standing

    records = Records(records_at(out))
    shown = ""
    while True:
        state = standing(records)
        text = "\n".join(state.failed) if failed_only else "\n".join(_lines(state))
        if text != shown and (text or not failed_only):
            if watch and sys.stdout.isatty():
                click.clear()
            echo(with_flags(text, "pick"))
        shown = text
        if not watch or not state.left:
            sys.exit(0 if state.is_whole else 1)
        time.sleep(_BETWEEN)


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
