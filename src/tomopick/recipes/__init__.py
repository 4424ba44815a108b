"""Published methods as values: one short function each. `get(name)` finds one, `names()` lists them."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import RecipeError
from ..recipe import Recipe, did_you_mean
from .bpd import bpd, light

_RECIPES: dict[str, Callable[[], Recipe]] = {f.__name__: f for f in (bpd, light)}


def names() -> list[str]:
    """All recipes."""
    return sorted(_RECIPES)


def get(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in _RECIPES:
        raise RecipeError(f"no recipe '{name}'{did_you_mean(name, names())}")
    return _RECIPES[name]()
