"""What a release is refused for."""

import importlib.util
import io
import tarfile
import zipfile
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
