from typing import Optional

import pytest
import timm
import torch
from allennlp.common.checks import ConfigurationError

from allencv.training.acceleration import (
    SmallMapsInFloat32,
    choose_amp_dtype,
    computes_in_bfloat16,
    has_dense_convolutions,
    is_out_of_memory,
    set_memory_format,
)

CPU = torch.device("cpu")
PLAIN = torch.nn.Conv2d(3, 4, 3)
SEPARABLE = torch.nn.Sequential(torch.nn.Conv2d(16, 16, 3, groups=16), torch.nn.Conv2d(16, 32, 1))


@pytest.mark.parametrize(
    ("use_amp", "name", "dtype"),
    [
        (False, None, None),
        (False, "bfloat16", None),
        (True, None, torch.bfloat16),
        (True, "bfloat16", torch.bfloat16),
        (None, None, torch.bfloat16 if computes_in_bfloat16(CPU) else None),
    ],
)
def test_the_type_on_a_cpu(
    use_amp: Optional[bool], name: Optional[str], dtype: Optional[torch.dtype]
) -> None:
    assert choose_amp_dtype(PLAIN, CPU, use_amp, name) == dtype


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenetv3_large_100", False),
        ("tf_efficientnet_lite0", False),
        ("efficientnet_b0", False),
        ("mobilenetv2_100", False),
        ("convnext_atto", True),
        ("convnext_tiny", False),  # its pointwise layers are linear
        ("regnety_004", True),  # its groups have 8 channels
        ("resnet18", True),
        ("vit_tiny_patch16_224", False),
    ],
)
def test_networks_of_dense_convolutions(name: str, expected: bool) -> None:
    with torch.device("meta"):
        network = timm.create_model(name)
    assert has_dense_convolutions(network) == expected


@pytest.mark.parametrize(
    ("network", "has_bfloat16", "has_tiles", "dtype"),
    [
        (PLAIN, True, False, torch.bfloat16),
        (PLAIN, True, True, torch.bfloat16),
        (PLAIN, False, False, None),
        (SEPARABLE, True, False, None),
        (SEPARABLE, True, True, None),
        (SEPARABLE, False, False, None),
    ],
)
def test_the_default_follows_the_network_and_the_processor(
    network: torch.nn.Module,
    has_bfloat16: bool,
    has_tiles: bool,
    dtype: Optional[torch.dtype],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bfloat16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_tiles)
    assert choose_amp_dtype(network, CPU, None, None) == dtype


@pytest.mark.parametrize("use_amp", [None, False, True])
def test_a_type_that_the_cpu_does_not_have(use_amp: Optional[bool]) -> None:
    with pytest.raises(ConfigurationError, match="amp_dtype on a cpu is 'float16'; expected"):
        choose_amp_dtype(PLAIN, CPU, use_amp, "float16")


@pytest.mark.parametrize(
    ("channels_last", "device", "expected"),
    [
        (None, "cpu", True),
        (None, "cuda", True),
        (None, "mps", False),
        (True, "cpu", True),
        (False, "cuda", False),
    ],
)
def test_memory_format(channels_last: Optional[bool], device: str, expected: bool) -> None:
    model = torch.nn.Conv2d(3, 4, 3)
    weight = model.weight
    set_memory_format(model, channels_last, torch.device(device))
    assert model.weight is weight  # as the optimizer knows it
    assert model.weight.is_contiguous(memory_format=torch.channels_last) == expected


NARROW = torch.nn.Conv2d(8, 16, 1, stride=2)


def test_a_network_that_torch_crashes_with_keeps_its_order() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), NARROW)
    set_memory_format(network, None, CPU)
    assert network[0].weight.is_contiguous()
    with pytest.raises(ConfigurationError, match="expected false or null, as on a CPU torch"):
        set_memory_format(network, True, CPU)
    for harmless in (torch.nn.Conv2d(16, 32, 1, stride=2), torch.nn.Conv2d(8, 16, 1)):
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), harmless)
        set_memory_format(network, True, CPU)
        assert not network[0].weight.is_contiguous()


def test_out_of_memory_is_known() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**55)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(("side", "dtype"), [(8, torch.float32), (9, torch.bfloat16)])
@pytest.mark.parametrize("stride", [1, 2])
def test_small_maps_are_computed_in_float32(side: int, dtype: torch.dtype, stride: int) -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(4, 4, 3, stride, 1), torch.nn.Conv2d(4, 4, 1), torch.nn.Flatten()
    )
    images = torch.randn(2, 4, 20, side)
    expected = network(images)
    SmallMapsInFloat32(network)
    outputs = []
    network[0].register_forward_hook(lambda *given: outputs.append(given[2]))
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            found = network(images)
            assert torch.is_autocast_enabled("cpu")
        assert outputs[-1].dtype == (dtype if stride == 2 else torch.bfloat16)
        assert found.dtype == torch.bfloat16
        assert torch.allclose(found.float(), expected, atol=0.05)
    assert torch.equal(network(images), expected)


def test_an_error_in_a_small_map_leaves_autocast_on() -> None:
    network = torch.nn.Conv2d(4, 4, 3, 2)
    SmallMapsInFloat32(network)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            network(torch.randn(1, 3, 4, 4))
        assert torch.is_autocast_enabled("cpu")
