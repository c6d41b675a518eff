"""The notebooks run from their first cell to their last, and are kept without what they put out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from placed import ROOT
from written_table import declared, write_results

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COMPARE = ROOT / "notebooks" / "compare_rows.ipynb"


def run_on(folder: Path, **chosen: object) -> Any:
    """The notebook, run with a table's folder in place of the one that its first cell chooses."""
    notebook = nbformat.read(COMPARE, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    chosen = {"TABLE": str(folder), **chosen}
    for name, value in chosen.items():
        first.source, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value!r}", first.source)
        assert count == 1, name
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    return notebook


def printed(notebook: Any) -> str:
    """All text that the cells put out."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    texts = [out.get("text") or out.get("data", {}).get("text/markdown", "") for out in outputs]
    return "\n".join(texts)


def pictures(notebook: Any) -> int:
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return sum("image/png" in out.get("data", {}) for out in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_stored(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.slow
def test_two_rows_are_compared(tmp_path: Path) -> None:
    table = write_results(declared(tmp_path / "paper" / "table2", seeds=(0, 1)))
    notebook = run_on(table.folder, ROWS=("face refiner", "concat"), METRIC="clip_f")
    text = printed(notebook)
    assert "4 of 4 rows have results" in text
    assert re.search(r"face refiner − concat: clip_f \+0\.\d{3} \[.+\], seeds \[0, 1\]", text)
    assert "| face refiner | **" in text
    assert pictures(notebook) == 3


@pytest.mark.slow
def test_a_table_without_results_names_its_command(tmp_path: Path) -> None:
    table = declared(tmp_path / "paper" / "table2")
    notebook = run_on(table.folder)
    assert f"this makes them: {table.command}" in printed(notebook)
    assert pictures(notebook) == 0
