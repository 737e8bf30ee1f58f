from typing import Any, Mapping


def kept_weights(metrics: Mapping[str, Any]) -> str:
    """
    Return which weights a run has kept in its archive, by its `metrics.json`: those of the "best"
    epoch, or "averaged" or "interpolated" ones. Their metrics begin with this word and
    `_validation_`.
    """
    if metrics.get("averaged_weights_used"):
        return "averaged"
    return "interpolated" if "trained_share" in metrics else "best"
