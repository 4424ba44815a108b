"""Published weights -> model folders."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from .. import recipes
from ..core.errors import ModelError, SelectionError
from ..core.files import atomic_folder, require_new
from ..core.messages import counted, near_miss
from ..core.presets import CZII_OBJECTS, CZII_VOXEL_SPACING
from ..core.types import PickableObject
from ..picking.cards import provenance, save_with_card
from ..picking.detector import Detector
from ..picking.ensemble import Ensemble
from ..picking.folder import TrainingFacts
from ..picking.load import load_model
from ..picking.normalize import FixedLimits, Normalization
from ..scoring.metrics import DEFAULT_THRESHOLDS, METRICS
from ..training.recipe import Recipe
from .torch_files import StoredTensor, load_tensors, plain_table, read_torch_file, tensor_tables

_State = dict[str, torch.Tensor]

_AF, _BA, _BG, _RB, _TH, _VLP = (o.name for o in CZII_OBJECTS)
_SOUP_OBJECTS = _TOPCUP_OBJECTS = (_AF, _BA, _BG, _RB, _TH, _VLP)
_BPD_THRESHOLDS = {_AF: 0.0575, _BG: 0.0475, _RB: 0.0575, _TH: 0.0475, _VLP: 0.125}
_TOPCUP_THRESHOLDS = {_AF: 0.16, _BA: 0.25, _BG: 0.13, _RB: 0.19, _TH: 0.18, _VLP: 0.50}
# Mean and deviation of the challenge's denoised training tomograms, with which the 4th place normalised all volumes.
_CZII_MEAN, _CZII_DEVIATION = 5.2577832e-08, 7.199929e-06
_CONVOLUTION_OF_TWO = r"\1.\2.\3"


@dataclass(frozen=True)
class ReleasedLayout:
    """How a published network lies in its file.

    Attributes:
        recipe: that builds the same network.
        head: its last layer's weight, by its published name; every copy of the network in a file has one.
        rename: patterns of published names and what ours are, applied one after the other.
        dropped: pattern of published names that hold nothing the network uses.
        objects: in channel order.
        thresholds: published, by object.
        variants: a published name that only a variant has, and the overrides that make ours the same.
        per_object: channels of the head that make one output channel.
        mirrored: the network saw volumes with their axes as x, y, z.
        averaged: where a file has a running average too, that is the one to use.
        normalize: in place of the recipe's, as the weights were trained.
    """

    recipe: str
    head: str
    rename: tuple[tuple[str, str], ...] = ()
    dropped: str = r"(?!)"
    objects: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    variants: tuple[tuple[str, tuple[str, ...]], ...] = ()
    per_object: int = 1
    mirrored: bool = False
    averaged: bool = False
    normalize: Normalization | None = None

    def ours(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The same under our names."""
        found = {}
        for name, value in theirs.items():
            if re.fullmatch(self.dropped, name):
                continue
            for pattern, ours in self.rename:
                name = re.sub(pattern, ours, name)
            found[name] = value
        return found


# Names of MONAI's layers before norm and activation got a block of their own.
_OLD_MONAI = ((r"\.act\.weight$", ".adn.A.weight"), (r"\.norm\.(\w+)$", r".adn.N.\1"))
_SOUP = ReleasedLayout(
    "soup_released_tiny", "model.2.1.conv.unit0.conv.weight", _OLD_MONAI, objects=_SOUP_OBJECTS,
    thresholds=dict.fromkeys(_SOUP_OBJECTS, 0.1), averaged=True,
)  # fmt: skip
_LAYOUTS = (
    ReleasedLayout(
        "bpd_released",
        "mask.weight",
        (
            (r"^norm\.", "input_norm."),
            (r"^(encoder\d|decoder2)\.conv3d_layers\.(\d)\.block\.(\d)", _CONVOLUTION_OF_TWO),
            (r"^decoder1\.conv3d_layers\.(\d)\.block\.(\d)", r"bottleneck.\1.\2"),
            (r"^decoder2\.upsample\.", "up."),
            (r"^pre\.conv3d_layers\.(\d)\.block\.(\d)", r"final.\1.\2"),
            (r"^mask\.", "logits."),
        ),
        dropped="D",
        objects=(_AF, _BG, _RB, _TH, _VLP),
        thresholds=_BPD_THRESHOLDS,
    ),
    ReleasedLayout(
        "topcup_released",
        "segmentation_heads.3.0.weight",
        _OLD_MONAI,
        objects=_TOPCUP_OBJECTS,
        thresholds=_TOPCUP_THRESHOLDS,
        variants=(("encoder._conv_stem.weight", ("network.encoder=efficientnet-b3",)),),
        mirrored=True,
    ),
    _SOUP,
    replace(_SOUP, recipe="soup_released_medium"),
    replace(_SOUP, recipe="soup_released_big"),
    ReleasedLayout(
        "unet25d_convnext",
        "segmentation_head.weight",
        (
            (r"^stem\.conv\.", "slices."),
            (r"^backbone\.(stem|stages)_(\d)", r"backbone.\1.\2"),
            (r"^conv3ds\.(\d)\.(\d)\.block\.(\d)", r"bridges.\1.\2.\3"),
            (r"^decoder\.blocks\.(\d)\.conv1\.block\.(\d)", r"decoder.\1.0.\2"),
            (r"^decoder\.blocks\.(\d)\.conv2\.block\.(\d)", r"decoder.\1.1.\2"),
            (r"^segmentation_head\.", "head."),
        ),
        objects=(_AF, _BG, _RB, _TH, _VLP, _BA),
        per_object=64,
        averaged=True,
        normalize=FixedLimits(_CZII_MEAN, _CZII_MEAN + _CZII_DEVIATION),
    ),
)
LAYOUTS: Mapping[str, ReleasedLayout] = {layout.recipe: layout for layout in _LAYOUTS}


@dataclass(frozen=True)
class Copy:
    """One network in a file.

    Attributes:
        prefix: of its names.
        table: its tensors under their published names.
    """

    prefix: str
    table: Mapping[str, StoredTensor]


def convert(
    path: str | Path, kind: str, out: str | Path, objects: Sequence[PickableObject] = (), member: int | None = None
) -> Detector | Ensemble:
    """Writes the model folder of published weights, or, of a file with several networks, their ensemble's.

    Nothing from the file is run: see `torchfile`.

    Args:
        path: a checkpoint (.ckpt) or state_dict (.pt, .pth).
        kind: the recipe whose network it is, a key of `LAYOUTS`.
        out: new folder.
        objects: what the channels mean, in their order; those that were published, or that the file names, where empty.
        member: which of several networks alone, counted from 1.

    Raises:
        SelectionError: no such kind or member.
        ModelError: the file cannot be read, or is of another network.
        OutputError: `out` exists already.
    """
    path, out = Path(path), Path(out)
    if kind not in LAYOUTS:
        raise SelectionError(f"no published weights '{kind}'; {near_miss(kind, list(LAYOUTS))}")
    require_new(out)
    layout, content = LAYOUTS[kind], read_torch_file(path)
    found = copies(content, layout)
    if not found:
        raise ModelError(f"{path}: holds no {layout.head}; expected the weights of {kind} under their published names")
    if member is not None:
        if not 1 <= member <= len(found):
            raise SelectionError(f"{path}: holds {counted(len(found), 'network')}; there is no member {member}")
        found = [found[member - 1]]
    known = objects or _objects_in(content, layout)
    about = {"file": path.name, "sha256": _digest(path), "kind": kind}
    made = [_detector(path, layout, copy, known, content, about) for copy in found]
    with atomic_folder(out) as folder:
        if len(made) == 1:
            _save(made[0], folder)
        else:
            places = [folder / "members" / str(i + 1) for i in range(len(made))]
            save_with_card(Ensemble.of([_save(d, place) for d, place in zip(made, places)]), folder)
    return load_model(out)


def _save(detector: Detector, folder: Path) -> Detector:
    folder.mkdir(parents=True, exist_ok=True)
    checksum = save_with_card(detector, folder)
    return replace(detector, checksum=checksum, name=str(folder))


def copies(content: Any, layout: ReleasedLayout) -> list[Copy]:
    """The networks of a layout in what was read from a file.

    Of weights and their running average in one file it is the average where the published code picks with that.
    """
    found: list[Copy] = []
    for table in tensor_tables(content):
        starts = [k.removesuffix(layout.head) for k in table if k == layout.head or k.endswith(f".{layout.head}")]
        found += [Copy(s, {k.removeprefix(s): v for k, v in table.items() if k.startswith(s)}) for s in starts]
        if found:
            break
    averages = [c for c in found if "ema" in re.split(r"[._]", c.prefix.lower())]
    others = [c for c in found if c not in averages]
    return (averages or others) if layout.averaged else (others or averages)


def _objects_in(content: Any, layout: ReleasedLayout) -> tuple[PickableObject, ...]:
    """The objects that a checkpoint of topcup names among its settings, in channel order; else the published ones."""
    channels = plain_table(content, "hyper_parameters", "particle_ids")
    radii = plain_table(content, "hyper_parameters", "particle_radius")
    preset = {o.name: o for o in CZII_OBJECTS}
    if not channels or set(channels.values()) != set(range(len(channels))):
        return tuple(replace(preset[name], label=i + 1) for i, name in enumerate(layout.objects))
    found: list[PickableObject] = []
    for name in sorted(channels, key=channels.__getitem__):
        radius, o = radii.get(name), preset.get(name, PickableObject(name, None, 1))
        own = float(radius) if isinstance(radius, int | float) and radius > 0 else o.radius
        found.append(replace(o, label=len(found) + 1, radius=own))
    return tuple(found)


def _recipe(layout: ReleasedLayout, names: Sequence[str]) -> Recipe:
    recipe = recipes.get(layout.recipe)
    for name, overrides in layout.variants:
        recipe = recipe.override(overrides) if name in names else recipe
    return replace(recipe, normalize=layout.normalize or recipe.normalize, voxel_spacing=CZII_VOXEL_SPACING)


def _detector(
    path: Path,
    layout: ReleasedLayout,
    copy: Copy,
    objects: Sequence[PickableObject],
    content: Any,
    about: Mapping[str, str],
) -> Detector:
    recipe = _recipe(layout, list(copy.table))
    theirs = load_tensors(path, copy.table)  # refuses shapes that are none
    entries = theirs[layout.head].shape[0] if theirs[layout.head].ndim else 0
    channels = entries // layout.per_object - int(recipe.network.background)
    if channels != len(objects):
        raise ModelError(
            f"{path}: has channels for {counted(channels, 'object')}, not {len(objects)} "
            f"({', '.join(o.name for o in objects)}); "
            "name them in channel order, each as `objects=NAME:RADIUS`"
        )
    with torch.device("meta"):
        network = recipe.network.build(channels)
    state = ours(theirs, layout)
    _check(path, layout, state, network.state_dict())
    network.load_state_dict(state, assign=True)
    stated = plain_table(content, "hyper_parameters", "score_thresholds")
    known = {k: float(v) for k, v in {**layout.thresholds, **stated}.items() if isinstance(v, int | float)}
    thresholds = {m: {o.name: known.get(o.name, DEFAULT_THRESHOLDS[m]) for o in objects} for m in METRICS}
    facts = TrainingFacts(
        voxel_spacing=CZII_VOXEL_SPACING,
        tomo_types=("denoised",),
        provenance={**provenance(), "converted": {**about, "network": copy.prefix}},
    )
    return Detector(recipe.method, tuple(objects), network.eval(), thresholds, facts, recipe_json=recipe.to_json())


def ours(theirs: Mapping[str, torch.Tensor], layout: ReleasedLayout) -> _State:
    """Published weights under our names, for volumes with axes z, y, x."""
    state: _State = layout.ours(theirs)
    if layout.mirrored:
        state = mirrored(state)
    # BatchNorm takes away what the layer before it adds: ours does without.
    bias = state.pop("up.0.bias", None)
    if bias is not None and "up.1.running_mean" in state:
        state["up.1.running_mean"] = state["up.1.running_mean"] - bias
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def mirrored(state: Mapping[str, torch.Tensor]) -> _State:
    """Weights that do to a volume with axes x, y, z what these do to one with axes z, y, x; its own inverse."""
    return {k: v.permute(0, 1, 4, 3, 2).contiguous() if v.ndim == 5 else v for k, v in state.items()}


def _check(path: Path, layout: ReleasedLayout, state: _State, wanted: Mapping[str, torch.Tensor]) -> None:
    """Completes counters that older files lack; refuses what is missing, too much, or of another shape."""
    for name in wanted:
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, torch.tensor(0))
    faults = [f"{name} is missing" for name in wanted if name not in state]
    faults += [f"{name} is none of its layers" for name in state if name not in wanted]
    faults += [
        f"{name} has shape {tuple(state[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise ModelError(f"{path}: is no network of {layout.recipe} ({faults[0]}{more}); check `kind`")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
