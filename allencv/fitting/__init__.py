"""Choose a config for a folder, a table or the name of a dataset."""

from allencv.fitting.choices import Choices, choose
from allencv.fitting.config_file import as_config, comments_on, with_header
from allencv.fitting.data_facts import DataFacts, examine_data
from allencv.fitting.data_parts import FoundData
from allencv.fitting.found_data import find_data
from allencv.fitting.options import FitOptions, FolderOptions, TableColumns

__all__ = [
    "Choices",
    "DataFacts",
    "FitOptions",
    "FolderOptions",
    "FoundData",
    "TableColumns",
    "as_config",
    "choose",
    "comments_on",
    "examine_data",
    "find_data",
    "with_header",
]
