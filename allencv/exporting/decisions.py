"""Compare what an archive and its bundle decide about images."""

from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from allencv.runtime.certainty import Certainty, Judgement
from allencv.runtime.certainty.certainty import confidence


class Decision(NamedTuple):
    """
    What is decided about an image.

    # Parameters

    outcome : of any kind, to be compared with that of another network.
    distance : how far the probabilities or the score are from another outcome. Of a score, as a
        share of the range of the scores of the calibration images.
    """

    outcome: object
    distance: float


def decisions_of(
    certainty: Certainty, judgement: Judgement, thresholds: Optional[List[float]]
) -> Dict[str, Decision]:
    """Return what a calibrated model decides about an image."""
    probabilities = judgement.probabilities.astype(np.float64)
    if thresholds is None:
        ranked = np.sort(probabilities)
        gap = ranked[-1] - ranked[-2] if len(ranked) > 1 else 1.0
        found = {"label": Decision(int(probabilities.argmax()), gap / 2)}
    else:
        given = judgement.probabilities > np.array(thresholds, judgement.probabilities.dtype)
        nearest = np.abs(probabilities - thresholds).min()
        found = {"labels": Decision(given.tolist(), float(nearest))}
    if judgement.members is not None:
        members = judgement.members.tolist()
        found["set of labels"] = Decision(members, _distance_of_set(certainty, judgement))
    from_unknown = np.inf
    if certainty.unknown is not None and judgement.unknown_score is not None:
        spread = float(np.ptp(certainty.known_scores)) or 1.0
        from_unknown = abs(judgement.unknown_score - certainty.unknown.limit) / spread
        found["is_unknown"] = Decision(judgement.is_unknown, from_unknown)
    if certainty.selection is not None:
        sure = confidence(judgement.probabilities[None], thresholds)[0]
        distance = min(from_unknown, abs(sure - certainty.selection.least_confidence))
        found["is_answered"] = Decision(judgement.is_answered, float(distance))
    return found


def _distance_of_set(certainty: Certainty, judgement: Judgement) -> float:
    sets, members = certainty.sets, judgement.members
    assert sets is not None
    assert members is not None
    scores = sets.scores(judgement.probabilities[None])[0]
    distance = float(np.abs(scores - np.array(sets.limits[0])).min())
    if sets.sums and members.any() and not members.all():
        # The last label of the set may change places with the first that is not in it.
        probabilities = judgement.probabilities.astype(np.float64)
        gap = probabilities[members].min() - probabilities[~members].max()
        distance = min(distance, abs(gap) / 2)
    return distance


class Comparison(NamedTuple):
    """
    How alike two models decide.

    # Parameters

    agreement : the share of images about which all is decided alike.
    farthest : the largest distance of a decision that differs; 0 if there is none.
    kind : which decision that is.
    """

    agreement: float
    farthest: float
    kind: str


def compare_decisions(
    expected: Sequence[Dict[str, Decision]], given: Sequence[Dict[str, Decision]]
) -> Comparison:
    """Compare the decisions of an archive with those of its bundle, about the same images."""
    farthest, kind, alike = 0.0, "", 0
    for own, other in zip(expected, given, strict=True):
        differing = [key for key in own if own[key].outcome != other[key].outcome]
        alike += not differing
        for key in differing:
            if own[key].distance >= farthest:
                farthest, kind = own[key].distance, key
    return Comparison(alike / len(expected), farthest, kind)
