import io
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive

import allencv
from allencv.certainty.calibrate_again import calibrate_again
from allencv.common.nearest_names import not_one_of
from allencv.common.versions import installed_versions
from allencv.exporting.bundle_folder import check_output, new_folder, write_manifest
from allencv.exporting.int8 import to_int8
from allencv.exporting.network import Network, exported
from allencv.exporting.onnx_file import OPSET, to_float16, write_onnx
from allencv.exporting.parity import BATCH, batches, compare_with_archive, pixels
from allencv.exporting.preprocessing import preprocessing_of
from allencv.exporting.sample_images import evenly, validation_images
from allencv.exporting.torch_classifier import TorchClassifier
from allencv.models.image_classifier import ImageClassifier
from allencv.models.multilabel_classifier import MultiLabelImageClassifier
from allencv.runtime import Classifier, Manifest, OnnxClassifier
from allencv.runtime.bundle import sha256_of
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.manifest import MODEL_FILES, TASKS, TOLERANCES

COMPARED, QUANTIZED = 500, 256
"""The most images to use of the validation data, and of the quantization images."""


def export_bundle(
    archive: Archive,
    folder: Union[str, os.PathLike],
    format: str = "onnx",
    precision: str = "float32",
    images: Optional[Sequence[Any]] = None,
    quantization_images: Optional[Sequence[Any]] = None,
    parity: bool = True,
    tolerance: Optional[float] = None,
    least_agreement: Optional[float] = None,
    force: bool = False,
    certainty: bool = True,
    calibration_data: Any = None,
) -> Manifest:
    """
    Export a trained model as a bundle: a folder with the network, a manifest and a README. The
    folder is written as a whole or not at all.

    # Parameters

    archive : `Archive`, required
        The result of `allencv.common.archives.load_archive`.
    folder : `str`, required
        The bundle. It must not exist yet.
    format : `str`, optional (default = `"onnx"`)
        "onnx", or "torch_export", which needs torch to run.
    precision : `str`, optional (default = `"float32"`)
        "float32"; for ONNX also "float16" (half the size) or "int8" (a quarter, and faster).
    images : `Sequence`, optional (default = the validation data of the config, at most 500)
        The images on which to compare the bundle with the archive: paths, or other sources that
        the reader takes.
    quantization_images : `Sequence`, optional (default = `None`)
        Images like those to be classified, without labels; "int8" needs them to measure the ranges
        of the network's numbers, and uses at most 256.
    parity : `bool`, optional (default = `True`)
        Whether to compare at all.
    tolerance : `float`, optional
        The largest allowed difference of a probability, from 0 to 1: 0.0001 by default, 0.02 for
        "float16", and 1 for "int8".
    least_agreement : `float`, optional
        The share of images that must get the same labels: 0.99 by default, 0.95 for "int8".
    force : `bool`, optional (default = `False`)
        Whether to replace an existing bundle.
    certainty : `bool`, optional (default = `True`)
        Whether the bundle of a calibrated model is calibrated too. "int8" is calibrated again, as
        its probabilities and vectors are others; the other precisions take the archive's
        calibration.
    calibration_data : optional (default = the images of the archive's calibration)
        For "int8": labelled images that did not train the model, as the validation reader reads
        them.

    # Raises

    `ConfigurationError` if the model or its reader cannot be put into a bundle, or if the bundle
    differs too much from the archive. `InputError` if "int8" cannot be calibrated.
    """
    folder = Path(folder)
    _check(format, precision, bool(quantization_images))
    least, most = TOLERANCES[precision]
    least = least if least_agreement is None else least_agreement
    most = most if tolerance is None else tolerance
    if not (0 <= least <= 1 and 0 <= most <= 1):
        raise ConfigurationError(
            f"the least agreement is {least} and the tolerance {most}; expected numbers in [0, 1]"
        )
    check_output(folder, force)
    model, reader = archive.model, archive.validation_dataset_reader
    if not isinstance(model, ImageClassifier):
        raise ConfigurationError(
            f"the archive has a {type(model).__name__}; expected an image classifier "
            "('basic_image_classifier', 'multilabel_image_classifier', or one derived from these)"
        )
    found = model.certainty if certainty else None
    if calibration_data is not None and (found is None or precision != "int8"):
        raise ConfigurationError(
            f"calibration_data (--calibration-data) is '{calibration_data}', which only int8 "
            "bundles of calibrated models use; leave it out"
        )
    preprocessing, normalization = preprocessing_of(reader)
    if not parity:
        images = None
    elif images is None:
        images = validation_images(archive, COMPARED)
    elif not images:
        raise ConfigurationError(
            "there are no images to compare on (--parity-images); expected some"
        )
    network = Network(model, normalization)
    multi_label = isinstance(model, MultiLabelImageClassifier)
    manifest = Manifest(
        task=TASKS[multi_label],
        labels=model.label_names(),
        thresholds=list(model.get_thresholds().values()) if multi_label else None,
        preprocessing=preprocessing,
        format=format,
        precision=precision,
        files={},
        versions=_versions(format),
        parity=None,
        vector_size=network.vector_size,
    )
    with new_folder(folder, force) as temporary:
        file = temporary / manifest.model_file
        program = exported(network, preprocessing)
        if format == "torch_export":
            content = io.BytesIO()  # writing to a file, torch hides errors of the disk
            torch.export.save(program, content)
            file.write_bytes(content.getbuffer())
        else:
            write_onnx(program, file)
        if precision == "float16":
            to_float16(file)
        elif precision == "int8":
            chosen = evenly(quantization_images or [], QUANTIZED)
            prepared = [pixels(preprocessing, each) for each in batches(chosen, BATCH)]
            quantization = to_int8(file, prepared, manifest.thresholds)
            manifest = replace(manifest, quantization=quantization)
            if found is not None:
                write_manifest(temporary, manifest, None)
                quantized_on = [each for each in chosen if isinstance(each, str)]
                found = calibrate_again(
                    found,
                    _opened(temporary, format),
                    sha256_of(file),
                    precision,
                    {
                        "train_data_path": archive.dataset_reader,
                        "validation_data_path": reader,
                    },
                    archive.config.as_dict(quiet=True),
                    calibration_data,
                    quantized_on,
                )
        write_manifest(temporary, manifest, found)
        classifier = _opened(temporary, format)
        if images is not None:
            compared = compare_with_archive(
                model, reader, classifier, manifest.thresholds, images, least, most
            )
            manifest = replace(manifest, parity=compared)
            write_manifest(temporary, manifest, found)
    return manifest


def _check(format: str, precision: str, has_images: bool) -> None:
    if format not in MODEL_FILES:
        raise not_one_of("format", format, MODEL_FILES)
    if precision not in TOLERANCES:
        raise not_one_of("precision", precision, TOLERANCES)
    if format == "torch_export" and precision != "float32":
        raise ConfigurationError(f"precision is '{precision}'; expected float32 for {format}")
    if (precision == "int8") != has_images:
        raise ConfigurationError(
            "int8 needs images like those to be classified (--quantization-images)"
            if precision == "int8"
            else f"there are quantization_images (--quantization-images), but precision is "
            f"'{precision}'; expected int8"
        )


def _opened(folder: Path, format: str) -> Classifier:
    if format == "torch_export":
        return TorchClassifier(folder, trusted=True)
    return OnnxClassifier(folder, threads=cpu_count())


def _versions(format: str) -> Dict[str, str]:
    """Return the versions of packages for the manifest."""
    packages = ["torch", *(["onnx", "onnxscript", "onnxruntime"] if format == "onnx" else [])]
    versions = {"allencv": allencv.__version__, "python": platform.python_version()}
    versions |= installed_versions(packages)
    return {**versions, "opset": str(OPSET)} if format == "onnx" else versions
