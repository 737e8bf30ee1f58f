"""
Describe everything that a config can name: every registered part, read from its constructor as
AllenNLP reads it. The catalogue, the JSON Schema of configs and the search for mistakes share these
descriptions.
"""

from allencv.catalogue import markdown, text
from allencv.catalogue.as_json import part_as_json, registry_as_json
from allencv.catalogue.config_files import (
    DATA_KEYS,
    READER_KEYS,
    check_config,
    check_file,
    read_config,
)
from allencv.catalogue.config_page import config_page
from allencv.catalogue.examples import snippet
from allencv.catalogue.experiment import experiment, places, registries_that_matter
from allencv.catalogue.find_mistakes import find_mistakes
from allencv.catalogue.finding import find_part, find_registry
from allencv.catalogue.mistakes import Mistake
from allencv.catalogue.parts import Argument, Part, describe, part_named, parts_of, registries
from allencv.catalogue.schema import experiment_schema

__all__ = [
    "DATA_KEYS",
    "READER_KEYS",
    "Argument",
    "Mistake",
    "Part",
    "check_config",
    "check_file",
    "config_page",
    "describe",
    "experiment",
    "experiment_schema",
    "find_mistakes",
    "find_part",
    "find_registry",
    "markdown",
    "part_as_json",
    "part_named",
    "parts_of",
    "places",
    "read_config",
    "registries",
    "registries_that_matter",
    "registry_as_json",
    "snippet",
    "text",
]
