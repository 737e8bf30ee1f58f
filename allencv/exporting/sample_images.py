from typing import Any, Iterable, List, Sequence, TypeVar

from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive

from allencv.data.dataset_readers import ImageDatasetReader
from allencv.runtime import ImageError
from allencv.runtime.image_files import list_images

T = TypeVar("T")

HOW = "give some with --parity-images, or skip the comparison with --no-parity"


def given_images(paths: Sequence[str]) -> List[str]:
    """Return the files in the paths of a command: files, folders, patterns or tables."""
    return [image.file for image in list_images(paths, "image").images]


def validation_images(archive: Archive, most: int) -> List[Any]:
    """
    Return sources of images (see `ImageField`) from the config's validation data, evenly spaced.

    # Raises

    `ConfigurationError` if there are no data.
    """
    path = archive.config.as_dict(quiet=True).get("validation_data_path")
    reader = archive.validation_dataset_reader
    assert isinstance(reader, ImageDatasetReader)
    if path is None:
        raise ConfigurationError(f"the config has no validation_data_path to compare on; {HOW}")
    try:
        images = evenly((sample.image for sample in reader.read_samples(path)), most)
    except (ConfigurationError, ImageError, OSError) as error:
        raise ConfigurationError(f"no images to compare on ({error}); {HOW}") from error
    if not images:
        raise ConfigurationError(f"validation_data_path '{path}' has no images; {HOW}")
    return images


def evenly(items: Iterable[T], most: int) -> List[T]:
    """Return at most `most` of the items, evenly spaced. Hold at most twice as many at once."""
    kept: List[T] = []
    step = 1
    for index, item in enumerate(items):
        if index % step == 0:
            kept.append(item)
            if len(kept) == 2 * most:
                kept, step = kept[::2], 2 * step
    if len(kept) <= most:
        return kept
    return [kept[index * len(kept) // most] for index in range(most)]
