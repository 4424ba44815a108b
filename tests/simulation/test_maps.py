"""Densities from files: maps of any voxel size, atomic models, folders of templates, twins."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from real_data import real
from tomopick.core.errors import ReadError, SelectionError
from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.types import Grid, Picks
from tomopick.data import write_mrc, write_picks_csv
from tomopick.simulation import DensityFile, SpecimenSpec, twins, with_densities
from tomopick.simulation.atoms import read_atoms
from tomopick.simulation.maps import LABELLED, OTHERS, blurred, cleaned, templates
from tomopick.simulation.projects import simulate_project

ALANINE = (("N", -1.2, 0.5), ("CA", 0.0, 0.0), ("C", 1.2, 0.7), ("O", 1.3, 1.9), ("CB", 0.0, -1.5))


def lump(spacing, noise=0.0, radius=40.0, offset=(12.0, -7.0, 3.0)):
    """An even ellipsoid, off the middle of its map; smooth at 2 Å."""
    side = 2 * int(np.ceil(1.9 * radius / spacing)) + 1
    axes = (np.indices((side,) * 3) - side // 2) * spacing - np.array(offset)[:, None, None, None]
    inside = (axes[0] / 1.3) ** 2 + axes[1] ** 2 + (axes[2] / 0.8) ** 2 < radius**2
    values = gaussian_filter(inside.astype(float), 2.0 / spacing)
    return values + noise * np.random.default_rng(0).normal(size=values.shape)


def written(path, values, spacing):
    write_mrc(path, values, spacing)
    return path


def pdb(path, count=40, assembly=False, radius=12.0):
    """Alanines in a ball; with `assembly`, a second copy 60 Å along x."""
    rng = np.random.default_rng(0)
    lines = []
    if assembly:
        lines += ["REMARK 350 BIOMOLECULE: 1", "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A"]
        for copy, shift in ((1, 0.0), (2, 60.0)):
            for row in range(3):
                one = [1.0 if column == row else 0.0 for column in range(3)]
                lines.append(
                    f"REMARK 350   BIOMT{row + 1}   {copy} {one[0]:9.6f} {one[1]:9.6f} {one[2]:9.6f}"
                    f"     {shift if row == 0 else 0.0:10.5f}"
                )
    serial = 0
    for residue in range(count):
        middle = rng.normal(size=3)
        middle *= radius * rng.random() ** (1 / 3) / np.linalg.norm(middle)
        for name, x, y in ALANINE:
            serial += 1
            place = middle + np.array([x, y, 0.0])
            lines.append(
                f"ATOM  {serial:5d}  {name:<3s} ALA A{residue + 1:4d}    {place[0]:8.3f}{place[1]:8.3f}{place[2]:8.3f}"
                f"  1.00  0.00           {name[0]}"
            )
    path.write_text("\n".join([*lines, "END", ""]))
    return path


def boxed(density, spacing):
    grid = Grid((40, 40, 40), spacing)
    values = np.zeros(grid.shape)
    start, box = density.sample(np.eye(3), np.full(3, 20 * spacing), grid)
    values[tuple(slice(a, a + n) for a, n in zip(start, box.shape))] = box
    return values


def test_maps_of_any_voxel_size_make_the_same_density(tmp_path):
    made = []
    for spacing in (1.3, 2.7, 5.0):
        path = written(tmp_path / f"{spacing}.mrc", lump(spacing), spacing)
        density = DensityFile("lump", str(path), mass=100.0).load()
        made.append(boxed(density, 10.0))
        assert made[-1].sum() * 1e3 == pytest.approx(100 * 1212 * 2.5, rel=0.03)
        middle = (np.indices(made[-1].shape).reshape(3, -1) * made[-1].ravel()).sum(axis=1) / made[-1].sum()
        assert np.abs(middle - 20).max() < 0.03  # the position is the centre of mass, wherever it lay in the map
    assert np.abs(made[0] - made[1]).max() < 0.04 * made[0].max()
    assert np.abs(made[0] - made[2]).max() < 0.08 * made[0].max()


def test_nothing_is_aliased():
    """A lattice finer than the tomogram's voxels averages out; sampled as it is, it would beat with them."""
    z, y, x = np.indices((100, 100, 100))
    stripes = (1 + np.cos(2 * np.pi * x / 9.0)) * (np.hypot(np.hypot(z - 50, y - 50), x - 50) < 45)
    values, spacing = blurred(stripes, 1.0)
    inner = values[tuple(slice(n // 2 - 2, n // 2 + 3) for n in values.shape)]
    assert 2.5 < spacing <= 5 and inner.mean() == pytest.approx(1.0, rel=0.03) and inner.std() < 0.03


def test_noise_and_negative_rims_are_cleaned():
    clean, noisy = cleaned(lump(4.0), "a"), cleaned(lump(4.0, noise=0.02), "a")
    assert noisy.sum() == pytest.approx(clean.sum(), rel=0.05)
    tiny = lump(4.0)
    tiny[tiny <= 0] = -1e-15
    with pytest.raises(ReadError, match="a: values that are not finite"):
        cleaned(np.full((8, 8, 8), np.nan), "a")
    assert cleaned(tiny, "a").min() == 0 and cleaned(tiny, "a").sum() == pytest.approx(clean.sum(), rel=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((8, 8, 8)), "an empty map, 0 everywhere; expected positive density"),
        (-lump(5.0), "mostly negative, -1 to .*; expected positive density, so turn its sign around"),
    ],
)
def test_maps_without_density_are_refused(tmp_path, values, message):
    path = written(tmp_path / "m.mrc", values, 5.0)
    with pytest.raises(ReadError, match=f"m.mrc: .*{message}"):
        DensityFile("m", str(path)).load()


def test_a_map_needs_its_voxel_size(tmp_path):
    path = written(tmp_path / "m.mrc", lump(5.0), 1.0)
    with pytest.raises(ReadError, match=r"m.mrc: voxel size 1 x 1 x 1 Å .*`densities=m=.*m.mrc,voxel=Å`"):
        DensityFile("m", str(path)).load()
    assert DensityFile.parse(f"m={path},voxel=5").load().radius == pytest.approx(56, abs=12)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ReadError, match=r"x.txt: '.txt' is no kind of density; expected one of .ccp4 .cif"):
        DensityFile("x", str(tmp_path / "x.txt")).load()
    with pytest.raises(ReadError, match=r"x.mrc: there is no such file; expected the density of 'x'"):
        DensityFile("x", str(tmp_path / "x.mrc")).load()


def test_the_form_of_a_density():
    assert DensityFile.parse("a=b/c.mrc") == DensityFile("a", "b/c.mrc")
    full = DensityFile.parse("a=c.mrc,radius=70,mass=500,voxel=1.2")
    assert (full.radius, full.mass, full.voxel_spacing) == (70.0, 500.0, 1.2)
    for wrong in ("a", "=c.mrc", "a=", "my thing=c.mrc", "a=c.mrc,size=3"):
        with pytest.raises(SelectionError, match=r"expected NAME=FILE\[,radius=Å\]"):
            DensityFile.parse(wrong)
    for wrong, why in (
        ("radius=", "radius is ''; expected a number of Å above 0"),
        ("mass=-2", "mass is '-2'; expected a number of kDa above 0"),
        ("mas=2", "no 'mas=2'; did you mean 'mass'"),
    ):
        with pytest.raises(SelectionError, match=f"`densities=a=c.mrc,{wrong}`: .*{why}"):
            DensityFile.parse(f"a=c.mrc,{wrong}")
    with pytest.raises(SelectionError, match=r"`maps=c.mrc,size=3`: expected \[NAME=\]FILE\[,radius=Å\]"):
        DensityFile.parse("c.mrc,size=3", "maps")


def test_mass_and_radius_that_a_map_implies(tmp_path):
    path = written(tmp_path / "m.mrc", lump(3.0), 3.0)
    file = DensityFile("m", str(path))
    volume = 4 / 3 * np.pi * 40**3 * 1.3 * 0.8  # [Å^3]
    assert 0.4 < file.load().mass / (volume / 1212) < 0.9
    assert 40 < file.object(3).radius < 52 and file.object(3).label == 3
    assert DensityFile("m", str(path), mass=77.0).load().mass == 77.0
    assert DensityFile("apo-ferritin", str(path)).load().mass == pytest.approx(480.0)
    assert DensityFile("m", str(path), radius=33.0).object(1).radius == 33.0


def test_protein_scatters_as_protein_does(tmp_path):
    atoms = read_atoms(pdb(tmp_path / "a.pdb"))
    assert atoms.mass == pytest.approx(40 * 71.08e-3, rel=0.01)  # of an alanine in a chain [kDa]
    assert atoms.weights.sum() / (atoms.mass * 1212) == pytest.approx(2.5, rel=0.1)  # [V] above ice


def test_atoms_make_a_density(tmp_path):
    path = pdb(tmp_path / "a.pdb", count=400, radius=25.0)
    density = DensityFile("a", str(path)).load()
    values = boxed(density, 10.0)
    assert values.sum() * 1e3 == pytest.approx(read_atoms(path).weights.sum(), rel=0.03)
    assert 20 < density.reach_of(0.8) < 35


@pytest.mark.parametrize(
    ("written", "reason"), [("1,2 Q", "no subchain Q"), ("9 Q", "of none of its atoms")], ids=["chain", "operator"]
)
def test_an_assembly_that_cannot_be_built_is_one_line(tmp_path, written, reason):
    import gemmi

    model = gemmi.read_structure(str(pdb(tmp_path / "a.pdb", assembly=True))).make_mmcif_document()
    (tmp_path / "a.cif").write_text(model.as_string().replace("1 1,2 ?", f"1 {written}"))
    with pytest.raises(ReadError, match=rf"a\.cif: its biological assembly '1' cannot be built \({reason}\); mend"):
        read_atoms(tmp_path / "a.cif")


def test_the_biological_assembly_is_built(tmp_path):
    one, two = read_atoms(pdb(tmp_path / "a.pdb")), read_atoms(pdb(tmp_path / "b.pdb", assembly=True))
    assert two.mass == pytest.approx(2 * one.mass) and len(two.positions) == 2 * len(one.positions)
    assert np.ptp(two.positions[:, 2]) == pytest.approx(np.ptp(one.positions[:, 2]) + 60, abs=0.1)


@pytest.mark.parametrize("name", ["a.pdb", "a.cif"])
def test_files_without_atoms_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("this is\nno model\n")
    with pytest.raises(ReadError, match=rf"{name}: .*expected an atomic model"):
        read_atoms(path)


def test_templates_by_their_names(tmp_path):
    for stem in ("6pxm", "1bxn", "4v4r", "beta-amylase"):
        written(tmp_path / f"{stem}.mrc", lump(10.0), 10.0)
    labelled, others = templates(tmp_path, CZII_OBJECTS)
    assert {file.name for file in labelled} == {"apo-ferritin", "beta-amylase"}
    assert [(file.name, file.mass) for file in others] == [("1bxn", 280.0)]  # 4v4r is a ribosome: unknown, not used
    assert not set(LABELLED) & set(OTHERS)
    with pytest.raises(ReadError, match="no such folder"):
        templates(tmp_path / "nowhere", CZII_OBJECTS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match="no template in it; expected files such as 6pxm"):
        templates(tmp_path / "empty", CZII_OBJECTS)


def test_new_names_are_new_objects(tmp_path):
    path = written(tmp_path / "m.mrc", lump(5.0), 5.0)
    spec, objects = with_densities(SpecimenSpec(), CZII_OBJECTS, [f"mine={path}", f"ribosome={path},radius=99"])
    assert objects[-1].name == "mine" and objects[-1].label == 7 and 40 < objects[-1].radius < 52
    assert {thing.name: thing.radius for thing in objects}["ribosome"] == 99.0
    known = spec.known(objects, None)
    assert known["mine"].name == "mine" and known["ribosome"].radius < 80 < known["virus-like-particle"].radius
    with pytest.raises(SelectionError, match="`densities=mine`: given 2 times"):
        with_densities(SpecimenSpec(), CZII_OBJECTS, [f"mine={path}", f"mine={path}"])


def test_a_project_with_a_density_and_positions(tmp_path):
    """Particles of a new object at given positions, all the way into a project."""
    path = written(tmp_path / "m.mrc", lump(5.0), 5.0)
    places = np.array([[150, 150, 150], [150, 330, 320], [160, 150, 330]], dtype=float)
    (tmp_path / "given").mkdir()
    write_picks_csv(tmp_path / "given" / "TS1.csv", Picks("TS1", places, np.array(["mine"] * 3)))
    (tmp_path / "given" / "objects.json").write_text('[{"name": "mine", "radius": 50}]')
    settings = ["specimen.distractors=0", "specimen.gold=0", "microscope.magnification=1.05", "microscope.tilt_step=10"]
    names = simulate_project(
        tmp_path / "sim", (32, 48, 48), seed=5, tomo_types=("wbp",), preset="varied", settings=settings,
        densities=[f"mine={path}"], positions=tmp_path / "given",
    )  # fmt: skip
    assert names == ["TS1"]
    found = twins(tmp_path / "sim" / "copick.json")["TS1"]
    assert np.allclose(found.positions, places, atol=0.01) and set(found.names) == {"mine"}
    assert found.rotations is not None
    assert list(twins(tmp_path / "given", 3)) == ["TS1", "TS1-2", "TS1-3"]


def test_names_of_further_twins_are_those_of_no_run(tmp_path):
    for name in ("A", "A-2", "A-3"):
        write_picks_csv(tmp_path / f"{name}.csv", Picks(name, np.full((1, 3), len(name) * 10.0), np.array(["mine"])))
    (tmp_path / "objects.json").write_text('[{"name": "mine", "radius": 50}]')
    assert list(twins(tmp_path)) == ["A", "A-2", "A-3"]
    made = twins(tmp_path, 8)
    assert list(made) == ["A", "A-2", "A-3", "A-4", "A-2-2", "A-3-2", "A-5", "A-2-3"]
    assert [picks.run for picks in made.values()] == list(made)
    assert [picks.positions[0, 0] for picks in made.values()] == [10, 30, 30, 10, 30, 30, 10, 30]
    assert list(twins(tmp_path, 5)) == list(made)[:5]


def test_twins_need_picks(tmp_path):
    (tmp_path / "objects.json").write_text('[{"name": "mine", "radius": 50}]')
    write_mrc(tmp_path / "TS1.mrc", np.random.default_rng(0).normal(size=(8, 8, 8)), 10.0)
    with pytest.raises(SelectionError, match="no run has picks; expected the positions"):
        twins(tmp_path)


def test_the_czii_maps_are_as_large_as_their_objects():
    labelled, others = templates(real("templates_10A"), CZII_OBJECTS)
    assert len(labelled) == 5 and len(others) == 14
    radii = {thing.name: thing.radius for thing in CZII_OBJECTS}
    for file in labelled:
        assert 0.85 < file.load().reach_of(0.95) / radii[file.name] < 1.15
    for file in others:
        assert 1.5 < file.load().values.max() < 3.0  # [V]: a mass far off would show in the density


def crowd(rng, extent, share=0.06) -> Picks:
    """Particles of all kinds, none in another, until they fill a share of the specimen: as dense as real ones."""
    places, radii, names, filled = np.zeros((0, 3)), np.zeros(0), [], 0.0
    while filled < share * np.prod(extent):
        thing = CZII_OBJECTS[int(rng.integers(len(CZII_OBJECTS)))]
        at = rng.uniform(200, np.array(extent) - 200)
        if (np.linalg.norm(places - at, axis=1) > radii + thing.radius).all():
            places, radii = np.vstack([places, at]), np.append(radii, thing.radius)
            names.append(thing.name)
            filled += 4 / 3 * np.pi * thing.radius**3
    return Picks("TS", places, np.array(names))


@pytest.mark.parametrize("whose", ["ours", "real"])
def test_nearly_all_of_a_crowded_run_is_placed_in_its_twin(whose, tmp_path):
    shape = (120, 200, 200) if whose == "ours" else (184, 630, 630)
    grid, things = Grid(shape, 10.012444), list(CZII_OBJECTS)
    if whose == "ours":
        write_picks_csv(tmp_path / "TS.csv", crowd(np.random.default_rng(0), np.array(shape) * grid.voxel_spacing))
        objects = [{"name": o.name, "radius": o.radius} for o in CZII_OBJECTS]
        (tmp_path / "objects.json").write_text(json.dumps(objects))
        twin = twins(tmp_path)["TS"]
        assert len(twin) > 30 and len(set(twin.names)) == 6
    else:
        found = twins(real("czii/picks"))
        assert len(found) == 7 and sum(map(len, found.values())) == 1269
        twin = found["TS_69_2"]
    nothing = dict.fromkeys(("distractors", "background", "membranes", "gold", "frost", "barren"), (0.0, 0.0))
    spec = SpecimenSpec(**nothing)
    made = spec(grid, things, spec.known(things, None), np.random.default_rng(0), run=twin.run, twin=twin)
    assert len(made.picks(twin.run)) >= 0.97 * len(twin)
