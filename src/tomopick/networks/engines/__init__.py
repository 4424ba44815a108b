"""Run a network on tiles: several runtimes behind one small interface, `EngineSpec(...).build(network)`."""

from .base import PRECISIONS, Engine, EngineKind
from .choose import ENGINES, EngineSpec
from .device import RECORDING, autocast, choose_device, half_precision, place

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "RECORDING",
    "Engine",
    "EngineKind",
    "EngineSpec",
    "autocast",
    "choose_device",
    "half_precision",
    "place",
]
