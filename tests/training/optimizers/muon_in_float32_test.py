import pytest
import timm.optim.muon
import torch

from allencv.training.optimizers import muon_in_float32


@pytest.mark.parametrize(
    ("has_bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)]
)
def test_steps_are_computed_in_the_type_that_is_fast(
    has_bfloat16: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon_in_float32, "computes_in_bfloat16", lambda device: has_bfloat16)
    dtypes = []

    def noted(gradient: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        made = original(gradient, *args, **kwargs)
        dtypes.append(made.dtype)
        return made

    original = muon_in_float32._orthogonalized
    monkeypatch.setattr(muon_in_float32, "_orthogonalized", noted)
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(8, 6))
    weight.grad = torch.randn(8, 6)
    optimizer = timm.optim.Muon([weight], lr=1.0, adjust_lr_fn="rms_to_rms", ns_steps=9)
    optimizer.step()
    assert dtypes == [dtype]
    # All directions of the step have about the same length, which is that of rms_to_rms.
    lengths = torch.linalg.svdvals(weight.detach()) / (8 / 6) ** 0.5
    torch.testing.assert_close(lengths, torch.ones(6), atol=0.1, rtol=0)
