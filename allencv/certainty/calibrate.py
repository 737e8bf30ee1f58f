"""Find out what a trained model knows about its own answers, and keep it in its archive."""

import copy
import logging
import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ContextManager, List, Mapping, Optional, Union

import numpy as np
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.models.archival import get_weights_path

from allencv.certainty.calibration_record import record_of
from allencv.certainty.fit_certainty import (
    KNOWN_SHARE,
    LabelledOutputs,
    Wanted,
    check_count,
    fit_certainty,
)
from allencv.certainty.held_out import HeldOut, held_out
from allencv.certainty.labelled_outputs import drawn, labelled_outputs, network_outputs, one_hot
from allencv.certainty.overlap import count_trained
from allencv.certainty.stored import store_certainty
from allencv.certainty.unknown_scores import KnownImages, UnknownScore
from allencv.common.data_paths import data_text, with_key
from allencv.common.quiet import quiet
from allencv.common.write_archive import remove_stale_certainty
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.samples import SampleList
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime.certainty import Certainty, UnknownRule
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import list_images
from allencv.runtime.plurals import numbered
from allencv.runtime.terminal import notice
from allencv.training.run_folder import locked

DATA = "DATA"
"""The name of the images in errors: that of the command's argument."""


@dataclass(frozen=True)
class Calibrated:
    """
    The result of `calibrate`.

    # Parameters

    certainty : what was found out.
    wanted : what was to be found out.
    known : what the network says about the calibration images.
    found : what images show that were held out.
    labels : of the model.
    written : the files that were written.
    unknown_scores : the scores of the unlike images that were given to measure them.
    unknown_errors : why others of these are left out, by their names.
    """

    certainty: Certainty
    wanted: Wanted
    known: LabelledOutputs
    found: HeldOut
    labels: List[str]
    written: List[Path]
    unknown_scores: Optional[np.ndarray] = None
    unknown_errors: Mapping[str, str] = field(default_factory=dict)


def calibrate(
    archive_file: Union[str, os.PathLike],
    data: Any,
    wanted: Wanted,
    score: Optional[UnknownScore] = None,
    train_data: Any = None,
    unknown_images: Optional[List[str]] = None,
    device: Optional[str] = None,
    trusted: bool = False,
    show_progress: bool = True,
    data_key: str = DATA,
) -> Calibrated:
    """
    Find out what a model knows about its own answers, from images with labels that neither trained
    it nor chose its epoch, and add it to its archive.

    # Parameters

    archive_file : `str`
        `model.tar.gz`, or the folder of a run.
    data : `Any`
        The images, as the archive's validation reader reads them. The `calibration_data_path` of
        its config is read by its `calibration_dataset_reader`.
    score : `UnknownScore`, optional
        Tells images that are unlike the training data.
    train_data : `Any`, optional (default = `train_data_path` of the archive's config)
        The training images, which some scores need.
    unknown_images : `List[str]`, optional
        Files of images that are unlike the training data. They change nothing; their scores are
        returned.
    show_progress : `bool`, optional (default = `True`)
        Whether to show in a terminal what is being done.
    data_key : `str`, optional (default = `"DATA"`)
        The name of `data` in errors.

    # Raises

    `InputError` if the images do not suffice for what is wanted. `ConfigurationError` for an
    archive that cannot be opened, and for data that its reader cannot read.
    """
    folder = Path(archive_file)
    if folder.is_dir():
        remove_stale_certainty(folder, Path(get_weights_path(folder)))
    classifier = ArchiveClassifier(os.fspath(archive_file), device, trusted)
    wanted = wanted.for_model(classifier.multi_label)
    with step("listing the images", show_progress):
        samples = samples_in(reader_of(classifier.config, classifier.reader, data), data, data_key)
    if samples:
        check_count(wanted, len(samples), score is not None)
    known = labelled_outputs(classifier, samples, f"'{data}' ({data_key})", show_progress)
    readers = {
        "train_data_path": classifier.training_reader,
        "validation_data_path": classifier.reader,
    }
    with step("comparing the images with those of the training", show_progress):
        overlap = count_trained(known.names, classifier.config, readers)
    rule = None
    if score is not None:
        score = score.chosen(classifier.encoder_is_frozen)
        rule = fit_rule(classifier, score, train_data, show_progress)
    thresholds = classifier.network_thresholds
    with step("calibrating", show_progress):
        certainty = fit_certainty(
            known,
            wanted,
            thresholds,
            rule,
            data_text(data),
            "float32",
            classifier.weights_checksum,
            overlap,
        )
        found = held_out(known, wanted, thresholds)
    unlike, errors = None, {}
    if unknown_images is not None:
        given = SampleList(Sample(each.file) for each in list_images(unknown_images, "path").images)
        outputs = network_outputs(classifier, given, show_progress)
        errors = outputs.errors
        if not outputs.indices:
            raise InputError(
                f"none of the {numbered(len(given), 'image')} of --unknown-images can be read: "
                f"{next(iter(errors.values())):.300}"
            )
        unlike = certainty.scores(outputs.probabilities, outputs.vectors, classifier.multi_label)
    with (
        step("writing the results", show_progress),
        locked(folder) if folder.is_dir() else nullcontext(),
    ):
        written = store_certainty(archive_file, certainty, trusted)
        if folder.is_dir():
            record = record_of(certainty, known, found, classifier.labels, thresholds, unlike)
            written.append(record.write(folder))
    return Calibrated(certainty, wanted, known, found, classifier.labels, written, unlike, errors)


def step(what: str, is_shown: bool) -> ContextManager[None]:
    """Say what is being done, for as long as a `with` block runs."""
    return notice(what, in_logs=True) if is_shown else nullcontext()


def reader_of(
    config: Mapping[str, Any], validation_reader: ImageDatasetReader, data: Any
) -> ImageDatasetReader:
    """Return the reader of calibration images: that of the archive's config, if it is for them."""
    reader = config.get("calibration_dataset_reader")
    if reader is None or _place(data) != _place(config.get("calibration_data_path")):
        return validation_reader
    made = DatasetReader.from_params(Params(copy.deepcopy(reader)))
    assert isinstance(made, ImageDatasetReader), "it was checked before training"
    return made


def _place(data: Any) -> Any:
    """Return the same for two ways to write a path."""
    return os.path.realpath(data) if isinstance(data, str) else data


def fit_rule(
    classifier: ArchiveClassifier, score: UnknownScore, train_data: Any, show_progress: bool
) -> UnknownRule:
    """
    Return a rule for unlike images, still without its limit. Raise `InputError` if the score needs
    training images and they cannot be read.
    """
    weight, bias = classifier.last_layer()
    known = KnownImages(
        np.empty((0, classifier.vector_size), np.float32),
        np.empty((0, len(classifier.labels)), bool),
        weight,
        bias,
    )
    if score.most_images:
        path, key = train_data, "--train-data"
        if train_data is None:
            path, key = classifier.config.get("train_data_path"), "train_data_path"
        try:
            if show_progress:
                print(f"computing training images for '{score.kind}' ...", file=sys.stderr)
            known = training_images(classifier, path, score.most_images, show_progress, key)
        except (ConfigurationError, OSError) as error:
            raise InputError(
                f"the unknown score '{score.kind}' needs the training images, and '{path}' cannot "
                f"be read ({error}); expected --train-data, or the score 'energy'"
            ) from None
    return UnknownRule(score.kind, 0.0, KNOWN_SHARE, score.fit(known))


def training_images(
    classifier: ArchiveClassifier,
    data: Any,
    most: int,
    show_progress: bool,
    key: str = "train_data_path",
) -> KnownImages:
    """
    Return what an `UnknownScore` may use, of at most so many of the images. Errors call the data
    `key`.
    """
    samples = samples_in(classifier.training_reader, data, key)
    some = SampleList(samples[index] for index in drawn(len(samples), most))
    outputs = labelled_outputs(classifier, some, f"'{data}' ({key})", show_progress)
    if not outputs.names:
        first = next(iter(outputs.errors.values()))
        raise ConfigurationError(f"not one of {numbered(len(some), 'image')}: {first:.300}")
    targets = one_hot(outputs.targets, len(classifier.labels))
    return KnownImages(outputs.vectors, targets, *classifier.last_layer())


def samples_in(reader: ImageDatasetReader, data: Any, key: str) -> SampleList:
    """Return the samples of data, as many as the reader is to read. Errors call the data `key`."""
    try:
        with quiet(logging.INFO, hide_warnings=False):
            return SampleList(islice(reader.read_samples(data), reader.max_instances))
    except ConfigurationError as error:
        raise ConfigurationError(with_key(error.message, key)) from error
