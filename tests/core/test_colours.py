"""Colours of objects lie far apart for every kind of eye."""

import numpy as np
import pytest

from tomopick.core.colours import APART, PALETTE, color_of, distance, palette, seen
from tomopick.core.presets import CZII_OBJECTS
from tomopick.data.objects import named_objects, with_specs


def test_lab_of_known_colours():
    """White, black and the primaries of sRGB, as tables of CIELAB under D65 have them."""
    usual = seen([(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)])[0]
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(usual, expected, atol=0.02)


def test_greys_look_the_same_to_all():
    views = seen([(40, 40, 40), (200, 200, 200)])
    np.testing.assert_allclose(views, np.broadcast_to(views[0], views.shape), atol=0.05)


def test_colour_blindness_is_seen():
    red, green = (205, 60, 60), (110, 110, 20)
    usual = np.linalg.norm(np.diff(seen([red, green])[0], axis=0))
    assert usual > 60 and distance([red, green]) < usual / 2


@pytest.mark.parametrize("n", [2, 6, len(PALETTE)])
def test_the_palette_keeps_all_objects_apart(n):
    assert distance(palette(n)) >= APART


def test_beyond_the_palette_no_colour_comes_twice():
    many = palette(60)
    assert many[: len(PALETTE)] == PALETTE and len(set(many)) == 60 and distance(many) > 5
    assert color_of(40) == many[39] and color_of(1) == PALETTE[0]


def test_the_objects_of_the_challenge_are_apart():
    assert distance([o.color for o in CZII_OBJECTS]) >= APART


def test_objects_that_nobody_has_given_a_colour_are_apart():
    assert distance([o.color for o in named_objects("abcdefghijkl")]) >= APART
    assert distance([o.color for o in with_specs((), [f"{c}:50" for c in "abcdefghij"], extend=True)]) >= APART
