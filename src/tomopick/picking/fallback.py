"""Running out of memory is no reason to stop: a tile that does not fit is run in parts, and in the end elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..networks.engines import Engine


class Halving:
    """An engine that runs a tile in two overlapping halves, and these again, where its memory is too small.

    What did not fit once is not tried again. Where not even the smallest tile fits, another engine takes over.

    Args:
        engine: to run tiles with; raises `torch.OutOfMemoryError` where one does not fit.
        multiple: what edges of tiles must be divisible by [voxels].
        stride: of the network.
        overlap: that halves share so that their borders do not show [voxels].
        instead: makes the engine that takes over, on a device with more memory; None: there is none.
        say: told what is done about it.
    """

    def __init__(
        self,
        engine: Engine,
        multiple: int,
        stride: int,
        overlap: int,
        instead: Callable[[], Engine] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        self.engine, self.multiple, self.stride, self.overlap = engine, multiple, stride, overlap
        self.instead, self.say = instead, say
        self.too_large: float = float("inf")  # voxels of the smallest tile that did not fit

    def __str__(self) -> str:
        return str(self.engine)

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """(z, y, x) float32 -> logits (object, z/stride, y/stride, x/stride) float32.

        Raises:
            torch.OutOfMemoryError: it does not fit in parts either, and no other engine is there.
        """
        if tile.size < self.too_large:
            try:
                return self.engine(tile)
            except torch.OutOfMemoryError:
                self.too_large = tile.size
            # Not in the handler: the error holds on to the memory that it was raised in.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.say(f"not enough memory for tiles of {'x'.join(map(str, tile.shape))}: they are run in parts")
        halves = self._halves(tile.shape)
        if halves is not None:
            return self._in_two(tile, *halves)
        if self.instead is None:
            raise torch.OutOfMemoryError(f"not even a tile of {'x'.join(map(str, tile.shape))} voxels fits")
        self.say("not enough memory for the smallest tile either: going on with the CPU, which is slower")
        self.engine, self.instead, self.too_large = self.instead(), None, float("inf")
        return self.engine(tile)

    def _halves(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """The axis to halve a tile along, its longest, and the edge of the halves; None where that saves nothing."""
        axis = int(np.argmax(shape))
        wanted = -(-(shape[axis] + self.overlap) // 2)
        edge = -(-wanted // self.multiple) * self.multiple
        # Halves of nearly the whole edge would be halved for ever.
        return (axis, edge) if edge <= 0.75 * shape[axis] else None

    def _in_two(self, tile: np.ndarray, axis: int, edge: int) -> np.ndarray:
        n = tile.shape[axis]
        ends = [slice(0, edge), slice(n - edge, n)]
        first, last = (self(tile[(slice(None),) * axis + (end,)]) for end in ends)
        shared = (2 * edge - n) // self.stride
        # From all of the one to all of the other over the cells that both have.
        rising = ((np.arange(shared) + 0.5) / shared).astype(np.float32).reshape(-1, *[1] * (2 - axis))
        inner = (slice(None),) * (axis + 1)
        own = first.shape[axis + 1] - shared
        middle = first[(*inner, slice(own, None))] * (1 - rising) + last[(*inner, slice(0, shared))] * rising
        parts = [first[(*inner, slice(0, own))], middle, last[(*inner, slice(shared, None))]]
        return np.concatenate(parts, axis=axis + 1)
