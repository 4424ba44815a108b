"""Where pages are served: this machine's own address, and a port of it."""

from __future__ import annotations

import socket

from ..core.errors import OutputError

HOST = "127.0.0.1"


def bound(port: int) -> socket.socket:
    """What a page is served at, taken at once; 0 for a port that is free.

    Raises:
        OutputError: another program has the port, or nobody may have it.
    """
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"`port={port}`: the page cannot be served there ({reason}); name another, or leave it out for one that is "
            "free"
        ) from None
