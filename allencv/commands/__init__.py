"""
AllenNLP's commands as `allencv` offers them: with every part registered, and with archives opened
as data. Importing this package replaces AllenNLP's own commands of the same names.
"""

from allencv.commands.check_data import CheckData
from allencv.commands.evaluate import Evaluate
from allencv.commands.find_lr import FindLearningRate
from allencv.commands.predict import Predict
from allencv.commands.show_batch import ShowBatch
from allencv.commands.sweep import Sweep
from allencv.commands.train import Train

__all__ = ["CheckData", "Evaluate", "FindLearningRate", "Predict", "ShowBatch", "Sweep", "Train"]
