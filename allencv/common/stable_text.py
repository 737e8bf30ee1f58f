import hashlib
import inspect
import secrets
from enum import Enum
from functools import cache, cached_property, partial
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Dict, FrozenSet, Optional, Sequence

import numpy as np
import torch

OF_MODULES = frozenset(vars(torch.nn.Module()))
"""Attributes of every `torch.nn.Module`; some of them differ from process to process."""
LIBRARIES = ("allencv", "allennlp", "builtins", "numpy", "timm", "torch", "torchvision")
"""Packages whose code is known by their version."""


def stable_text(value: object) -> str:
    """
    Return a text that says all about a value: equal values have the same text in every process, and
    others have another one. An object is its class and its attributes; a tensor is its type, shape
    and a hash of its numbers. A class that is not from one of `LIBRARIES` is its source code too,
    so that a change of the code changes the text. What cannot be described has a random text.
    """
    return _text(value, frozenset())


def _text(value: Any, inside: FrozenSet[int]) -> str:
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, PurePath)):
        return repr(value)
    if isinstance(value, (torch.dtype, torch.Size, torch.device, np.dtype, slice, range)):
        return repr(value)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous()
        return _of_numbers(value.dtype, value.shape, value.reshape(-1).view(torch.uint8).numpy())
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return _of_numbers(value.dtype, value.shape, value)
    if isinstance(value, (type, BuiltinFunctionType)):
        return _of_code(value)
    if id(value) in inside:
        return "itself"
    inside = inside | {id(value)}
    if isinstance(value, FunctionType):
        cells = [each.cell_contents for each in value.__closure__ or ()]
        return _of_code(value) + _text([cells, value.__defaults__, value.__kwdefaults__], inside)
    if isinstance(value, MethodType):
        return _text([value.__func__, value.__self__], inside)
    if isinstance(value, dict):
        items = [f"{_text(key, inside)}: {_text(each, inside)}" for key, each in value.items()]
        return f"{{{', '.join(items)}}}"
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_text(each, inside) for each in value]
        ordered = sorted(items) if isinstance(value, (set, frozenset)) else items
        return f"{type(value).__name__}[{', '.join(ordered)}]"
    if isinstance(value, partial):
        return f"partial{_text((value.func, value.args, value.keywords), inside)}"
    if isinstance(value, Enum):
        return f"{_class(value)}.{value.name}"
    attributes = _attributes(value)
    if attributes is None:
        return secrets.token_hex()
    return f"{_class(value)}({_text(attributes, inside)})"


def _attributes(value: object) -> Optional[Dict[str, object]]:
    """Return what an object holds, without what it computes; `None` if that is not known."""
    cls = type(value)
    slots = [name for each in cls.__mro__ for name in vars(each).get("__slots__", ())]
    if not hasattr(value, "__dict__") and not slots:
        return None
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    held |= getattr(value, "__dict__", {})
    if isinstance(value, torch.nn.Module):
        kept = {name: each for name, each in held.items() if name not in OF_MODULES}
        return {**kept, **value._modules, **value._parameters, **value._buffers}
    return {
        name: each
        for name, each in held.items()
        if not isinstance(inspect.getattr_static(cls, name, None), cached_property)
    }


def _of_numbers(dtype: object, shape: Sequence[int], numbers: np.ndarray) -> str:
    return f"{dtype}{list(shape)}:{hashlib.sha256(numbers.tobytes()).hexdigest()}"


def _class(value: object) -> str:
    cls: Any = type(value)
    return _of_code(cls)


@cache
def _of_code(named: Any) -> str:
    """Return the name of a class or function, with its code unless that is of a library."""
    name = f"{named.__module__}.{named.__qualname__}"
    if str(named.__module__).partition(".")[0] in LIBRARIES and "<lambda>" not in name:
        return name
    try:
        return f"{name}:{hashlib.sha256(inspect.getsource(named).encode()).hexdigest()}"
    except (OSError, TypeError):
        return name
