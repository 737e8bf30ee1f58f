import json
import re
from pathlib import Path

import pytest

import allencv.plugin  # noqa: F401
from allencv.catalogue import experiment_schema, parts_of
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.runtime.errors import InputError
from tests.conftest import ROOT, Run, run_in_process

MY_ENCODER = '''
from typing import List, Optional

from allencv.modules.im2vec_encoders import Im2VecEncoder


@Im2VecEncoder.register("my_encoder")
class MyEncoder(Im2VecEncoder):
    """
    Looks at the corners. And at nothing else.

    # Parameters

    input_channels : `int`, required
        The channels.
    corners : `List[str]`, optional (default = `None`)
        Which ones: "upper_left" and so on.
    """

    def __init__(self, input_channels: int, corners: Optional[List[str]] = None) -> None:
        super().__init__()
'''


def components(*arguments: str) -> None:
    run_in_process("components", *arguments)


def output(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    components(*arguments)
    return str(capsys.readouterr().out)


def test_all(capsys: pytest.CaptureFixture) -> None:
    lines = output(capsys).splitlines()
    assert max(map(len, lines)) <= 100
    (line,) = [line for line in lines if line.startswith("  im2im_encoder ")]
    assert line.split()[1] == str(len(parts_of(Im2ImEncoder)))
    headings = [line for line in lines if line.endswith(":")]
    assert headings[0] == "Parts of AllenCV, and yours:"
    assert lines.index(headings[0]) < lines.index(line) < lines.index("Parts of AllenNLP only:")
    assert any("tokenizer" in line for line in lines)


@pytest.mark.parametrize("name", ["im2im_encoder", "Im2ImEncoder"])
def test_a_registry(name: str, capsys: pytest.CaptureFixture) -> None:
    text = output(capsys, name)
    assert "In a config: model.im2im_encoder" in text
    assert re.search(r"^  timm +Any network of `timm` without its classifier\.$", text, re.M)
    assert max(map(len, text.splitlines())) <= 100


def test_a_part(capsys: pytest.CaptureFixture) -> None:
    text = output(capsys, "im2im_encoder", "timm")
    assert text.startswith("timm: Im2ImEncoder\n")
    assert "\n  model_name              str                 required\n" in text
    assert "\n  pool                    bool                true\n" in text
    assert "\n      Whether to output one pixel." in text
    assert "\nIn a config, under model.im2im_encoder:\n" in text
    assert text.endswith('\n\n  { type: "timm", model_name: "convnext_tiny" }\n')
    assert max(map(len, text.splitlines())) <= 100


def test_what_training_supplies(capsys: pytest.CaptureFixture) -> None:
    text = output(capsys, "learning_rate_scheduler", "warmup_cosine")
    assert "\nTraining supplies: optimizer, num_epochs, num_steps_per_epoch\n" in text


def test_an_object_without_a_type(capsys: pytest.CaptureFixture) -> None:
    text = output(capsys, "image_split")
    assert text.startswith("ImageSplit\n")
    assert text.endswith('under dataset_reader.split:\n\n  { part: "train" }\n')


def test_json_of_a_part(capsys: pytest.CaptureFixture) -> None:
    part = json.loads(output(capsys, "ClassWeighting", "weights", "--format", "json"))
    assert part["arguments"] == [
        {
            "name": "weights",
            "type": "dict of float",
            "required": True,
            "description": "Weights by label, 0 or more. They are scaled as in every "
            "`ClassWeighting`, so only their ratios matter.",
        }
    ]
    assert part["class"] == "allencv.data.class_weightings.explicit_weights.ExplicitWeights"
    parts = json.loads(output(capsys, "ClassWeighting", "--format", "json"))
    assert part in parts
    (split,) = json.loads(output(capsys, "image_split", "--format", "json"))
    assert split["name"] is None


def test_json_of_all_is_the_schema(capsys: pytest.CaptureFixture) -> None:
    schema = json.loads(output(capsys, "--format", "json"))
    assert schema == json.loads(json.dumps(experiment_schema()))


def test_markdown(capsys: pytest.CaptureFixture) -> None:
    page = output(capsys, "--format", "markdown")
    section = output(capsys, "im2im_encoder", "--format", "markdown")
    assert section.strip() in page
    assert section.startswith("## Im2ImEncoder\n")
    assert "\n### pretrained_resnet, resnet\n" in section, "a class with two names is one section"
    part = output(capsys, "im2im_encoder", "timm", "--format", "markdown")
    assert part.strip() in section
    assert "\n| `pool` | bool | `true` | Whether to output one pixel." in part
    assert "\n**Raises**\n" in part, "the headings of a docstring are none of the page"
    optimizers = output(capsys, "optimizer", "--format", "markdown")
    assert re.findall("^### (.*)$", optimizers, re.M) == ["multi"], "others are a line each"
    assert "\n- `lamb(" in optimizers


def test_names_that_are_not_known() -> None:
    for name, message in {
        "im2im_coder": "; expected one of im2im_encoder, im2vec_encoder, ",
        "timm": ", which is the name of a part, not a kind of part; expected 'allencv components "
        "im2im_encoder timm'",
        "tim": ", which is near the name of a part, not a kind of part; expected 'allencv "
        "components im2im_encoder timm'",
        "resnet50": ', the name of a network; in a config: {"type": "pretrained_resnet", ',
        "xyzzy": ", which is no kind of part; 'allencv components' lists all",
    }.items():
        with pytest.raises(InputError, match=re.escape(f"REGISTRY is {name!r}{message}")):
            components(name)
    with pytest.raises(InputError, match="initializer constant' or 'allencv components learn"):
        components("constant")
    with pytest.raises(InputError, match="is 'resnet50', the name of a network; expected the name"):
        components("im2im_encoder", "resnet50")
    with pytest.raises(InputError, match=r"\(Im2ImEncoder\) is 'resnt'; expected one of res"):
        components("im2im_encoder", "resnt")
    with pytest.raises(InputError, match=r"NAME \(ImageSplit\) is 'train'"):
        components("image_split", "train")


def test_a_part_of_a_user_as_a_command(tmp_path: Path, run: Run) -> None:
    (tmp_path / "my_package.py").write_text(MY_ENCODER)
    (tmp_path / ".allennlp_plugins").write_text("my_package\n")
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = ("allencv", "components", "im2vec_encoder", "my_encoder")
    text = run(*command, cwd=tmp_path, env=environment).stdout
    assert "my_package.MyEncoder" in text
    assert "  corners         list of str  null\n" in text
    assert '  { type: "my_encoder", input_channels: 512 }' in text
