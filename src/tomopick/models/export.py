"""A trained network for other programs: ONNX, OpenVINO, TorchScript, TensorRT.

What is written is read back and compared.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from ..core.errors import EngineError, OutputError
from ..core.files import atomic_write, flush, hidden, remove, sweep
from ..core.reading import read_bytes
from ..core.specs import encode
from ..networks.activations import Activation
from ..networks.engines.base import lacking_package
from ..networks.engines.convert import core, for_tracing, openvino, quietly
from ..networks.engines.onnx_runtime import exported
from ..networks.engines.openvino_cpu import to_openvino, write
from ..picking.detector import Detector

Runner = Callable[[np.ndarray], np.ndarray]  # (1, 1, z, y, x) float32 -> heatmap (1, object, ...)

BOUND = 1e-3  # on the heatmap's largest difference to torch, of float32 networks
_LARGEST = 512  # edge of a tile that TensorRT prepares for [voxels]


class Heatmaps(nn.Module):
    """The network and what its logits mean: (1, 1, z, y, x) normalised -> heatmap (1, object, ...)."""

    def __init__(self, network: nn.Module, activation: Activation):
        super().__init__()
        self.network, self.activation = network, activation

    def forward(self, tile: torch.Tensor) -> torch.Tensor:
        """(1, 1, z, y, x) -> (1, object, z/stride, y/stride, x/stride)."""
        return self.activation(self.network(tile))


@dataclass(frozen=True)
class Format:
    """A way of writing networks.

    Attributes:
        suffix: of its files.
        packages: that writing and reading it back need, with our extra that installs each.
        save: writes (network, multiple of its tiles) to a path.
        load: reads that path as something to run.
    """

    suffix: str
    packages: tuple[tuple[str, str], ...]
    save: Callable[[nn.Module, int, Path], None]
    load: Callable[[Path], Runner]


def _save_torchscript(network: nn.Module, multiple: int, path: Path) -> None:
    plain, example = for_tracing(network, multiple)
    with quietly(), atomic_write(path, binary=True) as file:
        # Without the check: it repeats the tracing, and the parity check does more.
        torch.jit.save(torch.jit.trace(plain, example, check_trace=False), file)


def _load_torchscript(path: Path) -> Runner:
    with quietly():
        module = torch.jit.load(str(path), map_location="cpu")

    def run(tile: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(tile)).numpy()

    return run


def _save_onnx(network: nn.Module, multiple: int, path: Path) -> None:
    with atomic_write(path, binary=True) as file:
        file.write(exported(network, multiple))


def _load_onnx(path: Path) -> Runner:
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda tile: session.run(None, {"tile": tile})[0]


def _save_openvino(network: nn.Module, multiple: int, path: Path) -> None:
    write(to_openvino(network, multiple), path)


def _load_openvino(path: Path) -> Runner:
    ov = openvino()
    precise = {"INFERENCE_PRECISION_HINT": ov.Type.f32, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    request = core().compile_model(path, "CPU", precise).create_infer_request()
    return lambda tile: request.infer({0: tile})[0].copy()


def _save_tensorrt(network: nn.Module, multiple: int, path: Path) -> None:
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    graph = builder.create_network(0)
    parser = trt.OnnxParser(graph, logger)
    if not parser.parse(exported(network, multiple)):
        raise EngineError(f"TensorRT cannot read {type(network).__name__} ({parser.get_error(0).desc()})")
    settings, profile = builder.create_builder_config(), builder.create_optimization_profile()
    usual = -(-128 // multiple) * multiple
    profile.set_shape("tile", *((1, 1, n, n, n) for n in (2 * multiple, usual, max(_LARGEST, usual))))
    settings.add_optimization_profile(profile)
    plan = builder.build_serialized_network(graph, settings)
    if plan is None:
        raise EngineError(f"TensorRT could not build {type(network).__name__}; its log says why")
    with atomic_write(path, binary=True) as file:
        file.write(bytes(plan))


def _load_tensorrt(path: Path) -> Runner:
    import tensorrt as trt

    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
    context = engine.create_execution_context()

    def run(tile: np.ndarray) -> np.ndarray:
        context.set_input_shape("tile", tile.shape)
        given = torch.from_numpy(tile).cuda()
        found = torch.empty(tuple(context.get_tensor_shape("heatmap")), device="cuda")
        context.set_tensor_address("tile", given.data_ptr())
        context.set_tensor_address("heatmap", found.data_ptr())
        stream = torch.cuda.current_stream()
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return found.cpu().numpy()

    return run


_ONNX = (("onnx", "onnx"), ("onnxruntime", "onnx"))
NETWORK_FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": Format(".onnx", _ONNX, _save_onnx, _load_onnx),
        "openvino": Format(".xml", (("openvino", "cpu"),), _save_openvino, _load_openvino),
        "torchscript": Format(".pt", (), _save_torchscript, _load_torchscript),
        "tensorrt": Format(".plan", (("tensorrt", ""), ("onnx", "onnx")), _save_tensorrt, _load_tensorrt),
    }
)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: of the network; `.json` beside it says what it takes and gives.
        difference: the heatmap's largest to torch's in float32, on noise of two shapes.
        largest: value of that heatmap.
    """

    path: Path
    difference: float
    largest: float


def export_model(detector: Detector, out: Path, to: str, bound: float = BOUND, overwrite: bool = False) -> Exported:
    """Writes a detector's network, heatmap included, for another program, and compares it with torch.

    Args:
        detector: trained.
        out: the file; a suffix other than the format's is added to.
        to: a key of `FORMATS`.
        bound: on the difference, as a part of the heatmap's largest value (at least 1).

    Raises:
        EngineError: no such format, a package is missing, the network has what the format lacks, or the difference is
            beyond the bound. Then nothing is written.
        OutputError: the file is there, or cannot be written.
    """
    if to not in NETWORK_FORMATS:
        raise EngineError(f"no format '{to}'; there is {', '.join(NETWORK_FORMATS)}")
    kind = NETWORK_FORMATS[to]
    for package, extra in kind.packages:
        if missing := lacking_package(package, extra):
            raise EngineError(f"`to={to}`: {missing}")
    path = out if out.suffix == kind.suffix else out.with_name(out.name + kind.suffix)
    # The network comes last: what was cut off before is known by what lies there then, and goes on.
    parts = [path.with_suffix(".json"), *([path.with_suffix(".bin")] if to == "openvino" else []), path]
    about = json.dumps(_about(detector, to), indent=1)
    begun = not path.exists() and parts[0].is_file() and read_bytes(parts[0], "ours") == about.encode()
    there = [p for p in reversed(parts) if p.exists()]
    if there and not (overwrite or begun):
        raise OutputError(f"{there[0]}: exists already; choose another name, or replace it with `overwrite`")
    network = Heatmaps(detector.network, detector.method.activation)
    multiple = detector.method.network.multiple
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    place = hidden(path)
    try:
        place.mkdir()
        new = place / path.name
        kind.save(network, multiple, new)
        difference, largest = _compare(network, multiple, kind.load(new))
        if not difference <= bound * max(1.0, largest):
            raise EngineError(
                f"{path}: not written: its heatmap would differ from torch's by {difference:.2g}, more than "
                f"{bound * max(1.0, largest):.2g}; write another format, or allow more with `bound`"
            )
        new.with_suffix(".json").write_text(about, encoding="utf-8")
        flush(place)
        for part in parts:
            os.replace(place / part.name, part)
    finally:
        remove(place)
    return Exported(path, difference, largest)


def _compare(network: nn.Module, multiple: int, run: Runner) -> tuple[float, float]:
    """Largest difference and largest value over tiles of two shapes, neither of them the traced one."""
    plain, _ = for_tracing(network, multiple)
    rng, worst, largest = np.random.default_rng(0), 0.0, 0.0
    for shape in ((3, 4, 5), (2, 3, 2)):
        tile = rng.standard_normal((1, 1, *(n * multiple for n in shape)), dtype=np.float32)
        with torch.inference_mode():
            expected = plain(torch.from_numpy(tile)).numpy()
        found = run(tile)
        if found.shape != expected.shape:
            return float("inf"), float(np.abs(expected).max())
        worst = max(worst, float(np.abs(found - expected).max()))
        largest = max(largest, float(np.abs(expected).max()))
    return worst, largest


def _about(detector: Detector, to: str) -> dict[str, Any]:
    """What another program has to know."""
    spec = detector.method.network
    return {
        "format": to,
        "model": detector.name,
        "checksum": detector.checksum,
        "input": "tile (1, 1, z, y, x) float32: normalised grey values, particles dark as in training",
        "output": "heatmap (1, object, z/stride, y/stride, x/stride) float32; cell i is centred on voxel "
        "stride * i + (stride - 1) / 2",
        "objects": [o.name for o in detector.objects],
        "stride": spec.stride,
        "multiple": spec.multiple,
        "voxel_spacing_angstrom": detector.facts.voxel_spacing,
        "thresholds": {metric: dict(cuts) for metric, cuts in detector.thresholds.items()},
        "normalize": encode(detector.method.normalize),
        "tiling": encode(detector.method.tiling),
        "peaks": encode(detector.method.peaks),
    }
