"""Files of picks that are read and not written: boxes of EMAN2 and crYOLO, DeepFinder's lists, copick's own picks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ...core.errors import OutputError, ReadError
from ...core.messages import counted, listing
from ...core.text import checked_numbers, read_json, read_text
from ...core.types import Picks
from ..picksjson import parse_picks
from .base import Objects, Part, Reading, RunFrame, finite, from_eulers, rotated
from .counted import column, columns
from .numbered import numbered_frames
from .star_text import read_documents


class ReadOnly:
    """A kind of file that other programs write, and we do not."""

    key: str
    per_run = True
    mixed = True

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """Not offered."""
        raise OutputError(f"{path}: {self.key} is read, not written; expected another format, such as imod or coords")

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """Nothing: it is not written."""
        return []


@dataclass(frozen=True)
class Eman2(ReadOnly):
    """EMAN2's info files: `boxes_3d` = (index - size // 2) * apix / apix_unbin, [x, y, z, how, score, class].

    Source: cryoem/eman2, programs/e2spt_boxer.py, which draws a box at b / apix * apix_unbin + nx // 2: at odd sizes
    half a voxel below the middle (e2spt_tempmatch.py writes them with size / 2).
    """

    key: str = "eman2"
    suffix: str = ".json"
    per_run: bool = True
    mixed: bool = True

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The boxes of one tomogram; `class_list` gives the objects' names."""
        frame, said = reading.find_file(path)
        if frame is None:
            return []
        boxes, apix, classes = _info(path)
        if not len(boxes):
            return reading.nothing(path, frame.run)
        scores, ids = boxes[:, 3], boxes[:, 4]
        positions = boxes[:, 2::-1] * (reading.pixel_size or apix) + _eman_middle(frame)
        parts = []
        for k in sorted(set(ids.tolist())):
            here = ids == k
            names = reading.objects(int(here.sum()), path, None, said or classes.get(round(k)))
            parts.append(Picks(frame.run, positions[here], names, scores[here] if np.any(scores) else np.ones(0)))
        return [Picks.join(frame.run, parts)]


def _eman_middle(frame: RunFrame) -> np.ndarray:
    """(3,) the voxel size // 2 of the tomogram, zyx [Å]; without one, half the size that RELION knows."""
    if frame.grid is None or frame.grid.shape == (1, 1, 1):
        return frame.need_centre("EMAN2")
    return frame.grid.positions(np.array([[n // 2 for n in frame.grid.shape]]))[0]


def _info(path: Path) -> tuple[np.ndarray, float, dict[int, str]]:
    """Boxes (n, 5) as x, y, z, score and class, unbinned pixel size [Å], name of each class."""
    data = read_json(path, "an EMAN2 info file with boxes_3d")
    try:
        boxes = [list(box) for box in data["boxes_3d"]]
        classes = {int(k): str(v["name"]) for k, v in data.get("class_list", {}).items()}
        short = next((i for i, box in enumerate(boxes) if len(box) < 3), None)
        if short is not None:
            raise ValueError(f"box {short + 1} has {counted(len(boxes[short]), 'value')}")
        rows = [[float(v) for v in [*box[:3], *box[4:6], 0, 0][:5]] for box in boxes]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(f"{path}: no EMAN2 boxes ({error!r}); expected an info file with boxes_3d") from None
    if "apix_unbin" not in data:
        raise ReadError(
            f"{path}: has no apix_unbin, so its boxes are of an older EMAN2 and count differently; "
            "expected an info file of a tomogram that EMAN2 reconstructed, so save them from e2spt_boxer again"
        )
    (apix,) = checked_numbers([str(data["apix_unbin"])], path, "apix_unbin", [1])
    if apix <= 0:
        raise ReadError(f"{path}: apix_unbin is {apix:g}; expected a positive number of Å")
    return finite(np.array(rows, dtype=np.float64).reshape(-1, 5), path, "number"), float(apix), classes


@dataclass(frozen=True)
class Cbox(ReadOnly):
    """crYOLO's and TomoTwin's .cbox: x and y are the box's lower corner, z its middle, in voxels; `Confidence`.

    Source: MPI-Dortmund/napari-boxmanager, io/cbox.py; MPI-Dortmund/cryolo#17.
    """

    key: str = "cbox"
    suffix: str = ".cbox"
    per_run: bool = True
    mixed: bool = False

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The boxes of one tomogram."""
        frame, said = reading.find_file(path)
        if frame is None:
            return []
        text = read_text(path, "a crYOLO .cbox")
        tables = [b["cryolo"] for b in read_documents(path) if "cryolo" in b] if text.strip() else []
        if text.strip() and not tables:
            raise ReadError(f"{path}: no block data_cryolo; expected a crYOLO .cbox")
        parts = [self._picks(t, frame, said, path, reading) for t in tables if len(t)]
        return [Picks.join(frame.run, parts)] if parts else reading.nothing(path, frame.run)

    def _picks(self, table: Any, frame: RunFrame, said: str | None, path: Path, reading: Reading) -> Picks:
        place, size = [f"Coordinate{a}" for a in "XYZ"], ["Width", "Height"]
        missing = [c for c in (*place, *size) if c not in table]
        if missing or all(_blank(v) for v in table["CoordinateZ"]):
            what = f"no column {listing(missing)}" if missing else "no z coordinates"
            raise ReadError(f"{path}: {what}, so its boxes are of single images; expected boxes of a tomogram")
        half = np.concatenate([columns(table, size, path) / 2, np.zeros((len(table), 1))], axis=1)
        voxels = (columns(table, place, path) + half)[:, ::-1]
        positions = voxels * reading.pixel_size if reading.pixel_size else frame.need_grid(".cbox").positions(voxels)
        scores = np.ones(len(table))
        if "Confidence" in table:
            stated = np.array([not _blank(v) for v in table["Confidence"]])
            scores[stated] = column(table[stated], "Confidence", path)
        return Picks(frame.run, positions, reading.objects(len(table), path, None, said), scores)


def _blank(text: Any) -> bool:
    return str(text).strip().lower() in ("", "<na>", "nan", "none")


@dataclass(frozen=True)
class DeepFinder(ReadOnly):
    """DeepFinder's object lists (XML): voxel index from 0, `class_label`, `phi`, `psi`, `the`; `tomo_idx` numbers.

    Source: deep-finder, utils/objl.py; angles as in TOM, as its authors' subtomogram averaging has them.
    """

    key: str = "deepfinder"
    suffix: str = ".xml"
    per_run: bool = True
    mixed: bool = True

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The objects of one tomogram, or of several that a list names."""
        rows = self._rows(path)
        if not rows:
            return reading.nothing(path)
        lines = list(range(1, len(rows) + 1))

        def numbers(name: str, default: str) -> np.ndarray:
            return checked_numbers([row.get(name) or default for row in rows], path, f"object's {name}", lines)

        tomograms = numbers("tomo_idx", "0")
        voxels = np.stack([numbers(a, "") for a in "zyx"], axis=1)
        angles = np.stack([numbers(a, "0") for a in ("phi", "the", "psi")], axis=1)
        classes = numbers("class_label", "0")
        found = []
        for number, frame in numbered_frames(tomograms, path, reading):
            here = tomograms == number
            size = reading.pixel_size
            positions = voxels[here] * size if size else frame.need_grid("DeepFinder").positions(voxels[here])
            _, said = reading.names.find_with_object(path.stem)
            names = reading.objects(int(here.sum()), path, classes[here], said)
            turns = rotated(from_eulers(angles[here], "zxz"), angles[here])
            found.append(Picks(frame.run, positions, names, np.ones(len(positions)), turns))
        return found

    def _rows(self, path: Path) -> list[dict[str, str]]:
        text = read_text(path, "a DeepFinder list of objects")
        if not text.strip():
            return []
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ReadError(f"{path}: defines a document type of its own; expected a DeepFinder list of objects")
        try:
            root = ElementTree.fromstring(text.split("?>", 1)[-1] if text.lstrip().startswith("<?") else text)
        except ElementTree.ParseError as error:
            raise ReadError(f"{path}: cannot be read as XML ({error}); expected a DeepFinder list of objects") from None
        if root.tag != "objlist":
            raise ReadError(f"{path}: is a list of <{root.tag}>; expected a DeepFinder list of objects (<objlist>)")
        return [dict(item.attrib) for item in root.iter("object")]


@dataclass(frozen=True)
class CopickPicks(ReadOnly):
    """copick's own picks, one file of a run, object, user and session: Å, as copick stores them."""

    key: str = "copick-json"
    suffix: str = ".json"
    per_run: bool = True
    mixed: bool = True

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The picks of the run that the file names; of its own name where it names none."""
        data = read_json(path, "copick's picks")
        run = str(data.get("run_name") or "") if isinstance(data, dict) else ""
        frame = reading.find(run) if run else reading.find_file(path)[0]
        if frame is None:
            return []
        file = parse_picks(data, frame.run, str(path))
        if not len(file.picks):
            return reading.nothing(path, frame.run)
        reading.in_angstrom(path)
        names = reading.objects(len(file.picks), path, None, file.name)
        return [Picks(frame.run, file.picks.positions, names, file.picks.scores, file.picks.rotations)]


@dataclass(frozen=True)
class Elsewhere(ReadOnly):
    """Files that hold picks we do not read, with what to use in their place.

    Attributes:
        instead: what to use.
    """

    key: str
    suffix: str
    instead: str
    per_run: bool = True
    mixed: bool = True

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """None of an empty file; else raises `ReadError` with what to use."""
        if path.stat().st_size == 0:
            return reading.nothing(path)
        raise ReadError(f"{path}: {self.instead}")


ELSEWHERE = (
    Elsewhere("box", ".box", "boxes of single images have no z; give the .cbox or .coords that lie beside them"),
    Elsewhere(
        "tloc", ".tloc", "a pickled table of TomoTwin, which could run code and is never opened; give the .coords or "
        ".cbox that tomotwin_pick.py writes",
    ),
)  # fmt: skip
