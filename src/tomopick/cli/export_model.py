"""The verb that writes a network for other programs: export-model."""

from __future__ import annotations

from pathlib import Path

import click

from ..core.errors import ModelError
from . import early
from .options import POSITIVE, echo
from .outputs import OUT


@click.command("export-model")
@click.argument("model")
@click.argument("out", type=OUT)
@click.option("--to", required=True, type=click.Choice(["onnx", "openvino", "torchscript", "tensorrt"]),
              help="The format of OUT.")  # fmt: skip
@click.option(
    "--bound",
    default=1e-3,
    show_default=True,
    type=POSITIVE,
    help="The largest difference to torch that is let pass; more is an error.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
def export_model_command(model: str, out: Path, to: str, bound: float, overwrite: bool) -> None:
    """Write the network of MODEL to the file OUT for other programs.

    A JSON file of the same name beside it (picker.json of picker.onnx) says what it takes and gives. Tiles of any size
    go in, normalised; heatmaps come out. What was written is read back and compared with torch.

    Example:  tomopick export-model default picker.onnx --to onnx
    """
    early.require_models([model])
    from ..models.export import export_model
    from ..picking.detector import Detector
    from ..picking.load import load_model

    detector = load_model(model)
    if not isinstance(detector, Detector):
        members = ", ".join(d.name for d in detector.detectors)
        raise ModelError(f"{model}: an ensemble has no single network; export its members: {members}")
    done = export_model(detector, out, to, bound, overwrite)
    echo(f"{done.path}: differs from torch by at most {done.difference:.1e} of {done.largest:.2g}")
