from typing import Any, Dict

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.modules import FeedForward
from allennlp.nn import Activation

from allencv.data.transforms.batch_transforms import MixUp
from allencv.models import BasicImageClassifier, MultiLabelImageClassifier
from allencv.modules.im2im_encoders import SmallResnetEncoder
from allencv.modules.im2vec_encoders import (
    FeedForwardVectorEncoder,
    FlattenEncoder,
    Im2VecEncoder,
    PoolingEncoder,
)

IMAGES = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
LABELS = torch.tensor([0, 1, 2, 0, 1])


def encoder(frozen: bool = True) -> SmallResnetEncoder:
    made = SmallResnetEncoder([4, 8], zero_init_residual=False)
    return made.requires_grad_(not frozen)


def classifier(
    im2vec: Im2VecEncoder, kind: type = BasicImageClassifier, **arguments: Any
) -> BasicImageClassifier:
    arguments = {"im2im_encoder": encoder(), "num_labels": 3, **arguments}
    return kind(Vocabulary(), im2vec, **arguments).eval()


def feedforward(dropout: float = 0.0) -> FeedForwardVectorEncoder:
    hidden = FeedForward(8, 1, 6, Activation.by_name("relu")(), dropout)
    return FeedForwardVectorEncoder(PoolingEncoder(8), hidden)


@pytest.mark.parametrize(
    ("im2vec", "shape"),
    [
        (PoolingEncoder(8), (5, 8)),
        (feedforward().requires_grad_(False), (5, 6)),
        (feedforward(), (5, 8, 8, 8)),
        (PoolingEncoder(8, "gem"), (5, 8, 8, 8)),
        (FlattenEncoder(8, 8, 8), (5, 512)),
    ],
)
@pytest.mark.parametrize("kind", [BasicImageClassifier, MultiLabelImageClassifier])
def test_features_give_what_their_images_give(
    im2vec: Im2VecEncoder, shape: "tuple[int, ...]", kind: type
) -> None:
    model = classifier(im2vec, kind)
    features = model.frozen_encoder()(IMAGES)
    assert features.shape == shape
    assert not features.requires_grad
    expected, outputs = model(image=IMAGES), model(features=features)
    assert outputs["logits"].equal(expected["logits"])
    assert outputs["probs"].equal(expected["probs"])
    assert model(features=features.half())["logits"].dtype == torch.float32


def test_it_computes_in_evaluation_mode_and_leaves_the_model_as_it_is() -> None:
    model = classifier(feedforward(dropout=0.9).requires_grad_(False))
    frozen = model.frozen_encoder()
    expected = frozen(IMAGES)
    model.train()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert frozen(IMAGES).equal(expected)
    assert modes == [module.training for module in model.modules()]
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("im2vec", [PoolingEncoder(8), PoolingEncoder(8, "gem")])
def test_mixup_mixes_vectors_and_maps_as_it_mixes_images(im2vec: Im2VecEncoder) -> None:
    model = classifier(im2vec, batch_transforms=[MixUp()]).train()
    features = model.frozen_encoder()(IMAGES)
    torch.manual_seed(3)
    outputs = model(features=features, label=LABELS)
    torch.manual_seed(3)
    maps = features if features.dim() == 4 else features[:, :, None, None]
    mixed, shares = MixUp()(maps, LABELS, 3)
    model._batch_transforms = []
    expected = model(features=mixed.view_as(features), label=shares)
    assert outputs["loss"].equal(expected["loss"])


def moving() -> SmallResnetEncoder:
    made = encoder()
    made.bn1 = torch.nn.BatchNorm2d(4, affine=False)  # no weight says that it is frozen
    return made


def without_statistics() -> SmallResnetEncoder:
    made = encoder()
    made.bn1 = torch.nn.BatchNorm2d(4, track_running_stats=False).requires_grad_(False)
    return made


REFUSED: Dict[str, Dict[str, Any]] = {
    "_im2im_encoder.conv1.weight is trained": {"im2im_encoder": encoder(frozen=False)},
    "the normalisation _im2im_encoder.bn1 changes its running statistics": {
        "im2im_encoder": moving()
    },
    "the batch normalisation _im2im_encoder.bn1 has no running statistics": {
        "im2im_encoder": without_statistics()
    },
    "model.test_time_augmentation needs the images": {"test_time_augmentation": ["rotate_90"]},
}


@pytest.mark.parametrize("message", REFUSED)
def test_an_encoder_that_training_changes_is_refused(message: str) -> None:
    model = classifier(PoolingEncoder(8), **REFUSED[message])
    with pytest.raises(ConfigurationError, match=message):
        model.frozen_encoder()


def test_without_an_im2im_encoder_the_vectors_may_be_frozen() -> None:
    model = classifier(PoolingEncoder(3), im2im_encoder=None)
    assert model.frozen_encoder()(IMAGES).shape == (5, 3)
    trained = classifier(PoolingEncoder(3, "gem"), im2im_encoder=None)
    with pytest.raises(ConfigurationError, match="_im2vec_encoder.p is trained; expected a frozen"):
        trained.frozen_encoder()


@pytest.mark.parametrize("arguments", [{}, {"image": IMAGES, "features": torch.zeros(5, 8)}])
def test_forward_takes_images_or_features(arguments: Dict[str, torch.Tensor]) -> None:
    with pytest.raises(ConfigurationError, match="neither image nor features, or both"):
        classifier(PoolingEncoder(8))(**arguments)
