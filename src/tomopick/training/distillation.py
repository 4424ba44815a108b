"""An object is added to what a model knows: where nobody labelled the old ones, the model's own answer is the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..core.types import PickableObject
from ..networks.activations import Activation
from ..networks.engines import autocast
from ..picking.load import load_detector
from .dataset import Data
from .loop import Objective, TrainState
from .patches import Batch
from .pseudo_labels import Annotator
from .ranks import ALONE, Ranks
from .recipe import Recipe


def objective_of(recipe: Recipe, data: Data, added_to: str = "", ranks: Ranks = ALONE) -> Objective:
    """What is learned; of objects that were added to a model, with its answers where the others have no labels."""
    cell = data.voxel_spacing * recipe.network.stride
    objective = recipe.objective.build(recipe.loss, Annotator(recipe.peaks, recipe.target, data.objects, cell))
    if not added_to:
        return objective
    teacher = load_detector(added_to)
    made = Distilled.of(objective, teacher.network, teacher.method.activation, data.objects, teacher.objects)
    return replace(made, ranks=ranks)


@dataclass(frozen=True)
class Distilled:
    """An objective that holds objects which a model knew before.

    Attributes:
        objective: what is learned from labels.
        teacher: the network of that model; it is not changed.
        activation: what its logits mean.
        channels: (new, old) of each object that both have.
        ranks: that share the teacher's work.

    Source: learning without forgetting, Li & Hoiem 2016, arXiv:1606.09282, with the answer itself as target.
    """

    objective: Objective
    teacher: torch.nn.Module
    activation: Activation
    channels: tuple[tuple[int, int], ...]
    ranks: Ranks = ALONE

    @classmethod
    def of(
        cls,
        objective: Objective,
        teacher: torch.nn.Module,
        activation: Activation,
        objects: Sequence[PickableObject],
        known: Sequence[PickableObject],
    ) -> Distilled:
        """Of an objective for `objects`, and a network that finds `known` ones."""
        old = [o.name for o in known]
        pairs = tuple((i, old.index(o.name)) for i, o in enumerate(objects) if o.name in old)
        return cls(objective, teacher.requires_grad_(False).eval(), activation, pairs)

    def loss(self, state: TrainState, batch: Batch) -> torch.Tensor:
        """Loss of the batch, completed with the teacher's heatmap where an object is not labelled."""
        return self.objective.loss(state, self.completed(batch))

    @torch.no_grad()
    def completed(self, batch: Batch) -> Batch:
        """The batch with the teacher's answers in place of labels that are not there."""
        known = batch.known if batch.known.dim() > 2 else batch.known[:, :, None, None, None].expand_as(batch.target)
        here, there = (list(numbers) for numbers in zip(*self.channels))
        if bool((known[:, here] > 0).all()):
            return batch
        self.teacher.to(batch.volume.device)
        with autocast(batch.volume.device):
            logits = self.teacher(self.ranks.own(batch.volume))
        heatmap = self.activation(logits if isinstance(logits, torch.Tensor) else logits[-1]).float().clamp(0, 1)
        heatmap = self.ranks.gathered(heatmap, len(batch.volume))
        target, seen = batch.target.clone(), known.clone()
        missing = known[:, here] <= 0
        target[:, here] = torch.where(missing, heatmap[:, there], target[:, here])
        seen[:, here] = torch.where(missing, torch.ones_like(seen[:, here]), seen[:, here])
        return batch._replace(target=target, known=seen)
