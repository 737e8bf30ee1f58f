import json
import os
import re
from pathlib import Path as File
from typing import Any, Dict, List, Optional

import _jsonnet  # type: ignore[import-untyped]
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import _environment_variables, parse_overrides, with_overrides

from allencv.catalogue.checking import find_mistakes
from allencv.catalogue.lines import find_fields, line_of
from allencv.catalogue.mistakes import Mistake

_VARIABLE = re.compile(r"std\.extVar\(\s*[\"'](\w+)[\"']\s*\)")
_UNKNOWN_VARIABLE = "undefined external variable"


def check_file(file: str, overrides: str = "") -> List[Mistake]:
    """
    All mistakes of a config file, with their lines where these can be told. Environment variables
    are the external variables of jsonnet, as in training.

    # Raises

    `ConfigurationError` if there is no such file, or `overrides` cannot be read.
    """
    if not File(file).is_file():
        raise ConfigurationError(
            f"CONFIG is '{file}'; expected the path of an experiment config file"
        )
    source = File(file).read_text(encoding="utf-8")
    try:
        config = json.loads(_jsonnet.evaluate_file(file, ext_vars=_environment_variables()))
    except RuntimeError as error:
        return _jsonnet_mistakes(str(error), file, source)
    changed = _overrides(overrides)
    if changed:
        try:
            config = with_overrides(config, changed)
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(overrides, error) from None
    mistakes = find_mistakes(config)
    fields = find_fields(source)
    for mistake in mistakes:
        if not any(_is_below(mistake.key, key) for key in changed):
            mistake.line = line_of(mistake.path, config, fields)
    return sorted(mistakes, key=lambda mistake: mistake.line or 0)


def _overrides(overrides: str) -> Dict[str, Any]:
    try:
        return dict(parse_overrides(overrides, ext_vars=_environment_variables()))
    except (RuntimeError, TypeError, ValueError) as error:
        raise _unreadable(overrides, error) from None


def _unreadable(overrides: str, error: Exception) -> ConfigurationError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ConfigurationError(
        f"--overrides is '{overrides}', which does not fit ({reason}); expected an object in "
        'jsonnet with keys of the config, such as {"trainer.num_epochs": 10}'
    )


def _is_below(key: str, changed: str) -> bool:
    return f"{key}.".startswith(f"{changed}.")


def _jsonnet_mistakes(message: str, file: str, source: str) -> List[Mistake]:
    """What jsonnet says; of variables that are not set, all, where it tells the first."""
    if _UNKNOWN_VARIABLE in message:
        unset: Dict[str, int] = {}
        for number, line in enumerate(source.splitlines(), start=1):
            for name in _VARIABLE.findall(line.split("//")[0]):
                if name not in os.environ:
                    unset.setdefault(name, number)
        if unset:
            return [
                Mistake(
                    "jsonnet",
                    (),
                    f"the variable {name} is not set; expected it before the command: {name}=...",
                    line=number,
                )
                for name, number in unset.items()
            ]
    first, *rest = message.strip().splitlines()
    text = re.sub(r"^(STATIC|RUNTIME) ERROR: ", "", first)
    return [Mistake("jsonnet", (), _without_place(text, file), line=_line(first, rest, file))]


def _line(first: str, trace: List[str], file: str) -> Optional[int]:
    """The line of an error of syntax, or the first of the trace that is in the file itself."""
    for text in (first, *trace):
        match = re.search(re.escape(file) + r":\(?(\d+):", text)
        if match:
            return int(match[1])
    return None


def _without_place(text: str, file: str) -> str:
    return re.sub("^" + re.escape(file) + r":[\d:()-]+:? ?", "", text)
