// Ants and bees with a ResNet-18 pretrained on ImageNet. The data of PyTorch's tutorial on transfer
// learning: 244 photographs for training and 153 for validation. Trains first only the new last
// layer, then more and more of the network.
//
//   DATA=data/hymenoptera_data WEIGHTS=DEFAULT \
//     allencv train training_config/hymenoptera.jsonnet -s runs/hymenoptera
//
// WEIGHTS=DEFAULT downloads torchvision's; it can also be a file, or null for random weights.
//
// Hardware, time and score: two cores of an AMD EPYC with AVX-512 BF16, 19 minutes (the machine
// had other work too): 77.1 % of the validation images from random weights. With a pretrained
// EfficientNet-Lite0 (docs/recipes.md): 95.4 and 96.7 %, two seeds. Not run with the pretrained
// weights of the ResNet-18.
local weights = import "lib/weights.libsonnet";
local data = std.extVar("DATA");
local size = 224;
local reader(transforms) = { type: "image_folder", transforms: transforms };

{
  dataset_reader: reader([
    // An insect may be small in the picture, so a crop covers at least a third of it.
    { type: "train_light", size: size, scale: [0.35, 1] },
    { type: "color_jitter", brightness: 0.2, contrast: 0.2 },
  ]),
  validation_dataset_reader: reader([{ type: "eval", size: size }]),
  train_data_path: data + "/train",
  validation_data_path: data + "/val",

  data_loader: { type: "image", batch_size: 16, shuffle: true },
  validation_data_loader: { type: "image", batch_size: 64 },

  model: {
    type: "basic_image_classifier",
    im2im_encoder: { type: "pretrained_resnet", resnet_model: "resnet18", weights: weights },
    im2vec_encoder: { type: "flatten", input_channels: 512, input_height: 1, input_width: 1 },
    dropout: 0.2,
  },

  trainer: {
    type: "image",
    num_epochs: 25,
    validation_metric: "+accuracy",
    optimizer: {
      type: "adamw",
      lr: 0.001,
      weight_decay: 0.05,
      weight_decay_on_norm_and_bias: false,
      // The learning rate of the pretrained part is ten times lower.
      parameter_groups: [[["_im2im_encoder"], { lr: 0.0001 }]],
    },
    learning_rate_scheduler: { type: "warmup_cosine", warmup_epochs: 1 },
    // Epochs count from 0: three for the last layer, five with the last two stages, then all.
    callbacks: [{ type: "unfreeze_milestones", milestones: [[3, 2], [8, -1]] }],
  },
}
