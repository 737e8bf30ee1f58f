from pathlib import Path
from typing import Union

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import int_to_device
from allennlp.data import DataLoader

from allencv.common.archives import load_archive
from allencv.models.image_classifier import ImageClassifier
from allencv.predictions.predict import save_predictions
from allencv.training.acceleration import set_memory_format


def evaluate_run(
    folder: Union[str, Path],
    split: str = "validation",
    pictures: int = 12,
    cuda_device: int = -1,
    overrides: str = "",
    trusted: bool = False,
) -> Path:
    """
    Write `predictions/{split}.npz` of a run, as the callback "write_predictions" does at the end
    of training, and returns its path. Uses the best saved weights.

    # Parameters

    folder : `Union[str, Path]`, required
        The folder of the run, with `config.json`, the vocabulary and `best.th`.
    split : `str`, optional (default = `"validation"`)
        "validation" or "test": the images at the config's path of this name.
    pictures : `int`, optional (default = `12`)
        The number of pictures of each kind (see `allencv.predictions.predictions_file.pictured`).
    cuda_device : `int`, optional (default = `-1`)
    overrides : `str`, optional (default = `""`)
        Jsonnet that changes the config, for example a new path of the images.
    trusted : `bool`, optional (default = `False`)
        See `allencv.common.archives`.

    # Raises

    `ConfigurationError` if the model, the path of the images or their labels are missing.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ConfigurationError(f"'{folder}' is not the folder of a run: it has no config.json")
    if not any((folder / name).exists() for name in ("best.th", "weights.th")):
        raise ConfigurationError(
            f"'{folder}' has no weights: expected best.th, which training writes after an epoch"
        )
    archive = load_archive(folder, cuda_device, overrides, trusted=trusted)
    model = archive.model
    if not isinstance(model, ImageClassifier):
        raise ConfigurationError(
            f"'{folder}' has a {type(model).__name__}; expected an image classifier"
        )
    key = f"{split}_data_path"
    config = archive.config.duplicate().as_dict(quiet=True)
    if config.get(key) is None:
        raise ConfigurationError(f"the config of '{folder}' has no {key}; add it with --overrides")
    loader = DataLoader.from_params(
        Params(config.get("validation_data_loader") or config["data_loader"]),
        reader=archive.validation_dataset_reader,
        data_path=config[key],
    )
    loader.index_with(model.vocab)
    set_memory_format(model, None, int_to_device(cuda_device))
    path = save_predictions(folder, split, model, loader, pictures)
    if path is None:
        raise ConfigurationError(f"the images of {key} ({config[key]}) have no labels")
    return path
