"""Run a network on tiles: several runtimes behind one small interface, `EngineSpec(...).build(network)`."""

from .base import PRECISIONS, Engine, EngineKind
from .choose import ENGINES, EngineSpec
from .device import autocast, choose_device, half_precision, place

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "Engine",
    "EngineKind",
    "EngineSpec",
    "autocast",
    "choose_device",
    "half_precision",
    "place",
]
