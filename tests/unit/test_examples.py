"""Notebooks that the project ships: clean, short, explained, and for a kernel that is there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
LINES = 10


@pytest.fixture(params=NOTEBOOKS, ids=[path.name for path in NOTEBOOKS])
def notebook(request):
    return json.loads(request.param.read_text())


def codes(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_the_format_is_the_current_one(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z-]{3,20}", name) for name in names)


def test_nothing_of_a_run_is_left(notebook):
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
    for cell in codes(notebook):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_files_are_as_jupyter_writes_them():
    for path in NOTEBOOKS:
        text = path.read_text()
        assert json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n" == text


def test_every_cell_is_short_and_explained(notebook):
    before = None
    for cell in notebook["cells"]:
        assert cell["source"], cell["id"]
        assert not cell["source"][-1].endswith("\n")
        if cell["cell_type"] == "code":
            assert before == "markdown", cell["id"]
            assert len(cell["source"]) <= LINES, cell["id"]
            ast.parse("".join(cell["source"]))
        before = cell["cell_type"]


def test_the_kernel_is_one_that_hosts_have(notebook):
    defaults = yaml.safe_load((ROOT / "roles/jupyter/defaults/main.yml").read_text())
    kernels = {kernel["name"]: kernel for kernel in defaults["jupyter_kernels"]}
    wanted = notebook["metadata"]["kernelspec"]
    assert wanted["display_name"] == kernels[wanted["name"]]["display_name"]
    assert kernels[wanted["name"]]["mode"] == "yarn"
