import torch
from allennlp.common import Params
from allennlp.training.metrics import Metric
from sklearn.metrics import multilabel_confusion_matrix

from allencv.training.metrics.stat_scores import StatScores

PROBS = torch.tensor([[0.9, 0.2], [0.8, 0.6], [0.1, 0.7]])
LABELS = torch.tensor([[1, 1], [0, 1], [0, 1]])


def test_by_hand():
    metric = Metric.from_params(Params({"type": "stat_scores"}))
    assert isinstance(metric, StatScores)
    metric(PROBS, LABELS)
    assert metric.get_metric() == {"tp": 3, "fp": 1, "tn": 1, "fn": 1, "support": 4}


def test_of_each_label_as_scikit_learn():
    metric = Metric.from_params(Params({"type": "stat_scores", "average": None}))
    metric.set_labels(["cat", "dog"])
    metric(PROBS, LABELS)
    value = metric.get_metric(reset=True)
    for name, matrix in zip(["cat", "dog"], multilabel_confusion_matrix(LABELS, PROBS > 0.5)):
        (tn, fp), (fn, tp) = matrix.tolist()
        assert [value[f"{name}_{key}"] for key in ("tp", "fp", "tn", "fn")] == [tp, fp, tn, fn]
        assert value[f"{name}_support"] == tp + fn
    assert len(value) == 10
    assert all(type(number) is float for number in value.values())
