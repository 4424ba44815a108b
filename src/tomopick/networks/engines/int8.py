"""Eight-bit convolutions for OpenVINO, with ranges taken from a tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .convert import core, openvino

HEADROOM = 1.25  # what lies beyond the ranges of the first tile is cut off
LEVELS = 256


def quantised(model: Any, tile: np.ndarray) -> Any:
    """A copy of a model whose inner convolutions are computed in eight bits; the first and the last are not.

    Weights are rounded channel by channel to their largest magnitude, inputs to the range that they have in `tile`.

    Args:
        model: OpenVINO's, in float32.
        tile: (z, y, x) like those to come, with particles in it.

    Source: Jacob et al. 2018, arXiv:1712.05877 (affine, weights by channel), in the form that OpenVINO lowers to
    integer arithmetic: FakeQuantize before both inputs of a convolution.
    """
    ov = openvino()
    from openvino import opset13 as ops

    def fake(values: Any, low: Any, high: Any, levels: int) -> Any:
        ends = [ops.constant(np.asarray(end, dtype=np.float32)) for end in (low, high, low, high)]
        return ops.fake_quantize(values, *ends, levels).output(0)

    exact = {"INFERENCE_PRECISION_HINT": ov.Type.f32, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    made = model.clone()
    inner = [node for node in made.get_ordered_ops() if node.get_type_name() == "Convolution"][1:]
    watched = model.clone()
    inputs = [n for n in watched.get_ordered_ops() if n.get_type_name() == "Convolution"][1:]
    if not inner:
        return made
    sources = [node.input_value(0) for node in inputs]
    reduced = [reduce(o, _axes(o)).output(0) for reduce in (ops.reduce_max, ops.reduce_min) for o in sources]
    ranges = core().compile_model(ov.Model(reduced, watched.get_parameters()), "CPU", exact)(tile[None, None])
    weights = core().compile_model(ov.Model([n.input_value(1) for n in inner], []), "CPU", exact)([])
    for i, node in enumerate(inner):
        high, low = max(float(ranges[i]), 1e-6) * HEADROOM, min(float(ranges[len(inner) + i]), 0.0) * HEADROOM
        node.input(0).replace_source_output(fake(node.input_value(0), np.float32(low), np.float32(high), LEVELS))
        kernel = weights[i]
        largest = np.maximum(np.abs(kernel).max(axis=tuple(range(1, kernel.ndim)), keepdims=True), 1e-12)
        node.input(1).replace_source_output(fake(ops.constant(kernel), -largest, largest, LEVELS - 1))
    made.validate_nodes_and_infer_types()
    return made


def _axes(output: Any) -> np.ndarray:
    return np.arange(len(output.get_partial_shape()))
