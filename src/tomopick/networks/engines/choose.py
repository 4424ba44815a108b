"""Which engine runs a network."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

import torch
from torch import nn

from ...core.errors import EngineError
from .base import PRECISIONS, Engine, EngineKind
from .device import choose_device


class _Kinds(Mapping[str, EngineKind]):
    """Kinds of engine by name; one is imported when it is asked for."""

    _homes: ClassVar[Mapping[str, str]] = {
        "torch": "eager.TorchEngine",
        "compile": "eager.CompiledEngine",
        "openvino": "openvino_cpu.OpenVINOEngine",
        "onnx": "onnx_runtime.OnnxEngine",
        "cuda": "cuda.CudaGraphEngine",
        "tensorrt": "onnx_runtime.TensorRTEngine",
    }

    def __getitem__(self, name: str) -> EngineKind:
        module, kind = self._homes[name].split(".")
        found: EngineKind = getattr(import_module(f".{module}", __package__), kind)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


ENGINES = _Kinds()
PREFERRED = ("cuda", "openvino", "torch")  # best first; those left out take long to start

log = logging.getLogger("tomopick")


@dataclass(frozen=True)
class EngineSpec:
    """How a network is run.

    Attributes:
        name: a key of `ENGINES`, or `auto` for the best that is installed for the device.
        precision: `half` (16 bits where the device is faster in them), `f32` or `int8`; logits are always float32.
    """

    name: str = "auto"
    precision: str = "half"

    def __post_init__(self) -> None:
        if self.name not in ("auto", *ENGINES):
            raise EngineError(f"no engine '{self.name}'; there is auto, {', '.join(ENGINES)}")
        if self.precision not in PRECISIONS:
            raise EngineError(f"no precision '{self.precision}'; there is {', '.join(PRECISIONS)}")

    def build(self, network: nn.Module, device: str | torch.device = "auto", multiple: int = 8) -> Engine:
        """The network ready to run.

        Args:
            network: trained.
            device: where to run it.
            multiple: what the edges of tiles are divisible by.

        Raises:
            EngineError: the engine is not installed, or does not know the device or the precision.
        """
        place = choose_device(device) if isinstance(device, str) else device
        if self.name != "auto":
            if reason := self._unfit(self.name, place):
                raise EngineError(f"engine '{self.name}' cannot run here: {reason}")
            return ENGINES[self.name](network, place, self.precision, multiple)
        reasons = {}
        for name in PREFERRED:
            reasons[name] = self._unfit(name, place)
            if not reasons[name]:
                try:
                    return ENGINES[name](network, place, self.precision, multiple)
                except EngineError as error:
                    log.warning("%s; the next engine is used", error)
                    reasons[name] = str(error)
        raise EngineError(
            f"no engine computes in {self.precision} on {place}: {'; '.join(f'{k}: {v}' for k, v in reasons.items())}"
        )

    def _unfit(self, name: str, device: torch.device) -> str:
        kind = ENGINES[name]
        if device.type not in kind.devices:
            return f"it runs on {' or '.join(kind.devices)}, not on {device.type}; choose another with `engine`"
        if self.precision not in kind.precisions:
            return f"it computes in {' or '.join(kind.precisions)}, not in {self.precision}; set `precision`"
        return kind.lacking(device)
