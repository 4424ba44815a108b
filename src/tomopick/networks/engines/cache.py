"""Converted networks, kept for the next process. Whatever is wrong with the cache, picking goes on without it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from ... import __version__
from ...core.errors import OutputError
from ...core.files import atomic_folder
from ...core.reading import parse_json

KEPT = 24  # entries of a kind; those not used for longest go
DIGEST = "digest.json"

log = logging.getLogger("tomopick")


def cache_folder() -> Path:
    """Where converted networks are kept: TOMOPICK_CACHE, else the user's cache folder of this system."""
    stated = os.environ.get("TOMOPICK_CACHE")
    if stated:
        return Path(stated)
    homes = {"win32": ("LOCALAPPDATA", "~/AppData/Local"), "darwin": ("XDG_CACHE_HOME", "~/Library/Caches")}
    variable, usual = homes.get(sys.platform, ("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.path.expanduser(os.environ.get(variable) or usual)) / "tomopick"


def key_of(network: nn.Module, *facts: str) -> str:
    """Changes with the weights, the network's structure, this version, and whatever else decides what is kept."""
    digest = hashlib.sha256("\n".join((__version__, str(network), *facts)).encode())
    for name, value in network.state_dict().items():
        digest.update(f"\n{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def kept(key: str) -> Path | None:
    """The folder of an entry that is as it was written; a damaged one is removed."""
    folder = cache_folder() / key
    try:
        stated = parse_json((folder / DIGEST).read_bytes())
        if stated == _digests(folder):
            os.utime(folder)
            return folder
    except FileNotFoundError:
        if not folder.exists():
            return None
    except (OSError, ValueError) as error:
        log.debug("%s: %s", folder, error)
    log.warning("%s: damaged; the network is converted again", folder)
    shutil.rmtree(folder, ignore_errors=True)
    return None


def keep_entry(key: str, write: Callable[[Path], None]) -> None:
    """Makes an entry whole or not at all.

    Args:
        key: of the entry.
        write: puts its files into an empty folder.
    """
    root = cache_folder()
    try:
        with atomic_folder(root / key) as folder:
            write(folder)
            (folder / DIGEST).write_text(json.dumps(_digests(folder)))
        _forget(p for p in root.iterdir() if (p / DIGEST).is_file())
    except (OutputError, OSError, RuntimeError) as error:
        # Read-only, full, or another process was faster: the next process converts once more.
        log.debug("%s: not kept: %s", root / key, error)


def left_to(runtime: str, key: str) -> Path:
    """A folder that a runtime fills and checks itself, as TensorRT does with its engines."""
    folder = cache_folder() / runtime / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        _forget(folder.parent.iterdir())
    except OSError as error:  # then it finds nothing there, and keeps nothing
        log.debug("%s: %s", folder, error)
    return folder


def _forget(entries: Iterable[Path]) -> None:
    """Removes all but the `KEPT` that were used last."""
    for old in sorted(entries, key=lambda p: p.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.iterdir() if p.name != DIGEST)
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
