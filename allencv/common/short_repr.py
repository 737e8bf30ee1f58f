from inspect import Parameter

from allennlp.common import FromParams
from allennlp.common.from_params import infer_params


def short_repr(part: FromParams) -> str:
    """
    Return the call that creates a part, such as `ImageFolderReader(color_mode='L')`: with the
    arguments that it keeps as attributes, without those at their defaults.
    """
    arguments = []
    for name, parameter in infer_params(type(part)).items():
        value = vars(part).get(name)
        default = None if parameter.default is Parameter.empty else parameter.default
        is_empty = isinstance(value, (list, tuple, dict)) and not value
        if value is not None and value != default and not is_empty:
            arguments.append(f"{name}={value!r}")
    return f"{type(part).__name__}({', '.join(arguments)})"
