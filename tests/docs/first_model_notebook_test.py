"""The cells of docs/first_model.ipynb, run in their order, with fewer images and epochs."""

import ast
import json
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

NOTEBOOK = json.loads((ROOT / "docs" / "first_model.ipynb").read_text("utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
TEXT = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown"]


def run_cell(code: str, names: Dict[str, Any]) -> Any:
    """Run a cell, and return what a notebook shows below it: the value of its last line."""
    statements = ast.parse(code).body
    last = statements[-1]
    if not isinstance(last, ast.Expr):
        exec(code, names)
        return None
    exec(compile(ast.Module(statements[:-1], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def small(cell: str) -> str:
    """Return a cell with fewer images and epochs."""
    cell = cell.replace("zip(digits.images, ", "zip(digits.images[:600], ")
    return cell.replace("epochs=8", "epochs=3")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> List[Any]:
    names: Dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "Agg")
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        return [run_cell(small(cell), names) for cell in CELLS]


def test_what_is_shown(shown: List[Any]) -> None:
    _, run, batch, curves, matrix, mistakes, answer, accuracy, exported = shown
    assert run.archive.name == "model.tar.gz"
    assert batch._repr_png_().startswith(b"\x89PNG")
    for section in (curves, matrix, mistakes):
        assert "<iframe" in section._repr_html_()
    assert accuracy > 0.1  # chance is 0.1; the network has seen the images three times
    for each in (answer, exported):
        assert each._repr_html_().count("<tr>") == 5
    assert exported.labels == answer.labels
    assert exported.top() == pytest.approx(answer.top(), abs=1e-3)


def test_the_notebook_is_committed_without_outputs() -> None:
    assert not any(cell.get("outputs") for cell in NOTEBOOK["cells"])


def test_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", "\n".join(TEXT)):
        assert (Path(ROOT, "docs") / link).exists()
