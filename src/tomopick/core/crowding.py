"""Whether this process gets the cores that it could use, by how long it waits for one."""

from __future__ import annotations

import time
from pathlib import Path

CROWDED = 0.3  # of the time, from which on it is worth a word
LONG = 5.0  # that it has to be looked at before that [s]


class Waiting:
    """How much of the time since it was made the main thread had work to do and no core to do it on.

    Linux counts that; elsewhere nothing is known.
    """

    def __init__(self, place: Path = Path("/proc/self/schedstat")) -> None:
        self._place = place
        self._began, self._waited = time.monotonic(), self._so_far()

    def share(self) -> float:
        """Of the time; 0 where nothing is known."""
        waited = self._so_far()
        passed = time.monotonic() - self._began
        if waited is None or self._waited is None or passed <= 0:
            return 0.0
        return (waited - self._waited) / passed

    def line(self) -> str:
        """What is to be said of it; empty where there is room."""
        share = self.share()
        if share < CROWDED or time.monotonic() - self._began < LONG:
            return ""
        return (
            f"the cores are crowded: {share:.0%} of the time was spent waiting for one, for other processes are at "
            "work here; it takes that much longer"
        )

    def _so_far(self) -> float | None:
        """Seconds."""
        try:
            return int(self._place.read_bytes().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return None
