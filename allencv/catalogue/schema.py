"""The JSON Schema of a config, for completion and checks in editors."""

import math
from typing import Any, Dict, Iterable, List, assert_never

from allencv.catalogue.argument_types import (
    Anything,
    Choice,
    DictOf,
    Form,
    ListOf,
    Object,
    Plain,
    TupleOf,
    UnionOf,
)
from allencv.catalogue.experiment import experiment
from allencv.catalogue.parts import (
    REQUIRED,
    Argument,
    Part,
    default_name,
    describe,
    parts_of,
    registered,
)

Schema = Dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
_PRETRAINED: Schema = {
    "description": "A part of a trained model: the module at a path in an archive.",
    "type": "object",
    "properties": {
        "_pretrained": {
            "type": "object",
            "properties": {
                "archive_file": {"type": "string"},
                "module_path": {"type": "string"},
                "freeze": {"type": "boolean", "default": True},
            },
            "required": ["archive_file", "module_path"],
            "additionalProperties": False,
        }
    },
    "required": ["_pretrained"],
    "additionalProperties": False,
}
_CLASS_PATH: Schema = {
    "description": 'A class by its Python path, such as "my_package.my_module.MyClass".',
    "type": "object",
    "properties": {"type": {"type": "string", "pattern": "\\."}},
    "required": ["type"],
}


def experiment_schema() -> Schema:
    """
    Return the schema of configs for `allencv train`, with all currently registered parts. A class
    with registered parts is one of them, selected by "type".
    """
    definitions: Dict[str, Schema] = {"_pretrained": _PRETRAINED, "_class_path": _CLASS_PATH}
    root = _Schemas(definitions).of_part(experiment())
    return {
        "$schema": DIALECT,
        "title": "An experiment",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


class _Schemas:
    """Makes schemas, and puts those of the named classes into `definitions`."""

    def __init__(self, definitions: Dict[str, Schema]) -> None:
        self.definitions = definitions
        self.keys: Dict[type, str] = {}

    def of_part(self, part: Part) -> Schema:
        """Return the schema of a part, without arguments that training supplies."""
        schema: Schema = {"type": "object", "properties": {}}
        if part.documentation.summary:
            schema["description"] = part.documentation.summary
        required: List[str] = []
        if part.name is not None and part.registry is not None:
            schema["properties"]["type"] = {"const": part.name}
            if part.name != default_name(part.registry):
                required.append("type")
        for argument in part.arguments.values():
            if not argument.supplied or isinstance(argument.form, Plain):
                schema["properties"][argument.name] = self.of_argument(argument)
            if argument.is_required and not part.reads_config_itself:
                required.append(argument.name)
        if required:
            schema["required"] = required
        if not (part.takes_others or part.reads_config_itself):
            schema["additionalProperties"] = False
        return schema

    def of_argument(self, argument: Argument) -> Schema:
        schema = self.of_form(argument.form)
        if argument.description:
            schema["description"] = argument.description
        if argument.default is not REQUIRED and not _is_infinite(argument.default):
            schema["default"] = argument.default
        return schema

    def of_form(self, form: Form) -> Schema:
        match form:
            case Plain(kind):
                return {"type": _TYPES[kind]}
            case Choice(values, names):
                return {"enum": list(dict.fromkeys((*values, *names)))}
            case Object(cls):
                return {"$ref": f"#/$defs/{self.define(cls)}"}
            case ListOf(item):
                return {"type": "array", "items": self.of_form(item)}
            case TupleOf(forms):
                items = [self.of_form(each) for each in forms]
                length = len(items)
                return {"type": "array", "prefixItems": items, "minItems": length, "items": False}
            case DictOf(value):
                return {"type": "object", "additionalProperties": self.of_form(value)}
            case UnionOf(members):
                return self._any_of(members)
            case Anything():
                return {}
            case _:
                assert_never(form)

    def _any_of(self, members: Iterable[Form]) -> Schema:
        plain = [_TYPES[each.type] for each in members if isinstance(each, Plain)]
        others = [self.of_form(each) for each in members if not isinstance(each, Plain)]
        if not others:
            return {"type": plain}
        together = [{"type": plain[0] if len(plain) == 1 else plain}] if plain else []
        return {"anyOf": [*others, *together]}

    def define(self, cls: type) -> str:
        """Define a class once, and return its key."""
        if cls in self.keys:
            return self.keys[cls]
        key = cls.__name__
        while key in self.definitions:  # another class of the same name
            key += "_"
        self.keys[cls] = key
        self.definitions[key] = {}  # a placeholder, as it may contain itself
        if registered(cls):
            self.definitions[key] = self._one_of_the_parts(cls, key)
        else:
            self.definitions[key] = self.of_part(describe(cls))
        return key

    def _one_of_the_parts(self, cls: type, key: str) -> Schema:
        kinds: List[Schema] = []
        short: List[str] = []
        for part in parts_of(cls):
            part_key = f"{key}.{part.name}"
            self.definitions[part_key] = self.of_part(part)
            kinds.append({"$ref": f"#/$defs/{part_key}"})
            if not any(argument.is_required for argument in part.arguments.values()):
                short.append(str(part.name))
        kinds += [{"$ref": "#/$defs/_class_path"}, {"$ref": "#/$defs/_pretrained"}]
        if short:
            kinds.append({"description": "A part by its name only.", "enum": short})
        return {"description": describe(cls).documentation.summary, "oneOf": kinds}


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)  # JSON has no such number
