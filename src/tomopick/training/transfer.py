"""Starting a training from another model: its body, and the output channels of the objects that both know."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..core.errors import ModelError, SelectionError
from ..core.types import PickableObject
from ..networks import NetworkSpec
from ..networks.pretrained import find_timm, timm_in
from ..picking.detector import Detector
from ..picking.method import Method
from ..scoring.score_maps import heights
from .dataset import Data
from .recipe import Recipe

log = logging.getLogger("tomopick")

FEW_LABELS = 50  # labels of an object; with fewer a training can spoil what a model knows
_BACKGROUND = ""  # the label of the channel for "none of the objects"
_Blocks = tuple[int, ...]


def like(recipe: Recipe, start: Detector) -> Recipe:
    """The recipe as it goes on from a model: at the learning rate for that, and where it has none at its voxel spacing.

    Raises:
        ModelError: the model was taught in a way that this version does not know; it can only be picked with.
    """
    Recipe.from_json(start.recipe_json)
    if recipe.normalize != start.method.normalize:
        log.warning(f"{start.name} was trained with another normalisation ({start.method.normalize})")
    recipe = replace(recipe, train=recipe.train.from_model())
    if recipe.voxel_spacing is None:
        log.info(f"at {start.facts.voxel_spacing:g} Å, as {start.name} was trained")
        return replace(recipe, voxel_spacing=start.facts.voxel_spacing)
    return recipe


def _knows(start: Detector, names: Iterable[str]) -> bool:
    return set(names) <= {o.name for o in start.objects}


def start_lasts(start: Detector, labels: Mapping[str, int]) -> bool:
    """Whether a model counts in the running average of weights as any step does, in place of being forgotten soon.

    Where it knows all objects and labels of each are few, a training can spoil more than it teaches: weights between
    the two are the safer ones (Wortsman et al. 2022, arXiv:2109.01903).

    Args:
        start: the model.
        labels: how many there are of each object that is learned.
    """
    return _knows(start, labels) and max(labels.values(), default=0) < FEW_LABELS


def fewer_steps(recipe: Recipe, start: Detector, objects: Sequence[PickableObject], told: bool = True) -> Recipe:
    """The recipe with the steps that are enough where the model knows all of these objects."""
    before, recipe = recipe.train.steps, steps_from(recipe, start.objects, objects)
    if told and recipe.train.steps < before:
        log.info(
            f"{start.name} knows all of these objects: {recipe.train.steps} steps in place of {before}; "
            f"where they look otherwise there: train.steps={before}"
        )
    return recipe


def steps_from(recipe: Recipe, known: Sequence[PickableObject], objects: Sequence[PickableObject]) -> Recipe:
    """The recipe with its steps where it learns `objects` from a model of those that are `known`."""
    all_known = {o.name for o in objects} <= {o.name for o in known}
    train = recipe.train.for_known_objects() if all_known else replace(recipe.train, steps_from_model=0)
    return replace(recipe, train=train)


def held_objects(
    start: Detector | None, add: Sequence[str], objects: Sequence[str] | None
) -> tuple[PickableObject, ...]:
    """What a model knows besides the objects that are added to it; none where none is added.

    Raises:
        SelectionError: there is no model to add to, or it knows the object, or others are named as well.
    """
    if not add:
        return ()
    if start is None:
        raise SelectionError(f"`add={add[0]}`: expected a model to add it to; say which: `init_from=default`")
    if objects is not None:
        raise SelectionError(
            "`add` names what is learned besides all that the model knows; leave `FitOptions.objects` out"
        )
    known = [o.name for o in start.objects]
    for name in add:
        if name in known:
            raise SelectionError(f"`add={name}`: {start.name} knows it already; leave `add` out to go on with it")
    return start.objects


def require_addable(add: Sequence[str], simulated: bool) -> None:
    """Raises `SelectionError` where objects are added in a plan that begins with simulated runs, and none is there."""
    if add and simulated:
        raise SelectionError(
            f"`add={add[0]}`: what is pretrained on `simulated` learns the objects that are there, and nothing can be "
            "added to it; leave one of them out"
        )


def holding(detector: Detector, start: Detector, held: Sequence[str], data: Data) -> Detector:
    """With the old thresholds of what is held, and a record of what nothing measures anew."""
    cuts = {m: heights(start.thresholds[m], start.score_maps) for m in detector.thresholds}
    kept = {m: {**mine, **{n: cuts[m][n] for n in held}} for m, mine in detector.thresholds.items()}
    measured = {n for v in data.val for n in v.picks.names.tolist()}
    told = {"added_to": start.name, "thresholds_of_before": [n for n in held if n not in measured]}
    facts = replace(detector.facts, provenance={**detector.facts.provenance, **told})
    return replace(detector, thresholds=kept, facts=facts)


@torch.no_grad()
def take_over(network: nn.Module, method: Method, objects: Sequence[PickableObject], start: Detector) -> None:
    """Fills a new network of any family with a model's weights.

    Channels belong to objects by name, whatever their order and number on either side, and so does the background's;
    those of objects that the model does not know keep their random start.

    Args:
        network: built from `method` for `objects`; changed in place.
        method: of the training to come.
        objects: to learn.
        start: the model.

    Raises:
        ModelError: the model's network is another.
    """
    mine, theirs = network.state_dict(), start.network.state_dict()
    axes = channel_axes(method, len(objects))
    other_axes = channel_axes(start.method, len(start.objects))
    names, known = [o.name for o in objects], [o.name for o in start.objects]
    same = set(mine) == set(theirs) and axes == other_axes
    if not same or any(_body(v, axes.get(k)) != _body(theirs[k], axes.get(k)) for k, v in mine.items()):
        raise ModelError(
            f"{start.name}: its network ({start.method.network}) is another than this recipe's; "
            "start from a model of the same network"
        )
    for key, value in mine.items():
        if key not in axes:
            value.copy_(theirs[key])
            continue
        here, there = value, theirs[key]
        places: list[torch.Tensor] = []  # of what is taken over, axis by axis: (n,) each
        for axis, block in enumerate(axes[key]):
            if not block:  # as long whatever the objects
                places.append(torch.arange(here.shape[axis]))
                continue
            wanted = _labels(method, names, here.shape[axis], block)
            given = _labels(start.method, known, there.shape[axis], block)
            # Entry i here and entry j there are of the same object.
            pairs = [(i, given.index(label)) for i, label in enumerate(wanted) if label in given]
            places.append(torch.tensor([i for i, _ in pairs], dtype=torch.long))
            there = there.index_select(axis, torch.tensor([j for _, j in pairs], dtype=torch.long))
        here[torch.meshgrid(*places, indexing="ij")] = there  # both as long as `places` along every axis
    kept, new = [n for n in names if n in known], [n for n in names if n not in known]
    log.info(f"starts from {start.name}; heads kept: {', '.join(kept) or 'none'}; new: {', '.join(new) or 'none'}")


def channel_axes(method: Method, n_objects: int) -> dict[str, _Blocks]:
    """Parameters whose shape depends on the number of objects: how many entries one more object adds, axis by axis."""
    with torch.device("meta"):
        less, more = (method.network.build(n).state_dict() for n in (n_objects, n_objects + 1))
    shapes = {k: (v.shape, more[k].shape) for k, v in less.items() if more[k].shape != v.shape}
    return {k: tuple(b - a for a, b in zip(*pair)) for k, pair in shapes.items()}


def _labels(method: Method, names: Sequence[str], n: int, block: int) -> list[tuple[str, int]]:
    """Whose each of the n entries of an axis is, and which of that object's."""
    owners = list(names)
    if n == (len(names) + 1) * block:
        first = method.activation.background == "first"
        owners = [_BACKGROUND, *names] if first else [*names, _BACKGROUND]
    return [(owner, k) for owner in owners for k in range(block)]


def _body(value: torch.Tensor, blocks: _Blocks | None) -> _Blocks:
    """A shape without what depends on the objects."""
    return tuple(0 if block else n for n, block in zip(value.shape, blocks or [0] * value.ndim))


def imagenet_weights(recipe: Recipe) -> str:
    """timm's name of what a new network of the recipe is to start from; "" for nothing, or for a file of its own."""
    return recipe.imagenet if recipe.imagenet != "none" and recipe.network.takes_weights else ""


def started(recipe: Recipe, weights_folder: str) -> NetworkSpec:
    """The network's spec with the file of the weights that it starts from, where there are some and they are found.

    Raises:
        ModelError: the folder is not there, or holds several files that it may be.
    """
    spec = recipe.network
    if not imagenet_weights(recipe):
        return spec
    path = timm_in(Path(weights_folder), recipe.imagenet) if weights_folder else None
    try:
        path = path or find_timm(recipe.imagenet)
    except ModelError as error:
        where = f"neither in {weights_folder} nor to be fetched" if weights_folder else "not there"
        log.warning(
            f"{recipe.name} starts from RANDOM weights: ImageNet weights of its 2D network, timm's {recipe.imagenet}, "
            f"are {where} ({error}). It then learns more slowly and picks worse: fetch timm/{recipe.imagenet} from "
            "Hugging Face and give the folder it lies in with `weights_folder`, or say that it shall be so: "
            "imagenet=none"
        )
        return spec
    log.info(f"its 2D network starts from {path}")
    return replace(spec, pretrained=str(path))  # type: ignore[type-var]


def initialise(network: nn.Module, recipe: Recipe, weights_folder: str) -> None:
    """Fills a new network with the weights that it starts from, where there are some.

    Raises:
        ModelError: as `started`, or they are another network's.
    """
    spec = started(recipe, weights_folder)
    try:
        spec.initialise(network)
    except ModelError as error:
        if not imagenet_weights(recipe):
            raise
        raise ModelError(
            f"{error}; they are what the recipe calls `imagenet` ({recipe.imagenet}): where its network is another by "
            "now, name that one's, or imagenet=none"
        ) from error


def start_of(recipe: Recipe, weights_folder: str) -> str:
    """What a new network of the recipe would start from, without fetching anything; "" for new weights.

    Raises:
        ModelError: as `started`.
    """
    name = imagenet_weights(recipe)
    if not name:
        return str(getattr(recipe.network, "pretrained", ""))
    path = timm_in(Path(weights_folder), name) if weights_folder else None
    return str(path) if path else f"{name}, if it can be fetched; else random weights"
