// Handwritten digits, 8x8 grey levels, with a small ResNet (77 thousand parameters) from scratch.
//
//   python scripts/make_digits.py demo/digits
//   DATA=demo/digits allencv train training_config/digits.jsonnet -s demo/run
//
// Hardware, time and score: one core of an AMD EPYC, about 35 s of training. Accuracy on the test
// images, median and worst: 99.6 and 99.2 % in float32 (10 seeds), 99.7 and 99.4 % in bfloat16
// (8 seeds).
local data = std.extVar("DATA");
local reader(transforms) = {
  type: "image_folder",
  color_mode: "L",
  transforms: transforms,
};

{
  dataset_reader: reader([
    { type: "resize", size: [24, 24] },
    { type: "random_crop", size: 24, padding: 3 },
  ]),
  validation_dataset_reader: reader([{ type: "eval", size: 24, fit: "stretch" }]),
  train_data_path: data + "/train",
  validation_data_path: data + "/val",

  data_loader: { type: "image", batch_size: 32, shuffle: true },
  validation_data_loader: { type: "image", batch_size: 180 },

  model: {
    type: "basic_image_classifier",
    im2im_encoder: { type: "small_resnet", input_channels: 1, widths: [16, 32, 64] },
    im2vec_encoder: { type: "pooling", input_channels: 64 },
    loss: { type: "cross_entropy", label_smoothing: 0.1 },
    pixel_mean: [0.5],
    pixel_std: [0.25],
  },

  trainer: {
    type: "image",
    num_epochs: 14,
    validation_metric: "-loss",
    optimizer: { type: "adamw", lr: 0.005, weight_decay: 0.05 },
    learning_rate_scheduler: { type: "warmup_cosine", warmup_ratio: 0.1 },
  },
}
