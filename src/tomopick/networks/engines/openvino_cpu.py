"""OpenVINO: the fastest engine on a CPU. It takes the torch module as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ...core.errors import EngineError
from .base import PRECISIONS, Engine, lacking_package
from .cache import keep_entry, kept, key_of
from .convert import core, for_tracing, openvino, quietly
from .device import type_name

_WEIGHTED = ("MatMul", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")


class OpenVINOEngine(Engine):
    """OpenVINO on the CPU; one conversion and one compilation for tiles of any shape.

    It uses as many threads as torch does. With `int8` the inner convolutions are computed in eight bits, whose ranges
    are those of the first tile that comes, with a margin.
    """

    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    precisions: ClassVar[tuple[str, ...]] = PRECISIONS

    def __init__(self, network: nn.Module, device: torch.device, precision: str = "half", multiple: int = 8):
        self.type = type_name(device, precision)
        self._half = type_name(device, "half" if precision == "int8" else precision) == "bf16"
        model = cached(network, multiple)
        # Eight bits need ranges, and only a tile has them.
        self._model = model if precision == "int8" else None
        self._request = None if precision == "int8" else self._compiled(model)

    def __str__(self) -> str:
        return f"openvino {self.type} on cpu"

    @staticmethod
    def lacking(device: torch.device) -> str:
        """The package."""
        return lacking_package("openvino", "cpu")

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """(z, y, x) float32 -> logits (channel, ...) float32."""
        if self._request is None:
            from .int8 import quantised

            self._request = self._compiled(quantised(self._model, np.ascontiguousarray(tile)))
        self._request.infer({0: np.ascontiguousarray(tile)[None, None]}, share_inputs=True)
        return self._request.get_output_tensor(0).data[0].copy()  # the next tile overwrites it

    def _compiled(self, model: Any) -> Any:
        ov = openvino()
        options = {
            "INFERENCE_PRECISION_HINT": ov.Type.bf16 if self._half else ov.Type.f32,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        return core().compile_model(model, "CPU", options).create_infer_request()


def cached(network: nn.Module, multiple: int) -> Any:
    """`convert`, kept for the next process."""
    ov = openvino()
    key = key_of(network, "openvino", ov.__version__, str(multiple))
    folder = kept(key)
    if folder is not None:
        return core().read_model(folder / "model.xml")
    model = to_openvino(network, multiple)
    exact_heads(model)
    keep_entry(key, lambda place: write(model, place / "model.xml"))
    return model


def to_openvino(network: nn.Module, multiple: int) -> Any:
    """The network as OpenVINO's model: (1, 1, z, y, x) of any shape -> what the network gives.

    Raises:
        EngineError: it has an operation that OpenVINO does not know.
    """
    ov = openvino()
    from openvino.frontend import FrontEndManager, GeneralFailure, OpConversionFailure, OpValidationFailure
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # Not openvino.convert_model: it reports each use to its makers.
    frontend = FrontEndManager().load_by_framework("pytorch")
    plain, example = for_tracing(network, multiple)
    try:
        with quietly():
            decoder = TorchScriptPythonDecoder(plain, example_input=(example,))  # must outlive the conversion
            model = frontend.convert(frontend.load(decoder))
    except (GeneralFailure, OpConversionFailure, OpValidationFailure, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].lstrip("- ")
        raise EngineError(f"OpenVINO cannot convert {type(network).__name__} ({reason}); use `engine=torch`") from error
    model.reshape(ov.PartialShape([1, 1, -1, -1, -1]))
    return model


def write(model: Any, path: Path) -> None:
    """The model as `path` (.xml) and its weights beside it (.bin), in float32."""
    ov = openvino()
    ov.save_model(model, path, compress_to_fp16=False)


def exact_heads(model: Any) -> None:
    """Keeps the last convolutions in float32 where the rest is bf16: bf16's steps of 1/256 near 1 would move peaks.

    What lies behind the last convolution is float32 anyway. A transposed convolution does not count as one there, so
    each last convolution becomes the transposed one (weights turned round) that gives the same numbers.
    """
    from openvino import opset13 as ops

    todo = [result.input_value(0).get_node() for result in model.get_results()]
    seen = set()
    while todo:
        node = todo.pop()
        kind = node.get_type_name()
        if node.get_friendly_name() in seen or kind in _WEIGHTED:
            continue
        seen.add(node.get_friendly_name())
        if kind != "Convolution":
            todo += [value.get_node() for value in node.input_values()]
            continue
        weights, how = node.input_value(1).get_node(), node.get_attributes()
        if weights.get_type_name() != "Constant" or {*how["strides"], *how["dilations"]} != {1}:
            continue
        kernel = weights.get_data()
        turned = ops.constant(np.ascontiguousarray(np.flip(kernel.swapaxes(0, 1), (2, 3, 4))))
        pads = [[n - 1 - p for n, p in zip(kernel.shape[2:], how[side])] for side in ("pads_begin", "pads_end")]
        new = ops.convolution_backprop_data(
            node.input_value(0), turned, strides=[1] * 3, pads_begin=pads[0], pads_end=pads[1], dilations=[1] * 3
        )
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(new.output(0))
    model.validate_nodes_and_infer_types()
