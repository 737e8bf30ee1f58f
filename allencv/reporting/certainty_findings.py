"""What the report of a run says about `allencv calibrate`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from allennlp.common.checks import ConfigurationError
from scipy.stats import binomtest

from allencv.certainty.calibration_record import CalibrationRecord, read_record
from allencv.certainty.reliability import Bin, calibration_error, reliability
from allencv.certainty.selection import risk_and_coverage
from allencv.runtime.certainty import Certainty
from allencv.runtime.certainty.files import read_certainty
from allencv.runtime.errors import BundleError

MOST_POINTS = 200
"""The most points of a line."""
SCORE_BINS = 40

Point = Tuple[float, float]


class LabelCertainty(NamedTuple):
    """
    What images with a label show.

    # Parameters

    images : their number.
    size : the mean number of labels in their sets; `None` without sets, as `coverage`.
    coverage : the share whose set holds the label, and its 95 % interval (Clopper-Pearson).
    answered, unknown : the shares that are answered, and that are called unknown. `answered` is
        `None` without a target accuracy.
    """

    label: str
    images: int
    size: Optional[float]
    coverage: Optional[Tuple[float, float, float]]
    answered: Optional[float]
    unknown: float


class UnlikeImage(NamedTuple):
    name: str
    labels: List[str]
    score: float
    jpeg: bytes


@dataclass
class CertaintyFindings:
    """
    What is known about the answers of a model.

    # Parameters

    before, after : the reliability without calibration and with one from other images, and the
        expected calibration errors.
    sizes : for each number of labels in a set, the share of images with such a set.
    labels : by label, those with the lowest coverage first.
    risk : the share of wrong answers by the share of images that are answered.
    known, other : the shares of images by their score, of the calibration images and of those of
        `--unknown-images`.
    other_unknown : the share of the latter that are called unknown.
    most_unlike : the calibration images with the highest scores.
    """

    certainty: Certainty
    before: List[Bin]
    after: List[Bin]
    error_before: float
    error_after: float
    coverage: Optional[float]
    sizes: Dict[int, float]
    labels: List[LabelCertainty]
    risk: List[Point]
    known: List[Point]
    other: List[Point] = field(default_factory=list)
    other_unknown: Optional[float] = None
    most_unlike: List[UnlikeImage] = field(default_factory=list)


def read_certainty_findings(folder: Path) -> Optional[CertaintyFindings]:
    """
    Return what the folder of a run says, or `None` if it is not calibrated, or by an archive
    elsewhere. Raise `ConfigurationError` if its files are damaged.
    """
    record = read_record(folder)
    if record is None:
        return None
    try:
        certainty = read_certainty(folder, len(record.labels), None)
    except BundleError as error:
        raise ConfigurationError(f"{error}; calibrate the run again, or remove the file") from None
    if certainty is None or certainty.model != str(record.model):
        return None
    return certainty_findings(certainty, record)


def certainty_findings(certainty: Certainty, record: CalibrationRecord) -> CertaintyFindings:
    """Compute what the report says."""
    before = reliability(record.before, record.is_prediction_right)
    after = reliability(record.after, record.is_prediction_right)
    is_unknown = np.zeros(len(record.scores), bool)
    if certainty.unknown is not None:
        is_unknown = record.scores > certainty.unknown.limit
    is_answered = None
    if certainty.selection is not None:
        is_answered = ~is_unknown & (record.confidence >= certainty.selection.least_confidence)
    sizes = record.members.sum(axis=1)
    counts = np.bincount(sizes) / max(len(sizes), 1)
    has_sets = record.members.size > 0
    kept = np.flatnonzero(~is_unknown)
    coverage, risk = risk_and_coverage(record.confidence[kept], record.is_right[kept])
    # Images that are unknown are never answered.
    coverage = coverage * len(kept) / len(is_unknown)
    chosen = np.unique(np.linspace(0, len(kept) - 1, min(len(kept), MOST_POINTS)).astype(int))
    everything = np.concatenate([record.scores, record.other_scores])
    edges = np.histogram_bin_edges(everything, SCORE_BINS)
    return CertaintyFindings(
        certainty,
        before,
        after,
        calibration_error(before),
        calibration_error(after),
        _mean_coverage(record) if has_sets else None,
        {size: float(share) for size, share in enumerate(counts) if share} if has_sets else {},
        _labels(record, is_answered, is_unknown),
        [(float(coverage[i]), float(risk[i])) for i in chosen],
        _shares(record.scores, edges),
        _shares(record.other_scores, edges) if len(record.other_scores) else [],
        float((record.other_scores > certainty.unknown.limit).mean())
        if len(record.other_scores) and certainty.unknown is not None
        else None,
        [
            UnlikeImage(
                str(record.names[place]),
                record.labels[record.targets[place]].tolist(),
                float(record.scores[place]),
                jpeg,
            )
            for place, jpeg in record.pictures.items()
        ],
    )


def _mean_coverage(record: CalibrationRecord) -> float:
    found = (record.members & record.targets).sum(axis=1)
    counts = record.targets.sum(axis=1)
    return float(np.where(counts > 0, found / np.maximum(counts, 1), 1.0).mean())


def _labels(
    record: CalibrationRecord, is_answered: Optional[np.ndarray], is_unknown: np.ndarray
) -> List[LabelCertainty]:
    found = []
    for place, label in enumerate(record.labels.tolist()):
        own = record.targets[:, place]
        images = int(own.sum())
        if images == 0:
            continue
        size = coverage = None
        if record.members.size:
            size = float(record.members[own].sum(axis=1).mean())
            covered = int(record.members[own, place].sum())
            interval = binomtest(covered, images).proportion_ci(0.95)
            coverage = covered / images, float(interval.low), float(interval.high)
        answered = None if is_answered is None else float(is_answered[own].mean())
        unknown = float(is_unknown[own].mean())
        found.append(LabelCertainty(label, images, size, coverage, answered, unknown))
    return sorted(found, key=lambda each: (each.coverage or (each.answered or 0.0,), each.label))


def _shares(scores: np.ndarray, edges: np.ndarray) -> List[Point]:
    """Return the middle of each bin with the share of the scores in it."""
    counts, _ = np.histogram(scores, edges)
    middles = (edges[:-1] + edges[1:]) / 2
    return [(float(x), float(y)) for x, y in zip(middles, counts / max(len(scores), 1))]
