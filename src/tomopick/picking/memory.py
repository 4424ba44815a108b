"""How far a network sees and how much memory it takes, which tiles are planned from; what is done where it ends."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import nn

from ..core.arrays import Array, alike, concatenated, is_tensor, to_host
from ..networks import NetworkSpec
from ..networks.engines import Engine, EngineSpec
from .tiling import Means

log = logging.getLogger("tomopick")

SEEN = 0.1  # what a border may change, in deviations of the network's answer to noise, to count as out of sight
SIDE, BESIDE, BEHIND = 32, 32, 64  # of the block that is looked at: across; cut away; left behind the cut [voxels]
CPU_SHARE, GPU_SHARE = 1 / 8, 1 / 2  # of the free memory that a tile may take: on a CPU others need some too
CPU_ENOUGH = 2**30  # beyond this, larger tiles save little, and only a machine with 32 times as much makes them
STRIP = 300 * 2**20  # bytes of heatmap that are held while their tiles come in
STRIP_SHARE = 1 / 16  # of a GPU's free memory that they may be, where that is more: wide strips need fewer tiles
INDEXED = 2**31 - 1  # values of a tensor beyond which convolutions on a GPU are slow, or refuse


@torch.inference_mode()
def reach(network: nn.Module, multiple: int, stride: int) -> int:
    """Distance from a tile's border at which its prediction is that of the whole volume [voxels, a multiple].

    A block of noise is predicted whole and without its first part, along each axis; where the two agree to a tenth of
    a deviation, the border is out of sight. This is nearer than the receptive field, whose rim hardly counts.

    Args:
        network: on any device; left in evaluation mode.
        multiple: of the network.
        stride: of the network.
    """
    network.eval()
    parameter = next(network.parameters())
    side, cut, behind = (-(-n // multiple) * multiple for n in (SIDE, BESIDE, BEHIND))
    farthest = 0
    for axis in range(3):
        shape = [side, side, side]
        shape[axis] = cut + behind
        noise = np.random.default_rng(axis).standard_normal((1, 1, *shape), dtype=np.float32)
        block = torch.from_numpy(noise).to(parameter.device)
        whole = network(block).float()
        part = network(block.narrow(2 + axis, cut, behind)).float()
        error = (whole.narrow(2 + axis, cut // stride, behind // stride) - part).square()
        error = error.mean(dim=[d for d in range(5) if d != 2 + axis]).sqrt() / whole.std(dim=(2, 3, 4)).mean()
        seen = torch.nonzero(error > SEEN)
        farthest = max(farthest, (int(seen.max()) + 1) * stride if len(seen) else 0)
    return min(-(-farthest // multiple) * multiple, behind)


def bytes_per_voxel(network: nn.Module, multiple: int) -> float:
    """Memory that a tile takes while it is predicted, over its voxels: an upper estimate, in the network's precision.

    What every layer reads and writes is counted over a small block; a network holds its four largest at a time (a skip
    connection, both inputs of a concatenation and its output).
    """
    sizes, voxels = _tensors_of_a_block(network, multiple)
    return sum(sorted(n * size for n, size in sizes)[-4:]) / voxels


def largest_tile(network: nn.Module, multiple: int) -> int:
    """Voxels of a tile none of whose layers has more values than a GPU's convolutions count in 32 bits."""
    sizes, voxels = _tensors_of_a_block(network, multiple)
    return int(INDEXED * voxels / max(n for n, _ in sizes))


@torch.inference_mode()
def _tensors_of_a_block(network: nn.Module, multiple: int) -> tuple[list[tuple[int, int]], int]:
    """Values, and bytes of each, of what every layer reads and writes over a small block; and the block's voxels."""
    parameter = next(network.parameters())
    sizes: list[tuple[int, int]] = []
    side = -(-SIDE // multiple) * multiple
    with _outputs(network, sizes):
        network.eval()(torch.zeros(1, 1, side, side, side, device=parameter.device))
    return sizes, side**3


@contextmanager
def _outputs(network: nn.Module, sizes: list[tuple[int, int]]) -> Iterator[None]:
    def note(_module: nn.Module, inputs: object, output: object) -> None:
        for tensors in (inputs if isinstance(inputs, tuple) else (), (output,)):
            sizes.extend((t.numel(), t.element_size()) for t in tensors if isinstance(t, torch.Tensor))

    hooks = [m.register_forward_hook(note) for m in network.modules() if not list(m.children())]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def free_memory(device: torch.device | None = None) -> int:
    """Bytes that are free on a device; of the host where it has none of its own, or none is named."""
    if device is not None and device.type == "cuda":
        return _free_on_gpu(device)
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(min(int(lines["MemAvailable"].split()[0]) * 1024, left_by_groups()))
    except (OSError, KeyError, ValueError):  # not Linux
        import psutil

        return int(psutil.virtual_memory().available)


def _free_on_gpu(device: torch.device) -> int:
    """Bytes that are free, or that torch holds and does not use; no more than this process may have."""
    free, total = torch.cuda.mem_get_info(device)
    share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)(device)
    used, held = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    return int(min(free + held - used, share * total - used))


def left_by_groups(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that containers and batch systems leave this process, inf where none sets a limit.

    Whoever takes more is ended, however much the host has.

    Args:
        own: names the process's control group.
        root: where control groups (version 2) are shown.
    """
    free = float("inf")
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return free
    name = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    # Within a container the group's own folder may not be shown, and its limit is the root's.
    for folder in (root / name, *(root / parent for parent in Path(name).parents)):
        try:
            limit, used = int((folder / "memory.max").read_text()), int((folder / "memory.current").read_text())
            facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # not there, or "max"
            continue
        free = min(free, max(0, limit - used + int(facts.get("inactive_file", 0))))  # a cache is given up
    return free


def tile_bytes(device: torch.device) -> float:
    """Memory that a tile may take on a device."""
    free = free_memory(device)
    return free * GPU_SHARE if device.type == "cuda" else min(free * CPU_SHARE, max(CPU_ENOUGH, free / 32))


def means(network: nn.Module, multiple: int, stride: int, n_objects: int, device: torch.device) -> Means:
    """What tiles of a network on a device are planned from."""
    cell = 4 * n_objects / stride**3  # bytes of heatmap over voxels
    tile = int(tile_bytes(device) / (bytes_per_voxel(network, multiple) + 2 * cell))
    strip: float = STRIP
    if device.type == "cuda":
        tile, strip = min(tile, largest_tile(network, multiple)), max(STRIP, STRIP_SHARE * free_memory(device))
    return Means(overlap=reach(network, multiple, stride), tile=tile, strip=int(strip / cell))


class Halving(Engine):
    """An engine that runs a tile in two overlapping halves, and these again, where its memory is too small.

    What did not fit once is not tried again. Where not even the smallest tile fits, another engine takes over.

    Args:
        engine: to run tiles with; raises `torch.OutOfMemoryError` where one does not fit.
        multiple: what edges of tiles must be divisible by [voxels].
        stride: of the network.
        overlap: that halves share so that their borders do not show [voxels].
        instead: makes the engine that takes over, on a device with more memory; None: there is none.
    """

    def __init__(
        self,
        engine: Engine,
        multiple: int,
        stride: int,
        overlap: int,
        instead: Callable[[], Engine] | None = None,
    ):
        self.engine, self.multiple, self.stride, self.overlap = engine, multiple, stride, overlap
        self.instead, self.device = instead, engine.tensors_on
        self.too_large: float = float("inf")  # voxels of the smallest tile that did not fit

    def __str__(self) -> str:
        return str(self.engine)

    @property
    def tensors_on(self) -> torch.device | None:
        """Of tiles that may be tensors: that of the first engine, whichever runs them."""
        return self.device

    def _run(self, tile: Array) -> Array:
        """The engine's answer, which lies where the tile does."""
        if is_tensor(tile) and self.engine.tensors_on != self.device:
            return alike(self.engine(to_host(tile)), tile)
        return self.engine(tile)

    def __call__(self, tile: Array) -> Array:
        """(z, y, x) float32 -> logits (object, z/stride, y/stride, x/stride) float32.

        Raises:
            torch.OutOfMemoryError: it does not fit in parts either, and no other engine is there.
        """
        size = math.prod(tile.shape)
        if size < self.too_large:
            try:
                return self._run(tile)
            except torch.OutOfMemoryError:
                self.too_large = size
            # Not in the handler: the error holds on to the memory that it was raised in.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            log.warning(f"not enough memory for tiles of {'x'.join(map(str, tile.shape))}: they are run in parts")
        halves = self._halves(tile.shape)
        if halves is not None:
            return self._in_two(tile, *halves)
        if self.instead is None:
            raise torch.OutOfMemoryError(f"not even a tile of {'x'.join(map(str, tile.shape))} voxels fits")
        log.warning("not enough memory for the smallest tile either: going on with the CPU, which is slower")
        self.engine, self.instead, self.too_large = self.instead(), None, float("inf")
        return self._run(tile)

    def _halves(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """The axis to halve a tile along, its longest, and the edge of the halves; None where that saves nothing."""
        axis = int(np.argmax(shape))
        wanted = -(-(shape[axis] + self.overlap) // 2)
        edge = -(-wanted // self.multiple) * self.multiple
        # Halves of nearly the whole edge would be halved for ever.
        return (axis, edge) if edge <= 0.75 * shape[axis] else None

    def _in_two(self, tile: Array, axis: int, edge: int) -> Array:
        n = tile.shape[axis]
        ends = [slice(0, edge), slice(n - edge, n)]
        first, last = (self(tile[(slice(None),) * axis + (end,)]) for end in ends)
        shared = (2 * edge - n) // self.stride
        # From all of the one to all of the other over the cells that both have.
        weights = ((np.arange(shared) + 0.5) / shared).astype(np.float32).reshape(-1, *[1] * (2 - axis))
        rising = alike(weights, first)
        inner = (slice(None),) * (axis + 1)
        own = first.shape[axis + 1] - shared
        middle = first[(*inner, slice(own, None))] * (1 - rising) + last[(*inner, slice(0, shared))] * rising
        parts = [first[(*inner, slice(0, own))], middle, last[(*inner, slice(shared, None))]]
        return concatenated(parts, axis + 1)


@dataclass(frozen=True)
class Ready:
    """A network set up to run on a device; nothing of it depends on a volume.

    Attributes:
        engine: runs it, for one caller after the other.
        means: what its tiles are planned from; measured when they are first asked for, and not again.
        weights: `weights_mark` of what the engine runs.
    """

    engine: Engine
    means: Callable[[], Means]
    weights: object


def make_ready(
    network: nn.Module, spec: NetworkSpec, n_objects: int, device: torch.device, engine: EngineSpec
) -> Ready:
    """Sets a network up.

    Args:
        network: trained.
        spec: it was built from.
        n_objects: that it finds.
        device, engine: where and how it is to run.

    Raises:
        EngineError: the engine is not installed, or does not know the device.
    """
    runner: Engine = engine.build(network, device, spec.multiple)
    known = cache(lambda: means(network, spec.multiple, spec.stride, n_objects, device))
    if device.type == "cuda":  # a CPU swaps where it has too little
        runner = Halving(
            runner,
            spec.multiple,
            spec.stride,
            known().overlap,
            instead=lambda: EngineSpec().build(network, "cpu", spec.multiple),
        )
    return Ready(InTurn(runner), known, weights_mark(network))


def weights_mark(network: nn.Module) -> object:
    """Changes whenever a network's weights are changed or moved, however that is done."""
    return tuple((t.data_ptr(), t._version) for t in network.state_dict(keep_vars=True).values())


class InTurn(Engine):
    """An engine that several threads may call: one tile at a time, for engines write where they read."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self._turn = Lock()

    def __str__(self) -> str:
        return str(self.engine)

    @property
    def tensors_on(self) -> torch.device | None:
        """Of tiles that may be tensors."""
        return self.engine.tensors_on

    def __call__(self, tile: Array) -> Array:
        """(z, y, x) float32 -> logits (channel, z/stride, y/stride, x/stride) float32."""
        with self._turn:
            return self.engine(tile)
