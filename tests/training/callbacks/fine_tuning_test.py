from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import torch
import torch.distributed as dist
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.training import Trainer, TrainerCallback

import allencv.plugin  # noqa: F401
from allencv.training.callbacks.fine_tuning import FineTuning
from tests.configs import experiment
from tests.conftest import same_tensors
from tests.training.callbacks.interruption import train, train_interrupted, weights

EPOCHS = 4
STAGES = 3
"""Of the backbone in `experiment`: the stem and two stages."""


def fine_tuning(data: Path, callback: Any, **overrides: Any) -> Dict[str, Any]:
    """A config with moving averages, weight decay and momentum: whatever could move weights."""
    return experiment(
        data,
        data_loader__batch_size=8,
        trainer__num_epochs=EPOCHS,
        trainer__optimizer={"type": "adamw", "lr": 0.01, "weight_decay": 0.1},
        trainer__moving_average={"decay": 0.5},
        trainer__checkpointer={"keep_most_recent_by_count": None},
        trainer__callbacks=[callback, "power_cut"],
        **overrides,
    )


def stage_of(name: str) -> int:
    """The stage of a weight of `experiment`'s model; the head is the last."""
    name = name.removeprefix("average of ").removeprefix("module.")
    if not name.startswith("_im2im_encoder."):
        return STAGES
    parts = name.split(".")
    return int(parts[2]) + 1 if parts[1] == "stages" else 0


def moved(before: Dict[str, torch.Tensor], after: Dict[str, torch.Tensor]) -> List[str]:
    return [name for name in after if not before[name].equal(after[name])]


def stages_moved(folder: Path) -> List[int]:
    """For each epoch but the first, how many stages of the backbone have been trained."""
    found = []
    for epoch in range(1, EPOCHS):
        names = moved(weights(folder, epoch), weights(folder, epoch + 1))
        stages = {stage_of(name) for name in names}
        # They are the last ones, and the head is among them.
        assert stages == set(range(min(stages), STAGES + 1))
        # And of those, all weights move: averages, and statistics of normalisation too.
        assert set(names) == {name for name in weights(folder, 1) if stage_of(name) in stages}
        found.append(STAGES - min(stages))
    return found


SCHEDULES: List[Tuple[Any, List[int]]] = [
    ("freeze", [0, 0, 0]),
    ({"type": "freeze", "stages": 1}, [2, 2, 2]),
    ({"type": "freeze_unfreeze", "unfreeze_epoch": 2}, [0, 3, 3]),
    ({"type": "unfreeze_milestones", "milestones": [[1, 1], [3, -1]]}, [1, 1, 3]),
    ("gradual_unfreezing", [1, 2, 3]),
    ({"type": "gradual_unfreezing", "epochs_per_stage": 2}, [0, 1, 1]),
]


@pytest.mark.parametrize(("callback", "expected"), SCHEDULES, ids=str)
def test_nothing_of_a_frozen_stage_moves(
    cats_and_dogs: Path, tmp_path: Path, callback: Any, expected: List[int]
) -> None:
    train(fine_tuning(cats_and_dogs, callback), tmp_path)
    assert stages_moved(tmp_path) == expected


def test_momentum_does_not_move_what_is_frozen(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = fine_tuning(cats_and_dogs, {"type": "freeze_unfreeze", "unfreeze_epoch": 3})
    config["trainer"]["optimizer"] = {
        **{"type": "sgd", "lr": 0.1, "momentum": 0.9},
        **{"weight_decay": 0.1, "nesterov": True},
    }
    train(config, tmp_path)
    assert stages_moved(tmp_path) == [0, 0, 3]


def test_batch_normalisation_of_frozen_stages_can_be_trained(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    config = fine_tuning(cats_and_dogs, {"type": "freeze", "train_bn": True})
    train(config, tmp_path)
    names = moved(weights(tmp_path, 1), weights(tmp_path, EPOCHS))
    backbone = {name for name in names if "_im2im_encoder" in name}
    norms = ("bn1.", "bn2.", "downsample.1.")
    expected = {name for name in weights(tmp_path, 1) if any(norm in name for norm in norms)}
    assert backbone == expected
    assert len(expected) > 20


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_stages_of_its_epoch(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fine_tuning(cats_and_dogs, "gradual_unfreezing")
    config["trainer"]["checkpointer"]["save_every_num_batches"] = 1
    train(config, tmp_path / "uninterrupted")
    expected = [weights(tmp_path / "uninterrupted", epoch) for epoch in range(1, EPOCHS + 1)]
    for at in ((0, 1), (1, 3), (2, 2)):
        interrupted = tmp_path / f"interrupted at {at}"
        train_interrupted(config, interrupted, at, monkeypatch)
        for epoch in range(1, EPOCHS + 1):
            assert same_tensors(weights(interrupted, epoch), expected[epoch - 1]), (at, epoch)
        assert stages_moved(interrupted) == [1, 2, 3]


def test_the_weights_are_those_of_a_hand_written_loop(cats_and_dogs: Path, tmp_path: Path) -> None:
    """One epoch of the head, and one of all, with torch alone."""
    config = fine_tuning(
        cats_and_dogs,
        {"type": "freeze_unfreeze", "unfreeze_epoch": 1},
        data_loader__shuffle=False,
        model__dropout=0.0,
        dataset_reader__transforms=[{"type": "eval", "size": 32}],
        trainer__use_amp=False,
    )
    config["trainer"] |= {"num_epochs": 2, "optimizer": {"type": "sgd", "lr": 0.1}}
    train(config, tmp_path)

    from allennlp.common.util import prepare_environment
    from allennlp.training.util import data_loaders_from_params

    params = Params(config)
    prepare_environment(params)
    loader = data_loaders_from_params(params)["train"]
    vocab = Vocabulary.from_files(tmp_path / "vocabulary")
    loader.index_with(vocab)
    model = Model.from_params(params.pop("model"), vocab=vocab)
    for parameters, is_frozen in ((model._classification_layer, True), (model, False)):
        optimizer = torch.optim.SGD(parameters.parameters(), lr=0.1)
        model.train()
        if is_frozen:
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
        for batch in loader:
            model.zero_grad()
            model(**batch)["loss"].backward()
            optimizer.step()
    trained = {k: v for k, v in weights(tmp_path, 2).items() if "average" not in k}
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, trained[name])


# What cannot work is said when training starts.


SMALL_RESNET = {"type": "small_resnet", "widths": [8, 16], "blocks": [1, 1]}


def small_model(encoder: Dict[str, Any] = SMALL_RESNET, channels: int = 16) -> Model:
    vocab = Vocabulary()
    for label in ("cat", "dog"):
        vocab.add_token_to_namespace(label, "labels")
    params = {
        "type": "basic_image_classifier",
        "im2im_encoder": dict(encoder),
        "im2vec_encoder": {"type": "pooling", "input_channels": channels},
    }
    return Model.from_params(Params(params), vocab=vocab)


class Batches(List[Any]):
    def set_target_device(self, device: torch.device) -> None:
        pass


def trainer(model: torch.nn.Module, folder: Path, *callbacks: Any, **params: Any) -> Trainer:
    images = torch.rand(4, 3, 32, 32)
    return Trainer.from_params(
        Params(
            {
                "type": "image",
                "cuda_device": -1,
                "num_epochs": 2,
                "callbacks": list(callbacks),
                "checkpointer": None,
                **params,
            }
        ),
        model=model,
        data_loader=Batches([{"image": images, "label": torch.tensor([0, 1, 0, 1])}]),
        serialization_dir=str(folder),
    )


ENCODERS = [
    ({"type": "resnet", "resnet_model": "resnet18", "weights": None}, 512),
    ({"type": "timm", "model_name": "resnet10t", "pretrained": False}, 512),
    ({"type": "timm", "model_name": "test_vit", "pretrained": False, "image_size": 32}, 64),
]


@pytest.mark.parametrize(("encoder", "channels"), ENCODERS, ids=str)
def test_stages_of_well_known_networks(
    tmp_path: Path, encoder: Dict[str, Any], channels: int
) -> None:
    """The last stage is trained, with its normalisation, and nothing before it."""
    model = small_model(encoder, channels)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = {"type": "unfreeze_milestones", "milestones": [[1, 1]]}
    trainer(model, tmp_path, plan, num_epochs=3).train()
    *frozen, last, head = model.get_stages()
    assert len(frozen) >= 2
    names = moved(before, model.state_dict())
    for prefixes in (last, head):
        assert any(name.startswith(f"{prefix}.") for name in names for prefix in prefixes)
    for prefix in (prefix for stage in frozen for prefix in stage):
        assert not any(name == prefix or name.startswith(f"{prefix}.") for name in names)


MISTAKES = [
    ({"type": "freeze", "stages": 4}, "'freeze' is 4; expected 1 to 3"),
    ({"type": "freeze", "stages": 0}, "'freeze' is 0; expected 1 to 3"),
    ({"type": "freeze", "stage": 1}, "'stage'; expected one of stages"),
    ({"type": "freeze_unfreeze", "unfreeze_epoch": 0}, "is 0; expected at least 1"),
    ({"type": "gradual_unfreezing", "epochs_per_stage": 0}, "is 0; expected at least 1"),
    ({"type": "unfreeze_milestones", "milestones": []}, r"is \[\]; expected pairs"),
    ({"type": "unfreeze_milestones", "milestones": [[0, 1]]}, ".*both 1 or more and rising"),
    (
        {"type": "unfreeze_milestones", "milestones": [[2, 1], [1, 2]]},
        ".*both 1 or more and rising",
    ),
    (
        {"type": "unfreeze_milestones", "milestones": [[1, 2], [2, 2]]},
        ".*both 1 or more and rising",
    ),
    (
        {"type": "unfreeze_milestones", "milestones": [[1, -1], [2, 3]]},
        ".*both 1 or more and rising",
    ),
    ({"type": "unfreeze_milestones", "milestones": [[1, 4]]}, "has 4 stages; expected at most 3"),
]


@pytest.mark.parametrize(("callback", "message"), MISTAKES, ids=str)
def test_a_mistake_in_the_config_is_named(
    tmp_path: Path, callback: Dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        trainer(small_model(), tmp_path, callback).train()


def test_stages_that_the_optimizer_does_not_know_are_named(tmp_path: Path) -> None:
    model = small_model()
    model._im2im_encoder.requires_grad_(False)
    callback = {"type": "freeze_unfreeze", "unfreeze_epoch": 1}
    message = "FreezeUnfreeze, which is to train _im2im_encoder.conv1.weight, but it is frozen"
    with pytest.raises(ConfigurationError, match=message):
        trainer(model, tmp_path, callback).train()
    trainer(model, tmp_path, "freeze").train()  # asks for nothing that is not so


def test_a_parameter_that_nobody_trains_stays_so(tmp_path: Path) -> None:
    model = small_model()
    model._im2im_encoder.conv1.weight.requires_grad_(False)  # as fixed position embeddings are
    trainer(model, tmp_path, {"type": "freeze_unfreeze", "unfreeze_epoch": 1}).train()
    frozen = [name for name, each in model.named_parameters() if not each.requires_grad]
    assert frozen == ["_im2im_encoder.conv1.weight"]


def test_two_plans_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has Freeze and GradualUnfreezing; expected one"):
        trainer(small_model(), tmp_path, "freeze", "gradual_unfreezing").train()


def test_a_model_without_a_backbone_is_refused(tmp_path: Path) -> None:
    vocab = small_model().vocab
    encoder = {"type": "flatten", "input_channels": 3, "input_height": 32, "input_width": 32}
    params = {"type": "basic_image_classifier", "im2vec_encoder": encoder}
    model = Model.from_params(Params(params), vocab=vocab)
    with pytest.raises(ConfigurationError, match="BasicImageClassifier without a backbone"):
        trainer(model, tmp_path, "freeze").train()


def test_a_model_without_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"a Linear, which has no get_stages\(\)"):
        trainer(torch.nn.Linear(1, 1), tmp_path, "freeze").train()


def test_a_plan_of_the_users_own(tmp_path: Path) -> None:
    @TrainerCallback.register("every_other_epoch", exist_ok=True)
    class EveryOtherEpoch(FineTuning):
        def num_trained_stages(self, epoch: int, num_stages: int) -> int:
            return num_stages * (epoch % 2)

    model = small_model()
    trainer(model, tmp_path, "every_other_epoch", num_epochs=3).train()
    # After the third epoch, that is, as the fourth would begin.
    assert all(parameter.requires_grad for parameter in model.parameters())


# In distributed training; all_together_test.py has one that works.


@pytest.fixture
def one_process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_unused_parameters_have_to_be_looked_for(one_process_group: None, tmp_path: Path) -> None:
    distributed = {"distributed": True, "local_rank": 0, "world_size": 2}
    message = "and training is distributed; expected trainer.ddp_accelerator to be .*find_unused"
    with pytest.raises(ConfigurationError, match=message):
        trainer(small_model(), tmp_path, "freeze", **distributed).train()
