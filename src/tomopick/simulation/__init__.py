"""Labelled tomograms without a microscope."""

from ..core.presets import TOMO_TYPES, with_halves
from .arrays import arrays_of
from .bodies import density_of
from .density import BlobDensity, Density, MapDensity
from .inputs import twins, with_densities
from .maps import DensityFile
from .microscope import MicroscopeSpec, TiltSeries
from .optics import Camera, ContrastTransfer
from .phantom import SpecimenSpec
from .restore import RestorationSpec
from .run import SimulatedRun, SimulationSpec, czii_spec, simulate

__all__ = [
    "TOMO_TYPES",
    "BlobDensity",
    "Camera",
    "ContrastTransfer",
    "Density",
    "DensityFile",
    "MapDensity",
    "MicroscopeSpec",
    "RestorationSpec",
    "SimulatedRun",
    "SimulationSpec",
    "SpecimenSpec",
    "TiltSeries",
    "arrays_of",
    "czii_spec",
    "density_of",
    "simulate",
    "twins",
    "with_densities",
    "with_halves",
]
