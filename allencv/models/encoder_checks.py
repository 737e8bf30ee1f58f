"""Check that the images fit the first encoder, and the encoders each other."""

from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError

from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import Im2VecEncoder
from allencv.runtime.plurals import numbered


def check_neighbours(im2im_encoder: Optional[Im2ImEncoder], im2vec_encoder: Im2VecEncoder) -> None:
    """Raise `ConfigurationError` unless the encoders have the same number of channels between."""
    if im2im_encoder is None:
        return
    given, wanted = im2im_encoder.get_output_channels(), im2vec_encoder.get_input_channels()
    if given != wanted:
        raise ConfigurationError(
            f"model.im2im_encoder ({type(im2im_encoder).__name__}) gives "
            f"{numbered(given, 'channel')}, but model.im2vec_encoder "
            f"({type(im2vec_encoder).__name__}) takes {wanted}: set "
            f"model.im2vec_encoder.input_channels to {given}"
        )


def check_images(
    images: torch.Tensor, im2im_encoder: Optional[Im2ImEncoder], im2vec_encoder: Im2VecEncoder
) -> None:
    """
    Raise `ConfigurationError` unless this is a batch of images with the channels of the first
    encoder. Integers other than bytes are refused, because their range is unknown.
    """
    encoder = im2im_encoder or im2vec_encoder
    channels, shape = encoder.get_input_channels(), tuple(images.shape)
    if len(shape) != 4:
        raise ConfigurationError(
            f"the images have the shape {shape}; expected (batch, {channels}, height, width); "
            "a single image needs image[None]"
        )
    if shape[1] != channels:
        key = "im2im_encoder" if im2im_encoder else "im2vec_encoder"
        remedy = (
            "put the channels first, with image.permute(0, 3, 1, 2)"
            if shape[3] == channels
            else "set the color_mode of dataset_reader and validation_dataset_reader, or the "
            "encoder's input channels"
        )
        raise ConfigurationError(
            f"the images have {numbered(shape[1], 'channel')}, but model.{key} "
            f"({type(encoder).__name__}) takes {channels}: {remedy}; their shape is {shape}, "
            f"expected (batch, {channels}, height, width)"
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ConfigurationError(
            f"the images are {images.dtype}; expected torch.uint8 (0 to 255), or floating "
            "point (normalised)"
        )
