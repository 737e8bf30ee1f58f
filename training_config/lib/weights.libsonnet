// The initial weights of a pretrained network, set by the variable WEIGHTS:
//
//   WEIGHTS=DEFAULT       torchvision's, downloaded once
//   WEIGHTS=resnet18.pth  a file
//   WEIGHTS=null          random numbers
local weights = std.extVar("WEIGHTS");

if weights == "null" then null else weights
