"""RELION's External job, by its protocol: arguments in, STAR files and the files that say how it ended out."""

import subprocess
import sys

import pytest
import starfile

from small import folder, trained
from tomopick.cli.relion_external import _ExternalJob
from tomopick.core.errors import SelectionError
from tomopick.data import read_picks_csv


@pytest.fixture
def project(tmp_path):
    """A project folder of RELION's with two tomograms, named otherwise than their files."""
    folder(tmp_path / "Tomograms" / "job009" / "tomograms", ("rec_A", "rec_B"), picks=False)
    rows = [
        f"{run} 5.0 128 96 48 Tomograms/job009/tomograms/rec_{run}.mrc" for run in "AB"
    ]  # of pixels half as large as the tomograms' voxels
    names = ["rlnTomoName", "rlnTomoTiltSeriesPixelSize", "rlnTomoSizeY", "rlnTomoSizeX", "rlnTomoSizeZ",
             "rlnTomoReconstructedTomogram"]  # fmt: skip
    text = "data_global\n\nloop_\n" + "".join(f"_{n} #{i + 1}\n" for i, n in enumerate(names)) + "\n".join(rows) + "\n"
    (tmp_path / "Tomograms" / "job009" / "tomograms.star").write_text(text)
    return tmp_path


def job(project, *arguments, before=lambda out: None):
    out = project / "External" / "job012"
    out.mkdir(parents=True)  # as RELION does
    before(out)
    command = [sys.executable, "-m", "tomopick.cli.relion_external", "--o", "External/job012/", *map(str, arguments)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    return done, out, sorted(path.name for path in out.glob("RELION_*"))


def test_a_job(project):
    star = "Tomograms/job009/tomograms.star"
    more = ["--model", trained(), "--device", "cpu", "--threshold", "ball=0.4", "--pipeline_control", "x/"]
    done, out, ended = job(project, "--in_mics", star, *more, "--j", "2")
    assert done.returncode == 0, done.stderr
    assert ended == ["RELION_JOB_EXIT_SUCCESS", "RELION_OUTPUT_NODES.star"]
    nodes = starfile.read(out / "RELION_OUTPUT_NODES.star", always_dict=True)["output_nodes"]
    kinds = nodes["rlnPipeLineNodeTypeLabel"].tolist()
    assert kinds == ["ParticleGroupMetadata.star.relion", "TomoOptimisationSet.star.relion"]
    name, together = nodes["rlnPipeLineNodeName"]
    named = starfile.read(project / together)
    assert named == {"rlnTomoParticlesFile": name, "rlnTomoTomogramsFile": star}
    table = starfile.read(project / name, always_dict=True)["particles"]
    assert set(table["rlnTomoName"]) == {"A", "B"} and table["rlnAutopickFigureOfMerit"].min() >= 0.4
    found = read_picks_csv(out / "picks" / "A.csv")[""]
    rows = table[table["rlnTomoName"] == "A"]
    assert len(rows) == len(found) > 0
    middle = (48 * 5 / 2, 128 * 5 / 2, 96 * 5 / 2)
    for axis, name in enumerate("ZYX"):
        written = sorted(rows[f"rlnCenteredCoordinate{name}Angst"])
        assert written == pytest.approx(sorted(found.positions[:, axis] - middle[axis]), abs=0.02)


def test_a_job_that_fails_says_so(project):
    done, _, ended = job(project, "--in_mics", "none.star")
    assert done.returncode == 1 and ended == ["RELION_JOB_EXIT_FAILURE"]
    assert "none.star: there is no such file; expected RELION's tomograms.star" in done.stderr


def test_a_job_that_is_aborted(project):
    star = "Tomograms/job009/tomograms.star"
    abort = {"before": lambda out: (out / "RELION_JOB_ABORT_NOW").touch()}
    done, _, ended = job(project, "--in_mics", star, "--model", trained(), "--device", "cpu", **abort)
    assert done.returncode == 1 and ended == ["RELION_JOB_EXIT_ABORTED"]


def test_what_relion_gives():
    given = ["--o", "External/job1/", "--in_mov", "", "--in_mics", "t.star", "--metric", "czii", "--j", "1"]
    parsed = _ExternalJob.parse(given)
    assert (str(parsed.star), parsed.model, parsed.threads) == ("t.star", "default", 1)
    assert parsed.options == ("--metric", "czii")
    for bad, line in ((given[2:], "--o is missing"), (given[:2], "no input")):
        with pytest.raises(SelectionError, match=line):
            _ExternalJob.parse(bad)
