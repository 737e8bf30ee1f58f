"""Find the images that are most similar to others, by the cosine of their vectors."""

import os
from functools import partial
from typing import Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from allencv.classify.arguments import ON_GPU
from allencv.features.embedding import (
    ImageEncoder,
    ImageVectors,
    image_vectors,
    open_encoder,
    vectors_checksum,
)
from allencv.features.folder_labels import labels_of
from allencv.features.neighbours import nearest
from allencv.features.vector_files import is_vector_file, read_vectors
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFile, ImageFiles, list_images

Paths = Union[str, os.PathLike, Sequence[Union[str, os.PathLike]]]


class SimilarImage(NamedTuple):
    """
    An image that was found.

    # Parameters

    path : its name, as in the data.
    file : the path of its file.
    label : the folder of its class, if there is one.
    similarity : the cosine of its vector and that of the query, from -1 to 1.
    """

    path: str
    file: str
    label: Optional[str]
    similarity: float


class Query(NamedTuple):
    """An image with those that are most similar to it, the most similar first; or an error."""

    path: str
    file: str
    similar: List[SimilarImage]
    error: Optional[str] = None


class Search(NamedTuple):
    """
    The result of `search`.

    # Parameters

    queries : each image that was searched for.
    images : the number of images that were compared with each of them.
    errors : why other images of the data have no vector, by their names.
    others : the skipped files that are not images.
    """

    queries: List[Query]
    images: int
    errors: Dict[str, str]
    others: List[str]


class _Data(NamedTuple):
    images: List[ImageFile]
    labels: List[Optional[str]]
    vectors: np.ndarray
    errors: Dict[str, str]


def search(
    model: Union[str, os.PathLike],
    images: Paths,
    data: Paths,
    count: int = 10,
    column: str = "path",
    weights: Optional[str] = None,
    size: Optional[int] = None,
    batch_size: int = ON_GPU,
    workers: Optional[int] = None,
    device: Optional[str] = None,
    cache: bool = True,
    max_gb: Optional[float] = None,
    trusted: bool = False,
    precision: Optional[str] = None,
) -> Search:
    """
    Find the images of `data` that are most similar to each of `images`, like the command `allencv
    search`. An image is not compared with its own file. Copies of it in other files are found.

    # Parameters

    model : `str`, required
        See `embed`, also for the arguments that are not explained here.
    images, data : `str` or a list of them, required
        Images, folders, patterns, or tables of paths in `column`. Or for `data` a file that `embed`
        has written with this model.
    count : `int`, optional (default = `10`)
        The number of images to find for each image.

    # Raises

    `InputError` if no image can be read, too; `ConfigurationError`, or `OSError`.
    """
    if count < 1:
        raise InputError(f"--count is {count}; expected at least 1")
    queries = list_images(_list(images), column).images
    paths = _list(data)
    has_vectors = any(map(is_vector_file, paths))
    if has_vectors and len(paths) > 1:
        raise InputError(f"--in is {' '.join(paths)}; expected one file of vectors, or images")
    listed = ImageFiles([], 0, []) if has_vectors else list_images(paths, column)
    encoder = open_encoder(model, weights, size, device, trusted, precision)
    compute = partial(
        image_vectors, encoder, batch_size=batch_size, workers=workers, cache=cache, max_gb=max_gb
    )
    # First, as one that cannot be read is found before all images are computed.
    asked = compute(queries, show_progress=False)
    if not asked.images:
        raise InputError(f"no image to search for: {next(iter(asked.errors.values()))}")
    if has_vectors:
        found = _vectors_in(paths[0], encoder, model)
    else:
        computed = compute(listed.images)
        labels = labels_of(paths, [image.name for image in computed.images])
        found = _Data(computed.images, labels, computed.vectors, computed.errors)
    if not found.images:
        reason = next(iter(found.errors.values()), f"{paths[0]} has no vectors")
        raise InputError(f"no image to compare with: {reason}")
    similar = _similar(asked, found, count)
    return Search(
        [
            Query(image.name, image.file, similar.get(image, []), asked.errors.get(image.name))
            for image in queries
        ],
        len(found.images),
        found.errors,
        listed.others,
    )


def _similar(asked: ImageVectors, data: _Data, count: int) -> Dict[ImageFile, List[SimilarImage]]:
    """Return the images of the data that are most similar to each image, but not its own file."""
    rows, cosines = nearest(asked.vectors, data.vectors, count + 1)
    similar: Dict[ImageFile, List[SimilarImage]] = {}
    for query, near, similarities in zip(asked.images, rows, cosines.tolist()):
        own = os.path.realpath(query.file)
        similar[query] = [
            SimilarImage(data.images[row].name, data.images[row].file, data.labels[row], similarity)
            for row, similarity in zip(near, similarities)
            if os.path.realpath(data.images[row].file) != own
        ][:count]
    return similar


def _vectors_in(path: str, encoder: ImageEncoder, model: Union[str, os.PathLike]) -> _Data:
    """Read a file of vectors. Raise `InputError` if they are of another model."""
    table = read_vectors(path)
    if table.model != vectors_checksum(encoder):
        raise InputError(
            f"the vectors in '{path}' are of another model or option; expected those that "
            f"'allencv embed {os.fspath(model)} ...' writes"
        )
    images = [ImageFile(name, name) for name in table.names]
    return _Data(images, table.labels, table.vectors, table.errors)


def _list(paths: Paths) -> List[str]:
    if isinstance(paths, str | os.PathLike):
        return [os.fspath(paths)]
    return [os.fspath(each) for each in paths]
