"""Ranks without images for a step: streams of unequal length, and images that cannot be read."""

from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.runtime import ImageError
from allencv.training import image_trainer
from allencv.training.epoch_batches import BatchOfRank
from tests.data.data_loaders.streamed_images_test import write_shard
from tests.ranks import on_ranks
from tests.training.equivalence_test import assert_same, interrupted_at, trained

STREAM = {"reader.type": "webdataset", "trainer.num_epochs": 2}
BATCH_NORM = {"model.im2im_encoder.batch_norm": True}
CASES: Dict[str, Dict[str, Any]] = {
    "batch norm": {
        **BATCH_NORM,
        "model.dropout": 0.3,
        "model.class_weights": {"odd": 3.0},
        "model.metrics": {"theirs": "categorical_accuracy"},
        "trainer.moving_average": {"type": "exponential", "decay": 0.9},
    },
    "batch norm of all ranks": {
        **BATCH_NORM,
        "ddp_accelerator": {"sync_batch_norm": True},
        "model.batch_transforms": ["mixup"],
        "trainer.num_gradient_accumulation_steps": 2,
    },
}


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> str:
    """
    One shard of 5 images and one of 14. Each has one class, which so is on one rank only. Without
    `shuffle` the first rank runs out of images, whose running statistics are those of the model.
    """
    root = tmp_path_factory.mktemp("shards")
    write_shard(root / "0.tar", iter(range(1, 11, 2)))
    write_shard(root / "1.tar", iter(range(0, 28, 2)))
    return f"{root}/*.tar"


def trained_with_others(*arguments: Any) -> Dict[str, Any]:
    """What `trained` returns if other images stand in for those that a rank lacks."""
    in_step = image_trainer.in_step
    replaced: List[int] = []

    def with_others(*arguments: Any) -> Iterator[BatchOfRank]:
        for each in in_step(*arguments):
            if each.images == 0:
                replaced.append(1)
                images = torch.arange(3 * each.batch["image"][0].numel()) % 251
                images = images.byte().view(3, *each.batch["image"].shape[1:])
                others = {"image": images, "label": torch.tensor([1, 1, 0])}
                each = each._replace(batch=others)
            yield each

    image_trainer.in_step = with_others  # in this process, which ends with the test
    return {**trained(*arguments), "replaced": len(replaced)}


@pytest.mark.parametrize("case", CASES)
def test_what_stands_in_changes_nothing(case: str, stream: str, tmp_path: Path) -> None:
    overrides = {**STREAM, **CASES[case], "loader.shuffle": False}
    expected = on_ranks(2, trained, stream, overrides, 4, tmp_path / "as it is")
    found = on_ranks(2, trained_with_others, stream, overrides, 4, tmp_path / "others")
    # The first rank has one batch in each epoch, and the second four.
    assert [each.pop("replaced") for each in found] == [6, 0]
    for rank in range(2):
        assert_equal(found[rank], expected[rank])
    assert_equal(found[1], found[0])


def assert_equal(found: Dict[str, Any], expected: Dict[str, Any]) -> None:
    weights, expected_weights = found.pop("weights"), expected.pop("weights")
    assert found == expected
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=0)
    found["weights"], expected["weights"] = weights, expected_weights


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_recovered_after_a_rank_has_run_out_of_images(
    case: str, stream: str, tmp_path: Path
) -> None:
    checkpoints = {"save_every_num_batches": 1, "keep_most_recent_by_count": 99}
    overrides = {**STREAM, **CASES[case], "trainer.checkpointer": checkpoints}
    straight, _ = on_ranks(2, trained, stream, overrides, 4, tmp_path / "straight")
    steps = straight["steps"] // 2
    for point in (f"e0_b{steps - 1}", "e1_b1"):
        folder = tmp_path / point
        interrupted_at(point, tmp_path / "straight" / "2", folder / "2")
        for found in on_ranks(2, trained, stream, overrides, 4, folder):
            assert_equal(found, straight)


UNREADABLE = {"loader.on_error": "skip", "loader.shuffle": False, "trainer.num_epochs": 2}
SKIPPED: Dict[str, Dict[str, Any]] = {
    "class weights": {
        "model.class_weights": {"b": 5.0},
        "model.metrics": {"theirs": "categorical_accuracy"},
    },
    "all": {**CASES["batch norm of all ranks"], "model.batch_transforms": []},
}


@pytest.fixture(scope="module")
def unreadable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    28 images, of which no rank can read the third batch of 8, the second rank of two not its share
    of the first, and the first not its share of the second.
    """
    root = tmp_path_factory.mktemp("unreadable")
    for number in range(28):
        path = root / "ab"[number > 9] / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        if 4 <= number < 12 or 16 <= number < 24:
            path.write_text("a text")
        else:
            Image.effect_noise((8, 8), 90).convert("RGB").save(path)
    return root


@pytest.mark.parametrize("case", SKIPPED)
def test_ranks_train_as_one_process_if_one_can_read_nothing(
    case: str, unreadable: Path, tmp_path: Path
) -> None:
    overrides = {**UNREADABLE, **SKIPPED[case]}
    (alone,) = on_ranks(1, trained, unreadable, overrides, 8, tmp_path)
    for found in on_ranks(2, trained, unreadable, overrides, 4, tmp_path):
        assert_same(found, alone)


def failure(*arguments: Any) -> str:
    """What is said if training fails."""
    with pytest.raises((ConfigurationError, ImageError)) as error:
        trained(*arguments)
    return str(error.value)


def test_it_is_an_error_if_no_rank_can_read_an_image(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a text")
    overrides = {**UNREADABLE, "loader.shuffle": True}
    alone, *others = [
        each
        for ranks, size in ((1, 4), (2, 2))
        for each in on_ranks(ranks, failure, tmp_path / "data", overrides, size, tmp_path)
    ]
    assert alone.startswith(f"no image of {tmp_path}/data can be read; the first: ")
    assert len(others) == 2
    for other in others:
        assert other.partition("first: ")[0] == alone.partition("first: ")[0]


def test_a_rank_whose_images_are_dropped_takes_part(stream: str, tmp_path: Path) -> None:
    dropping = {**STREAM, "loader.drop_last": True}
    for found in on_ranks(2, trained, stream, dropping, 6, tmp_path):
        assert found["steps"] == 2 * 2  # the 14 images of one rank are two batches
    for message in on_ranks(2, failure, stream, dropping, 15, tmp_path / "larger"):
        assert message.startswith("the epoch has no batch; expected more images, or a data loader")
        assert "without drop_last" in message
