"""Published methods as values: one short function each. `get(name)` finds one, `names()` lists them."""

from __future__ import annotations

from collections.abc import Callable

from ..core.errors import RecipeError
from ..core.messages import near_miss
from ..training.recipe import Recipe
from .bpd import bpd, light
from .bpd_released import bpd_released
from .semietpicker import semietpicker
from .soup import soup_large, soup_medium, soup_released_big, soup_released_medium, soup_released_tiny, soup_tiny
from .topcup import topcup, topcup_released
from .unet25d import unet25d_convnext, unet25d_resnetrs

_RECIPES: dict[str, Callable[[], Recipe]] = {
    f.__name__: f
    for f in (
        *(bpd, light, bpd_released),
        *(soup_tiny, soup_medium, soup_large, soup_released_tiny, soup_released_medium, soup_released_big),
        *(topcup, topcup_released, unet25d_convnext, unet25d_resnetrs, semietpicker),
    )
}


def names() -> list[str]:
    """All recipes."""
    return sorted(_RECIPES)


def get(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in _RECIPES:
        raise RecipeError(f"no recipe '{name}'; {near_miss(name, names())}")
    return _RECIPES[name]()
