"""Building blocks shared by the families of networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ..core.errors import RecipeError
from .pretrained import load_pretrained

_FEW = 20480  # channels x depth x height up to which PyTorch leaves oneDNN aside for a single volume in float32


class Conv3d(nn.Conv3d):
    """A convolution whose training in bfloat16 can be relied on, and that is as fast for a single volume as for two.

    Where a volume is no deeper than the kernel, oneDNN's bfloat16 gradient of the weights is not computed but whatever
    lay in memory (measured with torch 2.13 on a CPU: depth 2 for edge 3, 3 to 5 for edge 7). There it works in float32.

    In float32 on a CPU PyTorch takes its own slow loops, several times as slow, for a single volume of few cells, which
    is what the lower levels of a U-Net see in every tile. And there the gradients of one channel at a time (depthwise)
    take oneDNN up to ten times as long in a volume as in its slices, so slices it is.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.Conv3d`."""
        if not torch.is_grad_enabled() and self._would_crawl(input):
            assert not isinstance(self.padding, str)
            return torch.mkldnn_convolution(
                input, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
            )
        trained = torch.is_grad_enabled() and input.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if trained and self.kernel_size[0] > 1 and input.shape[2] <= self.kernel_size[0]:
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        if torch.is_grad_enabled() and self._by_channel(input):
            found: torch.Tensor = _ByChannel.apply(input, self.weight, self)  # type: ignore[no-untyped-call]
            return found if self.bias is None else found + self.bias.view(-1, 1, 1, 1)
        return super().forward(input)

    def _would_crawl(self, x: torch.Tensor) -> bool:
        # First, for what is compiled would be compiled anew for each size that is asked for.
        if not self._plain_float32(x) or len(x) != 1 or self.groups > 1:
            return False
        return x.numel() <= _FEW * x.shape[-1] and torch.backends.mkldnn.is_available()

    def _by_channel(self, x: torch.Tensor) -> bool:
        if not self.groups == self.in_channels == self.out_channels > 1:
            return False
        # Slices with gaps take up to twice as long as the volume.
        return max(self.dilation) == 1 and self._plain_float32(x)

    def _plain_float32(self, x: torch.Tensor) -> bool:
        """Whether it is computed in float32 on a CPU, between zeros of a stated width."""
        # What is recorded for other runtimes is the operation that they know.
        if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
            return False
        if x.device.type != "cpu" or x.dtype != torch.float32 or x.ndim != 5 or torch.is_autocast_enabled("cpu"):
            return False
        return self.padding_mode == "zeros" and not isinstance(self.padding, str)


class _ByChannel(torch.autograd.Function):
    """A depthwise convolution whose gradients are sums of those of slices: for each z of the kernel, one of 2D each."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, conv: nn.Conv3d) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.conv = conv
        return conv._conv_forward(x, weight, None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        conv, wanted = ctx.conv, [*ctx.needs_input_grad[:2], False]
        x, slope = (v.contiguous(memory_format=torch.channels_last_3d) for v in (x, slope))
        to_x = torch.zeros_like(x) if wanted[0] else None
        to_weight = torch.zeros_like(weight) if wanted[1] else None
        step, (padding, *around) = conv.stride[0], conv.padding
        for k in range(weight.shape[2]):
            offset = k - padding  # from a slice of the output, times the step, to that of the input
            first = -(min(offset, 0) // step)
            last = min(slope.shape[2] - 1, (x.shape[2] - 1 - offset) // step)
            if last < first:
                continue
            outs = slice(first, last + 1)
            ins = slice(first * step + offset, last * step + offset + 1, step)
            for i in range(len(x)):  # of one volume slices are a view
                of_x, of_weight, _ = torch.ops.aten.convolution_backward(
                    as_slices(slope[i : i + 1, :, outs]), as_slices(x[i : i + 1, :, ins]), weight[:, :, k], None,
                    conv.stride[1:], around, (1, 1), False, (0, 0), conv.groups, wanted,
                )  # fmt: skip
                if to_x is not None:
                    to_x[i : i + 1, :, ins] += as_volume(of_x, 1)
                if to_weight is not None:
                    to_weight[:, :, k] += of_weight
        return to_x, to_weight, None


_LANES = 32  # values of bfloat16 in a vector of 512 bits


class BatchNorm3d(nn.BatchNorm3d):
    """A batch norm that trains as fast with any number of channels, in bfloat16 on a CPU.

    PyTorch's own loops go channel by channel of a cell: where these do not fill its vectors (28, or 36), it takes three
    times as long as with 32. Several cells that lie one behind the other are as good as one with as many more channels,
    whose statistics are put together afterwards.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.BatchNorm3d`."""
        if not (self.training and self.affine and self.momentum is not None and _pays_to_widen(input)):
            return super().forward(input)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        found: torch.Tensor = _WideNorm.apply(input, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return found


def _pays_to_widen(x: torch.Tensor) -> bool:
    channels = x.shape[1]
    if x.device.type != "cpu" or x.dtype != torch.bfloat16 or channels <= _LANES // 2 or channels % _LANES == 0:
        return False
    return x.is_contiguous(memory_format=torch.channels_last_3d) and x.numel() // channels % _LANES == 0


class _WideNorm(torch.autograd.Function):
    """See `BatchNorm3d`.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, norm: BatchNorm3d) -> torch.Tensor:
        channels = x.shape[1]
        wide = _wide(x)
        times = wide.shape[1] // channels
        # Buffers in float32, which are left as they are, have the statistics come in float32 too.
        beside = torch.zeros(2, wide.shape[1])
        found = torch.batch_norm_update_stats(wide, beside[0], beside[1], 0.0)
        means, variances = (v.view(times, channels) for v in found)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square().mean(0)
        if norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None:
            count = x.numel() / channels
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
        made = _normalised(x, mean, variance, weight, bias, norm.eps)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps = norm.eps
        return made

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        channels = x.shape[1]
        slope = slopes[0].contiguous(memory_format=torch.channels_last_3d)
        wide, wide_slope = _wide(x), _wide(slope)
        times, n = wide.shape[1] // channels, x.numel() / channels
        at, ones = [v.repeat(times) for v in (mean, variance)], torch.ones(wide.shape[1])
        # As if the statistics were fixed: the sums of the slope, and of the slope times what was normalised.
        _, *sums = torch.ops.aten.native_batch_norm_backward(
            wide_slope, wide, ones, *at, *at, False, ctx.eps, [False, True, True]
        )
        to_weight, to_bias = (v.view(times, channels).sum(0) for v in sums)
        scale = weight * (variance + ctx.eps).rsqrt()
        # scale (slope - mean of slopes - normalised * mean of slope * normalised), of which the last two come first.
        found = _normalised(x, mean, variance, -scale * to_weight / n, -scale * to_bias / n, ctx.eps)
        _wide(found).addcmul_(wide_slope, scale.to(found.dtype).repeat(times))
        return found, to_weight, to_bias, None


def _normalised(
    x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """(b, c, z, y, x) values with these (c,) statistics, weights and biases, and no view of anything."""
    found = torch.empty_like(x)
    into = _wide(found)
    mean, variance, weight, bias = (v.repeat(into.shape[1] // len(mean)) for v in (mean, variance, weight, bias))
    none = mean.new_empty(0), mean.new_empty(0)
    torch.native_batch_norm(_wide(x), weight, bias, mean, variance, False, 0.0, eps, out=(into, *none))
    return found


def _wide(x: torch.Tensor) -> torch.Tensor:
    """(b, c, z, y, x), channels last -> a view (n, channels that fill vectors), of several cells in each row."""
    times = _LANES // math.gcd(x.shape[1], _LANES)
    return x.permute(0, 2, 3, 4, 1).view(-1, x.shape[1] * times)


def conv_norm_act(n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU; size kept at stride 1, halved exactly at stride 2.

    An even kernel at stride 2 keeps the cells of the output centred on pairs of voxels.
    """
    padding = (kernel - stride) // 2 if kernel % 2 == 0 else kernel // 2
    return nn.Sequential(
        Conv3d(n_in, n_out, kernel, stride=stride, padding=padding, bias=False),
        BatchNorm3d(n_out),
        nn.ReLU(inplace=True),
    )


class TrilinearUp(nn.Module):
    """Twice the size by trilinear interpolation, then a convolution block."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv = conv_norm_act(n_in, n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n_in, z, y, x) -> (b, n_out, 2z, 2y, 2x)."""
        return self.conv(nn.functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False))


class SlicesAndVolumes(nn.Module):
    """A network with two- and three-dimensional convolutions that can be laid out channels last as a whole."""

    def to(self, *args: Any, **options: Any) -> SlicesAndVolumes:
        """As any module's; of a memory format, each weight takes the one for its number of dimensions."""
        wanted = options.pop("memory_format", None)
        if wanted is not None:
            for p in self.parameters():
                if wanted is torch.contiguous_format or p.ndim not in (4, 5):
                    p.data = p.data.contiguous()
                else:
                    p.data = p.data.contiguous(
                        memory_format=torch.channels_last if p.ndim == 4 else torch.channels_last_3d
                    )
        return super().to(*args, **options) if args or options else self


def exactly(head: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A head's logits in full precision: half precision's steps of 1/256 near 1 would move peaks."""
    with torch.autocast(x.device.type, enabled=False):
        return head(x.float())


def as_slices(x: torch.Tensor) -> torch.Tensor:
    """(b, c, z, y, x) -> (b * z, c, y, x)."""
    return x.transpose(1, 2).flatten(0, 1)


def as_volume(x: torch.Tensor, batch: int) -> torch.Tensor:
    """(b * z, c, y, x) -> (b, c, z, y, x)."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def pad_to(x: torch.Tensor, multiples: Sequence[int]) -> torch.Tensor:
    """Zeros behind the end of z, y and x of (b, c, z, y, x), up to the next multiple of each."""
    lacking = [-n % m for n, m in zip(x.shape[2:], multiples)]
    return nn.functional.pad(x, (0, lacking[2], 0, lacking[1], 0, lacking[0])) if any(lacking) else x


def depth_to_space(x: torch.Tensor, factor: int) -> torch.Tensor:
    """(b, c f^3, z, y, x) -> (b, c, f z, f y, f x): channel c f^3 + (a f + b) f + d goes to offset (a, b, d).

    Source: the three-dimensional form of Shi et al. 2016, arXiv:1609.05158, as in the CZII challenge's 4th place.
    """
    f, (batch, _, z, y, w) = factor, x.shape
    x = x.reshape(batch, -1, f, f, f, z, y, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(batch, -1, f * z, f * y, f * w)


class NetworkSpec(Protocol):
    """What a recipe needs to know about a network before it is built."""

    @property
    def stride(self) -> int:
        """Voxels an output cell measures along each axis."""

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by."""

    def build(self, n_objects: int) -> nn.Module:
        """A network with new random weights: (b, 1, z, y, x) -> logits (b, n_objects, ...)."""

    @property
    def background(self) -> bool:
        """Whether it has a channel for "none of the objects"; where that lies is the activation's business."""
        return False

    @property
    def takes_weights(self) -> bool:
        """Whether a new network has a place for pretrained weights, and the spec names none yet as `pretrained`."""
        return False

    def initialise(self, network: nn.Module) -> None:
        """Fills a new network with the pretrained weights that the spec names, if it names any; before training only.

        Raises:
            ModelError: the file is missing or of another network.
        """
        return


class ThreeLevelSpec(NetworkSpec):
    """What the specs of networks of three levels share that keep the volume's size: output stride 1, halved twice."""

    widths: tuple[int, int, int]

    def __post_init__(self) -> None:
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise RecipeError(f"network.widths needs three positive widths, not {self.widths}")

    @property
    def stride(self) -> int:
        """Voxels an output cell measures along each axis."""
        return 1

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by [voxels]."""
        return 4


class SlicedSpec(NetworkSpec):
    """What the specs of 2.5D networks share: output stride 1, padding inside, a 2D `backbone` with weights to load."""

    width: float
    pretrained: str

    @property
    def stride(self) -> int:
        """Voxels an output cell measures along each axis."""
        return 1

    @property
    def multiple(self) -> int:
        """What the edges of patches and tiles must be divisible by [voxels]; what else is missing is padded."""
        return 8

    def check_width(self) -> None:
        """Raises `RecipeError` for a factor that no network can have."""
        if not 0 < self.width <= 8:
            raise RecipeError(f"network.width is {self.width:g}; it must be a positive factor")

    @property
    def takes_weights(self) -> bool:
        """Whether the 2D network has its full width and no weights named."""
        return self.width == 1 and not self.pretrained

    def initialise(self, network: nn.Module) -> None:
        """Fills the 2D network with the pretrained weights, if the spec names any.

        Raises:
            ModelError: the file is missing or of another network.
        """
        if self.pretrained and isinstance(network, SlicesAndVolumes):
            load_pretrained(network.get_submodule("backbone"), self.pretrained)
