// Ants and bees with a frozen EfficientNet-Lite0 pretrained on ImageNet. The data of PyTorch's
// tutorial on transfer learning: 244 photographs for training and 153 for validation. The encoder
// sees eight random views of each photograph once; then only the last layer is trained, on what the
// encoder said about them.
//
//   DATA=data/hymenoptera_data WEIGHTS=DEFAULT \
//     allencv train training_config/hymenoptera_frozen.jsonnet -s runs/hymenoptera_frozen
//
// WEIGHTS=DEFAULT downloads timm's; it can also be a file, or null for random weights.
//
// Hardware, time and score: two cores of an AMD EPYC with AVX2, 81 seconds, about 50 of them for
// the features: 96.7 % of the validation images in the best epoch, with ImageNet weights from a
// file (WEIGHTS=lite0.pth), one seed.
local weights = import "lib/weights.libsonnet";
local data = std.extVar("DATA");
local size = 224;
local reader(transforms) = { type: "image_folder", transforms: transforms };

{
  dataset_reader: reader([{ type: "train_light", size: size, scale: [0.35, 1] }]),
  validation_dataset_reader: reader([{ type: "eval", size: size }]),
  train_data_path: data + "/train",
  validation_data_path: data + "/val",

  data_loader: { type: "image", batch_size: 32, shuffle: true },

  model: {
    type: "basic_image_classifier",
    im2im_encoder: {
      type: "timm",
      model_name: "tf_efficientnet_lite0",
      requires_grad: false,
      pretrained: weights == "DEFAULT",
      weights: if weights == "DEFAULT" then null else weights,
    },
    im2vec_encoder: { type: "flatten", input_channels: 1280, input_height: 1, input_width: 1 },
    dropout: 0.2,
    pixel_mean: [0.5, 0.5, 0.5],
    pixel_std: [0.5, 0.5, 0.5],
  },

  trainer: {
    type: "image",
    num_epochs: 24,
    validation_metric: "+accuracy",
    frozen_features: { views: 8 },
    optimizer: { type: "adamw", lr: 0.003, weight_decay: 0.05 },
    learning_rate_scheduler: { type: "warmup_cosine", warmup_epochs: 1 },
  },
}
