from typing import Any, Dict, List, Optional

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.training import Trainer

import allencv.plugin  # noqa: F401
from allencv.training.trainer_checks import (
    check_gpu,
    check_trainer_values,
    metric_names_of,
    wrong_trainer_values,
)

NAMES = ["accuracy", "balanced", "confusions_*", "top_5_accuracy"]

WRONG: List[Any] = [
    ({"num_epochs": 0}, "trainer.num_epochs is 0; expected 1 or more"),
    ({"num_epochs": -3}, "trainer.num_epochs is -3; expected 1 or more"),
    ({"patience": 0}, "trainer.patience is 0; expected 1 or more"),
    ({"num_gradient_accumulation_steps": 0}, "_steps is 0; expected 1 or more"),
    ({"grad_norm": -1.0}, "trainer.grad_norm is -1.0; expected a number above 0"),
    ({"grad_norm": float("nan")}, "trainer.grad_norm is nan; expected a number above 0"),
    ({"grad_clipping": 0}, "trainer.grad_clipping is 0; expected a number above 0"),
    ({"log_interval": -1}, "trainer.log_interval is -1; expected 0 or more"),
    ({"validation_metric": []}, r"trainer.validation_metric is \[\]; expected a name"),
    (
        {"validation_metric": "+acuracy"},
        r"trainer.validation_metric is '\+acuracy', but the model reports no 'acuracy'; expected "
        r"one of accuracy, .*balanced, confusions_\*, loss",
    ),
    ({"validation_metric": ["-loss", "+f1"]}, r"is '\+f1', but the model reports no 'f1'"),
    ({"validation_metric": "accuracy"}, r"is 'accuracy', without a sign; expected '\+accuracy'"),
    ({"validation_metric": "loss"}, "is 'loss', without a sign; expected '-loss'"),
    ({"validation_metric": "balanced"}, r"'\+balanced' if higher is better, '-balanced' if lower"),
    ({"validation_metric": "-accuracy"}, r"-accuracy', but higher is better; expected '\+acc"),
    ({"validation_metric": "-top_5_accuracy"}, r"expected '\+top_5_accuracy'"),
    ({"validation_metric": "+loss"}, r"'\+loss', but lower is better; expected '-loss'"),
    ({"validation_metric": ""}, "is '', without a sign"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=str)
def test_what_cannot_be_meant_is_refused(values: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_trainer_values(values, True, NAMES)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, NAMES),
        ({"num_epochs": 1, "patience": 1, "grad_norm": True, "grad_clipping": None}, NAMES),
        ({"grad_norm": False, "grad_norm_": -1, "log_interval": 0}, NAMES),
        ({"validation_metric": ["+accuracy", "-loss", "-balanced"]}, NAMES),
        ({"validation_metric": "-confusions_cat_as_dog"}, NAMES),
        ({"validation_metric": "+acuracy"}, None),  # a model that does not say
        ({"num_epochs": "many"}, NAMES),  # a wrong type is for AllenNLP to find
    ],
    ids=str,
)
def test_what_can_be_meant_is_taken(values: Dict[str, Any], names: Optional[List[str]]) -> None:
    check_trainer_values(values, True, names)


def test_without_validation_data_there_is_nothing_to_be_patient_for() -> None:
    message = "trainer.patience is 3, but the config has no validation_data_path"
    with pytest.raises(ConfigurationError, match=message):
        check_trainer_values({"patience": 3}, False)
    check_trainer_values({"validation_metric": "+acuracy"}, False, NAMES)  # nobody looks at it


def test_all_mistakes_are_found() -> None:
    values = {"num_epochs": 0, "patience": 2, "grad_norm": -1, "validation_metric": "+x"}
    found = [wrong.key for wrong in wrong_trainer_values(values, False, NAMES)]
    assert found == ["num_epochs", "grad_norm", "patience"]
    found = [wrong.key for wrong in wrong_trainer_values(values, True, NAMES)]
    assert found == ["num_epochs", "grad_norm", "validation_metric"]


def test_a_model_that_does_not_name_its_metrics_is_asked_nothing() -> None:
    assert metric_names_of(object()) is None


class Broken:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def metric_names(self) -> List[str]:
        raise self.error


def test_a_metric_that_takes_no_made_up_predictions_leaves_the_names_unknown() -> None:
    assert metric_names_of(Broken(ValueError("no"))) is None
    with pytest.raises(ConfigurationError, match="does not fit"):
        metric_names_of(Broken(ConfigurationError("does not fit")))


def test_the_trainer_checks_when_it_is_built(tmp_path: Any) -> None:
    vocab = Vocabulary()
    for label in ("Cat", "Dog"):
        vocab.add_token_to_namespace(label, "labels")
    model = Model.from_params(
        Params(
            {
                "type": "basic_image_classifier",
                "im2vec_encoder": {"type": "pooling", "input_channels": 3},
            }
        ),
        vocab=vocab,
    )

    def build(**values: Any) -> None:
        Trainer.from_params(
            Params({"type": "image", "cuda_device": -1, **values}),
            model=model,
            data_loader=Loader(),
            validation_data_loader=Loader(),
            serialization_dir=str(tmp_path),
        )

    build(validation_metric="+accuracy")
    with pytest.raises(ConfigurationError, match="'acuracy'; expected one of accuracy, loss"):
        build(validation_metric="+acuracy")
    schedule = {"type": "warmup_cosine"}
    with pytest.raises(ConfigurationError, match="trainer.num_epochs is 0; expected 1 or more"):
        build(num_epochs=0, learning_rate_scheduler=schedule)
    assert not list(tmp_path.iterdir())


class Loader(List[Any]):
    def __len__(self) -> int:
        return 1

    def set_target_device(self, device: Any) -> None:
        pass


@pytest.mark.parametrize(("count", "has"), [(0, "no GPU"), (2, "2 GPUs, counted from 0")])
def test_a_gpu_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, count: int, has: str) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    for number in range(-1, count):
        check_gpu(number)
    with pytest.raises(ConfigurationError) as error:
        check_gpu(count)
    assert str(error.value).startswith(
        f"trainer.cuda_device is {count}, but this machine has {has}; expected"
    )
