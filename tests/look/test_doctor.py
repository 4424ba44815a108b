"""The doctor finds planted mistakes, and finds nothing wrong with what is right."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from real_data import real
from small import untrained
from tomopick.core.errors import SelectionError
from tomopick.core.types import Grid, PickableObject, Picks, Tomogram
from tomopick.data import FolderProject, MemoryProject, read_picks_csv, read_volume, write_mrc, write_picks_csv
from tomopick.data.runs import Runs
from tomopick.look.centring import displacement
from tomopick.look.doctor import Checkup, cheap_findings, findings, has_errors, report, star_findings
from tomopick.picking.folder import TrainingFacts
from tomopick.picking.normalize import RobustNormalization
from tomopick.picking.peaks import LocalMaxima

RIBOSOME = PickableObject("ribosome", 60.0, 1)
SHAPE = (48, 96, 96)


def blobs(run: str = "a", sign: float = -1.0, n: int = 40, seed: int = 0, spacing: float = 10.0):
    """A noisy volume with particles of 60 Å, and their true positions."""
    rng = np.random.default_rng(seed)
    grid = Grid(SHAPE, spacing)
    values = rng.normal(size=SHAPE)
    axes = np.meshgrid(*(np.arange(s) for s in SHAPE), indexing="ij")
    centres: list[np.ndarray] = []
    while len(centres) < n:
        c = rng.uniform(14, np.array(SHAPE) - 15)
        if all(np.linalg.norm(c - o) > (13 if len(centres) <= 25 else 8) for o in centres):
            centres.append(c)
    for c in centres:
        square = sum((a - b) ** 2 for a, b in zip(axes, c))
        values += sign * 4 * np.exp(-square / (2 * 3.0**2))
    positions = grid.positions(np.array(centres))
    return Tomogram(run, values.astype(np.float32), grid, "denoised"), Picks(run, positions, np.full(n, "ribosome"))


@pytest.fixture(scope="module")
def good():
    return blobs()


def project_of(tomogram: Tomogram, picks: Picks | None, objects=(RIBOSOME,)) -> MemoryProject:
    project = MemoryProject(objects)
    project.add(tomogram, picks)
    return project


def texts(found, level=None):
    return [f"{f.where}: {f.text}; {f.fix}" for f in found if level is None or f.level == level]


def one(found, level, *parts):
    """The one finding of this level that has all parts in it."""
    fit = [t for t in texts(found, level) if all(p in t for p in parts)]
    assert len(fit) == 1, (fit, texts(found))
    return fit[0]


def test_nothing_wrong(good):
    found = findings(project_of(*good))
    assert not [f for f in found if f.level != "ok"], texts(found)
    one(found, "ok", "objects: ribosome (60 Å)")
    one(found, "ok", "voxel size 10 Å; 96 x 96 x 48 voxels (x, y, z)")
    one(found, "ok", "picks in 1 of 1 run: 40 ribosome")
    one(found, "ok", "sit in the middle")
    assert report(found).endswith("0 errors, 0 warnings") and report(found).startswith("✓ ")
    json.dumps([f.to_json() for f in found])


@pytest.mark.parametrize("shift", [(0.5, 0.5, 0.5), (0.0, -1.0, 0.0)])
def test_offset_is_measured(good, shift):
    """Picks made with another idea of where a voxel is centred; the option named takes it out."""
    tomogram, picks = good
    off = picks.shifted(-10.0 * np.array(shift))
    found = displacement(tomogram.values, tomogram.grid, off.positions, 60.0)
    np.testing.assert_allclose(found.voxels, shift, atol=0.2)
    text = one(findings(project_of(tomogram, off)), "warning", "from their 40 picks")
    assert f"`coordinate_offset={','.join(f'{v:g}' for v in shift)}` " in text


def test_offset_needs_picks(good):
    tomogram, picks = good
    assert displacement(tomogram.values, tomogram.grid, picks.positions[:5], 60.0) is None


def test_offset_of_a_real_tomogram():
    """Picks of a real tomogram sit in the middle; moved by half a voxel they are found out."""
    place = real("apoferritin")
    values, grid = read_volume(place / "apoferritin_A.mrc")
    picks = read_picks_csv(place / "apoferritin_A_picks.csv")[""]
    values = RobustNormalization()(Tomogram("a", values, grid))
    for shift in ((0.0, 0.0, 0.0), (0.5, -0.5, 0.5)):
        moved = picks.shifted(-grid.voxel_spacing * np.array(shift))
        found = displacement(values, grid, moved.positions, 60.0)
        # The missing wedge smears along z, which holds the peak back there.
        np.testing.assert_allclose(found.voxels, shift, atol=0.2)
        assert found.significant == any(shift)


def test_inverted():
    tomogram, picks = blobs(sign=+1.0)
    one(findings(project_of(tomogram, picks)), "warning", "lighter than what is around them", "`invert=")
    one(findings(project_of(tomogram, None)), "warning", "looks inverted")


def test_inverted_runs_are_named_whichever_they_are(tmp_path):
    """Of few runs all voxels are read; of the others those around picks."""
    for i in range(6):
        tomogram, picks = blobs(f"r{i}", sign=1.0 if i in (3, 5) else -1.0, seed=i)
        write_mrc(tmp_path / f"r{i}.mrc", tomogram.values, tomogram.grid)
        write_picks_csv(tmp_path / f"r{i}.csv", picks)
    found = findings(FolderProject(tmp_path, objects=["ribosome:60"]))
    one(found, "warning", "runs r3, r5 have particles lighter than what is around them", "`invert=r3,r5`")


def test_picks_outside_and_in_voxels(good):
    tomogram, picks = good
    far = picks.shifted((0, 900.0, 0))
    found = cheap_findings(project_of(tomogram, far))
    one(found, "error", "picks lie outside the 960 x 960 x 480 Å (x, y, z)")
    assert has_errors(found)
    small = blobs(spacing=0.5)
    voxels = Picks("a", small[0].grid.indices(small[1].positions), small[1].names)
    one(cheap_findings(project_of(small[0], voxels)), "error", "seem to be in voxels")


def test_picks_in_voxels_are_not_asked_about_where_they_are_labelled(good, monkeypatch):
    tomogram, picks = good
    asked = "labelled only there?"
    voxels = Picks("a", tomogram.grid.indices(picks.positions), picks.names)
    found = findings(project_of(tomogram, voxels))
    one(found, "error", "are they in voxels? expected Å")
    assert not any(asked in text for text in texts(found))
    part = picks.select(picks.positions[:, 1] < 480)
    one(findings(project_of(tomogram, part)), "warning", asked)


def test_duplicates_few_and_small(good):
    tomogram, picks = good
    twice = Picks("a", np.concatenate([picks.positions[:6], picks.positions[:6] + 1]), np.full(12, "ribosome"))
    objects = (RIBOSOME, PickableObject("speck", 12.0, 2), PickableObject("unknown", None, 3))
    found = cheap_findings(project_of(tomogram, twice, objects))
    one(found, "warning", "6 pairs of ribosome lie within 15 Å")
    one(found, "warning", "ribosome: only 12 picks")
    one(found, "warning", "speck: only 0 picks")
    learned = cheap_findings(project_of(tomogram, twice, objects), Checkup(only=("ribosome",)))
    assert not any("speck: only" in f.line() for f in learned)  # who learns ribosomes has no need of specks
    one(found, "warning", "unknown: has no radius", "`objects=unknown:RADIUS`")
    one(found, "warning", "speck: radius 12 Å", "in Å")
    one(found, "warning", "speck: radius 12 Å is 1.2 voxels")


def test_types_and_spacings(good):
    project = project_of(*good)
    other = Tomogram("b", good[0].values, Grid(SHAPE, 13.0), "denoise")
    project.write_tomogram(other)
    project.write_picks(Picks.empty("c"), "truth", "0")
    found = cheap_findings(project)
    one(found, "warning", "'denoise' and 'denoised' look alike")
    one(found, "warning", "no 'denoised' tomogram in b")
    one(found, "warning", "no tomogram in 1 run: c")
    one(found, "warning", "voxel sizes differ: 10 to 13 Å")
    one(cheap_findings(Runs(project, ["b"], "wbp")), "error", "no tomogram type 'wbp'")
    with pytest.raises(SelectionError, match="no run 'x'"):
        cheap_findings(Runs(project, ["x"]))


def test_axes_and_header(tmp_path):
    write_mrc(tmp_path / "thick.mrc", np.random.default_rng(0).normal(size=(90, 40, 60)).astype(np.float32), 50.0)
    found = findings(FolderProject(tmp_path))
    one(found, "warning", "thickest along z")
    one(found, "warning", "voxel size 50 Å", "`voxel_spacing`")
    one(found, "warning", "no objects", "`objects=NAME:RADIUS`")
    one(found, "ok", "data types: float32 (1 file)")
    import mrcfile

    with mrcfile.open(tmp_path / "thick.mrc", "r+") as mrc:
        mrc.header.origin = (100.0, 0.0, 0.0)
    one(cheap_findings(FolderProject(tmp_path)), "ok", "origin other than 0", "thick.mrc")
    write_mrc(tmp_path / "unset.mrc", np.random.default_rng(0).normal(size=(20, 40, 60)).astype(np.float32), 1.0)
    assert "`voxel_spacing`" in one(findings(FolderProject(tmp_path)), "error", "run unset", "not set")


def test_several_sets_of_picks_are_said_once(good):
    tomogram, picks = good
    project = project_of(tomogram, picks)
    project.add(Tomogram("b", tomogram.values, tomogram.grid, "denoised"), Picks("b", picks.positions, picks.names))
    for run in "ab":
        project.write_picks(Picks(run, picks.positions, picks.names), "other", "0")
    one(cheap_findings(project), "warning", "say which with `picks`", "(and in 1 other run)")
    assert len(texts(cheap_findings(Runs(project, picks="*:other/0")), "warning")) == 0
    project.write_picks(Picks("a", picks.positions, picks.names), "mine", "0")
    one(cheap_findings(Runs(project, picks="*:mine/0")), "ok", "no picks '*:mine/0' in 1 run")
    one(cheap_findings(Runs(project, picks="*:nobody/0")), "error", "no picks '*:nobody/0'")


class FakeDetector:
    """What the doctor asks of a detector."""

    objects = (PickableObject("apo-ferritin", 60.0), PickableObject("ribosome", 150.0))
    facts = TrainingFacts(10.0, ("denoised",))
    peaks = LocalMaxima()
    method, network = untrained(objects).method, untrained(objects).network

    @property
    def detectors(self):
        return [self]

    def prepare(self, tomogram):
        return tomogram.values, tomogram.grid

    def findings(self, tomogram, values):
        return ["the power spectrum is unlike"]

    def predictor(self):
        from tomopick.picking.tiling import TilingSpec

        return SimpleNamespace(
            tiling=TilingSpec(shape=(32, 32, 32)), multiple=8, tile=lambda values: values, views=(0,)
        )


def test_model(good):
    tomogram, picks = good
    objects = (RIBOSOME, PickableObject("ferritin-complex", 60.0, 2), PickableObject("proteasome", 60.0, 3))
    raw = Tomogram("a", tomogram.values, tomogram.grid, "wbp")
    found = findings(project_of(raw, picks, objects), Checkup(), FakeDetector())
    one(found, "warning", "ferritin-complex: is called 'apo-ferritin' by the model")
    one(found, "warning", "proteasome is not known to the model and will not be picked")
    one(found, "warning", "types wbp are none the model learned from (denoised)")
    one(found, "warning", "the power spectrum is unlike")
    one(found, "ok", "GiB of memory")
    alone = cheap_findings(project_of(raw, None, ()), Checkup(), FakeDetector())
    assert not any("no objects" in f.line() for f in alone)  # the model brings its own
    one(found, "ok", "picking takes about 1 s here")
    alias = Tomogram("a", tomogram.values, tomogram.grid, "wbp-denoised-denoiset-ctfdeconv")
    assert not [t for t in texts(cheap_findings(project_of(alias, picks), Checkup(), FakeDetector())) if "learned" in t]


def test_star_files(tmp_path):
    import pandas as pd
    import starfile

    rows = {"rlnTomoName": ["a", "b"], **{f"rlnCoordinate{x}": [1.0, 2.0] for x in "XYZ"}}
    path = tmp_path / "p.star"
    starfile.write({"particles": pd.DataFrame(rows)}, path)
    one(star_findings(path), "ok", "2 particles of 2 tomograms: a, b")
    one(star_findings(path), "warning", "`pixel_size`")
    path.write_text("nothing")
    assert has_errors(star_findings(path))


def test_a_table_that_belongs_to_no_tomogram_is_named(tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 40, 60)).astype(np.float32)
    write_mrc(tmp_path / "TS_01.mrc", values, 10.0)
    (tmp_path / "TS_1.csv").write_text("object,x,y,z\nribosome,100,100,100\n")
    one(cheap_findings(FolderProject(tmp_path)), "warning", "TS_1.csv belongs to no tomogram", "did you mean 'TS_01'?")
