"""A small experiment that the tests vary."""

from pathlib import Path
from typing import Any, Dict

from allennlp.common.params import with_overrides


def experiment(data: Path, **overrides: Any) -> Dict[str, Any]:
    """
    Return a config for the images of the `cats_and_dogs` fixture. Dropout and random transforms
    show what is not reproducible. Write `a__b` to override the key `a.b`.
    """
    reader = {
        "type": "image_folder",
        "transforms": [
            {"type": "random_resized_crop", "size": 32},
            {"type": "random_horizontal_flip"},
        ],
    }
    config = {
        "dataset_reader": reader,
        "validation_dataset_reader": {
            "type": "image_folder",
            "transforms": [{"type": "eval", "size": 32}],
        },
        "train_data_path": str(data / "train"),
        "validation_data_path": str(data / "val"),
        "data_loader": {"type": "image", "batch_size": 4, "shuffle": True, "num_workers": 2},
        "model": {
            "type": "basic_image_classifier",
            "im2im_encoder": {"type": "small_resnet", "widths": [8, 16], "blocks": [1, 1]},
            "im2vec_encoder": {"type": "pooling", "input_channels": 16},
            "dropout": 0.2,
        },
        "trainer": {
            "type": "image",
            "num_epochs": 3,
            "cuda_device": -1,
            "validation_metric": "+accuracy",
            "optimizer": {"type": "adamw", "lr": 0.01},
        },
    }
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return with_overrides(config, dotted) if dotted else config
