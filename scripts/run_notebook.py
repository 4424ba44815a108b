"""Runs the cells of a notebook and keeps what they show, without Jupyter.

    python scripts/run_notebook.py examples/quickstart.ipynb

What a cell prints and the value of its last line are kept as its outputs, as Jupyter does; pictures are what the value
shows of itself. Cells run in an empty folder of their own, which is removed, so that no path of the machine gets into
the notebook. Plain cells only: no magics, no shell lines.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The notebook with the outputs of its code cells, run one after the other in `folder`."""
    names: dict[str, Any] = {"__name__": "__main__"}
    before, count, cells = Path.cwd(), 0, []
    os.chdir(folder)
    try:
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                count += 1
                outputs = _outputs("".join(cell["source"]), names, count)
                cell = {**cell, "execution_count": count, "outputs": outputs}
            cells.append(cell)
    finally:
        os.chdir(before)
    return {**notebook, "cells": cells}


def _outputs(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"<cell {count}>", "exec"), names)
        value = eval(compile(ast.Expression(last.value), f"<cell {count}>", "eval"), names) if last else None
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if value is not None:
        data: dict[str, Any] = {"text/plain": _lines(_text(value))}
        if hasattr(value, "_repr_png_"):
            data["image/png"] = base64.b64encode(value._repr_png_()).decode("ascii")
        outputs.append({"output_type": "execute_result", "execution_count": count, "data": data, "metadata": {}})
    return outputs


def _text(value: Any) -> str:
    """Without the address in memory that some objects show of themselves."""
    return f"<{type(value).__name__}>" if hasattr(value, "_repr_png_") else repr(value)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    """Runs the notebooks named on the command line, in place."""
    for name in sys.argv[1:]:
        path = Path(name)
        with tempfile.TemporaryDirectory() as place:
            done = run(json.loads(path.read_text(encoding="utf-8")), Path(place))
        path.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
