// CONV_2D of floats with a small window, as the first layer of a network has: a source of tiles.
#pragma once

#include <memory>

#include "operator.h"

namespace bdd {

// How the convolution finds its input: as it is, or as bytes that a table turns into floats, turned around or not.
struct Feed {
  bool bytes = false;
  Buffer<float> table;  // of bytes: [channels][256]
  bool planes = false;  // floats as [C, H, W]
  bool flip_rows = false, flip_columns = false;
};

struct ConvolutionOptions {
  bool same;
  int32_t stride_height, stride_width, dilation_height, dilation_width;
};

constexpr int64_t kMaxConvolutionProducts = 128;  // of a window: beyond, XNNPACK is faster

class Convolution : public Operator, public TileSource {
 public:
  // Images given to BeginImage look like this.
  virtual Feed* feed() = 0;
  // To be called when the feed is known.
  virtual void SetOffsets() = 0;
};

// Null without memory. Its inputs: map, filter [O, H, W, I], bias [O].
std::unique_ptr<Convolution> MakeConvolution(const ConvolutionOptions& options);

}  // namespace bdd
