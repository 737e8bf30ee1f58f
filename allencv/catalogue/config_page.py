"""The page of documentation about the keys of an experiment's config."""

from typing import List

from allencv.catalogue.experiment import experiment, places
from allencv.catalogue.markdown import table
from allencv.catalogue.parts import default_name, parts_of, registered

_INTRODUCTION = """# The config of an experiment

What `allencv train` (and `allennlp train`) takes: a file of [jsonnet](https://jsonnet.org), which
is JSON with comments, variables and functions. Its values name parts by their `type`, and the other
keys of an object are the arguments of that part: [parts.md](parts.md) has all of them. This page is
made from the code by `scripts/make_references.py`.

```jsonnet
local data = std.extVar("DATA");  // DATA=... before the command
local reader(transforms) = { type: "image_folder", transforms: transforms };

{
  dataset_reader: reader([{ type: "train_light", size: 224 }]),
  validation_dataset_reader: reader([{ type: "eval", size: 224 }]),
  train_data_path: data + "/train",
  validation_data_path: data + "/val",

  data_loader: { type: "image", batch_size: 32, shuffle: true },
  validation_data_loader: { type: "image", batch_size: 64 },

  model: {
    type: "basic_image_classifier",
    im2im_encoder: { type: "pretrained_resnet", resnet_model: "resnet50" },
    im2vec_encoder: { type: "flatten", input_channels: 2048, input_height: 1, input_width: 1 },
  },

  trainer: {
    type: "image",
    num_epochs: 20,
    validation_metric: "+accuracy",
    optimizer: { type: "adamw", lr: 0.0003 },
    learning_rate_scheduler: { type: "warmup_cosine", warmup_epochs: 1 },
  },
}
```

Any value is changed without touching the file by `-o '{"trainer.num_epochs": 2}'`: dots stand
between the keys, and numbers for places in a list (`dataset_reader.transforms.0.size`).

## Mistakes

`allencv check-config CONFIG` finds the mistakes of a config before anything is read or trained, all
at once, each with its key and, where it can be told, its line:

```
$ DATA=data/pets allencv check-config pets.jsonnet
pets.jsonnet:10: data_loader.batch_size is "32"; expected int
pets.jsonnet:23: trainer.optimizer.type is "adamww"; expected one of adamw, radamw, nadamw, ...
pets.jsonnet: 2 mistakes
```

Its exit status is 1 then. `allencv train`, `find-lr` and `sweep` do this first, and end with the
same lines before they read any data. The commands that only read data, such as `check-data`, check
the keys of the data. What depends on the data itself, such as a label without an image, is found by
`allencv check-data`.

A line that begins with `warning:` is no mistake, and training goes on. There is one for random
transforms that change the images of validation, so that metrics vary from epoch to epoch, and one
for `evaluate_on_test` without a `test_data_path`.

## Annotations of your own parts

A part of your own gets what the annotations of its constructor say, if its class derives from one
of AllenCV's: `Act | None`, `list[Act]`, `Sequence[Act]`, `tuple[Act, ...]`, `dict[str, Act]`,
`Lazy[Act]`, `Literal`, `Enum`, `Path` and `Annotated` work, and so does
`from __future__ import annotations`. Names must be imported, and not under `if TYPE_CHECKING`.

A class with a base of its own (`class Act(Registrable)`) is built by AllenNLP alone, which
understands `Act`, `Optional[Act]`, `List[Act]`, `Dict[str, Act]` and `Lazy[Act]`. With other forms
it hands over a dict. `check-config` names such an argument.

For an editor, `allencv components --format json > experiment.schema.json` writes a JSON Schema of
whole configs, with all parts that are registered (your own with `--include-package my_package`). In
VS Code, settings.json takes it for configs that are written in JSON:

```json
{ "json.schemas": [{ "fileMatch": ["configs/*.json"], "url": "./experiment.schema.json" }] }
```

## Top-level keys
"""

_PLACES = """## Where parts go

What stands under a key of a config, or in its list, and what is taken without a `type`. The keys
are those of AllenCV's parts; other keys of theirs are in [parts.md](parts.md)."""


def config_page() -> str:
    """The top-level keys of a config, and where in it parts of each registry stand."""
    rows: List[str] = ["| key | takes | default `type` | names |", "|---|---|---|---|"]
    for cls, path in places().items():
        link = f"[{cls.__name__}](parts.md#{cls.__name__.lower()})"
        names = [f"`{part.name}`" for part in parts_of(cls)]
        shown = ", ".join(names[:8]) + (f", ... ({len(names)})" if len(names) > 8 else "")
        default = default_name(cls) if registered(cls) else None
        default_text = f"`{default}`" if default else ""
        rows.append(f"| `{'.'.join(path)}` | {link} | {default_text} | {shown} |")
    return "\n\n".join(
        [_INTRODUCTION.rstrip(), table(experiment().in_config.values()), _PLACES, "\n".join(rows)]
    )
