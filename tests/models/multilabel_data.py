"""A small dataset of images with several labels each, and a config that trains on it."""

from pathlib import Path
from typing import Any, Dict

from allennlp.common.params import with_overrides

from tests.configs import experiment

LABELS = ["Cat", "Dog", "even", "small"]


def write_tables(images: Path, folder: Path) -> Path:
    """
    Tables `train.csv`, `val.csv` and `test.csv` of the images of the `cats_and_dogs` fixture: what
    animal it is, whether its number is even, and whether it is small. Each first dog has no label.
    No image of `val` and `test` is small.
    """
    for split in ("train", "val", "test"):
        rows = ["image,labels"]
        for path in sorted((images / split).rglob("*.jpg")):
            number = int(path.stem)
            labels = [path.parent.name] if path.parent.name == "Cat" or number else []
            labels += ["even"] if labels and number % 2 == 0 else []
            labels += ["small"] if labels and split == "train" and number > 9 else []
            rows.append(f"{path},{'|'.join(labels)}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return folder


def multilabel_experiment(folder: Path, **overrides: Any) -> Dict[str, Any]:
    """The config of `experiment` for the tables in `folder`."""
    table = {
        "type": "image_table",
        "image_column": "image",
        "labels_column": "labels",
        "labels_delimiter": "|",
    }
    config = experiment(
        folder,
        train_data_path=str(folder / "train.csv"),
        validation_data_path=str(folder / "val.csv"),
        model__type="multilabel_image_classifier",
        trainer__validation_metric="+micro_f1",
        data_loader__num_workers=0,
    )
    config["dataset_reader"] |= table
    config["validation_dataset_reader"] |= table
    return with_overrides(config, {k.replace("__", "."): v for k, v in overrides.items()})
