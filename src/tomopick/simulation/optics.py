"""Electrons, lenses, damage and detector, as functions of spatial frequency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import constants

# Critical dose N(k) = a k^b + c [e/Å^2], k [1/Å], at 300 kV. Source: Grant & Grigorieff 2015, eLife 4, e06980, eq. 3.
CRITICAL_DOSE = (0.24499, -1.6649, 2.8141)
# Of inelastic scattering in ice at 300 kV [Å]. Source: Rice et al. 2018, J Struct Biol 204, 38 (395 nm).
MEAN_FREE_PATH = 3_950.0
_REST_ENERGY = constants.m_e * constants.c**2 / constants.e  # of an electron [eV]


def electron_wavelength(kilovolts: float) -> float:
    """Relativistic wavelength [Å]: h / sqrt(2 m e V (1 + e V / 2 m c^2)). Source: de Broglie; CODATA's constants."""
    volts = kilovolts * 1e3
    momentum = np.sqrt(2 * constants.m_e * constants.e * volts * (1 + volts / (2 * _REST_ENERGY)))
    return float(constants.h / momentum * 1e10)


def interaction(kilovolts: float) -> float:
    """Phase that 1 V over 1 Å gives [rad]. Source: Kirkland, Advanced Computing in Electron Microscopy, eq. 5.6."""
    volts = kilovolts * 1e3
    return 2 * np.pi / (electron_wavelength(kilovolts) * volts) * (_REST_ENERGY + volts) / (2 * _REST_ENERGY + volts)


def slowness(kilovolts: float) -> float:
    """(v / c)^2 relative to that at 300 kV: damage and inelastic scattering go with its inverse (0.80 at 200 kV).

    Source: Bethe's cross-section; Grant & Grigorieff 2015 scale their critical dose by 0.8 at 200 kV.
    """
    square = [1 - (1 + volts / _REST_ENERGY) ** -2 for volts in (kilovolts * 1e3, 300e3)]
    return float(square[0] / square[1])


def dose_damping(k: np.ndarray, dose: float, kilovolts: float = 300.0) -> np.ndarray:
    """What radiation damage leaves of the amplitudes at `k` [1/Å] after `dose` [e/Å^2].

    Source: Grant & Grigorieff 2015, eLife 4, e06980, eq. 3 and 4: exp(-N / 2 N_critical).
    """
    a, b, c = CRITICAL_DOSE
    return np.exp(-dose / 2 / slowness(kilovolts) / (a * np.maximum(k, 1e-4) ** b + c))


def transmission(thickness: float, angles: np.ndarray, kilovolts: float) -> np.ndarray:
    """Part of the electrons that pass ice of `thickness` [Å] without losing energy, at each tilt [degrees]."""
    return np.exp(-thickness / (MEAN_FREE_PATH * slowness(kilovolts)) / np.cos(np.radians(angles)))


@dataclass(frozen=True)
class ContrastTransfer:
    """Phase contrast of one image, a function of spatial frequency.

    -sin(chi + asin A) exp(-B k^2 / 4), chi = pi lambda k^2 (defocus - Cs lambda^2 k^2 / 2), for a weak phase object.
    Source: Wade 1992, Ultramicroscopy 46, 145.

    Attributes:
        defocus: underfocus is positive [Å].
        voltage: [kV].
        spherical_aberration: Cs [mm].
        amplitude_contrast: A, part of the contrast that is amplitude, 0..1.
        b_factor: B of the envelope [Å^2].
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
        return -np.sin(lag + float(np.arcsin(self.amplitude_contrast))) * envelope  # float: `k` of float32 stays so


@dataclass(frozen=True)
class Camera:
    """A detector that counts electrons: what it loses of the signal and how many electrons it counts.

    A counted electron lands beside its true pixel at random: the signal is blurred, the shot noise stays white, and
    DQE(k) = efficiency x MTF(k)^2. A pixel of a tomogram is many of the detector's, so that little is lost at 10 Å.
    Source: the relation and the orders of magnitude, McMullan et al. 2014, Ultramicroscopy 147, 156 (300 kV).

    Attributes:
        efficiency: DQE at frequency 0.
        nyquist_transfer: MTF at the Nyquist frequency of its own pixels.
        pixel: of its own on the specimen [Å].
    """

    efficiency: float
    nyquist_transfer: float
    pixel: float

    def __call__(self, k: np.ndarray) -> np.ndarray:
        """MTF at frequencies `k` [1/Å], modelled as a Gaussian."""
        return self.nyquist_transfer ** ((2 * self.pixel * k) ** 2)
