"""Calibrate a network again that was made from one of a calibrated model, such as one in int8."""

from dataclasses import replace
from typing import Any, Iterable, Mapping, Optional

import numpy as np
from allennlp.common.checks import ConfigurationError

from allencv.certainty.calibrate import reader_of, samples_in
from allencv.certainty.calibrations import Calibration, PlattScaling, TemperatureScaling
from allencv.certainty.fit_certainty import Wanted, fit_certainty
from allencv.certainty.label_sets import SINGLE_LABEL_KINDS
from allencv.certainty.labelled_outputs import labelled_outputs
from allencv.certainty.overlap import count_shared, count_trained
from allencv.common.data_paths import data_of_text, data_text
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.runtime.certainty import Certainty
from allencv.runtime.classifier import Classifier
from allencv.runtime.errors import ImageError, InputError


def calibrate_again(
    before: Certainty,
    classifier: Classifier,
    model: str,
    precision: str,
    readers: Mapping[str, ImageDatasetReader],
    config: Mapping[str, Any],
    data: Any = None,
    made_with: Iterable[str] = (),
) -> Certainty:
    """
    Return what `before` is for another network of the same model: what was wanted then is found
    out with the probabilities and vectors of `classifier`. A score of unlike images keeps its
    arrays, and gets a new limit.

    # Parameters

    classifier : `Classifier`
        The network, without certainty.
    model : `str`
        The SHA-256 of the network.
    readers, config : of the model, as for `count_trained`. `readers["validation_data_path"]` reads
        `data`.
    data : `Any`, optional (default = the images of `before`)
        Images with labels.
    made_with : `Iterable[str]`, optional
        Images from which the network was made. Those that `data` has too are counted as if they had
        trained the model.

    # Raises

    `InputError` if the images cannot be read, or do not suffice for what is wanted.
    """
    path, key = data, "--calibration-data"
    if data is None:
        path, key = before.data, "the data of 'allencv calibrate'"
    try:
        path = data_of_text(path) if data is None else path
        reader = reader_of(config, readers["validation_data_path"], path)
        samples = samples_in(reader, path, key)
    except (ConfigurationError, ImageError, OSError, ValueError) as error:
        raise InputError(
            f"{precision} is calibrated again, on images with labels, and '{path}' cannot be read "
            f"({error}); expected --calibration-data with images that did not train the model, or "
            "--no-calibration"
        ) from None
    known = labelled_outputs(classifier, samples, f"'{path}' ({key})")
    overlap: Optional[int] = before.overlap
    if data is not None:
        overlap = count_trained(known.names, config, readers)
    if overlap is not None:
        overlap = min(len(known.names), overlap + count_shared(known.names, made_with))
    try:
        return fit_certainty(
            known,
            wanted_before(before, classifier.multi_label),
            classifier.thresholds,
            before.unknown,
            data_text(path),
            precision,
            model,
            overlap,
        )
    except InputError as error:
        raise InputError(
            f"{precision} is calibrated again, on '{path}': {error}; or --no-calibration"
        ) from None


def wanted_before(certainty: Certainty, multi_label: bool) -> Wanted:
    """Return what was wanted when a `Certainty` was found out."""
    sets, selection, unknown = certainty.sets, certainty.selection, certainty.unknown
    wanted = Wanted(_calibration(certainty, multi_label), default_calibration=False, sets=None)
    if sets is not None:
        kind = sets.kind if sets.kind in SINGLE_LABEL_KINDS else SINGLE_LABEL_KINDS[0]
        wanted = replace(wanted, sets=kind, levels=sets.levels, by_class=sets.by_class)
    if selection is not None:
        target, sure = selection.target_accuracy, selection.certainty
        wanted = replace(wanted, target_accuracy=target, certainty=sure)
    if unknown is not None:
        wanted = replace(wanted, known_share=unknown.known_share)
    return wanted


def _calibration(certainty: Certainty, multi_label: bool) -> Optional[Calibration]:
    scaling = certainty.scaling
    if scaling is None:
        return None
    is_temperature = np.ptp(scaling.slopes) == 0 and not any(scaling.offsets)
    return TemperatureScaling() if is_temperature or not multi_label else PlattScaling()
