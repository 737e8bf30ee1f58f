import inspect
import sys
import types
from typing import Any, ClassVar, Dict, List, Optional, Tuple, Type, Union, get_args, get_origin

import timm.optim
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.optimizers import Optimizer, make_parameter_groups
from torch.optim.optimizer import required

from allencv.common.checks import CheckedFromParams
from allencv.common.nearest_names import not_one_of
from allencv.training.optimizers.filter_norm import scale_filters
from allencv.training.parameter_groups import split_parameter_groups

# AllenNLP's names of torch's optimizers. Its classes take only some of their arguments.
_ALLENNLP = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "averaged_sgd": torch.optim.ASGD,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}

_LEFT_OUT = [
    *("bnb*", "fused*"),  # need bitsandbytes or apex; torch's own have an argument `fused`
    "*legacy",  # what torch has taken over
    "adahessian",  # needs second derivatives, which no trainer of AllenNLP's computes
    "kron*",  # needs opt_einsum and a C++ compiler, and does not recover exactly
]

# Keys of a group of `parameter_groups` besides the optimizer's arguments: for AllenNLP, and for
# Muon, which then uses AdamW for the group.
_GROUP_KEYS = ("requires_grad", "optimizer_name", "filter_norm")
_MUON_GROUP_KEYS = ("use_fallback",)

# The largest values, which not every library checks. The smallest is 0.
_RANGES = {"lr": sys.float_info.max, "weight_decay": sys.float_info.max, "momentum": 1}

GroupValue = Union[float, bool, str, List[float]]

_OWN_PARAMETERS = [
    inspect.Parameter(name, kind, default=default, annotation=annotation)
    for name, kind, default, annotation in [
        (
            "model_parameters",
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.empty,
            List[Tuple[str, torch.nn.Parameter]],
        ),
        (
            "parameter_groups",
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            None,
            Optional[List[Tuple[List[str], Dict[str, GroupValue]]]],
        ),
        ("model", inspect.Parameter.KEYWORD_ONLY, None, Optional[torch.nn.Module]),
        ("weight_decay_on_norm_and_bias", inspect.Parameter.KEYWORD_ONLY, True, bool),
        ("layer_decay", inspect.Parameter.KEYWORD_ONLY, None, Optional[float]),
        ("filter_norm", inspect.Parameter.KEYWORD_ONLY, None, Optional[float]),
    ]
]

_OWN = {parameter.name for parameter in _OWN_PARAMETERS}


def _annotation(annotation: Any, default: Any = None) -> Any:
    """Return an annotation that AllenNLP reads, or `Any`, whose values it passes unchanged."""
    members = get_args(annotation)
    if get_origin(annotation) is tuple:
        return Tuple[tuple(_annotation(member) for member in members)]
    if get_origin(annotation) in (Union, types.UnionType):
        read = [_annotation(member) for member in members if member is not torch.Tensor]
        return Any if Any in read else Union[tuple(read)]
    if annotation in (bool, int, float, str, type(None)):
        return annotation
    if annotation is inspect.Parameter.empty:  # where timm has no annotations, numbers are floats
        if isinstance(default, tuple):
            return Tuple[(float,) * len(default)]
        return bool if isinstance(default, bool) else float
    return Any


def _signature(library_class: type, defaults: Dict[str, Any]) -> inspect.Signature:
    """Return our arguments and those of the library's class, some with other `defaults`."""
    _, *parameters = inspect.signature(library_class).parameters.values()
    library = []
    for parameter in parameters:
        default = defaults.get(parameter.name, parameter.default)
        library.append(
            parameter.replace(
                kind=inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if default is required else default,
                annotation=_annotation(parameter.annotation, parameter.default),
            )
        )
    names = {parameter.name for parameter in library}
    own = [
        parameter
        for parameter in _OWN_PARAMETERS
        if parameter.name != "weight_decay_on_norm_and_bias" or "weight_decay" in names
    ]
    return inspect.Signature([*own[:2], *library, *own[2:]])


class TorchOptimizer(CheckedFromParams, Optimizer):
    """
    An optimizer of torch or timm. Each has a subclass of this, registered as an `Optimizer` under
    its name in timm (`timm.optim.list_optimizers()`) or in AllenNLP.

    Under AllenNLP's names ("adam", "adamw", "sgd", ...) the class is torch's with AllenNLP's
    defaults and all of torch's arguments, including `fused` and `foreach`, which AllenNLP's own
    classes do not take.

    # Parameters

    model_parameters : `List[Tuple[str, torch.nn.Parameter]]`
        Names and parameters to train. This argument does not get an entry in a configuration file.
    parameter_groups : `List[Tuple[List[str], Dict[str, Any]]]`, optional (default = `None`)
        Lists of regular expressions, each with the arguments for the parameters whose names match:
        `[[["_classification_layer"], {"lr": 0.01}]]`.
    model : `torch.nn.Module`, optional (default = `None`)
        The model of the parameters; the trainer passes it. This argument does not get an entry in a
        configuration file.
    weight_decay_on_norm_and_bias : `bool`, optional (default = `True`)
        If false, norms, biases and the names in the network's `no_weight_decay()` do not decay.
    layer_decay : `float`, optional (default = `None`)
        The learning rate of a stage of the model is that of the next one, towards the head, times
        this: above 0 and at most 1. Most networks have fewer stages than layers in timm's layer
        decay, so the same value has less effect. A vision transformer has as many.
    filter_norm : `float`, optional (default = `None`)
        Before each step, scale every weight of two dimensions or more so that the root mean square
        of its filters' norms is this. The weights before a normalisation may have any scale, but
        its growth slows down learning (van Laarhoven 2017, arXiv:1706.05350). Then the learning
        rate alone says by which part a step changes them. It may also be given for a group.

    All others are the library's own. `split_parameter_groups` explains how `parameter_groups`,
    `weight_decay_on_norm_and_bias` and `layer_decay` combine. A `ConfigurationError` is raised for
    an argument that is unknown or missing, and for a value that the library refuses.
    """

    name: ClassVar[str]
    signature: ClassVar[inspect.Signature]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for key in kwargs:
            if key not in self.signature.parameters:
                raise not_one_of(f"an argument of {self.name}", key, self.signature.parameters)
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ConfigurationError(f"{self.name}: {error}") from None
        given = {key: value for key, value in bound.arguments.items() if key not in _OWN}
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        if type(arguments["lr"]) is int:  # jsonnet writes 1e30 as an int, too large for torch
            arguments["lr"] = float(arguments["lr"])
        own = {
            parameter.name: arguments.pop(parameter.name, parameter.default)
            for parameter in _OWN_PARAMETERS
        }
        try:
            super().__init__(self._groups(lr=arguments["lr"], **own), **arguments)
        except ConfigurationError:
            raise
        except Exception as error:  # whatever the library raises, its arguments are the reason
            raise ConfigurationError(
                f"{self.name} cannot be made with {given}: {type(error).__name__}: {error}"
            ) from error
        if any("filter_norm" in group for group in self.param_groups):
            self.register_step_pre_hook(scale_filters)
        for group in self.param_groups:
            for key, most in _RANGES.items():
                value = group.get(key)
                if isinstance(value, (int, float)) and not 0 <= value <= most:
                    expected = "a number from 0 to 1" if most == 1 else "a finite number, 0 or more"
                    raise ConfigurationError(
                        f"{self.name} cannot be made with {key} {value}; expected {expected}"
                    )

    def _groups(
        self,
        model_parameters: List[Tuple[str, torch.nn.Parameter]],
        parameter_groups: Optional[List[Tuple[List[str], Dict[str, Any]]]],
        model: Optional[torch.nn.Module],
        lr: Optional[float],
        weight_decay_on_norm_and_bias: bool,
        layer_decay: Optional[float],
        filter_norm: Optional[float],
    ) -> List[Dict[str, Any]]:
        known = self.signature.parameters.keys() - {each.name for each in _OWN_PARAMETERS}
        known = known.union(_GROUP_KEYS)
        if isinstance(self, timm.optim.Muon):
            known = known.union(_MUON_GROUP_KEYS)
        for index, (_, overrides) in enumerate(parameter_groups or []):
            for key in overrides:
                if key not in known:
                    place = f"a key of {self.name}.parameter_groups[{index}]"
                    raise not_one_of(place, key, known)
        groups = make_parameter_groups(model_parameters, parameter_groups)
        if not parameter_groups:
            groups = [{"params": groups}]
        for group in groups:
            norm = group.setdefault("filter_norm", filter_norm)
            if norm is None:
                del group["filter_norm"]
            elif not 0 < norm < float("inf"):
                raise ConfigurationError(
                    f"{self.name} cannot be made with filter_norm {norm}; expected a finite "
                    "number above 0"
                )
        if weight_decay_on_norm_and_bias and layer_decay is None:
            return groups
        if model is None:
            raise ConfigurationError(
                f"{self.name}.weight_decay_on_norm_and_bias and layer_decay need the model; "
                'expected trainer.type "image", or the argument model in Python'
            )
        return split_parameter_groups(groups, model, lr, weight_decay_on_norm_and_bias, layer_decay)


def _make(name: str, library_class: Any, defaults: Dict[str, Any]) -> Type[TorchOptimizer]:
    # AllenNLP reads the signature of the constructor, so that each class needs its own.
    def __init__(self: TorchOptimizer, *args: Any, **kwargs: Any) -> None:
        TorchOptimizer.__init__(self, *args, **kwargs)

    signature = _signature(library_class, defaults)
    self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    __init__.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[self_parameter, *signature.parameters.values()]
    )
    library = library_class.__module__.split(".")[0]
    changed = ", ".join(f"{key} {value!r}" for key, value in defaults.items())
    documentation = f"""{library}'s `{library_class.__name__}`{changed and f", with {changed}"}.

Registered as an `Optimizer` with name "{name}".

# Parameters

Those of `TorchOptimizer`, and {library}'s own.
"""
    members = {
        "__init__": __init__,
        "__doc__": documentation,
        "__module__": __name__,
        "name": name,
        "signature": signature,
    }
    class_name = "".join(word.capitalize() for word in name.split("_"))
    return type(class_name, (TorchOptimizer, library_class), members)


def _allennlp_defaults(name: str) -> Dict[str, Any]:
    parameters = inspect.signature(Optimizer.by_name(name)).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.name not in ("model_parameters", "parameter_groups")
    }


def _timm_defaults(info: Any) -> Dict[str, Any]:
    defaults = dict(info.defaults or {})
    momentum = inspect.signature(info.opt_class).parameters.get("momentum")
    if momentum is not None and not momentum.default:
        defaults["momentum"] = 0.9  # as in `timm.optim.create_optimizer_v2`
    return defaults


OPTIMIZERS: Dict[str, Type[TorchOptimizer]] = {
    name: _make(name, library_class, _allennlp_defaults(name))
    for name, library_class in _ALLENNLP.items()
}
for _name in map(str, timm.optim.list_optimizers(exclude_filters=_LEFT_OUT)):
    if _name not in OPTIMIZERS:
        _info = timm.optim.get_optimizer_info(_name)
        OPTIMIZERS[_name] = _make(_name, _info.opt_class, _timm_defaults(_info))
OPTIMIZERS["rprop"] = _make("rprop", torch.optim.Rprop, {})

for _name, _class in OPTIMIZERS.items():
    Optimizer.register(_name, exist_ok=_name in _ALLENNLP)(_class)
