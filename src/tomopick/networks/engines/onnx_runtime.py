"""ONNX Runtime: on CPUs, on CUDA, and with TensorRT."""

from __future__ import annotations

import io
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ...core.errors import EngineError
from ...core.messages import reason_of
from .base import Engine, lacking_package
from .cache import key_of, left_to
from .convert import for_tracing, quietly

OPSET = 18
# How its arena, the processor's own allocator, CUDA and cuDNN or cuBLAS say that there is no memory left.
NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "out of memory", "ALLOC_FAILED")


class OnnxEngine(Engine):
    """ONNX Runtime with its own provider for the device; half precision only where a provider has it."""

    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    precisions: ClassVar[tuple[str, ...]] = ("half", "f32")
    providers: ClassVar[dict[str, str]] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

    def __init__(self, network: nn.Module, device: torch.device, precision: str = "half", multiple: int = 8):
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)  # errors; its warnings are about its own optimisations
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.device, self.precision = device, precision
        self._running = onnxruntime.RunOptions()
        self._running.log_severity_level = 4  # what goes wrong in running is raised as well
        self._session = onnxruntime.InferenceSession(
            exported(network, multiple), options, self.chosen(network, device, precision)
        )
        if self._session.get_providers()[0] != self.providers[device.type]:
            raise EngineError(
                f"ONNX Runtime could not start {self.providers[device.type]} and would use "
                f"{self._session.get_providers()[0]}; install the CUDA (and TensorRT) version that it was built for"
            )

    def __str__(self) -> str:
        return f"onnx f32 on {self.device} ({self.providers[self.device.type]})"

    @classmethod
    def lacking(cls, device: torch.device) -> str:
        """The packages, or the provider for the device."""
        for package in ("onnxruntime", "onnx"):
            if missing := lacking_package(package, "onnx"):
                return missing
        import onnxruntime

        provider, present = cls.providers[device.type], onnxruntime.get_available_providers()
        return "" if provider in present else f"this ONNX Runtime has no {provider}: pip install onnxruntime-gpu"

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """(z, y, x) float32 -> logits (channel, ...) float32.

        Raises:
            torch.OutOfMemoryError: it does not fit into memory.
        """
        try:
            return self._session.run(None, {"tile": np.ascontiguousarray(tile)[None, None]}, self._running)[0][0]
        except Exception as error:  # ONNX Runtime's own have no other common class, and tell of memory by words alone
            if not any(words in str(error) for words in NO_MEMORY):
                raise
            raise torch.OutOfMemoryError(str(error)) from error

    @classmethod
    def chosen(cls, network: nn.Module, device: torch.device, precision: str) -> list[Any]:
        """Providers, best first, with their options."""
        return [(cls.providers[device.type], _number(device))]


class TensorRTEngine(OnnxEngine):
    """TensorRT through ONNX Runtime, in fp16; it builds its own engine for a shape of tile and keeps it."""

    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    providers: ClassVar[dict[str, str]] = {"cuda": "TensorrtExecutionProvider"}

    def __str__(self) -> str:
        return f"tensorrt {'fp16' if self.precision == 'half' else 'f32'} on {self.device}"

    @classmethod
    def lacking(cls, device: torch.device) -> str:
        """TensorRT beside what ONNX Runtime needs."""
        return super().lacking(device) or lacking_package("tensorrt")

    @classmethod
    def chosen(cls, network: nn.Module, device: torch.device, precision: str) -> list[Any]:
        """Providers, best first, with their options."""
        # A folder for each: TensorRT knows its engines by the names of a model's layers, and not by their weights, so
        # that the members of an ensemble would all be run as the first one.
        place = left_to("tensorrt", key_of(network, precision))
        options = {
            **_number(device),
            "trt_fp16_enable": precision == "half",
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(place),
        }
        return [("TensorrtExecutionProvider", options), ("CUDAExecutionProvider", _number(device))]


def _number(device: torch.device) -> dict[str, Any]:
    """Which of several GPUs; without it ONNX Runtime takes the first, whatever was asked for."""
    return {} if device.type == "cpu" or device.index is None else {"device_id": device.index}


def exported(network: nn.Module, multiple: int) -> bytes:
    """The network as an ONNX model: `tile` (1, 1, z, y, x) of any shape -> `heatmap`, what the network gives.

    Raises:
        EngineError: it has an operation that ONNX does not know.
    """
    plain, example = for_tracing(network, multiple)
    free = {2: "z", 3: "y", 4: "x"}
    file: Any = io.BytesIO()
    try:
        with quietly():
            torch.onnx.export(
                plain, (example,), file, dynamo=False, opset_version=OPSET,
                do_constant_folding=False,  # it would take sizes of the traced tile for constants
                input_names=["tile"], output_names=["heatmap"], dynamic_axes={"tile": free, "heatmap": free},
            )  # fmt: skip
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = reason_of(error)
        raise EngineError(f"ONNX cannot hold {type(network).__name__} ({reason}); use `engine=torch`") from error
    return file.getvalue()
