"""`train` on several devices: the ranks of one training, or the trainings of a plan side by side."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..core.errors import TomopickError
from ..core.shards import Shard
from .grounds import fit_options, grounds_of
from .maps import with_simulated
from .on import PROGRAM, without_options
from .options import say


def named_devices(choices: dict[str, Any], shard: Shard | None) -> list[str]:
    """The devices that were named; `device` of the choices becomes the one for this process."""
    from ..picking.fleet import devices_of
    from ..training.rank_processes import device_here, rank_here

    devices = devices_of(choices["device"], 0)
    if rank_here() is None:
        choices["device"] = devices[0]
        if len(devices) > 1 and shard is not None:
            raise TomopickError("--shard is one of several parts, each on a device of its own; name one with --device")
        return devices
    choices["device"] = device_here(devices)
    return [choices["device"]]


def follow(method: Any, projects: list[str], out: Path, learn: list[str] | None, choices: dict[str, Any]) -> None:
    """A rank that does not lead: it learns, and neither writes nor tells."""
    from ..training.fit import fit
    from ..training.rank_processes import among_ranks
    from ..training.ranks import RankLost

    logging.getLogger("tomopick").setLevel(logging.CRITICAL)
    try:
        with among_ranks(choices["device"]) as ranks:
            ranks.says(True)  # after what was to be simulated first
            projects, learn = with_simulated(projects, out, learn, choices)
            options = replace(fit_options(choices, learn), ranks=ranks)
            if not choices["dry_run"]:
                fit(method, grounds_of(projects, choices, options.objects).sources, out, options)
    except RankLost:
        sys.exit(2)  # of which rank 0 tells


@contextmanager
def led(devices: list[str], options: Any) -> Iterator[Any]:
    """The options with the ranks of a training on several devices, which repeat this command."""
    if len(devices) == 1:
        yield options
        return
    from ..networks.engines import choose_device
    from ..training.rank_processes import leading

    for device in devices:
        choose_device(device)
    arguments = click.get_current_context().meta["tomopick.arguments"]
    with leading(devices, [*PROGRAM, "train", *arguments]) as ranks:
        say(f"{len(devices)} processes share every batch: {', '.join(devices)}")
        yield replace(options, ranks=ranks)


def side_by_side(plan: Any, grounds: Any, out: Path, options: Any, devices: list[str]) -> Any:
    """The trainings of a plan, one at a time on each device, and then what is made of them."""
    from ..recipes.as_published import begin_parts, carry_out, left_of
    from ..recipes.side_by_side import train_parts

    left = left_of(plan, out)
    if left is None:
        say(f"{plan.name}: its trainings follow one another, on {devices[0]} alone")
        return carry_out(plan, grounds, out, options)
    begin_parts(plan, grounds, out, options)
    context = click.get_current_context()
    kept = without_options(context.command, context.meta["tomopick.arguments"], {"device", "resume", "shard"})

    def command(part: int, device: str) -> list[str]:
        return [*PROGRAM, "train", *kept, "--shard", f"{part}/{left.of}", "--device", device]

    for parts in (left.pretraining, left.members):
        train_parts(parts, devices, command)
    return carry_out(plan, grounds, out, replace(options, resume=True))
