"""What a back-end (S3, https, the portal) raises, wherever it does, becomes one line that names the configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...core.errors import ReadError, TomopickError

LIBRARIES = {
    *("aiobotocore", "aiohttp", "asyncssh", "boto3", "botocore", "copick", "cryoet_data_portal", "fsspec", "gcsfs"),
    *("gql", "graphql", "httpx", "mlcroissant", "paramiko", "requests", "s3fs", "smbprotocol", "urllib3"),
}
ANSWERED = 30.0  # [s] within which a server has to
REACHED = "check its profile, credentials and endpoint, and the network"


def require_answers(portal: bool = False) -> None:
    """Servers that are silent for `ANSWERED` seconds are given up; their libraries wait minutes, or for ever.

    Args:
        portal: whether the CryoET Data Portal is going to be asked.
    """
    try:
        import aiohttp
        from fsspec.config import conf
    except ImportError:  # then nothing is read from the web
        return

    patience = aiohttp.ClientTimeout(total=None, sock_connect=ANSWERED, sock_read=ANSWERED)
    for protocol in ("http", "https"):
        conf.setdefault(protocol, {}).setdefault("client_kwargs", {}).setdefault("timeout", patience)
    for protocol in ("s3", "s3a"):  # tried a few times by two libraries, one within the other
        more = {"connect_timeout": ANSWERED, "read_timeout": ANSWERED, "retries": {"total_max_attempts": 1}}
        conf.setdefault(protocol, {}).setdefault("config_kwargs", more)
    for protocol in ("ssh", "sftp"):
        alive = {"keepalive_interval": ANSWERED / 3, "keepalive_count_max": 3}
        more = {"timeout": ANSWERED, "connect_timeout": ANSWERED, "login_timeout": ANSWERED, **alive}
        conf.setdefault(protocol, {}).update({k: v for k, v in more.items() if k not in conf[protocol]})
    conf.setdefault("smb", {}).setdefault("timeout", round(ANSWERED))
    if portal:
        _require_answers_of_portal()


def _require_answers_of_portal() -> None:
    """Its client leaves no room for how long it waits."""
    try:
        from cryoet_data_portal import _client
    except ImportError:
        return
    transport = getattr(_client, "RequestsHTTPTransport", None)
    if isinstance(transport, type):
        _client.RequestsHTTPTransport = functools.partial(transport, timeout=ANSWERED)


@contextmanager
def named(uri: str, root: str | None) -> Iterator[None]:
    """Errors of a back-end inside the block name the configuration and its root.

    Args:
        uri: of the configuration.
        root: where the data lie, as the configuration says.

    Raises:
        ReadError: the back-end cannot be reached, or refuses.
    """
    try:
        yield
    except TomopickError:
        raise
    except Exception as error:  # each library has its own, and they come up wherever data are first asked for
        if not _foreign(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        where = f" {root}" if root else ""
        raise ReadError(f"{uri}: its data{where} cannot be read ({reason}); {REACHED}") from None


def _foreign(error: BaseException) -> bool:
    """Whether an error comes from a back-end: one of the operating system's, or of a library's own kind."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in LIBRARIES


def reads(method: Callable[..., Any]) -> Callable[..., Any]:
    """A project's method that asks its back-end; `self` has `uri` and `where_data_lie`."""

    @functools.wraps(method)
    def asking(self: Any, *arguments: Any, **more: Any) -> Any:
        with named(self.uri, self.where_data_lie):
            return method(self, *arguments, **more)

    return asking
