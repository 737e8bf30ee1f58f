"""Examples of configs that build a part."""

import contextlib
import json
import re
from functools import cache
from typing import Any, Dict, Tuple, assert_never

from allencv.catalogue.argument_types import (
    NULL,
    Anything,
    Choice,
    DictOf,
    Form,
    ListOf,
    Object,
    Plain,
    TupleOf,
    UnionOf,
    members_of,
)
from allencv.catalogue.parts import Argument, Part, default_name, describe, part_named, registered
from allencv.common.jsonnet import to_jsonnet
from allencv.modules.im2im_encoders import Im2ImEncoder

USUAL: Dict[str, Any] = {
    "bits": 4,
    "data_path": "data/train",
    "degrees": 15,
    "dtype": "float32",
    "final_size": 224,
    "hidden_channels": 64,
    "hidden_dims": 64,
    "initial_size": 160,
    "input_channels": 512,
    "input_dim": 512,
    "kernel_size": 5,
    "max_size": 256,
    "mean": [0.485, 0.456, 0.406],
    "mean_vector": [0, 0, 0],
    "min_size": 224,
    "padding": 4,
    "quality": [50, 95],
    "sharpness_factor": 2,
    "size": 224,
    "step_size": 30,
    "std": [0.229, 0.224, 0.225],
    "target_size": [224, 224],
    "threshold": 128,
    "train_data_path": "data/train",
    "transformation_matrix": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}
"""Typical values by the names of arguments."""
OF_IMAGES: Dict[str, Any] = {"input_channels": 3}
"""The same for parts that take images rather than feature images."""

_PLAIN: Dict[type, Any] = {str: "name", int: 1, float: 0.5, bool: True, type(None): None}


@cache
def _example_of(registry: type) -> str:
    """Return the name of the simplest part, if possible not one of AllenNLP's."""
    default = default_name(registry)
    if default is not None:
        return default

    def cost(name: str) -> Tuple[bool, int]:
        part = part_named(registry, name)
        return part.from_allennlp, sum(each.is_required for each in part.arguments.values())

    return min(registered(registry), key=cost)


def example_config(part: Part) -> Dict[str, Any]:
    """Return the config of a part with only its required arguments."""
    config: Dict[str, Any] = {} if part.name is None else {"type": part.name}
    for argument in part.arguments.values():
        if argument.is_required:
            config[argument.name] = example_value(argument)
            if issubclass(part.cls, Im2ImEncoder) and argument.name in OF_IMAGES:
                config[argument.name] = OF_IMAGES[argument.name]
    return config


def example_value(argument: Argument) -> Any:
    """
    Return an example value for an argument: one in its description (`"resnet50"`, `[30, 60]`), one
    typical for its name, or one of its type.
    """
    quoted = re.search(r'"([^"{}]+)"', argument.description)
    if quoted and Plain(str) in members_of(argument.form):
        return quoted[1]
    for code in re.findall(r"`([\[{].+?[\]}])`", argument.description):
        with contextlib.suppress(ValueError):
            return json.loads(code)
    if argument.name in USUAL:
        return USUAL[argument.name]
    return _of_form(argument.form)


def _of_form(form: Form) -> Any:
    match form:
        case Plain(kind):
            return _PLAIN[kind]
        case Choice(values):
            return values[0]
        case Object(cls):
            part = part_named(cls, _example_of(cls)) if registered(cls) else describe(cls)
            return example_config(part)
        case ListOf(item):
            return [_of_form(item)]
        case TupleOf(items):
            return [_of_form(item) for item in items]
        case DictOf(value):
            return {"name": _of_form(value)}
        case UnionOf(members):
            return _of_form(next(member for member in members if member != NULL))
        case Anything():
            return 1
        case _:
            assert_never(form)


def snippet(part: Part) -> str:
    """Return a part in jsonnet: the example in its docstring, or its required arguments."""
    return part.documentation.example or to_jsonnet(example_config(part))
