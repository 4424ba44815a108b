"""From a specimen to its tilt series: projections, phase contrast, damage, detector, shot noise, errors of alignment.

The tilt axis is y and the beam goes along +z at 0 degrees. Arrays that are projected or back-projected are (z, x, y).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.errors import TomopickError
from ..core.specs import Range, require_ranges
from .arrays import Arrays, HostArrays
from .optics import Camera, ContrastTransfer, dose_damping, electron_wavelength, interaction, transmission
from .projection import frequency_grid, from_axis, project
from .specimen import Specimen

_STRIP = 0.25  # [rad] by which the phase at the highest frequency may differ between two defoci that are blended
_EDGE = 12  # pixels at the border of the field that are averaged to fill what lies beyond
_LEAST_INTENSITY = 0.02  # of the mean: behind gold


@dataclass(frozen=True)
class TiltSeries:
    """Aligned images of one run.

    Attributes:
        images: (tilt, width, y) contrast, relative to the mean intensity; centred on the tilt axis.
        angles: (tilt,) as they are believed to be, ascending [degrees].
        voxel_spacing: of the images [Å].
        optics: as it is believed to be, the same for all tilts and for all of an image.
        noise: (tilt,) standard deviation of the shot noise in a pixel.
        dose: (tilt,) already taken halfway through an image [e/Å^2].
        facts: what was drawn for this run, plain values.
    """

    images: np.ndarray
    angles: np.ndarray
    voxel_spacing: float
    optics: ContrastTransfer
    noise: np.ndarray
    dose: np.ndarray
    facts: dict[str, Any]

    def every_other(self, first: int) -> TiltSeries:
        """The even (`first` 0) or the odd (1) images.

        Raises:
            TomopickError: there are none.
        """
        each = slice(first, None, 2)
        if first >= len(self.images):
            raise TomopickError(
                f"a series of {len(self.images)} image has no second half; lower microscope.tilt_step, widen "
                "microscope.tilts, or leave the halves out"
            )
        return replace(
            self, images=self.images[each], angles=self.angles[each], noise=self.noise[each], dose=self.dose[each]
        )


@dataclass(frozen=True)
class _Exposure:
    """What was drawn for one run; arrays are (tilt,), lengths in Å."""

    angles: np.ndarray  # believed
    truth: np.ndarray  # tilts as they were
    optics: ContrastTransfer
    defocus: np.ndarray  # on the tilt axis
    shifts: np.ndarray  # (tilt, 2) across and along the axis
    aside: float  # of the tilt axis
    total_dose: float
    dose: np.ndarray  # before the middle of each image [e/Å^2]
    detector: Camera

    def facts(self) -> dict[str, Any]:
        order = np.argsort(self.dose)
        return {
            "tilts_in_order": [round(float(a), 4) for a in self.angles[order]],
            "defocus": self.optics.defocus,
            "defocus_spread": float(np.std(self.defocus)),
            "dose": self.total_dose,
            "voltage": self.optics.voltage,
            "spherical_aberration": self.optics.spherical_aberration,
            "amplitude_contrast": self.optics.amplitude_contrast,
            "b_factor": self.optics.b_factor,
            "detective_efficiency": self.detector.efficiency,
            "alignment_error": float(np.sqrt((self.shifts**2).mean())),
            "axis_error": self.aside,
            "tilt_error": float(np.sqrt(((self.truth - self.angles) ** 2).mean())),
        }


def dose_symmetric(angles: np.ndarray) -> np.ndarray:
    """(tilt,) when each of the ascending `angles` is taken, counted from 0: 0, 3, -3, -6, 6, 9, -9 ... degrees.

    Source: Hagen et al. 2017, J Struct Biol 197, 191.
    """
    step = np.abs(np.diff(angles)).min(initial=np.inf)
    ring = np.rint(np.abs(angles) / step) if np.isfinite(step) else np.zeros(len(angles))
    first = np.where(ring % 2 == 1, 1, -1)  # the side that a ring begins with
    return np.argsort(np.lexsort((-np.sign(angles) * first, ring)))


def _crescent(angles: np.ndarray) -> np.ndarray:
    """(tilt,) shifts of the images for a tilt axis that is off by 1, less what only moves the whole tomogram.

    Images count as the fourth power of the cosine of their tilt: between those of `wbp`, which all count alike, and
    those of a deconvolution that trusts high tilts much less.
    """
    cosine, sine = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    moves = np.column_stack([cosine, sine])[:, : len(angles)]
    return 1 - moves @ np.linalg.lstsq(moves * cosine[:, None] ** 2, cosine**2, rcond=None)[0]


@dataclass(frozen=True)
class MicroscopeSpec:
    """How a tilt series is taken. A range is drawn from uniformly, once per run.

    Attributes:
        tilts: first and last tilt [degrees].
        tilt_loss: how much is missing of that range at either end [degrees].
        tilt_step: [degrees].
        magnification: error of the voxel spacing, true over believed.
        voltage: [kV].
        spherical_aberration: [mm].
        amplitude_contrast: part of the contrast that is amplitude.
        defocus: on the tilt axis, underfocus is positive [Å].
        defocus_error: standard deviation from tilt to tilt [Å].
        dose: of the whole series, the same for each image [e/Å^2].
        detective_efficiency: part of the electrons that count (DQE at frequency 0).
        nyquist_transfer: of the detector, MTF at its own Nyquist frequency.
        detector_pixel: of the detector on the specimen [Å].
        b_factor: of the envelope exp(-B k^2 / 4) [Å^2].
        alignment_error: standard deviation of an image's shift [Å].
        axis_error: how far the tilt axis is from where it is believed to be, to either side [Å]: points become
            crescents in xz, as in many real tomograms, centred where the points are.
        tilt_error: standard deviation of a tilt [degrees].
    """

    tilts: tuple[float, float] = (-60.0, 60.0)
    tilt_loss: Range = (0.0, 18.0)
    tilt_step: Range = (2.0, 4.0)
    magnification: Range = (0.96, 1.08)
    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: Range = (0.06, 0.1)
    defocus: Range = (20_000.0, 60_000.0)
    defocus_error: Range = (0.0, 1_500.0)
    dose: Range = (80.0, 140.0)
    detective_efficiency: Range = (0.6, 0.9)
    nyquist_transfer: Range = (0.4, 0.7)
    detector_pixel: float = 1.54
    b_factor: Range = (200.0, 1_500.0)
    alignment_error: Range = (0.0, 6.0)
    axis_error: Range = (0.0, 150.0)
    tilt_error: Range = (0.0, 0.3)

    def __post_init__(self) -> None:
        low, high = self.tilts
        if not -80 <= low < high <= 80:
            raise TomopickError(f"microscope.tilts must go up, within -80..80 degrees: not {low:g}..{high:g}")
        bounds = {
            "tilt_loss": (0, (high - low) / 2), "tilt_step": (0.1, high - low), "magnification": (0.5, 2),
            "voltage": (60, 1000), "spherical_aberration": (0, 10), "amplitude_contrast": (0, 0.9),
            "defocus": (0, 200_000), "defocus_error": (0, 50_000), "dose": (0.1, 100_000),
            "detective_efficiency": (0.01, 1), "nyquist_transfer": (0.01, 1), "detector_pixel": (0.1, 14),
            "b_factor": (0, 100_000), "alignment_error": (0, 1000), "axis_error": (0, 5000), "tilt_error": (0, 10),
        }  # fmt: skip
        require_ranges(self, "microscope", bounds)

    def _angles(self, rng: np.random.Generator) -> np.ndarray:
        """Multiples of one step, ascending, without what is lost at the ends."""
        step, lost = rng.uniform(*self.tilt_step), rng.uniform(*self.tilt_loss, 2)
        low, high = self.tilts[0] + lost[0], self.tilts[1] - lost[1]
        kept = step * np.arange(np.ceil(low / step - 1e-6), np.floor(high / step + 1e-6) + 1)
        return kept if len(kept) else np.array([(low + high) / 2])

    def _draw(self, rng: np.random.Generator) -> _Exposure:
        angles = self._angles(rng)
        count = len(angles)
        optics = ContrastTransfer(
            rng.uniform(*self.defocus), self.voltage, self.spherical_aberration, rng.uniform(*self.amplitude_contrast),
            rng.uniform(*self.b_factor),
        )  # fmt: skip
        defocus = optics.defocus + rng.normal(0, rng.uniform(*self.defocus_error), count)
        shifts = rng.normal(0, rng.uniform(*self.alignment_error), (count, 2))
        truth = angles + rng.normal(0, rng.uniform(*self.tilt_error), count)
        aside = rng.choice([-1.0, 1.0]) * rng.uniform(*self.axis_error)
        shifts[:, 0] += aside * _crescent(truth)
        dose = rng.uniform(*self.dose)
        detector = Camera(
            rng.uniform(*self.detective_efficiency), rng.uniform(*self.nyquist_transfer), self.detector_pixel
        )
        taken = (dose_symmetric(angles) + 0.5) * dose / count
        return _Exposure(angles, truth, optics, defocus, shifts, float(aside), dose, taken, detector)

    def __call__(self, specimen: Specimen, rng: np.random.Generator, arrays: Arrays | None = None) -> TiltSeries:
        """The tilt series of `specimen`, aligned as well as this microscope's errors let it be."""
        arrays, drawn, grid = arrays or HostArrays(), self._draw(rng), specimen.grid
        spacing, rim = grid.voxel_spacing, specimen.margin[0]
        potential = np.ascontiguousarray(specimen.potential.transpose(0, 2, 1))
        projections = project(potential, drawn.truth, (grid.shape[0], grid.shape[2]), arrays)
        electrons = drawn.total_dose / len(drawn.angles) * spacing**2 * drawn.detector.efficiency
        passed = electrons * transmission(specimen.thickness, drawn.truth, self.voltage)
        images = np.empty((*projections.shape[:2], grid.shape[1]), dtype=np.float32)
        seen = arrays.each(lambda i: _through_the_lens(projections[i], spacing, drawn, i, arrays), range(len(images)))
        for i, image in enumerate(seen):
            contrast = image[:, rim : rim + grid.shape[1]]
            intensity = np.sqrt(np.maximum(1 + contrast, _LEAST_INTENSITY) / passed[i])
            noise = rng.standard_normal(contrast.shape, dtype=np.float32) * intensity.astype(np.float32)
            images[i] = within_field(contrast + noise, grid.shape[2])
        facts = {**drawn.facts(), "thickness": specimen.thickness}
        return TiltSeries(images, drawn.angles, spacing, drawn.optics, passed**-0.5, drawn.dose, facts)


def _through_the_lens(projection: np.ndarray, spacing: float, drawn: _Exposure, i: int, arrays: Arrays) -> np.ndarray:
    """(width, y) contrast of image `i`, before the shot noise."""
    across, along = frequency_grid(projection.shape)
    k, shifts = np.hypot(across, along) / spacing, drawn.shifts[i] / spacing
    turn = np.exp(-2j * np.pi * (across * shifts[0] + along * shifts[1]))
    strength = 2 * interaction(drawn.optics.voltage) * spacing
    common = strength * dose_damping(k, drawn.dose[i], drawn.optics.voltage) * drawn.detector(k) * turn
    optics = replace(drawn.optics, defocus=drawn.defocus[i])
    return phase_contrast(projection, spacing, drawn.truth[i], optics, common, arrays)


def phase_contrast(
    projection: np.ndarray,
    spacing: float,
    tilt: float,
    optics: ContrastTransfer,
    common: np.ndarray | float,
    arrays: Arrays,
) -> np.ndarray:
    """What the optics make of the projection of a tilted layer.

    Across the tilt axis the layer rises and falls by the tangent of the tilt, and the defocus with it: images at a few
    defoci are blended, column by column. (The depth within the layer is left out: half a layer of 1500 Å turns the
    phase at 20 Å by 0.12 rad.)

    Args:
        projection: (width, y), centred on the tilt axis.
        spacing: of its pixels [Å].
        tilt: [degrees].
        optics: its defocus is that on the tilt axis.
        common: a gain on the frequencies of `rfft2` besides the optics'.
        arrays: where to compute.
    """
    k = (np.hypot(*frequency_grid(projection.shape)) / spacing).astype(np.float32)
    heights = -from_axis(len(projection)) * spacing * np.tan(np.radians(tilt))
    step = _STRIP / (np.pi * electron_wavelength(optics.voltage) / (4 * spacing**2))
    count = 1 + int(np.ceil(np.ptp(heights) / step))
    levels = np.linspace(heights.min(), heights.max(), count) if count > 1 else np.zeros(1)
    common = np.asarray(common, dtype=np.complex64)
    gains = (replace(optics, defocus=float(optics.defocus + level))(k) * common for level in levels)
    images = arrays.filtered(projection, gains)
    if count == 1:
        return images[0]
    place = (heights - levels[0]) / (levels[1] - levels[0])
    shares = np.clip(1 - np.abs(place - np.arange(count)[:, None]), 0, 1).astype(np.float32)
    blended = np.zeros_like(images[0])
    for image, share in zip(images, shares):
        blended += share[:, None] * image
    return blended


def within_field(image: np.ndarray, width: int) -> np.ndarray:
    """(pixel, y) with what lies beyond the detector's field of `width` pixels filled by the border's fading mean."""
    first = (len(image) - width) // 2
    last, filled = first + width, image.copy()
    left, right = image[first : first + _EDGE].mean(axis=0), image[last - _EDGE : last].mean(axis=0)
    filled[:first] = left * _fade(first)[::-1]
    filled[last:] = right * _fade(len(image) - last)
    return filled


def _fade(count: int) -> np.ndarray:
    """(count, 1) from 1 down to 0."""
    return np.cos(np.linspace(0, np.pi / 2, count, dtype=np.float32))[:, None] ** 2
