from allencv.modules.im2im_encoders.conv_groups_encoder import ConvGroupsEncoder
from allencv.modules.im2im_encoders.feedforward_encoder import FeedForwardEncoder
from allencv.modules.im2im_encoders.im2im_encoder import Im2ImEncoder
from allencv.modules.im2im_encoders.resnet_encoder import ResnetEncoder
from allencv.modules.im2im_encoders.small_resnet_encoder import SmallResnetEncoder
from allencv.modules.im2im_encoders.timm_encoder import TimmEncoder
from allencv.modules.im2im_encoders.torchvision_encoder import TorchvisionEncoder
from allencv.modules.im2im_encoders.whitening_encoder import WhiteningEncoder

__all__ = [
    "ConvGroupsEncoder",
    "FeedForwardEncoder",
    "Im2ImEncoder",
    "ResnetEncoder",
    "SmallResnetEncoder",
    "TimmEncoder",
    "TorchvisionEncoder",
    "WhiteningEncoder",
]
