"""What a loss makes of places that were not picked: background, nothing, or background but for a share of particles.

Whatever the loss, the three differ in what of a batch it is called with.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from .losses import Logits, Loss, in_cells

_PARTICLE = 0.1  # height of a target from which on a cell is a particle's
_SHELL = 3  # cells around a particle that are its surroundings


def risk(loss: Loss, logits: Logits, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The loss (scalar) of logits against picks of which perhaps not all were made, as its `unlabelled` says.

    `negative`: what was not picked is background. `ignore`: only picks, their surroundings and places that are known
    to be none count. `pu`: what was not picked is background but for a share `prior` of particles, whose cost as
    background is taken off again, as known from the picks; where more is taken off than is there, none is left.

    Source: `pu`, the non-negative risk of Kiryo et al. 2017, arXiv:1703.00593, equation 6; for particles in
    micrographs Bepler et al. 2019, arXiv:1803.08207.
    """
    if loss.unlabelled == "negative":
        return loss(logits, target, known)
    known = in_cells(known).expand_as(target)
    particle, stated = target >= _PARTICLE, known > 1
    if loss.unlabelled == "ignore":
        edge = 2 * _SHELL + 1
        near = functional.max_pool3d(particle.float(), edge, stride=1, padding=_SHELL) > 0
        return loss(logits, target, known * (near | stated))
    nothing = torch.zeros_like(target)
    found = loss(logits, target, known * particle)
    hidden = loss(logits, nothing, known * particle)
    background = loss(logits, nothing, known * ~particle)
    return loss.prior * found + (background - loss.prior * hidden).clamp(min=0)
