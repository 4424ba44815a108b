"""What other programs call our runs, objects and tomogram types."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..core.errors import ReadError, SelectionError
from ..core.messages import listing
from ..core.text import read_text
from ..core.types import Picks

log = logging.getLogger("tomopick")

# The CryoET Data Portal's names of the CZII challenge's objects and tomogram types.
PORTAL_OBJECTS: dict[str, str] = {
    "ferritin-complex": "apo-ferritin",
    "beta-amylase": "beta-amylase",
    "beta-galactosidase": "beta-galactosidase",
    "cytosolic-ribosome": "ribosome",
    "thyroglobulin": "thyroglobulin",
    "virus-like-capsid": "virus-like-particle",
}
# By which the portal finds an object's annotations, whatever they are called.
PORTAL_IDENTIFIERS: dict[str, str] = {
    "ferritin-complex": "GO:0070288",
    "beta-amylase": "UniProtKB:P10537",
    "beta-galactosidase": "UniProtKB:P00722",
    "cytosolic-ribosome": "GO:0022626",
    "thyroglobulin": "UniProtKB:P01267",
    "virus-like-capsid": "GO:0170047",
}
PORTAL_TOMO_TYPES: dict[str, str] = {
    "wbp-denoised-denoiset-ctfdeconv": "denoised",
    "wbp-filtered-ctfdeconv": "ctfdeconvolved",
}

_ENDINGS = (
    "tomostar", "mrc", "mrcs", "rec", "map", "hdf", "h5", "st", "ali", "zarr", "ome", "gz", "star", "mod", "em", "tbl",
    "coords", "cbox", "box", "ndjson", "json", "txt", "csv", "xml",
)  # fmt: skip


class Step(NamedTuple):
    """One thing that other programs add to the name of a tilt series.

    Attributes:
        what: as said to the user.
        pattern: what is taken off.
        renames: whether `init` takes it off too.
    """

    what: str
    pattern: re.Pattern[str]
    renames: bool = False


STEPS = (
    Step("its ending", re.compile(rf"\.({'|'.join(_ENDINGS)})$", re.IGNORECASE), True),
    Step("rec_", re.compile(r"^rec_", re.IGNORECASE), True),
    Step("the pixel size", re.compile(r"_\d+(\.\d+)?Apx$|_\d+\.\d+(A|Ang)$", re.IGNORECASE), True),
    Step("_Vol", re.compile(r"_(vol|rec|full|aligned|ali|info)$", re.IGNORECASE)),
    Step("the half", re.compile(r"_(half[12]?|evn|odd|even)$", re.IGNORECASE)),
    Step("the binning", re.compile(r"__?bin\d+$", re.IGNORECASE)),
)
# The portal's files of points: 101-cytosolic_ribosome-1.0_orientedpoint.ndjson.
_PORTAL_FILE = re.compile(r"^(\d+-)?(?P<name>.+)-\d+\.\d+_(oriented|instance)?point$", re.IGNORECASE)


def object_alias(name: str, known: Iterable[str]) -> str:
    """The known object that `name` stands for: itself, or across the portal's and the challenge's names; else `name`.

    Source: names of dataset 10440 in the CryoET Data Portal, and of Kaggle's czii-cryo-et-object-identification.
    """
    return _alias(name, known, PORTAL_OBJECTS)


def tomo_type_alias(tomo_type: str, known: Iterable[str]) -> str:
    """The known tomogram type that `tomo_type` stands for; `tomo_type` itself where there is none."""
    return _alias(tomo_type, known, PORTAL_TOMO_TYPES)


def _alias(name: str, known: Iterable[str], table: dict[str, str]) -> str:
    known = set(known)
    clean = name.strip().replace(" ", "-").replace("_", "-")
    for candidate in (name, clean, clean.lower()):
        both = (candidate, table.get(candidate, ""), *(k for k, v in table.items() if v == candidate))
        found = next((c for c in both if c in known), None)
        if found is not None:
            return found
    return name


def forms(name: str) -> dict[str, int]:
    """A name and what is left of it one step at a time, with the number of steps; it keeps its last number."""
    whole = name.strip()
    base = _without_folder(whole)
    found = {whole: 0, base: int(base != whole)}
    queue = deque([base])
    while queue:
        text = queue.popleft()
        for shorter in _shorter(text, STEPS):
            if shorter not in found:
                found[shorter] = found[text] + 1
                queue.append(shorter)
    return found


def plain_name(name: str) -> str:
    """A tomogram's name without folder, file endings, `rec_` in front and `_10.00Apx` behind, in its own spelling."""
    text = _without_folder(name.strip())
    while shorter := next(_shorter(text, [s for s in STEPS if s.renames]), None):
        text = shorter
    return text


def _without_folder(name: str) -> str:
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] or name


def _shorter(text: str, steps: Sequence[Step]) -> Iterator[str]:
    """What is left of a name by one of the steps, if that leaves something and not only what has no number."""
    numbered = any(c.isdigit() for c in text)
    for step in steps:
        shorter = step.pattern.sub("", text)
        if shorter and shorter != text and (any(c.isdigit() for c in shorter) or not numbered):
            yield shorter


def portal_object(stem: str) -> str | None:
    """The object that one of the portal's files of points is called after; None for other files."""
    found = _PORTAL_FILE.match(stem)
    return found["name"] if found else None


class RunNames:
    """Runs of a project, found by what other programs call them.

    Attributes:
        runs: their names.
        shortened: what was found otherwise than exactly, or as was stated: name -> run.
    """

    def __init__(self, runs: Sequence[str], objects: Sequence[str] = (), stated: Mapping[str, str] = {}) -> None:
        """Args:
        runs: their names.
        objects: that names of files may end in.
        stated: others' names -> our runs, as somebody has said; it comes after what is exactly alike.
        """
        self.runs = list(runs)
        self.objects = list(objects)
        self.shortened: dict[str, str] = {}
        self._forms: dict[str, dict[str, int]] = {}
        for run in self.runs:
            for form, n in forms(run).items():
                self._forms.setdefault(_same(form), {})[run] = n
        self._stated: dict[str, tuple[int, str]] = {}
        for name, run in stated.items():
            for form, n in forms(name).items():
                known = self._stated.get(_same(form))
                self._stated[_same(form)] = (n, run) if known is None or n < known[0] else known

    def find(self, name: str) -> str | None:
        """The run that `name` stands for: exactly, as stated, or shortened step by step; None where there is none.

        Raises:
            SelectionError: two runs would do equally well.
        """
        if name in self.runs:
            return name
        said = min((self._stated[_same(f)] for f in forms(name) if _same(f) in self._stated), default=None)
        found = (said is not None and self._nearest(said[1])) or self._nearest(name)
        if len(found) > 1:
            raise SelectionError(
                f"'{name}' could be any of the runs {listing(found)}; expected one, so name it exactly as one of them "
                "or say which it is with `names=FILE`"
            )
        if found:
            self.shortened[name] = found[0]
        return found[0] if found else None

    def _nearest(self, name: str) -> list[str]:
        """The runs that take the fewest steps to become like the name; none where no steps do."""
        if name in self.runs:
            return [name]
        steps: dict[str, int] = {}
        for form, n in forms(name).items():
            for run, more in self._forms.get(_same(form), {}).items():
                steps[run] = min(steps.get(run, n + more), n + more)
        fewest = min(steps.values(), default=0)
        return [run for run, n in steps.items() if n == fewest]

    def find_with_object(self, stem: str) -> tuple[str | None, str | None]:
        """The run, and the object where the name ends in `_OBJECT`, as in `TS_001_ribosome.mod`."""
        run = self.find(stem)
        if run is not None:
            return run, None
        for name in sorted(self.objects, key=len, reverse=True):
            for ending in (f"_{name}", f"-{name}"):
                if stem.lower().endswith(ending.lower()):
                    run = self.find(stem[: -len(ending)])
                    if run is not None:
                        return run, name
        said = portal_object(stem)
        return None, None if said is None else object_alias(said, self.objects)

    def find_folder(self, folders: Sequence[str]) -> tuple[str | None, bool]:
        """The run that the nearest folder is called after, outermost first; and whether it is one we do not have.

        Folders of dates, jobs and users have numbers too: one is another tomogram's only if it is called like ours but
        for its numbers, as TS_9 beside TS_1.
        """
        patterns = {_pattern(form) for run in self.runs for form in forms(run)} - {"0"}
        for folder in reversed(folders):
            run = self.find(folder)
            if run is not None:
                return run, False
            if any(any(c.isdigit() for c in form) and _pattern(form) in patterns for form in forms(folder)):
                return None, True
        return None, False

    def names_another(self, stem: str) -> bool:
        """Whether a file's name is a tomogram's that we do not have: it has a number besides the object's name."""
        if portal_object(stem) is not None:
            return False
        for name in sorted(self.objects, key=len, reverse=True):
            stem = re.sub(re.escape(name), "", stem, flags=re.IGNORECASE)
        return any(c.isdigit() for c in stem)

    def said(self) -> list[str]:
        """A line where names were shortened, to tell the user."""
        if not self.shortened:
            return []
        return [f"found by a shortened name: {listing(f'{name} as run {run}' for name, run in self.shortened.items())}"]


def called_alike(found: Mapping[str, Picks], runs: Sequence[str]) -> dict[str, Picks]:
    """Picks by run; those of runs that are called otherwise in `runs` are renamed by the same rule, and that is said.

    Raises:
        SelectionError: a name could be any of two runs.
    """
    names = RunNames([run for run in runs if run not in found])
    renamed = {run: (names.find(run) or run) if run and run not in runs else run for run in found}
    for line in names.said():
        log.info(line)
    return {renamed[run]: replace(picks, run=renamed[run]) for run, picks in found.items()}


def read_names(path: Path) -> dict[str, str]:
    """Others' names -> our runs, from lines "NAME RUN"; spaces, tabs or a comma between.

    Raises:
        ReadError: unreadable, a line of another form, or a name that is there twice.
    """
    found: dict[str, str] = {}
    for i, line in enumerate(read_text(path, "lines 'NAME RUN'").splitlines()):
        name, _, run = re.sub(r"[,\t]", " ", line.strip(), count=1).partition(" ")
        if not line.strip():
            continue
        if not run.strip():
            raise ReadError(f"{path}: line {i + 1} is '{line.strip()}'; expected 'NAME RUN', their name and ours")
        if found.get(name, run.strip()) != run.strip():
            raise ReadError(f"{path}: line {i + 1}: '{name}' is there twice, for two runs; keep one")
        found[name] = run.strip()
    return found


def _pattern(name: str) -> str:
    """What is left where numbers do not tell names apart."""
    return re.sub(r"\d+", "0", _same(name))


def _same(name: str) -> str:
    """What does not tell names apart: capitals, and how accents are written."""
    return unicodedata.normalize("NFC", name).casefold()
