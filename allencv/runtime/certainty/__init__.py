"""
What a classifier knows about its own answers: calibrated probabilities, sets of labels, which
images to answer, and which are unlike all that it knows. Applied here with numpy alone; fitted by
`allencv.certainty`.
"""

from allencv.runtime.certainty.certainty import Certainty, Judgement
from allencv.runtime.certainty.label_sets import LabelSets
from allencv.runtime.certainty.scaling import Scaling
from allencv.runtime.certainty.selection import Selection
from allencv.runtime.certainty.unknown_rule import UnknownRule

__all__ = ["Certainty", "Judgement", "LabelSets", "Scaling", "Selection", "UnknownRule"]
