"""From a folder, a table or the name of a data set to a config that trains on it."""

from allencv.fitting.choices import Choices, Options, choose
from allencv.fitting.config_file import as_config, as_jsonnet
from allencv.fitting.data_facts import DataFacts, examine_data
from allencv.fitting.found_data import FoundData, find_data

__all__ = [
    "Choices",
    "DataFacts",
    "FoundData",
    "Options",
    "as_config",
    "as_jsonnet",
    "choose",
    "examine_data",
    "find_data",
]
