import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator

import pytest
import torch
from allennlp.training.optimizers import Optimizer

from allencv import AllenCVError, deferred_imports
from allencv.deferred_imports import DEFERRED, MissingPackageError
from allencv.runtime.installing import PACKAGES

USER = """
from typing import List
import heavy_package
import heavy_package.deep.inner as inner
from heavy_package import TABLE, Base, NoBError, add, make_adder
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

class Client:
    own_errors = (KeyError, heavy_package.NoBError)
    table = TABLE

def caught():
    try:
        return add(1, None)
    except NoBError as error:
        return str(error)

def caught_by_class():
    try:
        return add(1, None)
    except Client.own_errors as error:
        return str(error)

def another_error():
    try:
        raise OSError("another")
    except (NoBError, heavy_package.deep.errors.DeepException, Client.own_errors[1]):
        return "wrong"

def missing():
    return heavy_package.gone(1)

def imported_inside():
    import heavy_package
    return heavy_package
"""
HEAVY = """
TABLE = {"three": 3}
class NoBError(Exception): pass
class Base:
    path = "of the base"
    size = 5
    @classmethod
    def made(cls): return cls(8)
    @staticmethod
    def twice(number): return 2 * number
    def __init__(self, value): self.value = value
def add(a, b):
    if b is None: raise NoBError("no b")
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
    monkeypatch.setattr(deferred_imports, "_FOUND", {})
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
    "error": lambda user: user.caught() == "no b",
    "tuple of errors in a class": lambda user: user.caught_by_class() == "no b",
    "error by name": lambda user: str(user.NoBError("mine")) == "mine",
    "class method of a subclass": lambda user: user.Child.made().value == 8,
    "static method of a subclass": lambda user: user.Child.twice(3) == 6,
    "attribute of a subclass": lambda user: user.Child.size == 5,
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
    assert user.NoBError is heavy.NoBError
    assert user.Client.own_errors == (KeyError, heavy.NoBError)
    assert user.Client.table is heavy.TABLE
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


def test_an_error_of_another_kind_passes(user: ModuleType) -> None:
    with pytest.raises(OSError, match="another"):
        user.another_error()
    assert not is_imported()


SUBCLASSES = """
from abc import ABC, abstractmethod
from typing import Generic, TypeVar
import light_package

T = TypeVar("T")

class Mine(light_package.Child):
    path = "of mine"

class Abstract(light_package.Child, ABC):
    @abstractmethod
    def run(self): ...

class Concrete(Abstract):
    def run(self): return self.value

class Of(light_package.Child, Generic[T]): ...

class OfNumbers(Of[int]): ...

class MyError(light_package.NoBError): ...
"""


def test_subclasses_of_subclasses(user: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "light_package_mine.py").write_text(SUBCLASSES)
    mine = import_module("light_package_mine")
    assert not is_imported()
    try:
        assert (mine.Mine(1).value, mine.Mine.path, user.Child.path) == (
            1,
            "of mine",
            "of the base",
        )
        heavy = import_module("heavy_package")
        assert mine.Mine.__mro__ == (mine.Mine, user.Child, heavy.Base, object)
        assert mine.Mine.made().value == 8
        with pytest.raises(TypeError, match="abstract"):
            mine.Abstract(1)
        assert mine.Concrete(2).run() == 2
        assert mine.OfNumbers(3).value == 3
        with pytest.raises(heavy.NoBError, match="^mine$"):
            raise mine.MyError("mine")
        assert isinstance(mine.Concrete(1), (mine.Abstract, heavy.Base))
        assert not isinstance(mine.Mine(1), mine.Abstract)
    finally:
        del sys.modules["light_package_mine"]


@pytest.mark.parametrize("name", ["path", "register"])
def test_names_that_stand_ins_could_hide(user: ModuleType, tmp_path: Path, name: str) -> None:
    with (tmp_path / "heavy_package" / "__init__.py").open("a") as file:
        file.write(f"Base.{name} = staticmethod(lambda: 'its own')\n")
    assert getattr(user.Base, name)() == "its own"
    assert user.Base is import_module("heavy_package").Base


def test_threads_that_use_a_package_at_once(user: ModuleType, tmp_path: Path) -> None:
    with (tmp_path / "heavy_package" / "__init__.py").open("a") as file:
        file.write("import time; time.sleep(0.2)\n")
    with ThreadPoolExecutor(8) as threads:
        uses = [threads.submit(user.caught_by_class) for _ in range(8)]
        assert [use.result() for use in uses] == ["no b"] * 8


def test_packages_that_the_package_imports(user: ModuleType, tmp_path: Path) -> None:
    """As boto3 imports botocore: its errors are caught though only boto3 was used by name."""
    (tmp_path / "heavy_errors.py").write_text("class HeavyError(Exception): pass\n")
    (tmp_path / "heavy_package" / "__init__.py").write_text(
        "import heavy_errors\ndef fail(): raise heavy_errors.HeavyError('theirs')\n"
    )
    (tmp_path / "light_package.py").write_text(
        "import heavy_errors\nfrom heavy_package import fail\n"
        "def caught():\n"
        "    try: fail()\n"
        "    except heavy_errors.HeavyError as error: return str(error)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DEFERRED, "light_package", frozenset(["heavy_package", "heavy_errors"]))
        (finder,) = [each for each in sys.meta_path if isinstance(each, deferred_imports._Finder)]
        patch.setattr(finder, "_builtins", {})
        del sys.modules["light_package"]
        assert import_module("light_package").caught() == "theirs"
    del sys.modules["heavy_errors"]


BROKEN = {
    "raise ImportError('no library libheavy.so')": "heavy_package.deep.inner.* cannot be imported: "
    "no library libheavy.so",
    "import not_installed_either": "heavy_package.deep.inner.* needs the package "
    "not_installed_either, which is not installed",
    "from os import nothing": "heavy_package.deep.inner.* cannot be imported: cannot import name "
    "'nothing' from 'os'",
    "": "heavy_package.deep.inner.Thing is not in the installed release of heavy_package: "
    "module 'heavy_package.deep.inner' has no attribute 'Thing'",
}


@pytest.mark.parametrize(("code", "message"), BROKEN.items(), ids=lambda text: text[:20])
def test_the_reason_why_an_import_fails(
    user: ModuleType, tmp_path: Path, code: str, message: str
) -> None:
    (tmp_path / "heavy_package" / "deep" / "inner.py").write_text(code)
    with pytest.raises(MissingPackageError, match=message):
        user.inner.Thing()


S3 = """
import allencv
from cached_path import cached_path
from cached_path.schemes import S3Client
try:
    cached_path("s3://bucket/key", cache_dir="cache")
except Exception as error:
    print(type(error).__name__)
import botocore.exceptions
assert botocore.exceptions.HTTPClientError in S3Client.recoverable_errors
assert issubclass(botocore.exceptions.HTTPClientError, Exception)
"""


def test_errors_of_cached_path_are_caught(tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    account = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1"}
    place = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_DEFAULT_REGION": "us-east-1"}
    result = subprocess.run(
        [sys.executable, "-c", S3],
        cwd=tmp_path,
        env={**os.environ, **account, **place},
        capture_output=True,
        text=True,
    )
    assert result.stdout == "EndpointConnectionError\n", result.stderr


def test_errors_of_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`hf://`, `s3://` and `gs://` say what is missing, in functions that catch its errors."""
    from cached_path import cached_path

    def refused(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    for module in ("hf", "s3", "gs"):
        names = vars(import_module(f"cached_path.schemes.{module}"))
        for name, value in list(names.items()):
            package = (
                value.__name__
                if isinstance(value, ModuleType)
                else getattr(value, "__module__", "")
            )
            if str(package).startswith(("huggingface_hub", "boto", "google")):
                path = package if isinstance(value, ModuleType) else f"{package}.{name}"
                monkeypatch.setitem(names, name, deferred_imports._stand_in(path))
    monkeypatch.setattr(deferred_imports, "_resolve", refused)
    monkeypatch.setattr(deferred_imports, "_FOUND", {})
    monkeypatch.setattr(deferred_imports, "_is_imported", lambda path: False)
    for url in ("hf://a/b", "s3://bucket/key", "gs://bucket/key"):
        with pytest.raises(MissingPackageError, match="which is not installed"):
            cached_path(url)


def test_what_is_missing_is_named(
    user: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingPackageError, match="heavy_package.gone is not in the installed rel"):
        user.missing()
    (tmp_path / "light_package.py").write_text("import not_installed.part as part\n")
    del sys.modules["light_package"]
    with pytest.raises(MissingPackageError) as error:
        import_module("light_package").part.run()
    assert str(error.value).endswith("needs the package not_installed, which is not installed")
    assert isinstance(error.value, (AllenCVError, ModuleNotFoundError))
    assert error.value.name == "not_installed"
    monkeypatch.setitem(PACKAGES, "not_installed", "not-installed>=2")
    with pytest.raises(MissingPackageError, match='not installed: pip install "not-installed>=2"$'):
        import_module("light_package").part.run()


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


def test_a_module_that_a_function_of_its_package_hides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `spacy.cli.download`, which is a function in `spacy.cli`, and a module with a function."""
    package = tmp_path / "hiding"
    package.mkdir()
    (package / "__init__.py").write_text("from hiding.download import download")
    (package / "download.py").write_text("def download():\n    return 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert deferred_imports._resolve("hiding.download.download")() == 3
    assert deferred_imports._resolve("hiding.download")() == 3
