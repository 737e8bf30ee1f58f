// The weights that a pretrained network starts from, as the variable WEIGHTS says:
//
//   WEIGHTS=DEFAULT       those of torchvision, which are downloaded once
//   WEIGHTS=resnet18.pth  a file
//   WEIGHTS=null          random numbers
local weights = std.extVar("WEIGHTS");

if weights == "null" then null else weights
