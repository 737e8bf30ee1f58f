"""Predict the images of a split with a trained model, with pictures and maps of some."""

import io
from pathlib import Path
from typing import (
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Protocol,
    Tuple,
    Union,
    runtime_checkable,
)

import numpy as np
import torch
import torch.distributed as dist
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader, TensorDict
from allennlp.nn.util import move_to_device
from PIL import Image

from allencv.predictions.all_ranks import (
    copy_buffers,
    every_image_once,
    gathered_results,
    in_order,
    pass_turn,
)
from allencv.predictions.grad_cam import StagedEncoder, grad_cam
from allencv.predictions.predictions_file import FOLDER, Picture, Predictions, Shown, pictured

SIDE, QUALITY = 224, 85
"""The longest side of a picture in pixels, and the quality of its JPEG file."""


@runtime_checkable
class LabelledModel(Protocol):
    """A classifier that names its labels. The other methods are those of any AllenNLP `Model`."""

    training: bool
    multi_label: bool
    """Whether an image may have any number of labels."""

    def label_names(self) -> List[str]:
        """Return the labels in the order of the probabilities."""

    def __call__(self, **batch: torch.Tensor) -> Dict[str, torch.Tensor]: ...

    def eval(self) -> object: ...

    def train(self, mode: bool = True) -> object: ...

    def parameters(self) -> Iterator[torch.nn.Parameter]: ...

    def get_metrics(self, reset: bool = False) -> Dict[str, float]: ...


@runtime_checkable
class ModelWithThresholds(Protocol):
    """A classifier that compares probabilities with a threshold for each label."""

    def get_thresholds(self) -> Dict[str, float]:
        """Return the threshold of each label, in the order of the probabilities."""


Forward = Callable[[TensorDict], Dict[str, torch.Tensor]]
PredictedBatch = Optional[Tuple[List[str], np.ndarray, np.ndarray]]
"""The names, probabilities and targets of the images of a batch, unless none can be read."""


def save_predictions(
    run: Union[str, Path],
    split: str,
    model: LabelledModel,
    loader: DataLoader,
    pictures: int,
    forward: Optional[Forward] = None,
) -> Optional[Path]:
    """
    Write `predictions/{split}.npz` into the folder of a run, and return its path, or `None` if the
    images have no labels. In distributed training every rank must call this with its share of the
    images; only the first gets the path.

    # Parameters

    model : `LabelledModel`
        An image classifier of `allencv.models`.
    pictures : `int`
        How many pictures of each kind (see `allencv.predictions.predictions_file.pictured`).
    forward : `Callable`, optional
        Gives the model's outputs for a batch. By default the model is called.
    """
    predictions = predict(model, loader, forward)
    if predictions is None or (is_distributed() and dist.get_rank() != 0):
        return None
    path = Path(run) / FOLDER / f"{split}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        chosen = pictured(predictions, pictures)
        predictions.pictures = take_pictures(model, loader, predictions, chosen)
    finally:
        predictions.save(path)  # useful without pictures, too
    return path


@torch.no_grad()
def predict(
    model: LabelledModel,
    loader: Iterable[TensorDict],
    forward: Optional[Forward] = None,
) -> Optional[Predictions]:
    """
    Return the predictions of a classifier for all images of a data loader, or `None` if they have
    no labels. In distributed training every rank must call this, and gets those of all ranks.

    An image that comes several times counts once. The metrics of the model are reset. Of soft
    labels, the largest counts.
    """
    if isinstance(model, torch.nn.Module):
        copy_buffers(model)
    with every_image_once(loader):
        of_ranks = gathered_results(lambda: _predicted_batches(model, loader, forward))
    model.get_metrics(reset=True)
    rows = in_order(of_ranks)
    if not rows:
        return None
    names = [name for row in rows for name in row[0]]
    probs, targets = (np.concatenate([row[index] for row in rows]) for index in (1, 2))
    keys = {
        (name or number, targets[number].tobytes()): number for number, name in enumerate(names)
    }
    order = sorted(keys.values(), key=names.__getitem__)
    thresholds = None
    if isinstance(model, ModelWithThresholds):
        thresholds = np.array(list(model.get_thresholds().values()), dtype=np.float32)
    return Predictions(
        model.label_names(),
        [names[index] for index in order],
        probs[order],
        targets[order],
        thresholds,
    )


def _predicted_batches(
    model: LabelledModel, loader: Iterable[TensorDict], forward: Optional[Forward]
) -> List[PredictedBatch]:
    """Return the predictions for the batches of this rank, up to the first without labels."""
    was_training = model.training
    model.eval()
    rows: List[PredictedBatch] = []
    device = next(model.parameters()).device
    for each in loader:
        if not each:
            pass_turn(model)
            rows.append(None)
            continue
        batch = move_to_device(each, device)
        target = batch.get("labels" if model.multi_label else "label")
        if target is None:
            break
        outputs = model(**batch) if forward is None else forward(batch)
        if target.dim() == 2:
            target = target > 0.5 if model.multi_label else target.argmax(1)
        names = [str(one.get("image", "")) for one in batch.get("metadata") or []]
        rows.append(
            (
                names or [""] * len(target),
                outputs["probs"].float().cpu().numpy(),
                target.cpu().numpy(),
            )
        )
    model.train(was_training)
    return rows


def take_pictures(
    model: LabelledModel, loader: DataLoader, predictions: Predictions, chosen: List[Shown]
) -> Dict[Shown, Picture]:
    """Return the chosen images as the network sees them, with maps of the chosen labels."""
    wanted: Dict[str, List[Shown]] = {}
    for shown in chosen:
        wanted.setdefault(predictions.names[shown[0]], []).append(shown)
    found = {}
    for instance in loader.iter_instances():
        if not wanted:
            break
        name = str(instance["metadata"].metadata.get("image", ""))
        for image, label in wanted.pop(name, []):
            found[image, label] = picture(model, instance["image"].as_tensor({}), label)
    # In the order in which they were chosen.
    return {shown: found[shown] for shown in chosen if shown in found}


def picture(model: LabelledModel, image: torch.Tensor, label: int) -> Picture:
    """Return a picture of an image `(channels, height, width)` with the map of a label."""
    shown = as_pillow(image)
    shown.thumbnail((SIDE, SIDE))
    return Picture(as_jpeg(shown, QUALITY), heat_map(model, image, label))


def as_jpeg(picture: Image.Image, quality: int) -> bytes:
    """Return a picture as the content of a JPEG file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


def heat_map(model: LabelledModel, image: torch.Tensor, label: int) -> Optional[np.ndarray]:
    """
    Return the Grad-CAM `(height, width)` of a label in an image `(channels, height, width)`, or
    `None` if the model has no feature map.
    """
    encoder: Optional[StagedEncoder] = getattr(model, "_im2im_encoder", None)
    if encoder is None:
        return None
    was_training = model.training
    model.eval()
    batch = image.unsqueeze(0).to(next(model.parameters()).device)
    size = (image.shape[1], image.shape[2])
    with torch.compiler.set_stance("force_eager"):  # hooks have no effect on compiled code
        maps = grad_cam(lambda: model(image=batch)["logits"][:, label], encoder, size)
    model.train(was_training)
    return None if maps is None else maps[0].float().cpu().numpy()


def as_pillow(image: torch.Tensor) -> Image.Image:
    """Return an RGB picture. Floats are stretched to the visible range."""
    pixels = image.detach().float()
    if image.is_floating_point():
        lowest, highest = pixels.min(), pixels.max()
        pixels = (pixels - lowest) / (highest - lowest).clamp(min=1e-6) * 255
    # Shape: (height, width, channels)
    array = pixels.round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array[:, :, :3] if array.shape[2] > 2 else array[:, :, 0]).convert("RGB")
