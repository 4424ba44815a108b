"""From a specimen to its tilt series: projections, phase contrast, dose, noise, errors of alignment.

The tilt axis is y. Arrays that are projected or back-projected are (z, x, y): around one axis both are one sparse
matrix for an xz plane, times all y at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from ..errors import TomopickError
from .projection import frequency_grid, project
from .specimen import Range, Specimen

# Critical dose N(k) = a k^b + c [e/Å^2], k [1/Å], at 300 kV. Source: Grant & Grigorieff 2015, eLife 4, e06980, eq. 3.
CRITICAL_DOSE = (0.24499, -1.6649, 2.8141)
MEAN_FREE_PATH = (
    3_500.0  # [Å] of inelastic scattering in ice at 300 kV. Source: Rice et al. 2018, JSB 204, 38 (2800..4300).
)
REST_ENERGY = 510_999.0  # of an electron [eV]


def electron_wavelength(kilovolts: float) -> float:
    """Relativistic wavelength [Å]. Source: de Broglie; h / sqrt(2 m e V (1 + e V / 2 m c^2))."""
    volts = kilovolts * 1e3
    return 12.2643 / np.sqrt(volts * (1 + 0.978466e-6 * volts))


def interaction(kilovolts: float) -> float:
    """Phase that 1 V over 1 Å gives [rad]. Source: Kirkland, Advanced Computing in Electron Microscopy, eq. 5.6."""
    volts = kilovolts * 1e3
    return 2 * np.pi / (electron_wavelength(kilovolts) * volts) * (REST_ENERGY + volts) / (2 * REST_ENERGY + volts)


def dose_damping(k: np.ndarray, dose: float) -> np.ndarray:
    """What radiation damage leaves of the amplitudes at `k` [1/Å] after `dose` [e/Å^2]."""
    a, b, c = CRITICAL_DOSE
    return np.exp(-dose / 2 / (a * np.maximum(k, 1e-4) ** b + c))


@dataclass(frozen=True)
class ContrastTransfer:
    """Phase contrast of one image, a function of spatial frequency.

    Attributes:
        defocus: underfocus is positive [Å].
        voltage: [kV].
        spherical_aberration: [mm].
        amplitude_contrast: part of the contrast that is amplitude, 0..1.
        b_factor: of the envelope exp(-B k^2 / 4) [Å^2].
    """

    defocus: float
    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: float = 0.07
    b_factor: float = 0.0

    def __call__(self, k: np.ndarray) -> np.ndarray:
        """Transfer at frequencies `k` [1/Å]; negative at low ones: what scatters is dark."""
        wavelength = electron_wavelength(self.voltage)
        lag = np.pi * wavelength * k**2 * (self.defocus - 0.5 * self.spherical_aberration * 1e7 * wavelength**2 * k**2)
        envelope = np.exp(-self.b_factor / 4 * k**2)
        return -np.sin(lag + np.arcsin(self.amplitude_contrast)) * envelope


@dataclass(frozen=True)
class TiltSeries:
    """Aligned images of one run.

    Attributes:
        images: (tilt, width, y) contrast, relative to the mean intensity; centred on the tilt axis.
        angles: (tilt,) as they are believed to be [degrees].
        voxel_spacing: of the images [Å].
        optics: as it is believed to be, the same for all tilts.
        noise: (tilt,) standard deviation of the shot noise in a pixel.
        dose: (tilt,) already taken halfway through an image [e/Å^2].
    """

    images: np.ndarray
    angles: np.ndarray
    voxel_spacing: float
    optics: ContrastTransfer
    noise: np.ndarray
    dose: np.ndarray


@dataclass(frozen=True)
class MicroscopeSpec:
    """How a tilt series is taken. A range is drawn from uniformly, once per run.

    Attributes:
        tilts: first and last tilt [degrees].
        tilt_loss: how much is missing of that range at either end [degrees].
        magnification: error of the voxel spacing, true over believed.
        tilt_step: [degrees].
        voltage: [kV].
        spherical_aberration: [mm].
        amplitude_contrast: part of the contrast that is amplitude.
        defocus: underfocus is positive [Å].
        defocus_error: standard deviation from tilt to tilt [Å].
        dose: of the whole series [e/Å^2].
        detective_efficiency: part of the electrons that count (DQE).
        b_factor: of the envelope exp(-B k^2 / 4) [Å^2].
        alignment_error: standard deviation of an image's shift [Å].
        tilt_error: standard deviation of a tilt [degrees].
    """

    tilts: Range = (-60.0, 60.0)
    tilt_loss: Range = (0.0, 18.0)
    tilt_step: float = 3.0
    magnification: Range = (0.96, 1.08)
    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: Range = (0.06, 0.1)
    defocus: Range = (20_000.0, 60_000.0)
    defocus_error: Range = (0.0, 1_500.0)
    dose: Range = (80.0, 140.0)
    detective_efficiency: Range = (0.6, 0.9)
    b_factor: Range = (200.0, 1_500.0)
    alignment_error: Range = (0.0, 6.0)
    tilt_error: Range = (0.0, 0.3)

    def __post_init__(self) -> None:
        low, high = self.tilts
        if not (-89 <= low < high <= 89 and 0 < self.tilt_step <= high - low):
            raise TomopickError(
                f"tilts must go up, within -89..89 degrees, by a positive step that fits: "
                f"not {low:g}..{high:g} by {self.tilt_step:g}"
            )

    @property
    def angles(self) -> np.ndarray:
        """All tilts, ascending [degrees]."""
        low, high = self.tilts
        return np.arange(low, high + 1e-6, self.tilt_step)

    def _kept(self, rng: np.random.Generator) -> np.ndarray:
        angles, lost = self.angles, rng.uniform(*self.tilt_loss, 2)
        kept = angles[(angles >= self.tilts[0] + lost[0]) & (angles <= self.tilts[1] - lost[1])]
        return kept if len(kept) else angles

    def __call__(self, specimen: Specimen, rng: np.random.Generator) -> TiltSeries:
        """The tilt series of `specimen`, aligned as well as this microscope's errors let it be."""
        angles, spacing = self._kept(rng), specimen.grid.voxel_spacing
        count = len(angles)
        optics = ContrastTransfer(
            rng.uniform(*self.defocus), self.voltage, self.spherical_aberration, rng.uniform(*self.amplitude_contrast),
            rng.uniform(*self.b_factor),
        )  # fmt: skip
        defocus = optics.defocus + rng.normal(0, rng.uniform(*self.defocus_error), count)
        shifts = rng.normal(0, rng.uniform(*self.alignment_error), (count, 2)) / spacing
        truth = angles + rng.normal(0, rng.uniform(*self.tilt_error), count)
        dose = rng.uniform(*self.dose)
        electrons = dose / count * spacing**2 * rng.uniform(*self.detective_efficiency)
        electrons *= np.exp(-specimen.thickness / MEAN_FREE_PATH / np.cos(np.radians(angles)))
        order = np.argsort(np.argsort(np.abs(angles + 1e-3)))  # dose-symmetric: 0, -3, 3, -6, 6 ...
        taken = (order + 0.5) * dose / count
        images = project(np.ascontiguousarray(specimen.potential.transpose(0, 2, 1)), truth)
        frequencies = frequency_grid(images.shape[1:])
        k = np.hypot(*frequencies) / spacing
        phase = 2 * interaction(self.voltage) * spacing
        for i, image in enumerate(images):
            transfer = replace(optics, defocus=defocus[i])(k) * phase * dose_damping(k, taken[i])
            shift = np.exp(-2j * np.pi * (frequencies[0] * shifts[i, 0] + frequencies[1] * shifts[i, 1]))
            spectrum = fft.rfft2(image) * (transfer * shift).astype(np.complex64)
            noise = rng.standard_normal(image.shape, dtype=np.float32) / np.float32(np.sqrt(electrons[i]))
            images[i] = fft.irfft2(spectrum, s=image.shape) + noise
        return TiltSeries(images, angles, spacing, optics, electrons**-0.5, taken)
