import pickle

import numpy as np
import pytest
import sklearn.metrics
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.metrics import Metric
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics import classification

from allencv.models.multilabel_metrics import MultiLabelMetrics
from allencv.training.metrics.torchmetrics_metric import METRICS, TorchmetricsMetric
from tests.ranks import on_ranks

NUM_CLASSES = 5
NAMES = ["ant", "bee", "cow", "dog", "eel"]
REQUIRED = {
    "fbeta_score": {"beta": 2},
    "precision_at_fixed_recall": {"min_recall": 0.5},
    "recall_at_fixed_precision": {"min_precision": 0.5},
    "sensitivity_at_specificity": {"min_specificity": 0.5},
    "specificity_at_sensitivity": {"min_sensitivity": 0.5},
}
ONE_LABEL_ONLY = ("calibration_error", "cohen_kappa", "hinge_loss")
SEVERAL_LABELS_ONLY = ("coverage_error", "ranking_average_precision", "ranking_loss")
REGISTERED = [
    *("accuracy", "auroc", "average_precision", "calibration_error", "cohen_kappa"),
    *("coverage_error", "eer", "exact_match", "f1_score", "fbeta_score", "hamming_distance"),
    *("hinge_loss", "jaccard_index", "log_auc", "matthews_corr_coef"),
    *("negative_predictive_value", "precision", "precision_at_fixed_recall"),
    *("ranking_average_precision", "ranking_loss", "recall", "recall_at_fixed_precision"),
    *("sensitivity_at_specificity", "specificity", "specificity_at_sensitivity"),
]


def one_label(count=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(NUM_CLASSES, (count,), generator=generator)
    logits = torch.randn(count, NUM_CLASSES, generator=generator)
    return logits + torch.nn.functional.one_hot(labels, NUM_CLASSES), labels


def several_labels(count=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count, NUM_CLASSES), generator=generator)
    logits = torch.randn(count, NUM_CLASSES, generator=generator)
    return (logits + labels).sigmoid(), labels


DATA = {"multiclass": one_label, "multilabel": several_labels}
CASES = [
    (name, task)
    for task, excluded in (("multiclass", SEVERAL_LABELS_ONLY), ("multilabel", ONE_LABEL_ONLY))
    for name in REGISTERED
    if name not in excluded
]


def metric_of(name, **arguments):
    return Metric.from_params(Params({"type": name, **REQUIRED.get(name, {}), **arguments}))


def value_of(metric, batches, reset=True):
    for predictions, labels in batches:
        metric(predictions, labels)
    return metric.get_metric(reset)


def batches_of(predictions, labels, size=60):
    return zip(predictions.split(size), labels.split(size))


def as_list(value):
    """A float, or a dictionary in its order, as numbers that can be compared."""
    return list(value.values()) if isinstance(value, dict) else [value]


def test_names():
    assert sorted(METRICS) == sorted(cls.__name__ for cls in METRICS.values())
    assert {Metric.by_name(name) for name in REGISTERED} == set(METRICS.values())
    general = {name for name in classification.__all__ if not name.startswith(("Binary", "Multi"))}
    assert general - METRICS.keys() == {
        "ROC",
        "PrecisionRecallCurve",
        "ConfusionMatrix",
        "StatScores",
    }


def test_allennlps_metrics_keep_their_names():
    for name in ("auc", "f1", "fbeta", "categorical_accuracy", "boolean_accuracy"):
        assert Metric.by_name(name).__module__.startswith("allennlp.")


@pytest.mark.parametrize(("name", "task"), CASES)
def test_equals_torchmetrics_in_any_batches(name, task):
    predictions, labels = DATA[task]()
    metric = metric_of(name)
    prefix = "Multilabel" if name in SEVERAL_LABELS_ONLY else ""
    cls = getattr(classification, prefix + type(metric).__name__)
    arguments = {key: float(value) for key, value in REQUIRED.get(name, {}).items()}
    if not prefix:
        arguments["task"] = task
    arguments["num_classes" if task == "multiclass" else "num_labels"] = NUM_CLASSES
    theirs = cls(**arguments)
    theirs.update(predictions.softmax(-1) if task == "multiclass" else predictions, labels)
    result = theirs.compute()
    parts = result if isinstance(result, tuple) else [result]
    expected = torch.cat([part.view(-1) for part in parts]).tolist()

    value = value_of(metric, batches_of(predictions, labels))
    assert as_list(value) == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert all(type(number) is float for number in as_list(value))


def test_average_precision_and_auroc_as_scikit_learn():
    logits, labels = one_label()
    scores = logits.softmax(-1).numpy()
    rows = np.eye(NUM_CLASSES)[labels]
    for average in ("macro", "weighted"):
        auroc = value_of(metric_of("auroc", average=average), [(logits, labels)])
        expected = sklearn.metrics.roc_auc_score(labels, scores, average=average, multi_class="ovr")
        assert auroc == pytest.approx(expected, abs=1e-6)
        precision = value_of(metric_of("average_precision", average=average), [(logits, labels)])
        expected = sklearn.metrics.average_precision_score(rows, scores, average=average)
        assert precision == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
def test_several_labels_as_scikit_learn(average):
    probs, labels = several_labels()
    for name, function in (
        ("auroc", sklearn.metrics.roc_auc_score),
        ("average_precision", sklearn.metrics.average_precision_score),
    ):
        value = value_of(metric_of(name, average=average), batches_of(probs, labels))
        assert value == pytest.approx(function(labels, probs, average=average), abs=1e-6)
    for name, function in (
        ("precision", sklearn.metrics.precision_score),
        ("recall", sklearn.metrics.recall_score),
        ("f1_score", sklearn.metrics.f1_score),
        ("jaccard_index", sklearn.metrics.jaccard_score),
    ):
        value = value_of(metric_of(name, average=average), batches_of(probs, labels))
        assert value == pytest.approx(function(labels, probs > 0.5, average=average), abs=1e-6)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
def test_one_label_as_scikit_learn(average):
    logits, labels = one_label()
    predicted = logits.argmax(-1)
    for name, function in (
        ("precision", sklearn.metrics.precision_score),
        ("recall", sklearn.metrics.recall_score),
        ("f1_score", sklearn.metrics.f1_score),
        ("jaccard_index", sklearn.metrics.jaccard_score),
    ):
        value = value_of(metric_of(name, average=average), batches_of(logits, labels))
        assert value == pytest.approx(function(labels, predicted, average=average), abs=1e-6)
    for name, function in (
        ("cohen_kappa", sklearn.metrics.cohen_kappa_score),
        ("matthews_corr_coef", sklearn.metrics.matthews_corrcoef),
    ):
        assert value_of(metric_of(name), [(logits, labels)]) == pytest.approx(
            function(labels, predicted), abs=1e-6
        )


def test_f_beta_of_jsonnets_two_as_scikit_learn():
    logits, labels = one_label()
    value = value_of(metric_of("fbeta_score", beta=2, average="macro"), [(logits, labels)])
    expected = sklearn.metrics.fbeta_score(labels, logits.argmax(-1), beta=2, average="macro")
    assert value == pytest.approx(expected, abs=1e-6)


def test_ranking_as_scikit_learn():
    probs, labels = several_labels()
    value = value_of(metric_of("ranking_average_precision"), batches_of(probs, labels))
    expected = sklearn.metrics.label_ranking_average_precision_score(labels, probs)
    assert value == pytest.approx(expected, abs=1e-6)


def test_calibration_error_by_hand():
    # Two bins, up to and above a half: confidences 0.4 and 0.4, of which one is right; 0.6, 0.8
    # and 0.7, of which two are.
    probs = torch.tensor(
        [[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]]
    )
    labels = torch.tensor([0, 0, 0, 1, 1])
    value = value_of(metric_of("calibration_error", n_bins=2), [(probs.log(), labels)])
    by_hand = 2 / 5 * abs(1 / 2 - 0.4) + 3 / 5 * abs(2 / 3 - 0.7)
    assert value == pytest.approx(by_hand, abs=1e-6)


def test_logits_between_0_and_1_are_logits():
    logits = torch.tensor([[0.9, 0.1], [0.2, 0.3]])
    labels = torch.tensor([0, 1])
    confidence = logits.softmax(-1).max(-1).values.mean().item()
    value = value_of(metric_of("calibration_error", n_bins=1), [(logits, labels)])
    assert value == pytest.approx(1 - confidence, abs=1e-6)

    raw = classification.MulticlassCalibrationError(num_classes=2, n_bins=1)
    raw.update(logits, labels)  # takes them for probabilities
    assert raw.compute().item() == pytest.approx(1 - 0.6)


def numbers_held(metric):
    states = metric._metric.metric_state.values()
    return sum(
        tensor.numel()
        for state in states
        for tensor in (state if isinstance(state, list) else [state])
    )


@pytest.mark.parametrize("task", DATA)
def test_thresholds_bound_the_memory(task):
    predictions, labels = DATA[task]()
    exact, binned = metric_of("auroc"), metric_of("auroc", thresholds=200)
    expected = value_of(exact, [(predictions, labels)], reset=False)
    assert value_of(binned, [(predictions, labels)], reset=False) == pytest.approx(
        expected, abs=0.01
    )
    for metric in (exact, binned):
        metric(predictions, labels)
        metric.get_metric()
    assert numbers_held(exact) == 2 * (predictions.numel() + labels.numel())
    assert numbers_held(binned) == 200 * NUM_CLASSES * 4


def test_scores_are_counted_when_too_many_have_come_together(monkeypatch):
    module = "allencv.training.metrics.torchmetrics_metric"
    monkeypatch.setattr(f"{module}._MOST_SCORES_HELD", 70 * NUM_CLASSES)
    logits, labels = one_label()
    metric = metric_of("f1_score", average="macro")
    held = []
    for batch in batches_of(logits, labels, size=40):
        metric(*batch)
        held.append(sum(map(len, metric._scores)))
    assert held == [40, 0, 40, 0, 40]
    expected = sklearn.metrics.f1_score(labels, logits.argmax(-1), average="macro")
    assert metric.get_metric() == pytest.approx(expected, abs=1e-6)


def test_labels_of_a_dictionary():
    logits, labels = one_label()
    metric = metric_of("recall", average=None)
    without = value_of(metric, [(logits, labels)])
    assert list(without) == ["0", "1", "2", "3", "4"]
    metric.set_labels(NAMES[:4])  # as many as the vocabulary has
    named = value_of(metric, [(logits, labels)])
    assert list(named) == ["ant", "bee", "cow", "dog", "4"]
    expected = sklearn.metrics.recall_score(labels, logits.argmax(-1), average=None)
    assert list(named.values()) == pytest.approx(expected.tolist(), abs=1e-6)


def test_a_value_and_its_threshold():
    probs, labels = several_labels()
    metric = metric_of("recall_at_fixed_precision", min_precision=0.6)
    metric.set_labels(NAMES)
    value = value_of(metric, [(probs, labels)])
    assert list(value) == [*NAMES, *(f"{name}_threshold" for name in NAMES)]
    for index, name in enumerate(NAMES):
        predicted = probs[:, index] >= value[f"{name}_threshold"]
        gold = labels[:, index]
        assert sklearn.metrics.precision_score(gold, predicted) >= 0.6
        assert sklearn.metrics.recall_score(gold, predicted) == pytest.approx(value[name])


def test_soft_labels_count_by_the_dominant_one():
    logits, labels = one_label()
    soft = torch.nn.functional.one_hot(labels, NUM_CLASSES) * 0.6 + 0.08
    for name in ("auroc", "f1_score"):
        expected = value_of(metric_of(name), [(logits, labels)])
        assert value_of(metric_of(name), [(logits, soft)]) == expected


def test_reset_starts_again_and_another_task_may_follow():
    metric = metric_of("f1_score", average="macro")
    assert metric.get_metric(reset=True) == {}
    one = value_of(metric, batches_of(*one_label()), reset=False)
    assert metric.get_metric() == one
    assert metric.get_metric(reset=True) == one
    assert metric.get_metric(reset=True) == {}
    assert value_of(metric, batches_of(*several_labels())) == value_of(
        metric_of("f1_score", average="macro"), [several_labels()]
    )


def test_what_is_changed_after_the_call_is_not_counted():
    for task, data in DATA.items():
        predictions, labels = data()
        expected = value_of(metric_of("f1_score", average="macro"), [data()])
        metric = metric_of("f1_score", average="macro")
        metric(predictions, labels)
        predictions.zero_()
        labels.zero_()
        assert metric.get_metric() == expected, task


@pytest.mark.parametrize("name", ["auroc", "f1_score", "calibration_error", "jaccard_index"])
def test_predictions_of_inference_mode_and_with_gradient(name):
    logits, labels = one_label()
    metric = metric_of(name)
    with torch.inference_mode():
        metric(logits[:50].clone(), labels[:50].clone())
        metric.get_metric()
    metric(logits[50:120].clone().requires_grad_(), labels[50:120])
    metric.get_metric()
    with torch.inference_mode():
        metric(logits[120:].clone(), labels[120:].clone())
    assert metric.get_metric() == pytest.approx(value_of(metric_of(name), [(logits, labels)]))


def test_half_precision_is_made_single():
    logits, labels = one_label()
    half = logits.bfloat16()
    for name in ("auroc", "calibration_error"):
        expected = value_of(metric_of(name), [(half.float(), labels)])
        assert value_of(metric_of(name), [(half, labels)]) == expected


class NoHostSync(TorchDispatchMode):
    """Fails where the host would have to know a value, or a shape that depends on values."""

    SYNCS = ("_local_scalar_dense", "nonzero", "masked_select", "unique2", "bincount")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        waits = any(name in str(func) for name in self.SYNCS)
        waits |= "_to_copy" in str(func) and "device" in kwargs
        assert not waits, f"{func} waits for the device"
        return func(*args, **kwargs)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_call_does_not_wait_for_the_device(name, task):
    metric = metric_of(name)
    predictions, labels = DATA[task]()
    soft = torch.nn.functional.one_hot(labels, NUM_CLASSES).float()
    with NoHostSync():
        metric(predictions, labels)
        metric(predictions, labels)
        if task == "multiclass":
            metric(predictions, soft)
    with pytest.raises(AssertionError, match="waits for the device"), NoHostSync():
        metric.get_metric()


def test_torchmetrics_itself_waits():
    # Hold nothing when this one can be called without waiting.
    logits, labels = one_label()
    theirs = classification.MulticlassF1Score(NUM_CLASSES, validate_args=False)
    with pytest.raises(AssertionError, match="bincount"), NoHostSync():
        theirs.update(logits, labels)


def test_pickled():
    metric = metric_of("auroc", thresholds=10)
    metric(*one_label())
    assert pickle.loads(pickle.dumps(metric)).get_metric() == metric.get_metric()


def test_subclasses_from_python():
    class Recall(METRICS["Recall"]):
        """A user's own."""

    metric = Recall(average="macro")
    assert isinstance(metric, TorchmetricsMetric)
    assert value_of(metric, [one_label()]) > 0


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("f1_score", {"avrage": "macro"}, "avrage.*expected.*average"),
        ("auroc", {"max_fpr": 0.5}, "max_fpr"),  # for two classes as one number
        ("f1_score", {"num_classes": 3}, "num_classes"),
        ("f1_score", {"average": "mean"}, "'average': 'mean'.*ValueError.*macro"),
        ("f1_score", {"top_k": 0}, "f1_score.top_k is 0; expected at least 1"),
        ("f1_score", {"top_k": "two"}, "f1_score.top_k is 'two'; expected at least 1"),
        ("f1_score", {"top_k": 2, "threshold": 0.7}, "an argument of f1_score for multiclass"),
        ("calibration_error", {"n_bins": 0}, "n_bins"),
        ("calibration_error", {"norm": "l3"}, "l3"),
        ("auroc", {"thresholds": "many"}, "many"),
        ("auroc", {"thresholds": [0.5, 2]}, "thresholds"),
        ("fbeta_score", {"beta": -1}, "beta"),
        ("precision", {"threshold": 1.5}, "1.5"),
    ],
)
def test_wrong_arguments_are_refused(name, arguments, message):
    with pytest.raises(ConfigurationError, match=message) as error:
        Metric.from_params(Params({"type": name, **arguments}))
    assert "\n" not in str(error.value.message)


def test_a_missing_argument_is_named():
    with pytest.raises(ConfigurationError, match="min_recall"):
        METRICS["PrecisionAtFixedRecall"]()
    with pytest.raises(ConfigurationError, match="min_recall"):
        Metric.from_params(Params({"type": "precision_at_fixed_recall"}))


@pytest.mark.parametrize(
    ("name", "arguments", "data", "message"),
    [
        ("f1_score", {"top_k": 2}, several_labels, "f1_score for multilabel labels is 'top_k'"),
        ("f1_score", {"threshold": 0.3}, one_label, "for multiclass labels is 'threshold'"),
        ("f1_score", {"top_k": 9}, one_label, "'top_k': 9.* but got 9 and 5"),
        ("auroc", {"average": "micro"}, one_label, "'average': 'micro'"),
        ("cohen_kappa", {}, several_labels, "got multilabel labels; expected multiclass ones"),
        ("ranking_loss", {}, one_label, "got multiclass labels; expected multilabel ones"),
    ],
)
def test_what_does_not_fit_the_task_is_refused_at_the_first_batch(name, arguments, data, message):
    metric = metric_of(name, **arguments)
    with pytest.raises(ConfigurationError, match=message):
        metric(*data())


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [
        (torch.zeros(4, 3), torch.zeros(3).long()),
        (torch.zeros(4, 3), torch.zeros(4)),
        (torch.zeros(4, 3), torch.zeros(4, 2).long()),
        (torch.zeros(4), torch.zeros(4).long()),
        (torch.zeros(4, 3, 2), torch.zeros(4, 3, 2).long()),
    ],
)
def test_shapes_that_do_not_fit_are_refused(predictions, labels):
    with pytest.raises(ConfigurationError, match="f1_score: gold_labels are torch.* of shape"):
        metric_of("f1_score")(predictions, labels)


def test_batches_of_different_kinds_are_refused():
    metric = metric_of("f1_score")
    metric(*one_label())
    with pytest.raises(ConfigurationError, match="is multilabel with 5 .* multiclass with 5"):
        metric(*several_labels())
    with pytest.raises(ConfigurationError, match="is multiclass with 3 .* multiclass with 5"):
        metric(torch.zeros(2, 3), torch.zeros(2).long())


def jobs():
    """All metrics, and those that hold scores also with a bound for them."""
    for name, task in CASES:
        metric = metric_of(name)
        yield task, metric
        if "thresholds" in metric.signature.parameters:
            yield task, metric_of(name, thresholds=10)


def shares_and_errors():
    """What one of two ranks finds. They see three batches and one; then one batch and none."""
    rank = torch.distributed.get_rank()
    found = []
    for task, metric in jobs():
        batches = list(batches_of(*DATA[task](), size=50))
        for mine in (batches[:3] if rank == 0 else batches[3:], batches[:1] if rank == 0 else []):
            running = value_of(metric, mine, reset=False)
            found.append((running, metric.get_metric(reset=True), metric.get_metric()))
    nothing = metric.get_metric(reset=True)
    metric(torch.zeros(1, 2 + rank), torch.zeros(1, 2 + rank).long())
    with pytest.raises(ConfigurationError, match="the processes have seen"):
        metric.get_metric(reset=True)
    return nothing, found


def test_distributed_counts_come_together_at_reset_only():
    of_ranks = on_ranks(2, shares_and_errors)
    assert [nothing for nothing, _ in of_ranks] == [{}, {}]
    expected = []
    for task, metric in jobs():
        batches = list(batches_of(*DATA[task](), size=50))
        everything = value_of(metric, batches)
        expected.append((everything, value_of(metric, batches[:3]), value_of(metric, batches[3:])))
        expected.append((value_of(metric, batches[:1]), value_of(metric, batches[:1]), {}))
    first, second = (found for _, found in of_ranks)
    assert len(expected) == len(first)
    for (together, *alone), *ranks in zip(expected, first, second):
        for mine, (running, at_reset, after) in zip(alone, ranks):
            assert as_list(running) == pytest.approx(as_list(mine), nan_ok=True)
            assert repr(at_reset) == repr(together)  # also where both are NaN
            assert after == {}


def values_of_shares(counts):
    """The values of all metrics on all ranks, each of which sees every n-th batch."""
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    found = []
    for count in counts:
        for task, metric in jobs():
            batches = list(batches_of(*DATA[task](count), size=7))
            found.append(value_of(metric, batches[rank::world_size]))
    return found


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_any_number_of_ranks_gives_the_same_to_the_last_digit(ranks):
    counts = (200, 20, 2)  # the last is less than one batch for each of the ranks
    expected = [
        value_of(metric, batches_of(*DATA[task](count), size=7))
        for count in counts
        for task, metric in jobs()
    ]
    for found in on_ranks(ranks, values_of_shares, counts):
        assert list(map(repr, found)) == list(map(repr, expected))


# Classes without images.

MACRO = [
    *("accuracy", "auroc", "average_precision", "f1_score", "fbeta_score", "hamming_distance"),
    *("jaccard_index", "log_auc", "negative_predictive_value", "precision", "recall"),
    "specificity",
]
ABSENT = [1, 4]
PRESENT = [index for index in range(NUM_CLASSES) if index not in ABSENT]


def without_some_classes(task, count=200):
    """Data of which no image has two of the classes; both of them are predicted at times."""
    predictions, labels = DATA[task](count)
    if task == "multilabel":
        labels[:, ABSENT] = 0
        predictions[::3, ABSENT] = 0.9
        return predictions, labels
    is_kept = ~torch.isin(labels, torch.tensor(ABSENT))
    predictions[::3, ABSENT[0]] = 9.0
    return predictions[is_kept], labels[is_kept]


def test_every_metric_with_a_macro_average_is_tested():
    with_average = {
        name for name in REGISTERED if "average" in Metric.by_name(name).signature.parameters
    }
    assert with_average - set(MACRO) == {"eer"}  # whose macro average is that of the curves


@pytest.mark.parametrize("task", DATA)
@pytest.mark.parametrize("name", MACRO)
def test_a_macro_average_is_torchmetrics_where_all_classes_have_images(name, task):
    predictions, labels = DATA[task]()
    theirs = getattr(classification, task.capitalize() + Metric.by_name(name).__name__)
    arguments = {key: float(value) for key, value in REQUIRED.get(name, {}).items()}
    arguments["num_classes" if task == "multiclass" else "num_labels"] = NUM_CLASSES
    reference = theirs(average="macro", **arguments)
    reference.update(predictions.softmax(-1) if task == "multiclass" else predictions, labels)
    value = value_of(metric_of(name, average="macro"), batches_of(predictions, labels))
    assert value == pytest.approx(reference.compute().item(), abs=1e-6)


@pytest.mark.parametrize("task", DATA)
@pytest.mark.parametrize("name", MACRO)
def test_a_macro_average_is_the_mean_over_classes_with_images(name, task, caplog):
    predictions, labels = without_some_classes(task)
    each = value_of(metric_of(name, average=None), batches_of(predictions, labels))
    expected = np.mean([each[str(index)] for index in PRESENT])
    metric = metric_of(name, average="macro")
    metric.set_labels(NAMES)
    for _ in range(2):
        value = value_of(metric, batches_of(predictions, labels, size=50))
        assert value == pytest.approx(expected, abs=1e-6)
    (record,) = [each for each in caplog.records if each.name.startswith("allencv")]
    message = f"{name} is the mean over 3 of 5 classes: no images to judge 'bee', 'eel' by"
    assert record.getMessage() == message


def test_the_answer_is_the_same_whichever_metric_computes_it():
    logits, labels = without_some_classes("multiclass")
    predicted = logits.argmax(-1)
    assert set(predicted.tolist()) - set(labels.tolist())
    metrics = {
        "recall": metric_of("recall", average="macro"),
        "accuracy": metric_of("accuracy", average="macro"),
        "balanced": metric_of("balanced_accuracy"),
        "f1": metric_of("f1_score", average="macro"),
        "per_class": metric_of("per_class"),
    }
    values = {key: value_of(metric, [(logits, labels)]) for key, metric in metrics.items()}
    balanced = sklearn.metrics.balanced_accuracy_score(labels, predicted)
    recalls = [values["per_class"][f"{index}_recall"] for index in PRESENT]
    for each in (values["recall"], values["accuracy"], values["balanced"], np.mean(recalls)):
        assert each == pytest.approx(balanced, abs=1e-6)
    f1 = sklearn.metrics.f1_score(labels, predicted, labels=PRESENT, average="macro")
    f1s = [values["per_class"][f"{index}_f1"] for index in PRESENT]
    for each in (values["f1"], np.mean(f1s)):
        assert each == pytest.approx(f1, abs=1e-6)


def test_several_labels_agree_with_the_models_own_metric():
    probs, labels = without_some_classes("multilabel")
    ours = MultiLabelMetrics(NAMES)
    ours(probs, labels, torch.full((NUM_CLASSES,), 0.5), keep=True)
    expected = ours.get_metric(torch.full((NUM_CLASSES,), 0.5), reset=True)
    for name, key in (("f1_score", "macro_f1"), ("average_precision", "mAP")):
        value = value_of(metric_of(name, average="macro"), batches_of(probs, labels))
        assert value == pytest.approx(expected[key], abs=1e-6)


def test_a_label_that_every_image_has_is_not_judged_by_a_ranking():
    probs, labels = several_labels()
    labels[:, 2] = 1
    others = [0, 1, 3, 4]
    expected = sklearn.metrics.roc_auc_score(labels[:, others], probs[:, others])
    assert value_of(metric_of("auroc"), [(probs, labels)]) == pytest.approx(expected, abs=1e-6)
    each = value_of(metric_of("auroc", average=None), [(probs, labels)])
    assert [np.isnan(each[str(index)]) for index in range(5)] == [index == 2 for index in range(5)]


def test_where_no_class_can_be_judged_the_average_is_not_a_number():
    logits, labels = one_label()
    only = torch.zeros_like(labels)
    assert np.isnan(value_of(metric_of("auroc"), [(logits, only)]))


@pytest.mark.parametrize("name", ["recall", "auroc"])
def test_classes_seen_before_an_interruption_stay_in_the_average(name):
    logits, labels = one_label()
    order = labels.argsort()  # the first classes before the interruption, the last after it
    logits, labels = logits[order], labels[order]
    half = len(labels) // 2
    whole, interrupted, resumed = (metric_of(name, average="macro") for _ in range(3))
    for metric in (whole, interrupted):
        metric(logits[:half], labels[:half])
        metric.get_metric()  # as a callback or a log line does
    resumed.load_state_dict(interrupted.state_dict())
    for metric in (whole, resumed):
        metric(logits[half:], labels[half:])
    assert resumed.get_metric() == whole.get_metric()


def test_an_average_of_counts_keeps_its_classes():
    logits, labels = without_some_classes("multiclass")
    metric = metric_of("recall", average="macro", ignore_index=0)
    value = value_of(metric, [(logits, labels)])
    kept = labels != 0
    expected = sklearn.metrics.recall_score(
        labels[kept], logits[kept].argmax(-1), labels=PRESENT[1:], average="macro"
    )
    assert value == pytest.approx(expected, abs=1e-6)


# No images.

ALL_NAMES = [*REGISTERED, "balanced_accuracy", "confusion_matrix", "per_class", "stat_scores"]
SINGLE_ONLY = (*ONE_LABEL_ONLY, "balanced_accuracy", "confusion_matrix")
EVERY_CASE = [
    (name, task)
    for task, excluded in (("multiclass", SEVERAL_LABELS_ONLY), ("multilabel", SINGLE_ONLY))
    for name in ALL_NAMES
    if name not in excluded
]


@pytest.mark.parametrize(("name", "task"), EVERY_CASE)
def test_batches_without_images_count_nothing(name, task):
    predictions, labels = DATA[task]()
    metric = metric_of(name)
    metric(predictions[:0], labels[:0])
    assert metric.get_metric() == {}
    assert metric.get_metric(reset=True) == {}
    metric(predictions[:0], labels[:0])
    expected = value_of(metric_of(name), [(predictions, labels)])
    assert value_of(metric, [(predictions, labels)]) == pytest.approx(expected, nan_ok=True)


AVERAGES = [
    (name, task, {"average": average})
    for name, task in EVERY_CASE
    for average in (None, "macro")
    if name in (*MACRO, "stat_scores")
]


@pytest.mark.parametrize(
    ("name", "task", "arguments"), [*((*case, {}) for case in EVERY_CASE), *AVERAGES]
)
def test_what_will_be_reported_is_known_before(name, task, arguments):
    metric = metric_of(name, **arguments)
    metric.set_labels(NAMES)
    undefined = metric.undefined()
    assert metric.get_metric() == {}
    value = value_of(metric, [DATA[task]()])
    if name == "confusion_matrix":
        assert undefined == {}
        return
    assert type(undefined) is type(value)
    assert np.isnan(as_list(undefined)).all()
    if isinstance(value, dict):
        assert undefined.keys() == value.keys()
