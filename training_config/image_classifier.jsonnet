// Cats and dogs, or other folders of images, with a ResNet-50 pretrained on ImageNet.
// There is a folder for each class. torchvision downloads the weights (98 MB); to read them from a
// file, add
// -o '{"model.im2im_encoder.weights": "/path/of/resnet50.pth"}'.
//
//   TRAIN_PATH=data/PetImages/train VALIDATION_PATH=data/PetImages/val \
//     allencv train training_config/image_classifier.jsonnet -s runs/pets
//
// Hardware, time and score: not run with pretrained weights or on cats and dogs. A test run on two
// cores of an AMD EPYC with AVX-512 BF16, one epoch of 245 ants and bees from random weights, took
// a minute: chance (45.8 % of 153 others).
local size = 224;

{
  dataset_reader: {
    type: "image_classification_directory",
    transforms: [
      // Keeps the proportions of the image; the tutorial stretches it to a square.
      { type: "random_resized_crop", size: [size, size], scale: [0.35, 1] },
      { type: "random_horizontal_flip" },
    ],
  },
  validation_dataset_reader: {
    type: "image_classification_directory",
    transforms: [{ type: "eval", size: size }],
  },
  train_data_path: std.extVar("TRAIN_PATH"),
  validation_data_path: std.extVar("VALIDATION_PATH"),

  data_loader: { type: "image", batch_size: 32, shuffle: true },
  validation_data_loader: { type: "image", batch_size: 128 },

  model: {
    type: "basic_image_classifier",
    im2im_encoder: { type: "pretrained_resnet", resnet_model: "resnet50", requires_grad: true },
    im2vec_encoder: { type: "flatten", input_channels: 2048, input_height: 1, input_width: 1 },
  },

  trainer: {
    type: "image",
    num_epochs: 5,
    validation_metric: "+accuracy",
    optimizer: { type: "adam", lr: 1e-5 },
  },
}
