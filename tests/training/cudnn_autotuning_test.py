from typing import Dict, List, Optional

import pytest
import torch

from allencv.training.cudnn_autotuning import CudnnAutotuning

GPU = torch.device("cuda")


def batch(images: int, size: int = 8) -> Dict[str, torch.Tensor]:
    return {"image": torch.zeros(images, 3, size, size), "label": torch.zeros(images)}


def measured(autotuning: CudnnAutotuning, batches: List[Dict[str, torch.Tensor]]) -> List[bool]:
    """Return for each batch whether cuDNN would measure."""
    found = []
    for each in batches:
        with autotuning(each):
            found.append(torch.backends.cudnn.benchmark)
    assert not torch.backends.cudnn.benchmark
    return found


@pytest.mark.parametrize("wanted", [None, True])
def test_batches_whose_shape_repeats(wanted: Optional[bool]) -> None:
    batches = [batch(4), batch(4), batch(4), batch(2), batch(4), batch(4), batch(4, 16)]
    expected = [False, True, True, False, False, True, False]
    assert measured(CudnnAutotuning(GPU, wanted), batches) == expected


def test_images_of_varying_sizes() -> None:
    batches = [batch(4, size) for size in (8, 9, 8, 10)]
    assert measured(CudnnAutotuning(GPU, None), batches) == [False] * 4


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_a_device_without_cudnn(device: str) -> None:
    assert measured(CudnnAutotuning(torch.device(device), True), [batch(4)] * 2) == [False] * 2


def test_what_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(CudnnAutotuning(GPU, False), [batch(4)] * 2) == [False] * 2
    with monkeypatch.context() as patched:
        patched.setattr(torch.backends.cudnn, "deterministic", True)
        assert measured(CudnnAutotuning(GPU, None), [batch(4)] * 2) == [False] * 2
        assert measured(CudnnAutotuning(GPU, True), [batch(4)] * 2) == [False, True]
    with monkeypatch.context() as patched:
        patched.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
        assert measured(CudnnAutotuning(GPU, None), [batch(4)] * 2) == [False] * 2


def test_torchs_own_flag_stays_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    for wanted in (None, False):
        with CudnnAutotuning(GPU, wanted)(batch(4)):
            assert torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.benchmark


def test_an_error_in_a_step_turns_it_off() -> None:
    autotuning = CudnnAutotuning(GPU, None)
    with autotuning(batch(4)):
        pass
    with pytest.raises(ZeroDivisionError), autotuning(batch(4)):
        raise ZeroDivisionError
    assert not torch.backends.cudnn.benchmark
