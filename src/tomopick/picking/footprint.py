"""How much memory picking a volume takes at its highest."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import torch

from ..core.types import Grid
from .detector import Detector
from .memory import bytes_per_voxel, means
from .resample import spacings_differ

PROCESS = 0.47 * 2**30  # Python, the libraries and what the engine makes of a network [bytes]
IN_HALVES = 0.5  # of the upper estimate of a tile's memory, that OpenVINO takes, which computes in two bytes


def picking_bytes(detectors: Sequence[Detector], grid: Grid) -> int:
    """Bytes that picking one volume takes at its highest on a CPU: reading, resampling and normalising, or predicting.

    Args:
        detectors: that pick together.
        grid: of the volume.
    """
    voxels = int(np.prod(grid.shape))
    copies = {(d.method.normalize, d.facts.voxel_spacing): d for d in detectors}
    normalised = [voxels * _factor(grid, d) for d in copies.values()]
    # The volume as it was read, all normalised copies, and what the last was resampled to.
    resampled = [n for n, d in zip(normalised, copies.values()) if spacings_differ(*_spacings(grid, d))]
    prepare = 4 * (voxels + sum(normalised) + max(resampled, default=0))
    predict = 4 * sum(normalised) + max(_predicting(d, grid) for d in detectors)
    return int(PROCESS + max(prepare, predict))


def _spacings(grid: Grid, detector: Detector) -> tuple[float, float]:
    return grid.voxel_spacing, detector.facts.voxel_spacing


def _factor(grid: Grid, detector: Detector) -> float:
    """Voxels of what the network sees over those of the volume."""
    here, there = _spacings(grid, detector)
    return (here / there) ** 3 if spacings_differ(here, there) else 1.0


def _predicting(detector: Detector, grid: Grid) -> float:
    """Bytes of a tile while it is predicted, and of the strip of heatmap that it becomes part of."""
    spec, n, cpu = detector.method.network, len(detector.objects), torch.device("cpu")
    part = _factor(grid, detector) ** (1 / 3)
    z, y, x = (max(1, round(n * part)) for n in grid.shape)
    tiling = detector.method.tiling.fitted(lambda: means(detector.network, spec.multiple, spec.stride, n, cpu))
    edges, _ = tiling.plan((z, y, x), spec.multiple)
    cell = 4 * n / spec.stride**3
    share = IN_HALVES if find_spec("openvino") else 1.0
    tile = share * float(np.prod(edges)) * (bytes_per_voxel(detector.network, spec.multiple) + 2 * cell)
    return tile + cell * z * min(edges[1], y) * x
