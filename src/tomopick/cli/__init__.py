"""The command line: thin verbs. Flags say where and which; `section.field=value` says what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from .. import __version__
from ..core.errors import TomopickError
from ..core.signals import Terminated, ending_cleanly
from .combine import ensemble_command, soup_command
from .convert import convert_command
from .curate import curate_command
from .export_model import export_model_command
from .files import export_command, import_command, init_command
from .flags import with_flags
from .look import doctor_command, show_command
from .mask import mask_command
from .merge import merge_command
from .options import plain_log, say
from .pick import pick_command
from .scores import calibrate_command, evaluate_command, report_command
from .simulate import demo_command, simulate_command
from .status import status_command
from .suggest import suggest_command
from .train import finish_command, recipes_command, train_command
from .view import view_command

# Before PyTorch is loaded: threads that have nothing to do sleep. By itself OpenMP has them spin, which on crowded
# cores keeps those off that have.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# In the order of work; each verb's line in `tomopick --help`.
HELP_ORDER = {
    "Start here": {
        "demo": "A simulated tomogram, picked with the shipped model, scored and drawn; needs no data.",
        "doctor": "What is wrong with tomograms and picks: voxel size, axes, contrast, offsets, names.",
        "init": "A copick configuration for a folder of tomograms, or for data sets of the portal.",
    },
    "Pick and look": {
        "pick": "Pick tomograms with a model, or with the mean of several.",
        "mask": "Mark sample, gold, carbon, membranes, for `pick` to keep to or off.",
        "status": "How far a batch of picking is, and what failed.",
        "show": "Draw sections through a tomogram, with picks.",
        "view": "Picks and a tomogram in 3D, with neuroglancer or napari.",
        "curate": "Accept, reject, correct and add picks in the browser.",
        "suggest": "Which tomograms to label next, by how unsure the models are.",
        "report": "One HTML page: sections, threshold sliders, curves, galleries.",
    },
    "Teach": {
        "recipes": "The methods, what each is good for, and their settings.",
        "simulate": "Labelled tomograms without a microscope.",
        "train": "Train a method on picks.",
        "finish": "A model of an interrupted training.",
    },
    "Measure": {
        "evaluate": "Score picks against true ones.",
        "calibrate": "Measure a model's best thresholds on labelled runs.",
    },
    "Several as one": {
        "ensemble": "One model that averages the heatmaps of several.",
        "soup": "One model that averages the weights of several.",
        "merge": "What several sets of picks agree on.",
    },
    "Other programs": {
        "export": "Write picks for RELION, Warp, Dynamo, IMOD, ArtiaX ...",
        "import": "Read picks of other programs.",
        "convert": "Published weights as a model of ours.",
        "export-model": "A model's network as ONNX, OpenVINO, TorchScript or TensorRT.",
    },
}


# What click calls things that a user calls otherwise.
_CLICKS_WORDS = {
    "is not a valid float range": "is no number", "is not a valid integer range": "is no whole number",
    "is not a valid float": "is no number", "is not a valid integer": "is no whole number",
    ". Did you mean": "; did you mean", ". (Did you mean": "; did you mean",
}  # fmt: skip


class _WrongUse(click.UsageError):
    """A word of the command line that is not understood, told in one line as all that is wrong."""

    def __init__(self, error: click.UsageError) -> None:
        text = " ".join(error.format_message().split())
        for theirs, ours in _CLICKS_WORDS.items():
            text = text.replace(theirs, ours)
        text = text.rstrip("." if "(" in text else ".)")  # of a bracket that was opened before "did you mean"
        more = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        super().__init__(f"{text[:1].lower()}{text[1:]}{more}", error.ctx)

    def show(self, file: Any = None) -> None:
        """On standard error."""
        say(f"error: {self.message}")


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except (_WrongUse, click.exceptions.NoArgsIsHelpError):
        raise
    except click.UsageError as error:
        raise _WrongUse(error) from None


class _Group(click.Group):
    """Lists verbs in the order of work, and turns what a user can cause into one line and exit code 2."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        with _in_one_line():
            return super().make_context(*args, **more)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs under their headings, none cut off."""
        for heading, verbs in HELP_ORDER.items():
            with formatter.section(heading):
                formatter.write_dl(list(verbs.items()), col_max=14)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with (
                _in_one_line(),
                plain_log(bool(ctx.params.get("quiet")), lambda: ctx.invoked_subcommand),
                ending_cleanly(),
            ):
                return super().invoke(ctx)
        except TomopickError as error:
            say(with_flags(f"error: {' '.join(str(error).splitlines())}", ctx.invoked_subcommand))
        except KeyboardInterrupt as stop:
            say(str(stop) or "interrupted; what was finished is kept: repeat the command to go on")
            ctx.exit(143 if isinstance(stop, Terminated) else 130)
        except BrokenPipeError:
            raise  # click's business: whoever read our output has gone
        except OSError as error:
            say(f"error: {error.filename or 'a file'}: {error.strerror or error}; check place, space and permissions")
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            say(
                "error: not enough memory; smaller tiling.shape, patch.shape and train.batch_size (at training) need "
                "less, and so do a smaller volume and --device cpu where a GPU's is meant"
            )
        ctx.exit(2)


def _out_of_memory(error: Exception) -> bool:
    """Whether NumPy, PyTorch on a CPU or a GPU ran out of it; torch is not imported to ask."""
    text = str(error).lower()
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(word in text for word in words)
    )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-q", "--quiet", is_flag=True, help="Say only what is wrong: no progress, no remarks.")
@click.version_option(__version__, prog_name="tomopick")
def main(quiet: bool) -> None:
    """Pick protein particles in cryo-electron tomograms with heatmap networks.

    \b
    A first look, with no data of your own:   tomopick demo
    Picks with the shipped model:             tomopick pick default tomograms/ --out picks/
    Train on your own picks:                  tomopick train light tomograms/ model/ --object ribosome:150

    `tomopick VERB --help` has examples of every verb.
    """


for _command in (
    calibrate_command, convert_command, curate_command, demo_command, doctor_command, ensemble_command,
    evaluate_command, export_command, export_model_command, finish_command, import_command, init_command,
    mask_command, merge_command, pick_command, recipes_command, report_command, show_command, simulate_command,
    soup_command, status_command, suggest_command, train_command, view_command,
):  # fmt: skip
    main.add_command(_command)
