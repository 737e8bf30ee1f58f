// 102 kinds of flowers (Nilsback and Zisserman 2008) with a MobileNetV3. The quick start of
// PaddleClas, with its hyperparameters and its data: the folder jpg, and next to it train_list.txt
// and val_list.txt with 1,020 lines each, such as "jpg/image_05101.jpg 76".
//
//   DATA=data/flowers102 WEIGHTS=DEFAULT \
//     allencv train training_config/flowers102_mobilenet_v3.jsonnet -s runs/flowers
//
// WEIGHTS=DEFAULT downloads torchvision's; it can also be a file, or null for random weights.
//
// Hardware, time and score: not run on flowers. A test run on two cores of an AMD EPYC with AVX-512
// BF16, 2 epochs from random weights on 1,020 pictures in ten classes, took 2 minutes: chance
// (10.0 % of 1,020 others).
local weights = import "lib/weights.libsonnet";
local data = std.extVar("DATA");
local size = 224;
local reader(transforms) = { type: "image_list", transforms: transforms };

{
  dataset_reader: reader([{ type: "train_light", size: size }]),
  validation_dataset_reader: reader([{ type: "eval", size: size }]),
  train_data_path: data + "/train_list.txt",
  validation_data_path: data + "/val_list.txt",

  data_loader: { type: "image", batch_size: 32, shuffle: true },
  validation_data_loader: { type: "image", batch_size: 64 },

  model: {
    type: "basic_image_classifier",
    im2im_encoder: { type: "torchvision", model_name: "mobilenet_v3_large", weights: weights },
    im2vec_encoder: { type: "flatten", input_channels: 1280, input_height: 1, input_width: 1 },
    top_k: 5,
  },

  trainer: {
    type: "image",
    num_epochs: 20,
    validation_metric: "+accuracy",
    optimizer: { type: "sgd", lr: 0.00375, momentum: 0.9, weight_decay: 1e-6 },
    learning_rate_scheduler: { type: "warmup_cosine", warmup_epochs: 5 },
  },
}
