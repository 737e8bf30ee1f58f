// CIFAR-10 in 40 epochs, after Keller Jordan's airbench96. That trains with SGD (2024,
// arXiv:2404.00498). This is cifar10_94.jsonnet with a network twice as wide and half as deep again,
// larger shifts and cutout. The data are those of cifar10_94.jsonnet. On a GPU:
//
//   DATA=data/cifar10 allencv train training_config/cifar10_96.jsonnet -s runs/cifar10_96
//
// Hardware, time and score: not run in full. On a core of a CPU, 100 steps of 200 images with a quarter
// of the channels (encoder.widths [32, 128, 128]), on 10,000 training images: 58.0 % of 2,000 test
// images.
(import "cifar10_94.jsonnet") + {
  encoder:: { widths: [128, 512, 512], depth: 3 },
  dataset_reader+: {
    transforms: [
      { type: "alternating_flip" },
      { type: "random_crop", size: 32, padding: 4, padding_mode: "reflect" },
      { type: "cutout", size: 12 },
    ],
  },
  trainer+: { num_epochs: 40 },
}
