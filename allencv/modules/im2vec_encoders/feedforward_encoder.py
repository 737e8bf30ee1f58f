import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules import FeedForward

from allencv.modules.im2vec_encoders.im2vec_encoder import Im2VecEncoder


@Im2VecEncoder.register("feedforward")
class FeedForwardVectorEncoder(Im2VecEncoder):
    """
    Applies a feed-forward network to the vectors of another `Im2VecEncoder`: hidden layers between
    the pooling and the classifier. Input shape: that of `im2vec_encoder`; output shape: `(batch,
    feedforward.get_output_dim())`.

    Registered as an `Im2VecEncoder` with name "feedforward".

    # Parameters

    im2vec_encoder : `Im2VecEncoder`, required
        Turns a feature map into a vector.
    feedforward : `FeedForward`, required
        AllenNLP's. Raises `ConfigurationError` if its `input_dim` differs from the dimension of
        that vector.
    """

    def __init__(self, im2vec_encoder: Im2VecEncoder, feedforward: FeedForward) -> None:
        super().__init__()
        if feedforward.get_input_dim() != im2vec_encoder.get_output_dim():
            raise ConfigurationError(
                f"feedforward.input_dim is {feedforward.get_input_dim()}; expected "
                f"{im2vec_encoder.get_output_dim()}, the output dimension of im2vec_encoder "
                f"({type(im2vec_encoder).__name__})"
            )
        self.im2vec_encoder = im2vec_encoder
        self.feedforward = feedforward

    def get_input_channels(self) -> int:
        return self.im2vec_encoder.get_input_channels()

    def get_output_dim(self) -> int:
        return self.feedforward.get_output_dim()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.feedforward(self.im2vec_encoder(images))
