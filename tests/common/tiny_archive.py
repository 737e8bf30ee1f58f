"""Archives of a tiny network that has learned nothing, and changed copies of them."""

import io
import json
import tarfile
from pathlib import Path
from typing import Dict, Union

import torch
from allennlp.common import Params
from allennlp.common.meta import Meta
from allennlp.data import Vocabulary
from allennlp.models import Model

import allencv.plugin  # noqa: F401
from tests.configs import experiment

LABELS = ["ant", "bee", "cat"]


def write_run(folder: Path) -> Path:
    """Write what a run leaves in its folder, as far as an archive is made of it."""
    config = experiment(
        Path("nowhere"),
        model__im2im_encoder={"type": "small_resnet", "widths": [4], "blocks": [1]},
        model__im2vec_encoder={"type": "pooling", "input_channels": 4},
    )
    torch.manual_seed(0)
    vocab = Vocabulary(counter={"labels": {label: 9 - len(label) for label in LABELS}})
    vocab.save_to_files(str(folder / "vocabulary"))
    model = Model.from_params(Params(json.loads(json.dumps(config["model"]))), vocab=vocab)
    torch.save(model.state_dict(), folder / "best.th")
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    Meta.new().to_file(folder / "meta.json")
    return folder


def files_of(archive: Path) -> Dict[str, bytes]:
    """The contents of all files of an archive, by name."""
    with tarfile.open(archive) as source:
        return {
            member.name: source.extractfile(member).read()  # type: ignore[union-attr]
            for member in source
            if member.isfile()
        }


Member = Union[bytes, tarfile.TarInfo]
"""The contents of a file, or the header of a member without contents."""


def packed(target: Path, members: Dict[str, Member], *more: tarfile.TarInfo) -> Path:
    """Write an archive with these files, and then with more members that have no contents."""
    with tarfile.open(target, "w:gz") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
        for header in more:
            archive.addfile(header)
    return target
