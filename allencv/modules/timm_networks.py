"""Builds timm's networks with their classifiers; failures are one-line `ConfigurationError`s."""

import os
from difflib import get_close_matches
from typing import Any, Dict, List, Optional

from allennlp.common.checks import ConfigurationError

from allencv.common.nearest_names import not_one_of
from allencv.modules.packaged_weights import load_in_order, packaged_weights
from allencv.modules.weight_files import read_state_dict, reason

RGB = 3


def create_timm_network(
    model_name: str, pretrained: bool, weights: Optional[str], arguments: Dict[str, Any]
) -> Any:
    """
    Return timm's network `model_name` with the weights of the file `weights`, the published
    weights, or random ones. `arguments` are those of `timm.create_model`. Published weights that an
    installed package holds are not downloaded.
    """
    _check_name(model_name, pretrained and weights is None)
    if weights is not None:
        return _create_from_file(model_name, weights, arguments)
    packaged = packaged_weights(model_name) if pretrained else None
    if packaged is not None and arguments.get("in_chans", RGB) == RGB:
        network = _create(model_name, False, arguments)
        load_in_order(network, packaged)
        return network
    try:
        return _create(model_name, pretrained, arguments)
    except ConfigurationError:
        raise
    except Exception as error:  # of the connection, the disk, or one of timm's many networks
        advice = ""
        if pretrained:
            advice = (
                " with its published weights: check the connection, set weights to a local file, "
                "or set pretrained to false for random initialisation"
            )
        raise ConfigurationError(
            f"could not build {model_name}{advice} ({reason(error)})"
        ) from error


def _check_name(model_name: str, published_weights: bool) -> None:
    import timm

    if ":" in model_name:  # on the hub, or in a folder
        return
    if not timm.is_model(model_name):
        known = timm.list_models() + timm.list_pretrained()
        nearest = get_close_matches(model_name, known, n=5) or ["a name of timm.list_models()"]
        if "/" in model_name:
            nearest.insert(0, f"hf-hub:{model_name}")
        raise ConfigurationError(
            f"model_name is {model_name!r}, which timm does not have; nearest: {', '.join(nearest)}"
        )
    architecture = model_name.partition(".")[0]
    published = timm.list_pretrained(f"{architecture}.*")
    try:
        timm.get_pretrained_cfg(model_name)
    except RuntimeError:  # the part after the dot is unknown for this architecture
        raise not_one_of("model_name", model_name, [architecture, *published]) from None
    if published_weights and not timm.is_model_pretrained(model_name):
        others = f"one of {', '.join(published)}, or " if published else ""
        raise ConfigurationError(
            f"pretrained is true, but timm publishes no weights for {model_name}; expected "
            f"{others}pretrained false, or a local file as weights"
        )


def _create(model_name: str, pretrained: bool, arguments: Dict[str, Any]) -> Any:
    import timm

    try:
        return timm.create_model(model_name, pretrained=pretrained, **arguments)
    except TypeError as error:
        raise ConfigurationError(
            f"{model_name} does not take an argument of this config ({reason(error)}); check "
            "image_size, drop_path_rate and timm_arguments"
        ) from error


def _create_from_file(model_name: str, weights: str, arguments: Dict[str, Any]) -> Any:
    """
    Build a network with weights from a file, which timm converts. timm checks names and shapes only
    if the file has the expected number of classes, so pass the number in the file.
    """
    import timm

    if not os.path.isfile(weights):
        raise ConfigurationError(f"weights is {weights!r}; expected the path of a file that exists")
    state = read_state_dict(weights)
    published = None if ":" in model_name else timm.get_pretrained_cfg(model_name)
    classifier: Any = (published and published.classifier) or []
    names = [classifier] if isinstance(classifier, str) else classifier
    classes = [len(state[f"{name}.weight"]) for name in names if f"{name}.weight" in state]
    # Without a classifier named as in timm, all names in the file differ, or it has none.
    attempts: List[Dict[str, Any]] = [{}, {"num_classes": 0, "label_offset": 0}]
    if classes:
        attempts = [{"num_classes": classes[0], "label_offset": 0}]
    problems = []
    for attempt in attempts:
        overlay = {"state_dict": state, "source": "", "custom_load": False, **attempt}
        number = {"num_classes": attempt["num_classes"]} if attempt else {}
        try:
            network = _create(
                model_name, True, {**arguments, **number, "pretrained_cfg_overlay": overlay}
            )
        except (RuntimeError, KeyError, ValueError, AssertionError) as error:
            problems.append(" ".join(str(error).split())[:300])
        else:
            network.pretrained_cfg.pop("state_dict")
            return network
    raise ConfigurationError(
        f"weights is {weights!r}, which does not fit {model_name}: {problems[0]}"
    )
