"""What other programs call our runs, objects and tomogram types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from ..core.errors import SelectionError
from ..core.messages import listing

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

_PREFIXES = ("rec_", "tomo_", "tomogram_")
_SUFFIXES = (
    ".tomostar", ".mrc", ".rec", ".map", ".hdf", ".st", ".ali", ".zarr", ".gz", ".star", ".mod", ".em", ".tbl",
    ".coords", ".ndjson", ".json", ".txt", ".csv", ".xml", "_rec", "_full", "_aligned", "_ali", "_info",
)  # fmt: skip
_SPACING = re.compile(r"_\d+(\.\d+)?(apx|a|ang)$", re.IGNORECASE)  # Warp: TS_001_10.00Apx.mrc


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


def plain_name(name: str) -> str:
    """A tomogram's name without folder, file endings, `rec_` in front and `_10.00Apx` behind; lower case."""
    text = PurePosixPath(name.strip().replace("\\", "/")).name.lower()
    while True:
        shorter = _SPACING.sub("", text)
        for suffix in _SUFFIXES:
            shorter = shorter.removesuffix(suffix)
        if shorter == text or not shorter:
            break
        text = shorter
    for prefix in _PREFIXES:
        # `tomo_12` may be the whole name; only what leaves a name is a prefix.
        if text.startswith(prefix) and not text[len(prefix) :].isdigit():
            text = text[len(prefix) :]
    return text


class RunNames:
    """Runs of a project, found by what other programs call them."""

    def __init__(self, runs: Sequence[str], objects: Sequence[str] = ()) -> None:
        self.runs = list(runs)
        self.objects = list(objects)
        self._plain: dict[str, list[str]] = {}
        for run in self.runs:
            self._plain.setdefault(plain_name(run), []).append(run)

    def find(self, name: str) -> str | None:
        """The run that `name` stands for: exactly, or without prefixes and suffixes; None where there is none.

        Raises:
            SelectionError: two runs would do.
        """
        if name in self.runs:
            return name
        found = self._plain.get(plain_name(name), [])
        if len(found) > 1:
            raise SelectionError(
                f"'{name}' could be any of the runs {listing(found)}; expected one, so name it exactly as one of them"
            )
        return found[0] if found else None

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
        return None, None
