import copy
from pathlib import Path
from typing import Any, Dict

import jsonschema
import pytest
from allennlp.common import FromParams, Params

import allencv.plugin  # noqa: F401
from allencv.catalogue import experiment_schema, parts_of, registries_that_matter
from allencv.catalogue.schema import _Schemas
from tests.configs import experiment
from tests.recipes import CONFIGS, external_variables

CONFIG = experiment(Path("no-such-folder"))
VARIABLES = {"NETWORK": "small", "EPOCHS": "2", "WEIGHTS": "null"}


@pytest.fixture(scope="module")
def schema() -> Dict[str, Any]:
    return experiment_schema()


@pytest.fixture(scope="module")
def validator(schema: Dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema)


def test_it_is_a_schema(schema: Dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_part_is_defined(schema: Dict[str, Any]) -> None:
    defined = schema["$defs"]
    for registry in registries_that_matter():
        if registry.__name__ == "Predictor" or not registry.__module__.startswith("all"):
            continue  # no part of a config, or another test's
        for part in parts_of(registry):
            own = defined[f"{registry.__name__}.{part.name}"]
            assert own["properties"]["type"] == {"const": part.name}
            reference = {"$ref": f"#/$defs/{registry.__name__}.{part.name}"}
            assert reference in defined[registry.__name__]["oneOf"]


def test_it_says_what_parts_and_arguments_are(schema: Dict[str, Any]) -> None:
    timm = schema["$defs"]["Im2ImEncoder.timm"]
    assert timm["description"] == "Any network of `timm` without its classifier."
    assert timm["required"] == ["type", "model_name"]
    assert timm["properties"]["pool"] == {
        "type": "boolean",
        "default": True,
        "description": "Whether to output one pixel. If `False`, the stride is that of the "
        "feature level.",
    }
    assert "vocab" not in schema["$defs"]["Model.basic_image_classifier"]["properties"]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_shipped_configs(file: Path, validator: jsonschema.Draft202012Validator) -> None:
    variables = dict.fromkeys(external_variables(file), "data") | VARIABLES
    config = Params.from_file(file, ext_vars=variables).as_dict(quiet=True)
    assert [error.message for error in validator.iter_errors(config)] == []


@pytest.mark.parametrize(
    ("key", "value", "is_valid"),
    [
        ("model.loss", "focal", True),
        ("model.loss", {"gamma": 2.0}, False),  # it is cross_entropy's
        ("model.loss", {"label_smoothing": 0.1}, True),
        ("model.loss", {"type": "my_package.MyLoss", "anything": 1}, True),
        ("model.loss", "folcal", False),
        ("model.loss", None, True),
        ("model.im2im_encoder", "timm", False),  # it needs model_name
        ("model.im2im_encoder", {"_pretrained": {"archive_file": "a", "module_path": "b"}}, True),
        ("trainer.optimizer", {"type": "adamw", "lr": 0.1, "betas": [0.9, 0.99]}, True),
        ("trainer.optimizer", {"type": "adamw", "lr": 0.1, "betas": [0.9]}, False),
        ("trainer.optimizer", {"type": "adamww"}, False),
        ("trainer.num_epochs", "3", False),
        ("trainer.num_epoch", 3, False),
        ("data_loader.batch_size", 8, True),
        ("data_loader.batch_size", 8.5, False),
        ("random_seed", None, True),
        ("no_such_key", 1, False),
        ("distributed", {"cuda_devices": [0, 1]}, True),
        ("train_data_path", {"a": "b"}, True),
    ],
    ids=str,
)
def test_values(
    key: str, value: Any, is_valid: bool, validator: jsonschema.Draft202012Validator
) -> None:
    config: Any = copy.deepcopy(CONFIG)
    *keys, last = key.split(".")
    place = config
    for each in keys:
        place = place[each]
    place[last] = value
    assert validator.is_valid(config) == is_valid


def test_missing_keys(validator: jsonschema.Draft202012Validator) -> None:
    assert validator.is_valid(CONFIG)
    for key in ("dataset_reader", "train_data_path", "model", "data_loader", "trainer"):
        assert not validator.is_valid({each: CONFIG[each] for each in CONFIG if each != key})


def test_two_classes_of_one_name() -> None:
    definitions: Dict[str, Any] = {}
    schemas = _Schemas(definitions)
    first = type("Other", (FromParams,), {"__init__": lambda self, a: None})
    second = type("Other", (FromParams,), {"__init__": lambda self, b: None})
    names = [schemas.define(first), schemas.define(second), schemas.define(first)]
    assert names[0] == names[2] != names[1]
    assert [list(definitions[name]["properties"]) for name in names[:2]] == [["a"], ["b"]]
