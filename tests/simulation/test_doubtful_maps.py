"""Densities that are not what they seem: on a background, in noise, flat, cut off, huge, with places that are none."""

import gzip

import numpy as np
import pytest

from tomopick.core.errors import ReadError, SelectionError, TomopickError
from tomopick.data import write_mrc
from tomopick.simulation import DensityFile
from tomopick.simulation.atoms import read_atoms
from tomopick.simulation.maps import cleaned
from tomopick.simulation.projects import simulate_project

AXES = np.mgrid[-24:24, -24:24, -24:24] * 5.0
AWAY = np.sqrt((AXES**2).sum(axis=0))
SHELL = ((AWAY < 55) & (AWAY > 25)).astype(np.float32)
NOISE = np.random.default_rng(0).normal(size=SHELL.shape).astype(np.float32)
COLUMNS = ("group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id",
           "label_entity_id", "label_seq_id", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy")  # fmt: skip


def density(place, values=SHELL, spacing=5.0, name="m.mrc"):
    write_mrc(place / name, values, spacing)
    return DensityFile("m", str(place / name))


@pytest.mark.parametrize(
    ("contrast", "background", "noise"),
    [(1, 1.0, 0.0), (1, -0.3, 0.0), (1e-3, 40.0, 0.0), (3, 0.0, 0.3), (3, 2.0, 0.3), (3, -1.0, 0.5)],
)
def test_what_is_all_around_a_density_is_not_of_it(contrast, background, noise, tmp_path, caplog):
    with caplog.at_level("INFO", "tomopick"):
        plain = density(tmp_path, name="plain.mrc")
        shifted = density(tmp_path, contrast * SHELL + background + noise * NOISE)
        assert shifted.load().mass == pytest.approx(plain.load().mass, rel=0.05)
        assert shifted.object(1).radius == pytest.approx(59, abs=2)
    assert ("m.mrc: " in caplog.text and "all around its density, which is subtracted" in caplog.text) == (
        background != 0
    )
    assert "plain.mrc" not in caplog.text


def test_a_density_that_its_noise_hides_is_refused(tmp_path):
    with pytest.raises(ReadError, match=r"m\.mrc: noise of 0\.98. around a density of 6\.\d+ at most; .*low-pass it"):
        density(tmp_path, 3 * SHELL + NOISE).load()


def test_a_density_that_fills_its_box_is_refused(tmp_path):
    with pytest.raises(ReadError, match=r"m\.mrc: density on .. % of the border of its box; .*mask it or give it a la"):
        density(tmp_path, np.where(AXES[1] < -30, 1, SHELL)).load()
    rod = (np.hypot(AXES[1], AXES[2]) < 40).astype(np.float32)  # of a filament, cut off
    assert cleaned(rod, "a").shape == (48, 17, 17)


@pytest.mark.parametrize(("shape", "size"), [((1, 48, 40), "48x40"), ((48, 1, 40), "48x40")])
def test_an_image_is_no_density(shape, size, tmp_path):
    values = np.ones(shape, np.float32)
    values[0, 0, 0] = 2
    with pytest.raises(ReadError, match=rf"m\.mrc: one section of {size} voxels; expected a density map"):
        density(tmp_path, values).load()


def pdb(place, places):
    rows = (
        f"ATOM  {i + 1:5d}  CA  ALA A{i + 1:4d}    {''.join(f'{c:>8}' for c in at)}  1.00 20.00           C"
        for i, at in enumerate(places)
    )
    place.write_text("\n".join([*rows, "END", ""]))
    return place


def cif(place, places, without=()):
    kept = [c for c in COLUMNS if c not in without]
    rows = []
    for i, (x, y, z) in enumerate(places):
        row = dict(zip(COLUMNS, ("ATOM", i + 1, "C", "CA", ".", "ALA", "A", 1, i + 1, x, y, z, "1.0")))
        rows.append(" ".join(str(row[c]) for c in kept))
    place.write_text("\n".join(["data_x", "loop_", *(f"_atom_site.{c}" for c in kept), *rows, ""]))
    return place


NEAR = [(f"{x:.3f}", f"{y:.3f}", f"{z:.3f}") for x, y, z in NOISE.ravel()[:90].reshape(-1, 3) * 20]


@pytest.mark.parametrize("astray", [("9000.000",) * 3, ("9000.000", "1.0", "1.0")])
@pytest.mark.parametrize("kind", [pdb, cif])
def test_an_atom_astray_is_told_before_room_is_made(kind, astray, tmp_path):
    path = kind(tmp_path / f"a.{kind.__name__}", [*NEAR, astray])
    with pytest.raises(ReadError, match=rf"{path.name}: its atoms extend over [89],.* Å.*2,000 Å at most: check"):
        DensityFile("a", str(path)).load()


def test_a_density_larger_than_any_particle_is_refused(tmp_path):
    with pytest.raises(ReadError, match=r"m\.mrc: its density extends over 2.,000 x .*2,000 Å at most: check"):
        density(tmp_path, spacing=1000.0).load()


def test_a_density_larger_than_the_volume_is_refused(tmp_path):
    file = density(tmp_path, spacing=40.0)
    with pytest.raises(TomopickError, match=r"'m' is .* Å across and does not fit into"):
        simulate_project(tmp_path / "sim", (48, 64, 64), densities=[f"m={file.path}"])
    assert not (tmp_path / "sim").exists()


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [(pdb, "xx.xxx", "line 31: its place is 'xx.xxx 1.000 2.000'"), (pdb, "nan", "line 31: its place is 'nan 1.000"),
     (pdb, "", "line 31: its place is '1.000 2.000'"), (cif, "abc", "atom 31: its place is 'nan, 1, 2'")],
)  # fmt: skip
def test_a_place_that_is_no_number_is_told(kind, wrong, said, tmp_path):
    path = kind(tmp_path / f"a.{kind.__name__}", [*NEAR, (wrong, "1.000", "2.000")])
    with pytest.raises(ReadError, match=rf"{path.name}: {said}.*; expected three numbers \[Å\]"):
        read_atoms(path)
    assert len(read_atoms(kind(path, NEAR)).positions) == 30


def test_a_place_that_is_no_number_is_told_of_a_packed_file(tmp_path):
    plain = pdb(tmp_path / "a.pdb", [*NEAR, ("xx.xxx", "1.000", "2.000")])
    with gzip.open(tmp_path / "a.pdb.gz", "wb") as file:
        file.write(plain.read_bytes())
    with pytest.raises(ReadError, match=r"a\.pdb\.gz: line 31"):
        read_atoms(tmp_path / "a.pdb.gz")


def test_columns_that_a_cif_lacks_are_named(tmp_path):
    path = cif(tmp_path / "a.cif", NEAR, without=("label_alt_id", "Cartn_z"))
    with pytest.raises(ReadError, match=r"a\.cif: no atoms, .* lack _atom_site.label_alt_id.*_atom_site.Cartn_z; exp"):
        read_atoms(path)


def test_a_figure_is_given_once():
    with pytest.raises(SelectionError, match=r"`maps=a.mrc,radius=60,radius=70`: radius is given twice"):
        DensityFile.parse("a.mrc,radius=60,radius=70", "maps")


def test_a_voxel_size_is_asked_for_by_the_field_that_was_given(tmp_path):
    file = density(tmp_path, spacing=1.0)
    for field in ("maps", "densities"):
        with pytest.raises(ReadError, match=rf"`{field}=m=.*m\.mrc,voxel=Å`"):
            DensityFile.parse(f"m={file.path}", field).load(field)
