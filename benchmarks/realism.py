"""How close simulated apo-ferritin comes to a real tomogram of it: curves, numbers, and pictures side by side.

    python benchmarks/realism.py --volume X.mrc --picks X.csv --out OUT [--templates FOLDER] [SETTINGS ...]

The real side is the half of low y alone; simulations must not be tuned to the other, which models are tested on. The
simulated side is its twin: particles at the real picks, everything else drawn. SETTINGS are section.field=value on top
of `SETTINGS` below. Writes OUT/realism.png and OUT/realism.json; prints the differences.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from tomopick import Picks, Tomogram, read_volume
from tomopick.core.presets import CZII_OBJECTS
from tomopick.data.tables import read_picks_csv
from tomopick.simulation import SimulationSpec, simulate, with_densities

OBJECT = CZII_OBJECTS[0]
# What is known of the real specimen, purified apo-ferritin in thin ice, and settings within the ranges of `varied` that
# come near it: found by random search and by eye on the half of low y.
SETTINGS = (
    "specimen.distractors=0", "specimen.membranes=0", "specimen.gold=0", "specimen.frost=0",
    "specimen.background=0.5,1.5", "specimen.contrast=0.9,1.15", "microscope.defocus=25000,37000",
    "microscope.magnification=1.03,1.06", "microscope.axis_error=120,150", "microscope.alignment_error=0,1.5",
    "microscope.tilt_step=2,3", "microscope.b_factor=300,800", "microscope.tilt_loss=0,6",
    "restoration.log_snr=1.7,2.2", "restoration.falloff=0.012,0.02", "restoration.low_pass=22,28",
    "restoration.high_pass=1000,2000", "restoration.tilt_weight=8,14", "restoration.dose_weight=0.7,1.2",
    "restoration.strength=0.9,1.3", "restoration.window=50,80", "restoration.residue=0.1,0.25",
)  # fmt: skip
RIM = 20  # voxels at the border of the real volume, where it fades
FREQUENCIES = np.linspace(0.0025, 0.05, 20)  # [1/Å], edges of the shells
REACH = 12  # half-width of the averaged subtomogram [voxels]
SHIFT = 2  # voxels by which a pick may err
# Where the particle may be in its average, yx [voxels]: a tilt axis that is off moves it.
CENTRES = [(y / 2, x / 2) for y in range(-4, 5) for x in range(-4, 5)]
QUANTILES = np.array([0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999])


@dataclass(frozen=True)
class Measured:
    """What is compared; grey values are in units of the layer's standard deviation, about its median.

    Attributes:
        values: (z, y, x) the layer.
        seen: power by shell of frequency where tilts reach, summing to 1 with `unseen`.
        unseen: within the missing wedge.
        quantiles: of the grey values, at `QUANTILES`.
        average: (z, y, x) subtomogram at the picks.
        profile: in the average's middle section, by distance [voxels] from where it makes the deepest shell.
        empty: standard deviation above and below the layer.
    """

    values: np.ndarray
    seen: np.ndarray
    unseen: np.ndarray
    quantiles: np.ndarray
    average: np.ndarray
    profile: np.ndarray
    empty: float

    def numbers(self, spacing: float) -> dict[str, float]:
        """What the average says in words; lengths in Å."""
        shell = int(np.argmin(self.profile[2:9])) + 2
        halo = int(np.argmax(self.profile[shell : shell + 6])) + shell
        return {
            "shell radius": spacing * _vertex(self.profile, shell), "shell depth": float(self.profile[shell]),
            "centre": float(self.profile[0]), "halo": float(self.profile[halo]), "halo radius": spacing * halo,
            "elongation": _elongation(self.average), "outside the layer": self.empty,
            "skewness": float(np.mean((self.values - self.values.mean()) ** 3) / self.values.std() ** 3),
            "kurtosis": float(np.mean((self.values - self.values.mean()) ** 4) / self.values.std() ** 4),
        }  # fmt: skip


def _vertex(curve: np.ndarray, i: int) -> float:
    a, b, c = curve[i - 1 : i + 2]
    return float(i + 0.5 * (a - c) / (a - 2 * b + c))


def _elongation(average: np.ndarray) -> float:
    """How much farther the dark part of the average reaches along z than along y and x."""
    axes = np.indices(average.shape) - REACH
    dark = np.where(np.sqrt((axes**2).sum(axis=0)) < REACH, np.clip(-average, 0, None), 0)
    z, y, x = (float((dark * axis**2).sum()) for axis in axes)
    return float(np.sqrt(2 * z / (y + x)))


def layer_of(picks: Picks, depth: int, spacing: float) -> slice:
    """Planes that hold most of the picks, and half a particle more on either side."""
    z = picks.positions[:, 0] / spacing
    low, high = np.quantile(z, [0.02, 0.98])
    more = OBJECT.radius_angstrom / spacing
    return slice(max(0, int(low - more)), min(depth, int(high + more) + 1))


def spectrum(values: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Power by shell of frequency outside and inside a missing wedge of +-60 degrees about y."""
    window = np.ones(1)
    for axis, n in enumerate(values.shape):
        taper = np.hanning(n + 2)[1:-1]
        window = window * taper.reshape([-1 if a == axis else 1 for a in range(3)])
    power = np.abs(np.fft.rfftn((values - values.mean()) * window)) ** 2
    kz, ky, kx = np.meshgrid(*[np.fft.fftfreq(n, spacing) for n in values.shape[:2]],
                             np.fft.rfftfreq(values.shape[2], spacing), indexing="ij", sparse=True)  # fmt: skip
    k = np.sqrt(kz**2 + ky**2 + kx**2)
    tilt = np.degrees(np.arctan2(np.abs(kz), np.abs(kx) + 0 * kz))
    which = np.digitize(k, FREQUENCIES)
    curves = []
    for mask in (tilt < 55, tilt > 65):
        inside = mask & (which > 0) & (which < len(FREQUENCIES))
        sums = np.bincount(which[inside], power[inside], len(FREQUENCIES) + 1)
        counts = np.bincount(which[inside], minlength=len(FREQUENCIES) + 1)
        curves.append((sums / np.maximum(counts, 1))[1 : len(FREQUENCIES)])
    total = curves[0].sum() + curves[1].sum()
    return curves[0] / total, curves[1] / total


def average_of(tomogram: Tomogram, picks: Picks) -> np.ndarray:
    """Mean subtomogram at the picks, each moved by up to `SHIFT` voxels to where it fits the others best.

    The real picks err by more than the simulated truth does, which a plain mean would show as blur.
    """
    reach, (_, ny, nx) = REACH + SHIFT, tomogram.values.shape
    offsets = np.indices((2 * reach + 1,) * 3) - reach
    boxes = []
    for index in tomogram.grid.indices(picks.positions):
        if not ((index[1:] < RIM).any() or index[1] > ny - 1 - REACH or index[2] > nx - RIM):
            place = offsets + index[:, None, None, None]
            boxes.append(map_coordinates(tomogram.values, place, order=1, mode="nearest"))
    steps = list(np.ndindex(*(2 * SHIFT + 1,) * 3))
    shifts = [np.array([SHIFT] * 3)] * len(boxes)
    side = 2 * REACH + 1
    near = np.sqrt(((np.indices((side,) * 3) - REACH) ** 2).sum(axis=0)) < 0.75 * REACH

    def moved(box: np.ndarray, shift: np.ndarray) -> np.ndarray:
        return box[tuple(slice(s, s + side) for s in shift)]

    for _ in range(3):
        average = np.mean([moved(box, shift) for box, shift in zip(boxes, shifts)], axis=0)
        reference = average[near] - average[near].mean()
        shifts = [np.array(max(steps, key=lambda step: float(moved(box, step)[near] @ reference))) for box in boxes]
    return np.mean([moved(box, shift) for box, shift in zip(boxes, shifts)], axis=0)


def _profile(section: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    y, x = np.indices(section.shape) - REACH
    distance = np.hypot(y - centre[0], x - centre[1])
    return np.array([section[np.abs(distance - r) < 0.75].mean() for r in range(REACH - 1)])


def measure(tomogram: Tomogram, picks: Picks) -> Measured:
    """All of it, for one volume and the particles in it."""
    spacing, (nz, _, nx) = tomogram.grid.voxel_spacing, tomogram.values.shape
    layer = layer_of(picks, nz, spacing)
    inner = tomogram.values[:, RIM:, RIM : nx - RIM]
    part = inner[layer]
    middle, scale = float(np.median(part)), float(part.std())
    values = (part - middle) / scale
    seen, unseen = spectrum(values, spacing)
    average = (average_of(tomogram, picks) - middle) / scale
    profile = min((_profile(average[REACH], centre) for centre in CENTRES), key=lambda p: p[2:8].min())
    outside = np.delete(inner, np.s_[max(0, layer.start - 8) : layer.stop + 8], axis=0)
    return Measured(
        values, seen, unseen, np.quantile(values, QUANTILES), average, profile, float(outside.std() / scale)
    )


def real_half(volume: Path, picks: Path) -> tuple[Tomogram, Picks]:
    """The half of low y, without the constant planes of its border."""
    whole = Tomogram("real", *read_volume(volume))
    half = whole.values.shape[1] // 2
    first = int(np.argmax(whole.values.std(axis=(0, 2)) > 0))
    part = whole.crop((0, first, 0), (whole.values.shape[0], half - first, whole.values.shape[2]))
    (given,) = read_picks_csv(picks).values()
    found = given.select(part.grid.contains(given.positions))
    shift = np.array(part.grid.origin)
    moved = Tomogram("real", part.values, replace(part.grid, origin=(0.0, 0.0, 0.0)))
    return moved, Picks("real", found.positions - shift, np.full(len(found), OBJECT.name))


def simulated(shape, spacing: float, twin: Picks, args: argparse.Namespace, seed: int) -> tuple[Tomogram, Picks]:
    spec = SimulationSpec(shape, voxel_spacing=(spacing, spacing)).override([*SETTINGS, *args.settings])
    specimen, objects = with_densities(spec.specimen, (OBJECT,), (), args.templates)
    made = simulate(replace(spec, specimen=specimen), objects, run="twin", seed=seed, twin=twin)
    for warning in made.facts["warnings"]:
        print(warning)
    return made.tomograms["denoised"], made.picks


def draw(real: Measured, sims: list[Measured], spacing: float, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [("real, low y", real), *((f"simulated {i}", sim) for i, sim in enumerate(sims))][:4]
    figure, axes = plt.subplots(len(shown) + 1, 4, figsize=(22, 3.6 * (len(shown) + 1)))
    for row, (title, one) in zip(axes, shown):
        depth, height, _ = one.values.shape
        sections = one.values[depth // 3], one.values[2 * depth // 3], one.values[:, height // 2]
        for place, section in zip(row, [*sections, one.average[REACH]]):
            place.imshow(section, cmap="gray", vmin=-3.5, vmax=3.5)
            place.set_axis_off()
        row[0].set_title(f"{title}: xy, xy, xz, average at the picks", loc="left")
    middle = (FREQUENCIES[1:] + FREQUENCIES[:-1]) / 2
    for title, one in shown:
        axes[-1, 0].semilogy(middle, one.seen, label=title)
        axes[-1, 1].semilogy(middle, one.unseen)
        counts, edges = np.histogram(one.values, bins=80, range=(-6, 5), density=True)
        axes[-1, 2].semilogy((edges[1:] + edges[:-1]) / 2, np.maximum(counts, 1e-5))
        axes[-1, 3].plot(np.arange(len(one.profile)) * spacing, one.profile)
    names = "power outside the wedge, 1/Å", "power in the wedge, 1/Å", "grey values", "average by radius, Å"
    for place, name in zip(axes[-1], names):
        place.set_xlabel(name)
    axes[-1, 0].legend()
    figure.tight_layout()
    figure.savefig(out, dpi=60)
    plt.close(figure)


def compare(real: Measured, sims: list[Measured], spacing: float) -> dict[str, dict[str, float]]:
    """Prints and returns each number of the real side beside the simulations' mean and the curves' distances."""
    floor = 1e-3 * real.seen.max()
    rows = {}
    truth = real.numbers(spacing)
    made = [sim.numbers(spacing) for sim in sims]
    for name, value in truth.items():
        rows[name] = {"real": value, "simulated": float(np.mean([m[name] for m in made]))}
    for name in ("seen", "unseen"):
        curves = np.mean([getattr(sim, name) for sim in sims], axis=0)
        theirs = getattr(real, name)
        logs = np.log10(np.maximum(curves, floor) / np.maximum(theirs, floor))
        where = "in" if name == "unseen" else "outside"
        rows[f"power {where} the wedge, rms of log10"] = {"real": 0.0, "simulated": float(np.sqrt(np.mean(logs**2)))}
        rows[f"power {where} the wedge, part of all"] = {"real": float(theirs.sum()), "simulated": float(curves.sum())}
    quantiles = np.mean([sim.quantiles for sim in sims], axis=0)
    for q, theirs, ours in zip(QUANTILES, real.quantiles, quantiles):
        rows[f"grey value, quantile {q:g}"] = {"real": float(theirs), "simulated": float(ours)}
    profile = np.mean([sim.profile for sim in sims], axis=0)
    rows["average by radius, rms"] = {"real": 0.0, "simulated": float(np.sqrt(np.mean((profile - real.profile) ** 2)))}
    for name, row in rows.items():
        print(f"{name:38s} {row['real']:10.3f} {row['simulated']:10.3f}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=Path, required=True)
    parser.add_argument("--picks", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--templates", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("settings", nargs="*")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    tomogram, picks = real_half(args.volume, args.picks)
    spacing = tomogram.grid.voxel_spacing
    real = measure(tomogram, picks)
    print(f"real: {tomogram.values.shape}, {len(picks)} picks; {args.runs} twins")
    pairs = [simulated(tomogram.values.shape, spacing, picks, args, args.seed + i) for i in range(args.runs)]
    sims = [measure(*pair) for pair in pairs]
    rows = compare(real, sims, spacing)
    draw(real, sims, spacing, args.out / "realism.png")
    (args.out / "realism.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
