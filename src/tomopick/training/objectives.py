"""What is learned: an objective turns the training state and a batch into a loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from ..core.errors import RecipeError
from ..core.messages import counted
from ..networks.engines import autocast
from ..networks.losses import Logits, Loss
from ..networks.unlabelled import risk
from .loop import Objective, TrainState
from .patches import Batch, LabelledVolume, PatchSampler, Sampler
from .pseudo_labels import Annotator


class ObjectiveSpec(Protocol):
    """What a recipe holds of an objective."""

    @property
    def semi_supervised(self) -> bool:
        """Whether it learns from unlabelled runs too; it needs some then, and may have none otherwise."""

    @property
    def cut_by(self) -> str:
        """The metric whose thresholds, as the last validation found them, it is told of."""
        return "f1"

    def build(self, loss: Loss, annotator: Annotator | None = None) -> Objective:
        """The objective for a loss; the annotator makes labels of heatmaps, for one that wants them."""

    def sampler(self, labelled: PatchSampler, unlabelled: Sequence[LabelledVolume], steps: int) -> Sampler:
        """What draws the batches of a training of so many steps."""


@dataclass(frozen=True)
class SupervisedSpec:
    """Learns from labels alone, of patches or of mixtures of two.

    Attributes:
        mixup: chance that a batch is mixed with itself in another order.
        mixup_alpha: both parameters of the Beta distribution of a mixture's share; 1: all shares alike.
        mixup_per_patch: each patch has its own share and the targets are mixed too; else a batch has one, and the
            losses against both targets are.

    Source: mixup of Zhang et al. 2018, arXiv:1710.09412; per batch as in the CZII challenge's 4th place, per patch as
    in its 1st.
    """

    mixup: float = 0.0
    mixup_alpha: float = 1.0
    mixup_per_patch: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.mixup <= 1:
            raise RecipeError(f"objective.mixup is {self.mixup:g}; it must be from 0 to 1")
        if not self.mixup_alpha > 0:
            raise RecipeError(f"objective.mixup_alpha is {self.mixup_alpha:g}; it must be a positive number")

    @property
    def semi_supervised(self) -> bool:
        """It is not."""
        return False

    @property
    def cut_by(self) -> str:
        """Those for F1, of which it makes no use."""
        return "f1"

    def build(self, loss: Loss, annotator: Annotator | None = None) -> Supervised:
        """The objective for a loss."""
        return Supervised(self, loss)

    def sampler(self, labelled: PatchSampler, unlabelled: Sequence[LabelledVolume], steps: int) -> Sampler:
        """Labelled patches alone."""
        return labelled


@dataclass(frozen=True)
class Mixture:
    """How a batch is mixed with itself.

    Attributes:
        order: (b,) which patch each one is mixed with.
        share: (b,) of its own.
        per_patch: see `SupervisedSpec`.
    """

    order: np.ndarray
    share: np.ndarray
    per_patch: bool

    @classmethod
    def draw(cls, spec: SupervisedSpec, size: int, step: int) -> Mixture | None:
        """The mixture of a step, a function of its number so that resuming changes nothing; None: not mixed."""
        rng = np.random.default_rng((0x6D6978, step))
        if rng.random() >= spec.mixup or size < 2:
            return None
        order = rng.permutation(size)
        share = rng.beta(spec.mixup_alpha, spec.mixup_alpha, size if spec.mixup_per_patch else 1)
        return cls(order, np.broadcast_to(share, size), spec.mixup_per_patch)

    def __call__(self, batch: Batch) -> tuple[Batch, Batch]:
        """The mixed batch with its own targets, and with those of the other patches; both known where both are."""
        order = torch.as_tensor(self.order, device=batch.volume.device)
        own = torch.as_tensor(self.share.copy(), dtype=torch.float32, device=order.device)[:, None, None, None, None]
        volume = own * batch.volume + (1 - own) * batch.volume[order]
        known, other = batch.known * batch.known[order], batch.target[order]
        if self.per_patch:
            mixed = own * batch.target + (1 - own) * other
            return Batch(volume, mixed, known), Batch(volume, mixed, known)
        return Batch(volume, batch.target, known), Batch(volume, other, known)


@contextmanager
def drawn_for(state: TrainState, device: torch.device) -> Iterator[None]:
    """What a network draws inside (dropout) is a function of the step, so that resuming changes nothing."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(state.step * state.ranks.size + state.ranks.rank)
        yield


def predicted(state: TrainState, volume: torch.Tensor) -> Logits:
    """The network's answer to (b, 1, z, y, x) patches, with a slope for this rank's share of them.

    Raises:
        RecipeError: the patches are too small to be normalised at the network's coarsest level.
    """
    first = volume.shape not in state.shapes
    looked_at = normalisable(state.network, volume.shape, state.ranks.size) if first else nullcontext()
    with autocast(volume.device), drawn_for(state, volume.device), looked_at:
        logits: Logits = state.network(state.ranks.own(volume))
    state.shapes.add(volume.shape)
    if isinstance(logits, torch.Tensor):
        return state.ranks.gathered(logits, len(volume))
    return tuple(state.ranks.gathered(level, len(volume)) for level in logits)


@contextmanager
def normalisable(network: nn.Module, shape: torch.Size, ranks: int = 1) -> Iterator[None]:
    """Has every normalisation look at what it is given before it computes, while batches of a new `shape` go through.

    Those over a batch have the shares of so many `ranks`.

    Raises:
        RecipeError: one is given a single value a channel, whose deviation is none.
    """

    def look(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        b, _, *cells = inputs[0].shape  # (b, channel, z, y, x)
        if math.prod(cells) * (b * ranks if isinstance(norm, _BatchNorm) else 1) == 1:
            raise RecipeError(
                f"batches of {counted(shape[0], 'patch')} of {','.join(map(str, shape[2:]))} leave a single value at "
                "the network's coarsest level, which cannot be normalised; expected more: raise patch.shape or "
                "train.batch_size"
            )

    hooks = [m.register_forward_pre_hook(look) for m in network.modules() if isinstance(m, _NormBase) and m.training]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Mixed:
    """A batch after mixup: what the network is shown, and against what its answer is judged.

    Attributes:
        mine: the patches shown, with their own targets.
        other: the same patches with the targets of those mixed in.
        share: of the loss against `mine`; the rest is against `other`.
    """

    mine: Batch
    other: Batch
    share: float


@dataclass(frozen=True)
class Supervised:
    """See `SupervisedSpec`."""

    spec: SupervisedSpec
    criterion: Loss

    def loss(self, state: TrainState, batch: Batch) -> torch.Tensor:
        """Loss of the network's prediction."""
        mixed = self.mixed(state, batch)
        return self.judged(predicted(state, mixed.mine.volume), mixed)

    def mixed(self, state: TrainState, batch: Batch) -> Mixed:
        """The batch as this step shows it."""
        mixture = Mixture.draw(self.spec, len(batch.volume), state.step)
        if mixture is None:
            return Mixed(batch, batch, 1.0)
        return Mixed(*mixture(batch), share=1.0 if mixture.per_patch else float(mixture.share[0]))

    def judged(self, logits: Logits, mixed: Mixed) -> torch.Tensor:
        """Loss of an answer to `mixed`."""
        loss = risk(self.criterion, logits, mixed.mine.target, mixed.mine.known)
        if mixed.share == 1:
            return loss
        other = risk(self.criterion, logits, mixed.other.target, mixed.other.known)
        return mixed.share * loss + (1 - mixed.share) * other
