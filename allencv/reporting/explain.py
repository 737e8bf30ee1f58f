from dataclasses import dataclass
from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models import Archive
from PIL import Image, ImageDraw, ImageFont

from allencv.common.nearest_names import not_one_of
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.models.image_classifier import ImageClassifier
from allencv.predictions.predict import as_pillow, heat_map
from allencv.reporting.overlays import color_bar, overlaid
from allencv.runtime import ImageSource

LEAST_SIDE = 320
"""The minimum length in pixels of a picture's shorter side. The legend needs this space."""
MARGIN, LINE = 12, 20


@dataclass
class Explanation:
    """A label, its probability, and a picture of the areas that support it."""

    label: str
    probability: float
    picture: Image.Image


def explain(archive: Archive, image: ImageSource, label: Optional[str] = None) -> Explanation:
    """
    Draw an image as the network sees it, with a map of the areas that support `label` (see
    `allencv.predictions.grad_cam`). The default label is the most probable one.

    # Raises

    `ConfigurationError` if the model has no such label, if the archive has no image classifier, or
    if its encoder has no feature map; `ImageError` if the image cannot be read.
    """
    model, reader = archive.model, archive.validation_dataset_reader
    if not isinstance(model, ImageClassifier) or not isinstance(reader, ImageDatasetReader):
        raise ConfigurationError(
            f"the archive has a {type(model).__name__} and a {type(reader).__name__}; expected an "
            "image classifier and a reader of images"
        )
    names = model.label_names()
    if label is not None and label not in names:
        raise not_one_of("--label", label, names)
    # Shape: (channels, height, width)
    pixels: torch.Tensor = reader.text_to_instance(image)["image"].as_tensor({})
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad():
        probs = model(image=pixels.unsqueeze(0).to(device))["probs"][0]
    index = int(probs.argmax()) if label is None else names.index(label)
    heat = heat_map(model, pixels, index)
    if heat is None:
        raise ConfigurationError(
            "the model's encoder gives no feature map of more than one pixel; expected one, to "
            "draw a map from"
        )
    picture = as_pillow(pixels)
    factor = -(-LEAST_SIDE // min(picture.size))
    picture = picture.resize(
        (factor * picture.width, factor * picture.height), Image.Resampling.BICUBIC
    )
    found = Explanation(names[index], float(probs[index]), overlaid(picture, heat))
    found.picture = _with_legend(picture, found)
    return found


def _with_legend(picture: Image.Image, found: Explanation) -> Image.Image:
    """Draw the image, the map beside it, and a legend below."""
    width = 2 * picture.width + 3 * MARGIN
    height = picture.height + 2 * LINE + 3 * MARGIN
    page = Image.new("RGB", (width, height), "white")
    page.paste(picture, (MARGIN, MARGIN))
    page.paste(found.picture, (picture.width + 2 * MARGIN, MARGIN))
    draw = ImageDraw.Draw(page)
    large, small = ImageFont.load_default(16), ImageFont.load_default(13)
    top = picture.height + 2 * MARGIN
    draw.text((MARGIN, top), f"{found.label}, {found.probability:.1%}", "black", large)
    left = picture.width + 2 * MARGIN
    draw.text((left, top), "areas that support the label (Grad-CAM)", "#444", small)
    draw.text((left, top + LINE), "weakly", "#444", small)
    bar = color_bar()
    page.paste(bar, (left + 52, top + LINE + 5))
    draw.text((left + 60 + bar.width, top + LINE), "strongly", "#444", small)
    return page
