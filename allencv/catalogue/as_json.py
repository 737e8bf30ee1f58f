"""The catalogue as JSON."""

from typing import Any, Dict, List

from allencv.catalogue.examples import snippet
from allencv.catalogue.parts import REQUIRED, Part, describe, parts_of, registered


def part_as_json(part: Part) -> Dict[str, Any]:
    """Return a part as JSON."""
    return {
        "registry": part.registry and part.registry.__name__,
        "name": part.name,
        "class": part.path,
        "summary": part.documentation.summary,
        "description": part.documentation.body,
        "arguments": [
            {
                "name": each.name,
                "type": each.form.describe(),
                "required": each.is_required,
                **({} if each.default is REQUIRED else {"default": each.default}),
                "description": each.description,
            }
            for each in part.in_config.values()
        ],
        "supplied": [each.name for each in part.arguments.values() if each.supplied],
        "example": snippet(part),
    }


def registry_as_json(registry: type) -> List[Dict[str, Any]]:
    """Return a registry's parts as JSON, or the class itself if without parts."""
    parts = parts_of(registry) if registered(registry) else [describe(registry)]
    return [part_as_json(part) for part in parts]
