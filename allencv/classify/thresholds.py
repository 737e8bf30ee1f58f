from difflib import get_close_matches
from typing import Any, Dict, List, Optional

from allencv.runtime.classifier import Classifier
from allencv.runtime.errors import InputError
from allencv.runtime.json_files import read_json


def given_thresholds(
    classifier: Classifier, threshold: Optional[float], file: Optional[str]
) -> Optional[List[float]]:
    """
    Return the thresholds for a command: those of `classifier`, or `threshold` for all labels, or
    those in a JSON `file` for some labels. Raise `InputError`.
    """
    if threshold is None and file is None:
        return classifier.thresholds
    if classifier.thresholds is None:
        raise InputError(
            f"'{classifier.name}' gives each image one label; --threshold and --thresholds are for "
            "models that give any number of them"
        )
    if threshold is not None:
        _check("--threshold", threshold)
        return [threshold] * len(classifier.labels)
    assert file is not None
    given = _read(file)
    for label, value in given.items():
        if label not in classifier.labels:
            nearest = get_close_matches(label, classifier.labels) or classifier.labels[:5]
            raise InputError(
                f"--thresholds '{file}' has {label!r}; expected labels of the model, such as "
                f"{', '.join(map(repr, nearest))}"
            )
        _check(f"--thresholds '{file}', {label!r}", value)
    return [
        given.get(label, threshold)
        for label, threshold in zip(classifier.labels, classifier.thresholds)
    ]


def _read(file: str) -> Dict[str, Any]:
    try:
        given = read_json(file)
    except (OSError, ValueError) as error:
        raise InputError(f"--thresholds '{file}' cannot be read: {error}") from None
    if not isinstance(given, dict):
        raise InputError(f"--thresholds '{file}': expected an object of labels")
    return given


def _check(place: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise InputError(f"{place} is {value!r}; expected a number in [0, 1)")
