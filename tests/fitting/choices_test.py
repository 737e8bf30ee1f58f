from pathlib import Path
from typing import Any, List, Optional

import pytest
import torch
import torchvision
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.fitting import DataFacts, FitOptions, choose
from allencv.fitting.choices import Start
from allencv.fitting.options import NO_WEIGHTS


def facts(**changed: Any) -> DataFacts:
    arguments: Any = {
        "counts": {"cat": 60, "dog": 60},
        "num_train": 120,
        "num_validation": 30,
        "num_test": 0,
        "is_multi_label": False,
        "height": 300,
        "width": 400,
        "is_gray": False,
        "unreadable": [],
        "warnings": [],
    }
    return DataFacts(**{**arguments, **changed})


def without_weights(**changed: Any) -> Any:
    return choose(facts(**changed), FitOptions(weights=NO_WEIGHTS))


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(28, 28, 32), (32, 40, 32), (64, 64, 64), (150, 150, 96), (768, 1024, 128)],
)
def test_the_size_follows_the_images(height: int, width: int, size: int) -> None:
    assert without_weights(height=height, width=width).image_size == size


def test_weights_that_are_here_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In torch.hub's folder, where a download would have put them."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights = torchvision.models.ResNet18_Weights.DEFAULT
    (tmp_path / "checkpoints").mkdir()
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, tmp_path / "checkpoints" / Path(weights.url).name)
    chosen = choose(facts(), FitOptions())
    assert chosen.encoder["resnet_model"] == "resnet18"
    assert chosen.is_pretrained
    assert chosen.channels == 512
    assert chosen.image_size == 224


def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    chosen = choose(facts(), FitOptions())
    assert chosen.reasons.backbone.choice == "conv_groups"
    assert "the weights of resnet18 are not available here" in chosen.reasons.backbone.why
    url = torchvision.models.ResNet18_Weights.DEFAULT.url
    assert chosen.warning is not None
    reason, *_, to_do, _, _, otherwise = chosen.warning.splitlines()
    assert reason.startswith("WARNING: NO PRETRAINED WEIGHTS. Those of resnet18 are not in")
    assert str(tmp_path / "checkpoints") in reason
    assert to_do == f"  on another machine download {url}"
    assert otherwise.endswith("--weights none")


def test_no_warning_where_no_weights_are_wanted() -> None:
    assert without_weights().warning is None
    assert choose(facts(height=28, width=28), FitOptions()).warning is None
    assert choose(facts(), FitOptions("small_resnet")).warning is None


def test_small_images_get_a_network_that_halves_them_early() -> None:
    chosen = choose(facts(height=28, width=28, is_gray=True), FitOptions())
    assert chosen.encoder == {
        "type": "whitening",
        "input_channels": 1,
        "encoder": {"type": "conv_groups", "widths": [32, 128, 128], "input_channels": 8},
    }
    assert (chosen.channels, chosen.color_mode) == (128, "L")
    assert choose(facts(height=60, width=60), FitOptions()).encoder["input_channels"] == 3


def test_larger_images_get_more_groups() -> None:
    chosen = without_weights()
    assert chosen.encoder["encoder"]["widths"] == [32, 64, 128, 256]
    assert chosen.channels == 256
    assert chosen.reasons.learning_rate == ("0.01", "typical for Muon and training from scratch")


def test_a_small_resnet_follows_the_size() -> None:
    chosen = choose(facts(is_gray=True), FitOptions("small_resnet", image_size=32))
    assert chosen.encoder == {
        "type": "small_resnet",
        "widths": [32, 64, 128],
        "input_channels": 1,
        "stem_stride": 1,
    }
    larger = choose(facts(), FitOptions("small_resnet", image_size=96))
    assert (larger.channels, larger.encoder["stem_stride"]) == (256, 2)


def test_a_backbone_of_timm_brings_its_normalisation_and_its_size() -> None:
    chosen = choose(facts(), FitOptions(backbone="vit_tiny_patch16_224", weights=NO_WEIGHTS))
    assert chosen.encoder == {
        "type": "timm",
        "model_name": "vit_tiny_patch16_224",
        "pretrained": False,
    }
    assert chosen.pixel_mean == [0.5, 0.5, 0.5]
    assert (chosen.image_size, chosen.channels) == (224, 192)


def test_a_fitted_model_is_trained_gently_at_its_own_size(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(torchvision.models.shufflenet_v2_x0_5().state_dict(), file)
    options = FitOptions(backbone="shufflenet_v2_x0_5", weights=str(file))
    evaluation = {"type": "eval", "size": 128, "crop_ratio": 1}
    fitted, fresh = (
        choose(facts(height=32, width=32), options, start)
        for start in (Start("run/model.tar.gz", evaluation), None)
    )
    assert (fitted.image_size, fitted.learning_rate) == (128, 3e-4)
    assert (fresh.image_size, fresh.learning_rate) == (32, 1e-3)
    assert fitted.encoder == {**fresh.encoder, "train_bn": False}
    asked = FitOptions(backbone="shufflenet_v2_x0_5", weights=str(file), lr=0.01)
    assert choose(facts(), asked, fitted.start).learning_rate == 0.01


def test_a_size_that_the_backbone_cannot_take_is_not_chosen() -> None:
    chosen = choose(facts(height=32, width=32), FitOptions(backbone="alexnet", weights=NO_WEIGHTS))
    assert chosen.image_size == 64
    assert chosen.reasons.image_size == ("64 x 64", "alexnet cannot take 32 x 32")


def test_a_backbone_of_torchvision_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(torchvision.models.squeezenet1_1().state_dict(), file)
    chosen = choose(facts(), FitOptions(backbone="squeezenet1_1", weights=str(file)))
    assert chosen.encoder["weights"] == str(file)
    assert chosen.is_pretrained


def test_gray_images_have_one_channel() -> None:
    chosen = without_weights(is_gray=True, height=28, width=28)
    assert chosen.color_mode == "L"
    assert chosen.encoder["input_channels"] == 1
    assert chosen.pixel_mean == [0.5]


def test_the_fewer_images_the_more_epochs() -> None:
    assert [without_weights(num_train=n).epochs for n in (100, 3000, 10**6)] == [100, 50, 10]


def test_few_images_stop_early() -> None:
    chosen = without_weights(num_train=100)
    assert (chosen.epochs, chosen.patience) == (100, 33)
    assert chosen.reasons.early_stopping == (
        "after 33 epochs",
        "without progress: a third of training, as scores of few images vary by chance",
    )
    many = without_weights(num_train=10**6)
    assert (many.epochs, many.patience, many.reasons.early_stopping) == (10, None, None)


def test_epochs_that_were_asked_for_are_all_trained() -> None:
    chosen = choose(facts(), FitOptions(weights=NO_WEIGHTS, epochs=100))
    assert (chosen.patience, chosen.reasons.early_stopping) == (None, None)


@pytest.mark.parametrize(("epochs", "patience"), [(1, None), (19, None), (20, 6), (300, 100)])
def test_another_number_of_epochs(epochs: int, patience: Optional[int]) -> None:
    """As `--time` sets it, once the time of an epoch is known."""
    chosen = without_weights()
    chosen.set_epochs(epochs, "about 1.0 s each, in 5m")
    assert (chosen.epochs, chosen.patience) == (epochs, patience)
    assert chosen.reasons.epochs == (str(epochs), "about 1.0 s each, in 5m")
    assert (chosen.reasons.early_stopping is None) == (patience is None)


@pytest.mark.parametrize(("num_train", "batch_size"), [(10, 4), (200, 16), (5000, 32)])
def test_few_images_are_several_steps(num_train: int, batch_size: int) -> None:
    assert without_weights(num_train=num_train).batch_size == batch_size


def test_classes_are_weighed_if_they_differ() -> None:
    assert not without_weights(counts={"a": 60, "b": 20}).class_weights
    assert without_weights(counts={"a": 61, "b": 20}).class_weights
    assert not without_weights(counts={"a": 90, "b": 2}, is_multi_label=True).class_weights


def test_labels_are_not_smoothed_where_classes_are_weighed() -> None:
    assert without_weights().reasons.task.why == "cross entropy, label smoothing"
    assert without_weights(counts={"a": 90, "b": 2}).reasons.task.why == "cross entropy"


def test_what_was_asked_for() -> None:
    asked = FitOptions("small_resnet", image_size=48, epochs=7, lr=0.01, batch_size=10)
    chosen = choose(facts(), asked)
    assert chosen.image_size == 48
    assert (chosen.epochs, chosen.learning_rate, chosen.batch_size) == (7, 0.01, 10)
    reasons = vars(chosen.reasons).values()
    assert [reason.why for reason in reasons if reason is not None].count("as requested") == 5


def test_each_choice_is_a_line_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    gray = without_weights(is_gray=True, height=28, width=28, counts={"a": 90, "b": 2})
    lines = gray.reasons.lines()
    assert [line[:17].strip() for line in lines] == [
        *("image size", "backbone", "colour mode", "task", "batch size", "epochs"),
        *("early stopping", "learning rate", "class weights", "augmentation"),
    ]
    assert lines[0] == f"  image size      {'32 x 32':<19}  the images are 28 x 28 (median)"
    names = [line[:17].strip() for line in without_weights().reasons.lines()]
    assert "colour mode" not in names
    assert "class weights" not in names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            FitOptions(backbone="resnet19"),
            "--backbone is 'resnet19'; expected conv_groups, small_resnet, or .*18",
        ),
        (FitOptions(weights="x.pth"), "--weights is 'x.pth'; expected --backbone"),
        (FitOptions("small_resnet", "x.pth"), "--weights is 'x.pth'; small_resnet has none"),
        (FitOptions("conv_groups", "x.pth"), "--weights is 'x.pth'; conv_groups has none"),
        (FitOptions("resnet18", "x.pth"), "weights is 'x.pth'; expected the path of a file"),
        (
            FitOptions("vit_tiny_patch16_224", NO_WEIGHTS, image_size=100),
            "--image-size is 100, which vit_tiny_patch16_224 cannot take; expected a size that it "
            "can take, such as 224",
        ),
        (
            FitOptions("alexnet", NO_WEIGHTS, image_size=32),
            "--image-size is 32, which alexnet cannot take; expected a size that it can take, "
            "such as 64, 128, 224",
        ),
    ],
)
def test_what_cannot_be(options: FitOptions, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        choose(facts(), options)


@pytest.mark.parametrize("columns", [60, 80])
def test_the_reasons_stay_in_their_column(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def lines() -> List[str]:
        return without_weights(num_train=100, counts={"a": 90, "b": 2}).reasons.lines()

    monkeypatch.setenv("COLUMNS", "200")
    wide = lines()
    monkeypatch.setenv("COLUMNS", str(columns))
    narrow = lines()
    column = wide[0].index("the images are")
    assert [" ".join(line.split()) for line in narrow] == [" ".join(line.split()) for line in wide]
    rows = [row for line in narrow for row in line.splitlines()]
    assert len(rows) > len(wide)
    assert max(map(len, rows)) <= columns
    assert all(row[column - 1] == " " and row[column] != " " for row in rows)
