from allennlp.common.checks import ConfigurationError

from allencv.data.class_weightings.class_weighting import ClassWeighting


@ClassWeighting.register("effective_number")
class EffectiveNumber(ClassWeighting):
    """
    Weights an image by the inverse of the effective number of images of its class,
    `(1 - beta ** count) / (1 - beta)`: further images add less (Cui et al. 2019, arXiv:1901.05555).

    Registered as a `ClassWeighting` with name "effective_number".

    # Parameters

    beta : `float`, optional (default = `0.9999`)
        In [0, 1): 0 weights all images equally; values near 1 approach "balanced".
    """

    def __init__(self, beta: float = 0.9999) -> None:
        if not 0 <= beta < 1:
            raise ConfigurationError(
                f"effective_number.beta is {beta}; expected a number in [0, 1)"
            )
        self.beta = beta

    def weight(self, count: int) -> float:
        return (1 - self.beta) / (1 - self.beta**count)
