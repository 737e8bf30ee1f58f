import copy
import pickle

import pytest
import torch
from allennlp.common.checks import ConfigurationError

from allencv.modules.im2im_encoders import SmallResnetEncoder
from allencv.modules.im2vec_encoders import PoolingEncoder
from allencv.modules.input_check import check_output


@pytest.mark.parametrize("encoder", [SmallResnetEncoder(), PoolingEncoder(3)])
@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3, 8, 8)])
def test_error_names_the_encoder_both_shapes_and_the_key(encoder, shape):
    with pytest.raises(ConfigurationError) as error:
        encoder(torch.zeros(shape))
    assert str(error.value) == (
        f"{type(encoder).__name__} expects images of shape (batch, 3, height, width), got {shape}: "
        "change its input_channels or the part before it"
    )


def test_check_survives_copying_and_pickling():
    encoder = PoolingEncoder(3)
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        with pytest.raises(ConfigurationError):
            other(torch.zeros(2, 1, 8, 8))


def test_images_given_by_keyword_are_encoded():
    assert PoolingEncoder(3)(images=torch.ones(2, 3, 8, 8)).shape == (2, 3)


def test_encoder_with_the_check_can_be_exported_with_a_free_batch_size():
    model = torch.nn.Sequential(SmallResnetEncoder(), PoolingEncoder(64)).eval()
    batch = torch.export.Dim("batch")
    images = torch.randn(2, 3, 32, 32)
    exported = torch.export.export(model, (images,), dynamic_shapes=({0: batch},)).module()
    more_images = torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(exported(more_images), model(more_images))


@pytest.mark.parametrize("output", [None, (torch.zeros(1, 3),)])
def test_an_output_that_is_no_tensor(output):
    with pytest.raises(ConfigurationError) as error:
        check_output("im2vec_encoder", PoolingEncoder(3), output, torch.float32)
    assert str(error.value) == (
        "model.im2vec_encoder: forward of PoolingEncoder returned "
        f"{type(output).__name__}; expected a tensor"
    )


def test_an_output_in_another_precision():
    encoder = PoolingEncoder(3)
    check_output("im2vec_encoder", encoder, torch.zeros(1, 3), torch.float32)
    with pytest.raises(ConfigurationError) as error:
        check_output("im2vec_encoder", encoder, torch.zeros(1, 3).half(), torch.float32)
    assert str(error.value) == (
        "model.im2vec_encoder: forward of PoolingEncoder returned torch.float16; expected "
        "torch.float32, as the images and the last layer are"
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check_output("im2vec_encoder", encoder, torch.zeros(1, 3).bfloat16(), torch.float32)
