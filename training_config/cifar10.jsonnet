// CIFAR-10 with a ResNet from scratch. 50,000 images of 32x32 pixels in ten classes, in a folder
// for each class (train/airplane/*.jpg, test/airplane/*.jpg). On a GPU:
//
//   DATA=data/cifar10 NETWORK=large EPOCHS=30 \
//     allencv train training_config/cifar10.jsonnet -s runs/cifar10
//
// On two cores of a CPU, use NETWORK=small EPOCHS=5.
//
// Hardware, time and score: two cores of an AMD EPYC with AVX-512 BF16, NETWORK=small EPOCHS=5:
// 70.1 % of the test images, and 66.7 % after 4 epochs in 4 min 51 s; docs/recipes.md compares this
// with a plain PyTorch loop. NETWORK=large has not been run.
local data = std.extVar("DATA");
local network = {
  small: { widths: [32, 64, 128], blocks: 1 },  // 0.3 million parameters
  large: { widths: [64, 128, 256], blocks: 2 },  // 2.8 million: the size of a WRN-16-4
}[std.extVar("NETWORK")];
local reader(transforms) = { type: "image_folder", transforms: transforms };

{
  dataset_reader: reader([
    { type: "random_crop", size: 32, padding: 4 },
    { type: "random_horizontal_flip" },
  ]),
  validation_dataset_reader: reader([{ type: "eval", size: 32, crop_ratio: 1 }]),
  train_data_path: data + "/train",
  validation_data_path: data + "/test",

  data_loader: { type: "image", batch_size: 128, shuffle: true },
  validation_data_loader: { type: "image", batch_size: 500 },

  model: {
    type: "basic_image_classifier",
    im2im_encoder: network { type: "small_resnet", stem_stride: 1 },
    im2vec_encoder: { type: "pooling", input_channels: network.widths[2] },
    loss: { type: "cross_entropy", label_smoothing: 0.1 },
    pixel_mean: [0.4914, 0.4822, 0.4465],
    pixel_std: [0.2470, 0.2435, 0.2616],
  },

  trainer: {
    type: "image",
    num_epochs: std.parseInt(std.extVar("EPOCHS")),
    validation_metric: "+accuracy",
    optimizer: { type: "sgd", lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 5e-4 },
    // The learning rate falls to nothing at the end, even with few epochs.
    learning_rate_scheduler: { type: "one_cycle", cycle_momentum: false },
  },
}
