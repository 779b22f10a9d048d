"""The notebooks in samples/: each runs from an empty folder, and shows something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent.parent / "samples"
NOTEBOOKS = sorted(SAMPLES.glob("*.ipynb"))


def test_there_are_three() -> None:
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_ships_holds_no_output_and_leads_somewhere(path: Path) -> None:
    import re

    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")] == []
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        assert (SAMPLES / link).exists(), link


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    """In a process of its own: the kernel's client leaves sockets that Python warns of."""
    code = (
        "import sys, nbformat, nbclient\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "nbclient.NotebookClient(notebook, timeout=600, kernel_name='python3').execute()\n"
        "cells = [cell for cell in notebook.cells if cell.cell_type == 'code']\n"
        "assert sum(bool(cell.outputs) for cell in cells) >= len(cells) // 2\n"
        "outputs = [output for cell in cells for output in cell.outputs]\n"
        "print(*(o.get('text', o.get('data', {}).get('text/plain', '')) for o in outputs), sep='\\n')\n"
    )
    root = str(SAMPLES.parent)
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "agg", "AUDIT_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
