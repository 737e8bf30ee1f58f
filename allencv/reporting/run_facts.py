"""The training setup, as described by the config."""

import json
from typing import Any, Dict, Iterator, Optional, Tuple

from allencv.reporting.run_folder import Run


def network(run: Run) -> str:
    """Return a name such as `resnet18 (pretrained_resnet)`."""
    model = run.config.get("model", {})
    encoder = model.get("im2im_encoder") or model.get("im2vec_encoder") or {}
    if isinstance(encoder, str):  # AllenNLP's short form of a type without arguments
        return encoder
    kind = str(encoder.get("type", model.get("type", "a model")))
    name = next((encoder[key] for key in ("model_name", "resnet_model") if key in encoder), None)
    return f"{name} ({kind})" if name else kind


def config_facts(run: Run) -> Iterator[Tuple[str, str]]:
    """Yield the name and the text of each fact that is known."""
    config = run.config
    model, trainer, loader = (config.get(key) or {} for key in ("model", "trainer", "data_loader"))
    facts = {
        "model": model.get("type"),
        "network": network(run),
        "loss": _described(model.get("loss")),
        "training data": config.get("train_data_path"),
        "validation data": config.get("validation_data_path"),
        "test data": config.get("test_data_path"),
        "batch size": loader.get("batch_size"),
        "optimizer": _described(trainer.get("optimizer")),
        "learning rate schedule": _described(trainer.get("learning_rate_scheduler")),
        "metric for the best epoch": trainer.get("validation_metric", "-loss"),
        "seeds": _listed(run.seeds),
        "versions": _listed(run.about.get("versions", {})),
    }
    for name, value in facts.items():
        if value not in (None, ""):
            yield name, value if isinstance(value, str) else json.dumps(value)


def _listed(values: Dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _described(part: Any) -> Optional[str]:
    """Return a description such as `adamw (lr 0.001, weight_decay 0.05)`."""
    if not isinstance(part, dict):
        return part
    plain = {k: v for k, v in part.items() if k != "type" and not isinstance(v, (dict, list))}
    arguments = ", ".join(f"{key} {json.dumps(value)}" for key, value in plain.items())
    return f"{part.get('type')} ({arguments})" if arguments else part.get("type")
