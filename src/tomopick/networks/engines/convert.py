"""What the converters of a network share."""

from __future__ import annotations

import copy
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_CORE: list[Any] = []
_CORE_LOCK = threading.Lock()


def openvino() -> Any:
    """The package openvino, without the part that reports its being imported to its makers unless that is forbidden."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def core() -> Any:
    """OpenVINO's core, the one of this process, which stays until its end.

    Each core with a CPU plugin gives the thread that makes it an alternate stack for signals. When it goes, it frees
    that stack, but takes it from the thread only if it goes in that thread and no later core has come meanwhile. Else
    the next signal that Python handles (Ctrl-C, the end of a worker of torch's DataLoader) is written to freed memory
    and kills the process.
    """
    with _CORE_LOCK:
        if not _CORE:
            _CORE.append(openvino().Core())
        return _CORE[0]


@contextmanager
def quietly() -> Iterator[None]:
    """Tracing without its warnings: it is to be replaced in torch, and it tells of every size that it reads."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.onnx")
        yield


def for_tracing(network: nn.Module, multiple: int) -> tuple[nn.Module, torch.Tensor]:
    """A copy of the network on the CPU, in float32, and a small tile (1, 1, z, y, x) that leads through all of it.

    Args:
        network: on any device; it stays as it is.
        multiple: what the edges of tiles are divisible by. Twice that is no multiple of 32 where a network pads its
            tiles to one, so that the padding is traced too.
    """
    plain = copy.deepcopy(network).float().cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    edge = 2 * multiple
    example = torch.randn(1, 1, edge, edge, edge, generator=torch.Generator().manual_seed(0))
    return plain.eval(), example
