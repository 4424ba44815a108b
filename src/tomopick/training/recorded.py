"""Steps of a training on a GPU, recorded once and played again: launching them takes longer than the arithmetic."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch
from torch import nn

from ..core.messages import reason_of
from ..networks.engines import RECORDING, autocast
from .loop import Objective, TrainState
from .objectives import Mixed, Supervised
from .patches import Batch

log = logging.getLogger("tomopick")

_WARM_UP = 3  # steps of a shape that are taken as they come, in which cuDNN chooses its kernels


@dataclass(frozen=True)
class _Recording:
    """What was launched, what it reads, and the loss that it leaves; gradients are left in the parameters' own.

    Attributes:
        graph: the launches.
        mine, other: the patches with their targets, and with those mixed in.
        share: of the loss against the former.
        loss: the scalar.
    """

    graph: torch.cuda.CUDAGraph
    mine: Batch
    other: Batch
    share: torch.Tensor
    loss: torch.Tensor


@dataclass
class Recorder:
    """Takes the gradients of a batch's loss on a GPU: recorded where that can be, else as they come.

    Attributes:
        objective: whose loss it is.
    """

    objective: Objective
    _taken: dict[tuple[torch.Size, bool], int] = field(default_factory=dict)
    _recorded: dict[tuple[torch.Size, bool], _Recording] = field(default_factory=dict)
    _able: bool | None = None  # not asked yet
    _aside: torch.cuda.Stream | None = None

    def __call__(self, state: TrainState, batch: Batch) -> torch.Tensor:
        """The loss of a batch on the device, without its slope; its gradients are in the parameters."""
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):  # flags that are not named are off in here
            if self._able is None:
                self._able = isinstance(self.objective, Supervised) and recordable(state)
            if not self._able or not isinstance(self.objective, Supervised):
                return _as_it_comes(self.objective, state, batch)
            mixed = self.objective.mixed(state, batch)
            kind = (mixed.mine.volume.shape, mixed.share == 1)
            if self._taken.get(kind, 0) < _WARM_UP:
                self._taken[kind] = self._taken.get(kind, 0) + 1
                return self._beside(state, batch)
            if kind not in self._recorded:
                try:
                    with RECORDING:
                        self._recorded[kind] = _record(self.objective, state, mixed)
                except RuntimeError as error:  # of a layer that cannot be recorded, or of too little memory
                    self._able, self._recorded = False, {}
                    log.info(f"steps are not recorded but launched one by one: {reason_of(error)}")
                    torch.cuda.synchronize()
                    return _as_it_comes(self.objective, state, batch)
            return _played(self._recorded[kind], mixed)

    def _beside(self, state: TrainState, batch: Batch) -> torch.Tensor:
        """As it comes, on a stream of its own: what is to be recorded may not have been launched on the common one."""
        device = batch.volume.device
        self._aside = self._aside or torch.cuda.Stream(device)
        self._aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._aside):
            loss = _as_it_comes(self.objective, state, batch)
        torch.cuda.current_stream(device).wait_stream(self._aside)
        return loss


def recordable(state: TrainState) -> bool:
    """Whether every step launches the same: nothing is drawn at random within, and no gradient is scaled."""
    if state.scaler.is_enabled():
        return False
    return not any(getattr(m, "p", 0) if isinstance(m, _DROPOUTS) else getattr(m, "drop", 0) for m in _modules(state))


_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def _modules(state: TrainState) -> list[nn.Module]:
    return list(state.network.modules())


def _as_it_comes(objective: Objective, state: TrainState, batch: Batch) -> torch.Tensor:
    loss = objective.loss(state, batch)
    state.optimizer.zero_grad(set_to_none=False)  # recordings write where the gradients lie
    state.scaler.scale(loss).backward()
    return loss.detach()


def _record(objective: Supervised, state: TrainState, mixed: Mixed) -> _Recording:
    """Records the gradients of a batch like this one; nothing is computed meanwhile."""
    device = mixed.mine.volume.device
    mine, other = (Batch(*(t.clone() for t in part)) for part in (mixed.mine, mixed.other))
    share = torch.full((), mixed.share, device=device)
    gradients = [p.grad for p in state.network.parameters() if p.grad is not None]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"):
        torch._foreach_zero_(gradients)
        with autocast(device):
            logits = state.network(mine.volume)
        loss = objective.criterion(logits, mine.target, mine.known)
        if mixed.share != 1:
            loss = share * loss + (1 - share) * objective.criterion(logits, other.target, other.known)
        loss.backward()
        loss = loss.detach()
    return _Recording(graph, mine, other, share, loss)


def _played(recording: _Recording, mixed: Mixed) -> torch.Tensor:
    for own, given in ((recording.mine, mixed.mine), (recording.other, mixed.other)):
        for place, values in zip(own[:3], given[:3]):
            place.copy_(values, non_blocking=True)
    recording.share.fill_(mixed.share)
    recording.graph.replay()
    return recording.loss.clone()
