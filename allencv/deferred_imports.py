"""
Import the packages that AllenNLP needs for text when they are used, and not when AllenNLP is.

AllenNLP imports transformers, spacy, nltk and more, which takes seconds, and image classification
uses none of them. Here, the import statements at the top of AllenNLP's modules give stand-ins
instead. A stand-in imports its package when it is called. From then on the modules have the real
package. So these packages need not be installed, and a config with
parts for text works as before where they are.

Only the modules of the packages in `DEFERRED` and `DEFERRED_IF_INSTALLED` get stand-ins, and only
from the import statements outside their functions. All others get the real package.
"""

import builtins
import operator
import sys
import threading
from abc import ABCMeta
from contextlib import suppress
from functools import wraps
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Callable, Dict, FrozenSet, Optional, Sequence

from allencv import AllenCVError

_BY_ALLENNLP = "base58 dill fairscale h5py huggingface_hub lmdb more_itertools nltk scipy sklearn"
_BY_ALLENNLP += " spacy tensorboardX termcolor transformers wandb"
DEFERRED: Dict[str, FrozenSet[str]] = {
    "allennlp": frozenset(_BY_ALLENNLP.split()),
    "cached_path": frozenset(["boto3", "botocore", "google", "huggingface_hub"]),
    "torchmetrics": frozenset(["matplotlib", "nltk", "pandas", "scipy", "transformers"]),
}
"""For each package, those that its modules import when they use them. They may be missing."""
DEFERRED_IF_INSTALLED: Dict[str, FrozenSet[str]] = {
    "tensorboardX": frozenset(["boto3", "botocore", "google.cloud"]),
    "timm": frozenset(["wandb"]),
}
"""The same for packages that do less if the import statement fails."""


class MissingPackageError(AllenCVError, ModuleNotFoundError):
    """Raised when a package is used that is not installed, or whose release lacks what is used."""


class _Loading(threading.local):
    depth = 0
    """How many modules this thread is loading: a module, one that it imports, and so on."""


_loading = _Loading()
"""While modules are loaded, they only name what they will use."""


class StandIn(ABCMeta):
    """
    A class in place of anything in a package that is not imported yet: a class, function or module.
    Classes that have a stand-in for a base get the real base when they are used.
    """

    _stands_for: str
    """What the class stands for, such as "transformers.AdamW"."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls._is_subclass():
            cls._take_real_bases()
            return super().__call__(*args, **kwargs)
        if _loading.depth:  # as in `@package.decorator(argument)`
            return _decorator(cls, args, kwargs)
        return _import(cls)(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        if cls._is_subclass():
            # Python, typing and AllenNLP ask classes for special and private names; these are not
            # to import anything.
            if not name.startswith("_") and not _loading.depth and cls._take_real_bases():
                return getattr(cls, name)
            raise AttributeError(f"{cls.__name__} has no attribute {name!r}")
        if name.startswith("_"):
            raise AttributeError(f"{cls.__name__} has no attribute {name!r}")
        # A name in a package is only named here, as in an annotation or in `isinstance`.
        path = cls._stands_for
        return getattr(_import(cls), name) if _is_imported(path) else _stand_in(f"{path}.{name}")

    def __getitem__(cls, key: Any) -> Any:
        if cls._is_subclass():
            return cls.__class_getitem__(key)
        return _import(cls)[key]

    def __instancecheck__(cls, instance: Any) -> bool:
        if cls._is_subclass():
            return super().__instancecheck__(instance)
        return _is_imported(cls._stands_for) and isinstance(instance, _import(cls))

    def __subclasscheck__(cls, subclass: type) -> bool:
        if cls._is_subclass():
            return super().__subclasscheck__(subclass)
        if type.__subclasscheck__(cls, subclass):
            return True
        return _is_imported(cls._stands_for) and issubclass(subclass, _import(cls))

    def register(cls, *args: Any, **kwargs: Any) -> Any:
        """Call the package's own `register`, which `ABCMeta` would hide."""
        if cls._is_subclass():
            return super().register(*args, **kwargs)
        return cls.__getattr__("register")(*args, **kwargs)

    def _is_subclass(cls) -> bool:
        """Return whether this is a real class that has a stand-in for a base."""
        return "_stands_for" not in cls.__dict__

    def _take_real_bases(cls) -> bool:
        """Replace stand-ins among the bases, and theirs. Return whether there were any."""
        has_changed = False
        for each in reversed(cls.__mro__):
            if isinstance(each, StandIn) and each._is_subclass():
                bases = tuple(map(_real_base, each.__bases__))
                if bases != each.__bases__:
                    each.__bases__ = bases
                    has_changed = True
        return has_changed


class _StandInModule(ModuleType):
    """A module in place of one that is not imported yet: each of its names is a stand-in."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return _stand_in(f"{self.__name__}.{name}")


_STAND_INS: Dict[str, StandIn] = {}
_FOUND: Dict[str, Any] = {}
"""What stand-ins stand for, once it is imported and all modules have it."""
_USERS: Dict[str, Dict[str, Any]] = {}
"""The names of each module that has stand-ins."""


def _stand_in(path: str) -> StandIn:
    if path not in _STAND_INS:
        module, _, name = path.rpartition(".")
        # An `except` clause takes only exceptions. The name tells, as the package is not imported.
        bases = (Exception,) if name.endswith(("Error", "Exception")) else ()
        _STAND_INS[path] = StandIn(name, bases, {"__module__": module, "_stands_for": path})
    return _STAND_INS[path]


def _path_of(value: object) -> Optional[str]:
    """Return what a value stands for, such as "transformers.AdamW", if it is a stand-in."""
    if isinstance(value, _StandInModule):
        return value.__name__
    if isinstance(value, StandIn) and not value._is_subclass():
        return value._stands_for
    return None


def _is_imported(path: str) -> bool:
    """Return whether the module may be imported; if not, no instance of its classes exists."""
    return any(sys.modules.get(name) is not None for name in (path, path.rpartition(".")[0]))


def _import(stand_in: StandIn) -> Any:
    """
    Return what it stands for. All modules lose their stand-ins of its package, and of others that
    are imported by now. Several threads may do this at once.
    """
    path = stand_in._stands_for
    if path not in _FOUND:
        found = _find(path)
        _replace_stand_ins(path.partition(".")[0])
        _FOUND[path] = found
    return _FOUND[path]


def _replace_stand_ins(package: str) -> None:
    """Replace stand-ins in the names of modules and of their classes."""
    for names in list(_USERS.values()):  # other threads may add to these
        for name, value in list(names.items()):
            if (real := _real(value, package)) is not value:
                names[name] = real
            elif isinstance(value, type) and value.__module__ == names.get("__name__"):
                for attribute, inner in list(vars(value).items()):
                    if (real := _real(inner, package)) is not inner:
                        setattr(value, attribute, real)


def _real(value: Any, package: str) -> Any:
    """
    Return what a value stands for, or the value. Look into tuples too: `except` takes a tuple of
    errors.
    """
    if type(value) is tuple:
        items = tuple(_real(each, package) for each in value)
        return value if all(map(operator.is_, items, value)) else items
    path = _path_of(value)
    if path is not None and (path.partition(".")[0] == package or _is_imported(path)):
        with suppress(MissingPackageError):  # reported when it is used
            return _find(path)
    return value


def _decorator(stand_in: StandIn, args: Any, kwargs: Any) -> Callable[[Any], Any]:
    """Return a decorator that calls the real decorator when the function is called."""

    def decorate(function: Any) -> Any:
        @wraps(function)
        def decorated(*args_: Any, **kwargs_: Any) -> Any:
            return _import(stand_in)(*args, **kwargs)(function)(*args_, **kwargs_)

        return decorated

    return decorate


def _real_base(base: type) -> type:
    return _import(base) if isinstance(base, StandIn) and not base._is_subclass() else base


def _find(path: str) -> Any:
    """Import and return a name of a module. Raise `MissingPackageError`."""
    package = path.partition(".")[0]
    depth, _loading.depth = _loading.depth, 0
    try:
        return _resolve(path)
    except ModuleNotFoundError as error:
        from allencv.runtime.installing import how_to_install

        missing = error.name or package
        command = how_to_install(missing)
        message = f"{path} needs the package {missing}, which is not installed"
        raise MissingPackageError(
            message if command is None else f"{message}: {command}", name=missing
        ) from error
    except AttributeError as error:
        raise MissingPackageError(
            f"{path} is not in the installed release of {package}: {error}", name=package
        ) from error
    except ImportError as error:
        raise MissingPackageError(f"{path} cannot be imported: {error}", name=package) from error
    finally:
        _loading.depth = depth


def _resolve(path: str) -> Any:
    """Return a name of a module, as `from module import name` does. Raise the import's error."""
    place, *names = path.split(".")
    value: Any = import_module(place)
    for number, name in enumerate(names, start=1):
        place = f"{place}.{name}"
        is_last = number == len(names)
        found = getattr(value, name, None)
        # A package may have a function with the name of one of its modules, as spacy.cli.download.
        is_hidden = not (is_last or isinstance(found, (ModuleType, type)))
        if isinstance(value, ModuleType) and (found is None or is_hidden):
            try:
                found = import_module(place)
            except ModuleNotFoundError as error:
                if error.name != place:
                    raise
        value = getattr(value, name) if found is None else found
    return value


class _ImportStatement:
    """Python's `__import__`, but for some packages it returns stand-ins."""

    def __init__(self, deferred: FrozenSet[str]) -> None:
        self._deferred = deferred

    def __call__(
        self,
        name: str,
        globals: Optional[Dict[str, Any]] = None,
        locals: Optional[Dict[str, Any]] = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        is_deferred = any(f"{name}.".startswith(f"{each}.") for each in self._deferred)
        # Inside a function, `locals` is None or another dictionary.
        if level == 0 and is_deferred and locals is globals is not None:
            _USERS[globals["__name__"]] = globals
            return _StandInModule(name if fromlist else name.partition(".")[0])
        return builtins.__import__(name, globals, locals, fromlist, level)


class _Loader(SourceFileLoader):
    def __init__(self, loader: SourceFileLoader, builtins_: Dict[str, Any]) -> None:
        super().__init__(loader.name, loader.path)
        self._builtins = builtins_

    def exec_module(self, module: ModuleType) -> None:
        # An import statement takes `__import__` from the builtins of its module.
        module.__dict__["__builtins__"] = self._builtins
        _loading.depth += 1
        try:
            super().exec_module(module)
        finally:
            _loading.depth -= 1


class _Finder(MetaPathFinder):
    """Find the modules of the packages that get stand-ins, with the finders after this one."""

    def __init__(self) -> None:
        self._builtins: Dict[str, Dict[str, Any]] = {}

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        package = fullname.partition(".")[0]
        if package not in DEFERRED and package not in DEFERRED_IF_INSTALLED:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader, self._builtins_of(package))
        return spec

    def _builtins_of(self, package: str) -> Dict[str, Any]:
        if package not in self._builtins:
            deferred = DEFERRED.get(package, frozenset())
            optional = DEFERRED_IF_INSTALLED.get(package, frozenset())
            deferred |= {each for each in optional if _is_installed(each)}
            self._builtins[package] = {**vars(builtins), "__import__": _ImportStatement(deferred)}
        return self._builtins[package]


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is not
        return False


def defer_imports() -> None:
    """Give stand-ins to the modules that are imported from now on."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
