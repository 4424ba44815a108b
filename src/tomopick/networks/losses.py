"""Losses. Each is called with (logits, target, known) and says how its logits become a heatmap.

In training a network may give a tuple of logits, coarsest first (deep supervision): a loss with `head_weights` judges
each against the target's maximum over the cells of that grid, any other the finest alone.

A loss whose activation has a `background` ("first" or "last") wants one channel more than there are objects; its
targets have none, for what no object claims is background. Of an object that is not labelled in a volume, or in a part
of it, nothing is said: where it might be, background and object count as one.

What is `known` is (b, object), or (b, object, z, y, x) on the target's grid where parts of patches are labelled: 0
where nothing is known, and else the weight of what is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from ..core.errors import RecipeError
from .activations import Activation, Rectified, Sigmoid, Softmax, require_background, without_background

Logits = torch.Tensor | tuple[torch.Tensor, ...]


class Loss(Protocol):
    """What an objective minimises."""

    @property
    def unlabelled(self) -> str:
        """What it makes of places that were not picked."""

    @property
    def prior(self) -> float:
        """The share of particles among them, for `pu`."""

    def __call__(self, logits: Logits, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Mean loss (scalar) of logits and target (b, object, z, y, x); `known` is 0 where nothing is."""

    @property
    def activation(self) -> Activation:
        """What the logits mean that it teaches; with these weights, picking needs no more of it."""

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits ([b,] channel, z, y, x) -> heatmap ([b,] object, z, y, x), 0..1 unless a regression overshoots."""
        return self.activation(logits)


@dataclass(frozen=True, kw_only=True)
class OfPicks(Loss):
    """What all losses have.

    Attributes:
        unlabelled: what was not picked is background (`negative`); or only picks, their surroundings and negatives
            that are stated count (`ignore`); or it is background but for a share `prior` of particles (`pu`).
        prior: the share of particles' cells among those that were not picked, for `pu`.
    """

    unlabelled: str = "negative"
    prior: float = 0.03

    def __post_init__(self) -> None:
        if self.unlabelled not in ("negative", "ignore", "pu"):
            raise RecipeError(f"loss.unlabelled is {self.unlabelled}; expected negative, ignore or pu")
        if not 0 < self.prior < 1:
            raise RecipeError(f"loss.prior is {self.prior:g}; expected a share between 0 and 1")


@dataclass(frozen=True)
class HeatmapWeightedMSE(OfPicks):
    """Squared error weighted with target + floor, so that particles count more than the background around them.

    Attributes:
        floor: weight of the background.

    Source: CZII 4th place (yu4u), mean[(prediction - target)^2 (target + 0.1)], on a linear output.
    """

    floor: float = 0.1

    def __call__(self, logits: Logits, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Mean over the channels, or their cells, that are known."""
        error = (_finest(logits).float() - target).square() * (target + self.floor)
        if known.dim() == 2:
            error = error.mean(dim=(2, 3, 4))
        return (error * known).sum() / known.sum().clamp(min=1)

    @property
    def activation(self) -> Activation:
        """The output is the heatmap itself."""
        return Rectified()


@dataclass(frozen=True)
class ReweightedMSE(OfPicks):
    """Mean squared error over the particles plus that over the background, each by its own mass, object by object.

    sum Y (P - Y)^2 / (sum Y + eps) + alpha sum (1 - Y) (P - Y)^2 / (sum (1 - Y) + eps), sums over batch and voxels.

    Attributes:
        alpha: weight of the background.
        sigmoid: the prediction P is the sigmoid of the logits; else the logits themselves.
        hard: particles are all that is above 0, alike, and background is the rest; else Y and 1 - Y are the weights.
        eps: against division by zero.

    Source: SemiETPicker, arXiv:2510.22454 (alpha and the form of the weights are ours: its formulas are lost); with
    alpha 1 and a linear output tattaka's loss, arXiv:2502.13484, equation 2.
    """

    alpha: float = 1.0
    sigmoid: bool = False
    hard: bool = False
    eps: float = 1e-6

    def __call__(self, logits: Logits, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Mean over the objects that are known anywhere in the batch."""
        predicted = _finest(logits).float()
        if self.sigmoid:
            predicted = predicted.sigmoid()
        error, seen = (predicted - target).square(), in_cells(known)
        weight = (target > 0).float() if self.hard else target
        particles = _share(error, weight * seen, self.eps)
        background = _share(error, (1 - weight) * seen, self.eps)
        present = _anywhere(known)
        return ((particles + self.alpha * background) * present).sum() / present.sum().clamp(min=1)

    @property
    def activation(self) -> Activation:
        """The sigmoid, or the output itself."""
        return Sigmoid() if self.sigmoid else Rectified()


@dataclass(frozen=True)
class DenseCrossEntropy(OfPicks):
    """Softmax cross-entropy with class weights in every cell, mean over the cells, not divided by the weights.

    Attributes:
        particle, nothing: weights of the objects and of the background.
        background: where its channel lies, "first" or "last".
        label_smoothing: share of the target that is spread over all channels.
        head_weights: of the outputs in training, coarsest first, the last for the finest; () for the finest alone.

    Source: TopCUP (CZII challenge, 1st place): 256 to 1, or 64 to 1; BPD as released: 1 to 1, smoothing 0.01.
    """

    particle: float = 256.0
    nothing: float = 1.0
    background: str = "last"
    label_smoothing: float = 0.0
    head_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.background, self.head_weights)
        if not 0 <= self.label_smoothing < 1:
            raise RecipeError(f"loss.label_smoothing is {self.label_smoothing:g}; it must be from 0 to just below 1")

    def __call__(self, logits: Logits, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Weighted mean over the outputs."""
        total, mass = torch.zeros((), device=target.device), 0.0
        for output, wanted, here, weight in _outputs(logits, target, known, self.head_weights):
            logp, classes = marginal(output, here, self.background), distribution(wanted, here, self.background)
            classes = classes * (1 - self.label_smoothing) + self.label_smoothing / classes.shape[1]
            each = -(classes * logp * _of_any(here)).mean(dim=(0, 2, 3, 4))
            nothing = _background_index(self.background)
            everything = self.particle * (each.sum() - each[nothing]) + self.nothing * each[nothing]
            total, mass = total + weight * everything, mass + weight
        return total / mass

    @property
    def activation(self) -> Activation:
        """The softmax."""
        return Softmax(self.background)


@dataclass(frozen=True)
class DiceCrossEntropy(OfPicks):
    """Soft Dice over all classes, background included, plus cross-entropy, of a softmax.

    Attributes:
        background: where its channel lies, "first" or "last".
        dice, entropy: weights of the two.
        eps: added to both sides of the Dice fraction, so that an absent class that is not predicted scores 1.
        head_weights: as in `DenseCrossEntropy`.

    Source: Ensemble 3D U-Net Soup (CZII challenge, 8th place), equal weights; Dice of Milletari et al. 2016,
    arXiv:1606.04797, without squares.
    """

    background: str = "first"
    dice: float = 1.0
    entropy: float = 1.0
    eps: float = 1e-5
    head_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.background, self.head_weights)

    def __call__(self, logits: Logits, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Weighted mean over the outputs."""
        total, mass = torch.zeros((), device=target.device), 0.0
        for output, wanted, here, weight in _outputs(logits, target, known, self.head_weights):
            logp, classes = marginal(output, here, self.background), distribution(wanted, here, self.background)
            p, space, counts = logp.exp(), (2, 3, 4), _of_any(here)
            seen = _with_background(here, torch.ones_like(here[:, :1]), self.background)
            if here.dim() > 2:  # what is not known of a channel is neither hit nor missed
                inside = _with_background(here, here.amax(dim=1, keepdim=True), self.background)
                p, classes, seen = (
                    p * inside,
                    classes * inside,
                    (inside > 0).any(dim=-1).any(dim=-1).any(dim=-1).float(),
                )
            overlap, sizes = (p * classes).sum(dim=space), (p + classes).sum(dim=space)
            lost = 1 - (2 * overlap + self.eps) / (sizes + self.eps)
            dice = (lost * seen).sum() / seen.sum().clamp(min=1)
            entropy = -(classes * logp * counts).sum(dim=1).mean()
            total, mass = total + weight * (self.dice * dice + self.entropy * entropy), mass + weight
        return total / mass

    @property
    def activation(self) -> Activation:
        """The softmax."""
        return Softmax(self.background)


@dataclass(frozen=True)
class FocalTversky(OfPicks):
    """One Tversky index an object, of a sigmoid: TP / (TP + alpha FP + beta FN), where doubtful voxels count less.

    Attributes:
        alpha, beta: weights of false positives and false negatives.
        gamma: power of each voxel's false share; above 1 what is nearly right hardly counts.
        power: of the loss 1 - index.
        eps: against division by zero.

    Source: CZII 6th place; Abraham & Khan 2019, arXiv:1810.07842.
    """

    alpha: float = 0.3
    beta: float = 0.7
    gamma: float = 2.0
    power: float = 1.33
    eps: float = 1e-6

    def __call__(self, logits: Logits, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Mean over the objects that are known anywhere in the batch."""
        p, seen, over = _finest(logits).float().sigmoid(), in_cells(known), (0, 2, 3, 4)
        hit = (p * target * seen).sum(dim=over)
        false_positive = ((p * (1 - target)).pow(self.gamma) * seen).sum(dim=over)
        false_negative = (((1 - p) * target).pow(self.gamma) * seen).sum(dim=over)
        index = (hit + self.eps) / (hit + self.alpha * false_positive + self.beta * false_negative + self.eps)
        present = _anywhere(known)
        # A root of zero has no slope: an index of 1 keeps a little distance.
        return ((1 - index).clamp(min=1e-7).pow(self.power) * present).sum() / present.sum().clamp(min=1)

    @property
    def activation(self) -> Activation:
        """The sigmoid."""
        return Sigmoid()


LOSSES = (HeatmapWeightedMSE, ReweightedMSE, DenseCrossEntropy, DiceCrossEntropy, FocalTversky)


def distribution(target: torch.Tensor, known: torch.Tensor, background: str) -> torch.Tensor:
    """(b, object, z, y, x) heatmaps -> (b, object + 1, z, y, x) shares of the classes, which sum to 1 in every cell.

    Background is what the objects leave of 1; where they claim more than 1 they share it. Objects that are not known
    have no share.
    """
    target = target * (in_cells(known) > 0)
    claimed = target.sum(dim=1, keepdim=True)
    return _with_background(target, (1 - claimed).clamp(min=0), background) / claimed.clamp(min=1)


def marginal(logits: torch.Tensor, known: torch.Tensor, background: str) -> torch.Tensor:
    """(b, object + 1, z, y, x) logits -> log-probabilities, where objects that are not known count as background.

    Their own channels, in which no target has a share, are 0.
    """
    logp = logits.float().log_softmax(dim=1)
    # On a GPU nothing waits for the answer, which would stop what is launched ahead.
    if not known.is_cuda and bool((known > 0).all()):
        return logp
    objects, nothing = without_background(logp, background), logp[:, _background_index(background)].unsqueeze(1)
    seen = in_cells(known) > 0
    others = torch.cat([nothing, objects.masked_fill(seen, -torch.inf)], dim=1)
    return _with_background(objects.masked_fill(~seen, 0.0), others.logsumexp(dim=1, keepdim=True), background)


def _outputs(
    logits: Logits, target: torch.Tensor, known: torch.Tensor, weights: tuple[float, ...]
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]]:
    """The outputs that count, each with the target on its grid, what is known there, and its weight."""
    if isinstance(logits, torch.Tensor) or not weights:
        yield _finest(logits), target, known, 1.0
        return
    # From the finest on: a network with fewer heads than weights leaves the coarsest out.
    for output, weight in zip(logits[::-1], weights[::-1]):
        if weight:
            # A coarse cell is known where all that it covers is.
            here = known if known.dim() == 2 else -coarser(-known, output.shape[2:])
            yield output, coarser(target, output.shape[2:]), here, weight


def coarser(target: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(b, object, z, y, x) -> its maximum over the cells of a coarser grid of the given shape."""
    if target.shape[2:] == shape:
        return target
    return torch.nn.functional.adaptive_max_pool3d(target, list(shape))


def in_cells(known: torch.Tensor) -> torch.Tensor:
    """(b, object[, z, y, x]) -> (b, object, z, y, x), or with axes of one cell."""
    return known[:, :, None, None, None] if known.dim() == 2 else known


def _anywhere(known: torch.Tensor) -> torch.Tensor:
    """(object,) 1 where an object is known anywhere in the batch."""
    return (in_cells(known) > 0).permute(1, 0, 2, 3, 4).flatten(1).any(dim=1).float()


def _of_any(known: torch.Tensor) -> torch.Tensor | float:
    """How much a cell counts, all objects together: (b, 1, z, y, x), or 1 where whole patches are known."""
    return 1.0 if known.dim() == 2 else known.amax(dim=1, keepdim=True)


def _finest(logits: Logits) -> torch.Tensor:
    return logits if isinstance(logits, torch.Tensor) else logits[-1]


def _share(error: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """(object,) weighted means over batch and voxels."""
    over = (0, 2, 3, 4)
    return (error * weight).sum(dim=over) / (weight.sum(dim=over) + eps)


def _check(background: str, head_weights: tuple[float, ...]) -> None:
    require_background(background, "loss")
    if head_weights and not (min(head_weights) >= 0 and head_weights[-1] > 0):
        raise RecipeError(f"loss.head_weights is {head_weights}; expected none below 0, and the last above it")


def _background_index(background: str) -> int:
    return 0 if background == "first" else -1


def _with_background(objects: torch.Tensor, nothing: torch.Tensor, background: str) -> torch.Tensor:
    """(b, object, ...) and (b, 1, ...) -> (b, object + 1, ...)."""
    return torch.cat([nothing, objects] if background == "first" else [objects, nothing], dim=1)
