"""A simulated run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..core.files import atomic_write
from ..core.types import PickableObject, Picks, Tomogram
from .sections import draw_sections


def draw_simulated(tomograms: Sequence[Tomogram], picks: Picks, objects: Sequence[PickableObject], out: Path) -> None:
    """Writes a PNG with three sections of each tomogram, the picks drawn; several stand in two columns, half as large.

    Raises:
        OutputError: `out` cannot be written.
    """
    from PIL import Image

    pages: list[Image.Image] = []
    with TemporaryDirectory() as folder:
        for i, tomogram in enumerate(tomograms):
            part = Path(folder) / f"{i}.png"
            draw_sections(tomogram, picks, objects, part, title=f"{tomogram.run}, {tomogram.tomo_type}")
            with Image.open(part) as drawn:
                pages.append(drawn.convert("RGB"))
    columns = min(2, len(pages))
    pages = [page.resize((page.width // columns, page.height // columns), Image.Resampling.BOX) for page in pages]
    wide, tall = max(page.width for page in pages), max(page.height for page in pages)
    sheet = Image.new("RGB", (columns * wide, -(-len(pages) // columns) * tall), "white")
    for i, page in enumerate(pages):
        sheet.paste(page, (i % columns * wide, i // columns * tall))
    with atomic_write(out, binary=True) as file:
        sheet.save(file, format="PNG")
