"""What holds for every registered batch transform; and labels made soft."""

from typing import Any, Dict

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.common.label_shares import as_shares
from allencv.data.transforms.batch_transforms import BatchTransform

# For each registered name a smallest config. A new batch transform adds a line here, and is tested.
PARAMS: Dict[str, Dict[str, Any]] = {
    "cutmix": {},
    "mixup": {},
    "random_choice": {"transforms": ["mixup", "cutmix"]},
}
# Names from other files, as a user's, may be registered too while the tests run.
REGISTERED = [name for name in BatchTransform.list_available() if not name.startswith("test_")]


def build(name: str) -> BatchTransform:
    assert name in PARAMS, f"add the smallest config of '{name}' to PARAMS"
    return BatchTransform.from_params(Params({"type": name, **PARAMS[name]}).duplicate())


def make_batch(size: int = 4) -> "tuple[torch.Tensor, torch.Tensor]":
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, 8, 10, generator=generator)
    return images, torch.arange(size) % 3


@pytest.mark.parametrize("name", REGISTERED)
@pytest.mark.parametrize("size", [1, 4])
def test_images_and_soft_labels(name: str, size: int) -> None:
    images, labels = make_batch(size)
    before = images.clone(), labels.clone()
    new_images, shares = build(name)(images, labels, 3)
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
    assert new_images.shape == images.shape
    assert new_images.dtype == shares.dtype == torch.float32
    assert shares.shape == (size, 3)
    assert torch.allclose(shares.sum(-1), torch.ones(size))


@pytest.mark.parametrize("name", REGISTERED)
def test_class_numbers_and_their_shares_give_the_same(name: str) -> None:
    images, labels = make_batch()
    torch.manual_seed(5)
    first = build(name)(images, labels, 3)
    torch.manual_seed(5)
    second = build(name)(images, torch.eye(3)[labels], 3)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_images_with_several_labels(name: str, dtype: torch.dtype) -> None:
    """The pixels of image i say how much of it is left: 1 in image i, 0 in all others."""
    labels = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=dtype)
    images = torch.eye(3)[:, :, None, None].expand(3, 3, 8, 8)
    torch.manual_seed(3)
    transform = BatchTransform.from_params(Params({"type": name, "alpha": 1.0}))
    mixed, shares = transform(images, labels, 4)
    parts = mixed.mean((2, 3))  # Shape: (mixed, original)
    assert 0.05 < parts[0, 0] < 0.95
    torch.testing.assert_close(shares, parts @ labels.float())
    # What both have stays whole, and an image without labels takes nothing away.
    assert shares[1, 1] == 1
    torch.testing.assert_close(shares.sum(0), labels.float().sum(0))


@pytest.mark.parametrize("name", REGISTERED)
def test_seeds_differ(name: str) -> None:
    images, labels = make_batch()
    transform = build(name)
    results = [transform(images, labels, 3)[1] for _ in range(5)]
    assert any(not torch.equal(results[0], other) for other in results[1:])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", REGISTERED)
def test_on_a_gpu_the_host_does_not_wait(name: str) -> None:
    transform, (images, labels) = build(name), make_batch()
    torch.manual_seed(5)
    expected = transform(images, labels, 3)
    images, labels = images.cuda(), labels.cuda()
    torch.manual_seed(5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = transform(images, labels, 3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.allclose(result[0].cpu(), expected[0])
    assert torch.allclose(result[1].cpu(), expected[1])


def test_soft_labels() -> None:
    expected = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert torch.equal(as_shares(torch.tensor([2, 0]), 3), expected)
    assert as_shares(expected, 3) is expected
    assert as_shares(expected.long(), 3).dtype == torch.float32


def test_a_wrong_name_and_a_wrong_key() -> None:
    with pytest.raises(ConfigurationError, match="type is 'mix_up'; expected one of mixup, "):
        BatchTransform.from_params(Params({"type": "mix_up"}))
    with pytest.raises(ConfigurationError, match="is 'alhpa'; expected one of alpha"):
        BatchTransform.from_params(Params({"type": "mixup", "alhpa": 1.0}))


def test_the_base_does_nothing() -> None:
    with pytest.raises(NotImplementedError):
        BatchTransform()(*make_batch(), 3)
