"""Continue the search for mistakes as if misspelt keys had their nearest names."""

import copy
from dataclasses import replace
from typing import Any, Dict, List, Tuple

from allencv.catalogue.mistakes import Mistake
from allencv.catalogue.parts import Path


def correct_keys(
    config: Dict[str, Any], mistakes: List[Mistake]
) -> Tuple[Dict[str, Any], List[Mistake]]:
    """
    Return a config with the nearest names in place of unknown keys, and the mistakes that this
    corrects. A name that the object has already, or that two keys are near to, is used once.
    """
    corrected = copy.deepcopy(config)
    misspelt: List[Mistake] = []
    for mistake in mistakes:
        if mistake.kind != "unknown key" or mistake.nearest is None:
            continue
        place: Any = corrected
        *keys, last = mistake.path
        for key in keys:
            place = place[key]
        if mistake.nearest not in place:
            place[mistake.nearest] = place.pop(last)
            misspelt.append(mistake)
    return corrected, misspelt


def as_written(mistakes: List[Mistake], misspelt: List[Mistake]) -> List[Mistake]:
    """
    Return mistakes in a corrected config with the paths in the original one. Leave out mistakes of
    the moved values themselves: their keys may mean something else.
    """
    written: Dict[Path, Path] = {
        (*each.path[:-1], str(each.nearest)): each.path for each in misspelt
    }
    return [
        replace(each, path=_as_written(each.path, written))
        for each in mistakes
        if each.path not in written
    ]


def _as_written(path: Path, written: Dict[Path, Path]) -> Path:
    for end in range(len(path), 0, -1):
        if path[:end] in written:
            return (*written[path[:end]], *path[end:])
    return path
