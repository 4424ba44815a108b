"""Options and ways of reading them that several verbs share."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import click

from ..core.errors import TomopickError
from ..core.messages import counted, near_miss
from ..core.names import plain_line
from ..core.progress import MOST_MINUTES, on_terminal
from ..core.shards import Shard
from ..core.text import read_text
from . import early
from .flags import with_flags


class _Finite(click.FloatRange):
    """A finite number of a range; click's own lets NaN pass, and infinity where there is no end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


POSITIVE = _Finite(min=0, min_open=True)
MINUTES = _Finite(min=0, min_open=True, max=MOST_MINUTES)
FINITE = _Finite()
UP_TO_ONE = _Finite(min=0, max=1)

# What options say of themselves that many verbs have.
AS = "The object that all picks of a file are of, where it does not say."
DEVICE = "Where to compute: auto (a GPU where there is one, else the CPU), cpu, cuda, cuda:1, mps."
DROP = "Leave out picks that lie outside their tomogram; without it they are an error."
OBJECT = "An object and the radius of its particles in Å (half the diameter); repeatable."
OFFSET = (
    "Where the data set centres its voxels, in voxels off index x voxel size; czii: half a voxel, as the challenge."
)
VOXEL_SIZE = "Voxel size in Å, in place of the one in the file's header."
TYPE = "The kind of tomogram to read, where runs have several: wbp, denoised@10 (Å a voxel). Default: the only one."
USER = "User that picks are written under in a copick project."


_quiet: ContextVar[bool] = ContextVar("quiet", default=False)  # whether a verb says only what is wrong


def visible(text: str) -> str:
    """The text with whatever a terminal would obey made visible; names of others may hold anything."""
    return "\n".join(map(plain_line, text.split("\n")))


def echo(text: object) -> None:
    """A result, on standard output."""
    click.echo(visible(str(text)))


def say(line: str) -> None:
    """One line on standard error with the flags of its fields, a remark only where it is not quiet.

    It stays one whatever names are in it. Standard output is for results.
    """
    if _quiet.get() and not line.startswith(("error:", "warning:")):
        return
    line = plain_line(with_flags(line))
    if "tqdm" in sys.modules and on_terminal():
        # Above a progress bar that may be there, not into it.
        sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
    else:
        click.echo(line, err=True)


@contextmanager
def plain_log(quiet: bool = False, verb_of: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """What the library tells as plain lines while a verb runs (copick sets up a log of its own, in columns).

    Args:
        quiet: warnings alone.
        verb_of: gives the verb, whose flags are named.
    """
    log, handler = logging.getLogger("tomopick"), _Lines(verb_of)
    before = log.propagate, log.level
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    token = _quiet.set(quiet)
    try:
        yield
    finally:
        _quiet.reset(token)
        log.removeHandler(handler)
        log.propagate = before[0]
        log.setLevel(before[1])


class _Lines(logging.Handler):
    def __init__(self, verb_of: Callable[[], str | None]) -> None:
        super().__init__()
        self.verb_of = verb_of

    def emit(self, record: logging.LogRecord) -> None:
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        # Threads that tell something have no context of their own.
        say(with_flags(f"{level}{record.getMessage()}", self.verb_of()))


ALL_RUNS = "*"


class InvertCommand(click.Command):
    """A verb whose `--invert` stands alone for all runs, or before the names of some."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What follows `--invert` names runs, unless it is another option, an override, a path, or a model."""
        spelled: list[str] = []
        for word, before in zip(args, ["", *args]):
            if before == "--invert" and not _stands_for_itself(word):
                spelled[-1] = f"--invert={word}"
            else:
                spelled.append(word)
        spelled = [f"--invert={ALL_RUNS}" if word == "--invert" else word for word in spelled]
        return super().parse_args(ctx, spelled)


def _stands_for_itself(word: str) -> bool:
    from ..picking.folder import is_model

    return word.startswith("-") or "=" in word or Path(word).exists() or is_model(word)


def inverted_runs(ctx: click.Context, param: click.Parameter, value: str | None) -> bool | tuple[str, ...]:
    """`--invert` -> True for all runs, False for none, or the names of some."""
    if value is None or value == ALL_RUNS:
        return value is not None
    return tuple(run_names(ctx, param, value) or ())


def invert_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--invert [RUN,...]`, of an `InvertCommand`."""
    return click.option(
        "--invert", callback=inverted_runs, metavar="[RUN,...]",
        help="Tomograms with light particles on dark: all, or those of the named runs (or @FILE of them).",
    )(command)  # fmt: skip


def comma(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str] | None:
    """`a,b` -> the parts; None where the option is not given."""
    return None if value is None else [part.strip() for part in value.split(",") if part.strip()]


device_option = click.option("--device", default="auto", show_default=True, callback=early.one_device, help=DEVICE)

tta_option = click.option(
    "--tta",
    "views",
    type=click.Choice(["none", "opposite", "flips", "mirrors", "turns", "all"]),
    help="Average over 1 (none), 2 (opposite: all axes at once), 4 (flips; or mirrors, in the xy plane alone), "
    "7 (turns: flips and quarter turns) or 8 (all: whatever flips give together) views of a tomogram: surer picks, "
    "that many times slower. Default: as the method says.",
)


def run_names(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    """`a,b`, or the lines of a file as `@FILE`; None where the option is not given."""
    if value is None or not value.startswith("@"):
        return comma(ctx, param, value)
    lines = read_text(Path(value[1:]), "a run's name a line").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _shard(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Shard | None:
    return None if value is None else Shard.parse(value)


def shard_option(things: str) -> Callable[[Any], Any]:
    """`--shard I/N`: a fixed part of what the verb works on."""
    return click.option(
        "--shard",
        callback=_shard,
        metavar="I/N|auto",
        help=f"The I-th of N parts of the {things}; auto: as the scheduler's array of jobs says (see docs/cluster.md).",
    )


def pairs(_ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, float]:
    """Several `object=value` -> values by object."""
    found: dict[str, float] = {}
    for text in value:
        name, equals, number = text.partition("=")
        if name in found:
            raise click.BadParameter(f"'{text}': there is {name}={found[name]:g} before; give one.", param=param)
        try:
            found[name] = float(number)
        except ValueError:
            equals = ""
        if equals and not math.isfinite(found[name]):
            raise click.BadParameter(f"'{text}' is no finite number.", param=param)
        if not equals:
            raise click.BadParameter(f"'{text}' is not object=value, for example ribosome=0.4", param=param)
    return found


def scores(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> float | dict[str, float] | None:
    """`0.3`, several `object=value`, or both -> one score, or scores by object with `*` for all others; None: none."""
    plain = [text for text in value if "=" not in text]
    own = pairs(ctx, param, tuple(text for text in value if "=" in text))
    if not plain:
        return own or None
    if len(plain) > 1:
        raise click.BadParameter(f"'{plain[1]}': there is {plain[0]} before; give one for all objects.", param=param)
    try:
        (every,) = numbers(ctx, param, plain[0]) or ()
    except (click.BadParameter, ValueError):
        raise click.BadParameter(
            f"'{plain[0]}' is neither a score nor object=value, for example 0.3 or ribosome=0.4", param=param
        ) from None
    return {"*": every, **own} if own else every


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


def counts(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """`6,12` -> the numbers, each at least 1; None where the option is not given."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"'{value}' are no numbers of 1 or more with commas between", param=_param)
    return tuple(dict.fromkeys(int(part) for part in parts))


objects_option = click.option("--object", "objects", multiple=True, callback=early.objects, metavar="NAME:RADIUS",
                              help=OBJECT)  # fmt: skip


def _opening_options(offset: Any) -> Callable[[Any], Any]:
    def add(command: Any) -> Any:
        for option in (
            click.option("--voxel-spacing", type=POSITIVE, help=VOXEL_SIZE),
            objects_option,
            offset,
        ):
            command = option(command)
        return command

    return add


# What every verb that reads a project understands, and one that reads several: each takes what it can.
project_options = _opening_options(
    click.option("--coordinate-offset", default="none", show_default=True, metavar="none|czii|Z,Y,X",
                 help=OFFSET)
)  # fmt: skip
projects_options = _opening_options(
    click.option("--coordinate-offset", multiple=True, metavar="none|czii|Z,Y,X",
                 help=f"{OFFSET} Once, or once a PROJECT. Default: none.")
)  # fmt: skip


# Where runs are labelled: arguments of `open_project`.
WHERE_LABELLED = ("regions", "labelled_in")


all_labelled_option = click.option(
    "--all-labelled",
    is_flag=True,
    help="Picks that fill only a part of their run are all that there is to find there: do not ask.",
)


def labelled_options(command: Any) -> Any:
    """What verbs understand that learn from true picks or measure on them."""
    for option in (
        click.option("--labelled-in", multiple=True, metavar="MASK",
                     help="The same as a mask: a volume, a folder of RUN.mrc, or a copick segmentation "
                     "NAME:user/session."),
        click.option("--region", "regions", multiple=True, callback=early.regions, metavar="RUN=z0:z1,y0:y1,x0:x1",
                     help="The part of a run that is labelled, in voxels, or with A behind in Å (TS_1=:,0:1290A,:); "
                     "what lies outside is neither learned from nor scored. Also as regions.csv beside the volumes."),
    ):  # fmt: skip
        command = option(command)
    return command


# How files of other programs are read, by whoever reads them: fields of `ImportOptions`.
FOREIGN = ("tomograms_star", "pixel_size", "names", "index_map")


def foreign_options(command: Any) -> Any:
    """What verbs that read other programs' files understand."""
    file = click.Path(path_type=Path)
    for option in (
        click.option("--index-map", type=file,
                     help="A text file with a line 'number name' for each tomogram, for formats that number them "
                     "(Dynamo)."),
        click.option("--names", type=file, metavar="FILE",
                     help="A text file with a line 'NAME RUN' for each run that the files call by another name."),
        click.option("--tilt-series-pixel-size", "--pixel-size", "pixel_size", type=POSITIVE,
                     help="Pixel size in Å that the file's coordinates count in, in place of the one that it states."),
        click.option("--tomograms-star", type=file,
                     help="RELION's tomograms.star, for the sizes and the names of its tomograms."),
    ):  # fmt: skip
        command = option(command)
    return command


def without_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments of a verb -> those that are places or names, and those that are `section.field=value`."""
    overrides = [a for a in arguments if re.match(r"[A-Za-z_][\w.-]*=", a) and not Path(a).exists()]
    return [a for a in arguments if a not in overrides], overrides


def shape_of(text: str) -> tuple[int, int, int]:
    """`z,y,x` in voxels."""
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise TomopickError(f"--shape '{text}' is not z,y,x in voxels; write for example 96,256,256") from None
    return z, y, x


def opened(place: str, project: dict[str, Any]) -> Any:
    """The project, with what the options say of it."""
    from ..data import open_project

    return open_project(place, **project)


def true_runs_of(place: str, opening: dict[str, Any], choices: dict[str, Any]) -> Any:
    """The runs of a project that are meant, and which picks of them are true; taken out of the choices."""
    from ..data.runs import Runs

    return Runs(opened(place, opening), choices.pop("runs"), choices.pop("tomo_type"), choices.pop("truth"))


def given_for(values: tuple[str, ...], i: int, n: int, flag: str) -> str | None:
    """What an option that may be given once, or once a project, says of project `i` of `n`."""
    if len(values) not in (0, 1, n):
        raise TomopickError(
            f"{flag} was given {len(values)} times for {counted(n, 'project')}; give it once"
            f"{', or once a project' if n > 1 else ''}"
        )
    return None if not values else values[i if len(values) > 1 else 0]


def named_runs(runs: list[str] | None, project: Any, projects: list[Any]) -> list[str] | None:
    """The named runs that this project has; each must be in one of them."""
    if runs is None:
        return None
    known = {run for p in projects for run in p.runs()}
    for run in runs:
        if run not in known:
            raise TomopickError(
                f"no run '{run}' in {', '.join(p.uri for p in projects)}; {near_miss(run, sorted(known))}"
            )
    mine = set(project.runs())
    return [run for run in dict.fromkeys(runs) if run in mine]
