"""
Who may import whom: the layers of the design, from the slim runtime at the bottom to the commands
at the top. A part that reached up would be loaded with what it must not need.
"""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Dict, Iterator, Set

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "allencv"

BELOW_MODELS = {"modules", "training", "data", "common", "predictions", "runtime"}
BELOW_PREDICTORS = {"models", "classify", "serving", *BELOW_MODELS}
BELOW_COMMANDS = {
    *("predictors", "certainty", "features", "exporting", "experiments", "reporting"),
    *("catalogue", "fitting", "reviewing"),
    *BELOW_PREDICTORS,
}

# Each part of allencv, and the others that it may import.
MAY_IMPORT: Dict[str, Set[str]] = {
    "__init__": {
        *(
            "deferred_imports",
            "exporting",
            "features",
            "fitting",
            "notebook",
            "serving",
            "trained_model",
        ),
    },
    "deferred_imports": {"runtime"},
    "trained_model": {"exporting", "runtime", "predictors"},
    "notebook": {"catalogue", "common", "plugin", "reporting", "runtime"},
    "command_list": set(),
    "command_parsers": {"command_list", "commands"},
    "recipes": {"runtime"},
    "runtime": set(),
    "common": {"runtime"},
    "predictions": {"runtime"},
    "classify": {"runtime"},
    "serving": {"runtime"},
    "data": {"common", "runtime"},
    "modules": {"common"},
    "training": {"common", "predictions", "runtime"},
    "models": BELOW_MODELS,
    "predictors": BELOW_PREDICTORS,
    "features": {"exporting", "predictors", *BELOW_PREDICTORS},
    "reviewing": {"features", "predictors", *BELOW_PREDICTORS},
    "exporting": {"certainty", "predictors", *BELOW_PREDICTORS},
    "experiments": {"catalogue", *BELOW_PREDICTORS},
    "reporting": {"certainty", "features", "predictors", *BELOW_PREDICTORS},
    "catalogue": BELOW_PREDICTORS,
    "certainty": {"predictors", *BELOW_PREDICTORS},
    "fitting": {"certainty", "experiments", "features", "predictors", *BELOW_PREDICTORS},
    "commands": {"recipes", *BELOW_COMMANDS},
    "plugin": BELOW_COMMANDS,
    "__main__": {"command_list", "command_parsers", "commands", "plugin", *BELOW_COMMANDS},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(file: Path) -> str:
    """The folder below `allencv`, or the file, that a module belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(tree: ast.AST) -> Iterator[str]:
    """The parts of allencv that code imports: `common` for `allencv.common.checks`."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, as this test reads no others"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, *parts = name.split(".")
            if package == "allencv" and parts and parts[0] in MAY_IMPORT:
                yield parts[0]


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("import allencv.models.basic_classifier", ["models"]),
        ("from allencv.runtime import ImageError, read_image", ["runtime", "runtime"]),
        ("from allencv import training, modules", ["training", "modules"]),
        ("def f():\n    import allencv.plugin", ["plugin"]),
        ("from allencv import __version__\nimport torch\nfrom allennlp.data import Field", []),
    ],
)
def test_imports_are_found(code: str, parts: "list[str]") -> None:
    assert list(imported_parts(ast.parse(code))) == parts


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_only(file: Path) -> None:
    part = part_of(file)
    assert part in MAY_IMPORT, "a new part needs its place among the layers above"
    imported = set(imported_parts(ast.parse(file.read_text(encoding="utf-8"))))
    assert imported - {part} <= MAY_IMPORT[part]


def module_of(file: Path) -> str:
    """`allencv.data.samples` for its file, and `allencv.data` for that of the package."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_modules_import_each_other() -> None:
    """Not even inside a function, or for the types alone. The names at the top are left out."""
    modules = {module_of(file): file for file in FILES}
    graph: Dict[str, Set[str]] = {}
    for module, file in modules.items():
        imported: Set[str] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= names & modules.keys() or {str(node.module)}
        graph[module] = imported & modules.keys() - {module, "allencv"}
    del graph["allencv"]
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("commands/*.py")), ids=lambda file: file.name)
def test_commands_import_what_they_need_when_they_run(file: Path) -> None:
    """
    At the top, only what is quick to import: the help of a command imports it.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    at_the_top = [
        node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    imported = set(imported_parts(ast.Module(at_the_top, type_ignores=[])))
    assert imported <= {"classify", "commands", "runtime", "serving"}


# The modules that must be quick to import, or small to install, and one that each does import.
SLIM = {
    "allencv": "sys",
    "allencv.__main__": "allencv",
    "allencv.runtime": "allencv",
    "allencv.runtime.images": "PIL",
    "allencv.classify.command": "PIL",
    "allencv.serving.app": "fastapi",
}


@pytest.mark.parametrize("module", SLIM)
def test_slim_modules_need_neither_torch_nor_allennlp(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert SLIM[module] in loaded
    assert not loaded & {"torch", "torchvision", "allennlp", "transformers", "spacy"}
