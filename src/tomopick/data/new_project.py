"""A copick configuration for tomograms that have none."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..core.errors import OutputError, SelectionError
from ..core.messages import listing
from ..core.names import components
from ..core.presets import CZII_OBJECTS
from ..core.types import PickableObject, Picks
from . import FolderProject, atomic_folder, atomic_write, create_copick_project, open_project, write_run
from .choose import require_id
from .names import PORTAL_IDENTIFIERS, object_alias, plain_name
from .objects import object_from_fields, with_specs

log = logging.getLogger("tomopick")

CURATED = ("curated", "0")  # user and session of picks that came with the tomograms; `pick` writes under another
OBJECT_PRESETS: dict[str, tuple[PickableObject, ...]] = {"czii": CZII_OBJECTS}


def init_project(
    tomograms: Path,
    out: Path,
    objects: Sequence[str] = (),
    *,
    preset: str = "",
    tomo_type: str = "tomogram",
    voxel_spacing: float | None = None,
    plain_names: bool = True,
) -> Path:
    """Writes a copick project; gives the path of its configuration.

    A folder in copick's layout (`ExperimentRuns`) is taken as it is, read-only, and `out` becomes the configuration and
    the overlay beside it. Other volumes (MRC, OME-Zarr) are copied into `out` as pyramids, with the picks of RUN.csv
    as those of `CURATED`.

    Args:
        tomograms: the folder.
        out: a new folder.
        objects: "name:radius" [Å].
        preset: objects to begin with, a key of `PRESETS`.
        tomo_type: of volumes that are copied.
        voxel_spacing: [Å]; in place of what their headers say.
        plain_names: runs lose `rec_` in front and `_10.00Apx` behind.

    Raises:
        SelectionError: no objects, or names that copick refuses.
        OutputError: `out` is there already, or cannot be written.
    """
    if preset and preset not in OBJECT_PRESETS:
        raise SelectionError(f"`preset={preset}`: no such preset; there is {listing(OBJECT_PRESETS)}")
    chosen = with_specs(OBJECT_PRESETS.get(preset, ()), objects, extend=True)
    if not chosen:
        raise SelectionError(
            "no objects; copick wants them named, so give `objects=NAME:RADIUS` (radius in Å) or `preset`"
        )
    for o in chosen:
        require_id(o.name, "object")
    if (tomograms / "ExperimentRuns").is_dir():
        return _beside(tomograms, out, chosen)
    project = open_project(tomograms, voxel_spacing=voxel_spacing, objects=objects)
    if not isinstance(project, FolderProject):
        raise SelectionError(f"{tomograms}: is a project already; expected a folder of tomograms, so use it as it is")
    names = _names(project.runs(), plain_names)
    require_id(tomo_type, "tomogram type")
    components(names.values(), "run")
    with atomic_folder(out) as part:  # a project that lacks some of the tomograms would pass as whole
        new = create_copick_project(part, chosen, name=out.name, place=out)
        for run, name in names.items():
            tomogram = replace(project.tomogram(run), run=name, tomo_type=tomo_type)
            picks = project.picks(run)
            mine = None if picks is None else replace(_known(picks, chosen), run=name)
            write_run(new, [tomogram], mine, *CURATED)
            log.info(f"{name}: {tomogram.grid.shape[::-1]} voxels (x, y, z) of {tomogram.grid.voxel_spacing:.4g} Å")
    return out / "copick.json"


def portal_config(datasets: Sequence[int], out: Path, objects: Sequence[str] = ()) -> Path:
    """Writes a copick configuration of data sets of the CryoET Data Portal, with an overlay beside it for our picks.

    Args:
        datasets: their numbers, such as 10440 (the CZII challenge's).
        out: a new folder.
        objects: "name:radius" [Å], by the portal's names or the challenge's; of any other object
            "name:radius:identifier", the identifier (GO, UniProtKB ...) being the one that the portal shows with its
            annotations, or "name:radius", the portal then being asked. None: the challenge's six.

    Raises:
        SelectionError: an object whose identifier in the portal is known neither here nor there.
        OutputError: `out` is there already.
    """
    radii = {object_alias(o.name, PORTAL_IDENTIFIERS): o.radius for o in CZII_OBJECTS}
    specs = [_split(text) for text in objects] or [(f"{name}:{radius:g}", "") for name, radius in radii.items()]
    given = with_specs((), [spec for spec, _ in specs], extend=True)
    told = {spec.partition(":")[0].strip(): identifier for spec, identifier in specs}
    identifiers = dict(PORTAL_IDENTIFIERS)
    chosen = []
    for o in given:
        identifier = told[o.name]
        name = o.name if identifier else object_alias(o.name, PORTAL_IDENTIFIERS)
        if identifier or name not in identifiers:
            identifiers[name] = identifier or _asked(name, datasets)
        chosen.append(replace(o, name=name, radius=o.radius or radii.get(name)))
    fields = {"config_type": "cryoet_data_portal", "dataset_ids": [int(d) for d in datasets]}
    return _write(out, chosen, fields, identifiers)


def _split(text: str) -> tuple[str, str]:
    """ "name:radius:identifier" -> "name:radius" and the identifier, which has a colon of its own; "" for none."""
    name, _, rest = text.partition(":")
    radius, colon, identifier = rest.partition(":")
    return (f"{name}:{radius}", identifier.strip()) if colon else (text, "")


def _asked(name: str, datasets: Sequence[int]) -> str:
    """The identifier of an object by which the portal's data sets call it."""
    known: dict[str, str] = {}
    why = ""
    try:
        from copick.util.portal import objects_from_datasets

        known = {o.name: o.identifier for o in objects_from_datasets(list(datasets)) if o.identifier}
    except Exception as error:  # no network, or whatever its client raises
        why = f" ({type(error).__name__}: the portal does not answer)"
    if name not in known:
        raise SelectionError(
            f"`objects={name}`: the portal finds objects by identifiers (GO, UniProtKB), and that of '{name}' is not "
            f"known here{why}; known are {listing([*PORTAL_IDENTIFIERS, *known])}; give it behind the radius, as the "
            f"portal shows it with the annotation: {name}:RADIUS:IDENTIFIER"
        )
    return known[name]


def _beside(tomograms: Path, out: Path, objects: Sequence[PickableObject]) -> Path:
    root = tomograms.resolve()
    return _write(out, objects, {"config_type": "filesystem", "static_root": f"local://{root}"})


def _write(
    out: Path, objects: Sequence[PickableObject], fields: Mapping[str, object], identifiers: Mapping[str, str] = {}
) -> Path:
    path = out / "copick.json"
    if path.exists() or (out / "ExperimentRuns").exists():
        raise OutputError(f"{out}: holds a project already; expected a new folder, so choose another")
    entries = [
        {"name": o.name, "is_particle": o.is_particle, "label": o.label, "color": list(o.color), "radius": o.radius,
         "metadata": {"score_weight": o.score_weight}}
        | ({"identifier": identifiers[o.name]} if o.name in identifiers else {})
        for o in objects
    ]  # fmt: skip
    for entry in entries:
        object_from_fields(entry, str(path))
    config = {
        "name": out.name, "description": "Written by tomopick", "version": "1.0.0", **fields,
        "pickable_objects": entries, "overlay_root": f"local://{out.resolve()}",
        "overlay_fs_args": {"auto_mkdir": True},
    }  # fmt: skip
    with atomic_write(path) as handle:
        json.dump(config, handle, indent=2)
    return path


def _names(runs: Sequence[str], plain: bool) -> dict[str, str]:
    """The new name of each run: shorter where that stays unique, in its own spelling."""
    names = {run: plain_name(run) if plain else run for run in runs}
    return names if len(set(names.values())) == len(names) else {run: run for run in runs}


def _known(picks: Picks, objects: Sequence[PickableObject]) -> Picks:
    return picks.among([o.name for o in objects])
