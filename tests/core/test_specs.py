"""Overrides, ranges and narrowing, on a small spec of its own; recipes and simulations use the same code."""

from dataclasses import dataclass, field

import pytest

from tomopick.core.errors import RecipeError, TomopickError
from tomopick.core.specs import LogRange, Overrides, Range, decode, encode, narrowed, require_ranges


@dataclass(frozen=True)
class Lamp:
    power: Range = (10.0, 30.0)
    gain: LogRange = (1.0, 100.0)
    limits: tuple[float, float] = (-60.0, 60.0)
    colours: tuple[tuple[str, Range], ...] = (("red", (0.0, 2.0)), ("blue", (4.0, 8.0)))
    count: int = 3

    def __post_init__(self) -> None:
        require_ranges(self, "lamp", {"count": (0, max(self.limits))})


@dataclass(frozen=True)
class Room:
    width: Range = (2.0, 4.0)
    lamp: Lamp = field(default_factory=Lamp)


change = Overrides((), TomopickError, "lamp.power=1,2")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lamp.power=12", (12.0, 12.0)), ("lamp.power=12,14", (12.0, 14.0)), ("lamp.power=(12,14)", (12.0, 14.0)),
        ("lamp.gain=3", (3.0, 3.0)), ("lamp.limits=-40,50", (-40.0, 50.0)), ("lamp.count=7", 7),
        ("lamp.colours.blue=5", (("red", (0.0, 2.0)), ("blue", (5.0, 5.0)))),
        ("lamp.colours.green=5,6", (("red", (0.0, 2.0)), ("blue", (4.0, 8.0)), ("green", (5.0, 6.0)))),
    ],
)  # fmt: skip
def test_overrides(text, value):
    assert getattr(change(Room(), [text]).lamp, text.partition("=")[0].split(".")[1]) == value


def test_overrides_are_checked_together():
    """Neither order passes through a spec that does not fit."""
    both = ["lamp.limits=-1,2", "lamp.count=1"]
    for texts in (both, both[::-1]):
        lamp = change(Room(), texts).lamp
        assert (lamp.limits, lamp.count) == ((-1.0, 2.0), 1)
    with pytest.raises(TomopickError, match=r"lamp\.count is 3; expected a number within 0\.\.2"):
        change(Room(), both[:1])
    assert Room().lamp == Lamp()


def test_a_range_at_the_top():
    assert change(Room(), ["width=3"]).width == (3.0, 3.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lamp.limits=40", "Lamp.limits cannot be '40'; expected 2 numbers with commas between"),
        ("lamp.power=1,2,3", "Lamp.power cannot be '1,2,3'; expected 2 numbers with commas between"),
        ("lamp.power=", "Lamp.power cannot be ''; expected"),
        ("lamp.colours.blue=x", "Lamp.colours.blue cannot be 'x'; expected a number"),
        ("power=1", "Room has no field 'power'; did you mean 'lamp.power'?"),
        ("lamp.powr=1", "Lamp has no field 'powr'; did you mean 'power'?"),
        ("lamp", "'lamp' is not an override; write section.field=value, for example lamp.power=1,2"),
        ("width.x=1", "Room.width has no parts; write width=value"),
    ],
)
def test_what_an_override_cannot_be(text, message):
    with pytest.raises(TomopickError) as found:
        change(Room(), [text])
    assert str(found.value).startswith(message)


def test_narrowing():
    half, none = narrowed(Room(), 0.5), narrowed(Room(), 0.0)
    assert half.width == (2.5, 3.5) and half.lamp.power == (15.0, 25.0)
    assert half.lamp.gain == pytest.approx((10**0.5, 10**1.5))
    assert half.lamp.colours == (("red", (0.5, 1.5)), ("blue", (5.0, 7.0)))
    assert half.lamp.limits == (-60.0, 60.0) and half.lamp.count == 3  # no ranges to draw from
    assert none.width == (3.0, 3.0) and none.lamp.gain == pytest.approx((10.0, 10.0))
    assert narrowed(Room(), 1.0) == Room()


def test_ranges_within_bounds():
    bounds = {"power": (0.0, 40.0), "count": (1, 9)}
    require_ranges(Lamp(), "lamp", bounds)
    for wrong, line in (
        (Lamp(power=(30.0, 10.0)), "lamp.power is 30,10; expected low,high within 0..40"),
        (Lamp(power=(10.0, 41.0)), "lamp.power is 10,41; expected low,high within 0..40"),
        (Lamp(power=(10.0, float("nan"))), "lamp.power is 10,nan; expected low,high"),
        (Lamp(power=10.0), "lamp.power is 10; expected low,high within 0..40"),
        (Lamp(count=0), "lamp.count is 0; expected a number within 1..9"),
    ):
        with pytest.raises(RecipeError) as found:
            require_ranges(wrong, "lamp", bounds, RecipeError)
        assert str(found.value).startswith(line)


def test_json_round_trip():
    room = Room(width=(1.0, 5.0), lamp=Lamp(count=9))
    assert decode(encode(room), {"Room": Room, "Lamp": Lamp}, "room.json") == room
