import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.metrics import Metric
from sklearn.metrics import confusion_matrix

from allencv.training.metrics.confusion_matrix import ConfusionMatrix


def logits_of(predicted, num_classes=3):
    return torch.nn.functional.one_hot(torch.tensor(predicted), num_classes).float()


def test_by_hand():
    metric = Metric.from_params(Params({"type": "confusion_matrix", "max_confusions": 2}))
    assert isinstance(metric, ConfusionMatrix)
    metric.set_labels(["cat", "dog", "eel"])
    metric(logits_of([0, 0, 1, 1]), torch.tensor([0, 1, 1, 2]))
    assert metric.get_metric() == {"dog_as_cat": 1.0, "eel_as_dog": 1.0}
    metric(logits_of([0, 1, 1, 0]), torch.tensor([2, 2, 0, 0]))
    # Of the three that are left, each of one image, the first in the order of the classes.
    value = metric.get_metric(reset=True)
    assert list(value.items()) == [("eel_as_dog", 2.0), ("cat_as_dog", 1.0)]
    assert metric.matrix().tolist() == [[2, 1, 0], [1, 1, 0], [1, 2, 0]]
    assert metric.get_metric() == {}


def test_what_was_reported_once_is_never_stale():
    """AllenNLP's trainer puts what it is given over what it was given in earlier epochs."""
    metric = ConfusionMatrix(max_confusions=1)
    metric(logits_of([0, 0, 1]), torch.tensor([1, 1, 2]))
    assert metric.get_metric() == {"1_as_0": 2.0}
    metric(logits_of([1, 1]), torch.tensor([2, 2]))
    assert metric.get_metric() == {"2_as_1": 3.0}, "what is shown in an epoch is not kept"
    metric.get_metric(reset=True)
    metric(logits_of([2, 2, 1]), torch.tensor([0, 0, 1]))
    assert metric.get_metric(reset=True) == {"0_as_2": 2.0, "2_as_1": 0.0}
    metric(logits_of([2, 1]), torch.tensor([0, 2]))
    assert metric.get_metric(reset=True) == {"0_as_2": 1.0, "2_as_1": 1.0}


def test_no_confusions_are_no_numbers():
    metric = ConfusionMatrix()
    metric(logits_of([0, 1, 2]), torch.tensor([0, 1, 2]))
    assert metric.get_metric() == {}
    assert metric.matrix().equal(torch.eye(3).long())


def test_as_scikit_learn():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(500, 12, generator=generator)
    labels = torch.randint(12, (500,), generator=generator)
    metric = ConfusionMatrix()
    for batch in zip(logits.split(128), labels.split(128)):
        metric(*batch)
    confusions = metric.get_metric()
    expected = confusion_matrix(labels, logits.argmax(-1))
    assert metric.matrix().tolist() == expected.tolist()
    assert len(confusions) == 10
    for pair, count in confusions.items():
        gold, predicted = map(int, pair.split("_as_"))
        assert expected[gold, predicted] == count
    off_diagonal = sorted(expected[i, j] for i in range(12) for j in range(12) if i != j)
    assert sorted(confusions.values()) == off_diagonal[-10:]


def test_no_matrix_before_get_metric():
    with pytest.raises(ConfigurationError, match="call get_metric first"):
        ConfusionMatrix().matrix()


def test_max_confusions_below_one_is_refused():
    with pytest.raises(ConfigurationError, match="max_confusions is 0; expected at least 1"):
        ConfusionMatrix(max_confusions=0)


def test_several_labels_are_refused():
    with pytest.raises(ConfigurationError, match="confusion_matrix got multilabel labels"):
        ConfusionMatrix()(torch.zeros(2, 3), torch.zeros(2, 3).long())
