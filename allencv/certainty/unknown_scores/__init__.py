from allencv.certainty.unknown_scores.auto import Auto
from allencv.certainty.unknown_scores.energy import Energy
from allencv.certainty.unknown_scores.mahalanobis import Mahalanobis
from allencv.certainty.unknown_scores.max_probability import MaxProbability
from allencv.certainty.unknown_scores.nearest import Nearest
from allencv.certainty.unknown_scores.unknown_score import KnownImages, UnknownScore

__all__ = [
    "Auto",
    "Energy",
    "KnownImages",
    "Mahalanobis",
    "MaxProbability",
    "Nearest",
    "UnknownScore",
]
