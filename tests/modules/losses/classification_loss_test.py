"""What every registered loss must keep. A new kind adds its smallest params to `LOSSES`."""

import copy
from typing import Any, Dict, List, Tuple

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torch.nn import functional as F

from allencv.modules.losses import (
    BinaryCrossEntropyLoss,
    ClassificationLoss,
    CrossEntropyLoss,
)

LOSSES: Dict[str, Dict[str, Any]] = {
    "asymmetric": {"gamma_positive": 1},
    "binary_cross_entropy": {},
    "cross_entropy": {},
    "focal": {},
    "jsd": {"num_views": 2},
}
BATCH, LABELS = 6, 5


def registered() -> List[str]:
    """AllenCV's own kinds, without those that other tests register."""
    names = ClassificationLoss.list_available()
    return [
        name for name in names if ClassificationLoss.by_name(name).__module__.startswith("allencv.")
    ]


def build(name: str, multi_label: bool = False, **params: Any) -> ClassificationLoss:
    assert name in LOSSES, f'give the smallest params of "{name}" in this file'
    loss = ClassificationLoss.from_params(
        Params(copy.deepcopy({"type": name, **LOSSES[name], **params}))
    )
    loss.for_task(multi_label)
    return loss


def kinds(name: str) -> List[bool]:
    """For which tasks a loss may be used: with one label an image, with several."""
    loss = ClassificationLoss.by_name(name)
    return [
        each for each in (False, True) if (loss.takes_single_label, loss.takes_multi_label)[each]
    ]


EVERY = [(name, multi_label) for name in registered() for multi_label in kinds(name)]
every_loss = pytest.mark.parametrize(("name", "multi_label"), EVERY)


def targets(multi_label: bool, soft: bool = False) -> torch.Tensor:
    """The same for each two images in a row, which are views of one for "jsd"."""
    torch.manual_seed(1)
    if soft:
        rows = torch.rand(BATCH // 2, LABELS)
        rows = rows if multi_label else rows.softmax(-1)
    elif multi_label:
        rows = torch.randint(0, 2, (BATCH // 2, LABELS))
        rows[0] = 0
    else:
        rows = torch.randint(0, LABELS, (BATCH // 2,))
    return rows.repeat_interleave(2, 0)


def some_logits() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(BATCH, LABELS, requires_grad=True)


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_it_is_a_number_whose_gradient_reaches_every_logit(
    name: str, multi_label: bool, soft: bool
) -> None:
    logits = some_logits()
    loss = build(name, multi_label)(logits, targets(multi_label, soft), torch.rand(LABELS) + 1)
    assert loss.shape == ()
    assert loss > 0
    loss.backward()
    assert logits.grad.isfinite().all()
    if name != "asymmetric":  # which is to leave out what is easy
        assert (logits.grad != 0).all()


@every_loss
def test_a_step_down_the_gradient_makes_it_smaller(name: str, multi_label: bool) -> None:
    loss, logits, wanted = build(name, multi_label), some_logits(), targets(multi_label)
    before = loss(logits, wanted)
    (gradient,) = torch.autograd.grad(before, logits)
    assert loss(logits - 0.01 * gradient, wanted) < before


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_equal_weights_change_nothing(name: str, multi_label: bool, soft: bool) -> None:
    loss, wanted = build(name, multi_label), targets(multi_label, soft)
    logits, ones = some_logits().detach(), torch.ones(LABELS)
    assert torch.allclose(loss(logits, wanted, ones), loss(logits, wanted), rtol=1e-6)


@pytest.mark.parametrize("name", [name for name, multi_label in EVERY if multi_label])
def test_with_several_labels_a_weight_multiplies_the_terms_of_its_label(name: str) -> None:
    loss, wanted, logits = build(name, True), targets(True, soft=True), some_logits().detach()
    single = sum(loss(logits, wanted, row) for row in torch.eye(LABELS))
    assert torch.allclose(single, loss(logits, wanted), rtol=1e-5)


# One label an image: what a loss with weights, smoothing and mixed labels teaches.

SINGLE = [name for name, multi_label in EVERY if not multi_label]
SMOOTHED = ["binary_cross_entropy", "cross_entropy", "jsd"]
WEIGHTS = torch.tensor([0.5, 25.0, 3.0])
INDICES = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
MIXED = 0.7 * F.one_hot(INDICES, 3) + 0.3 * F.one_hot(INDICES.flip(0), 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", SMOOTHED)
@pytest.mark.parametrize("wanted", [INDICES, MIXED], ids=["indices", "mixed"])
def test_an_image_weighs_what_its_class_weighs(
    name: str, smoothing: float, wanted: torch.Tensor
) -> None:
    """The weighted mean of the losses that the images have alone, where nothing is weighed."""
    loss = build(name, label_smoothing=smoothing).eval()
    torch.manual_seed(0)
    logits = torch.randn(len(INDICES), 3)
    alone = torch.stack([loss(logits[i : i + 1], wanted[i : i + 1]) for i in range(len(logits))])
    weights = WEIGHTS[wanted] if wanted.dim() == 1 else (wanted * WEIGHTS).sum(-1)
    expected = (weights * alone).sum() / weights.sum()
    assert torch.allclose(loss(logits, wanted, WEIGHTS), expected)


@pytest.mark.parametrize("name", SINGLE)
def test_shares_of_one_class_are_its_index(name: str) -> None:
    loss, logits, indices = build(name), some_logits().detach(), targets(False)
    one_hot = F.one_hot(indices, LABELS).float()
    weights = torch.rand(LABELS) + 0.1
    assert torch.allclose(loss(logits, one_hot, weights), loss(logits, indices, weights))


def best_probabilities(
    loss: ClassificationLoss, wanted: torch.Tensor, weights: "torch.Tensor | None"
) -> torch.Tensor:
    """Where the loss of images that look alike is smallest: by LBFGS on the logits they share."""
    logits = torch.zeros(3, dtype=torch.float32, requires_grad=True)
    lbfgs = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        value = loss(logits.expand(len(wanted), 3), wanted, weights)
        value.backward()
        return value

    lbfgs.step(closure)
    is_binary = isinstance(loss, BinaryCrossEntropyLoss)
    return (logits.sigmoid() if is_binary else logits.softmax(-1)).detach()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", SMOOTHED)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("wanted", [INDICES, MIXED], ids=["indices", "mixed"])
def test_the_loss_is_smallest_at_the_weighted_priors(
    name: str, smoothing: float, weights: "torch.Tensor | None", wanted: torch.Tensor
) -> None:
    loss = build(name, label_smoothing=smoothing).eval()
    shares = F.one_hot(wanted).float() if wanted.dim() == 1 else wanted
    of_images = torch.ones(len(wanted)) if weights is None else shares @ weights
    priors = of_images @ shares / of_images.sum()
    expected = (1 - smoothing) * priors + smoothing / 3
    torch.testing.assert_close(
        best_probabilities(loss, wanted, weights), expected, atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("name", SMOOTHED)
def test_an_image_of_a_common_class_is_not_taught_to_be_the_rare_one(name: str) -> None:
    """What label smoothing by the weights of all classes did."""
    loss = build(name, label_smoothing=0.1).eval()
    common = best_probabilities(loss, torch.zeros(4, dtype=torch.long), WEIGHTS)
    torch.testing.assert_close(common, torch.tensor([0.9, 0, 0]) + 0.1 / 3, atol=2e-3, rtol=0)


def test_weights_of_a_focal_loss_are_those_of_more_images() -> None:
    loss = build("focal")
    weights = torch.tensor([1.0, 4.0, 2.0])
    repeated = INDICES.repeat_interleave(weights[INDICES].long())
    expected = best_probabilities(loss, repeated, None)
    torch.testing.assert_close(
        best_probabilities(loss, INDICES, weights), expected, atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("name", SINGLE)
def test_a_batch_that_weighs_nothing_costs_nothing(name: str) -> None:
    logits = some_logits()
    loss = build(name)(logits, torch.zeros(BATCH, dtype=torch.long), torch.eye(LABELS)[1])
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


@every_loss
def test_it_is_float32_under_autocast(name: str, multi_label: bool) -> None:
    loss, logits, wanted = build(name, multi_label), some_logits(), targets(multi_label)
    halves = logits.detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_halves = loss(halves, wanted, torch.ones(LABELS))
    assert in_halves.dtype == torch.float32
    assert torch.equal(in_halves, loss(halves.float(), wanted, torch.ones(LABELS)))


@every_loss
def test_what_is_certain_gives_no_wrong_numbers(name: str, multi_label: bool) -> None:
    for sign in (1, -1):
        logits = (sign * 200 * torch.eye(LABELS)[:4]).requires_grad_()
        wanted = (
            torch.eye(LABELS, dtype=torch.long)[:4] if multi_label else torch.tensor([0, 0, 2, 2])
        )
        loss = build(name, multi_label)(logits, wanted)
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", registered())
def test_an_unknown_key_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="colour"):
        build(name, colour="red")


def test_cross_entropy_is_the_default() -> None:
    loss = ClassificationLoss.from_params(Params({"label_smoothing": 0.2}))
    assert isinstance(loss, CrossEntropyLoss)
    assert loss.label_smoothing == 0.2


WRONG: List[Tuple[str, Dict[str, Any], str]] = [
    ("cross_entropy", {"label_smoothing": 1.0}, r"model.loss.label_smoothing is 1.0; .* \[0, 1\)"),
    ("binary_cross_entropy", {"label_smoothing": -0.1}, "model.loss.label_smoothing is -0.1"),
    ("binary_cross_entropy", {"target_threshold": 1.5}, "model.loss.target_threshold is 1.5"),
    ("focal", {"gamma": 0.5}, "model.loss.gamma is 0.5; expected 0 .no focusing. or at least 1"),
    ("focal", {"gamma": -1}, "model.loss.gamma is -1"),
    ("focal", {"alpha": 2.0}, r"model.loss.alpha is 2.0; expected a number in \[0, 1\]"),
    ("asymmetric", {"gamma_positive": 0.1}, "model.loss.gamma_positive is 0.1"),
    ("asymmetric", {"gamma_negative": -4}, "model.loss.gamma_negative is -4"),
    ("asymmetric", {"margin": 1.0}, "model.loss.margin is 1.0"),
    ("jsd", {"num_views": 1}, "model.loss.num_views is 1; expected at least 2.*data_loader.repeat"),
    ("jsd", {"alpha": 0}, "model.loss.alpha is 0; expected a number above 0"),
    ("jsd", {"label_smoothing": 2}, "model.loss.label_smoothing is 2"),
]


@pytest.mark.parametrize(("name", "params", "message"), WRONG)
def test_a_wrong_argument_is_named(name: str, params: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ClassificationLoss.from_params(Params({"type": name, **params}))


@pytest.mark.parametrize(
    ("name", "multi_label", "message"),
    [
        ("cross_entropy", True, "CrossEntropyLoss, which is not for images with several labels"),
        ("jsd", True, "JsdLoss, .* several labels; expected another, such as 'binary_cross_entr"),
        ("asymmetric", False, "AsymmetricLoss, .* with one label; expected .* 'cross_entropy'"),
    ],
)
def test_a_loss_for_another_task_is_refused(name: str, multi_label: bool, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build(name, multi_label)
