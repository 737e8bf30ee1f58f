"""The user's options of a fit, and their names in messages."""

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Iterator, List, Optional, Sequence, Union

from allennlp.common.checks import ConfigurationError

from allencv.common.data_paths import KEYS, PATH_KEYS

SINGLE, MULTI = "single", "multi"
"""The tasks: one label an image, or any number."""
SPLITS, CLASSES = "splits", "classes"
"""The layouts: what the folders in a folder are."""
NO_WEIGHTS = "none"
"""In place of a file of weights: random ones."""
NO_COLUMN = "none"
"""In place of the name of a column: none."""
AUTO = "auto"
"""In place of a learning rate: search for one."""
FINETUNE = "finetune"
"""What to do after a quick fit."""


@dataclass
class TableColumns:
    """The user's options for a table or a list; those that are `None` are inferred."""

    image_column: Optional[str] = None
    label_column: Optional[str] = None
    image_root: Optional[str] = None
    split_column: Optional[str] = None
    """A column, or `"none"`."""
    task: Optional[str] = None
    """`"single"` or `"multi"`."""
    label_delimiter: Optional[str] = None
    missing_labels: Optional[str] = None
    """`"skip"` or `"keep"`."""
    delimiter: Optional[str] = None
    encoding: Optional[str] = None

    def __post_init__(self) -> None:
        r"""Read "\t", as typed in a shell, as a tab."""
        self.delimiter = "\t" if self.delimiter == r"\t" else self.delimiter
        self.label_delimiter = "\t" if self.label_delimiter == r"\t" else self.label_delimiter


@dataclass
class FolderOptions:
    """The user's options for folders; those that are `None` are inferred."""

    layout: Optional[str] = None
    """`"splits"` or `"classes"`."""
    recursive: Optional[bool] = None
    label_pattern: Optional[str] = None
    validation: Optional[str] = None
    """The path of the validation data; likewise `test`."""
    test: Optional[str] = None


@dataclass
class FitOptions:
    """
    Your choices for a training; those that are `None` are made from the data.

    # Parameters

    backbone : `str`, optional
        "conv_groups", "small_resnet", or a name of torchvision.models or of timm.
    weights : `str`, optional
        A file of pretrained weights for the backbone, or "none" for random weights.
    image_size : `int`, optional
        The side length of the square images, in pixels.
    epochs : `int`, optional
        The number of passes over the data.
    time : `str`, optional
        In place of `epochs`: the time to train for, such as "90s", "10m" or "1.5h". With `quick`,
        the time for computing features, by default "60s". With `then`, the time for everything.
    lr : `Union[float, str]`, optional
        The learning rate, or "auto" to search for one in a few training steps.
    quick : `bool`, optional (default = `False`)
        Do not train a network, but fit the last layer on the features of pretrained ones.
    backbones : `Union[str, Sequence[str]]`, optional
        With `quick`: the networks to try, names of torchvision.models or of timm. A text has commas
        between them.
    then : `str`, optional
        With `quick`: "finetune" trains the whole network afterwards, from the fitted model on. The
        result is never worse on the validation images.
    calibration : `bool`, optional (default = `True`)
        Whether to calibrate the model: on the calibration images in the data, or else on some
        training images that are held out if there are enough.
    on_error : `str`, optional (default = `"skip"`)
        What to do with unreadable images: "skip" them, or "fail" with an error.
    root : `str`, optional (default = `"data"`)
        The folder of torchvision's datasets.
    table : `TableColumns`, optional
        How to read a table or a list.
    folders : `FolderOptions`, optional
        How to read folders, and the validation and test data.
    """

    backbone: Optional[str] = None
    weights: Optional[str] = None
    image_size: Optional[int] = None
    batch_size: Optional[int] = None
    epochs: Optional[int] = None
    time: Optional[str] = None
    lr: Union[float, str, None] = None
    seed: int = 0
    quick: bool = False
    backbones: Union[str, Sequence[str], None] = None
    then: Optional[str] = None
    calibration: bool = True
    on_error: str = "skip"
    root: str = "data"
    table: TableColumns = field(default_factory=TableColumns)
    folders: FolderOptions = field(default_factory=FolderOptions)

    def __post_init__(self) -> None:
        for key, least in (("epochs", 1), ("batch_size", 1), ("image_size", 8)):
            if (value := getattr(self, key)) is not None and value < least:
                option = f"--{key.replace('_', '-')}"
                raise ConfigurationError(f"{option} is {value}; expected {least} or more")
        if self.epochs is not None and self.time is not None:
            raise ConfigurationError(
                f"--epochs is {self.epochs} and --time is {self.time}; expected one of them"
            )
        self._check_quick()
        if self.on_error not in ("skip", "fail"):
            raise ConfigurationError(f"--on-error is {self.on_error!r}; expected skip or fail")
        self.learning_rate()

    def _check_quick(self) -> None:
        needed = ("backbones", "then") if not self.quick else ()
        without = ("epochs", "batch_size", "lr") if self.quick and self.then is None else ()
        for key in (*needed, *without):
            if (value := getattr(self, key)) is not None:
                option = f"--{key.replace('_', '-')}"
                shown = ",".join(self.networks()) if key == "backbones" else value
                how = "with --quick" if key in needed else "without --quick, which trains no epoch"
                raise ConfigurationError(f"{option} is {shown}; expected it only {how}")
        if self.then not in (None, FINETUNE):
            raise ConfigurationError(f"--then is {self.then!r}; expected {FINETUNE}")
        names = self.networks()
        if self.backbones is not None and not (names and all(names)):
            raise ConfigurationError(
                f"--backbones is {','.join(names)!r}; expected names of networks, with commas "
                "between them"
            )
        if names and self.backbone is not None:
            raise ConfigurationError(
                f"--backbone is {self.backbone} and --backbones is {','.join(names)}; "
                "expected one of them"
            )
        if self.weights is not None and len(names) > 1:
            raise ConfigurationError(
                f"--weights is {self.weights!r}, and --backbones has {len(names)} networks; "
                "expected one"
            )
        if self.quick and self.weights == NO_WEIGHTS:
            raise ConfigurationError(
                f"--weights is {NO_WEIGHTS}, and --quick needs pretrained weights; expected a "
                "file, or no --weights"
            )

    def networks(self) -> List[str]:
        """Return the names in `backbones`, each once."""
        given = self.backbones or []
        names = self.backbones.split(",") if isinstance(self.backbones, str) else given
        return list(dict.fromkeys(name.strip() for name in names))

    def learning_rate(self) -> Optional[float]:
        """Return `lr` as a number, or `None` if it must be chosen or searched for."""
        if self.lr is None or self.lr == AUTO:
            return None
        try:
            value = float(self.lr)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise ConfigurationError(f"--lr is {self.lr!r}; expected a number above 0, or 'auto'")
        return value


ARGUMENTS = {
    "labels_column": "label_column",
    "label_columns": "label_column",
    "labels_delimiter": "label_delimiter",
    "image_pattern": "image_column",
}
"""Options for arguments of readers that have another name."""
KNOWN = {*TableColumns.__annotations__, *FolderOptions.__annotations__}


@contextmanager
def named_as_options() -> Iterator[None]:
    """Make errors of the readers name options of the command, not keys of a config."""

    def option(found: "re.Match[str]") -> str:
        name = ARGUMENTS.get(found[1], found[1])
        return f"--{name.replace('_', '-')}" if name in KNOWN else found[0]

    try:
        yield
    except ConfigurationError as error:
        message = re.sub(r"dataset_reader\.(\w+)", option, error.message).replace(KEYS, "DATA")
        for key, name in zip(PATH_KEYS, ("DATA", "--validation", "--test")):
            message = message.replace(f"({key})", f"({name})")
        raise ConfigurationError(message) from error
