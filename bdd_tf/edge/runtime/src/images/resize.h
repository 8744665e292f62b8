// The resize transform of files without native crops: bdd_tf/edge/images/resize.py in C++.
#pragma once

#include <cstdint>

#include "images/pixels.h"
#include "ops/operator.h"
#include "support/memory.h"

namespace bdd {

// Resize the shorter side to `shorter_side`, then crop the central square of `size`.
struct ResizeRule {
  int size = 0, shorter_side = 0;
};

// Resizes as Pillow 13's bilinear filter does, to the bit: antialiased, one axis after the other, with 22 fractional
// bits and rounding to 8 bits after each. Rows are streamed, so that an image needs memory for a few rows and the
// result.
class Resizer {
 public:
  // Prepares memory for images of a size. Returns false and the reason if it is short or the image is too thin.
  bool Reserve(const ResizeRule& rule, int width, int height, Message* why);

  // Writes the network's input, size * size * 3 bytes, and the part of the image that it shows. The memory grows if the
  // image needs more than those before it.
  bool Apply(const ResizeRule& rule, const PixelReader& image, uint8_t* rgb, bdd_box* box, Message* why);

 private:
  // Weights of one axis: output `i` of those that remain after the crop reads `count[i]` inputs from `first[i]`.
  struct Axis {
    int resized = 0, crop = 0, taps = 0;
    Buffer<int32_t> first, count, weights;
    bool Reserve(const ResizeRule& rule, int64_t length, int64_t resized_length);
    void Set(const ResizeRule& rule, int length, int resized_length);
  };
  static bool ResizedSize(const ResizeRule& rule, int width, int height, int64_t* across, int64_t* down, Message* why);
  void HorizontalFirst(int size, const PixelReader& image, uint8_t* rgb);
  void VerticalFirst(int size, const PixelReader& image, uint8_t* rgb);
  void Across(int size, const uint8_t* row, uint8_t* narrow) const;
  int start() const { return across_.first[0]; }
  int stop() const { return across_.first[across_.first.size() - 1] + across_.count[across_.first.size() - 1]; }

  Axis across_, down_;
  Buffer<uint8_t> row_, narrow_;
  Buffer<int32_t> sums_;
};

}  // namespace bdd
