// CIFAR-10 in 200 steps, after Keller Jordan's airbench94_muon. That reaches 94 % of the test images
// in 8 epochs (https://github.com/KellerJordan/cifar10-airbench). 50,000 images of 32x32 pixels in
// ten classes, in a folder for each class (train/airplane/*.jpg, test/airplane/*.jpg). On a GPU:
//
//   DATA=data/cifar10 allencv train training_config/cifar10_94.jsonnet -s runs/cifar10_94
//
// Hardware, time and score: two cores of an Intel Xeon with AMX, in bfloat16: 90.6 % of the test
// images in 10 min 26 s, with other work on the machine for most of the time. The files were JPEG of
// quality 75 with half of the colour resolution, not the original pixels. On these files, a straight
// PyTorch implementation has about the same training loss after each of its first four epochs:
// docs/recipes.md. Not run on a GPU yet.
local optimizer(lr) = { lr: lr, weight_decay: 0.004 / lr };
local reader(transforms) = { type: "image_folder", transforms: transforms };

{
  // Hidden from AllenNLP, for configs that import this one.
  encoder:: { widths: [64, 256, 256], depth: 2 },
  local channels = $.encoder.widths[std.length($.encoder.widths) - 1],

  dataset_reader: reader([
    { type: "alternating_flip" },
    { type: "random_crop", size: 32, padding: 2, padding_mode: "reflect" },
  ]),
  validation_dataset_reader: reader([{ type: "eval", size: 32, crop_ratio: 1 }]),
  train_data_path: std.extVar("DATA") + "/train",
  validation_data_path: std.extVar("DATA") + "/test",

  data_loader: { type: "image", batch_size: 2000, shuffle: true, drop_last: true },
  validation_data_loader: { type: "image", batch_size: 2000 },

  model: {
    type: "basic_image_classifier",
    im2im_encoder: {
      type: "whitening",
      padded: false,
      encoder: $.encoder { type: "conv_groups", input_channels: 24, norm_momentum: 0.4 },
    },
    im2vec_encoder: { type: "pooling", input_channels: channels, pool: "max" },
    initializer: {
      regexes: [
        ["convs.*weight", "partial_dirac"],
        ["_classification_layer.weight", { type: "normal", std: 1 / channels }],
        ["_classification_layer.bias", "zero"],
      ],
    },
    loss: { type: "cross_entropy", label_smoothing: 0.2 },
    test_time_augmentation: [
      "horizontal_flip",
      "shift_up_left",
      "shift_down_right",
      "horizontal_flip+shift_up_left",
      "horizontal_flip+shift_down_right",
    ],
    pixel_mean: [0.4914, 0.4822, 0.4465],
    pixel_std: [0.2470, 0.2435, 0.2616],
  },

  trainer: {
    type: "image",
    num_epochs: 8,
    validation_metric: "+accuracy",
    optimizer: {
      type: "multi",
      optimizers: {
        // For biases. The rate is high, because the last layer begins with small weights.
        default: optimizer(0.41 * channels) { type: "sgd", momentum: 0.85, nesterov: true },
        muon: {
          type: "muon",
          lr: 0.24,
          momentum: 0.6,
          nesterov: true,
          ns_steps: 3,
          ns_coefficients: "original",
          adjust_lr_fn: "original",
          filter_norm: 1,
        },
      },
      parameter_groups: [
        [["convs.*weight"], { optimizer_name: "muon" }],
        // The scales of batch normalisation stay 1.
        [["norms.*weight"], { optimizer_name: "default", lr: 0, weight_decay: 0 }],
        [["_classification_layer"], optimizer(5.2 / channels) { optimizer_name: "default" }],
      ],
    },
    learning_rate_scheduler: { type: "warmup_polynomial" },  // a straight line to 0, by steps
  },
}
