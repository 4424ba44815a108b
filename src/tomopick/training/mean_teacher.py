"""Mean teacher: after a burn-in on labels, a running average of the network labels what nobody has labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional

from ..core.errors import RecipeError
from ..networks.engines import autocast
from ..networks.losses import Logits, Loss
from .augment import Augmentation, Drawn, DropBlock, IntensityStep, Noise, ScaleShift
from .averaging import RunningAverage
from .loop import TrainState
from .objectives import Supervised, SupervisedSpec, predicted
from .patches import Batch, LabelledVolume, PatchSampler, Sampler
from .pseudo_labels import Annotator

BURN_IN, CO_TRAINING = "burn-in", "co-training"
LABELS = ("soft", "picks")  # what the teacher's answer is made into
FLANK = 2  # cells around a confident one whose targets the gate keeps too: the slope of its peak
_OTHER_SEED = 0x756E6C  # so that unlabelled patches are not cut where the labelled ones of the same step are


@dataclass(frozen=True)
class MeanTeacherSpec:
    """Learns from labels first (burn-in), then from labels and unlabelled runs together (co-training).

    In co-training each labelled patch comes with an unlabelled one. The teacher, a running average of the network,
    sees it as it is, in several views; the mean of its heatmaps, turned back, is the target of the network (the
    student), which sees the same patch strongly augmented. Both start from the burn-in's averaged weights, those that
    are validated. The recipe's spatial steps turn the patch for both alike, so that heatmap and target line up.

    Attributes:
        burn_in: share of the steps that is spent on labels alone.
        weight: of the unlabelled patches' loss; that of the labelled ones has 1.
        ramp: steps of co-training over which that weight rises from 0.
        decay: of the teacher; its BatchNorm statistics are the averages of the student's, with the same decay.
        views: what the teacher's heatmap is a mean over: 1, the patch as it is (the plain mean teacher), to 4, it and
            its mirror images along x, y and z.
        labels: "soft", the teacher's heatmap itself; or "picks", what it picks above the thresholds that were best for
            F1 in the last validation, each drawn as a label is: nothing doubtful is taught.
        precision: of labels that are picks, those above the lowest thresholds at which picks were right that often in
            the last validation; 0, and of objects that are never right so often: above those that are best for F1.
        gate: of soft labels those further than two cells from one as high as this are 0; 0 lets all through.
        strong: the student's intensity steps, in place of the recipe's.
        labelled: what happens to labelled patches.

    Source: SemiETPicker, arXiv:2510.22454 (multi-view pseudo-labels, DropBlock); mean teacher of Tarvainen & Valpola
    2017, arXiv:1703.01780. Weight, decay, ramp and gate, which the paper leaves out, are ours, and so are labels that
    are picks.
    """

    burn_in: float = 0.5
    weight: float = 1.0
    ramp: int = 100
    decay: float = 0.999
    views: int = 4
    labels: str = "soft"
    precision: float = 0.0
    gate: float = 0.1
    strong: tuple[IntensityStep, ...] = (ScaleShift(0.3, 0.3, 0.8), Noise(0.4, 0.8), DropBlock())
    labelled: SupervisedSpec = field(default_factory=SupervisedSpec)

    def __post_init__(self) -> None:
        for name in ("burn_in", "decay", "gate", "precision"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"objective.{name} is {getattr(self, name):g}; it must be from 0 to just below 1")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise RecipeError(f"objective.weight is {self.weight:g}; it must be a positive number")
        if self.ramp < 0:
            raise RecipeError(f"objective.ramp is {self.ramp}; it must be a number of steps")
        if self.labels not in LABELS:
            raise RecipeError(f"objective.labels is {self.labels}; it can be {' or '.join(LABELS)}")
        if not 1 <= self.views <= 4:
            raise RecipeError(f"objective.views is {self.views}; it must be from 1 (no mirror image) to 4 (x, y, z)")

    @property
    def semi_supervised(self) -> bool:
        """It is."""
        return True

    @property
    def cut_by(self) -> str:
        """The metric whose thresholds pick what becomes a label."""
        return f"precision={self.precision:g}" if self.precision else "f1"

    def build(self, loss: Loss, annotator: Annotator | None = None) -> MeanTeacher:
        """The objective for a loss; labels that are picks need somebody who draws them."""
        return MeanTeacher(self, self.labelled.build(loss), annotator)

    def sampler(self, labelled: PatchSampler, unlabelled: Sequence[LabelledVolume], steps: int) -> Sampler:
        """Labelled patches, from the end of the burn-in on with an unlabelled one each."""
        upright = Augmentation(labelled.augment.spatial, ())
        plain = replace(labelled, volumes=unlabelled, augment=upright, seed=labelled.seed + _OTHER_SEED)
        return PairSampler(labelled, plain, Augmentation((), self.strong), int(self.burn_in * steps))


@dataclass(frozen=True)
class PairSampler:
    """Draws labelled patches and, from step `first` on, unlabelled ones beside them, a function of (step, index) alone.

    Attributes:
        labelled: draws the labelled patches.
        unlabelled: draws the unlabelled ones, with their grey values as they are.
        strong: what the student sees of them.
        first: step of the first unlabelled patch.
    """

    labelled: PatchSampler
    unlabelled: PatchSampler
    strong: Augmentation
    first: int

    def __call__(self, step: int, index: int) -> Batch:
        """Patch `index` of step `step`, without the batch axis; `pairs` (2, z, y, x) where there is one."""
        batch = self.labelled(step, index)
        if step < self.first:
            return batch
        weak = self.unlabelled(step, index).volume
        strong = torch.from_numpy(self.strong.colour(weak[0].numpy(), self._rng(step, index)))
        return batch._replace(pairs=torch.stack([weak[0], strong]))

    def drawn_strong(self, step: int, index: int) -> tuple[Drawn | None, ...]:
        """What the strong changes of an unlabelled patch draw."""
        rng = self._rng(step, index)
        return tuple(change.draw(self.unlabelled.patch.shape, rng) for change in self.strong.intensity)

    def _rng(self, step: int, index: int) -> np.random.Generator:
        return np.random.default_rng((self.unlabelled.seed, step, index, 1))


@dataclass(frozen=True)
class MeanTeacher:
    """See `MeanTeacherSpec`."""

    spec: MeanTeacherSpec
    supervised: Supervised
    annotator: Annotator | None = None

    def loss(self, state: TrainState, batch: Batch) -> torch.Tensor:
        """Loss of the labelled patches, plus that of the unlabelled ones against the teacher where there are some."""
        if not batch.pairs.numel():
            state.stage = BURN_IN
            return self.supervised.loss(state, batch)
        if state.stage != CO_TRAINING:
            self._begin(state)
        target = self.pseudo_labels(state, batch.pairs[:, :1])
        mixed = self.supervised.mixed(state, batch)
        # One forward pass: the batch's statistics are those of labelled and unlabelled patches together.
        logits = predicted(state, torch.cat([mixed.mine.volume, batch.pairs[:, 1:]]))
        mine, theirs = _parts(logits, len(batch.volume))
        # Every object is labelled somewhere, so the teacher has an opinion on each.
        known = torch.ones_like(batch.known[:1]).expand(len(target), *batch.known.shape[1:])
        weight = self.spec.weight * min(1.0, (state.averages["teacher"].updates + 1) / max(1, self.spec.ramp))
        return self.supervised.judged(mine, mixed) + weight * self.supervised.criterion(theirs, target, known)

    def _begin(self, state: TrainState) -> None:
        """Student and teacher both start from the average of the burn-in."""
        state.network.load_state_dict(state.averages["ema"].tensors)
        state.averages["teacher"] = RunningAverage.of(state.network, self.spec.decay, forgets_start=False)
        state.stage = CO_TRAINING

    @torch.no_grad()
    def pseudo_labels(self, state: TrainState, volume: torch.Tensor) -> torch.Tensor:
        """(b, 1, z, y, x) patches -> (b, object, z/stride, y/stride, x/stride) targets 0..1, by the teacher."""
        network, tensors = state.network, state.averages["teacher"].tensors
        heatmaps, n, volume = [], len(volume), state.ranks.own(volume)
        network.eval()
        for axis in (None, -1, -2, -3)[: self.spec.views]:
            # A patch's edge is a multiple of the stride, so mirrored cells cover mirrored voxels, none in part.
            turned = volume if axis is None else volume.flip(axis)
            with autocast(volume.device):
                logits = functional_call(network, tensors, (turned,))
            heatmap = self.supervised.criterion.activate(logits)
            heatmaps.append(heatmap if axis is None else heatmap.flip(axis))
        network.train()
        found = torch.stack(heatmaps).mean(dim=0)
        if self.spec.labels == "picks":
            assert self.annotator is not None
            drawn = self.annotator(found, state.notes.get("cuts", {}))
        else:
            drawn = gated(found.clamp(0, 1), self.spec.gate)
        return state.ranks.gathered(drawn, n)


def gated(heatmap: torch.Tensor, gate: float) -> torch.Tensor:
    """(b, object, z, y, x) -> 0 where no cell within `FLANK` is as high as `gate`."""
    if gate == 0:
        return heatmap
    edge = 2 * FLANK + 1
    return heatmap * (functional.max_pool3d(heatmap, edge, stride=1, padding=FLANK) >= gate)


def _parts(logits: Logits, n: int) -> tuple[Logits, Logits]:
    """The first `n` patches' logits, and the others'."""
    if isinstance(logits, torch.Tensor):
        return logits[:n], logits[n:]
    return tuple(level[:n] for level in logits), tuple(level[n:] for level in logits)
