"""Random changes of training patches. Spatial ones move the volume and the particles' centres together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch.nn import functional

from ..core.errors import RecipeError
from ..core.types import Shape

LEAST_BLUR = 0.2  # voxels: a narrower Gaussian changes nothing


class SpatialStep(Protocol):
    """A random linear map about the patch's centre."""

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """(3, 3) matrix, zyx, that takes offsets in the patch to offsets in the volume."""


class IntensityStep(Protocol):
    """A random change of grey values: what is drawn at random, and what is then done, on the host or on a device."""

    def draw(self, shape: Shape, rng: np.random.Generator) -> Drawn | None:
        """What it does to a patch of (z, y, x) voxels; None: nothing."""

    def change(self, values: np.ndarray, drawn: Drawn) -> np.ndarray:
        """(z, y, x) normalised values -> changed values."""

    def change_batch(self, values: torch.Tensor, drawn: DrawnBatch) -> torch.Tensor:
        """(b, z, y, x) normalised values on a device -> changed values; as `change`, to rounding."""

    def __call__(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(z, y, x) normalised values -> values that may be changed."""
        z, y, x = values.shape
        drawn = self.draw((z, y, x), rng)
        return values if drawn is None else self.change(values, drawn)


class Drawn(NamedTuple):
    """What an intensity step drew for a patch.

    Attributes:
        numbers: as many as the step says.
        field: (z, y, x) of a number a voxel, where the step needs one.
    """

    numbers: tuple[float, ...]
    field: np.ndarray | None = None


class DrawnBatch(NamedTuple):
    """What an intensity step drew for the patches of a batch that it changes.

    Attributes:
        which: (n,) their numbers in the batch.
        numbers: (n, ...) of each.
        fields: (n, z, y, x) of each; empty where the step needs none.
    """

    which: torch.Tensor
    numbers: torch.Tensor
    fields: torch.Tensor


@dataclass(frozen=True)
class Flip:
    """Mirrors each of the named axes with probability `p`.

    Attributes:
        axes: that are mirrored, of z, y and x.
        p: probability, of each axis by itself.
    """

    axes: str = "zyx"
    p: float = 0.5

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """(3, 3) diagonal of signs."""
        draws = rng.random(3)
        return np.diag([-1.0 if axis in self.axes and d < self.p else 1.0 for axis, d in zip("zyx", draws)])


@dataclass(frozen=True)
class Rot90:
    """Turns by a random multiple of 90 degrees about z with probability `p`.

    The missing wedge turns with the patch; the winners found that the gain in variety outweighs it.

    Attributes:
        p: probability.
    """

    p: float = 0.75

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """(3, 3) signed permutation."""
        turns = int(rng.integers(1, 4)) if rng.random() < self.p else 0
        quarter = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=float)
        return np.linalg.matrix_power(quarter, turns)


@dataclass(frozen=True)
class Rotate:
    """Turns by any angle about z and by a small one about y and x, and scales, with probability `p`.

    Attributes:
        about_z, about_xy: largest angles [degrees].
        tilts: of y and x those that `about_xy` is meant for.
        scale: largest relative change of size.
        p: probability.
    """

    about_z: float = 45.0
    about_xy: float = 5.0
    scale: float = 0.05
    p: float = 0.3
    tilts: str = "yx"

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """(3, 3) rotation times scale."""
        chosen = rng.random() < self.p
        angles = rng.uniform(-1, 1, 3) * (self.about_z, *(self.about_xy * (axis in self.tilts) for axis in "yx"))
        scale = 1 + rng.uniform(-1, 1) * self.scale
        # Rotation works on xyz; reversing both axes of the matrix gives zyx.
        return Rotation.from_euler("zyx", angles, degrees=True).as_matrix()[::-1, ::-1] * scale if chosen else np.eye(3)


@dataclass(frozen=True)
class Noise(IntensityStep):
    """Adds white noise of a random deviation up to `sigma`, with probability `p`.

    Attributes:
        sigma: largest deviation of the noise [deviations of the grey values].
        p: probability.
    """

    sigma: float = 0.3
    p: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < np.inf:
            raise RecipeError(f"Noise has sigma {self.sigma:g}; expected a number from 0 on")

    def draw(self, shape: Shape, rng: np.random.Generator) -> Drawn | None:
        """The deviation, and noise of deviation 1."""
        if rng.random() >= self.p:
            return None
        noise = rng.standard_normal(shape, dtype=np.float32)
        return Drawn((rng.uniform(0, self.sigma),), noise)

    def change(self, values: np.ndarray, drawn: Drawn) -> np.ndarray:
        """Noisier values."""
        assert drawn.field is not None
        return values + drawn.field * np.float32(drawn.numbers[0])

    def change_batch(self, values: torch.Tensor, drawn: DrawnBatch) -> torch.Tensor:
        """Noisier values."""
        return values.index_add(0, drawn.which, drawn.fields * drawn.numbers[:, :1, None, None].float())


@dataclass(frozen=True)
class ScaleShift(IntensityStep):
    """Multiplies by 1 +- `scale` and adds +- `shift` (in deviations), with probability `p`.

    Attributes:
        scale: largest part by which contrast grows or shrinks.
        shift: largest change of brightness [deviations of the grey values].
        p: probability.
    """

    scale: float = 0.2
    shift: float = 0.2
    p: float = 0.5

    def draw(self, shape: Shape, rng: np.random.Generator) -> Drawn | None:
        """Factor and shift."""
        if rng.random() >= self.p:
            return None
        return Drawn((1 + rng.uniform(-1, 1) * self.scale, rng.uniform(-1, 1) * self.shift))

    def change(self, values: np.ndarray, drawn: Drawn) -> np.ndarray:
        """Values of another contrast and brightness."""
        scale, shift = drawn.numbers
        return values * np.float32(scale) + np.float32(shift)

    def change_batch(self, values: torch.Tensor, drawn: DrawnBatch) -> torch.Tensor:
        """Values of another contrast and brightness."""
        scale, shift = drawn.numbers.float().T[..., None, None, None]
        return values.index_copy(0, drawn.which, values[drawn.which] * scale + shift)


@dataclass(frozen=True)
class Blur(IntensityStep):
    """Smooths with a Gaussian of a random width up to `sigma_voxels`, with probability `p`.

    Attributes:
        sigma_voxels: largest standard deviation [voxels].
        p: probability.
    """

    sigma_voxels: float = 0.8
    p: float = 0.15

    def __post_init__(self) -> None:
        if not LEAST_BLUR <= self.sigma_voxels < np.inf:
            raise RecipeError(f"Blur has sigma_voxels {self.sigma_voxels:g}; expected a number from {LEAST_BLUR:g} on")

    def draw(self, shape: Shape, rng: np.random.Generator) -> Drawn | None:
        """The width."""
        return None if rng.random() >= self.p else Drawn((rng.uniform(LEAST_BLUR, self.sigma_voxels),))

    def change(self, values: np.ndarray, drawn: Drawn) -> np.ndarray:
        """Smoother values."""
        return ndimage.gaussian_filter(values, drawn.numbers[0], mode="nearest", truncate=3.0)

    def change_batch(self, values: torch.Tensor, drawn: DrawnBatch) -> torch.Tensor:
        """Smoother values."""
        sigma, chosen = drawn.numbers[:, :1], values[drawn.which]
        most = int(3.0 * self.sigma_voxels + 0.5)
        steps = torch.arange(-most, most + 1, device=values.device)
        # Of each width, no more of the Gaussian than its own three deviations.
        kernel = (-0.5 * (steps / sigma) ** 2).exp() * (steps.abs() <= (3.0 * sigma + 0.5).floor())
        kernel = (kernel / kernel.sum(dim=1, keepdim=True)).float()  # (n, step)
        kernel = kernel[:, None, None, None]
        for axis in (1, 2, 3):
            sides = [0, 0] * (3 - axis) + [most, most]
            padded = functional.pad(chosen[:, None], sides + [0, 0] * (axis - 1), mode="replicate")[:, 0]
            chosen = (padded.unfold(axis, 2 * most + 1, 1) * kernel).sum(dim=-1)
        return values.index_copy(0, drawn.which, chosen)


@dataclass(frozen=True)
class DropBlock(IntensityStep):
    """Sets small cubes of voxels to 0, which is the mean of a normalised volume, with probability `p`.

    Each voxel is the centre of a cube by chance, so 1 - (1 - gamma)^(kernel^3) of them are dropped: 10.2 % as it is.

    Attributes:
        gamma: chance that a voxel is a cube's centre.
        kernel: edge of a cube [voxels], odd.
        p: probability.

    Source: CryoET DropBlock of SemiETPicker, arXiv:2510.22454 (a random mask, grown by a window maximum of 3, stride
    1); the rate, which the paper leaves out, is ours.
    """

    gamma: float = 0.004
    kernel: int = 3
    p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise RecipeError(
                f"DropBlock has gamma {self.gamma:g} and kernel {self.kernel}; gamma must be from 0 to just below 1 "
                "and kernel an odd number of voxels"
            )

    def draw(self, shape: Shape, rng: np.random.Generator) -> Drawn | None:
        """Where the cubes' centres are."""
        return None if rng.random() >= self.p else Drawn((), rng.random(shape, dtype=np.float32) < self.gamma)

    def change(self, values: np.ndarray, drawn: Drawn) -> np.ndarray:
        """Values with holes."""
        dropped = ndimage.maximum_filter(drawn.field, self.kernel, mode="constant")
        return np.where(dropped, np.float32(0), values)

    def change_batch(self, values: torch.Tensor, drawn: DrawnBatch) -> torch.Tensor:
        """Values with holes."""
        centres = drawn.fields.float()[:, None]
        dropped = functional.max_pool3d(centres, self.kernel, stride=1, padding=self.kernel // 2)[:, 0] > 0
        return values.index_copy(0, drawn.which, values[drawn.which].masked_fill(dropped, 0.0))


@dataclass(frozen=True)
class Augmentation:
    """Spatial steps, applied together in one resampling, then intensity steps.

    Attributes:
        spatial: their matrices are multiplied.
        intensity: applied one after the other.
    """

    spatial: tuple[SpatialStep, ...] = (Flip(), Rot90(), Rotate())
    intensity: tuple[IntensityStep, ...] = (ScaleShift(), Blur(), Noise())

    def matrix(self, rng: np.random.Generator) -> np.ndarray:
        """(3, 3), zyx: offsets in the patch -> offsets in the volume."""
        matrix = np.eye(3)
        for step in self.spatial:
            matrix = matrix @ step(rng)
        return matrix

    def colour(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(z, y, x) values through the intensity steps, float32."""
        for step in self.intensity:
            values = step(values, rng)
        return np.ascontiguousarray(values, dtype=np.float32)


def sample_patch(values: np.ndarray, centre: np.ndarray, shape: Sequence[int], matrix: np.ndarray) -> np.ndarray:
    """A patch of a volume under a linear map; outside the volume it is 0.

    Args:
        values: (z, y, x) volume.
        centre: (3,) voxel index that the patch's centre shows; whole or half so that a patch of even edge under a
            signed permutation needs no interpolation.
        shape: of the patch.
        matrix: (3, 3), offsets in the patch -> offsets in the volume.

    Returns:
        (z, y, x) float32, a new array.
    """
    middle = (np.asarray(shape) - 1) / 2
    first = centre - matrix @ middle  # where the patch's voxel (0, 0, 0) lies
    permutation = np.abs(matrix).max() == 1 and np.count_nonzero(matrix) == 3
    # A quarter turn of a patch with an odd and an even edge meets the volume between its voxels.
    exact = permutation and bool((np.abs(first - np.rint(first)) < 1e-6).all())
    # The box of the volume that the patch shows, with a voxel to spare for interpolation.
    reach = np.abs(matrix) @ middle
    spare = 0 if exact else 1
    low = np.ceil(centre - reach - 1e-6).astype(int) - spare
    high = np.floor(centre + reach + 1e-6).astype(int) + 1 + spare
    box = np.zeros(high - low, dtype=np.float32)
    inner_low, inner_high = np.maximum(low, 0), np.minimum(high, values.shape)
    if (inner_low < inner_high).all():
        target = tuple(slice(a, b) for a, b in zip(inner_low - low, inner_high - low))
        box[target] = values[tuple(slice(a, b) for a, b in zip(inner_low, inner_high))]
    if exact:
        axes = np.abs(matrix).argmax(axis=1)  # volume axis i runs along patch axis axes[i]
        patch = np.transpose(box, np.argsort(axes))
        flips = tuple(j for j in range(3) if matrix[:, j].sum() < 0)
        return np.ascontiguousarray(np.flip(patch, flips))
    return ndimage.affine_transform(box, matrix, first - low, tuple(shape), order=1, mode="constant")


def move_points(indices: np.ndarray, centre: np.ndarray, shape: Sequence[int], matrix: np.ndarray) -> np.ndarray:
    """(n, 3) voxel indices of the volume -> (n, 3) indices in the patch that `sample_patch` cuts."""
    middle = (np.asarray(shape) - 1) / 2
    return (np.asarray(indices) - centre) @ np.linalg.inv(matrix).T + middle
