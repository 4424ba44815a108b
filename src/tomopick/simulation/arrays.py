"""Where the heavy arithmetic of the microscope runs: SciPy on the CPU, or PyTorch on a device.

The physics is written once, on NumPy arrays; what is computed on a device are products with sparse matrices and
filters by Fourier transform. Random numbers are always the host's, so that a device changes nothing but rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from scipy import fft, sparse

from ..core.errors import TomopickError
from ..core.signals import cores_here

_T = TypeVar("_T")
_MOST_THREADS = 8  # each has its own working memory


class Arrays(Protocol):
    """A place to compute."""

    def each(self, task: Callable[[Any], _T], things: Iterable[Any]) -> Iterator[_T]:
        """What `task` gives for each of `things`, in their order; perhaps several at a time."""
        ...

    def put(self, values: np.ndarray) -> Any:
        """The array there."""
        ...

    def multiply(self, matrix: sparse.csr_matrix, dense: Any) -> np.ndarray:
        """`matrix` (n, m) times `dense` (m, k), which `put` gave: (n, k) float32."""
        ...

    def filtered(self, values: np.ndarray, gains: Iterable[np.ndarray]) -> list[np.ndarray]:
        """`values` filtered along its first two axes, once for each gain on the frequencies of `rfft2`."""
        ...


@dataclass(frozen=True)
class HostArrays:
    """SciPy: what every other place is compared with.

    Attributes:
        threads: tasks at a time; the values are the same for any number.
    """

    threads: int = 1

    def each(self, task: Callable[[Any], _T], things: Iterable[Any]) -> Iterator[_T]:
        """See `Arrays`."""
        if self.threads == 1:
            yield from map(task, things)
            return
        with ThreadPoolExecutor(self.threads) as pool:  # SciPy's products and transforms let other threads run
            yield from pool.map(task, things)

    def put(self, values: np.ndarray) -> np.ndarray:
        """See `Arrays`."""
        return values

    def multiply(self, matrix: sparse.csr_matrix, dense: np.ndarray) -> np.ndarray:
        """See `Arrays`."""
        return matrix @ dense

    def filtered(self, values: np.ndarray, gains: Iterable[np.ndarray]) -> list[np.ndarray]:
        """See `Arrays`."""
        spectrum, size = fft.rfft2(values, axes=(0, 1)), values.shape[:2]
        return [fft.irfft2(spectrum * _light(gain), s=size, axes=(0, 1)) for gain in gains]


@dataclass(frozen=True)
class TorchArrays:
    """PyTorch.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1` ...
    """

    device: str

    def each(self, task: Callable[[Any], _T], things: Iterable[Any]) -> Iterator[_T]:
        """See `Arrays`."""
        return map(task, things)

    def put(self, values: np.ndarray) -> Any:
        """See `Arrays`."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def multiply(self, matrix: sparse.csr_matrix, dense: Any) -> np.ndarray:
        """See `Arrays`."""
        import torch

        starts, columns, entries = (self.put(part) for part in (matrix.indptr, matrix.indices, matrix.data))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            there = torch.sparse_csr_tensor(starts, columns, entries, size=matrix.shape, check_invariants=False)
        return (there @ dense).cpu().numpy()

    def filtered(self, values: np.ndarray, gains: Iterable[np.ndarray]) -> list[np.ndarray]:
        """See `Arrays`."""
        import torch

        spectrum, size = torch.fft.rfft2(self.put(values), dim=(0, 1)), values.shape[:2]
        made = (torch.fft.irfft2(spectrum * self.put(_light(gain)), s=size, dim=(0, 1)) for gain in gains)
        return [image.cpu().numpy() for image in made]


def _light(gain: np.ndarray) -> np.ndarray:
    return gain.astype(np.complex64 if np.iscomplexobj(gain) else np.float32)


def arrays_of(device: str, workers: int = 1) -> Arrays:
    """The place that `device` names: `cpu`, `cuda` or `cuda:1` and so on.

    Args:
        device: its name.
        workers: processes that share the processor's cores.

    Raises:
        TomopickError: no such device here.
    """
    if device == "cpu":
        return HostArrays(max(1, min(_MOST_THREADS, cores_here() // workers)))
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number.isdigit() or ":" not in device):
        raise TomopickError(f"no device '{device}' to simulate on; expected cpu, cuda or cuda:N")
    import torch

    if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
        raise TomopickError(
            f"device '{device}' is not there: PyTorch sees {torch.cuda.device_count()} CUDA devices; simulate on cpu"
        )
    return TorchArrays(device)
