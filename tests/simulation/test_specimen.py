"""The specimen: known answers for the bodies, and what placing promises."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from tomopick.core.errors import TomopickError
from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.types import Grid, PickableObject, Picks
from tomopick.simulation import BlobDensity, MapDensity, SpecimenSpec, density_of
from tomopick.simulation.bodies import distractor, symmetry
from tomopick.simulation.layer import Barren, Layer, layer_around, slab
from tomopick.simulation.specimen import Habits, Specimen
from tomopick.simulation.surroundings import (
    CARBON_CONTRAST,
    GOLD_CONTRAST,
    add_carbon,
    add_frost,
    add_gold,
    add_membrane,
)

GRID = Grid((64, 64, 64), 10.0)
OBJECTS = {thing.name: thing for thing in CZII_OBJECTS}
NOTHING = (0.0, 0.0)
BARE = SpecimenSpec(
    distractors=NOTHING, background=NOTHING, membranes=NOTHING, gold=NOTHING, frost=NOTHING, carbon=0.0, dominance=0.0,
    barren=NOTHING, crowding=(1, 1), contrast=(1, 1),
)  # fmt: skip


def centre_of_mass(start, box):
    return (np.indices(box.shape).reshape(3, -1) * box.ravel()).sum(axis=1) / box.sum() + start


def whole(density, rotation, spacing=4.0):
    """On one fixed grid around the centre."""
    side = 2 * int(np.ceil(1.2 * density.radius / spacing)) + 1
    values = np.zeros((side, side, side))
    grid = Grid(values.shape, spacing, ((1 - side) / 2 * spacing,) * 3)
    start, box = density.sample(rotation, np.zeros(3), grid)
    values[tuple(slice(a, a + n) for a, n in zip(start, box.shape))] = box
    return values


@pytest.mark.parametrize("name", OBJECTS)
def test_centre_of_mass_is_the_position(name):
    rng = np.random.default_rng(1)
    for _ in range(3):
        centre = rng.uniform(300, 330, 3)
        start, box = density_of(OBJECTS[name]).sample(Rotation.random(None, rng).as_matrix(), centre, GRID)
        assert np.abs(centre_of_mass(start, box) - GRID.indices(centre)).max() < 0.01


@pytest.mark.parametrize(
    ("name", "group"),
    [("apo-ferritin", "O"), ("virus-like-particle", "I"), ("beta-galactosidase", "D2"), ("thyroglobulin", "C2")],
)
def test_symmetry(name, group):
    density = density_of(OBJECTS[name])
    still = whole(density, np.eye(3))
    for operator in symmetry(group)[:6]:
        assert np.abs(whole(density, operator) - still).max() < 1e-3 * still.max()


def test_what_is_not_symmetric():
    quarter = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    ferritin, ribosome = density_of(OBJECTS["apo-ferritin"]), density_of(OBJECTS["ribosome"])
    assert np.abs(whole(ferritin, quarter) - whole(ferritin, np.eye(3))).max() < 1e-3 * whole(ferritin, quarter).max()
    assert np.abs(whole(ribosome, quarter) - whole(ribosome, np.eye(3))).max() > 0.3 * whole(ribosome, quarter).max()


def test_sizes_and_masses():
    bodies = {name: density_of(thing) for name, thing in OBJECTS.items()}
    total = {name: density.sample(np.eye(3), np.full(3, 315.0), GRID)[1].sum() for name, density in bodies.items()}
    assert total["beta-galactosidase"] / total["apo-ferritin"] == pytest.approx(465 / 480, rel=0.01)
    assert total["thyroglobulin"] / total["beta-amylase"] == pytest.approx(660 / 224, rel=0.01)
    assert 1.0 < total["ribosome"] / total["apo-ferritin"] / (3300 / 480) < 1.7  # RNA scatters more
    assert [round(bodies[n].radius / 15) for n in ("apo-ferritin", "ribosome")] == [4, 11]
    radius = np.linalg.norm(np.indices((31, 31, 31)) - 15, axis=0) * 10
    for name, inside in (("apo-ferritin", 20), ("virus-like-particle", 30)):
        values = np.zeros((31, 31, 31))
        start, box = bodies[name].sample(np.eye(3), np.zeros(3), Grid((31, 31, 31), 10.0, (-150.0,) * 3))
        start, box = np.maximum(start, 0), box[tuple(slice(max(0, -a), max(0, -a) + 31) for a in start)]
        values[tuple(slice(a, a + n) for a, n in zip(start, box.shape))] = box
        assert values[radius < inside].mean() < 0.1 * values.max()  # hollow


def test_rotation_acts_on_xyz_column_vectors():
    arms = np.array([[-10.0, 0, 0], [90.0, 0, 0]])  # a marker far out on +x of its own frame
    blobs = BlobDensity("arrow", arms, np.array([9e4, 1e4]), sigma=12.0)
    values = np.zeros((51, 51, 51))
    own = Grid(values.shape, 6.0, (-150.0,) * 3)
    start, box = blobs.sample(np.eye(3), np.zeros(3), own)
    values[tuple(slice(a, a + n) for a, n in zip(start, box.shape))] = box
    rotation = Rotation.from_euler("xyz", [20, 50, 110], degrees=True).as_matrix()
    for density in (blobs, MapDensity("arrow", values, 6.0, mass=33.0)):
        centre = np.array([317.0, 322.0, 311.0])
        start, box = density.sample(rotation, centre, GRID)
        marker = centre + (rotation @ [90.0, 0, 0])[::-1]
        distance = np.linalg.norm(np.moveaxis(np.indices(box.shape), 0, -1) + start - GRID.indices(marker), axis=-1)
        near = np.where(distance < 3.5, box, 0)
        assert np.abs(centre_of_mass(start, near) - GRID.indices(marker)).max() < 0.1
        assert np.abs(centre_of_mass(start, box) - GRID.indices(centre)).max() < 0.05


def test_a_map_weighs_its_mass_and_must_be_positive():
    values = np.exp(-0.5 * ((np.indices((13, 13, 13)) - 6.2) ** 2).sum(axis=0) / 1.8**2)
    values[0, 0, 0] = -5
    _, box = MapDensity("ball", values, 12.0, mass=100.0).sample(np.eye(3), np.full(3, 300.0), GRID)
    assert box.sum() * 1000 == pytest.approx(100 * 1212 * 2.5, rel=0.05)
    with pytest.raises(TomopickError, match="'flat' needs three axes and positive density"):
        MapDensity("flat", -np.abs(values), 12.0, mass=100.0)


def test_densities_of_other_objects():
    ball = density_of(PickableObject("my protein", 50.0))
    assert 38 < ball.radius < 60 and len(distractor(3).weights) > 20
    with pytest.raises(TomopickError, match="'thing' has no radius"):
        density_of(PickableObject("thing", None))


def flat_specimen(grid, thickness, seed=0):
    rng = np.random.default_rng(seed)
    return Specimen(grid, slab(thickness, 0.0, grid, rng), rng)


@pytest.mark.parametrize("clustering", [0.0, 1.0])
def test_particles_do_not_overlap_and_stay_in_the_ice(clustering):
    grid = Grid((48, 80, 80), 10.0)
    specimen, density = flat_specimen(grid, 300.0), density_of(OBJECTS["apo-ferritin"])
    placed = specimen.add(density, 60, Habits(clustering=clustering, adsorption=0.3))
    picks = specimen.picks("a")
    assert placed == len(picks) > 30
    wrapped = picks.positions + 5  # the border's outer face, where the period begins
    tree = cKDTree(wrapped, boxsize=[1e5, 800, 800])
    assert tree.query(wrapped, k=2)[0][:, 1].min() > 100  # diameter of the mask: about 120 Å
    assert np.ptp(picks.positions[:, 0]) < 300 - 90
    assert specimen.potential.max() < 3.5  # [V]: nothing was added twice
    mass = 480 * 1212 * 2.5
    assert specimen.potential.sum() * 1000 == pytest.approx(placed * mass, rel=0.01)


def test_more_particles_than_fit_are_told():
    specimen = flat_specimen(Grid((40, 48, 48), 10.0), 360.0)
    placed = specimen.add(density_of(OBJECTS["ribosome"]), 50, Habits())
    assert 0 < placed < 10
    thing = OBJECTS["ribosome"]
    spec = replace(BARE, copies=((thing.name, (5e4, 5e4)),), thickness=(400, 400), margin=0.0)
    grid = Grid((48, 64, 64), 10.0)
    made = spec(grid, [thing], {thing.name: density_of(thing)}, np.random.default_rng(0), run="R1")
    (line,) = made.warnings
    assert line.startswith(f"run R1: only {len(made.picks('R1'))} of ") and line.endswith(
        "ribosome fitted into the ice"
    )


def test_a_dominant_object_fills_a_thin_layer():
    spec = SpecimenSpec(dominance=1.0, dominant_fill=(0.15, 0.15))
    grid, thing = Grid((64, 128, 128), 10.0), OBJECTS["apo-ferritin"]
    specimen = spec(grid, [thing], {thing.name: density_of(thing)}, np.random.default_rng(0))
    assert len(specimen.picks("a")) > 30 and specimen.thickness < 4 * 130
    both = [OBJECTS[name] for name in ("apo-ferritin", "beta-amylase")]
    densities = {o.name: density_of(o) for o in both}
    for seed in range(6):
        chosen = replace(spec, dominant=("beta-amylase",))(grid, both, densities, np.random.default_rng(seed))
        assert (chosen.picks("a").names == "beta-amylase").mean() > 0.8


def only_one(grid, position, margin=0.0, **habits):
    """A specimen with one ball of 40 Å radius at `position`, in ice that fills the volume."""
    specimen = Specimen(grid, Layer(grid.voxel_spacing * (grid.shape[0] - 1) / 2, 1e4, (0.0, 0.0)),
                        np.random.default_rng(0), margin=margin)  # fmt: skip
    ball = density_of(PickableObject("ball", 40.0))
    assert specimen.place(ball, np.array([position]), None, Habits(**habits)) == 1
    return specimen, ball


def in_volume(specimen):
    rim = [(a - b) // 2 for a, b in zip(specimen.potential.shape, specimen.grid.shape)]
    return specimen.potential[tuple(slice(r, r + n) for r, n in zip(rim, specimen.grid.shape))]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_border_cuts_particles(axis):
    grid = Grid((32, 40, 48), 10.0)
    for inside, place in ((True, -4.0), (False, -6.0)):  # the volume's face is half a voxel below its first centre
        position = np.array([150.0, 200.0, 240.0])
        position[axis] = place
        specimen, ball = only_one(grid, position, margin=100.0)
        whole = ball.mass * 1212 * 2.5
        assert specimen.potential.sum() * 1e3 == pytest.approx(whole, rel=0.02)
        assert in_volume(specimen).sum() * 1e3 == pytest.approx(0.5 * whole, rel=0.15)  # nothing comes in opposite
        assert len(specimen.picks("a")) == inside


def test_the_specimen_repeats_beyond_its_margin():
    grid = Grid((24, 40, 40), 10.0)
    specimen, _ = only_one(grid, np.array([120.0, -105.0, 200.0]), margin=100.0)  # on the border: 10 voxels and a half
    assert specimen.margin == (10, 10) and specimen.field.shape[1:] == (60, 60)
    assert specimen.potential[:, 55:].sum() == pytest.approx(specimen.potential.sum() / 2, rel=0.2)
    assert in_volume(specimen).sum() == 0


def test_the_surface_of_the_ice_cuts_particles():
    grid = Grid((60, 60, 60), 10.0)
    layer = slab(200.0, 0.0, grid, np.random.default_rng(0))
    ball, habits = density_of(PickableObject("ball", 60.0)), Habits(adsorption=1.0, protrusion=0.8)
    specimen = Specimen(grid, layer, np.random.default_rng(1))
    placed = specimen.add(ball, 12, habits)
    low, high = specimen.surfaces(np.zeros((1, 2)))
    planes = specimen.potential.sum(axis=(1, 2))
    z = np.arange(60)
    assert placed > 3 and planes[(z < low - 0.5) | (z > high + 0.5)].sum() == 0
    assert planes.sum() * 1e3 < 0.97 * placed * ball.mass * 1212 * 2.5
    depth = specimen.picks("a").positions[:, 0] / 10
    assert (depth > low).all() and (depth < high).all()


def test_layers_lean_and_taper():
    grid = Grid((100, 200, 200), 10.0)
    layer = slab(500.0, 0.0, grid, np.random.default_rng(3), slope=5.0, wedge=0.4)
    y, x = np.meshgrid(np.linspace(0, 1990, 9), np.linspace(0, 1990, 9), indexing="ij")
    places = np.column_stack([y.ravel(), x.ravel()])
    low, high = layer(places)
    design = np.column_stack([np.ones(81), places])
    rise = np.linalg.lstsq(design, (low + high) / 2, rcond=None)[0][1:]
    growth = np.linalg.lstsq(design, high - low, rcond=None)[0][1:]
    assert np.degrees(np.arctan(np.hypot(*rise))) == pytest.approx(5.0)
    assert np.hypot(*growth) * 2000 == pytest.approx(0.4 * 500)
    assert layer(np.array([[995.0, 995.0]]))[1] - layer(np.array([[995.0, 995.0]]))[0] == pytest.approx(500.0)


def test_ice_that_leaves_the_volume_goes_on():
    grid = Grid((40, 64, 64), 10.0)
    rng = np.random.default_rng(0)
    leaning = Specimen(grid, slab(300.0, 0.0, grid, rng, slope=20.0), rng, margin=100.0)
    level = Specimen(grid, slab(300.0, 0.0, grid, rng), rng, margin=100.0)
    assert leaning.field.shape == (60, 84, 84) and level.field.shape == (40, 84, 84)
    assert np.allclose(leaning.grid.positions(np.zeros(3)), leaning.field.positions(np.full(3, 10.0)))


def test_barren_regions_stay_empty():
    grid = Grid((32, 160, 160), 10.0)
    rng = np.random.default_rng(0)
    barren = Barren(0.4, 600.0, grid, rng)
    everywhere = np.stack(np.meshgrid(np.arange(160), np.arange(160), indexing="ij"), axis=-1).reshape(-1, 2) * 10.0
    assert 0.25 < barren(everywhere).mean() < 0.55
    specimen = Specimen(grid, slab(300.0, 0.0, grid, rng), rng, barren=barren)
    specimen.add(density_of(OBJECTS["apo-ferritin"]), 60, Habits())
    picks = specimen.picks("a")
    assert len(picks) > 30 and not barren(picks.positions[:, 1:]).any()
    assert not Barren(0.0, 600.0, grid, rng)(everywhere).any()


def test_a_thousand_particles_do_not_overlap():
    grid, thing = Grid((80, 256, 256), 10.0), OBJECTS["apo-ferritin"]
    specimen = flat_specimen(grid, 750.0)
    assert specimen.add(density_of(thing), 1000, Habits(clustering=0.3)) == 1000
    distances = cKDTree(specimen.picks("a").positions).query(specimen.picks("a").positions, k=2)[0][:, 1]
    assert distances.min() > 100 and specimen.potential.max() < 3.5


def twin_of(positions, name="apo-ferritin", rotations=None):
    return Picks("R1", np.array(positions, dtype=float), np.array([name] * len(positions)), rotations=rotations)


def run_twin(twin, spec=BARE, shape=(40, 64, 64)):
    things = [OBJECTS["apo-ferritin"], OBJECTS["beta-amylase"]]
    known = {thing.name: density_of(thing) for thing in things}
    return spec(Grid(shape, 10.0), things, known, np.random.default_rng(0), run="R1", twin=twin)


def test_a_twin_has_its_particles_where_the_picks_are():
    rng = np.random.default_rng(0)
    places = np.array([[200, y, x] for y in (100, 250, 400, 550) for x in (100, 250, 400, 550)]) + rng.uniform(-9, 9, 3)
    turns = Rotation.random(16, rng).as_matrix()
    busy = replace(BARE, gold=(60, 60), membranes=(60, 60), background=(3, 3), distractors=(500, 500))
    specimen = run_twin(twin_of(places, rotations=turns), busy)
    picks = specimen.picks("R1")
    assert np.allclose(picks.positions, places) and np.allclose(picks.rotations, turns) and not specimen.warnings
    assert specimen.thickness < 150


def test_a_twin_leaves_out_what_lies_within_another():
    specimen = run_twin(twin_of([[200, 200, 200], [200, 215, 200], [200, 450, 450]]))
    assert len(specimen.picks("R1")) == 2
    assert specimen.warnings == ["run R1: only 2 of 3 apo-ferritin had room; the others lie within another"]


def test_a_twins_positions_must_be_possible():
    with pytest.raises(TomopickError, match=r"run R1: 1 of 2 positions lie outside .* 200, 900, 200 Å .* make `shape`"):
        run_twin(twin_of([[200, 900, 200], [200, 200, 200]]))
    with pytest.raises(TomopickError, match=r"run R1: picks of 'nucleosome'.*`densities=nucleosome=FILE`"):
        run_twin(twin_of([[200, 200, 200]], "nucleosome"))


def test_the_layer_around_picks_holds_them():
    rng = np.random.default_rng(0)
    yx = rng.uniform(0, 2000, (200, 2))
    z = 500 + 0.08 * (yx[:, 0] - 1000) + rng.uniform(-100, 100, 200)
    layer = layer_around(twin_of(np.column_stack([z, yx])), np.full(200, 60.0), Grid((100, 200, 200), 10.0))
    low, high = layer(yx)
    assert (z - low).min() > 59 and (high - z).min() > 59
    assert layer.slope == pytest.approx((0.08, 0.0), abs=0.01) and layer.thickness == pytest.approx(320, abs=20)


def test_gold_and_frost_and_carbon_have_their_potential():
    grid = Grid((60, 96, 96), 10.0)
    specimen = flat_specimen(grid, 200.0)
    add_gold(specimen, 50.0)
    volume = (specimen.potential / GOLD_CONTRAST).sum() * 1e3
    assert volume == pytest.approx(4 / 3 * np.pi * 50**3, rel=0.05)
    specimen = flat_specimen(grid, 200.0)
    add_frost(specimen, 100.0)
    low, high = specimen.surfaces(np.zeros((1, 2)))
    inner = np.abs(np.arange(60) - (low + high)[0] / 2) < (high - low)[0] / 2 - 1
    assert specimen.potential[inner].max() == 0 and specimen.potential.max() == pytest.approx(4.53, rel=1e-3)
    specimen = flat_specimen(grid, 400.0)
    add_carbon(specimen, 0.3, 120.0)
    film = specimen.potential > 0.5 * CARBON_CONTRAST
    assert 0.1 < film.any(axis=0).mean() < 0.5 and np.median(film.sum(axis=0)[film.any(axis=0)]) == 12
    assert specimen.potential[film].mean() == pytest.approx(CARBON_CONTRAST, rel=0.1)


def test_nothing_lies_in_gold_membranes_or_carbon():
    specimen = flat_specimen(Grid((60, 96, 96), 10.0), 400.0)
    add_carbon(specimen, 0.2, 120.0)
    for _ in range(3):
        add_gold(specimen, 60.0)
        add_membrane(specimen)
    before = specimen.potential.copy()
    specimen.add(density_of(OBJECTS["apo-ferritin"]), 40, Habits())
    added = specimen.potential - before
    assert len(specimen.picks("a")) > 10
    assert added[before > 1.0].max() < 0.9  # rims may touch; see the extent's threshold


def test_settings_are_checked():
    with pytest.raises(TomopickError, match=r"specimen.protrusion is 0,2; expected low,high within 0..0.9"):
        SpecimenSpec(protrusion=(0.0, 2.0))
    with pytest.raises(TomopickError, match=r"specimen.carbon is nan; expected a number within 0..1"):
        SpecimenSpec(carbon=float("nan"))
