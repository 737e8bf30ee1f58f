"""Each kind of mistake in a config that has no other."""

import copy
import json
import random
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
import torch
from allennlp.common import FromParams, Lazy, Params, Registrable
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import with_overrides
from allennlp.data import DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.training import TrainerCallback

import allencv.plugin  # noqa: F401
from allencv.catalogue import Mistake, find_mistakes
from allencv.data.transforms import ImageTransform
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import Im2VecEncoder
from tests.common.user_parts import Corner, Draw, Ink, Round, Speed
from tests.configs import experiment

CONFIG = experiment(Path("no-such-folder"))
ENCODER = "model.im2im_encoder"


def changed(remove: Tuple[str, ...] = (), **overrides: Any) -> Dict[str, Any]:
    """The config with other values (`a__b` for `a.b`), and without some keys."""
    config = copy.deepcopy(CONFIG)
    for path in remove:
        *keys, last = path.split(".")
        place: Any = config
        for key in keys:
            place = place[key]
        del place[last]
    for path, value in overrides.items():
        *keys, last = path.split("__")
        place = config
        for key in keys:
            place = place[int(key) if key.isdigit() else key]
        place[int(last) if last.isdigit() else last] = value
    return config


def only(config: Any) -> Mistake:
    mistakes = find_mistakes(config)
    assert len(mistakes) == 1, [mistake.message for mistake in mistakes]
    return mistakes[0]


def test_a_config_without_mistakes() -> None:
    assert find_mistakes(CONFIG) == []


def test_a_check_draws_no_random_numbers() -> None:
    """Else `train`, which checks first, would begin with other weights than its seeds say."""
    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002
    expected = torch.rand(3).tolist(), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002
    assert find_mistakes(CONFIG) == []
    assert (torch.rand(3).tolist(), random.random(), np.random.rand()) == expected  # noqa: NPY002


def test_the_config_is_left_as_it_is() -> None:
    config = copy.deepcopy(CONFIG)
    find_mistakes(config)
    assert config == CONFIG


@pytest.mark.parametrize(
    ("config", "kind", "key", "message", "nearest"),
    [
        (
            changed(trainer__optimizer={"type": "adamww"}),
            *("unknown type", "trainer.optimizer.type"),
            'trainer.optimizer.type is "adamww"; did you mean adamw? Expected one of adamw, radamw',
            "adamw",
        ),
        (
            changed(trainer__optimizer="adamww"),
            *("unknown type", "trainer.optimizer.type"),
            'trainer.optimizer.type is "adamww"; did you mean adamw? Expected one of adamw, ',
            "adamw",
        ),
        (
            changed(dataset_reader__transforms__1={"type": "random_flip"}),
            *("unknown type", "dataset_reader.transforms.1.type"),
            'dataset_reader.transforms.1.type is "random_flip"; did you mean random_affine? Exp',
            "random_affine",
        ),
        (
            changed(model__loss={"type": "no_such_module.Loss"}),
            *("unknown type", "model.loss.type"),
            "model.loss.type: tried to interpret no_such_module.Loss as a path to a class",
            None,
        ),
        (
            changed(model__type=3),
            *("unknown type", "model.type"),
            "model.type is 3; expected one of ",
            None,
        ),
        (
            changed(model__type=["multilabel_image_classifier"]),
            *("unknown type", "model.type"),
            'model.type is ["multilabel_image_classifier"]; did you mean multi',
            "multilabel_image_classifier",
        ),
        (
            changed(model__class_weights={"type": "balancd"}),
            *("unknown type", "model.class_weights.type"),
            'model.class_weights.type is "balancd"; did you mean balanced? Exp',
            "balanced",
        ),
        (
            changed(model__class_weights={"cat": "two"}),
            *("wrong type", "model.class_weights"),
            'model.class_weights is {"cat": "two"}; expected ClassWeighting or dict of float',
            None,
        ),
        (
            changed(trainer__num_epoch=3),
            *("unknown key", "trainer.num_epoch"),
            "trainer.num_epoch is not a key of the Trainer 'image'; did you mean num_epochs? Exp",
            "num_epochs",
        ),
        (
            changed(valuation_data_path="data"),
            *("unknown key", "valuation_data_path"),
            "valuation_data_path is not a key of a config; did you mean validation_data_path? ",
            "validation_data_path",
        ),
        (
            changed(dataset_reader__transforms__1__p=0.3, dataset_reader__transforms__1__pp=0.3),
            *("unknown key", "dataset_reader.transforms.1.pp"),
            "dataset_reader.transforms.1.pp is not a key of the ImageTransform "
            "'random_horizontal_flip'; did you mean p?",
            "p",
        ),
        (
            changed(dataset_reader__split={"part": "train", "fractoin": 0.1}),
            *("unknown key", "dataset_reader.split.fractoin"),
            "dataset_reader.split.fractoin is not a key of ImageSplit; did you mean fraction? ",
            "fraction",
        ),
        (
            changed(("model",)),
            *("missing key", "model"),
            "the config lacks model; expected Model",
            None,
        ),
        (
            changed((f"{ENCODER}.type",)),
            *("missing key", f"{ENCODER}.type"),
            "model.im2im_encoder lacks type; expected one of ",
            None,
        ),
        (
            changed(("model.im2vec_encoder.input_channels",)),
            *("missing key", "model.im2vec_encoder.input_channels"),
            "model.im2vec_encoder lacks input_channels; expected int",
            None,
        ),
        (
            changed(data_loader__batch_size="four"),
            *("wrong type", "data_loader.batch_size"),
            'data_loader.batch_size is "four"; expected int',
            None,
        ),
        (
            changed(trainer__num_epochs=2.5),
            *("wrong type", "trainer.num_epochs"),
            "trainer.num_epochs is 2.5; expected int",
            None,
        ),
        (
            changed(data_loader__batch_size=None),
            *("wrong type", "data_loader.batch_size"),
            "data_loader.batch_size is null; expected int",
            None,
        ),
        (
            changed(model__metrics=["accuracy"]),
            *("wrong type", "model.metrics"),
            'model.metrics is ["accuracy"]; expected dict of Metric or null',
            None,
        ),
        (
            changed(dataset_reader__transforms={"type": "cutout"}),
            *("wrong type", "dataset_reader.transforms"),
            'dataset_reader.transforms is {"type": "cutout"}; expected list of ImageTransform',
            None,
        ),
        (
            changed(model__pixel_mean=[0.5, "0.5", 0.5]),
            *("wrong type", "model.pixel_mean.1"),
            'model.pixel_mean.1 is "0.5"; expected float',
            None,
        ),
        (
            changed(
                trainer__callbacks=[{"type": "unfreeze_milestones", "milestones": [[1, 2, 3]]}]
            ),
            *("wrong type", "trainer.callbacks.0.milestones.0"),
            "trainer.callbacks.0.milestones.0 is [1, 2, 3]; expected [int, int]",
            None,
        ),
        (
            changed(trainer__validation_metric=3),
            *("wrong type", "trainer.validation_metric"),
            "trainer.validation_metric is 3; expected str or list of str",
            None,
        ),
        (
            changed(model=["basic_image_classifier"]),
            *("wrong type", "model"),
            'model is ["basic_image_classifier"]; expected Model',
            None,
        ),
        (
            changed(distributed={"cuda_devices": 2}),
            *("wrong type", "distributed.cuda_devices"),
            "distributed.cuda_devices is 2; expected list of int",
            None,
        ),
        (
            changed(validation_dataset_reader__transforms__0__crop_ratio=3),
            *("refused", "validation_dataset_reader.transforms.0.crop_ratio"),
            "validation_dataset_reader.transforms.0: transform 'eval': crop_ratio is 3; expected a "
            "number in (0, 1]",
            None,
        ),
        (
            changed(dataset_reader__color_mode="rgb"),
            *("refused", "dataset_reader.color_mode"),
            "dataset_reader.color_mode is 'rgb'; expected one of ",
            None,
        ),
        (
            changed(model__loss={"type": "cross_entropy", "label_smoothing": 2}),
            *("refused", "model.loss.label_smoothing"),
            "model.loss",
            None,
        ),
        (
            changed(model__im2im_encoder={"type": "pretrained_resnet", "resnet_model": "resnet5"}),
            *("refused", f"{ENCODER}.resnet_model"),
            "model.im2im_encoder: resnet_model is 'resnet5'; expected one of resnet50, ",
            None,
        ),
        (
            changed(model__im2im_encoder={"type": "timm", "model_name": "resnet_50"}),
            *("refused", f"{ENCODER}.model_name"),
            "model.im2im_encoder: ",
            None,
        ),
        (
            changed(trainer__optimizer={"type": "adamw", "lr": 0.1, "weight_decay": -1}),
            *("refused", "trainer.optimizer.weight_decay"),
            "trainer.optimizer: adamw cannot be made with ",
            None,
        ),
        (
            changed(trainer__optimizer__parameter_groups=[[["weight"], {"lrr": 0.1}]]),
            *("refused", "trainer.optimizer.parameter_groups"),
            "trainer.optimizer: a key of adamw.parameter_groups[0] is 'lrr'; expected one of lr, ",
            None,
        ),
        (
            changed(data_loader__batch_size=-1),
            *("refused", "data_loader.batch_size"),
            "data_loader.batch_size is -1; expected at least 1",
            None,
        ),
        (
            changed(validation_data_loader={"type": "image", "repeats": 2}),
            *("refused", "validation_data_loader.repeats"),
            'validation_data_loader: data_loader.repeats is 2; expected "shuffle": true',
            None,
        ),
        (
            changed(trainer__num_epochs=0),
            *("refused", "trainer.num_epochs"),
            "trainer.num_epochs is 0; expected 1 or more",
            None,
        ),
        (
            changed(("validation_data_path",), trainer__patience=2),
            *("refused", "trainer.patience"),
            "trainer.patience is 2, but the config has no validation_data_path; expected ",
            None,
        ),
        (
            changed(trainer__frozen_features={"views": 2, "max_gb": 0}),
            *("refused", "trainer.frozen_features.max_gb"),
            "trainer.frozen_features.max_gb is 0; expected a number above 0",
            None,
        ),
        (
            changed(trainer__frozen_features={}, distributed={"cuda_devices": [-1, -1]}),
            *("refused", "trainer.frozen_features"),
            "trainer.frozen_features is set, but training has several processes; expected one, as ",
            None,
        ),
        (
            changed(trainer__validation_metric="+acuracy"),
            *("refused", "trainer.validation_metric"),
            "trainer.validation_metric is '+acuracy', but the model reports no 'acuracy'; expected "
            "one of accuracy, loss",
            None,
        ),
        (
            changed(trainer__validation_metric=["-loss", "-accuracy"]),
            *("refused", "trainer.validation_metric"),
            "trainer.validation_metric is '-accuracy', but higher is better; expected '+accuracy'",
            None,
        ),
        (
            changed(model__metrics={"each": "per_class"}, trainer__validation_metric="+eac_Cat"),
            *("refused", "trainer.validation_metric"),
            "trainer.validation_metric is '+eac_Cat', but the model reports no 'eac_Cat'; expected "
            "one of accuracy, each*, loss",
            None,
        ),
        (
            changed(model__dropout=1.5),
            *("refused", "model.dropout"),
            "model.dropout is 1.5; expected a number in [0, 1)",
            None,
        ),
        (
            changed(model__pixel_mean=[0.5] * 3, model__pixel_std=[0, 0.5, 0.5]),
            *("refused", "model.pixel_std"),
            "model.pixel_mean and model.pixel_std are ",
            None,
        ),
        (
            changed(model__im2vec_encoder__input_channels=512),
            *("refused", "model.im2vec_encoder.input_channels"),
            "model.im2im_encoder (SmallResnetEncoder) gives 16 channels, but model.im2vec_encoder "
            "(PoolingEncoder) takes 512",
            None,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_mistake(config: Any, kind: str, key: str, message: str, nearest: Optional[str]) -> None:
    mistake = only(config)
    assert (mistake.kind, mistake.key) == (kind, key)
    assert mistake.message.startswith(message)
    assert "\n" not in mistake.message
    assert mistake.nearest == nearest
    if nearest is not None:
        assert mistake.choices[0] == nearest


@pytest.mark.parametrize(
    ("config", "key", "nearest"),
    [
        (changed(("train_data_path",), train_data_pth="data"), "train_data_pth", None),
        (changed(("model",), modle=CONFIG["model"]), "modle", None),
        # Without its nearest name the encoder would have 64 channels, which do not fit.
        (
            changed((f"{ENCODER}.widths",), model__im2im_encoder__width=[8, 16]),
            *(f"{ENCODER}.width", None),
        ),
        (
            changed(("validation_data_path",), valid_data_path="data", trainer__patience=2),
            *("valid_data_path", "validation_data_path"),
        ),
        (
            changed(
                ("model.im2vec_encoder.input_channels",), model__im2vec_encoder__input_chanels=16
            ),
            *("model.im2vec_encoder.input_chanels", "input_channels"),
        ),
        (
            changed((f"{ENCODER}.type",), model__im2im_encoder__typ="small_resnet"),
            *(f"{ENCODER}.typ", "type"),
        ),
        (
            changed(("trainer.optimizer.type",), trainer__optimizer__tpye="adamw"),
            *("trainer.optimizer.tpye", "type"),
        ),
    ],
)
def test_a_misspelt_key_is_named_once(config: Any, key: str, nearest: Optional[str]) -> None:
    """And is one mistake: the others would only follow from it."""
    mistake = only(config)
    assert (mistake.kind, mistake.key) == ("unknown key", key)
    if nearest is not None:
        assert f"; did you mean {nearest}? Expected one of " in mistake.message
    assert mistake.message.count(key) == 1


def test_mistakes_below_a_misspelt_key() -> None:
    first, second, third = find_mistakes(
        changed(("trainer",), trianer={**CONFIG["trainer"], "num_epoch": 3, "num_epochs": "4"})
    )
    assert [each.key for each in (first, second, third)] == [
        *("trianer", "trianer.num_epochs", "trianer.num_epoch")
    ]
    # The value of a misspelt key is not checked: its nearest name may be another than was meant.
    assert only(changed(dataset_reader__colour_mode=3)).key == "dataset_reader.colour_mode"


@pytest.mark.parametrize(
    ("value", "encoder"),
    [
        ("resnet50", {"type": "pretrained_resnet", "resnet_model": "resnet50"}),
        ({"type": "ResNet-18"}, {"type": "pretrained_resnet", "resnet_model": "resnet18"}),
        ({"type": "vgg11", "weights": None}, {"type": "torchvision", "model_name": "vgg11"}),
        (
            {"type": "vit_tiny_patch16_224", "pretrained": True},
            {"type": "timm", "model_name": "vit_tiny_patch16_224"},
        ),
        (
            {"type": "resnet50.a1_in1k"},
            {"type": "timm", "model_name": "resnet50.a1_in1k"},
        ),
    ],
)
def test_a_network_in_place_of_a_part(value: Any, encoder: Dict[str, str]) -> None:
    mistake = only(changed(model__im2im_encoder=value))
    assert (mistake.kind, mistake.key) == ("unknown type", f"{ENCODER}.type")
    name = value if isinstance(value, str) else value["type"]
    assert mistake.message == (
        f'model.im2im_encoder.type is "{name}", the name of a network; expected the name of a part,'
        f" and the network under a key of its own: {json.dumps(encoder)}"
    )
    assert mistake.nearest == encoder["type"]
    model = only(changed(model=value)).message
    assert model.endswith(json.dumps({"type": "basic_image_classifier", "im2im_encoder": encoder}))


@pytest.mark.parametrize("config", [[], "config", None])
def test_not_an_object(config: Any) -> None:
    assert only(config).message.endswith(
        "; expected an object with keys such as dataset_reader and model"
    )


@pytest.mark.parametrize(
    "config",
    [
        changed(trainer__validation_metric="+top_5_accuracy", model__top_k=5),
        changed(trainer__validation_metric="+each_Cat", model__metrics={"each": "per_class"}),
        changed(
            trainer__validation_metric="+area",
            model__metrics={"area": {"type": "auroc", "thresholds": 10}},
        ),
        changed(("validation_data_path",), trainer__validation_metric="+acuracy"),
        changed(
            trainer={"type": "gradient_descent", "num_epochs": 0, "optimizer": "adam"},
        ),
        changed(data_loader__drop_last=True, data_loader__class_weighting="balanced"),
        changed(model__loss="focal"),
        changed(model__loss=None),
        changed(trainer__learning_rate_scheduler={"type": "warmup_cosine", "num_epochs": 2}),
        changed(trainer__optimizer={"lr": 0.1}),
        changed(trainer__optimizer={"type": "lamb", "layer_decay": 0.7}),
        changed(trainer__optimizer__weight_decay_on_norm_and_bias=False),
        changed(trainer__optimizer__parameter_groups=[[["_im2im_encoder"], {"lr": 0.1}]]),
        changed(trainer__grad_norm=1),
        changed(trainer__checkpointer={"keep_most_recent_by_count": 1}),
        changed(model__class_weights={"cat": 2}),
        changed(model__class_weights={"type": "balanced"}),
        changed(
            model__thresholds=0.5,
            model__type="multilabel_image_classifier",
            trainer__validation_metric="+macro_f1",
        ),
        changed(model__initializer={"regexes": [["weight", "normal"], ["b", {"type": "zero"}]]}),
        changed(vocabulary={"type": "from_files", "directory": "vocabulary"}),
        changed(distributed={"cuda_devices": [0, 1]}, evaluate_on_test=False, random_seed=1),
        changed(model__im2im_encoder={"_pretrained": {"archive_file": "a", "module_path": "b"}}),
        changed(model__loss={"type": "allencv.modules.losses.FocalLoss", "gamma": 2}),
        changed(dataset_reader__transforms__1={"type": "random_crop", "size": [8, 8]}),
        changed(
            model__im2im_encoder={"type": "timm", "model_name": "resnet18", "drop_path_rate": 0.1},
            model__im2vec_encoder={"type": "pooling", "input_channels": 512},
        ),
    ],
)
def test_what_allennlp_takes_is_no_mistake(config: Any) -> None:
    assert [mistake.message for mistake in find_mistakes(config)] == []


def test_all_mistakes_at_once() -> None:
    config = changed(
        ("trainer.optimizer.type",),
        dataset_reader__transforms__0__sizes=3,
        data_loader__batch_size="four",
        model__im2im_encoder__type="small_resnt",
        model__top_kk=3,
        trainer__optimizer__learning_rate=0.1,
        trainer__learning_rate_scheduler={"type": "warmup_multi_step"},
        validation_dataset_reader__transforms__0__fit="squeeze",
    )
    assert [mistake.key for mistake in find_mistakes(config)] == [
        "model.top_kk",  # the others are found with its nearest name in its place
        "dataset_reader.transforms.0.sizes",
        "validation_dataset_reader.transforms.0.fit",
        "data_loader.batch_size",
        "model.im2im_encoder.type",
        "trainer.optimizer.learning_rate",
        "trainer.learning_rate_scheduler.milestones",
    ]


def test_neighbours_that_do_not_fit_are_found_beside_other_mistakes() -> None:
    config = changed(model__im2vec_encoder__input_channels=3, model__dropuot=0.1)
    assert {mistake.key for mistake in find_mistakes(config)} == {
        *("model.im2vec_encoder.input_channels", "model.dropuot")
    }


def keys(value: Any, path: Tuple[Any, ...]) -> Iterator[Tuple[Any, ...]]:
    """The paths of all that a value holds."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in pairs:
        yield (*path, key)
        if isinstance(each, (dict, list)):
            yield from keys(each, (*path, key))


def built_by_allennlp(config: Dict[str, Any]) -> bool:
    vocab = Vocabulary({"labels": {"cat": 1, "dog": 1}}, non_padded_namespaces=["labels"])
    try:
        DatasetReader.from_params(Params(copy.deepcopy(config["dataset_reader"])))
        Model.from_params(Params(copy.deepcopy(config["model"])), vocab=vocab)
    except Exception:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("value", ["x", 1, 1.5, True, None, [], ["x"], {"type": "x"}, -1], ids=str)
def test_it_says_no_where_allennlp_does(value: Any) -> None:
    """Whatever stands in place of any value of a reader and a model."""
    whole = changed(
        dataset_reader__color_mode="L",
        dataset_reader__split={"part": "train", "fraction": 0.2},
        model__loss={"type": "cross_entropy", "label_smoothing": 0.1},
        model__metrics={"f1": {"type": "f1_score", "top_k": 1}},
        model__batch_transforms=[{"type": "mixup", "alpha": 0.2}],
        model__pixel_mean=[0.5],
        model__pixel_std=[0.5],
        model__im2im_encoder__input_channels=1,
        trainer={"type": "gradient_descent", "optimizer": "adam"},  # not checked beside the model
    )
    assert find_mistakes(whole) == []
    assert built_by_allennlp(whole)
    for section in ("dataset_reader", "model"):
        for path in keys(whole[section], (section,)):
            config = copy.deepcopy(whole)
            place: Any = config
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = copy.deepcopy(value)
            mistakes = [mistake.message for mistake in find_mistakes(config)]
            assert bool(mistakes) != built_by_allennlp(config), (path, mistakes)


class Whole(Registrable):
    pass


@TrainerCallback.register("test_catalogue_callback")
class Callback(TrainerCallback):
    built: List[int] = []

    def __init__(self, serialization_dir: str, sizes: List[int], whole: Lazy[Whole] = None) -> None:
        self.built.append(1)


@ImageTransform.register("test_catalogue_transform")
class Transform(ImageTransform):
    built: List[int] = []

    def __init__(self, sizes: List[int]) -> None:
        self.built.append(1)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image


@Model.register("test_catalogue_model")
class ReadsItself(Model):
    @classmethod
    def from_params(cls, params: Params, **extras: Any) -> "ReadsItself":  # type: ignore[override]
        raise NotImplementedError


class Closed(FromParams):
    def __init__(self, a: int) -> None:
        pass


@Whole.register("passing")
class Passing(Whole, Closed):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


def test_parts_of_a_user_are_checked_and_not_built() -> None:
    config = changed(
        trainer__callbacks=[{"type": "test_catalogue_callback", "sizes": "1", "other": 2}],
        dataset_reader__transforms__1={"type": "test_catalogue_transform", "sizes": [1]},
    )
    assert [mistake.key for mistake in find_mistakes(config)] == [
        *("trainer.callbacks.0.sizes", "trainer.callbacks.0.other")
    ]
    assert not Callback.built
    assert not Transform.built
    whole = {"type": "passing", "b": 1}
    callback = {"type": "test_catalogue_callback", "sizes": [1], "whole": whole}
    assert only(changed(trainer__callbacks=[callback])).key == "trainer.callbacks.0.whole.b"


def test_a_part_that_reads_its_config_itself_is_left_to_it() -> None:
    assert find_mistakes(changed(model={"type": "test_catalogue_model", "anything": 1})) == []


def test_overrides_are_found_like_keys() -> None:
    config = with_overrides(copy.deepcopy(CONFIG), {"dataset_reader.transforms.0.size": "large"})
    assert only(config).key == "dataset_reader.transforms.0.size"


@ImageTransform.register("test_supplies")
class Supplies(ImageTransform):
    def __init__(self, encoder: Lazy[Im2VecEncoder], other: Lazy[Im2VecEncoder] | None) -> None:
        self.encoder = encoder.construct(input_channels=8)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image


def with_transform(config: Dict[str, Any]) -> Dict[str, Any]:
    return changed(dataset_reader__transforms__1=config)


@pytest.mark.parametrize(
    "config",
    [
        {"type": "test_paint", "brush": {"type": "round", "width": 2}},
        {"type": "test_paint", "brush": "round", "spare": [None, {"type": "round"}]},
        {"type": "test_unresolved", "missing": 3},
        {"type": "test_supplies", "encoder": {"type": "pooling"}, "other": "pooling"},
        {"type": "test_supplies", "encoder": {"type": "pooling"}, "other": None},
    ],
    ids=str,
)
def test_a_part_of_a_user_that_can_be_built(config: Dict[str, Any]) -> None:
    assert [mistake.message for mistake in find_mistakes(with_transform(config))] == []


@pytest.mark.parametrize(
    ("config", "kind", "key", "message"),
    [
        (
            {"type": "test_paint", "brush": {"type": "round", "inner": {"type": "round"}}},
            *("annotation", "brush.inner"),
            "is not built: AllenNLP does not understand the annotation 'Brush | None' of inner in "
            "tests.common.user_parts.Round, which would get a dict; expected a form such as ",
        ),
        (
            {"type": "test_paint", "brush": {"type": "round", "inner": "round"}},
            *("annotation", "brush.inner"),
            "is not built: AllenNLP does not understand the annotation 'Brush | None' of inner ",
        ),
        (
            {"type": "test_unresolved", "missing": {"type": "round"}},
            *("annotation", "missing"),
            "is not built: AllenNLP does not understand the annotation 'Missing' of missing in ",
        ),
        ({"type": "test_supplies", "encoder": "poolng"}, "unknown type", "encoder.type", "is "),
        ({"type": "test_supplies", "encoder": {}}, "missing key", "encoder.type", ""),
        ({"type": "test_paint", "bruhs": 3}, "unknown key", "bruhs", "is not a key of the"),
        ({"type": "test_paint", "spare": {"a": 3}}, "wrong type", "spare", 'is {"a": 3}; exp'),
    ],
)
def test_a_mistake_in_a_part_of_a_user(
    config: Dict[str, Any], kind: str, key: str, message: str
) -> None:
    mistake, *_ = find_mistakes(with_transform(config))
    assert (mistake.kind, mistake.key) == (kind, f"dataset_reader.transforms.1.{key}")
    assert message in mistake.message


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("ink", {"amount": 1, "shades": [1, 0.5]}, Ink(1, [1, 0.5])),
        ("ink", {"amount": 1, "under": {"amount": 2}}, Ink(1, under=Ink(2))),
        ("ink", {"amount": 1, "brush": {"type": "round", "width": 3}}, Ink(1, brush=Round(3))),
        ("inks", [{"amount": 1}], [Ink(1)]),
        ("corner", {"x": 1}, Corner(1)),
        ("corner", [1, "a"], Corner(1, "a")),
        ("frame", {"width": 3}, {"width": 3}),
        ("speed", "SLOW", Speed.SLOW),
        ("speed", "s", Speed.SLOW),
        ("speed", 0.5, Speed.HALF),
        ("sides", {"left": 1}, {"left": 1}),
        ("numbers", {"-1": 2}, {-1: 2}),
        ("choice", 1, 1),
        ("function", None, None),
    ],
)
def test_what_the_check_takes_is_built(key: str, value: Any, expected: Any) -> None:
    config = {"type": "test_draw", key: value}
    assert [mistake.message for mistake in find_mistakes(with_transform(config))] == []
    built = ImageTransform.from_params(Params(config))
    assert isinstance(built, Draw)
    assert built.given[key] == expected
    assert type(built.given[key]) is type(expected)


@pytest.mark.parametrize(
    ("key", "value", "place", "says"),
    [
        ("ink", {"shades": []}, "ink.amount", "ink lacks amount; expected int"),
        ("ink", {"amount": "a"}, "ink.amount", "; expected int"),
        (
            "ink",
            {"amount": 1, "amuont": 2},
            "ink.amuont",
            "xpected one of amount, ",
        ),
        ("ink", {"amount": 1, "under": {"amount": "a"}}, "ink.under.amount", "; expected int"),
        ("inks", [{"amount": 1}, 3], "inks.1", "inks.1 is 3; expected "),
        ("corner", {"x": "a"}, "corner.x", "; expected int"),
        ("frame", {"widht": 3}, "frame.widht", "width"),
        ("function", "os.getcwd", "function", "function is not built: a config has no form"),
        ("kind", "Ink", "kind", "kind is not built: a config has no form"),
        ("untold", {"a": 1}, "untold", "untold is not built: a config has no form"),
        ("speed", "fast", "speed", "; expected"),
        ("sides", {"top": 1}, "sides.top", "sides.top is"),
        ("numbers", {"one": 1}, "numbers.one", "numbers.one is"),
        ("choice", True, "choice", "; expected"),
    ],
)
def test_what_the_check_refuses_is_not_built(key: str, value: Any, place: str, says: str) -> None:
    config = {"type": "test_draw", key: value}
    mistake = only(with_transform(config))
    assert mistake.key == f"dataset_reader.transforms.1.{place}"
    assert says in mistake.message
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        ImageTransform.from_params(Params(config))


@ImageTransform.register("test_by_position")
class ByPosition(ImageTransform):
    def __init__(self, size: int, /) -> None: ...

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image


def test_a_parameter_that_has_no_name() -> None:
    config = {"type": "test_by_position", "size": 3}
    mistake = only(with_transform(config))
    assert mistake.message == (
        "dataset_reader.transforms.1: the constructor of ByPosition takes size by position only; "
        "expected no '/' after it, as a config gives arguments by name"
    )
    with pytest.raises(ConfigurationError, match="^the constructor of ByPosition takes size by"):
        ImageTransform.from_params(Params(config))


def test_a_test_without_data_is_a_warning() -> None:
    mistake = only(
        changed(("test_data_path",) if "test_data_path" in CONFIG else (), evaluate_on_test=True)
    )
    assert (mistake.key, mistake.is_warning) == ("evaluate_on_test", True)
    assert find_mistakes(changed(evaluate_on_test=True, test_data_path="data")) == []
    assert find_mistakes(changed(evaluate_on_test=False)) == []


class Halfway(Im2ImEncoder):
    def __init__(self) -> None:
        super().__init__()

    def get_input_channels(self) -> int:
        return 3


def test_a_class_that_lacks_methods() -> None:
    Im2ImEncoder.register("test_halfway", exist_ok=True)(Halfway)
    config = changed(model__im2im_encoder="test_halfway")
    first, second = find_mistakes(config)
    assert first.key == second.key == ENCODER
    assert re.fullmatch(
        r"model.im2im_encoder: class Halfway \(tests/catalogue/find_mistakes_test.py:\d+\) lacks "
        "the method forward; expected one, as every Im2ImEncoder has it",
        first.message,
    )
    assert "get_output_channels" in second.message
    with pytest.raises(ConfigurationError, match="lacks the method forward"):
        Im2ImEncoder.from_params(Params({"type": "test_halfway"}))


def test_random_transforms_in_validation_are_a_warning() -> None:
    message = (
        "{}dataset_reader transforms the validation images at random ({}); expected a "
        "validation_dataset_reader with transforms such as 'eval'"
    )
    borrowed = only(changed(("validation_dataset_reader",)))
    assert (borrowed.kind, borrowed.is_warning) == ("random validation", True)
    assert borrowed.key == "dataset_reader.transforms.0"
    assert borrowed.message == message.format(
        "there is no validation_dataset_reader, and ",
        "random_resized_crop, random_horizontal_flip",
    )
    inner = {"type": "compose", "transforms": [{"type": "eval", "size": 8}, "random_invert"]}
    own = only(changed(validation_dataset_reader__transforms__0=inner))
    assert own.key == "validation_dataset_reader.transforms.0.transforms.1"
    assert own.message == message.format("validation_", "random_invert")
    for name, more in (("train_light", {"size": 8}), ("cutout", {}), ("rand_augment", {})):
        config = changed(validation_dataset_reader__transforms__0={"type": name, **more})
        assert name in only(config).message
    concat = {"type": "concat", "readers": {"a": CONFIG["dataset_reader"]}}
    config = changed(("validation_dataset_reader",), dataset_reader=concat)
    assert only(config).key == "dataset_reader.readers.a.transforms.0"


@pytest.mark.parametrize(
    "config",
    [
        changed(("validation_dataset_reader", "validation_data_path")),
        changed(validation_dataset_reader__transforms=[{"type": "test_paint"}]),
        changed(validation_dataset_reader__transforms=[{"type": "compose", "transforms": ["rgb"]}]),
        changed(validation_dataset_reader__transforms=[]),
    ],
)
def test_what_does_not_change_validation_at_random(config: Any) -> None:
    assert find_mistakes(config) == []
