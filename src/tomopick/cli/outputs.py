"""What a verb is told to write, and under whose name: looked at before anything is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ..core.files import require_writable


class _Out(click.Path):
    """A place to write to; one where nothing can be written is refused at once."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        require_writable(Path(os.fsdecode(path)))
        return path


OUT = _Out(path_type=Path)
OUT_TEXT = _Out()  # as it was typed: a slash at its end says that it is a folder


def identified(_ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A user or session that copick takes as it is."""
    if value is not None and not _ctx.resilient_parsing:
        from ..data.choose import require_id

        require_id(value, (param.name or "").removesuffix("_id"))
    return value
