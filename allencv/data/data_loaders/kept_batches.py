"""Make whole batches of images that `cache` keeps, rather than an instance for each image."""

from typing import Any, List, Optional, Sequence, Tuple, Union

import torch
from allennlp.data import Batch, Instance, TensorDict
from allennlp.data.fields import ListField

from allencv.data.data_loaders.memory_cache import CachedImageField, CachedInstances, split
from allencv.data.data_loaders.seeds import DrawSeed
from allencv.data.fields.image_field import Transform
from allencv.data.transforms import ImageTransform, random_source
from allencv.data.transforms.batch_draws import BatchDraws, draws_like_torch
from allencv.data.transforms.image_transform import InTurn, TransformError
from allencv.data.transforms.image_turn import image_turn


def kept_batch(cached: CachedInstances, job: Sequence[Tuple[Any, int]]) -> Optional[TensorDict]:
    """
    Return the batch that `load` and `collate` make of a job, if all of its images are kept and
    alike. Return `None` if each image has to be loaded: also if an instance has several images, or
    if a transform raises an error, because `load` finds out for which image.

    # Parameters

    cached : `CachedInstances`, required
    job : `Sequence[Tuple[Any, int]]`, required
        The index and the seed of each instance.
    """
    indices = [index for index, _ in job]
    first = cached[indices[0]]
    keys = [key for key, each in first.items() if isinstance(each, (CachedImageField, ListField))]
    field = first[keys[0]] if len(keys) == 1 else None
    if not isinstance(field, CachedImageField) or not draws_like_torch():
        return None
    (key,) = keys
    instances = [] if cached.are_samples else [cached[index] for index in indices]
    images = _kept_images(field, [each[key] for each in instances], indices)
    if images is None:
        return None
    turns = [seed.turn if isinstance(seed, DrawSeed) else None for _, seed in job]
    draws = BatchDraws([seed for _, seed in job], turns)
    try:
        transformed = _transformed(images, split(field.transform)[1], draws, cached)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:  # each transform has its own errors
        return None
    others = cached.without_images(indices) if cached.are_samples else _without(key, instances)
    if others is None:
        return None
    if isinstance(transformed, list):
        transformed = field.batch_tensors(transformed)
    return {each: transformed if each == key else others[each] for each in first.fields}


def _kept_images(
    field: CachedImageField, fields: Sequence[Any], indices: List[int]
) -> Optional[torch.Tensor]:
    """Return the images of `fields`, which are like `field`, or of the samples at `indices`."""
    if not all(
        isinstance(each, CachedImageField) and each.transform is field.transform for each in fields
    ):
        return None
    return field.cache.kept.batch([each.place for each in fields] or indices)


def _transformed(
    images: torch.Tensor,
    transform: Optional[Transform],
    draws: BatchDraws,
    cached: CachedInstances,
) -> Union[torch.Tensor, List[torch.Tensor]]:
    """
    Apply transforms to a batch `(batch, channels, height, width)`. The result is a list of images
    if one of the transforms has no form for a batch.
    """
    if transform is None:
        return images
    steps: List[Transform] = [transform]
    if isinstance(transform, InTurn):
        steps = list(transform.steps())
    for number, step in enumerate(steps):
        changed = None
        if isinstance(step, ImageTransform) and step.has_batch_form:
            changed = _changed_at_once(images, step, draws, cached)
        if changed is None:
            if images.device.type != "cpu":
                cached.report_one_by_one(step)
            return _one_by_one(images.cpu(), steps[number:], draws)
        images = changed
    return images


def _changed_at_once(
    images: torch.Tensor, transform: ImageTransform, draws: BatchDraws, cached: CachedInstances
) -> Optional[torch.Tensor]:
    try:
        on_batch = transform.draw_batch(images, draws)
        if on_batch is None:
            return None
        changed = on_batch(images)
        if changed.dim() != 4 or len(changed) != len(draws):
            raise ValueError(
                f"the result has the shape {tuple(changed.shape)}; expected ({len(draws)}, "
                "channels, height, width)"
            )
        return changed
    except (MemoryError, torch.OutOfMemoryError, TransformError):
        raise
    except Exception as error:  # each transform has its own errors
        cached.report_batch_form(transform, error)
        raise


def _one_by_one(
    images: torch.Tensor, steps: Sequence[Transform], draws: BatchDraws
) -> List[torch.Tensor]:
    transformed = []
    for place, (image, turn) in enumerate(zip(images, draws.turns)):
        with random_source(draws.generator(place)), image_turn(turn):
            for step in steps:
                image = step(image)
        transformed.append(image)
    return transformed


def _without(key: str, instances: Sequence[Instance]) -> TensorDict:
    """Return a batch of all fields but one."""
    fields = [{k: field for k, field in each.items() if k != key} for each in instances]
    return Batch(map(Instance, fields)).as_tensor_dict() if fields[0] else {}
