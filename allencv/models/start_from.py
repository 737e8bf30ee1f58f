import logging
from typing import Dict, List, Optional

import torch
from allennlp.common import FromParams
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model

from allencv.common.archives import load_archive
from allencv.data.dataset_readers.messages import some
from allencv.models.teacher import Teacher

logger = logging.getLogger(__name__)

HEAD = ("_classification_layer.weight", "_classification_layer.bias")
OF_THE_DATA = ("_class_weights", "_thresholds")
"""What training computes from its own data."""


class StartFrom(FromParams):
    """
    Load the weights of a trained model into a new one when training starts. `--recover` reads the
    trained model again. The new model's archive works without it.

    The last layer is kept label by label, so the order of the labels does not matter. A label of
    the trained model that has no images is kept too.

    # Parameters

    archive_file : `str`, required
        `model.tar.gz`, a URL of one, or the folder of a run.
    new_head : `bool`, optional (default = `False`)
        Whether to keep the encoder and make a new last layer, for other labels. Otherwise the
        trained model must know every label of the data.
    """

    def __init__(self, archive_file: str, new_head: bool = False) -> None:
        self.archive_file = archive_file
        self.new_head = new_head
        self._trained: Optional[Teacher] = None

    def extend(self, vocab: Vocabulary, namespace: str) -> None:
        """
        Add the labels of the trained model to a vocabulary, unless `new_head` is true.

        # Raises

        `ConfigurationError` if the vocabulary has labels that the trained model does not know.
        """
        if self.new_head:
            return
        trained = self.trained()
        known = list(trained.vocab.get_token_to_index_vocabulary(trained.label_namespace))
        given = list(vocab.get_token_to_index_vocabulary(namespace))
        if unknown := [label for label in given if label not in known]:
            raise ConfigurationError(
                f"'{self.archive_file}' knows the labels {some(known)}, but the data have "
                f"{some(given)}; expected data without {some(unknown)}, or model.new_head true, "
                "which keeps the encoder and makes a new last layer"
            )
        for label in known:
            vocab.add_token_to_namespace(label, namespace)
        if without := [label for label in known if label not in given]:
            logger.info("Labels of %s without images: %s", self.archive_file, some(without))

    def load(self, model: Model, labels: List[str]) -> None:
        """
        Give a model with these labels the weights of the trained one. Log what was kept.

        # Raises

        `ConfigurationError` if they do not fit.
        """
        trained, self._trained = self.trained(), None  # it need not stay in memory
        source, target = trained.state_dict(), model.state_dict()
        kept = {
            name: value
            for name, value in source.items()
            if name in target and name not in (*HEAD, *OF_THE_DATA)
        }
        if not self.new_head:
            row_of = {label: row for row, label in enumerate(trained.label_names())}
            rows = [row_of[label] for label in labels if label in row_of]
            kept |= {name: source[name][rows] for name in HEAD}
        expected = target.keys() - set(OF_THE_DATA) - (set(HEAD) if self.new_head else set())
        unfit = [
            name
            for name in target
            if name in expected and (name not in kept or kept[name].shape != target[name].shape)
        ]
        if unfit:
            raise ConfigurationError(
                f"'{self.archive_file}' has no weights that fit {some(unfit)}; expected a model "
                "with the same config as in the archive (see its config.json)"
            )
        model.load_state_dict(kept, strict=False)
        head = "made anew" if self.new_head else "kept"
        logger.info(
            "The encoder of %s is kept (%d tensors); the last layer is %s, for the labels %s",
            self.archive_file,
            len(kept.keys() - set(HEAD)),
            head,
            some(labels),
        )

    def trained(self) -> Teacher:
        """Return the trained model, which is opened once."""
        if self._trained is None:
            # Later random numbers must not depend on the archive.
            with torch.random.fork_rng(devices=[]):
                trained = load_archive(self.archive_file).model
            if not isinstance(trained, Teacher):
                raise ConfigurationError(
                    f"'{self.archive_file}' has a {type(trained).__name__}; expected an image "
                    "classifier"
                )
            self._trained = trained
        return self._trained


def without_labels(config: Dict[str, object]) -> "tuple[Dict[str, object], List[str]]":
    """Return a model's config without the keys about its labels, and these keys."""
    of_labels = [
        key
        for key, value in config.items()
        if key in ("num_labels", "distillation")
        or (
            key in ("class_weights", "thresholds")
            and isinstance(value, dict)
            and "type" not in value
        )
    ]
    return {key: value for key, value in config.items() if key not in of_labels}, of_labels
