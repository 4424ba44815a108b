"""copick's configuration file: opened with messages a user can follow, found again after a move, and written."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...core.errors import OutputError, ReadError
from ...core.files import atomic_write
from ...core.text import read_json
from ...core.types import PickableObject
from .backends import require_answers

log = logging.getLogger("tomopick")

OURS = "tomopick"  # our key in the configuration; copick does not heed keys it does not know
CONFIG_NAME = "copick.json"


def load_root(path: Path) -> Any:
    """copick's root for a configuration file.

    Raises:
        ReadError: no copick configuration, or local folders that are not there.
    """
    data = read_json(path, "a copick configuration")
    if not isinstance(data, dict) or not isinstance(data.get("pickable_objects"), list):
        raise ReadError(f"{path}: no 'pickable_objects' in it; expected a copick configuration")
    _relocate(path, data)
    with warnings.catch_warnings():
        # Deprecations inside copick's dependencies are nothing a user of tomopick can act on.
        warnings.simplefilter("ignore", DeprecationWarning)
        import copick

        require_answers(portal=data.get("config_type") == "cryoet_data_portal")
        try:
            return copick.from_string(json.dumps(data))
        except Exception as error:  # its back-ends raise what their own libraries do (gql's, botocore's, ...)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ReadError(f"{path}: copick cannot open it ({reason}); expected a copick configuration") from None


def local_path(url: object) -> Path | None:
    """The path that a root's URL names, if it is one and on this machine."""
    if not url or not isinstance(url, str):
        return None
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, _, rest = url.partition(":") if url.startswith(("local:", "file:")) else ("", "", url)
    return Path(os.path.expanduser(rest)) if scheme in ("", "local", "file") else None


def _relocate(path: Path, data: dict[str, Any]) -> None:
    """Points the roots to where the folders are now, in memory only.

    A project that tomopick wrote lies beside its configuration, wherever it was moved or copied to. Of others, a root
    that is gone is taken from beside the configuration, if a folder of its name is there.
    """
    here = path.absolute().parent
    own = data.get(OURS)
    if isinstance(own, dict) and isinstance(own.get("overlay_root"), str):
        moved = here / own["overlay_root"]
        if moved.is_dir():
            data["overlay_root"] = f"local://{moved.resolve()}"
    for key in ("overlay_root", "static_root"):
        root = local_path(data.get(key))
        if root is None or root.exists():
            continue
        beside = here / root.name
        if root.name and beside.is_dir():
            log.warning("%s: %s %s is not there; %s is taken", path, key, root, beside)
            data[key] = f"local://{beside}"
        elif key == "static_root" or _is_only_root(data):
            raise ReadError(f"{path}: {key} {root} is not there; expected the project's folder, so correct the path")


def _is_only_root(data: dict[str, Any]) -> bool:
    """Whether a missing overlay means that there is nothing to read; others begin with an empty overlay."""
    return data.get("config_type", "filesystem") == "filesystem" and not data.get("static_root")


def write_config(folder: Path, objects: Iterable[PickableObject], name: str, place: Path) -> Path:
    """Writes `copick.json` of a project whose overlay is `folder` itself, which will lie at `place`; gives its path.

    Raises:
        OutputError: the folder holds a project already, copick would refuse an object, or it cannot be written.
    """
    path = folder / CONFIG_NAME
    for taken in (path, folder / "ExperimentRuns"):
        if taken.exists():
            raise OutputError(f"{taken}: exists already; expected an empty folder, so remove it or choose another")
    entries = [
        {
            "name": o.name,
            "is_particle": o.is_particle,
            "label": o.label,
            "color": list(o.color),
            "radius": o.radius,
            "metadata": {"score_weight": o.score_weight},
        }
        for o in objects
    ]
    _require_valid(entries, place / CONFIG_NAME)
    config = {
        "config_type": "filesystem",
        "name": name,
        "description": "Written by tomopick",
        "version": "1.0.0",
        "pickable_objects": entries,
        # Absolute for copick's other tools; the key below finds the folder again after a move.
        "overlay_root": f"local://{place.resolve()}",
        "overlay_fs_args": {"auto_mkdir": True},
        OURS: {"overlay_root": "."},
    }
    with atomic_write(path) as handle:
        json.dump(config, handle, indent=2)
    return path


def _require_valid(entries: list[dict[str, Any]], path: Path) -> None:
    from copick.models import PickableObject as CopickObject

    labels = [entry["label"] for entry in entries]
    if len(set(labels)) < len(labels):
        raise OutputError(f"{path}: labels {labels}; expected a different one for each object")
    for entry in entries:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # copick warns before it refuses
                CopickObject(**entry)
        except ValueError as error:
            reason = " ".join(str(error).split())[:200]
            raise OutputError(f"{path}: copick refuses object '{entry['name']}' ({reason})") from None
