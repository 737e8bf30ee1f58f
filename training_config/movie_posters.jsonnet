// Genres of films from their posters, several for each, with a ResNet-50 pretrained on ImageNet.
// The folder DATA has a table metadata.csv with a column Id and a column of 0 and 1 for each genre,
// and the posters, images/{Id}.jpg.
//
//   DATA=data/posters WEIGHTS=DEFAULT \
//     allencv train training_config/movie_posters.jsonnet -s runs/posters
//
// WEIGHTS=DEFAULT downloads torchvision's; it can also be a file, or null for random weights.
//
// Hardware, time and score: not run on posters. A test run on two cores of an AMD EPYC with AVX-512
// BF16, 2 epochs from random weights on 804 collages of one to three pictures in ten classes, took
// 6 minutes: mAP 0.24 on 196 others.
local weights = import "lib/weights.libsonnet";
local data = std.extVar("DATA");
local size = [288, 192];  // height and width: a poster is upright

// A fifth of the posters is held out for validation, stratified by genre.
local reader(part, transforms) = {
  type: "image_table",
  image_pattern: "{Id}.jpg",
  image_root: data + "/images",
  label_columns: "*",  // all but Id; list columns that are not genres in ignore_columns: ["Title"]
  split: { part: part, fraction: 0.2, by: "stratified" },
  transforms: transforms,
};

{
  // Faces, letters and colours all over the poster show the genre, so crops keep most of it.
  dataset_reader: reader("train", [{ type: "train_light", size: size, scale: [0.5, 1] }]),
  validation_dataset_reader: reader("validation", [{ type: "eval", size: size, crop_ratio: 1 }]),
  train_data_path: data + "/metadata.csv",
  validation_data_path: data + "/metadata.csv",

  data_loader: { type: "image", batch_size: 32, shuffle: true },
  validation_data_loader: { type: "image", batch_size: 64 },

  model: {
    type: "multilabel_image_classifier",
    im2im_encoder: { type: "pretrained_resnet", resnet_model: "resnet50", weights: weights },
    im2vec_encoder: { type: "flatten", input_channels: 2048, input_height: 1, input_width: 1 },
    // A film has two or three of 25 genres, so absent genres get less weight.
    loss: { type: "asymmetric", gamma_negative: 4, margin: 0.05 },
    thresholds: "tune",
  },

  trainer: {
    type: "image",
    num_epochs: 15,
    validation_metric: "+mAP",  // needs no thresholds
    optimizer: {
      type: "adamw",
      lr: 0.0002,
      weight_decay: 0.01,
      weight_decay_on_norm_and_bias: false,
    },
    learning_rate_scheduler: { type: "one_cycle", pct_start: 0.2, cycle_momentum: false },
  },
}
