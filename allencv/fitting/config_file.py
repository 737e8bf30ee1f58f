"""Write the choices as a config: plain jsonnet, with a comment for each choice."""

import os
from typing import Any, Dict, Mapping

from allencv.common.jsonnet import to_jsonnet
from allencv.fitting.choices import Choices
from allencv.fitting.data_facts import DataFacts, data_config
from allencv.fitting.data_parts import FoundData
from allencv.runtime.plurals import numbered


def as_config(found: FoundData, facts: DataFacts, choices: Choices) -> Dict[str, Any]:
    """Return the config for `allencv train`."""
    size = choices.image_size
    small = size <= 64
    train: Dict[str, Any] = {"type": "train_light", "size": size}
    if choices.crops_little:
        train["scale"] = [0.5, 1.0]
    evaluate: Dict[str, Any] = {"type": "eval", "size": size}
    if small:
        evaluate["crop_ratio"] = 1
    if choices.start is not None:
        evaluate = choices.start.evaluation
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
    vector: Dict[str, Any] = {"type": "pooling", "input_channels": choices.channels}
    if not choices.is_small_network:  # the others pool
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
    if choices.encoder["type"] == "whitening":
        # Its network has no shortcuts.
        model["initializer"] = {"regexes": [["convs.*weight", "partial_dirac"]]}
    if choices.class_weights:
        model["class_weights"] = {"type": "effective_number", "beta": 0.999}
        model["metrics"] = {"balanced_accuracy": {"type": "balanced_accuracy"}}
    if choices.start is not None:
        model["start_from"] = {"archive_file": choices.start.archive}
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
    if choices.is_small_network:
        optimizer |= {
            "type": "muon",
            "nesterov": True,
            "parameter_groups": [
                [["conv.*weight"], {"filter_norm": 1}],
                [["_classification_layer"], {"use_fallback": True}],  # AdamW
            ],
        }
    # A share of training, so that it fits any number of epochs that the user sets.
    warmup = round(min(1 / choices.epochs, 0.2), 3)
    return {
        "type": "image",
        "num_epochs": choices.epochs,
        **({"time_limit": choices.time_limit} if choices.time_limit else {}),
        **({"patience": choices.patience} if choices.patience else {}),
        "validation_metric": metric,
        "optimizer": optimizer,
        "learning_rate_scheduler": {"type": "warmup_cosine", "warmup_ratio": warmup},
        **({"callbacks": ["weight_interpolation"]} if choices.start is not None else {}),
    }


def header(written_by: str, command: str) -> str:
    """Return a comment for the top of a config: its author, and a command with its folder."""
    return f"Written by: {written_by}\nTo train it, in {os.getcwd()}:\n\n  {command}"


def with_header(config: Dict[str, Any], comments: Mapping[str, str], header: str) -> str:
    """Return a config as text, with `header` as a comment at the top, and comments above keys."""
    lines = [f"// {line}".rstrip() for line in header.splitlines()]
    return "\n".join([*lines, to_jsonnet(config, comments)]) + "\n"


def comments_on(facts: DataFacts, choices: Choices) -> Dict[str, str]:
    """Return the reasons for the choices, by the paths of the keys that they explain."""
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
    comments |= comments_on_calibration(facts)
    if choices.time_limit is not None:
        comments["trainer.time_limit"] = "fewer steps if the machine gets slower"
    if reasons.early_stopping is not None:
        comments["trainer.patience"] = "stops " + " ".join(reasons.early_stopping)
    if reasons.class_weights is not None:
        comments["model.class_weights"] = reasons.class_weights.why
    if choices.start is not None:
        comments["model.start_from"] = "the model of fit --quick"
        comments["trainer.callbacks"] = (
            "The result lies between the weights before and after training, where the validation "
            "images are classified best. It is never worse on them than the model before."
        )
    if choices.is_pretrained:
        comments["trainer.optimizer"] += "; times 0.7 for each stage nearer to the input"
    return comments


def comments_on_calibration(facts: DataFacts) -> Dict[str, str]:
    """Return the comment on the images for calibration, if there are some."""
    if not facts.num_calibration:
        return {}
    how = ", held out," if facts.is_calibration_held_out else ""
    text = f"{facts.num_calibration} images{how} that show when to rely on the answers."
    return {"calibration_data_path": text}


def _counted(facts: DataFacts) -> str:
    counts = sorted(facts.counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{label} {count}" for label, count in counts[:6])
    return shown if len(counts) <= 6 else f"{shown}, ... ({numbered(len(counts), 'label')})"
