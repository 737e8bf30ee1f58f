"""Find the training images that are most similar to the mistakes of a run."""

import os
from pathlib import Path
from typing import Collection, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from PIL import Image

from allencv.data.inspection import Split, read_splits
from allencv.features.embedding import ImageEncoder
from allencv.features.neighbours import nearest
from allencv.features.sample_vectors import as_content, sample_name, sample_vectors
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.reporting.findings import ComparedImages, Findings
from allencv.reporting.split_findings import ImageFinding, SimilarImage
from allencv.reporting.thumbnails import thumbnail
from allencv.runtime import ImageError
from allencv.runtime.plurals import numbered
from allencv.runtime.terminal import printable

Asked = Tuple[ImageFinding, np.ndarray]
"""A mistake and the vector of its image."""


def add_similar_images(
    findings: Findings,
    folder: Union[str, os.PathLike],
    count: int,
    device: Optional[str] = None,
    overrides: str = "",
    trusted: bool = False,
) -> ComparedImages:
    """
    Add the most similar training images to the pictured mistakes in `findings`: those with the
    largest cosine of the vectors of the run's model. The vectors are kept in the cache (see
    `FeatureStore`).

    Data that is missing or cannot be read is no error: the result, which `findings` gets too, says
    what is wrong.

    # Parameters

    findings : `Findings`, required
        Of the run in `folder`.
    folder : `Union[str, os.PathLike]`, required
        It must have the weights of the model.
    count : `int`, required
        The number of images for each mistake.
    device : `str`, optional (default = the first GPU, or else the CPU)
    overrides : `str`, optional (default = `""`)
        Jsonnet that changes the config, for example a new path of the images. Only the data counts.
    trusted : `bool`, optional (default = `False`)
        See `allencv.common.archives`.

    # Raises

    `ConfigurationError` if the model is missing or cannot be opened.
    """
    findings.compared = compared = ComparedImages()
    mistakes = {split.name: split.mistakes.pictured for split in findings.splits}
    mistakes = {name: images for name, images in mistakes.items() if images}
    if not mistakes:
        compared.problem = "the run has no pictures of mistakes"
        return compared
    encoder = ArchiveClassifier(Path(folder), device, trusted)  # it checks the parts of the config
    try:
        splits = _splits(Path(folder), overrides, list(mistakes))
    except (ConfigurationError, OSError) as error:
        compared.problem = str(error)
        return compared
    asked: List[Asked] = []
    for name, images in mistakes.items():
        asked += _with_vectors(encoder, images, name, splits.get(name), compared.errors)
    if asked:
        _compare(asked, encoder, splits["train"], count, compared)
    if not compared.count:
        compared.problem = next(iter(compared.errors.values()), "there are no training images")
    return compared


def as_text(compared: ComparedImages) -> str:
    """Return what was compared, for a terminal."""
    if compared.problem:
        return f"no similar images: {printable(compared.problem)}"
    text = f"similar images: of {numbered(compared.count, 'training image')}"
    if compared.errors:
        first = printable(next(iter(compared.errors.values())))
        text += f"\nimages that cannot be compared: {len(compared.errors)} ({first})"
    return text


def _splits(folder: Path, overrides: str, names: Sequence[str]) -> Dict[str, Split]:
    """List the training images and those of the named splits."""
    config = Params.from_file(str(folder / "config.json"), overrides).as_dict(quiet=True)
    keys = ["dataset_reader", "validation_dataset_reader"]
    keys += [f"{name}_data_path" for name in ("train", *names)]
    splits = read_splits(Params({key: config[key] for key in keys if key in config}))
    return {split.name: split for split in splits}


def _with_vectors(
    encoder: ImageEncoder,
    mistakes: Sequence[ImageFinding],
    name: str,
    split: Optional[Split],
    errors: Dict[str, str],
) -> Iterator[Asked]:
    """Yield the mistakes in a split with their vectors. Add an error for those without one."""
    index_of = {} if split is None else _indices(split, {each.name for each in mistakes})
    for each in mistakes:
        if each.name not in index_of:
            errors[each.name] = f"{each.name}: not in {name}_data_path"
    if split is None or not index_of:
        return
    found = sample_vectors(encoder, split, list(index_of.values()), show_progress=False)
    errors |= _by_name(split, found.errors)
    vector_of = dict(zip(found.indices, found.vectors))
    for each in mistakes:
        vector = vector_of.get(index_of.get(each.name, -1))
        if vector is not None:
            yield each, vector


def _by_name(split: Split, errors: Dict[int, str]) -> Dict[str, str]:
    return {sample_name(split, index): reason for index, reason in errors.items()}


def _indices(split: Split, names: Collection[str]) -> Dict[str, int]:
    """Return the indices of the samples with these names, of those in the split."""
    found = ((sample_name(split, index), index) for index in range(len(split.samples)))
    return {name: index for name, index in found if name in names}


def _compare(
    asked: Sequence[Asked], encoder: ImageEncoder, train: Split, count: int, into: ComparedImages
) -> None:
    """Add the most similar training images to each mistake."""
    found = sample_vectors(encoder, train, range(len(train.samples)))
    into.errors |= _by_name(train, found.errors)
    into.count = len(found.indices)
    if not into.count:
        return
    rows, cosines = nearest(np.stack([vector for _, vector in asked]), found.vectors, count)
    pictures: Dict[int, Optional[Image.Image]] = {}
    for (mistake, _), near, similarities in zip(asked, rows, cosines.tolist()):
        for row, similarity in zip(near, similarities):
            index = found.indices[row]
            if index not in pictures:
                pictures[index] = _picture(train, index)
            sample = train.samples[index]
            labels = sample.labels if sample.label is None else [sample.label]
            mistake.similar.append(
                SimilarImage(sample_name(train, index), labels or [], similarity, pictures[index])
            )


def _picture(split: Split, index: int) -> Optional[Image.Image]:
    try:
        content = as_content(split.source(index)[1], None)
        return thumbnail(content, split.reader.value_range)
    except ImageError:  # it has gone since its vector was computed
        return None
