"""Builds wheel and sdist into dist/, checks contents and metadata, installs the wheel anew and uses it.

python scripts/release.py --check [--python python3.12 ...] [--oldest]
"""

from __future__ import annotations

import argparse
import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHONS = ("python3.11", "python3.12", "python3.13")
MOST = 10_000_000  # bytes of a wheel
CORE = (  # what is tried with the oldest versions
    *("tests/test_geometry.py", "tests/test_public.py", "tests/test_end_to_end.py", "tests/data", "tests/scoring"),
    *("tests/networks/test_losses.py", "tests/picking/test_runs.py", "tests/look/test_sections.py"),
)
WANTED = (
    "tomopick/py.typed",
    "tomopick/models/default/weights.safetensors",
    "tomopick/models/default/recipe.json",
    "tomopick/models/default/detector.json",
    "tomopick/__main__.py",
)
# Not what runs the program: tests, measurements, what a build or a run leaves.
UNWANTED = re.compile(r"(^|/)(tests?|benchmarks|examples|build|demo|\.venv|\.git|__pycache__|conftest\.py)(/|$)")
# A copyleft that would reach those who pass tomopick on together with what it needs.
STRONG = re.compile(r"(?<!L)(?<!Lesser )\bA?GPL|(?<!Lesser )GNU (Affero )?General Public", re.I)

# From outside of the repository: the shipped model, on a phantom, by the public names and by the command.
USE = """
import tomopick as tp
project = tp.simulate((48, 128, 128), "phantom", seed=1, tomo_types=("denoised",))
model = tp.load("default")
runs = project.runs()
found = model.pick(project.tomogram(runs[0]), device="cpu")
assert len(found.picks) > 0, "no picks"
truth = tp.Runs(project, picks="*:simulation/0").labelled()
print(f"{len(found.picks)} picks, mean F1 {tp.score({runs[0]: found.picks}, truth, model.objects).f1}")
"""
LICENCES = """
import json
from importlib.metadata import distributions
print(json.dumps([[d.metadata["Name"], d.version, d.metadata.get("License-Expression") or "; ".join(
    c.rpartition(":: ")[2] for c in d.metadata.get_all("Classifier", []) if c.startswith("License")
) or (d.metadata.get("License") or "").split("\\n")[0]] for d in distributions()]))
"""


def faults_of_wheel(path: Path, project: dict[str, object]) -> list[str]:
    """What is wrong with a wheel, one line each.

    Args:
        path: the file.
        project: the table `project` of pyproject.toml.
    """
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        metadata = next((n for n in names if n.endswith(".dist-info/METADATA")), None)
        said = email.message_from_bytes(wheel.read(metadata)) if metadata else None
        points = "".join(wheel.read(n).decode() for n in names if n.endswith("entry_points.txt"))
    found = [f"{name} is missing" for name in WANTED if name not in names]
    found += [f"{name} does not belong into it" for name in names if UNWANTED.search(name)]
    if path.stat().st_size > MOST:
        found.append(f"{path.stat().st_size / 1e6:.1f} MB; expected {MOST / 1e6:.0f} at most")
    if said is None:
        return [*found, "METADATA is missing"]
    for field, key in (("Name", "name"), ("Version", "version"), ("Requires-Python", "requires-python")):
        if said[field] != project[key]:
            found.append(f"{field} is {said[field]}; expected {project[key]}")
    if not any("LICENSE" in name for name in names):
        found.append("LICENSE is missing")
    if len(said.get_payload()) < 1000:
        found.append("no long description; expected README.md")
    found += [f"the command {c} is missing" for c in ("tomopick", "tomopick-relion") if f"{c} = " not in points]
    return found


def faults_of_sdist(path: Path) -> list[str]:
    """What is wrong with a source archive, one line each."""
    with tarfile.open(path) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    wanted = ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", *(f"src/{name}" for name in WANTED)]
    found = [f"{name} is missing" for name in wanted if name not in names]
    return found + [f"{name} does not belong into it" for name in names if UNWANTED.search(name)]


def faults_of_licences(rows: list[list[str]]) -> list[str]:
    """Packages (name, version, licence) that may not be passed on with a program under MIT."""
    return [f"{name} {version}: {licence}" for name, version, licence in rows if STRONG.search(licence)]


def build(out: Path) -> tuple[Path, Path]:
    """The wheel and the source archive, the one built from the other."""
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, ROOT], check=True, stdout=subprocess.DEVNULL)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def tried(python: str, wheel: Path, version: str) -> list[str]:
    """What fails when the wheel is installed with this Python and used, one line each."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        subprocess.run([python, "-m", "venv", home / "env"], check=True)
        own = home / "env" / "bin"
        install = [own / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, "-c", ROOT / "constraints.txt", wheel], check=True)
        work = home / "work"
        work.mkdir()
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        clean["TOMOPICK_CACHE"] = str(home / "cache")
        steps = {
            f"tomopick {version}": [own / "tomopick", "--version"],
            "the public names": [own / "python", "-c", USE],
            "tomopick pick": [own / "tomopick", "-q", "pick", "default", "phantom/copick.json", "--out", "records",
                              "--tomo-type", "denoised", "--device", "cpu"],
            "tomopick show": [own / "tomopick", "show", "phantom/copick.json", "--tomo-type", "denoised",
                              "--picks", "*:simulation/0", "--out", "a.png"],
            "tomopick demo": [own / "tomopick", "demo", "--shape", "48,128,128", "--device", "cpu"],
            "licences": [own / "python", "-c", LICENCES],
        }  # fmt: skip
        found: list[str] = []
        for what, command in steps.items():
            done = subprocess.run(command, cwd=work, env=clean, capture_output=True, text=True, check=False)
            if done.returncode:
                found.append(f"{what}: exit code {done.returncode}: {' '.join(done.stderr.split())[-300:]}")
            elif what == "licences":
                rows = json.loads(done.stdout)
                print(f"  {len(rows)} packages: " + ", ".join(sorted({row[2] or "unknown" for row in rows})))
                found += faults_of_licences(rows)
            else:
                print(f"  {what}: {(done.stdout.splitlines() or ['done'])[-1]}")
                if what.startswith("tomopick 0") and version not in done.stdout:
                    found.append(f"tomopick --version says {done.stdout.strip()}; expected {version}")
        return found


def python_called(name: str) -> str | None:
    """Where a Python of that name is, on the path or among pyenv's; None: nowhere.

    Some that are on the path only say that they are not there (pyenv's, of versions that are not chosen).
    """
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    others = sorted((root / "versions").glob(f"{name.removeprefix('python')}*/bin/{name}"), key=_version, reverse=True)
    for path in (shutil.which(name), *map(str, others)):
        if path and not subprocess.run([path, "-c", ""], capture_output=True).returncode:
            return path
    return None


def _version(python: Path) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", python.parent.parent.name)]


def oldest(project: dict[str, object]) -> list[str]:
    """The requirements of the oldest versions that a project takes: `numpy==2.0.2` for `numpy>=2.0.2`.

    Raises:
        ValueError: a dependency has no lower bound.
    """
    found = []
    for line in project["dependencies"]:  # type: ignore[attr-defined]
        name, bound = re.match(r"([\w-]+)[^,]*?(?:>=([\w.]+))?(?:,|$)", line).groups()  # type: ignore[union-attr]
        if bound is None:
            raise ValueError(f"{name}: no lower bound")
        found.append(f"{name}=={bound}")
    return found


def tried_with_oldest(python: str, wheel: Path, project: dict[str, object]) -> list[str]:
    """What fails of the quick tests where everything is as old as it may be, one line each."""
    with tempfile.TemporaryDirectory() as place:
        own = Path(place) / "env" / "bin" / "python"
        subprocess.run([python, "-m", "venv", Path(place) / "env"], check=True)
        install = [own, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        wanted = [*install, wheel, *oldest(project), "pytest", "hypothesis", "selenium"]
        done = subprocess.run(wanted, capture_output=True, text=True, check=False)
        if done.returncode:  # two bounds that cannot both be kept
            return [
                f"with the oldest versions: {line}" for line in done.stderr.splitlines() if line.startswith("ERROR")
            ]
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        # Their warnings are not ours; what is tested is the wheel, not src/.
        command = [own, "-m", "pytest", "-q", "--tb=short", "-W", "default", "-o", "filterwarnings=",
                   "--disable-warnings", "-p", "no:cacheprovider"]  # fmt: skip
        done = subprocess.run([*command, *CORE], cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
        print("  " + "; ".join(oldest(project)) + "\n  " + (done.stdout.strip().splitlines() or ["nothing"])[-1])
        if not done.returncode:
            return []
        said = [line for line in done.stdout.splitlines() if re.match(r"E  |FAILED|ERROR", line)]
        return [f"with the oldest versions: {line}" for line in said[-30:] or done.stderr.splitlines()[-5:]]


def main() -> None:
    """Builds, checks and tries; the exit code is 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", required=True, help="builds and tries; publishes nothing")
    parser.add_argument("--oldest", action="store_true", help="the tests with the oldest versions allowed, too")
    parser.add_argument("--python", action="append", default=[], help="to try the wheel with; repeatable")
    given = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wheel, sdist = build(ROOT / "dist")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB; {sdist.name}: {sdist.stat().st_size / 1e6:.1f} MB")
    found = [f"{wheel.name}: {line}" for line in faults_of_wheel(wheel, project)]
    found += [f"{sdist.name}: {line}" for line in faults_of_sdist(sdist)]
    pythons = given.python or [path for name in PYTHONS if (path := python_called(name))]
    for python in [] if found else pythons:
        print(f"{python}:")
        found += [f"{python}: {line}" for line in tried(python, wheel, project["version"])]
    if given.oldest and not found:
        found += tried_with_oldest(pythons[0], wheel, project)
    print("\n".join(found) or f"fine, with {', '.join(pythons)}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
