from allencv.certainty.unknown_scores.energy import Energy
from allencv.certainty.unknown_scores.nearest import Nearest
from allencv.certainty.unknown_scores.unknown_score import UnknownScore


@UnknownScore.register("auto")
class Auto(UnknownScore):
    """
    The score "nearest" if the encoder is frozen, and "energy" if it was trained. A frozen
    pretrained encoder tells images of other things apart, while a last layer that was fitted on a
    few labels does not see them: docs/unsure.md has the figures.

    Registered as an `UnknownScore` with the name "auto".
    """

    kind = "auto"

    def chosen(self, is_frozen: bool) -> UnknownScore:
        return Nearest() if is_frozen else Energy()
