from typing import Any

import pytest
from allennlp.commands.train import TrainModel
from allennlp.common import FromParams, Params, Registrable
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model
from allennlp.nn import Activation
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.optimizers import Optimizer
from allennlp.training.trainer import Trainer

import allencv.plugin  # noqa: F401
from allencv.catalogue import (
    describe,
    experiment,
    find_part,
    find_registry,
    part_named,
    parts_of,
    places,
    registries_that_matter,
)
from allencv.catalogue.parts import REQUIRED, Part
from allencv.data.dataset_readers.splits import ImageSplit
from allencv.data.transforms import ImageTransform
from allencv.modules.im2im_encoders import Im2ImEncoder


class Animal(Registrable):
    """What lives."""


@Animal.register("dog")
class Dog(Animal):
    """
    Barks. And more.

    # Parameters

    loudness : `float`, optional (default = `0.5`)
        From 0 to 1.
    """

    def __init__(self, loudness: float = 0.5, name: str = None, **kwargs: Any) -> None:  # noqa: RUF013
        pass


@Animal.register("small_dog")
@Animal.register("from_size", constructor="from_size")
class SmallDog(Dog):
    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    @classmethod
    def from_size(cls, centimetres: int) -> "SmallDog":
        """
        # Parameters

        centimetres : `int`
            To the shoulders.
        """
        return cls(centimetres)


def told(part: Part) -> "dict[str, tuple[str, Any, str]]":
    return {
        each.name: (each.form.describe(), each.default, each.description)
        for each in part.arguments.values()
    }


def test_a_part_of_a_user() -> None:
    part = part_named(Animal, "dog")
    assert (part.name, part.cls, part.registry) == ("dog", Dog, Animal)
    assert part.documentation.summary == "Barks."
    assert told(part) == {
        "loudness": ("float", 0.5, "From 0 to 1."),
        "name": ("str or null", None, ""),
    }
    assert not part.from_allennlp


def test_kwargs_are_the_arguments_of_the_class_above() -> None:
    assert told(part_named(Animal, "small_dog")) == {
        "loudness": ("float", 0.5, "From 0 to 1."),
        "name": ("str or null", None, ""),
        "size": ("int", REQUIRED, ""),
    }


def test_another_constructor() -> None:
    part = part_named(Animal, "from_size")
    assert told(part) == {"centimetres": ("int", REQUIRED, "To the shoulders.")}


def test_whether_other_keys_may_be_known_to_code() -> None:
    class Closed(FromParams):
        def __init__(self, a: int) -> None:
            pass

    class Passing(Closed):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)

    class Open(FromParams):
        def __init__(self, **kwargs: Any) -> None:
            pass

    assert not describe(Closed).takes_others
    assert not describe(Passing).takes_others
    assert describe(Open).takes_others
    assert not part_named(ImageTransform, "cutout").takes_others
    assert not part_named(Optimizer, "adamw").takes_others


def test_what_training_supplies() -> None:
    def supplied(registry: type, name: str) -> "set[str]":
        part = part_named(registry, name)
        assert not set(part.in_config) & {
            each for each in part.arguments if each not in part.in_config
        }
        return set(part.arguments) - set(part.in_config)

    assert supplied(Model, "basic_image_classifier") == {"vocab"}
    assert supplied(Optimizer, "lamb") == {"model_parameters", "model"}
    assert supplied(LearningRateScheduler, "warmup_cosine") == {
        *("optimizer", "num_epochs", "num_steps_per_epoch")
    }
    assert {"model", "data_loader", "serialization_dir"} <= supplied(Trainer, "image")
    assert "num_epochs" in part_named(Trainer, "image").in_config
    assert (
        not part_named(LearningRateScheduler, "warmup_cosine").arguments["num_epochs"].is_required
    )


def test_defaults_as_a_config_says_them() -> None:
    trainer = part_named(Trainer, "image").arguments
    assert trainer["optimizer"].default == "adam"
    assert trainer["checkpointer"].default == "default"
    assert part_named(Optimizer, "adamw").arguments["betas"].default == [0.9, 0.999]
    assert part_named(ImageTransform, "random_resized_crop").arguments["interpolation"].default in (
        "bilinear",
        2,
    )


def test_descriptions_come_from_the_nearest_docstring() -> None:
    model = part_named(Model, "basic_image_classifier").arguments
    assert model["dropout"].description.startswith("The probability of zeroing an element")
    trainer = part_named(Trainer, "image").arguments
    assert trainer["use_amp"].description.startswith("Train and validate in mixed precision.")
    assert trainer["patience"].description.startswith("Number of epochs to be patient")
    crop = part_named(ImageTransform, "center_crop").arguments
    assert crop["size"].description.startswith("Desired output size of the crop.")


def test_classes_of_torch_that_allennlp_registers() -> None:
    part = part_named(Activation, "elu")
    assert told(part)["alpha"][:2] == ("float", 1.0)
    assert part.from_allennlp


def test_the_top_level_of_an_experiment() -> None:
    keys = experiment().in_config
    assert {name for name, key in keys.items() if key.is_required} == {
        *("dataset_reader", "train_data_path", "model", "data_loader", "trainer")
    }
    assert keys["pytorch_seed"].default == 133
    assert keys["vocabulary"].default == "from_instances"
    assert "serialization_dir" not in keys
    assert all(key.description for key in keys.values())


def test_where_parts_stand() -> None:
    assert places()[Optimizer] == ("trainer", "optimizer")
    assert places()[ImageSplit] == ("dataset_reader", "split")
    matter = registries_that_matter()
    assert matter[0].__name__ == "DatasetReader"
    assert Animal in matter, "a user's registry that no part of ours takes"
    assert TrainModel not in matter
    assert "Tokenizer" not in {each.__name__ for each in matter}


def test_finding() -> None:
    for name in ("Im2ImEncoder", "im2im_encoder", "im2im-encoder", "im2imencoder"):
        assert find_registry(name) is Im2ImEncoder
    assert find_registry("image_split") is ImageSplit
    assert find_part(Im2ImEncoder, "timm").path.endswith("TimmEncoder")
    with pytest.raises(ConfigurationError, match=r"REGISTRY is 'optimiser'; .* of optimizer[,;]"):
        find_registry("optimiser")
    with pytest.raises(ConfigurationError, match=r"is 'tim'; expected one of timm, "):
        find_part(Im2ImEncoder, "tim")


def test_every_part_of_ours_is_documented() -> None:
    """Each says what it is for; and of the parts that are written out, what each argument is."""
    silent = []
    for registry in registries_that_matter():
        for part in parts_of(registry):
            if not part.cls.__module__.startswith("allencv."):
                continue
            assert part.documentation.summary, part
            if registry.__name__ not in ("Metric", "ImageTransform", "Optimizer", "Predictor"):
                missing = [each for each in part.in_config.values() if not each.description]
                silent += [f"{part.name}.{each.name}" for each in missing]
    assert sorted(set(silent)) == [
        *("asymmetric.gamma_positive", "exponential.denominator", "exponential.numerator"),
        "image.no_grad",
    ]


def test_a_class_with_a_from_params_of_its_own() -> None:
    class Own(FromParams):
        def __init__(self, a: int) -> None:
            pass

        @classmethod
        def from_params(cls, params: Params, **extras: Any) -> "Own":  # type: ignore[override]
            return cls(int(params.pop("text")))

    assert describe(Own).reads_config_itself
    assert not describe(Dog).reads_config_itself
    assert not part_named(LearningRateScheduler, "warmup_cosine").reads_config_itself
