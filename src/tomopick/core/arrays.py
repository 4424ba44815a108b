"""Arrays of NumPy and tensors of PyTorch by one name, where a step is the same for both.

A tensor stays on the device that it lies on. PyTorch is not imported for arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any  # np.ndarray, or torch.Tensor where something runs on a device from end to end


def is_tensor(values: Array) -> bool:
    """Whether it is PyTorch's."""
    return type(values).__module__.partition(".")[0] == "torch"


def functions_of(values: Array) -> Any:
    """The module whose functions take it; only those are to be used that both have under one name."""
    if not is_tensor(values):
        return np
    import torch

    return torch


def to_host(values: Array) -> np.ndarray:
    """In the host's memory, as an array of NumPy."""
    return values.detach().cpu().numpy() if is_tensor(values) else values


def alike(array: np.ndarray, other: Array) -> Array:
    """An array of NumPy as it is, or as a tensor beside `other`."""
    if not is_tensor(other):
        return array
    return functions_of(other).as_tensor(array, device=other.device)


def zeros(shape: Sequence[int], other: Array) -> Array:
    """float32 zeros of a shape, beside `other`."""
    if not is_tensor(other):
        return np.zeros(shape, dtype=np.float32)
    return functions_of(other).zeros(tuple(shape), device=other.device)


def concatenated(parts: Sequence[Array], axis: int) -> Array:
    """Along an axis."""
    return functions_of(parts[0]).concatenate(tuple(parts), axis)


def copied(values: Array) -> Array:
    """A copy that hangs on nothing larger."""
    return values.clone() if is_tensor(values) else values.copy()


def flipped(values: Array, axes: Sequence[int]) -> Array:
    """Turned round along axes."""
    return functions_of(values).flip(values, tuple(axes))


def interpolated(values: Array, given: Sequence[float], wanted: Sequence[float]) -> Array:
    """Values of any shape -> what a line through knots, rising along `given`, has there, level beyond them."""
    if not is_tensor(values):
        return np.interp(values, given, wanted)
    functions, exact = functions_of(values), values.double()
    x, y = (alike(np.asarray(knots, dtype=np.float64), values) for knots in (given, wanted))
    after = functions.searchsorted(x, exact.contiguous(), right=True).clamp(1, len(given) - 1)
    share = ((exact - x[after - 1]) / (x[after] - x[after - 1])).clamp(0, 1)
    return y[after - 1] + share * (y[after] - y[after - 1])


def taken(values: Array, indices: np.ndarray, axis: int) -> Array:
    """The slices at (n,) indices along an axis."""
    if not is_tensor(values):
        return np.take(values, indices, axis=axis)
    return values.index_select(axis % values.ndim, alike(np.asarray(indices, dtype=np.int64), values))
