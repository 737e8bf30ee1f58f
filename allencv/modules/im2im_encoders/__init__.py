from allencv.modules.im2im_encoders.feedforward_encoder import FeedForwardEncoder
from allencv.modules.im2im_encoders.im2im_encoder import Im2ImEncoder
from allencv.modules.im2im_encoders.resnet_encoder import ResnetEncoder
from allencv.modules.im2im_encoders.small_resnet_encoder import SmallResnetEncoder

__all__ = ["FeedForwardEncoder", "Im2ImEncoder", "ResnetEncoder", "SmallResnetEncoder"]
