"""What was trained, and how fast, as rows of a name and a text."""

import json
from typing import Any, Iterator, List, Optional, Tuple

from allencv.reporting.run_folder import Run


def network(run: Run) -> str:
    """Such as `resnet18 (pretrained_resnet)`."""
    model = run.config.get("model", {})
    encoder = model.get("im2im_encoder") or model.get("im2vec_encoder") or {}
    if isinstance(encoder, str):  # AllenNLP's short form of a type without arguments
        return encoder
    kind = str(encoder.get("type", model.get("type", "a model")))
    name = next((encoder[key] for key in ("model_name", "resnet_model") if key in encoder), None)
    return f"{name} ({kind})" if name else kind


def images_per_second(run: Run) -> Optional[float]:
    seconds, images = run.epoch_seconds(), run.about.get("train", {}).get("images")
    return images * len(seconds) / sum(seconds) if seconds and images else None


def speed_rows(run: Run) -> List[Tuple[str, str]]:
    seconds = run.epoch_seconds()
    if not seconds:
        return []
    rows = [
        ("all epochs", duration(sum(seconds))),
        ("one epoch, with its validation", _range(seconds)),
    ]
    per_second = images_per_second(run)
    if per_second:
        rows.append(
            ("training images a second", f"{per_second:,.0f} (the time of validation included)")
        )
    if run.about.get("device"):
        rows.append(("device", run.about["device"]))
        rows.append(("processes and threads", f"{run.about['processes']}, {run.about['threads']}"))
    for key, value in run.metrics.items():
        if key.startswith("peak_") and key.endswith("_memory_MB"):
            rows.append((key[5:-10].replace("_", " ") + ", most memory", f"{value:,.0f} MB"))
    return rows


def fact_rows(run: Run) -> Iterator[Tuple[str, str]]:
    config = run.config
    model, trainer, loader = (config.get(key) or {} for key in ("model", "trainer", "data_loader"))
    optimizer, schedule = trainer.get("optimizer"), trainer.get("learning_rate_scheduler")
    rows = [
        ("model", model.get("type")),
        ("network", network(run)),
        ("loss", _described(model.get("loss"))),
        ("training data", config.get("train_data_path")),
        ("validation data", config.get("validation_data_path")),
        ("test data", config.get("test_data_path")),
        ("batch size", loader.get("batch_size")),
        ("optimizer", _described(optimizer)),
        ("learning rate schedule", _described(schedule)),
        ("best epoch by", trainer.get("validation_metric", "-loss")),
        ("seeds", ", ".join(f"{key} {value}" for key, value in run.seeds.items())),
        (
            "versions",
            ", ".join(f"{key} {value}" for key, value in run.about.get("versions", {}).items()),
        ),
    ]
    for name, value in rows:
        if value not in (None, ""):
            yield name, value if isinstance(value, str) else json.dumps(value)


def _described(part: Any) -> Optional[str]:
    """Such as `adamw (lr 0.001, weight_decay 0.05)`."""
    if not isinstance(part, dict):
        return part
    plain = {k: v for k, v in part.items() if k != "type" and not isinstance(v, (dict, list))}
    arguments = ", ".join(f"{key} {json.dumps(value)}" for key, value in plain.items())
    return f"{part.get('type')} ({arguments})" if arguments else part.get("type")


def _range(seconds: List[float]) -> str:
    low, high = duration(min(seconds)), duration(max(seconds))
    return low if low == high else f"{low} to {high}"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
