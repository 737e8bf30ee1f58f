from allencv.modules.im2vec_encoders.feedforward_encoder import FeedForwardVectorEncoder
from allencv.modules.im2vec_encoders.flatten_encoder import FlattenEncoder
from allencv.modules.im2vec_encoders.im2vec_encoder import Im2VecEncoder
from allencv.modules.im2vec_encoders.pooling_encoder import PoolingEncoder

__all__ = ["FeedForwardVectorEncoder", "FlattenEncoder", "Im2VecEncoder", "PoolingEncoder"]
