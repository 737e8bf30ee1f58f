"""
The commands of `allencv`. They know every part, and run no code from archives by default. Importing
this package replaces AllenNLP's of the same names.
"""

from allencv.commands.build_vocab import BuildVocab
from allencv.commands.check_config import CheckConfig
from allencv.commands.check_data import CheckData
from allencv.commands.classify import Classify
from allencv.commands.components import Components
from allencv.commands.count_instances import CountInstances
from allencv.commands.diff import Diff
from allencv.commands.evaluate import Evaluate
from allencv.commands.explain import Explain
from allencv.commands.export import Export
from allencv.commands.find_lr import FindLearningRate
from allencv.commands.fit import Fit
from allencv.commands.predict import Predict
from allencv.commands.print_results import PrintResults
from allencv.commands.report import Report
from allencv.commands.serve import Serve
from allencv.commands.show_batch import ShowBatch
from allencv.commands.sweep import Sweep
from allencv.commands.train import Train

__all__ = [
    "BuildVocab",
    "CheckConfig",
    "CheckData",
    "Classify",
    "Components",
    "CountInstances",
    "Diff",
    "Evaluate",
    "Explain",
    "Export",
    "FindLearningRate",
    "Fit",
    "Predict",
    "PrintResults",
    "Report",
    "Serve",
    "ShowBatch",
    "Sweep",
    "Train",
]
