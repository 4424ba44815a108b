"""Densities from atoms: what a model in PDB or mmCIF scatters above the ice that it displaces."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from ..core.errors import ReadError
from ..core.messages import listing, reason_of
from .density import BLOB_SIGMA, ICE_POTENTIAL, PROTEIN_VOLUME

# Integral of an atom's potential [V Å^3] over its scattering factor at 0 [Å]: h^2 / (2 pi m e).
# Source: Kirkland, Advanced Computing in Electron Microscopy, appendix C.
SCATTERING_VOLTS = 47.878
# What bonds take from the potential of free atoms. Chosen so that protein of average composition has 7.03 V, which is
# `PROTEIN_CONTRAST` above ice; free atoms give 8.1 V.
BONDING = 0.87
# Volume of nucleic acid: 0.55 cm^3/g, a density of 1.8 g/cm^3. Source: Voss & Gerstein 2005, J Mol Biol 346, 477 (RNA).
NUCLEIC_VOLUME = 913.0  # [Å^3/kDa]
# Columns of mmCIF without which there are no atoms.
_COLUMNS = ("id", "type_symbol", "label_alt_id", "label_asym_id", "Cartn_x", "Cartn_y", "Cartn_z")
SPACING = 2.5  # [Å] of the lattice that the atoms are put on: a third of the blur


@dataclass(frozen=True)
class Atoms:
    """Atoms of one biological assembly.

    Attributes:
        positions: (n, 3) zyx [Å].
        weights: (n,) integral of each atom's potential above the ice that it displaces, with its hydrogens [V Å^3].
        mass: with hydrogens [kDa].
    """

    positions: np.ndarray
    weights: np.ndarray
    mass: float


def read_atoms(path: Path) -> Atoms:
    """The atoms of the first model of a PDB or mmCIF file, as its first biological assembly where it states one.

    Water is left out; hydrogens that a residue has but the file has not are added to its other atoms.

    Raises:
        ReadError: not such a file, or without atoms, or with a coordinate that is no number.
    """
    import gemmi

    try:
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        reason = reason_of(error)
        raise ReadError(f"{path}: cannot be read as PDB or mmCIF ({reason}); expected an atomic model") from None
    _require_places(structure, path)
    structure.remove_waters()
    structure.remove_empty_chains()
    if len(structure) == 0 or not structure[0].count_atom_sites():
        lacks = _missing_columns(path) if structure.input_format == gemmi.CoorFormat.Mmcif else ""
        raise ReadError(f"{path}: no atoms{lacks}; expected an atomic model in PDB or mmCIF")
    model = structure[0]
    if len(structure.assemblies):
        first = structure.assemblies[0]
        try:
            model = gemmi.make_assembly(first, model, gemmi.HowToNameCopiedChain.AddNumber)
            reason = "" if model.count_atom_sites() else "of none of its atoms"
        except (RuntimeError, ValueError) as error:
            reason = reason_of(error)
        if reason:
            raise ReadError(
                f"{path}: its biological assembly '{first.name}' cannot be built ({reason}); mend the file, or leave "
                "the assembly out of it"
            )
    rows = [row for chain in model for residue in chain for row in _residue(residue)]
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    if not (len(table) and table[:, 3].sum() > 0 and np.isfinite(table).all()):
        raise ReadError(f"{path}: no atoms that scatter more than ice; expected an atomic model in PDB or mmCIF")
    return Atoms(table[:, :3], table[:, 3], float(table[:, 4].sum() / 1000))


def _require_places(structure: Any, path: Path) -> None:
    """Raises `ReadError` for an atom with a coordinate that is no number: gemmi takes such for 0 or NaN."""
    import gemmi

    wrong = _not_numbers(path) if structure.input_format == gemmi.CoorFormat.Pdb else iter(())
    places = ((f"atom {found.atom.serial}", found.atom.pos) for model in structure for found in model.all())
    astray = ((where, ", ".join(f"{n:g}" for n in at)) for where, at in places if not all(map(math.isfinite, at)))
    for where, text in (*wrong, *astray):
        raise ReadError(f"{path}: {where}: its place is '{text}'; expected three numbers [Å], so mend the file")


def _not_numbers(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a PDB file with atoms whose coordinates are no numbers, and what they are."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.startswith((b"ATOM", b"HETATM")):
                continue
            fields = [line[at : at + 8].decode(errors="replace") for at in (30, 38, 46)]
            if not all(map(_is_number, fields)):
                yield f"line {number}", " ".join("".join(fields).split())


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _missing_columns(path: Path) -> str:
    """What keeps the atoms of an mmCIF file from being read, for a message; "" for nothing."""
    import gemmi

    tags = {tag for block in gemmi.cif.read(str(path)) for item in block if item.loop for tag in item.loop.tags}
    there = {tag.partition(".")[2] for tag in tags if tag.startswith("_atom_site.")}
    missing = [f"_atom_site.{name}" for name in _COLUMNS if name not in there]
    return f", for its columns lack {listing(missing)}" if there and missing else ""


def _residue(residue: Any) -> list[tuple[float, float, float, float, float]]:
    """z, y, x [Å], weight [V Å^3] and mass [Da] of a residue's atoms, times their occupancy."""
    import gemmi

    known = gemmi.find_tabulated_residue(residue.name)
    heavy = [atom for atom in residue if not atom.is_hydrogen()]
    polymer = known.is_amino_acid() or known.is_nucleic_acid()
    written = sum(atom.occ for atom in residue if atom.is_hydrogen())
    full = len({atom.name for atom in heavy})
    whole = max(0, known.hydrogen_count - (2 if polymer else 0)) if known.found() else full  # joining costs a water's
    hydrogens = max(0.0, whole - written) / max(1, full)  # of each of the other atoms
    volume = (NUCLEIC_VOLUME if known.is_nucleic_acid() else PROTEIN_VOLUME) / 1000  # [Å^3/Da]
    light = gemmi.Element("H")
    rows = []
    for atom in residue:
        more = 0.0 if atom.is_hydrogen() else hydrogens
        mass = atom.element.weight + more * light.weight
        scattering = _factor(atom.element) + more * _factor(light)
        weight = SCATTERING_VOLTS * BONDING * scattering - ICE_POTENTIAL * volume * mass
        rows.append((atom.pos.z, atom.pos.y, atom.pos.x, atom.occ * weight, atom.occ * mass))
    return rows


def _factor(element: Any) -> float:
    """Electron scattering factor at 0 [Å]. Source: International Tables C, table 4.3.2.2, as gemmi has it."""
    return float(element.c4322.calculate_sf(0.0)) if element.c4322 else 0.0


def potential_of(atoms: Atoms, sigma: float = BLOB_SIGMA) -> tuple[np.ndarray, float]:
    """The atoms as Gaussians of width `sigma` [Å].

    Returns:
        values: (z, y, x) potential above ice [V]; its spacing [Å].
    """
    low = atoms.positions.min(axis=0) - 4 * sigma
    shape = np.ceil((atoms.positions.max(axis=0) + 4 * sigma - low) / SPACING).astype(int) + 2
    values = np.zeros(shape)
    place = (atoms.positions - low) / SPACING
    corner = np.floor(place).astype(int)
    share = place - corner
    for step in np.ndindex(2, 2, 2):  # spread over the eight voxels around, which keeps the centre of mass
        part = np.where(step, share, 1 - share).prod(axis=1)
        np.add.at(values, tuple((corner + step).T), part * atoms.weights)
    return gaussian_filter(values, sigma / SPACING) / SPACING**3, SPACING
