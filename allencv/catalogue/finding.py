import json
import re
from difflib import get_close_matches
from typing import Dict, List

from allennlp.common.checks import ConfigurationError

from allencv.catalogue.experiment import classes_without_parts
from allencv.catalogue.networks import config_of_network
from allencv.catalogue.parts import Part, part_named, registered, registries
from allencv.common.nearest_names import not_one_of
from allencv.common.snake_case import snake_case
from allencv.modules.im2im_encoders import Im2ImEncoder


def find_registry(name: str) -> type:
    """
    Return the class with registered parts by its name in any spelling: `Im2ImEncoder`,
    `im2im_encoder` or `im2im-encoder`; or a class that a config describes without a "type".

    # Raises

    `ConfigurationError` with the nearest names if there is none.
    """
    known = [*registries(), *classes_without_parts()]
    for registry in known:
        if _letters(registry.__name__) == _letters(name):
            return registry
    raise ConfigurationError(f"REGISTRY is {name!r}{_instead_of(name, known)}")


def _instead_of(name: str, known: List[type]) -> str:
    """Return what to write in place of an unknown registry: perhaps the name of a part is meant."""
    places: Dict[str, List[type]] = {}
    for registry in registries():
        for part in registered(registry):
            places.setdefault(part, []).append(registry)
    if (network := config_of_network(name, Im2ImEncoder)) is not None and name not in places:
        return f", the name of a network; in a config: {json.dumps(network)}"
    near = get_close_matches(name.lower(), [snake_case(each.__name__) for each in known])
    if near and name not in places:
        return f"; expected one of {', '.join(near)}; 'allencv components' lists all"
    parts = [name] if name in places else get_close_matches(name.lower(), places)
    commands = [
        f"'allencv components {snake_case(registry.__name__)} {part}'"
        for part in parts
        for registry in places[part]
    ]
    if not commands:
        return ", which is no kind of part; 'allencv components' lists all"
    what = "which is the name of a part" if name in places else "which is near the name of a part"
    return f", {what}, not a kind of part; expected {' or '.join(commands)}"


def find_part(registry: type, name: str) -> Part:
    """
    Return the part with a name.

    # Raises

    `ConfigurationError` with the nearest names if there is none.
    """
    if name not in registered(registry):
        if (network := config_of_network(name, registry)) is not None:
            raise ConfigurationError(
                f"NAME ({registry.__name__}) is {name!r}, the name of a network; expected the name "
                f"of a part, such as {network['type']}. In a config: {json.dumps(network)}"
            )
        raise not_one_of(f"NAME ({registry.__name__})", name, registered(registry))
    return part_named(registry, name)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
