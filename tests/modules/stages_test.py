import torch

from allencv.modules.stages import layer_stages, shortest_prefixes


def network():
    return torch.nn.ModuleDict(
        {
            "stem": torch.nn.Conv2d(3, 4, 3),
            "norm": torch.nn.BatchNorm2d(4),
            "relu": torch.nn.ReLU(),
            "layers": torch.nn.Sequential(
                torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 4)
            ),
        }
    )


def test_a_layer_takes_the_normalisation_after_it_along():
    assert layer_stages(network()) == [["stem", "norm"], ["layers"]]


def test_the_layers_of_a_container_are_stages():
    stages = layer_stages(network(), ["layers"])
    assert stages == [["stem", "norm"], ["layers.0", "layers.1"], ["layers.2"]]


def test_what_comes_before_the_first_layer_joins_it():
    module = network()
    module.register_parameter("token", torch.nn.Parameter(torch.zeros(1, 1, 4)))
    assert layer_stages(module)[0] == ["token", "stem", "norm"]


def test_of_nested_containers_the_inner_one_counts():
    module = torch.nn.ModuleDict({"encoder": network()})
    stages = layer_stages(module, ["encoder", "encoder.layers"])
    assert stages[0] == ["encoder.stem", "encoder.norm"]
    assert stages[1:] == [["encoder.layers.0", "encoder.layers.1"], ["encoder.layers.2"]]


def test_shortest_prefixes():
    groups = [["a.w", "a.b", "c.1.w"], ["c.2.w", "c.2.b", "token"]]
    assert shortest_prefixes(groups) == [["a", "c.1"], ["c.2", "token"]]
