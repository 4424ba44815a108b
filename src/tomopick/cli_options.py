"""Options and ways of reading them that several verbs share."""

from __future__ import annotations

import math
import sys
from typing import Any

import click


class _Positive(click.FloatRange):
    """A finite number above 0; click's own range lets NaN and infinity pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


POSITIVE = _Positive(min=0, min_open=True)


def say(line: str) -> None:
    """One line on standard error; standard output is for results."""
    if "tqdm" in sys.modules and sys.stderr.isatty():
        # Above a progress bar that may be there, not into it.
        sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
    else:
        click.echo(line, err=True)


def comma(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str] | None:
    """`a,b` -> the parts; None where the option is not given."""
    return None if value is None else [part.strip() for part in value.split(",") if part.strip()]


def pairs(_ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, float]:
    """Several `object=value` -> values by object."""
    found = {}
    for text in value:
        name, equals, number = text.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise click.BadParameter(f"'{text}' is not object=value, for example ribosome=0.4", param=param)
    return found


def numbers(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """`1,2.5` -> the numbers; None where the option is not given."""
    if value is None:
        return None
    try:
        found = tuple(float(part) for part in value.split(","))
        if all(map(math.isfinite, found)):
            return found
        raise ValueError
    except ValueError:
        raise click.BadParameter(f"'{value}' are no numbers with commas between", param=param) from None


def project_options(command: Any) -> Any:
    """What every verb that reads a project understands."""
    for option in (
        click.option("--voxel-spacing", type=float, help="Voxel size in Å, in place of the file header's."),
        click.option("--object", "objects", multiple=True, metavar="NAME:RADIUS", help="An object, radius in Å."),
        click.option("--coordinate-offset", default="none", show_default=True, metavar="none|czii|Z,Y,X",
                     help="Where the data set centres its voxels, in voxels."),
    ):  # fmt: skip
        command = option(command)
    return command
