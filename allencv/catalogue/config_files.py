import json
import logging
import os
import re
from pathlib import Path as File
from typing import Any, Collection, Dict, List, Optional, Tuple

import _jsonnet  # type: ignore[import-untyped]
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.common.params import _environment_variables, parse_overrides, with_overrides

from allencv.catalogue.find_mistakes import find_mistakes
from allencv.catalogue.key_lines import find_fields, line_of
from allencv.catalogue.mistakes import Mistake

logger = logging.getLogger(__name__)

READER_KEYS = ("dataset_reader", "validation_dataset_reader")
DATA_KEYS = (*READER_KEYS, "data_loader", "validation_data_loader", "vocabulary")
"""The keys of a config for commands that only read its data."""
PART_KEYS = (*DATA_KEYS, "model", "trainer")
"""The keys whose values are parts."""

_VARIABLE = re.compile(r"std\.extVar\(\s*[\"'](\w+)[\"']\s*\)")
_UNKNOWN_VARIABLE = re.compile(r"undefined external variable: (.+)")


def check_file(file: str, overrides: str = "") -> List[Mistake]:
    """
    Find all mistakes in a config file, with their lines if known. Environment variables are the
    external variables of jsonnet, as in training.

    # Raises

    `ConfigurationError` if the file or `overrides` cannot be read.
    """
    return _read(file, overrides)[1]


def read_config(file: str, overrides: str = "", keys: Optional[Collection[str]] = None) -> Params:
    """
    Check and read a config file for a command. Warnings are logged. With `keys`, ignore missing
    keys, and mistakes under other keys of the config.

    # Raises

    `ConfigurationError` with all mistakes, a line for each, if there are any.
    """
    config, mistakes = _read(file, overrides)
    if keys is not None:
        mistakes = [each for each in mistakes if _concerns(each, keys)]
    for mistake in mistakes:
        if mistake.is_warning:
            logger.warning(mistake.text(file).replace("warning: ", ""))
    errors = [mistake.text(file) for mistake in mistakes if not mistake.is_warning]
    if errors:
        raise ConfigurationError("\n".join(errors))
    return Params(config)


def check_config(config: Dict[str, Any]) -> None:
    """
    Check an evaluated config. Warnings are logged.

    # Raises

    `ConfigurationError` with all mistakes, a line for each, if there are any.
    """
    mistakes = find_mistakes(config)
    for mistake in mistakes:
        if mistake.is_warning:
            logger.warning(mistake.message)
    if errors := [mistake.message for mistake in mistakes if not mistake.is_warning]:
        raise ConfigurationError("\n".join(errors))


def _concerns(mistake: Mistake, keys: Collection[str]) -> bool:
    if not mistake.path:
        return True
    is_top = len(mistake.path) == 1 and mistake.kind == "missing key"
    return mistake.path[0] in keys and not is_top


def _read(file: str, overrides: str) -> Tuple[Any, List[Mistake]]:
    """Return an evaluated config file and its mistakes. The file is read once."""
    source = _source(file)
    try:
        text = _jsonnet.evaluate_snippet(file, source, ext_vars=_environment_variables())
    except RuntimeError as error:
        return None, _jsonnet_mistakes(str(error), file, source)
    config = _with_objects(json.loads(text))
    changed = _overrides(overrides)
    if changed:
        try:
            config = with_overrides(config, changed)
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(overrides, error) from None
    config = _with_objects(config)
    mistakes = find_mistakes(config)
    fields = find_fields(source)
    for mistake in mistakes:
        if not any(is_below(mistake.key, key) for key in changed):
            mistake.line = line_of(mistake.path, config, fields)
    return config, sorted(_each_once(mistakes), key=lambda mistake: mistake.line or 0)


def _with_objects(config: Any) -> Any:
    """Return the config with objects for parts that it gives by their names alone."""
    if not isinstance(config, dict):
        return config
    return {
        key: {"type": value} if key in PART_KEYS and isinstance(value, str) else value
        for key, value in config.items()
    }


def _each_once(mistakes: List[Mistake]) -> List[Mistake]:
    """Join equal mistakes of one line, which a function or a variable puts into several places."""
    found: Dict[Tuple[int, str], List[Mistake]] = {}
    for number, mistake in enumerate(mistakes):
        line = mistake.line or -number  # those without a line stay
        found.setdefault((line, mistake.message.replace(mistake.key, "")), []).append(mistake)
    for first, *others in found.values():
        if others:
            first.message += f" (also {', '.join(each.key for each in others)})"
    return [first for first, *_ in found.values()]


def _source(file: str) -> str:
    """Return the text of a config file. As in AllenNLP, it may be a URL or in an archive."""
    expected = "expected the path of an experiment config file"
    try:
        source = File(cached_path(file)).read_text(encoding="utf-8")
    except IsADirectoryError:
        raise ConfigurationError(f"CONFIG is '{file}'; {expected}, and this is a folder") from None
    except FileNotFoundError:
        raise ConfigurationError(f"CONFIG is '{file}'; {expected}, and there is none") from None
    except OSError as error:
        reason = error.strerror or error
        raise ConfigurationError(
            f"CONFIG is '{file}'; {expected}, and this cannot be read: {reason}"
        ) from None
    except UnicodeDecodeError:
        source = "\0"
    if "\0" in source:
        raise ConfigurationError(f"CONFIG is '{file}'; {expected}, and this is not UTF-8 text")
    if not source.strip():
        raise ConfigurationError(f"CONFIG is '{file}'; {expected}, and this is empty")
    return source


def _overrides(overrides: str) -> Dict[str, Any]:
    try:
        return dict(parse_overrides(overrides, ext_vars=_environment_variables()))
    except (RuntimeError, TypeError, ValueError) as error:
        raise _unreadable(overrides, error) from None


def _unreadable(overrides: str, error: Exception) -> ConfigurationError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ConfigurationError(
        f"--overrides is '{overrides}', which does not fit ({reason}); expected an object in "
        'jsonnet with keys of the config, such as {"trainer.num_epochs": 10}, or a new key as a '
        'whole: {"distributed": {"cuda_devices": [0, 1]}}'
    )


def is_below(key: str, above: str) -> bool:
    """Return whether a dotted key is another one, or below it."""
    return f"{key}.".startswith(f"{above}.")


def _jsonnet_mistakes(message: str, file: str, source: str) -> List[Mistake]:
    """Return jsonnet's error as mistakes. Report all unset variables, not just the first."""
    if found := _UNKNOWN_VARIABLE.search(message):
        unset: Dict[str, Optional[int]] = {}
        for number, line in enumerate(source.splitlines(), start=1):
            for name in _VARIABLE.findall(line.split("//")[0]):
                if name not in os.environ:
                    unset.setdefault(name, number)
        unset.setdefault(found[1], None)  # in an imported file
        return [
            Mistake("jsonnet", (), unset_variable(name), line=number)
            for name, number in unset.items()
        ]
    first, *rest = message.strip().splitlines()
    text = re.sub(r"^(STATIC|RUNTIME) ERROR: ", "", first)
    return [Mistake("jsonnet", (), _without_place(text, file), line=_line(first, rest, file))]


def unset_variable(name: str) -> str:
    """Return what to do about an environment variable that `std.extVar` cannot find."""
    return (
        f'the environment variable {name} is not set, and std.extVar("{name}") reads it; expected '
        f"it before the command: {name}=VALUE allencv ..., or for all commands: export {name}=VALUE"
    )


def _line(first: str, trace: List[str], file: str) -> Optional[int]:
    """Return the line of a syntax error, or the first line of the trace in this file."""
    for text in (first, *trace):
        match = re.search(re.escape(file) + r":\(?(\d+):", text)
        if match:
            return int(match[1])
    return None


def _without_place(text: str, file: str) -> str:
    return re.sub("^" + re.escape(file) + r":[\d:()-]+:? ?", "", text)
