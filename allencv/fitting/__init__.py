"""Choose a config for a folder, a table or the name of a data set."""

from allencv.fitting.choices import Choices, Options, choose
from allencv.fitting.config_file import as_config, as_jsonnet
from allencv.fitting.data_facts import DataFacts, examine_data
from allencv.fitting.data_parts import FoundData
from allencv.fitting.found_data import find_data
from allencv.fitting.options import FolderOptions, TableColumns

__all__ = [
    "Choices",
    "DataFacts",
    "FolderOptions",
    "FoundData",
    "Options",
    "TableColumns",
    "as_config",
    "as_jsonnet",
    "choose",
    "examine_data",
    "find_data",
]
