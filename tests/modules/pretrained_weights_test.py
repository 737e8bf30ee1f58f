import threading

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model

from allencv.modules.im2im_encoders import Im2ImEncoder, ResnetEncoder
from allencv.modules.pretrained_weights import (
    pretrained_weights_skipped,
    without_pretrained_weights,
)


@Model.register("pretrained_weights_test")
class ModelWithEncoder(Model):
    def __init__(self, vocab: Vocabulary, encoder: Im2ImEncoder) -> None:
        super().__init__(vocab)
        self.encoder = encoder

    @classmethod
    def _load(cls, config, serialization_dir, weights_file=None, cuda_device=-1):
        with without_pretrained_weights():
            return super()._load(config, serialization_dir, weights_file, cuda_device)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    def download(url, *args, **kwargs):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)


@pytest.mark.parametrize("weights", [{}, {"weights": "DEFAULT"}, {"weights": "gone.pth"}])
def test_a_trained_model_loads_without_the_weights_that_it_started_from(weights, offline, tmp_path):
    vocab = Vocabulary()
    vocab.save_to_files(str(tmp_path / "vocabulary"))
    trained = ModelWithEncoder(vocab, ResnetEncoder("resnet18", weights=None))
    torch.save(trained.state_dict(), tmp_path / "best.th")
    config = Params(
        {
            "model": {
                "type": "pretrained_weights_test",
                "encoder": {"type": "pretrained_resnet", "resnet_model": "resnet18", **weights},
            }
        }
    )

    loaded = Model.load(config, str(tmp_path))

    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded.eval().encoder(images), trained.eval().encoder(images))
    with pytest.raises(ConfigurationError):  # outside, the weights are wanted
        ResnetEncoder("resnet18", **weights)


def test_skipping_ends_with_the_block_and_after_an_error():
    assert not pretrained_weights_skipped()
    with without_pretrained_weights():
        assert pretrained_weights_skipped()
    with pytest.raises(KeyError), without_pretrained_weights():
        raise KeyError
    assert not pretrained_weights_skipped()


def test_another_thread_is_not_affected():
    seen = []
    with without_pretrained_weights():
        thread = threading.Thread(target=lambda: seen.append(pretrained_weights_skipped()))
        thread.start()
        thread.join()
    assert seen == [False]
