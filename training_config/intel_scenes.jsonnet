// Six kinds of scenes with a ResNet-18 pretrained on ImageNet. The data are "Intel Image
// Classification": 14,034 photographs of 150x150 pixels for training and 3,000 for testing of
// buildings, forest, glacier, mountain, sea and street, unpacked as
// seg_train/seg_train/forest/*.jpg and seg_test/seg_test/forest/*.jpg.
//
//   DATA=data/intel WEIGHTS=DEFAULT \
//     allencv train training_config/intel_scenes.jsonnet -s runs/intel
//   allencv evaluate runs/intel/model.tar.gz data/intel/seg_test/seg_test \
//     -o '{"validation_dataset_reader.split": null}'
//
// WEIGHTS=DEFAULT downloads torchvision's; it can also be a file, or null for random weights.
//
// Hardware, time and score: not run on scenes. A test run on two cores of an AMD EPYC with AVX-512
// BF16, 3 epochs from random weights on 1,080 pictures of 150x150 pixels in six other classes, took
// 100 seconds: 55.8 % of 120 others.
local weights = import "lib/weights.libsonnet";
local data = std.extVar("DATA");
local size = 150;

// The test images are used only at the end. A tenth of the others selects the best epoch.
local reader(part, transforms) = {
  type: "image_folder",
  split: { part: part, fraction: 0.1, by: "stratified" },
  transforms: transforms,
};

{
  dataset_reader: reader("train", [{ type: "train_light", size: size, scale: [0.35, 1] }]),
  validation_dataset_reader: reader("validation", [{ type: "eval", size: size, fit: "stretch" }]),
  train_data_path: data + "/seg_train/seg_train",
  validation_data_path: data + "/seg_train/seg_train",

  data_loader: { type: "image", batch_size: 64, shuffle: true },
  validation_data_loader: { type: "image", batch_size: 128 },

  model: {
    type: "basic_image_classifier",
    im2im_encoder: { type: "pretrained_resnet", resnet_model: "resnet18", weights: weights },
    im2vec_encoder: { type: "flatten", input_channels: 512, input_height: 1, input_width: 1 },
    // Some glaciers are mountains too, so no label is certain.
    loss: { type: "cross_entropy", label_smoothing: 0.1 },
    metrics: { _confused: { type: "confusion_matrix", max_confusions: 3 } },
    test_time_augmentation: ["horizontal_flip"],
  },

  trainer: {
    type: "image",
    num_epochs: 10,
    validation_metric: "+accuracy",
    optimizer: { type: "adamw", lr: 0.0003, weight_decay: 0.05, layer_decay: 0.7 },
    learning_rate_scheduler: { type: "warmup_cosine", warmup_epochs: 1 },
    moving_average: { type: "exponential", decay: 0.995 },
  },
}
