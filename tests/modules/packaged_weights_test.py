import hashlib
import sys
from pathlib import Path

import pytest
import timm
import torch
from allennlp.common.checks import ConfigurationError

from allencv.features.pretrained_backbones import pretrained
from allencv.modules import packaged_weights
from allencv.modules.im2im_encoders import TimmEncoder
from allencv.modules.packaged_weights import load_in_order


def test_the_package_with_weights_of_lite0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / packaged_weights.LITE0_PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('it is not imported')")
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    file = tmp_path / "weights.pth"
    torch.save({f"other.{number}": each for number, each in enumerate(state.values())}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    file = file.rename(package / f"lite0-{digest[:8]}.pth")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, packaged_weights.LITE0_PACKAGE, raising=False)
    monkeypatch.setattr(packaged_weights, "LITE0_FILE", file.name)
    encoder, preprocessing, mean, std = pretrained("tf_efficientnet_lite0")
    loaded = encoder.backbone.state_dict()
    assert len(loaded) > 200
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)
    assert (mean, std) == ([0.5] * 3, [0.5] * 3)
    assert (preprocessing.height, preprocessing.interpolation) == (224, "bicubic")
    with pytest.raises(ConfigurationError, match=r"a tensor of .* stands where backbone.* has"):
        load_in_order(TimmEncoder("test_resnet", pretrained=False), str(file))
