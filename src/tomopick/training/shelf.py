"""Volumes that exceed the memory, on disk and mapped into it: a patch reads only the pages that it shows."""

from __future__ import annotations

import logging
import tempfile

import numpy as np

from ..core.errors import OutputError
from ..picking.memory import free_memory

log = logging.getLogger("tomopick")

_SHARE = 0.5  # of the free memory that volumes may take


class Shelf:
    """Keeps volumes: in memory while there is room, then in files of the system's temporary folder.

    The files have no name and vanish with the last who maps them, however the process ends. What is kept is the same
    either way, bit by bit; forked workers share both.

    Args:
        room: bytes of memory for volumes; None: half of what is free.
    """

    def __init__(self, room: int | None = None):
        self.room = int(_SHARE * free_memory()) if room is None else room
        self._told = False

    def keep(self, values: np.ndarray) -> np.ndarray:
        """The same values: the array itself, or a read-only map of a file.

        Raises:
            OutputError: the disk is full.
        """
        if values.nbytes <= self.room:
            self.room -= values.nbytes
            return values
        folder = tempfile.gettempdir()
        if not self._told:
            log.info(f"the volumes need more memory than there is: some are kept in {folder} (TMPDIR says where)")
            self._told = True
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(np.ascontiguousarray(values).data)
                file.flush()
                return np.memmap(file, dtype=values.dtype, mode="r", shape=values.shape)
        except OSError as error:
            raise OutputError(
                f"{folder}: no room for a volume of {values.nbytes / 2**30:.2f} GiB ({error.strerror or error}); "
                "set TMPDIR to a folder on a larger disk"
            ) from error
