"""What the methods are good for, and how they did where they come from: what `tomopick recipes` and the docs tell."""

from __future__ import annotations

from dataclasses import dataclass

from ..networks import count_parameters
from ..picking.predict import VIEWS

START = "light"  # what a newcomer is told to begin with


@dataclass(frozen=True)
class Listed:
    """One recipe among the others.

    Attributes:
        good_for: in a few words.
        tflop: arithmetic of one view of a volume of the challenge, 184 x 630 x 630, overlapping tiles included [TFLOP].
        private: its published score on the challenge's private test runs (weighted F-beta 4), or what else was
            published; "" where nothing was.
        weights: whose checkpoints `tomopick convert` takes for it; "" where its authors publish none of this form.
    """

    good_for: str
    tflop: float
    private: str = ""
    weights: str = ""


_SOUP = "0.776 as an ensemble of its sizes"
_SOUP_CODE = "the Soup's released code"
_UNET25D = "0.783 with the other 2.5D network, seven folds"

_AUTHORS = "weights of the method's authors, and training as they did it"

ENTRIES: dict[str, Listed] = {
    "light": Listed("where to start: seconds a tomogram on two CPU cores; what the shipped model uses", 9.54),
    "bpd": Listed("a small network that answers for every voxel; a GPU", 40.9, "0.783 (four seeds)"),
    "bpd_released": Listed(
        _AUTHORS, 19.9, "0.783 (four networks)", "y284/biological-particle-detector (not in the repository itself)"
    ),
    "soup_tiny": Listed("a member of an ensemble of sizes; a GPU", 15.7, _SOUP),
    "soup_medium": Listed("the same with more to learn from", 71.9, _SOUP),
    "soup_large": Listed("the same with much to learn from", 78.7, _SOUP),
    "soup_released_tiny": Listed(_AUTHORS, 11, "0.776 with the others", _SOUP_CODE),
    "soup_released_medium": Listed(_AUTHORS, 30.1, "0.776 with the others", _SOUP_CODE),
    "soup_released_big": Listed(_AUTHORS, 72.7, "0.776 with the others", _SOUP_CODE),
    "topcup": Listed("least arithmetic a volume; a GPU, for a CPU is slow at it", 4.33, "0.774 (three networks)"),
    "topcup_released": Listed(
        _AUTHORS, 21.3, "0.774 (package); 0.788 with a detection network beside it", "the topcup package"
    ),
    "unet25d_convnext": Listed(
        "much data, a GPU, ImageNet weights; most arithmetic", 394, _UNET25D, "yu4u/kaggle-czii-4th"
    ),
    "unet25d_resnetrs": Listed("another network beside it", 122, _UNET25D),
    "semietpicker": Listed(
        "few labelled tomograms and many without labels", 12.9, "F1 0.561 of 2 labelled runs, 0.607 of 5"
    ),
}

LISTED_COLUMNS = (
    "recipe",
    "parameters",
    "TFLOP",
    "stride",
    "patch",
    "views",
    "published score",
    "good for",
    "weights of",
)


def listed() -> list[tuple[str, ...]]:
    """Every recipe as a row of `LISTED_COLUMNS`, the one to start with first."""
    from . import get, names

    found: list[tuple[str, ...]] = []
    for name in [START, *(n for n in names() if n != START)]:
        recipe, entry = get(name), ENTRIES[name]
        found.append((
            name, f"{count_parameters(recipe.network, 6):,}", f"{entry.tflop:g}", str(recipe.network.stride),
            "x".join(map(str, recipe.patch.shape)), str(len(VIEWS[recipe.views])), entry.private or "-",
            entry.good_for, entry.weights or "-",
        ))  # fmt: skip
    return found
