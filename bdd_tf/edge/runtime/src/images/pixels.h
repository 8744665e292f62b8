// Reads pixels of an image in the caller's memory as RGB, whatever their layout.
#pragma once

#include <cstddef>
#include <cstdint>

#include "include/bdd.h"

namespace bdd {

// The largest images that are scored, in pixels: as in bdd_tf/edge/images/errors.py.
constexpr int64_t kMaxImagePixels = 100'000'000;
constexpr int kMaxSide = 65535;

// Returns null, or a sentence if no image has this size.
const char* SizeProblem(int width, int height);

// Checks the description of an image, but not its pointers, and replaces strides of 0 and a
// chroma_step of 0 by what they mean. `bytes` gets the size that each plane has at least; 0 if the format lacks it.
// Returns null, or a sentence if the description is impossible.
const char* CompleteDescription(bdd_image* image, int64_t (&bytes)[3]);

class PixelReader {
 public:
  // Returns false and sets `why` to a sentence if the description is impossible or a plane is missing. Keeps the
  // pointers, not the pixels.
  bool Set(const bdd_image& image, const char** why);

  int width() const { return image_.width; }
  int height() const { return image_.height; }

  // Writes the pixels [left, left + count) of a row as RGB to `rgb`, 3 * count bytes.
  void Read(int row, int left, int count, uint8_t* rgb) const;

 private:
  const uint8_t* Row(int plane, int row) const {
    return image_.planes[plane] + static_cast<size_t>(row) * image_.strides[plane];
  }
  void ReadInterleaved(int row, int left, int count, uint8_t* rgb) const;
  void ReadYuv(int row, int left, int count, uint8_t* rgb) const;

  bdd_image image_ = {};
};

}  // namespace bdd
