"""tomopick in copick's own command line: `copick inference|training|evaluation tomopick -c copick.json ...`.

copick loads every plugin when it starts, so this module imports nothing heavy: the verbs are tomopick's own, with the
project taken from copick's `-c` (or COPICK_CONFIG), and their work begins when they are called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from ..core.errors import TomopickError
from . import main
from .on import OnCommand
from .options import plain_log, say

# A copick project states its voxel spacings and objects itself.
_STATED = {"voxel_spacing": None, "objects": ()}


def _command(verb: str, summary: str, example: str, fill: Callable[[str, dict[str, Any]], dict[str, Any]]) -> Any:
    """A verb of tomopick's under copick's conventions.

    Args:
        verb: of `tomopick`.
        summary: first line of the help.
        example: of use.
        fill: configuration and the options given -> the arguments of the verb.
    """
    original = main.commands[verb]
    config = click.Option(
        ["-c", "--config"], required=True, envvar="COPICK_CONFIG", show_envvar=True, metavar="PATH",
        type=click.Path(exists=True, dir_okay=False), help="Path to the configuration file.",
    )  # fmt: skip
    # Handing work to a scheduler repeats tomopick's own command line, which this is not.
    elsewhere = ("on", "dry_run") if isinstance(original, OnCommand) and not original.looks_ahead else ("on",)
    options = [p for p in original.params if isinstance(p, click.Option) and p.name not in {*_STATED, *elsewhere}]

    def run(config: str, **given: Any) -> None:
        assert original.callback is not None
        # The verb's own name, for the flags that are its own.
        inner = click.Context(original, parent=click.get_current_context(), info_name=verb)
        with inner, plain_log(verb_of=lambda: verb):
            try:
                original.callback(**fill(config, {**_STATED, **given}))
            except TomopickError as error:
                say(f"error: {' '.join(str(error).splitlines())}")
                sys.exit(2)

    text = f"{summary}\n\n\b\nExample:\n  {example}\n\nSource: `tomopick {verb}`; see tomopick {verb} --help."
    return click.Command(
        "tomopick", params=[config, *_arguments(verb), *options], callback=run, help=text, short_help=summary
    )


def _arguments(verb: str) -> list[click.Parameter]:
    if verb == "pick":
        return [click.Argument(["model"], nargs=-1, required=True)]
    if verb == "train":
        return [
            click.Argument(["recipe"]),
            click.Argument(["out"]),
            click.Argument(["overrides"], nargs=-1, metavar="[section.field=value ...]"),
        ]
    return []


def _train(config: str, given: dict[str, Any]) -> dict[str, Any]:
    out, overrides = given.pop("out"), given.pop("overrides")
    return {**given, "arguments": (config, out, *overrides)}


def _evaluate(config: str, given: dict[str, Any]) -> dict[str, Any]:
    if not given.get("picks") or not given.get("truth"):
        raise TomopickError("--picks and --truth are both needed: nothing else tells the picks of one project apart")
    return {**given, "candidates": config, "truth_place": config}


def _pick(config: str, given: dict[str, Any]) -> dict[str, Any]:
    models = given.pop("model")
    return {**given, "arguments": (*models, config)}


evaluation = _command(
    "evaluate",
    "Score picks of one user and session against those of another.",
    "copick evaluation tomopick -c copick.json --picks '*:tomopick/1' --truth '*:curator/0'",
    _evaluate,
)
inference = _command(
    "pick",
    "Pick particles with tomopick's models (folders or shipped names); several are averaged.",
    "copick inference tomopick -c copick.json default --tomo-type denoised --out records/",
    _pick,
)
training = _command(
    "train",
    "Train a tomopick RECIPE on a project's picks and write the model folder OUT.",
    "copick training tomopick -c copick.json bpd model/ --picks '*:curator/0' train.lr=3e-4",
    _train,
)
