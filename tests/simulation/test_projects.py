"""Whole projects of simulated runs: what lies where, what is told, and what cannot be."""

import json
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from tomopick import open_project
from tomopick.core.errors import OutputError, SelectionError, TomopickError
from tomopick.data import write_mrc
from tomopick.look.simulated import draw_simulated
from tomopick.simulation import projects as simulation
from tomopick.simulation.projects import simulate_project, spec_of

SHAPE = (48, 96, 96)


def test_a_project_holds_types_halves_facts_and_pictures(tmp_path):
    settings = ["microscope.defocus=33000", "specimen.distractors=0"]
    names = simulate_project(
        tmp_path / "sim",
        SHAPE,
        tomo_types=("wbp", "isonetcorrected"),
        halves=True,
        vary=0.5,
        settings=settings,
        seed=7,
        draw=draw_simulated,
    )
    project = open_project(tmp_path / "sim")
    assert names == project.runs() == ["SIM_000"]
    kinds = ("wbp", "isonetcorrected", "wbp-even", "wbp-odd")
    volumes = {kind: project.tomogram("SIM_000", kind).values for kind in kinds}
    assert all(values.shape == SHAPE and values.std() > 0 for values in volumes.values())
    assert np.corrcoef((volumes["wbp-even"] + volumes["wbp-odd"]).ravel(), volumes["wbp"].ravel())[0, 1] > 0.9
    record = json.loads((tmp_path / "sim" / "simulation.json").read_text())
    assert (record["tilt_axis"], record["seed"], record["vary"], record["settings"]) == ("y", 7, 0.5, settings)
    assert record["spec"]["microscope"]["defocus"] == [33000, 33000]
    assert record["spec"]["microscope"]["dose"] == [115, 125]
    facts = json.loads((tmp_path / "sim" / "runs" / "SIM_000.json").read_text())
    assert facts["tilt_axis"] == "y" and facts["defocus"] == 33000 and 115 <= facts["dose"] <= 125
    assert facts["thickness"] > 300 and facts["tilts_in_order"][0] == 0
    with Image.open(tmp_path / "sim" / "pictures" / "SIM_000.png") as picture:
        assert picture.width > 1000 and picture.height > 800
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 300  # greys, and the circles' colours


def test_each_type_has_its_sections(tmp_path):
    from tomopick.core.presets import CZII_OBJECTS
    from tomopick.simulation import czii_spec, simulate

    made = simulate(czii_spec(SHAPE, tomo_types=("wbp", "denoised")), CZII_OBJECTS, run="a", seed=0)
    sizes = []
    for number in (1, 2):
        draw_simulated(list(made.tomograms.values())[:number], made.picks, CZII_OBJECTS, tmp_path / f"{number}.png")
        with Image.open(tmp_path / f"{number}.png") as picture:
            sizes.append((picture.size, np.asarray(picture.convert("L"), dtype=float)))
    (one, _), (two, pixels) = sizes
    assert abs(two[0] - one[0]) <= 2 and abs(two[1] - one[1] // 2) <= 2
    left, right = pixels[:, : two[0] // 2], pixels[:, two[0] // 2 :][:, : two[0] // 2]
    assert np.abs(left - right).mean() > 2 and min(left.std(), right.std()) > 10


def test_an_interrupted_project_goes_on(tmp_path, monkeypatch):
    """The second run is cut off between its pictures and its tomograms."""
    call = {"tomo_types": ("wbp",), "seed": 3, "draw": draw_simulated}
    write = simulation.write_run

    def cut(project, tomograms, *others):
        if tomograms[0].run == "SIM_001":
            raise KeyboardInterrupt
        write(project, tomograms, *others)

    monkeypatch.setattr(simulation, "write_run", cut)
    with pytest.raises(KeyboardInterrupt):
        simulate_project(tmp_path / "sim", SHAPE, runs=2, **call)
    assert open_project(tmp_path / "sim").runs() == ["SIM_000"]
    monkeypatch.undo()
    made = []
    monkeypatch.setattr(simulation, "write_run", lambda *a: made.append(a[1][0].run) or write(*a))
    assert simulate_project(tmp_path / "sim", SHAPE, runs=2, **call) == ["SIM_000", "SIM_001"]
    assert made == ["SIM_001"]
    with pytest.raises(OutputError, match=r"was simulated with other arguments \(seed\); repeat it with the same"):
        simulate_project(tmp_path / "sim", SHAPE, runs=2, **(call | {"seed": 4}))
    (tmp_path / "sim" / "simulation.json").write_text("{")
    with pytest.raises(OutputError, match=r"simulation\.json: cannot be read"):
        simulate_project(tmp_path / "sim", SHAPE, runs=2, **call)


def test_a_changed_density_is_refused(tmp_path):
    density, values = tmp_path / "mine.mrc", np.zeros((24, 24, 24), dtype=np.float32)
    values[8:16, 8:16, 8:16] = 1.0
    write_mrc(density, values, 5.0)
    call = {"tomo_types": ("wbp",), "densities": [f"mine={density},mass=300"], "settings": ["microscope.tilt_step=10"]}
    simulate_project(tmp_path / "sim", SHAPE, **call)
    record = tmp_path / "sim" / "simulation.json"
    kept = json.loads(record.read_text())
    assert kept["files"] == {str(density): sha256(density.read_bytes()).hexdigest()}
    assert simulate_project(tmp_path / "sim", SHAPE, **call) == ["SIM_000"]
    write_mrc(density, values * 2, 5.0)
    with pytest.raises(
        OutputError, match=r"mine\.mrc: has changed since .*sim was simulated with it; put the file back"
    ):
        simulate_project(tmp_path / "sim", SHAPE, runs=2, **call)
    assert open_project(tmp_path / "sim").runs() == ["SIM_000"]
    record.write_text(json.dumps({k: v for k, v in kept.items() if k != "files"}))  # as it was before files were kept
    assert simulate_project(tmp_path / "sim", SHAPE, **call) == ["SIM_000"]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"settings": ["microscope.tilts=60,-60"]}, "microscope.tilts must go up"),
        ({"settings": ["microscope.defocs=1"]}, "MicroscopeSpec has no field 'defocs'; did you mean 'defocus'?"),
        ({"settings": ["voxel_spacing=20"]}, "voxel_spacing is 20,20; expected low,high within 7..14"),
        ({"settings": ["specimen.copies.ribosom=3"]}, "specimen.copies.ribosom: no such object is simulated; did you"),
        ({"settings": ["specimen.copies.ribosome=9,3"]}, "specimen.copies.ribosome is 9,3; expected low,high within 0"),
        ({"settings": ["specimen.copies.ribosome=-3"]}, "specimen.copies.ribosome is -3,-3; expected low,high within"),
        (
            {
                "settings": ["microscope.tilts=-1,1", "microscope.tilt_step=2", "microscope.tilt_loss=0"],
                "halves": True,
                "tomo_types": ("wbp",),
            },
            "a series of 1 image has no second half; lower microscope.tilt_step",
        ),
        ({"vary": -1.0}, "how much runs vary is -1"),
        ({"device": "gpu"}, "no device 'gpu' to simulate on"),
        ({"tomo_types": ("raw",)}, "no tomogram type 'raw' can be simulated"),
    ],
)
def test_bad_input_leaves_nothing(tmp_path, more, line):
    with pytest.raises(TomopickError) as found:
        simulate_project(tmp_path / "sim", SHAPE, **more)
    assert str(found.value).startswith(line) and "\n" not in str(found.value)
    assert not (tmp_path / "sim").exists()


def test_a_volume_too_small_leaves_nothing(tmp_path):
    with pytest.raises(TomopickError, match=r"does not fit into \(32, 64, 64\) voxels"):
        simulate_project(tmp_path / "sim", (32, 64, 64))
    assert not (tmp_path / "sim").exists()


def test_presets():
    assert (
        spec_of("varied", SHAPE, ("wbp",)).microscope.defocus[1]
        > spec_of("czii", SHAPE, ("wbp",)).microscope.defocus[1]
    )
    with pytest.raises(SelectionError, match="no preset 'czi' to simulate; did you mean 'czii'"):
        spec_of("czi", SHAPE, ("wbp",))
