import json
import re

from allennlp.common.checks import ConfigurationError

from allencv.catalogue.experiment import classes_without_parts
from allencv.catalogue.networks import config_of_network
from allencv.catalogue.parts import Part, part_named, registered, registries
from allencv.common.nearest_names import not_one_of
from allencv.common.snake_case import snake_case


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
    raise not_one_of("REGISTRY", name, (snake_case(each.__name__) for each in known))


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
