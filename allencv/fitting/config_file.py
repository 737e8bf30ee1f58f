"""Write the choices as a config: plain jsonnet, with a comment for each choice."""

import json
import re
from typing import Any, Dict, List

from allencv.fitting.choices import Choices
from allencv.fitting.data_facts import DataFacts, data_config
from allencv.fitting.data_parts import FoundData
from allencv.runtime.plurals import numbered

RESERVED = re.compile(
    "assert|else|error|false|for|function|if|import|importstr|importbin|in|local|null|self|super|"
    "tailstrict|then|true"
)
"""Words of jsonnet that cannot be keys without quotes."""
WIDTH = 92
"""The longest line in characters; longer values are split."""


def as_config(found: FoundData, facts: DataFacts, choices: Choices) -> Dict[str, Any]:
    """Return the config for `allencv train`."""
    size = choices.image_size
    small = size <= 64
    train: Dict[str, Any] = {"type": "train_light", "size": size}
    if facts.num_train < 5000:
        train["scale"] = [0.5, 1.0]
    evaluate: Dict[str, Any] = {"type": "eval", "size": size}
    if small:
        evaluate["crop_ratio"] = 1
    data = data_config(found)
    for key, transform in (("dataset_reader", train), ("validation_dataset_reader", evaluate)):
        if choices.color_mode != "RGB":
            data[key]["color_mode"] = choices.color_mode
        data[key]["transforms"] = [transform]
    on_error = {"on_error": "skip"} if choices.skips_unreadable else {}
    config = {
        **data,
        "data_loader": {
            "type": "image",
            "batch_size": choices.batch_size,
            "shuffle": True,
            **on_error,
        },
        "validation_data_loader": {
            "type": "image",
            "batch_size": 2 * choices.batch_size,
            **on_error,
        },
        "model": _model(facts, choices),
        "trainer": _trainer(facts, choices),
    }
    if "test_data_path" in config:
        config["evaluate_on_test"] = True
    return config


def _model(facts: DataFacts, choices: Choices) -> Dict[str, Any]:
    pooled = choices.encoder["type"] == "small_resnet"
    vector: Dict[str, Any] = {"type": "pooling", "input_channels": choices.channels}
    if not pooled:  # their encoders pool
        vector = {
            "type": "flatten",
            "input_channels": choices.channels,
            "input_height": 1,
            "input_width": 1,
        }
    model: Dict[str, Any] = {
        "type": "basic_image_classifier",
        "im2im_encoder": choices.encoder,
        "im2vec_encoder": vector,
    }
    if facts.is_multi_label:
        model |= {"type": "multilabel_image_classifier", "thresholds": "tune"}
    elif not choices.class_weights:
        # Not with class weights: they would multiply the shares of rare classes in the targets.
        model["loss"] = {"type": "cross_entropy", "label_smoothing": 0.1}
    if choices.class_weights:
        model["class_weights"] = {"type": "effective_number", "beta": 0.999}
        model["metrics"] = {"balanced_accuracy": {"type": "balanced_accuracy"}}
    if choices.pixel_mean is not None:
        model |= {"pixel_mean": choices.pixel_mean, "pixel_std": choices.pixel_std}
    return model


def _trainer(facts: DataFacts, choices: Choices) -> Dict[str, Any]:
    metric = "+mAP" if facts.is_multi_label else "+accuracy"
    if choices.class_weights:
        metric = "+balanced_accuracy"
    optimizer: Dict[str, Any] = {
        "type": "adamw",
        "lr": choices.learning_rate,
        "weight_decay": 0.05,
        "weight_decay_on_norm_and_bias": False,
    }
    if choices.is_pretrained:
        optimizer["layer_decay"] = 0.7
    warmup = min(1, choices.epochs / 5)
    return {
        "type": "image",
        "num_epochs": choices.epochs,
        "validation_metric": metric,
        "optimizer": optimizer,
        "learning_rate_scheduler": {"type": "warmup_cosine", "warmup_epochs": warmup},
    }


def as_jsonnet(config: Dict[str, Any], facts: DataFacts, choices: Choices, header: str) -> str:
    """
    Return the config as text, with `header` as a comment at the top. `_jsonnet` reads it as the
    same dictionary.
    """
    reasons = choices.reasons
    comments = {
        "dataset_reader": f"{facts.num_train} images to train on: {_counted(facts)}.",
        "validation_dataset_reader": f"{facts.num_validation} images to validate on, cropped at "
        "the centre.",
        "data_loader.batch_size": reasons.batch_size.why,
        "model": f"{reasons.task.choice}; {reasons.task.why}",
        "model.im2im_encoder": reasons.backbone.why,
        "trainer.num_epochs": reasons.epochs.why,
        "trainer.optimizer": f"learning rate: {reasons.learning_rate.why}",
    }
    if reasons.class_weights is not None:
        comments["model.class_weights"] = reasons.class_weights.why
    if choices.is_pretrained:
        comments["trainer.optimizer"] += "; times 0.7 for each stage nearer to the input"
    lines = [f"// {line}".rstrip() for line in header.splitlines()]
    body = "\n".join(_lines(config, comments, "", ""))
    return "\n".join([*lines, body]) + "\n"


def _counted(facts: DataFacts) -> str:
    counts = sorted(facts.counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{label} {count}" for label, count in counts[:6])
    return shown if len(counts) <= 6 else f"{shown}, ... ({numbered(len(counts), 'label')})"


def _lines(value: Dict[str, Any], comments: Dict[str, str], place: str, indent: str) -> List[str]:
    lines = [f"{indent}{{"] if not place else []
    inner = f"{indent}  "
    for key, each in value.items():
        path = f"{place}.{key}" if place else key
        if path in comments:
            lines += _comment(comments[path], inner)
        name = _key(key)
        short = f"{inner}{name}: {_short(each)},"
        is_commented = any(other.startswith(f"{path}.") for other in comments)
        if isinstance(each, dict) and (len(short) > WIDTH or is_commented):
            lines += [f"{inner}{name}: {{", *_lines(each, comments, path, inner), f"{inner}}},"]
        else:
            lines.append(short)
    return lines if place else [*lines, f"{indent}}}"]


def _comment(text: str, indent: str) -> List[str]:
    lines, line = [], f"{indent}//"
    for word in text.split():
        if len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = f"{indent}//"
        line += f" {word}"
    return [*lines, line]


def _key(key: str) -> str:
    is_plain = re.fullmatch(r"[A-Za-z_]\w*", key) and not RESERVED.fullmatch(key)
    return key if is_plain else json.dumps(key, ensure_ascii=False)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(key)}: {_short(each)}" for key, each in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return json.dumps(value, ensure_ascii=False)
