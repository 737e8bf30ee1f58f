import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.metrics import Metric
from sklearn.metrics import precision_recall_fscore_support

from allencv.training.metrics.per_class import PerClass

NAMES = ["cat", "dog", "eel", "fox"]
MEASURES = ("precision", "recall", "f1", "support")


def assert_as_scikit_learn(value, labels, predicted):
    expected = precision_recall_fscore_support(
        labels, predicted, labels=range(len(NAMES)), zero_division=0
    )
    assert list(value) == [f"{name}_{measure}" for name in NAMES for measure in MEASURES]
    for measure, numbers in zip(MEASURES, expected):
        found = [value[f"{name}_{measure}"] for name in NAMES]
        assert found == pytest.approx(numbers.tolist()), measure
        assert all(type(number) is float for number in found)


def test_by_hand():
    metric = Metric.from_params(Params({"type": "per_class"}))
    assert isinstance(metric, PerClass)
    metric(torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1, 1]))
    value = metric.get_metric(reset=True)
    assert value == pytest.approx(
        {
            **{"0_precision": 1 / 2, "0_recall": 1.0, "0_f1": 2 / 3, "0_support": 1},
            **{"1_precision": 1.0, "1_recall": 1 / 2, "1_f1": 2 / 3, "1_support": 2},
        }
    )
    assert metric.get_metric() == {}


def test_one_label_as_scikit_learn():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(100, 4, generator=generator)
    logits[:, 1] = -9  # the second is never predicted
    labels = torch.randint(3, (100,), generator=generator)  # the fourth has no images
    metric = PerClass()
    metric.set_labels(NAMES)
    for batch in zip(logits.split(30), labels.split(30)):
        metric(*batch)
    assert_as_scikit_learn(metric.get_metric(), labels, logits.argmax(-1))


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_several_labels_as_scikit_learn(threshold):
    generator = torch.Generator().manual_seed(1)
    probs = torch.rand(100, 4, generator=generator)
    labels = torch.randint(2, (100, 4), generator=generator)
    metric = PerClass(threshold)
    metric.set_labels(NAMES)
    metric(probs, labels)
    assert_as_scikit_learn(metric.get_metric(), labels, probs > (threshold or 0.5))


@pytest.mark.parametrize("threshold", [1.5, -0.1])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ConfigurationError, match=str(threshold)):
        PerClass(threshold)


def test_a_threshold_is_for_several_labels():
    with pytest.raises(ConfigurationError, match="for multiclass labels is 'threshold'"):
        PerClass(0.3)(torch.zeros(2, 3), torch.zeros(2).long())
