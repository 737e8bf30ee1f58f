import argparse

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from safetensors.torch import save_file

from allencv.modules.weight_files import adapt_input_channels, load_fitting, read_state_dict
from tests.conftest import same_tensors

STATE = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}


def read(contents, tmp_path):
    path = str(tmp_path / "weights.pth")
    torch.save(contents, path)
    return read_state_dict(path)


@pytest.mark.parametrize(
    "contents",
    [
        STATE,
        {"module." + name: value for name, value in STATE.items()},
        {"model": STATE, "epoch": 3},
        {"state_dict": STATE, "optimizer": {}, "args": argparse.Namespace(lr=0.1)},
        {"state_dict": {"weight": torch.zeros(1)}, "state_dict_ema": STATE},
    ],
)
def test_files_of_torch_save(contents, tmp_path):
    assert same_tensors(read(contents, tmp_path), STATE)


def test_files_of_safetensors(tmp_path):
    path = str(tmp_path / "weights.safetensors")
    save_file(STATE, path)
    assert same_tensors(read_state_dict(path), STATE)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_that_is_no_state_dict_is_refused(name, tmp_path):
    path = tmp_path / name
    path.write_text("hello")
    with pytest.raises(ConfigurationError) as error:
        read_state_dict(str(path))
    assert f"weights is {str(path)!r}, which cannot be read" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_code_in_a_file_is_not_run(tmp_path):
    class Danger:
        def __reduce__(self):
            return exec, ("raise SystemExit('ran code')",)

    with pytest.raises(ConfigurationError, match="cannot be read"):
        read(Danger(), tmp_path)


def test_other_contents_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="holds a list; expected a state dict"):
        read([1, 2], tmp_path)
    with pytest.raises(ConfigurationError, match="holds a dict; expected a state dict"):
        read({**STATE, "epoch": 3}, tmp_path)


def test_loading_keeps_what_a_file_lacks_only_for_batch_counters(tmp_path):
    norm = torch.nn.BatchNorm2d(2)
    state = {name: torch.full((2,), 3.0) for name in ("weight", "bias", "running_mean")}
    with pytest.raises(ConfigurationError, match="'a.pth', which lacks running_var; expected x"):
        load_fitting(norm, state, "a.pth", "x")
    assert norm.weight.tolist() == [1, 1]
    load_fitting(norm, {**state, "running_var": torch.full((2,), 3.0)}, "a.pth", "x")
    assert norm.weight.tolist() == norm.running_var.tolist() == [3, 3]
    assert norm.num_batches_tracked == 0


def test_adapted_weights_by_hand():
    weight = torch.tensor([2.0, 4.0, 6.0]).reshape(1, 3, 1, 1)

    def adapted(input_channels):
        return adapt_input_channels(weight, input_channels).flatten().tolist()

    assert adapted(1) == [12]
    assert adapted(2) == [3, 6]
    assert adapted(3) == [2, 4, 6]
    assert adapted(4) == [1.5, 3, 4.5, 1.5]
    assert adapted(6) == [1, 2, 3, 1, 2, 3]
