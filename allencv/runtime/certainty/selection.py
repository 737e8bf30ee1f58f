from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """
    Which images to answer, so that enough of the answers are right.

    # Parameters

    target_accuracy : the share of right answers among those given, in (0, 1).
    certainty : how certain it is, in (0, 1), that this share is reached on images such as those of
        the calibration.
    least_confidence : an image is answered if its confidence is at least this.
    coverage : the share of the calibration images that are answered.
    accuracy : the share of right answers among these.
    """

    target_accuracy: float
    certainty: float
    least_confidence: float
    coverage: float
    accuracy: float
