"""Labelled tomograms without a microscope."""

from .bodies import density_of
from .density import BlobDensity, Density, MapDensity
from .microscope import ContrastTransfer, MicroscopeSpec
from .phantom import SpecimenSpec
from .restore import RestorationSpec
from .run import TOMO_TYPES, SimulationSpec, czii_spec, simulate_run

__all__ = [
    "TOMO_TYPES",
    "BlobDensity",
    "ContrastTransfer",
    "Density",
    "MapDensity",
    "MicroscopeSpec",
    "RestorationSpec",
    "SimulationSpec",
    "SpecimenSpec",
    "czii_spec",
    "density_of",
    "simulate_run",
]
