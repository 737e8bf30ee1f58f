from allencv.data.class_weightings.balanced import Balanced
from allencv.data.class_weightings.class_weighting import ClassWeighting
from allencv.data.class_weightings.effective_number import EffectiveNumber
from allencv.data.class_weightings.explicit_weights import ExplicitWeights
from allencv.data.class_weightings.square_root import SquareRoot

__all__ = ["Balanced", "ClassWeighting", "EffectiveNumber", "ExplicitWeights", "SquareRoot"]
