import torch
from allennlp.data import Vocabulary
from allennlp.training.metrics import CategoricalAccuracy

from allencv.models import BasicImageClassifier
from allencv.modules.im2im_encoders import TorchvisionEncoder
from allencv.modules.im2vec_encoders import PoolingEncoder
from allencv.training.metric_counts import restore_counts, save_counts


def network() -> BasicImageClassifier:
    vocab = Vocabulary({"labels": {"cat": 1, "dog": 1}}, non_padded_namespaces=["labels"])
    # torchvision's ResNet keeps the class of its norm layers as an attribute.
    encoder = TorchvisionEncoder("resnet18", weights=None)
    return BasicImageClassifier(vocab, PoolingEncoder(input_channels=512), encoder)


def test_what_has_a_state_and_counts_nothing_is_left_alone() -> None:
    model = network()
    before = save_counts(model).keys()
    model.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.layer = torch.nn.BatchNorm2d
    model.generator = torch.Generator()
    assert save_counts(model).keys() == before != set()


def test_counts_go_on() -> None:
    first, second = network(), network()
    for model in (first, second):
        model.mine = CategoricalAccuracy()
    scores, gold = torch.eye(2), torch.tensor([0, 0])
    first.mine(scores, gold)
    assert restore_counts(second, save_counts(first), torch.device("cpu")) == []
    assert second.mine.get_metric() == first.mine.get_metric() == 0.5
