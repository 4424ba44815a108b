"""Colours that all readers tell apart, those who are colour-blind among them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, product

import numpy as np

Color = tuple[int, int, int, int]  # RGBA, 0..255

# The first six are Okabe & Ito's that lie furthest apart; each of the others lies as far as can be from all before it.
PALETTE: tuple[Color, ...] = (
    (230, 159, 0, 255), (86, 180, 233, 255), (0, 158, 115, 255), (240, 228, 66, 255),
    (213, 94, 0, 255), (0, 114, 178, 255), (153, 0, 255, 255), (204, 238, 238, 255),
    (0, 255, 136, 255), (153, 68, 51, 255), (153, 119, 255, 255), (119, 85, 119, 255),
    (136, 170, 187, 255), (170, 153, 85, 255), (102, 68, 204, 255), (187, 0, 0, 255),
)  # fmt: skip
APART = 15.0  # smallest distance in CIELAB at which two thin lines are not taken for one: our choice; 2.3 is just seen

# Linear RGB as seen without one kind of cones. Source: Machado, Oliveira & Fernandes 2009, table 1, severity 1.0.
VISIONS = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# Linear sRGB to XYZ, and the white of D65. Source: IEC 61966-2-1.
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
_LIGHTNESS = (38.0, 92.0)  # of what shows on grey sections, on white and on black


def seen(colors: Sequence[Sequence[int]]) -> np.ndarray:
    """(vision, colour, 3) CIELAB of RGB(A) colours, as each kind of `VISIONS` sees them."""
    values = np.array([c[:3] for c in colors], dtype=np.float64).reshape(-1, 3) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.stack([_lab(np.clip(linear @ matrix.T, 0, 1)) for matrix in VISIONS.values()])


def distance(colors: Sequence[Sequence[int]]) -> float:
    """How far apart the two most alike of some colours are for whoever tells them apart worst, in CIELAB."""
    views = seen(colors)
    pairs = combinations(range(len(colors)), 2)
    return min((float(np.linalg.norm(views[:, i] - views[:, j], axis=-1).min()) for i, j in pairs), default=np.inf)


@lru_cache(maxsize=8)
def palette(n: int) -> tuple[Color, ...]:
    """The first `n` colours for objects; beyond `PALETTE` they come closer and closer, and none comes twice."""
    found = list(PALETTE[:n])
    if n <= len(PALETTE):
        return tuple(found)
    choices = np.array(list(product(range(0, 256, 17), repeat=3)))
    views = seen(choices.tolist())  # (vision, choice, 3)
    views, choices = _legible(views, choices)
    away = np.full(len(choices), np.inf)
    for lab in seen(found).swapaxes(0, 1):
        away = np.minimum(away, np.linalg.norm(views - lab[:, None], axis=-1).min(axis=0))
    while len(found) < n:
        best = int(away.argmax())
        red, green, blue = choices[best].tolist()
        found.append((red, green, blue, 255))
        away = np.minimum(away, np.linalg.norm(views - views[:, best : best + 1], axis=-1).min(axis=0))
    return tuple(found)


def color_of(label: int) -> Color:
    """The colour of the object with this label, from 1 on."""
    return palette(max(len(PALETTE), min(label, _LABELS)))[(label - 1) % _LABELS]


_LABELS = 256  # beyond, colours come again


def _legible(views: np.ndarray, choices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = _LIGHTNESS
    keep = (views[0, :, 0] > low) & (views[0, :, 0] < high)
    return views[:, keep], choices[keep]


def _lab(linear: np.ndarray) -> np.ndarray:
    """(n, 3) linear RGB -> (n, 3) CIELAB."""
    ratio, edge = linear @ _XYZ.T / _WHITE, 6 / 29
    f = np.where(ratio > edge**3, np.cbrt(ratio), ratio / (3 * edge**2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
