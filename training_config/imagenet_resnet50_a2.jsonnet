// ImageNet with a ResNet-50 from scratch. The procedure is A2 of "ResNet strikes back" (Wightman,
// Touvron and Jégou 2021, arXiv:2110.00476), which reports 79.8 %. DATA has train/n01440764,
// ..., and val/n01440764, ..., a folder of images for each class.
//
//   DATA=data/imagenet \
//     allencv train training_config/imagenet_resnet50_a2.jsonnet -s runs/imagenet
//
// Hardware, time and score: not run on ImageNet. A test run on two cores of an AMD EPYC with
// AVX-512 BF16, one epoch of 600 images in ten classes in batches of 30, took 3 minutes: chance
// (11.5 % of 200 others).
//
// All numbers are those of the paper's table 2, with these differences:
// - RandAugment is torchvision's. It lacks timm's Invert and SolarizeAdd and has an
//   Identity. Its Posterize keeps 5 bits, timm's 2. The strength does not vary (timm draws
//   it with a deviation of 0.5 of 10).
// - bfloat16 instead of float16, and 4 accumulated batches of 512 instead of 4 GPUs. On 4 GPUs:
//   -o '{"distributed": {"cuda_devices": [0, 1, 2, 3]}, "trainer.num_gradient_accumulation_steps": 1}'
// - mixup and cutmix mix an image with the one before it; timm uses one from the other end of the
//   batch. With repeats on one GPU, this is a view of the same image for two images of three. On
//   four GPUs it is another image.
local data = std.extVar("DATA");
local size = 224;
local reader(transforms) = { type: "image_folder", transforms: transforms };

// timm's "rand-m7-mstd0.5-inc1": two operations, each with a probability of 0.5 and a strength of
// 7 of 10, which is 21 of 30 in torchvision.
local random_operation = {
  type: "random_apply",
  transforms: [
    {
      type: "rand_augment",
      num_ops: 1,
      magnitude: 21,
      interpolation: "bilinear",
      fill: [124, 116, 104],
    },
  ],
  p: 0.5,
};

{
  dataset_reader: reader([
    { type: "random_resized_crop", size: size, interpolation: "bicubic" },
    { type: "random_horizontal_flip" },
    random_operation,
    random_operation,
  ]),
  validation_dataset_reader: reader([
    { type: "eval", size: size, crop_ratio: 0.95, interpolation: "bicubic" },
  ]),
  train_data_path: data + "/train",
  validation_data_path: data + "/val",

  // 2,048 images in a step: four batches of 512 (num_gradient_accumulation_steps).
  data_loader: { type: "image", batch_size: 512, shuffle: true, repeats: 3, drop_last: true },
  validation_data_loader: { type: "image", batch_size: 512 },

  model: {
    type: "basic_image_classifier",
    im2im_encoder: {
      type: "timm",
      model_name: "resnet50",
      pretrained: false,
      drop_path_rate: 0.05,
    },
    im2vec_encoder: { type: "flatten", input_channels: 2048, input_height: 1, input_width: 1 },
    loss: { type: "binary_cross_entropy", target_threshold: 0.2 },
    batch_transforms: [
      {
        type: "random_choice",
        transforms: [{ type: "mixup", alpha: 0.1 }, { type: "cutmix", alpha: 1.0 }],
      },
    ],
    top_k: 5,
  },

  trainer: {
    type: "image",
    num_epochs: 300,
    num_gradient_accumulation_steps: 4,
    validation_metric: "+accuracy",
    optimizer: {
      type: "lamb",
      lr: 0.005,
      weight_decay: 0.02,
      weight_decay_on_norm_and_bias: false,
    },
    learning_rate_scheduler: { type: "warmup_cosine", warmup_epochs: 5 },
  },
}
