// CONV_2D of floats with a small window, such as the first layer of a network, as a source of tiles.
//
// The operator copies its input into a padded buffer anyway, so on the way it can also convert bytes to floats by a
// lookup table, read planar images, and flip rows and columns. The graph fuses the nodes that do these things into it.
#pragma once

#include <memory>

#include "ops/operator.h"

namespace bdd {

// How the input differs from floats [N, H, W, C] in the right orientation.
struct InputTransform {
  bool bytes = false;   // uint8, converted by `table`
  Buffer<float> table;  // [channels][256]
  bool planar = false;  // floats [N, C, H, W]
  bool flip_rows = false, flip_columns = false;
};

struct Conv2dOptions {
  bool same;
  int32_t stride_height, stride_width, dilation_height, dilation_width;
};

// Upper bound of the reduction size, H * W * C of the window. For larger ones XNNPACK is faster.
constexpr int64_t kMaxSmallConv2dReduction = 128;

class SmallConv2d : public Operator, public TileSource {
 public:
  // The transform of the images that BeginImage receives. After changing it, call ApplyInputTransform.
  virtual InputTransform* input_transform() = 0;
  virtual void ApplyInputTransform() = 0;
};

// Inputs: map, filter [O, H, W, I], bias [O]. Returns null if there is no memory.
std::unique_ptr<SmallConv2d> MakeSmallConv2d(const Conv2dOptions& options);

}  // namespace bdd
