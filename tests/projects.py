"""Volumes, OME-Zarr pyramids and picks that tests of projects share."""

from pathlib import Path

import numpy as np
import zarr

from tomopick.core.types import Picks


def volume(shape=(8, 12, 14), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ome_zarr(path: Path, levels: list[np.ndarray], spacing=10.0, unit="angstrom", axes="zyx", **more) -> Path:
    """OME-Zarr 0.4 of local means with scale-only transforms, as copick writes it."""
    group = zarr.open_group(str(path), mode="w")
    datasets = []
    for i, values in enumerate(levels):
        group.create_dataset(f"s{i}", data=values, chunks=(4, 4, 4), dimension_separator="/")
        datasets.append(
            {
                "path": f"s{i}",
                "coordinateTransformations": [{"type": "scale", "scale": (spacing * 2**i * np.ones(3)).tolist()}],
            }
        )
    multiscale = {"axes": [{"name": a, "type": "space", "unit": unit} for a in axes], "datasets": datasets, **more}
    group.attrs["multiscales"] = [multiscale]
    return path


def means(values: np.ndarray) -> np.ndarray:
    z, y, x = (n // 2 for n in values.shape)
    return values.reshape(z, 2, y, 2, x, 2).mean((1, 3, 5)).astype(np.float32)


def picks(run: str, names=("ribosome", "virus-like-particle"), shift=0.0) -> Picks:
    n = len(names)
    return Picks(run, np.arange(3 * n).reshape(n, 3) * 7.25 + shift, list(names), np.linspace(0.25, 0.75, n))


def same(a: Picks | None, b: Picks, atol=1e-3) -> None:
    assert a is not None and a.names.tolist() == b.names.tolist()
    np.testing.assert_allclose(a.positions, b.positions, atol=atol)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)
