// The windows of a float convolution over a map with zeros around it.
#pragma once

#include <cstdint>

#include "ops/operator.h"
#include "support/memory.h"
#include "support/threads.h"

namespace bdd {

// Of a large map, most windows lie inside and are read where they are. Only those at the border, which have zeros in
// them, are copied, unless that is more than the whole map with its zeros. A small map is copied as a whole.
class PaddedMap {
 public:
  struct Geometry {
    int32_t padding, stride_width, stride_height, dilation_width, dilation_height;
  };

  // `height` and `width` are the filter's, `map` is [N, H, W, C].
  bool Prepare(const Geometry& geometry, const Shape& map, int32_t height, int32_t width, Message* why);
  // Makes Load copy the whole map, with room for reads behind its end. Between Prepare and Allocate.
  void AlwaysCopy();
  bool Allocate(Message* why);
  // Copies what is not read where it is. Returns the map, or its copy, for Point.
  const float* Load(const float* map, ThreadPool* threads);

  int64_t pixels() const { return int64_t{rows_.output} * columns_.output; }
  int64_t depth() const { return depth_; }
  void SetShape(int32_t channels, Shape* shape) const;
  // Offsets lead from the first value of a window to the pixel at a row and column of the filter. There are two of
  // them: in the map (or its copy), and in the copy of a window.
  int32_t OffsetOf(int64_t row, int64_t column, bool in_copy) const {
    const int64_t stride = whole_ ? columns_.padded : columns_.input;
    const int64_t pixel =
        in_copy ? row * columns_.size + column : row * rows_.dilation * stride + column * columns_.dilation;
    return static_cast<int32_t>(pixel * depth_);
  }
  // Sets the first values of the windows of output pixels from `first` on, of at most `count`: of those in front of
  // which *in_copy does not change. Returns their number, at least 1.
  int Point(const float* loaded, int64_t first, int count, const float** windows, bool* in_copy) const;

 private:
  // Output rows, or columns, [first, end) whose windows lie inside the map.
  struct Inside {
    int64_t first = 0, end = 0;
    int64_t count() const { return end - first; }
    bool Holds(int64_t i) const { return i >= first && i < end; }
  };
  static Inside InsideOf(const Window& window);
  bool IsInside(int64_t y, int64_t x) const { return whole_ || (inside_rows_.Holds(y) && inside_columns_.Holds(x)); }
  // The number of a border pixel among all of them, row by row.
  int64_t BorderNumber(int64_t y, int64_t x) const;
  void CopyRow(const float* map, int64_t y);
  void CopyBorder(const float* map, int64_t y);
  void CopyWindow(const float* map, int64_t y, int64_t x);

  Window rows_ = {1, 1, 1}, columns_ = {1, 1, 1};
  Inside inside_rows_, inside_columns_;
  int64_t depth_ = 1, window_ = 1, count_ = 0;
  bool whole_ = false;  // whether the whole map is copied
  Buffer<float> copy_;  // of the map, or of the windows at the border
};

}  // namespace bdd
