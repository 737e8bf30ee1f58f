import logging
import sys
from pathlib import Path
from typing import Any, List, Optional, Set

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader

from allencv.certainty.calibrate import calibrate, samples_in
from allencv.certainty.calibrations import Calibration
from allencv.certainty.fit_certainty import KNOWN_SHARE, LEVEL, Wanted
from allencv.certainty.label_sets import SINGLE_LABEL_KINDS
from allencv.certainty.selection import CERTAINTY
from allencv.certainty.summary import lines_of
from allencv.certainty.unknown_scores import Auto, UnknownScore
from allencv.common.label_text import shown
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.runtime.errors import InputError
from allencv.runtime.terminal import is_terminal
from allencv.training.calibrator import Calibrator

logger = logging.getLogger(__name__)
AUTO = Auto()
KEY = "calibration_data_path"


@Calibrator.register("default")
class ModelCalibrator(Calibrator):
    """
    Calibrates the model of a run, as the command `allencv calibrate` does.

    Registered as a `Calibrator` with the name "default". The keys have the names of the command's
    options.

    # Parameters

    probabilities : `Calibration`, optional (default = `None`)
        How to calibrate the probabilities. `None` is "temperature", and for several labels an image
        "platt".
    sets : `str`, optional (default = `"lac"`)
        The kind of sets of labels, for one label an image: "lac", "aps" or "raps". `None` makes
        none.
    levels : `List[float]`, optional (default = `[0.95]`)
        The shares of images, in (0, 1), whose set holds the right label; for several labels an
        image, the shares of their labels. Answers have the set of the first.
    by_class : `bool`, optional (default = `False`)
        Whether the levels hold for the images of each label, and not only for all together.
    target_accuracy : `float`, optional (default = `None`)
        The share of answers, in (0, 1), that are to be right. `None` answers all images that are
        not unknown.
    certainty : `float`, optional (default = `0.95`)
        How certain that is to be, in (0, 1).
    unknown : `UnknownScore`, optional (default = `Auto`)
        The score that tells images unlike the training data. `None` tells none.
    known_share : `float`, optional (default = `0.95`)
        The share of images like those of the calibration, in (0, 1), that are not called unknown.
    """

    def __init__(
        self,
        probabilities: Optional[Calibration] = None,
        sets: Optional[str] = SINGLE_LABEL_KINDS[0],
        levels: Optional[List[float]] = None,
        by_class: bool = False,
        target_accuracy: Optional[float] = None,
        certainty: float = CERTAINTY,
        unknown: Optional[UnknownScore] = AUTO,
        known_share: float = KNOWN_SHARE,
    ) -> None:
        levels = [LEVEL] if levels is None else levels
        if sets is not None and sets not in SINGLE_LABEL_KINDS:
            raise ConfigurationError(
                f"sets is '{sets}'; expected one of {', '.join(SINGLE_LABEL_KINDS)}, or null"
            )
        if not levels:
            raise ConfigurationError("levels is empty; expected numbers between 0 and 1")
        shares = {"target_accuracy": target_accuracy, "certainty": certainty}
        shares |= {"known_share": known_share, **{f"levels[{i}]": x for i, x in enumerate(levels)}}
        for key, share in shares.items():
            if share is not None and not 0 < share < 1:
                raise ConfigurationError(f"{key} is {share}; expected a number between 0 and 1")
        self._score = unknown
        self._wanted = Wanted(
            calibration=probabilities,
            sets=sets,
            levels=levels,
            by_class=by_class,
            target_accuracy=target_accuracy,
            certainty=certainty,
            known_share=known_share,
        )

    def check(self, reader: DatasetReader, data: Any, labels: Optional[Set[str]]) -> None:
        if not isinstance(reader, ImageDatasetReader):
            raise ConfigurationError(
                f"{KEY} is '{data}', and the reader is a {type(reader).__name__}; "
                "expected a reader of images"
            )
        found: Set[str] = set()
        multi_label = False
        for sample in samples_in(reader, data, KEY):
            multi_label |= sample.labels is not None
            found |= {*(sample.labels or [])} | ({sample.label} if sample.label else set())
        if not found:
            raise ConfigurationError(
                f"{KEY} is '{data}', which has no image with a label; expected some"
            )
        try:
            self._wanted.for_model(multi_label)
        except InputError as error:
            raise ConfigurationError(f"calibration: {error}") from None
        unseen = sorted(found - labels) if labels is not None else []
        if unseen:
            raise ConfigurationError(
                f"{KEY} ({data}) has labels that train_data_path lacks: "
                f"{', '.join(map(shown, unseen))}; expected only those of the training images"
            )

    def calibrate(self, folder: Path, data: Any) -> None:
        in_terminal = is_terminal(sys.stderr)  # elsewhere the log has what is said
        calibrated = calibrate(
            folder, data, self._wanted, self._score, show_progress=in_terminal, data_key=KEY
        )
        for line in lines_of(calibrated):
            logger.info("%s", line)
