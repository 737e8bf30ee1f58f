import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.metrics import Metric
from sklearn.metrics import balanced_accuracy_score
from torchmetrics.classification import MulticlassAccuracy

from allencv.training.metrics.balanced_accuracy import BalancedAccuracy

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 2.0]])


def test_by_hand():
    metric = Metric.from_params(Params({"type": "balanced_accuracy"}))
    assert isinstance(metric, BalancedAccuracy)
    metric(LOGITS[:2], torch.tensor([0, 1]))
    metric(LOGITS[2:], torch.tensor([1, 2]))
    assert metric.get_metric() == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert metric.get_metric(reset=True) == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert metric.get_metric() == {}


@pytest.mark.parametrize("classes_with_images", [7, 4])
def test_as_scikit_learn(classes_with_images):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(200, 7, generator=generator)
    labels = torch.randint(classes_with_images, (200,), generator=generator)
    metric = BalancedAccuracy()
    for batch in zip(logits.split(64), labels.split(64)):
        metric(*batch)
    expected = balanced_accuracy_score(labels, logits.argmax(-1))
    assert metric.get_metric() == pytest.approx(expected)


def test_a_class_without_images_has_no_share():
    labels = torch.tensor([0, 0, 1, 1])  # never 2, which is predicted once
    metric = BalancedAccuracy()
    metric(LOGITS, labels)
    assert metric.get_metric() == pytest.approx(np.mean([1, 1 / 2]))
    theirs = MulticlassAccuracy(num_classes=3, average="macro")
    assert theirs(LOGITS, labels).item() == pytest.approx(np.mean([1, 1 / 2, 0]))


def test_several_labels_are_refused():
    with pytest.raises(ConfigurationError, match="balanced_accuracy got multilabel labels"):
        BalancedAccuracy()(torch.zeros(2, 3), torch.zeros(2, 3).long())


def test_arguments_are_refused():
    params = Params({"type": "balanced_accuracy", "average": "macro"})
    with pytest.raises(ConfigurationError, match="average"):
        Metric.from_params(params)
