"""Published methods as values: one short function each. `get(name)` finds one, `names()` lists them.

Names alone are known without any of what makes them, so that one that is none is refused at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from ..core.errors import RecipeError, SelectionError
from ..core.messages import near_miss

if TYPE_CHECKING:
    from ..training.recipe import Recipe

# The modules of this room, each with its recipes, which are functions there.
_HOMES = {
    "bpd": ("bpd", "light"),
    "bpd_released": ("bpd_released",),
    "semietpicker": ("semietpicker",),
    "soup": ("soup_tiny", "soup_medium", "soup_large", "soup_released_tiny", "soup_released_medium",
             "soup_released_big"),
    "topcup": ("topcup", "topcup_released"),
    "unet25d": ("unet25d_convnext", "unet25d_resnetrs"),
}  # fmt: skip

# Methods that were published whole, and the recipes that each is made of; `plans` has their trainings.
PUBLISHED: dict[str, tuple[str, ...]] = {
    "bpd": ("bpd",),
    "bpd_released": ("bpd_released",),
    "semietpicker": ("semietpicker",),
    "soup": ("soup_large", "soup_medium", "soup_tiny"),
    "soup_released": ("soup_released_big", "soup_released_medium", "soup_released_tiny"),
    "topcup": ("topcup",),
    "topcup_released": ("topcup_released",),
    "unet25d": ("unet25d_convnext", "unet25d_resnetrs"),
}


def names() -> list[str]:
    """All recipes."""
    return sorted(name for recipes in _HOMES.values() for name in recipes)


def methods() -> list[str]:
    """All recipes, and the published methods of several."""
    return sorted({*names(), *PUBLISHED})


def get(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        RecipeError: there is none of that name.
    """
    home = next((home for home, recipes in _HOMES.items() if name in recipes), None)
    if home is None:
        raise _unknown(name, names())
    recipe: Recipe = getattr(import_module(f".{home}", __name__), name)()
    return recipe


def method_of(name: str) -> str:
    """The published method of that name, or that the recipe is a member of.

    Raises:
        SelectionError: nobody published one, with the near misses.
    """
    for method, members in PUBLISHED.items():
        if name == method or name in members:
            return method
    known = sorted({*PUBLISHED, *(name for members in PUBLISHED.values() for name in members)})
    raise SelectionError(
        f"nothing is published under the name '{name}'; {near_miss(name, known)}; any recipe can be trained once "
        "instead"
    )


def require_method(name: str) -> None:
    """Raises `RecipeError`, with the near misses, for what is neither a recipe nor a published method of several."""
    if name not in methods():
        raise _unknown(name, methods())


def _unknown(name: str, known: Iterable[str]) -> RecipeError:
    return RecipeError(f"no recipe '{name}'; {near_miss(name, known)}")
