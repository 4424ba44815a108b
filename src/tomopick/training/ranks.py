"""One training in several processes (ranks): each makes and computes its share of every batch, rank 0 writes.

The patches of a step are shared out by their index, gathered again, and the network's answers too: each rank then has
the whole batch and takes the loss of all of it, with a slope for its own share alone, so that whatever a loss sums or
divides by over a batch, and whatever of a batch is mixed, is as in one process. Gradients are the sums over the ranks.
Batch norms take the statistics of the whole batch. What differs from one process is rounding, and what dropout draws.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.errors import RecipeError, TomopickError

_Value = TypeVar("_Value")


class Group(Protocol):
    """What is used of `torch.distributed.ProcessGroup`, and of its back ends."""

    def allreduce(self, tensors: list[torch.Tensor]) -> Any:
        """Sums over the ranks, in place."""

    def allgather(self, found: list[list[torch.Tensor]], own: list[torch.Tensor]) -> Any:
        """Every rank's tensor, all of one size."""

    def broadcast(self, tensor: torch.Tensor, root: int) -> Any:
        """The tensor of rank `root`, in place."""


class RankLost(TomopickError):
    """Another rank has ended, so that this one cannot go on."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, as one of them sees them.

    Attributes:
        rank: which one this is; 0 leads: it validates and writes.
        size: how many there are.
        group: how they talk; None where there is one alone.
        told: what is known of one that has ended, as a line.
    """

    rank: int = 0
    size: int = 1
    group: Group | None = None
    told: Callable[[], str] = lambda: "another process of this training has ended"

    @property
    def leads(self) -> bool:
        """Whether this is the one that validates and writes."""
        return self.rank == 0

    def share(self, n: int) -> range:
        """Which of `n` patches are this rank's."""
        first, more = divmod(n, self.size)
        start = self.rank * first + min(self.rank, more)
        return range(start, start + first + (self.rank < more))

    def require_batch(self, n: int) -> None:
        """Raises `RecipeError` where there are not as many patches in a batch as ranks."""
        if n < self.size:
            raise RecipeError(
                f"train.batch_size is {n}, and {self.size} processes share a batch; raise it, or use less"
            )

    def own(self, values: torch.Tensor) -> torch.Tensor:
        """This rank's share of (n, ...) values."""
        mine = self.share(len(values))
        return values[mine.start : mine.stop]

    def gathered(self, own: torch.Tensor, n: int) -> torch.Tensor:
        """(n, ...) values of all ranks; this one's own keep their slope."""
        if self.group is None:
            return own
        most = -(-n // self.size)
        # As bytes, which every back end can send.
        mine = own.detach().contiguous()
        padded = torch.zeros((most, *own.shape[1:]), dtype=own.dtype, device=own.device)
        padded[: len(mine)] = mine
        if padded.numel() == 0:
            return own.new_zeros((n, *own.shape[1:]))
        sent = padded.view(torch.uint8)
        found = [torch.empty_like(sent) for _ in range(self.size)]
        group = self.group
        self._wait(lambda: group.allgather([found], [sent]))
        parts = []
        for rank, part in enumerate(found):
            share = Ranks(rank, self.size).share(n)
            parts.append(own if rank == self.rank else part.view(own.dtype)[: len(share)])
        return torch.cat(parts)

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over the ranks, without a slope."""
        if self.group is None:
            return values
        group, total = self.group, values.detach().contiguous().clone()
        self._wait(lambda: group.allreduce([total]))
        return total

    def sum_gradients(self, network: nn.Module) -> None:
        """The gradients of all shares, in place."""
        if self.group is None:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        total = self.summed(torch.cat([g.reshape(-1) for g in gradients]))
        for gradient, part in zip(gradients, total.split([g.numel() for g in gradients])):
            gradient.copy_(part.view_as(gradient))

    def says(self, value: _Value) -> _Value:
        """What rank 0 says, as JSON values; what the others have does not matter."""
        if self.group is None:
            return value
        found: _Value = json.loads(self.sends(json.dumps(value).encode() if self.leads else b""))
        return found

    def sends(self, data: bytes) -> bytes:
        """What rank 0 sends; what the others have does not matter."""
        if self.group is None:
            return data
        group, length = self.group, torch.tensor([len(data)])
        self._wait(lambda: group.broadcast(length, 0))
        values = torch.empty(int(length), dtype=torch.uint8)
        if self.leads:
            values.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        self._wait(lambda: group.broadcast(values, 0))
        return values.numpy().tobytes()

    def any(self, value: bool) -> bool:
        """Whether it is so on any rank."""
        return bool(self.summed(torch.tensor([float(value)])) > 0) if self.group is not None else value

    def _wait(self, begun: Callable[[], Any]) -> None:
        """Raises `RankLost` where another rank does not answer any more."""
        try:
            begun().wait()
        except RuntimeError as error:  # whatever the back end raises
            raise RankLost(self.told()) from error


ALONE = Ranks()


@contextmanager
def batch_norms_over(network: nn.Module, ranks: Ranks) -> Iterator[None]:
    """Batch norms of a network that is trained take the statistics of all ranks' shares while the block runs."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)] if ranks.size > 1 else []

    def forward(norm: _BatchNorm, x: torch.Tensor) -> torch.Tensor:
        if not norm.training:
            return type(norm).forward(norm, x)
        found: torch.Tensor = _SharedNorm.apply(x, norm.weight, norm.bias, norm, ranks)  # type: ignore[no-untyped-call]
        return found

    for norm in norms:
        norm.forward = MethodType(forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


class _SharedNorm(torch.autograd.Function):
    """Batch normalisation in training, over the patches of all ranks.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, with the sums taken over the ranks.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, norm: _BatchNorm, ranks: Ranks
    ) -> torch.Tensor:
        channels, over = x.shape[1], [0, *range(2, x.dim())]
        shape = [1, channels, *[1] * (x.dim() - 2)]
        values = x.float()
        own = values.new_tensor([values.numel() / channels])
        sums = ranks.summed(torch.cat([values.sum(over), own]))
        count = sums[-1]
        mean = sums[:-1] / count
        centred = values - mean.view(shape)
        variance = ranks.summed(centred.square().sum(over)) / count
        scale = (variance + norm.eps).rsqrt()
        if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
            share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.to(norm.running_mean), share)
            norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var), share)
        normalised = centred * scale.view(shape)
        found = normalised
        if weight is not None:
            found = normalised * weight.float().view(shape) + bias.float().view(shape)
        ctx.save_for_backward(x, weight, mean, scale, count)
        ctx.ranks = ranks
        return found.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        over, shape = [0, *range(2, x.dim())], [1, x.shape[1], *[1] * (x.dim() - 2)]
        slope = slopes[0].float()
        normalised = (x.float() - mean.view(shape)) * scale.view(shape)
        own = torch.stack([slope.sum(over), (slope * normalised).sum(over)])
        of_all = ctx.ranks.summed(own) / count
        found = slope - of_all[0].view(shape) - normalised * of_all[1].view(shape)
        factor = scale if weight is None else scale * weight.float()
        to_weight = None if weight is None else own[1].to(weight.dtype)
        to_bias = None if weight is None else own[0].to(weight.dtype)
        return (found * factor.view(shape)).to(x.dtype), to_weight, to_bias, None, None
