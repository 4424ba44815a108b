"""Where to compute, and in which half precision."""

from __future__ import annotations

from threading import Lock

import torch
from torch import nn

from ...core.errors import TomopickError
from ...core.names import device_objection, plain_line, shown

# Held while what a GPU launches is recorded: what other threads launch then is not to be among it.
RECORDING = Lock()


def choose_device(name: str = "auto") -> torch.device:
    """`auto` takes CUDA, else Apple's MPS, else the CPU.

    Raises:
        TomopickError: the named device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return _numbered(torch.device("cuda"))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    reason = _objection(name)
    if reason:
        raise TomopickError(f"device {shown(name)} cannot be used ({reason}); use another: cpu always works")
    device = torch.device(name)
    try:
        torch.empty(1, device=device)
    except Exception as error:  # torch raises anything from RuntimeError to AssertionError here
        said = plain_line(str(error).partition("\n")[0])[:120] or type(error).__name__
        raise TomopickError(f"device '{name}' cannot be used ({said}); use another: cpu always works") from error
    return _numbered(device)


def _numbered(device: torch.device) -> torch.device:
    """With its number, where there are several of a kind: not all of torch's functions take one without."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _objection(name: str) -> str:
    """Why a device cannot be meant, or is not there; empty where it may be tried. torch's own answers fill a page."""
    kind, _, number = name.partition(":")
    if reason := device_objection(name):
        return reason
    if kind == "cuda" and not torch.cuda.is_available():
        built = "no GPU of NVIDIA is found" if torch.version.cuda else "this build of PyTorch is for CPUs alone"
        return built
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        return f"there are {torch.cuda.device_count()}, counted from 0"
    if kind == "mps" and not torch.backends.mps.is_available():
        return "it is a Mac's GPU, and there is none here"
    return ""


def half_precision(device: torch.device) -> torch.dtype | None:
    """The half type that pays on a device: bf16 where a CPU multiplies in it, fp16 or bf16 on CUDA, else none."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        # Without AVX-512 bf16 (or AMX) oneDNN emulates it, slower than float32.
        fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        return torch.bfloat16 if fast else None
    return None


def type_name(device: torch.device, precision: str) -> str:
    """What is really computed in where a precision is asked for: `bf16`, `fp16`, `f32` or `int8`."""
    half = half_precision(device) if precision == "half" else None
    names = {None: "f32", torch.bfloat16: "bf16", torch.float16: "fp16"}
    return "int8" if precision == "int8" else names[half]


def autocast(device: torch.device, enabled: bool = True) -> torch.autocast:
    """Mixed precision for training and inference on a device; does nothing where it would not pay."""
    dtype = half_precision(device) if enabled else None
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device, channels last where that is faster."""
    if device.type in ("cpu", "cuda"):
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.to(device)
