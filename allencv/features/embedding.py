"""Turn images into vectors with a trained model or a pretrained network, and keep them."""

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Protocol, Sequence, Union

import numpy as np
from allennlp.common.checks import ConfigurationError

from allencv.classify.answers import DecodedImage, decoded_batches, renamed
from allencv.classify.arguments import ON_GPU
from allencv.classify.output_files import Record
from allencv.classify.partial_output import UnfinishedRun, interruptible
from allencv.classify.progress import ProgressBar
from allencv.common.feature_store import (
    FeatureStore,
    address_of,
    default_root,
    store_folder,
    to_float16,
)
from allencv.common.memory import KEPT_BYTES, reuse_freed_memory
from allencv.exporting.torch_classifier import TorchClassifier
from allencv.features.folder_labels import labels_of
from allencv.features.pretrained_backbones import PretrainedBackbone
from allencv.features.vector_files import (
    check_output,
    vector_record,
    write_vectors,
)
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime.bundle import is_bundle, read_manifest, vector_size_of
from allencv.runtime.classifier import group_by_shape
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.errors import ImageError, InputError
from allencv.runtime.image_files import ImageFile, list_images
from allencv.runtime.images import ImageSource, read_file
from allencv.runtime.onnx_classifier import OnnxClassifier

NOT_FINITE = "the network's vector for it has numbers that are not finite"


class ImageEncoder(Protocol):
    """
    Turns images into vectors.

    # Parameters

    encoder_checksum : of all that turns pixels into vectors.
    preprocessing_text : says all that turns an image into pixels.
    vector_size : the size of a vector.
    """

    encoder_checksum: str
    preprocessing_text: str

    @property
    def vector_size(self) -> int: ...

    def preprocess(self, source: ImageSource) -> np.ndarray:
        """Return the pixels `(height, width, channels)` of one image. Raise `ImageError`."""
        ...

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """Return the vectors `(batch, vector_size)` of pixels of one size. Raise `ImageError`."""
        ...


class Embedded(NamedTuple):
    """
    What `embed` has done.

    # Parameters

    images : how many the file has.
    failed : how many of them have no vector.
    known : how many had a vector in the cache.
    repeated : how many images were named again.
    others : the skipped files that are not images.
    """

    images: int
    failed: int
    known: int
    repeated: int
    others: List[str]


SourceOf = Callable[[ImageFile], Union[str, bytes]]


def source_of_file(image: ImageFile) -> Union[str, bytes]:
    """Return the path of an image, or its bytes if it has no file of its own."""
    return image.file if image.content is None else image.content


class Prepared(NamedTuple):
    """An image for `CachedEncoder.vectors`."""

    address: bytes
    row: int
    """In the store, or -1."""
    pixels: Optional[np.ndarray]
    """`None` for an image that has a row."""


class CachedEncoder:
    """
    Computes the vectors of images that a store does not have.

    # Parameters

    store : `FeatureStore`, optional (default = `None`)
        With one, all vectors are rounded to float16, as they are kept.
    source_of : `Callable[[ImageFile], Union[str, bytes]]`, optional
        Returns the path or the bytes of an image, and raises `ImageError`. Threads call it.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        store: Optional[FeatureStore] = None,
        source_of: SourceOf = source_of_file,
    ) -> None:
        self._encoder = encoder
        self._store = store
        self._source_of = source_of
        self.known = 0

    def prepare(self, image: ImageFile) -> Prepared:
        """Find an image in the store, or else decode it. Raise `ImageError`."""
        source = self._source_of(image)
        try:
            content = source if isinstance(source, bytes) else read_file(source)
        except OSError as error:
            raise ImageError(f"{image.file}: {error.strerror or error}") from None
        address = address_of(hashlib.sha256(content).digest(), self._encoder.preprocessing_text)
        row = -1 if self._store is None else int(self._store.find([address])[0])
        if row >= 0:
            return Prepared(address, row, None)
        try:
            return Prepared(address, row, self._encoder.preprocess(content))
        except ImageError as error:
            raise ImageError(renamed(error, content, image.file)) from None

    def vectors(self, prepared: Mapping[int, Prepared]) -> Dict[int, Union[np.ndarray, str]]:
        """Return the vector of each image, or the reason why there is none."""
        outcomes: Dict[int, Union[np.ndarray, str]] = {}
        kept = {key: each.row for key, each in prepared.items() if each.pixels is None}
        if kept and self._store is not None:
            self.known += len(kept)
            rows = self._store.read(np.array(list(kept.values())))
            outcomes |= zip(kept, rows.astype(np.float32))
        new = {key: each.pixels for key, each in prepared.items() if each.pixels is not None}
        for keys in group_by_shape(new):
            try:
                computed = self._encoder.vectors(np.stack([new[key] for key in keys]))
            except ImageError as error:
                outcomes |= dict.fromkeys(keys, str(error))
                continue
            is_finite = np.isfinite(computed).all(axis=1)
            outcomes |= {key: NOT_FINITE for key, good in zip(keys, is_finite) if not good}
            good = [key for key, good in zip(keys, is_finite) if good]
            addresses = [prepared[key].address for key in good]
            outcomes |= zip(good, self._kept(addresses, computed[is_finite]))
        return outcomes

    def outcomes(self, batch: List[DecodedImage[Prepared]]) -> List[Union[np.ndarray, str]]:
        """Return the vector of each image, or the reason why there is none, with its path."""
        prepared = {
            place: each.content
            for place, each in enumerate(batch)
            if not isinstance(each.content, str)
        }
        found = self.vectors(prepared)
        outcomes: List[Union[np.ndarray, str]] = []
        for place, each in enumerate(batch):
            outcome = each.content if isinstance(each.content, str) else found[place]
            if isinstance(outcome, str) and place in found:
                outcome = f"{each.image.file}: {outcome}"
            outcomes.append(outcome)
        return outcomes

    def _kept(self, addresses: Sequence[bytes], vectors: np.ndarray) -> np.ndarray:
        if self._store is None:
            return vectors
        try:
            rounded = to_float16(vectors)
        except ConfigurationError as error:
            raise InputError(f"{error} (--no-cache keeps none)") from None
        self._store.add(addresses, rounded)
        return rounded.astype(np.float32)


def open_encoder(
    model: Union[str, os.PathLike],
    weights: Optional[str] = None,
    size: Optional[int] = None,
    device: Optional[str] = None,
    trusted: bool = False,
    precision: Optional[str] = None,
) -> ImageEncoder:
    """
    Open an archive, a bundle, or a pretrained network by its name.

    # Raises

    `InputError` if there is none, or for arguments of another one; `BundleError` for a bundle that
    cannot be opened or gives no vectors; `ConfigurationError`.
    """
    name = os.fspath(model)
    is_backbone = not os.path.exists(name) and "://" not in name
    if not is_bundle(name):  # whose engine manages its own memory
        reuse_freed_memory(KEPT_BYTES)
    if is_backbone:
        return PretrainedBackbone(name, weights, size, device, precision or "float32")
    kind = "a bundle" if is_bundle(name) else "an archive"
    for option, value in (("--weights", weights), ("--size", size), ("--precision", precision)):
        if value is not None:
            raise InputError(f"'{name}' is {kind}; {option} is for a network of timm's")
    return (
        _open_bundle(name, device, trusted)
        if is_bundle(name)
        else ArchiveClassifier(name, device, trusted)
    )


def _open_bundle(path: str, device: Optional[str], trusted: bool) -> ImageEncoder:
    manifest = read_manifest(path)
    vector_size_of(manifest, path)  # raises an error before the network is loaded
    if device is not None:
        raise InputError(f"'{path}' is a bundle, which runs on the CPU; expected no --device")
    if manifest.format == "torch_export":
        return TorchClassifier(path, trusted)
    if trusted:
        raise InputError(f"'{path}' is an ONNX bundle; expected no --trust-archive")
    return OnnxClassifier(path, threads=cpu_count())


def open_store(encoder: ImageEncoder, max_gb: Optional[float] = None) -> FeatureStore:
    """Return the store of an encoder in `default_root()`. Raise `ConfigurationError`, `OSError`."""
    folder = store_folder(default_root(), encoder.encoder_checksum)
    return FeatureStore(folder, (encoder.vector_size,), max_gb)


def vectors_checksum(encoder: ImageEncoder) -> str:
    """Return a checksum of all that decides the vectors of an encoder. Others have another one."""
    parts = f"{encoder.encoder_checksum} {encoder.preprocessing_text}"
    return hashlib.sha256(parts.encode()).hexdigest()


def embed(
    model: Union[str, os.PathLike],
    data: Union[str, os.PathLike, Sequence[Union[str, os.PathLike]]],
    output: Union[str, os.PathLike],
    column: str = "path",
    weights: Optional[str] = None,
    size: Optional[int] = None,
    batch_size: int = ON_GPU,
    workers: Optional[int] = None,
    device: Optional[str] = None,
    cache: bool = True,
    max_gb: Optional[float] = None,
    restart: bool = False,
    trusted: bool = False,
    precision: Optional[str] = None,
) -> Embedded:
    """
    Write the vectors of images to a file, like the command `allencv embed`.

    # Parameters

    model : `str`, required
        A model archive, a bundle, or the name of a network of torchvision or timm.
    data : `str` or a list of them, required
        Images, folders, patterns, or tables of paths in `column`, as in `allencv classify`.
    output : `str`, required
        A file ".npz" or ".parquet".
    weights, size : optional
        See `PretrainedBackbone`.
    batch_size, workers : `int`, optional
        The images that the network computes at once, and the threads that decode.
    cache : `bool`, optional (default = `True`)
        Whether to use the vectors of images that were seen before, and to keep new ones (see
        `FeatureStore`). All vectors are then rounded to float16.
    max_gb : `float`, optional (default = `20`)
        The most GB that the kept vectors of all models may take.
    restart : `bool`, optional (default = `False`)
        Whether to start again rather than resume an interrupted run.
    trusted : `bool`, optional (default = `False`)
        Whether the archive's config, or the .pt2 file of a bundle, may name any Python code, which
        then runs.
    precision : `str`, optional (default = `"float32"`)
        See `PretrainedBackbone`.

    # Raises

    `InputError`, `BundleError`, `ConfigurationError`, or `OSError`.
    """
    output = os.fspath(output)
    check_output(output)
    paths = [os.fspath(each) for each in ([data] if isinstance(data, str | os.PathLike) else data)]
    images, repeated, others = list_images(paths, column)
    encoder = open_encoder(model, weights, size, device, trusted, precision)
    cached = CachedEncoder(encoder, open_store(encoder, max_gb) if cache else None)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    checksum = vectors_checksum(encoder)
    header = {"model": checksum, "--no-cache": not cache}
    unfinished = UnfinishedRun(f"{output}.part", header, restart)
    with interruptible(unfinished):
        left = [image for image in images if not unfinished.has(image)]
        progress = ProgressBar(len(images), len(images) - len(left))
        batches = decoded_batches(cached.prepare, left, batch_size, workers or cpu_count())
        for records in progress.counted(_records(cached, batch) for batch in batches):
            unfinished.add(records)
        labels = labels_of(paths, [image.name for image in images])
        all_records = partial(unfinished.records, images)
        write_vectors(output, checksum, encoder.vector_size, labels, all_records)
        unfinished.remove()
    return Embedded(len(images), progress.failed, cached.known, repeated, others)


def _records(cached: CachedEncoder, batch: List[DecodedImage[Prepared]]) -> List[Record]:
    records: List[Record] = []
    for each, outcome in zip(batch, cached.outcomes(batch)):
        record: Record = {"path": each.image.name, "stamp": each.stamp}
        if isinstance(outcome, str):
            records.append({**record, "error": outcome})
        else:
            records.append(vector_record(record, outcome))
    return records


class ImageVectors(NamedTuple):
    """
    The vectors of images.

    # Parameters

    images : those that have a vector.
    vectors : `(images, vector_size)`, in float16 if they are kept in the cache, or else float32.
    errors : why other images have none, by their names.
    """

    images: List[ImageFile]
    vectors: np.ndarray
    errors: Dict[str, str]


def image_vectors(
    encoder: ImageEncoder,
    images: Sequence[ImageFile],
    batch_size: int = ON_GPU,
    workers: Optional[int] = None,
    cache: bool = True,
    max_gb: Optional[float] = None,
    show_progress: bool = True,
    source_of: SourceOf = source_of_file,
) -> ImageVectors:
    """
    Return the vectors of images, from the cache where it has them. See `embed` and `CachedEncoder`
    for the arguments.
    """
    cached = CachedEncoder(encoder, open_store(encoder, max_gb) if cache else None, source_of)
    vectors = np.empty((len(images), encoder.vector_size), np.float16 if cache else np.float32)
    good: List[ImageFile] = []
    errors: Dict[str, str] = {}
    progress = ProgressBar(len(images), is_shown=show_progress)
    for batch in decoded_batches(cached.prepare, images, batch_size, workers or cpu_count()):
        for each, outcome in zip(batch, cached.outcomes(batch)):
            if isinstance(outcome, str):
                errors[each.image.name] = outcome
            else:
                vectors[len(good)] = outcome
                good.append(each.image)
        progress.add(len(batch), len(errors) - progress.failed)
    progress.close()
    return ImageVectors(good, vectors[: len(good)], errors)
