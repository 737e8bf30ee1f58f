from typing import Any

import pytest
import torch
from allennlp.common import Params, Registrable
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model

import allencv.plugin  # noqa: F401
from allencv.catalogue.mistakes import unknown_key
from allencv.catalogue.parts import part_named
from allencv.common.checks import CheckedFromParams


class Whole(CheckedFromParams, Registrable):
    pass


@Whole.register("keeps")
class Keeps(Whole):
    def __init__(self, name: str, **kwargs: Any) -> None:
        self.name = name
        self.act = torch.nn.LeakyReLU(**kwargs)
        self.options = kwargs


@Whole.register("hands_on")
class HandsOn(Keeps):
    def __init__(self, size: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)


def built(**config: Any) -> Any:
    return Whole.from_params(Params(config))


@pytest.mark.parametrize("name", ["keeps", "hands_on"])
def test_a_part_may_take_other_keys(name: str) -> None:
    part = built(type=name, name="x", negative_slope=0.2)
    assert part.act.negative_slope == 0.2
    assert part.options == {"negative_slope": 0.2}


def test_a_key_that_nobody_takes() -> None:
    with pytest.raises(ConfigurationError, match="^negativ_slope is not a key that Keeps can use"):
        built(type="keeps", name="x", negativ_slope=0.2)


def test_the_known_keys_are_those_of_a_config() -> None:
    config = {"type": "basic_image_classifier", "losss": 1}
    with pytest.raises(ConfigurationError, match=r"is 'losss'; expected one of loss, ") as error:
        Model.from_params(Params(config), vocab=Vocabulary.empty())
    offered = str(error.value).rpartition("expected one of ")[2].split(", ")
    mistake = unknown_key("losss", part_named(Model, "basic_image_classifier"), ("model",))
    assert offered == mistake.choices, "in the order of check-config"
    assert {"im2im_encoder", "im2vec_encoder", "loss"} <= set(offered)
    assert not {"self", "kwargs", "vocab"} & set(offered)


def test_the_place_of_an_unknown_key() -> None:
    with pytest.raises(ConfigurationError, match="^a key of model is 'siz'; expected one of size"):
        HandsOnly.from_params(Params({"siz": 1}, history="model."))


class HandsOnly(CheckedFromParams):
    def __init__(self, size: int = 1, name: str = "") -> None: ...


def test_a_class_that_is_built_without_a_registered_name() -> None:
    assert Keeps.from_params(Params({"name": "x"})).name == "x"
    with pytest.raises(
        ConfigurationError, match="a key of NotKeeping is 'siz'; expected one of size"
    ):
        NotKeeping.from_params(Params({"siz": 1}))


class NotKeeping(CheckedFromParams):
    def __init__(self, size: int = 1) -> None: ...
