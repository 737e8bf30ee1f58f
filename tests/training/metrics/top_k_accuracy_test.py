import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.metrics import CategoricalAccuracy, Metric
from sklearn.metrics import top_k_accuracy_score
from torch.utils._python_dispatch import TorchDispatchMode

from allencv.training.metrics import TopKAccuracy
from tests.ranks import on_ranks

LOGITS = torch.tensor([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.5, 0.4, 0.1]])
LABELS = torch.tensor([1, 1, 0, 0])


def accuracy(top_k, *arguments):
    metric = TopKAccuracy(top_k)
    metric(*arguments)
    return metric.get_metric()


def test_from_params():
    assert isinstance(Metric.from_params(Params({"type": "top_k_accuracy"})), TopKAccuracy)
    metric = Metric.from_params(Params({"type": "top_k_accuracy", "top_k": 2}))
    metric(LOGITS, LABELS)
    assert metric.get_metric() == 0.75


def test_by_hand():
    assert [accuracy(k, LOGITS, LABELS) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]


def test_batches_add_up_and_reset_starts_again():
    metric = TopKAccuracy()
    assert metric.get_metric() == 0.0
    metric(LOGITS[:1], LABELS[:1])
    metric(LOGITS[1:], LABELS[1:])
    assert metric.get_metric() == 0.5
    assert metric.get_metric(reset=True) == 0.5
    assert metric.get_metric(reset=True) == 0.0
    metric(LOGITS[:1], LABELS[:1])
    assert metric.get_metric() == 1.0


@pytest.mark.parametrize("top_k", [1, 3, 5])
def test_as_scikit_learn(top_k):
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(200) % 10
    expected = top_k_accuracy_score(labels.numpy(), logits.numpy(), k=top_k)
    assert accuracy(top_k, logits, labels) == pytest.approx(expected)


def test_ties_are_resolved_as_torch_does():
    logits = torch.zeros(4, 4)
    labels = torch.arange(4)
    first = int(logits[0].argmax())
    assert accuracy(1, logits, labels) == 0.25
    assert accuracy(1, logits[:1], torch.tensor([first])) == 1.0
    among = set(logits[0].topk(2).indices.tolist())
    hits = [accuracy(2, logits[:1], torch.tensor([label])) for label in range(4)]
    assert hits == [float(label in among) for label in range(4)]


@pytest.mark.parametrize("top_k", [1, 2])
def test_soft_labels_count_by_the_dominant_one(top_k):
    soft = torch.nn.functional.one_hot(LABELS, 3) * 0.6 + 0.1
    assert accuracy(top_k, LOGITS, soft) == accuracy(top_k, LOGITS, LABELS)


@pytest.mark.parametrize("top_k", [1, 2])
def test_masked_predictions_are_not_counted(top_k):
    mask = torch.tensor([True, False, True, False])
    expected = accuracy(top_k, LOGITS[mask], LABELS[mask])
    assert accuracy(top_k, LOGITS, LABELS, mask) == expected
    assert accuracy(top_k, LOGITS, LABELS, torch.zeros(4, dtype=torch.bool)) == 0.0


def test_any_number_of_leading_dimensions():
    assert accuracy(2, LOGITS.view(2, 2, 3), LABELS.view(2, 2)) == 0.75


def test_predictions_of_inference_mode_and_with_gradient():
    metric = TopKAccuracy()
    with torch.inference_mode():
        metric(LOGITS.clone(), LABELS.clone())
    metric(LOGITS.clone().requires_grad_(), LABELS)
    assert metric.get_metric(reset=True) == 0.5


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_below_one_is_refused(top_k):
    with pytest.raises(ConfigurationError, match=f'top_k is {top_k}; .* \\(key "top_k"\\)'):
        TopKAccuracy(top_k)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LOGITS, LABELS), "top_k is 4; expected at most the number of classes, 3"),
        ((torch.zeros(4, 5), LABELS[:3]), r"of shape \(3,\); expected integers of shape \(4,\)"),
        ((torch.zeros(4, 5), torch.zeros(4)), r"torch.float32 of shape \(4,\)"),
        ((torch.zeros(4, 5), torch.zeros(4, 5).long()), r"torch.int64 of shape \(4, 5\)"),
        ((torch.zeros(4, 5), LABELS, torch.ones(1).bool()), r"mask is of shape \(1,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        TopKAccuracy(4)(*arguments)


class NoHostSync(TorchDispatchMode):
    """Fails where the host would have to know a value, or a shape that depends on values."""

    SYNCS = ("_local_scalar_dense", "nonzero", "masked_select", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        waits = any(name in str(func) for name in self.SYNCS)
        waits |= "_to_copy" in str(func) and "device" in kwargs
        assert not waits, f"{func} waits for the device"
        return func(*args, **kwargs)


@pytest.mark.parametrize("top_k", [1, 2])
def test_a_call_does_not_wait_for_the_device(top_k):
    metric = TopKAccuracy(top_k)
    soft = torch.nn.functional.one_hot(LABELS, 3).float()
    mask = torch.ones(4, dtype=torch.bool)
    with NoHostSync():
        metric(LOGITS, LABELS)
        metric(LOGITS, LABELS)
        metric(LOGITS, soft)
        metric(LOGITS, LABELS, mask)
    with pytest.raises(AssertionError, match="waits for the device"), NoHostSync():
        metric.get_metric()


def test_allennlps_own_accuracy_still_waits():
    # Delete ours when this one can be called without waiting.
    with pytest.raises(AssertionError, match="waits for the device"), NoHostSync():
        CategoricalAccuracy()(LOGITS, LABELS)


def count_batches():
    """What one of two ranks finds: the first sees two batches, the second sees one."""
    metric = TopKAccuracy()
    metric(LOGITS[:1], LABELS[:1])
    running = metric.get_metric()
    if torch.distributed.get_rank() == 0:
        metric(LOGITS[1:3], LABELS[1:3])
        running = metric.get_metric()
    return running, metric.get_metric(reset=True), metric.get_metric()


def test_distributed_counts_are_summed_at_reset_only():
    # Alone 1 of 3 and 1 of 1 are right; together 2 of 4.
    assert on_ranks(2, count_batches) == [(1 / 3, 0.5, 0.0), (1.0, 0.5, 0.0)]
