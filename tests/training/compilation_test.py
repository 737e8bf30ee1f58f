from typing import Any, Dict, List

import pytest
import torch
from allennlp.common.checks import ConfigurationError

from allencv.training import compilation as module
from allencv.training.compilation import Compilation


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(4, 4)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, image: torch.Tensor, metadata: Any = None) -> torch.Tensor:
        return self.head(self.body(image).relu())


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """How often torch has made compiled code, with a backend that takes no compiler."""
    graphs: List[str] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(str(graph))
        return graph.forward

    original = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda self, **options: original(self, **{"backend": backend, **options}),
    )
    torch._dynamo.reset()
    return graphs


def images(size: int) -> Dict[str, Any]:
    return {"image": torch.randn(size, 4), "metadata": [{}] * size}


@pytest.mark.parametrize("parts", [True, ["body", "head"], ["body"]])
def test_compiled_in_place_and_once(compiled: List[str], parts: Any) -> None:
    model = Network()
    names, expected = list(model.state_dict()), {}
    batches = [images(8), images(8), images(3)]
    for index, batch in enumerate(batches):
        expected[index] = model(**batch)
    compilation = Compilation(model, parts)
    assert list(model.state_dict()) == names
    for index, batch in enumerate(batches):
        with compilation(model, batch):
            assert torch.allclose(model(**batch), expected[index])
    assert len(compiled) == (2 if parts == ["body", "head"] else 1)

    # Validation has a size of its own, and the ragged batch there is not compiled either.
    model.eval()
    before = len(compiled)
    for batch in (images(6), images(6), images(1)):
        with compilation(model, batch):
            model(**batch)
    assert len(compiled) <= 2 * before


def test_off_is_off(compiled: List[str]) -> None:
    model = Network()
    for off in (False, []):
        with Compilation(model, off)(model, images(2)):
            model(**images(2))
    assert compiled == []


def test_an_unknown_part() -> None:
    with pytest.raises(ConfigurationError, match="trainer.compile is 'haed'; expected.*head"):
        Compilation(Network(), ["haed"])


class Deep(torch.nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(layers)])
        self.spare = torch.nn.Linear(4, 4)

    def forward(self, image: torch.Tensor, metadata: Any = None) -> torch.Tensor:
        for layer in self.layers:
            image = layer(image)
        return image


def test_more_parts_than_the_limit_of_torch(compiled: List[str]) -> None:
    model = Deep(5)
    for layer, features in zip(model.layers, range(4, 9)):  # of other sizes, so code of its own
        layer.weight = torch.nn.Parameter(torch.ones(features + 1, features))
        layer.bias = None
    parts = [f"layers.{index}" for index in range(5)]
    with torch._dynamo.config.patch(recompile_limit=2):
        compilation = Compilation(model, parts)
        with compilation(model, images(2)):
            model(**images(2))
    assert len(compiled) == 5


def test_a_part_of_a_part_and_a_part_named_twice(compiled: List[str]) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
    compilation = Compilation(model, ["0", "0"])
    with compilation(model, images(2)):
        model(images(2)["image"])
    assert len(compiled) == 1
    outer = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()))
    with Compilation(outer, ["0", "0.0"])(outer, images(2)):
        outer(images(2)["image"])
    assert len(compiled) == 2


def test_a_part_that_is_not_called_whole(compiled: List[str]) -> None:
    for parts in (["spare"], ["layers.0", "spare"]):
        model = Deep(2)
        compilation = Compilation(model, parts)
        with (
            pytest.raises(
                ConfigurationError, match="compile has 'spare', which the model does not"
            ),
            compilation(model, images(2)),
        ):
            model(**images(2))


def test_a_list_of_parts_has_no_code_to_compile() -> None:
    with pytest.raises(
        ConfigurationError, match="has 'layers', a ModuleList, which has no forward"
    ):
        Compilation(Deep(2), ["layers"])


def test_a_torch_that_does_not_compile_its_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: None)
    module._compiles_layers_of_torch.cache_clear()
    try:
        with pytest.raises(
            ConfigurationError, match="'body', a Linear of torch, which torch 2.* not"
        ):
            Compilation(Network(), ["body"])
        Compilation(Network(), [])
    finally:
        module._compiles_layers_of_torch.cache_clear()
