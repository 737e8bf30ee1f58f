import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator

import pytest
import torch
from allennlp.training.optimizers import Optimizer

from allencv import AllenCVError, deferred_imports
from allencv.deferred_imports import DEFERRED, MissingPackageError

USER = """
from typing import List
import heavy_package
import heavy_package.deep.inner as inner
from heavy_package import TABLE, Base, Problem, add, make_adder
from heavy_package.deep import inner as same_inner

Annotation = List[inner.Thing]

class Child(Base):
    def __init__(self, value):
        super().__init__(value)

def annotated(value: heavy_package.deep.inner.Thing = None) -> "Base": ...

@make_adder(10)
def ten_more(value):
    return value

def is_base(value):
    return isinstance(value, Base)

def caught():
    try:
        return add(1, None)
    except Problem as error:
        return str(error)

def missing():
    return heavy_package.gone(1)

def imported_inside():
    import heavy_package
    return heavy_package
"""
HEAVY = """
TABLE = {"three": 3}
class Problem(Exception): pass
class Base:
    def __init__(self, value): self.value = value
def add(a, b):
    if b is None: raise Problem("no b")
    return a + b
def make_adder(a):
    return lambda function: lambda value: function(value) + a
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of a package that imports `heavy_package` when it uses it."""
    (tmp_path / "heavy_package" / "deep").mkdir(parents=True)
    (tmp_path / "heavy_package" / "__init__.py").write_text(HEAVY)
    (tmp_path / "heavy_package" / "deep" / "__init__.py").touch()
    (tmp_path / "heavy_package" / "deep" / "inner.py").write_text("class Thing: size = 3\n")
    (tmp_path / "light_package.py").write_text(USER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(DEFERRED, "light_package", frozenset(["heavy_package", "not_installed"]))
    monkeypatch.setattr(deferred_imports, "_STAND_INS", {})
    monkeypatch.setattr(deferred_imports, "_USERS", {})
    yield import_module("light_package")
    for name in list(sys.modules):
        if name.partition(".")[0] in ("heavy_package", "light_package"):
            del sys.modules[name]


def is_imported() -> bool:
    return "heavy_package" in sys.modules


USES: "dict[str, Callable[[Any], bool]]" = {
    "function": lambda user: user.add(1, 2) == 3,
    "class": lambda user: user.Base(5).value == 5,
    "module": lambda user: user.heavy_package.add(1, 2) == 3,
    "module within": lambda user: user.inner.Thing().size == 3,
    "item": lambda user: user.TABLE["three"] == 3,
    "subclass": lambda user: user.Child(7).value == 7,
    "decorator": lambda user: user.ten_more(1) == 11,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_package_is_imported_when_it_is_used(
    user: ModuleType, use: Callable[[Any], bool]
) -> None:
    assert not is_imported()
    assert use(user)
    assert is_imported()
    assert use(user)


def test_after_the_first_use_nothing_is_replaced(user: ModuleType) -> None:
    assert user.add(1, 2) == 3
    heavy = import_module("heavy_package")
    assert user.heavy_package is heavy
    assert user.add is heavy.add
    assert user.inner is user.same_inner is import_module("heavy_package.deep.inner")
    assert user.caught() == "no b"
    assert isinstance(user.Child(1), heavy.Base)
    assert issubclass(user.Child, heavy.Base)


def test_to_ask_for_the_type_imports_nothing(user: ModuleType) -> None:
    assert not user.is_base(3)
    assert not issubclass(int, user.Base)
    assert not isinstance(3, user.heavy_package.deep.inner.Thing)
    assert issubclass(user.Child, user.Base)
    assert repr(user.Annotation) == "typing.List[heavy_package.deep.inner.Thing]"
    assert not hasattr(user.Base, "__origin__")
    assert not is_imported()
    from heavy_package import Base  # type: ignore[import-not-found]

    assert user.is_base(Base(1))
    assert not user.is_base(3)


def test_others_and_functions_get_the_real_package(user: ModuleType) -> None:
    assert user.imported_inside() is import_module("heavy_package")


def test_what_is_missing_is_named(user: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(MissingPackageError, match="heavy_package.gone is not in the installed rel"):
        user.missing()
    (tmp_path / "light_package.py").write_text("import not_installed.part as part\n")
    del sys.modules["light_package"]
    with pytest.raises(MissingPackageError) as error:
        import_module("light_package").part.run()
    assert "needs the package not_installed, which is not installed" in str(error.value)
    assert isinstance(error.value, (AllenCVError, ModuleNotFoundError))
    assert error.value.name == "not_installed"


def test_nothing_for_text_is_imported_with_every_part() -> None:
    code = """
        import sys
        import allencv.plugin
        print(*{name.partition(".")[0] for name in sys.modules})
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = set(result.stdout.split())
    assert "allennlp" in imported
    slow = "boto3 fairscale google h5py matplotlib nltk pandas pyarrow scipy sklearn spacy"
    assert not {*slow.split(), "transformers", "wandb"} & imported


@pytest.mark.parametrize("name", ["huggingface_adafactor", "huggingface_adamw"])
def test_optimizers_of_transformers_are_the_real_ones(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    made = Optimizer.by_name(name)([("weight", parameter)])
    real = transformers.Adafactor if name == "huggingface_adafactor" else transformers.AdamW
    assert isinstance(made, real)
    parameter.grad = torch.ones(2)
    made.step()
    assert (parameter < torch.tensor([1.0, 2.0])).all()
