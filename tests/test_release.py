"""What a release is refused for."""

import importlib
import importlib.util
import io
import re
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = {"name": "tomopick", "version": "1.2.3", "requires-python": ">=3.11"}
METADATA = "Name: tomopick\nVersion: 1.2.3\nRequires-Python: >=3.11\n\n" + "what it is " * 100


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release", ROOT / "scripts" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(path, wanted, metadata=METADATA, points="tomopick = a\ntomopick-relion = b\n", more=()):
    info = "tomopick-1.2.3.dist-info"
    with zipfile.ZipFile(path, "w") as out:
        for name in (*wanted, f"{info}/licenses/LICENSE", *more):
            out.writestr(name, "x")
        out.writestr(f"{info}/METADATA", metadata)
        out.writestr(f"{info}/entry_points.txt", points)
    return path


def test_wheels(release, tmp_path):
    whole = release.WANTED
    assert release.faults_of_wheel(wheel(tmp_path / "a", whole), PROJECT) == []
    for faulty, fault in (
        (wheel(tmp_path / "b", whole[1:]), "tomopick/py.typed is missing"),
        (wheel(tmp_path / "c", whole, more=("tests/test_a.py",)), "tests/test_a.py does not belong into it"),
        (wheel(tmp_path / "d", whole, more=("benchmarks/a.py",)), "benchmarks/a.py does not belong into it"),
        (wheel(tmp_path / "e", whole, METADATA.replace("1.2.3", "1.2.2")), "Version is 1.2.2; expected 1.2.3"),
        (wheel(tmp_path / "f", whole, METADATA[:60]), "no long description; expected README.md"),
        (wheel(tmp_path / "g", whole, points="tomopick = a\n"), "the command tomopick-relion is missing"),
    ):
        assert release.faults_of_wheel(faulty, PROJECT) == [fault]


def test_a_large_wheel(release, tmp_path, monkeypatch):
    monkeypatch.setattr(release, "MOST", 1000)
    (fault,) = release.faults_of_wheel(wheel(tmp_path / "a", release.WANTED), PROJECT)
    assert fault.endswith("MB; expected 0 at most")


def test_sources(release, tmp_path):
    names = ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", *(f"src/{name}" for name in release.WANTED)]
    for more, faults in (([], []), (["tests/a.py"], ["tests/a.py does not belong into it"])):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as out:
            for name in [*names, *more]:
                out.addfile(tarfile.TarInfo(f"tomopick-1.2.3/{name}"), io.BytesIO())
        assert release.faults_of_sdist(tmp_path / "a.tar.gz") == faults


@pytest.mark.parametrize(
    ("licence", "fine"),
    [
        *(("MIT", True), ("LGPL-3.0", True), ("GNU Lesser General Public License v3 (LGPLv3)", True), ("", True)),
        *(("GPL-3.0-only", False), ("GNU General Public License v3 (GPLv3)", False), ("AGPL-3.0", False)),
    ],
)
def test_licences(release, licence, fine):
    assert (release.faults_of_licences([["a", "1", licence]]) == []) == fine


def test_the_files_that_are_wanted_are_there(release):
    assert all((ROOT / "src" / name).exists() for name in release.WANTED)


def test_the_conda_recipe_is_what_pyproject_says():
    yaml = pytest.importorskip("yaml")
    path = ROOT / "containers" / "conda" / "recipe.yaml"
    recipe = yaml.safe_load(path.read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    least = project["requires-python"].removeprefix(">=")
    assert recipe["context"] == {"name": project["name"], "version": project["version"], "python_min": least}
    assert recipe["build"]["python"]["entry_points"] == [f"{k} = {v}" for k, v in project["scripts"].items()]
    called = {"pytorch": "torch", "matplotlib-base": "matplotlib"}  # there
    wanted = [re.match(r"(\S+) ?(.*)", line).groups() for line in recipe["requirements"]["run"]]
    stated = [re.match(r"([\w-]+)(.*)", line).groups() for line in project["dependencies"]]
    assert sorted((called.get(name, name), bound) for name, bound in wanted if name != "python") == sorted(stated)
    assert recipe["about"]["license"] == "MIT" and (ROOT / recipe["about"]["license_file"]).is_file()
    if shutil.which("rattler-build"):
        command = ["rattler-build", "build", "--render-only", "--recipe", path]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_containers_copy_what_is_there_and_install_what_pyproject_knows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    docker = (ROOT / "containers" / "Dockerfile").read_text()
    apptainer = (ROOT / "containers" / "apptainer.def").read_text()
    copied = " ".join(re.findall(r"^COPY (.+) \S+$", docker, re.M)).split()
    copied += re.findall(r"^    (\S+) /opt/tomopick/", apptainer, re.M)
    assert {"pyproject.toml", "src", "LICENSE"} <= set(copied) and all((ROOT / name).exists() for name in copied)
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(sent) == sorted(re.findall(r"[^ ]+", " ".join(re.findall(r"^COPY (.+) \S+$", docker, re.M))))
    extras = re.findall(r"EXTRAS=([\w,]+)", docker) + re.findall(r"extras=([\w,]+)", apptainer)
    assert {name for line in extras for name in line.split(",")} <= set(project["optional-dependencies"])
    torch = next(line for line in project["dependencies"] if line.startswith("torch"))
    assert f'"{torch}"' in docker and f'"{torch}"' in apptainer


def test_the_oldest_versions(release):
    project = {"dependencies": ["numpy>=2.0.2", "zarr>=2.18,<3", "copick>=1.31,<2", "gemmi>=0.7,<0.8"]}
    assert release.oldest(project) == ["numpy==2.0.2", "zarr==2.18", "copick==1.31", "gemmi==0.7"]
    with pytest.raises(ValueError, match="tqdm: no lower bound"):
        release.oldest({"dependencies": ["tqdm"]})
    mine = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(release.oldest(mine)) == len(mine["dependencies"])


def test_pythons_of_pyenv_are_found(release, tmp_path, monkeypatch):
    for version in ("3.12.1", "3.12.11", "3.13.0"):
        python = tmp_path / "versions" / version / "bin" / f"python{version.rpartition('.')[0]}"
        python.parent.mkdir(parents=True)
        python.write_text("#!/bin/sh\n")
        python.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv(
        "PATH", "/usr/bin:/bin" if not shutil.which("python3.12", path="/usr/bin:/bin") else str(tmp_path)
    )
    assert release.python_called("python3.12") == str(tmp_path / "versions" / "3.12.11" / "bin" / "python3.12")
    assert release.python_called("python3.9") is None


def test_no_lower_bound_is_below_what_our_dependencies_ask_for(release):
    """Else nobody can have that version: pip takes a newer one, and what is stated was never tried."""
    packaging = pytest.importorskip("packaging.requirements")
    version = importlib.import_module("packaging.version").Version
    mine = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = {name: version(least) for name, least in (pin.split("==") for pin in release.oldest(mine))}
    assert version(metadata.version("copick")) == ours["copick"]  # the oldest one is the one that is installed
    for line in metadata.requires("copick") or ():
        asked = packaging.Requirement(line)
        least = [version(s.version) for s in asked.specifier if s.operator in (">=", "==")]
        if asked.name in ours and least and not asked.marker:
            assert ours[asked.name] >= max(least), line
