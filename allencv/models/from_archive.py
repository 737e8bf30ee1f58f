"""Models of the type "from_archive", which train a trained model further."""

import json
import logging
from typing import Any, Dict, Optional

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.models.archival import CONFIG_NAME

from allencv.common.archives import load_archive, opened_archive
from allencv.common.nearest_names import not_one_of
from allencv.models.image_classifier import ImageClassifier
from allencv.models.start_from import without_labels

logger = logging.getLogger(__name__)

TYPE = "from_archive"


@Model.register(TYPE, constructor="from_archive", exist_ok=True)
class ModelFromArchive(Model):
    """
    Trains the model of an archive further, from its weights.

    AllenNLP's own raises an IndexError if the data have labels that the archive lacks, and runs
    code of any archive (allennlp/models/model.py, `Model.from_archive`). For an image classifier,
    this one builds the model in the archive's config, with `start_from`.

    Registered as a `Model` with name "from_archive".

    # Parameters

    archive_file : `str`, required
        `model.tar.gz`, a URL of one, or the folder of a run.
    new_head : `bool`, optional (default = `False`)
        Whether to keep the encoder and make a new last layer, for other labels.
    """

    @classmethod
    def from_archive(
        cls, archive_file: str, vocab: Optional[Vocabulary] = None, new_head: bool = False
    ) -> Model:
        config = model_config(archive_file, new_head)
        if config is not None and vocab is not None:
            return Model.from_params(Params(config), vocab=vocab)
        model = load_archive(archive_file).model
        if vocab is not None:
            model.vocab.extend_from_vocab(vocab)
            model.extend_embedder_vocab()
        return model


def with_archived_model(params: Params) -> Params:
    """
    Return the config with the archive's model in place of a model of the type "from_archive". The
    files of the run then describe the whole model, which opens without the archive.

    # Raises

    `ConfigurationError` for an archive that cannot be opened, and for unknown keys.
    """
    config = params.as_dict(quiet=True)
    model = config.get("model")
    if not isinstance(model, dict) or model.get("type") != TYPE or "archive_file" not in model:
        return params
    known = ("type", "archive_file", "new_head")
    for key in model:
        if key not in known:
            raise not_one_of("a key of model", key, known)
    found = model_config(model["archive_file"], bool(model.get("new_head", False)))
    return params if found is None else Params({**config, "model": found})


def model_config(archive_file: str, new_head: bool) -> Optional[Dict[str, Any]]:
    """
    Return the config of an archive's model for further training, or `None` if the model is not an
    image classifier.
    """
    with opened_archive(archive_file) as folder:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))["model"]
    config = {"type": config} if isinstance(config, str) else config
    kind, constructor = Model.resolve_class_name(config["type"])
    if constructor is not None or not issubclass(kind, ImageClassifier):
        if new_head:
            raise ConfigurationError(
                f"model.new_head is true, but '{archive_file}' has a {kind.__name__}; expected an "
                "image classifier"
            )
        return None
    if new_head:
        config, dropped = without_labels(config)
        if dropped:
            logger.info("Not taken from %s: model.%s", archive_file, ", model.".join(dropped))
    return {**config, "start_from": {"archive_file": archive_file, "new_head": new_head}}
