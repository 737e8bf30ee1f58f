import contextlib
import io
import json
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import SigTermReceived
from allennlp.models.archival import load_archive as allennlps_load_archive

import allencv.plugin  # noqa: F401
from allencv.common.archives import load_archive, load_opened_archive, opened_archive
from allencv.common.write_archive import archive_model
from tests.common.tiny_archive import files_of, packed, write_run
from tests.conftest import Run, same_tensors
from tests.runtime.tiny_bundle import write_bundle


@pytest.fixture(scope="module")
def archive(trained_run: Path) -> Path:
    return trained_run / "model.tar.gz"


def rewritten(
    archive: Path, target: Path, edit: Callable[[Dict[str, Any]], None], extra: Optional[Any] = None
) -> Path:
    """A copy of an archive with another config, without checksums, and with a member more."""
    with tarfile.open(archive) as source, tarfile.open(target, "w:gz") as copy:
        for member in source.getmembers():
            if member.name == "checksums.json":
                continue
            data = source.extractfile(member)
            content = data.read() if data else b""
            if member.name == "config.json":
                config = json.loads(content)
                edit(config)
                content = json.dumps(config).encode()
                member.size = len(content)
            copy.addfile(member, io.BytesIO(content))
        if extra is not None:
            copy.addfile(*extra)
    return target


def test_an_archive_opens_as_with_allennlp(archive: Path) -> None:
    ours, theirs = load_archive(archive), allennlps_load_archive(archive)
    assert same_tensors(ours.model.state_dict(), theirs.model.state_dict())
    assert ours.config.as_dict() == theirs.config.as_dict()


@pytest.mark.parametrize(
    "code",
    [
        "from allencv.common.archives import load_archive; load_archive({!r})",
        "from allencv.common.archives import load_archive; load_archive({!r}, trusted=True)",
        "import allencv.predictors; from allennlp.predictors import Predictor; "
        "Predictor.from_path({!r})",
    ],
)
def test_python_code_opens_it_in_any_folder(
    code: str, archive: Path, tmp_path: Path, run: Run
) -> None:
    """Without `allencv.plugin`, and without the file `.allennlp_plugins` of a clone."""
    run("python", "-c", code.format(str(archive)), cwd=tmp_path)


def test_training_writes_checksums(archive: Path) -> None:
    with tarfile.open(archive) as opened:
        assert "checksums.json" in opened.getnames()


def test_the_folder_of_a_run_opens_too(archive: Path) -> None:
    model = load_archive(archive.parent).model
    assert same_tensors(model.state_dict(), torch.load(archive.parent / "best.th"))
    assert archive.is_file()


@pytest.mark.parametrize("name", ["../outside.txt", "vocabulary/../../outside.txt", "/outside.txt"])
def test_a_member_that_leaves_the_folder_is_refused(
    archive: Path, tmp_path: Path, name: str
) -> None:
    member = (tarfile.TarInfo(name), io.BytesIO())
    crafted = rewritten(archive, tmp_path / "m.tar.gz", lambda config: None, member)
    with pytest.raises(ConfigurationError, match="m.tar.gz' is not opened: it holds .*outside"):
        load_archive(crafted)


def test_a_link_out_of_the_folder_is_refused(archive: Path, tmp_path: Path) -> None:
    link = tarfile.TarInfo("vocabulary/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    crafted = rewritten(archive, tmp_path / "m.tar.gz", lambda config: None, (link, None))
    with pytest.raises(ConfigurationError, match="'vocabulary/link' is a symbolic link"):
        load_archive(crafted)


def put(key: str, value: Any) -> Callable[[Dict[str, Any]], None]:
    def edit(config: Dict[str, Any]) -> None:
        *levels, last = key.split(".")
        for level in levels:
            config = config.setdefault(level, {})
        config[last] = value

    return edit


ATTACKS = {
    "type": ("model.im2vec_encoder", {"type": "subprocess.Popen", "args": "MARK", "shell": True}),
    "string": ("validation_dataset_reader", "antigravity.fly"),
    "nested": ("dataset_reader.transforms", [{"type": "os.system", "command": "MARK"}]),
    "vocabulary": ("vocabulary", {"type": "os.system"}),
    "other archive": ("model", {"type": "from_archive", "archive_file": "other.tar.gz"}),
    "pretrained": ("model.im2vec_encoder", {"_pretrained": {"archive_file": "other.tar.gz"}}),
    "remote code": ("model.im2vec_encoder.transformer_kwargs", {"trust_remote_code": True}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_config_that_names_code_is_refused(archive: Path, tmp_path: Path, attack: str) -> None:
    key, value = ATTACKS[attack]
    mark = tmp_path / "mark"
    value = json.loads(json.dumps(value).replace("MARK", f"touch {mark}"))
    crafted = rewritten(archive, tmp_path / "m.tar.gz", put(key, value))
    with pytest.raises(ConfigurationError, match="is not opened") as error:
        load_archive(crafted)
    assert key in str(error.value)
    assert "trusted" in str(error.value)
    assert not mark.exists()


def test_allennlp_runs_what_a_config_names(archive: Path, tmp_path: Path) -> None:
    """Why there is a function of our own; when this fails it may go."""
    mark = tmp_path / "mark"
    popen = {"type": "subprocess.Popen", "args": f"touch {mark}", "shell": True}
    crafted = rewritten(archive, tmp_path / "m.tar.gz", put("dataset_reader", popen))
    with contextlib.suppress(Exception):  # whatever comes of a process as a reader
        allennlps_load_archive(crafted)
    for _ in range(100):
        if mark.exists():
            break
        time.sleep(0.05)
    assert mark.exists()


def test_a_trusted_archive_may_name_code(archive: Path, tmp_path: Path) -> None:
    dotted = "allencv.modules.im2vec_encoders.pooling_encoder.PoolingEncoder"
    edit = put("model.im2vec_encoder", {"type": dotted, "input_channels": 16})
    crafted = rewritten(archive, tmp_path / "m.tar.gz", edit)
    with pytest.raises(ConfigurationError, match="model.im2vec_encoder.type is 'allencv.modules"):
        load_archive(crafted)
    assert load_archive(crafted, trusted=True).model is not None


def test_a_config_in_jsonnet_reads_no_file(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive.parent, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text("{ a: importstr '/etc/hostname' }")
    with pytest.raises(ConfigurationError, match="config.json is not readable as JSON"):
        load_archive(tmp_path / "run")


def test_a_path_with_a_dot_is_no_code(archive: Path, tmp_path: Path) -> None:
    edit = put("train_data_path", "os.path")
    load_archive(rewritten(archive, tmp_path / "m.tar.gz", edit))


UNREGISTERED: List[Tuple[str, Any, str]] = [
    ("model.im2im_encoder.type", "mine", "--include-package"),
    ("trainer.type", "my_trainer", "--include-package"),
    ("model.im2im_encoder.type", "os.system", "--trust-archive"),
    ("validation_dataset_reader", "json.loads", "--trust-archive"),
    ("model.type", "from_archive", "--trust-archive"),
]


@pytest.mark.parametrize(("key", "value", "option"), UNREGISTERED)
def test_the_option_that_helps_is_named(
    archive: Path, tmp_path: Path, key: str, value: Any, option: str
) -> None:
    crafted = rewritten(archive, tmp_path / "m.tar.gz", put(key, value))
    with pytest.raises(ConfigurationError, match=f"is not opened: {key} ") as raised:
        load_archive(crafted)
    other = {"--include-package": "--trust-archive", "--trust-archive": "--include-package"}[option]
    assert option in str(raised.value)
    assert other not in str(raised.value)


LARGE = [{"type": "eval", "size": 200_000}]
ODD_CONFIGS: List[Tuple[str, Any, str]] = [
    ("model", None, "is not opened: model is None; expected a JSON object"),
    ("model", 3, "is not opened: model is 3; expected a JSON object"),
    ("model", [1], r"is not opened: model is \[1\]; expected a JSON object"),
    ("dataset_reader", 5, "is not opened: dataset_reader is 5; expected a JSON object"),
    ("validation_dataset_reader", None, "is not opened: validation_dataset_reader is None; exp"),
    ("vocabulary", None, "is not opened: vocabulary is None; expected a JSON object"),
    ("vocabulary", 5, "is not opened: vocabulary is 5; expected a JSON object"),
    ("model.type", 3, "is not opened: model.type is 3; expected the name of a part"),
    ("model.im2vec_encoder.type", None, "im2vec_encoder.type is None; expected the name of a part"),
    ("model.im2vec_encoder", {}, r"cannot be loaded: .*model.im2vec_encoder"),
    ("model.dropout", 2, "cannot be loaded: model.dropout is 2; expected"),
    ("model.colour", "red", "cannot be loaded: .*'colour'"),
    (
        "model.im2im_encoder.widths",
        [4, 16],
        "its weights do not fit its config and vocabulary: size",
    ),
    ("model.num_labels", 5, "its weights do not fit its config and vocabulary: size mismatch"),
    ("validation_dataset_reader.transforms", LARGE, "height is 200000; expected 1 to 8192 pixels"),
    ("a\nb", {"type": "x"}, "a b.type is 'x', which is not registered"),
]


@pytest.mark.parametrize(("key", "value", "message"), ODD_CONFIGS)
@pytest.mark.parametrize("trusted", [False, True])
def test_a_config_that_cannot_be_built_is_refused_in_a_line(
    archive: Path, tmp_path: Path, key: str, value: Any, message: str, trusted: bool
) -> None:
    crafted = rewritten(archive, tmp_path / "m.tar.gz", put(key, value))
    if trusted and key.startswith("a"):
        return  # then the rest of the config is AllenNLP's matter
    with pytest.raises(ConfigurationError, match=f"^archive '.*m.tar.gz' .*({message})") as raised:
        load_archive(crafted, trusted=trusted)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 800


def test_a_vocabulary_that_is_not_utf_8(tmp_path: Path) -> None:
    files = files_of(Path(archive_model(write_run(tmp_path / "run"))))
    files["vocabulary/labels.txt"] = b"ant\nb\xe4\ncat"
    del files["checksums.json"]
    with pytest.raises(ConfigurationError) as refused:
        load_archive(packed(tmp_path / "m.tar.gz", files))
    reason = "vocabulary/labels.txt, line 2, is not text in UTF-8; expected a label on each line"
    assert str(refused.value).endswith(f"m.tar.gz' cannot be loaded: {reason}")


@pytest.mark.parametrize("part", ["model", "dataset_reader"])
def test_a_config_without_a_part_is_refused(archive: Path, tmp_path: Path, part: str) -> None:
    crafted = rewritten(archive, tmp_path / "m.tar.gz", lambda config: config.pop(part))
    with pytest.raises(ConfigurationError, match=f"is not opened: config.json has no {part}"):
        load_archive(crafted)


@pytest.mark.parametrize("depth", [300, 900, 5000, 100_000])
def test_a_config_that_is_nested_too_deeply(archive: Path, tmp_path: Path, depth: int) -> None:
    shutil.copytree(archive.parent, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(
        f'{{"dataset_reader": {{}}, "model": {"[" * depth}{"]" * depth}}}'
    )
    with pytest.raises(ConfigurationError, match="^archive '.*run' ") as raised:
        load_archive(tmp_path / "run")
    assert "\n" not in str(raised.value)


def test_long_keys_do_not_fill_the_memory(archive: Path, tmp_path: Path) -> None:
    """Each of the 10,000 values has a key of a megabyte."""
    edit = put("k" * 2**20, {str(i): 0 for i in range(10_000)} | {"type": "mine"})
    crafted = rewritten(archive, tmp_path / "m.tar.gz", edit)
    with pytest.raises(ConfigurationError, match="kkk.type is 'mine'") as raised:
        load_archive(crafted)
    assert len(str(raised.value)) < 800


def test_labels_that_do_not_fit_the_weights(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive.parent, tmp_path / "run")
    (tmp_path / "run" / "vocabulary" / "labels.txt").write_text("ant\nbee\ncat\n")
    expected = (
        r"cannot be loaded: its weights do not fit .*: size mismatch for .*\[2, 16\].*\[3, 16\]"
    )
    with pytest.raises(ConfigurationError, match=expected) as raised:
        load_archive(tmp_path / "run")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, SigTermReceived])
def test_an_error_of_what_uses_the_model_stays_as_it_is(
    archive: Path, kind: Type[Exception]
) -> None:
    def use() -> None:
        with opened_archive(archive) as folder:
            load_opened_archive(folder)
            raise kind

    with pytest.raises(kind):
        use()


@pytest.mark.parametrize("name", ["http://[", "a\0b", "nowhere://model.tar.gz"])
def test_a_path_that_is_none_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match="^model archive '.*' cannot be read: |^no model"):
        load_archive(name)


def test_weights_are_read_as_data(archive: Path, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "mark",))

    shutil.copytree(archive.parent, tmp_path / "run")
    torch.save({"weight": Touch()}, tmp_path / "run" / "best.th")
    with pytest.raises(ConfigurationError, match="best.th is not a file of weights, or has"):
        load_archive(tmp_path / "run")
    assert not (tmp_path / "mark").exists()


def test_what_is_no_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no model archive at"):
        load_archive(tmp_path / "nowhere.tar.gz")
    (tmp_path / "cut.tar.gz").write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(ConfigurationError, match="damaged archive"):
        load_archive(tmp_path / "cut.tar.gz")
    (tmp_path / "text.tar.gz").write_text("a text")
    with pytest.raises(ConfigurationError, match="damaged archive"):
        load_archive(tmp_path / "text.tar.gz")


@pytest.mark.parametrize("trusted", [False, True])
def test_a_bundle_is_told_what_it_is_for(tmp_path: Path, trusted: bool) -> None:
    """So do `predict`, `evaluate`, `explain`, `report` and others: they open archives with this."""
    bundle = write_bundle(tmp_path / "pets")
    expected = f"'{bundle}' is a bundle, .* by 'allencv classify {bundle} photos'"
    with pytest.raises(ConfigurationError, match=expected):
        load_archive(bundle, trusted=trusted)
    with pytest.raises(ConfigurationError, match=expected), opened_archive(str(bundle)):
        pass


def test_nothing_is_left_behind(archive: Path, tmp_path: Path) -> None:
    with opened_archive(archive) as folder:
        assert (folder / "config.json").is_file()
    assert not folder.exists()
