"""Find the mistakes in a config without reading its data."""

import logging
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Tuple, assert_never

from allennlp.common.checks import ConfigurationError

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
    is_nullable,
)
from allencv.catalogue.experiment import experiment
from allencv.catalogue.misspelt_keys import as_written, correct_keys
from allencv.catalogue.mistakes import (
    Mistake,
    misread,
    missing_key,
    misspelt_type,
    name_of,
    name_of_network,
    refused,
    some,
    unknown_key,
    wrong_choice,
    wrong_type,
)
from allencv.catalogue.networks import config_of_network
from allencv.catalogue.numbers import wrong_numbers
from allencv.catalogue.parts import (
    Argument,
    Part,
    Path,
    default_name,
    describe,
    names_of,
    part_named,
    registered,
)
from allencv.catalogue.trial_build import keys_to_build, refusal
from allencv.catalogue.whole_config import (
    random_validation,
    schedule_mistakes,
    trainer_mistakes,
    untested,
    wrong_numbers_of_experiment,
)
from allencv.common.arguments import holds_dict, is_not_built, not_built
from allencv.common.checks import CheckedFromParams, missing_methods, positional_only
from allencv.common.nearest_names import nearest_first
from allencv.common.quiet import quiet
from allencv.common.random_state import keep_random_state
from allencv.common.records import named_values


@dataclass
class Found:
    """The mistakes in a value of the config, and the classes that it names with their places."""

    mistakes: List[Mistake]
    classes: List[Tuple[Path, type]] = field(default_factory=list)


@keep_random_state()  # a check before training must not change its weights
@quiet(logging.ERROR, hide_warnings=False)  # once, not again for each part that it builds
def find_mistakes(config: Any) -> List[Mistake]:
    """
    Return all mistakes and warnings for an evaluated config. A misspelt key is one mistake: the
    others are those of the config with the nearest key in its place.
    """
    if not isinstance(config, dict):
        return [wrong_type((), config, "an object with keys such as dataset_reader and model")]
    return _with_keys_as_meant(config)


def _with_keys_as_meant(config: Dict[str, Any]) -> List[Mistake]:
    mistakes = _find_mistakes(config)
    corrected, misspelt = correct_keys(config, mistakes)
    if not misspelt:
        return mistakes
    return misspelt + as_written(_with_keys_as_meant(corrected), misspelt)


def _find_mistakes(config: Dict[str, Any]) -> List[Mistake]:
    found = _check_arguments(config, experiment(), ())
    wrong = {mistake.path[0] for mistake in found.mistakes if mistake.path}
    if not wrong & {"trainer", "model"}:
        found.mistakes += trainer_mistakes(config, found.classes)
    if not any(mistake.path[:1] == ("trainer",) for mistake in found.mistakes):
        found.mistakes += schedule_mistakes(config, found.classes)
    if not wrong & {"dataset_reader", "validation_dataset_reader"}:
        found.mistakes += random_validation(config, found.classes)
    found.mistakes += untested(config)
    if not wrong:
        found.mistakes += wrong_numbers_of_experiment(config)
    return found.mistakes


def _check(value: Any, form: Form, path: Path) -> Found:
    match form:
        case Plain() if not form.takes(value):
            return Found([wrong_type(path, value, form.describe())])
        case Choice(values) if not form.takes(value):
            return Found([wrong_choice("wrong type", path, value, [str(each) for each in values])])
        case Anything(annotation=annotation) if is_not_built(annotation, value):
            return Found([Mistake("annotation", path, not_built(name_of(path), annotation))])
        case Plain() | Choice() | Anything():
            return Found([])
        case Object(cls):
            return _check_object(value, cls, path)
        case UnionOf():
            return _check_union(value, form, path)
        case ListOf(item) if isinstance(value, list):
            return _all(_check(each, item, (*path, index)) for index, each in enumerate(value))
        case TupleOf(items) if isinstance(value, list) and len(value) == len(items):
            pairs = enumerate(zip(value, items))
            return _all(_check(each, item, (*path, index)) for index, (each, item) in pairs)
        case DictOf(inner, key_form) if isinstance(value, dict):
            keys = [_check_key(key, key_form, (*path, key)) for key in value]
            inside = [_check(each, inner, (*path, key)) for key, each in value.items()]
            return _all([*keys, *inside])
        case ListOf() | TupleOf() | DictOf():
            return Found([wrong_type(path, value, form.describe())])
        case _:
            assert_never(form)


def _check_key(key: str, form: Form, path: Path) -> Found:
    """Check the key of a dict: a string in a config, even if it means a number."""
    if form == Plain(int) and key.removeprefix("-").isdecimal():
        return Found([])
    return _check(key, form, path)


def _all(results: Iterable[Found]) -> Found:
    whole = Found([])
    for result in results:
        whole.mistakes += result.mistakes
        whole.classes += result.classes
    return whole


def _check_union(value: Any, form: UnionOf, path: Path) -> Found:
    """Use the first member that takes the value, or else the only likely one."""
    results = [(member, _check(value, member, path)) for member in form.members]
    for _, result in results:
        if not result.mistakes:
            return result
    likely = [result for member, result in results if _is_likely(value, member)]
    if len(likely) == 1:
        return likely[0]
    return Found([wrong_type(path, value, form.describe())])


def _is_likely(value: Any, form: Form) -> bool:
    """Return whether a value is probably meant for this member of a union."""
    match form:
        case Object(cls):
            is_name = isinstance(value, str) and bool(registered(cls))
            return isinstance(value, dict) or is_name
        case DictOf():
            return isinstance(value, dict) and "type" not in value
        case ListOf() | TupleOf():
            return isinstance(value, list)
        case Anything():  # it refuses only values that are not built
            return True
        case Plain() | Choice() | UnionOf():
            return False
        case _:
            assert_never(form)


def _check_object(value: Any, cls: type, path: Path) -> Found:
    config = {"type": value} if isinstance(value, str) and registered(cls) else value
    config = named_values(cls, config)
    if not isinstance(config, dict):
        return Found([wrong_type(path, value, cls.__name__)])
    if "_pretrained" in config:
        return Found([], [(path, object)])  # its class is in an archive, which is not opened
    part, mistake = _part_of(config, cls, path)
    if part is None:
        return Found([mistake] if mistake else [])
    if part.reads_config_itself:
        return Found([], [(path, part.cls)])
    result = _check_arguments(config, part, path)
    wrong = {mistake.path[len(path)] for mistake in result.mistakes}
    right = {key: each for key, each in config.items() if key not in wrong}
    result.mistakes += wrong_numbers(right, part.cls, path)
    result.classes.append((path, part.cls))
    if issubclass(part.cls, CheckedFromParams):
        faults = [("lacks a method", each) for each in missing_methods(part.cls)]
        faults += [("by position", each) for each in positional_only(part.cls, part.constructor)]
        texts = [(kind, f"{name_of(path)}: {error}") for kind, error in faults]
        result.mistakes += [Mistake(kind, path, text) for kind, text in texts]
        if faults:
            return result
    keys = keys_to_build(part)
    if keys is None or any(mistake.path[len(path)] in keys for mistake in result.mistakes):
        return result
    classes = [each for place, each in result.classes if {*place[len(path) :][:1]} <= set(keys)]
    reason = refusal(cls, part, {key: config[key] for key in keys if key in config}, classes)
    if reason is not None:
        result.mistakes.append(refused(reason, config, path))
    return result


def _part_of(config: Dict[str, Any], cls: type, path: Path) -> Tuple[Optional[Part], Any]:
    """Return the part that a config's "type" names, or a mistake."""
    names = registered(cls)
    if not names:
        return describe(cls), None
    name = config.get("type", default_name(cls))
    if name is None:
        _, misspelt = nearest_first("type", config)
        if misspelt is not None:
            return None, misspelt_type(misspelt, path, names_of(cls))
        return None, missing_key(path, "type", some(names_of(cls)), names_of(cls))
    if isinstance(name, str) and name in names:
        return part_named(cls, name), None
    if isinstance(name, str) and (network := config_of_network(name, cls)) is not None:
        return None, name_of_network((*path, "type"), name, network)
    if isinstance(name, str) and "." in name:
        try:  # the path of a class, which AllenNLP imports too
            found, _ = cls.resolve_class_name(name)  # type: ignore[attr-defined]
        except ConfigurationError as error:
            return None, Mistake("unknown type", (*path, "type"), f"{name_of(path)}.type: {error}")
        if isinstance(found, type):
            return describe(found, cls, name), None
    return None, wrong_choice("unknown type", (*path, "type"), name, names_of(cls))


def _check_arguments(config: Dict[str, Any], part: Part, path: Path) -> Found:
    """Check an object in a config against its part's arguments."""
    type_keys = {"type"} if part.registry is not None else set()
    result = Found([])
    for key, value in config.items():
        argument = part.arguments.get(key)
        if argument is not None:
            result = _all([result, _check_argument(value, argument, part, (*path, key))])
        elif key not in type_keys and not part.takes_others:
            result.mistakes.append(unknown_key(key, part, path, bool(type_keys - config.keys())))
    for argument in part.in_config.values():
        if argument.is_required and argument.name not in config:
            expected = argument.form.describe()
            result.mistakes.append(missing_key(path, argument.name, expected))
    return result


def _check_argument(value: Any, argument: Argument, part: Part, path: Path) -> Found:
    if value is None and (is_nullable(argument.form) or argument.default is None):
        return Found([])
    result = _check(value, argument.form, path)
    if argument.supplies_more:  # the constructor may add the missing keys
        result.mistakes = [each for each in result.mistakes if not _may_be_supplied(each)]
    is_part = result.classes or (holds_dict(value) and not any(argument.form.classes()))
    if argument.misread is not None and is_part:
        result.mistakes.append(misread(path, argument.misread, part))
    return result


def _may_be_supplied(mistake: Mistake) -> bool:
    return mistake.kind == "refused" or (
        mistake.kind == "missing key" and mistake.path[-1] != "type"
    )
