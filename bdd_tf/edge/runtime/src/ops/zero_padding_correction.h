// Zero padding of a binary convolution. The padding's bits are 0, which means +1, where zero padding wants 0: the dot
// product is too large by the sum of the signs of all taps that lie in the padding. That sum depends only on which taps
// these are, so it is computed once for each distinct set of them.
//
// Rows of output pixels with the same taps outside form a class, and so do columns; class 0 has all taps inside. Each
// pair of a row class and a column class has one correction per output channel.
#pragma once

#include "ops/bconv2d_filter.h"

namespace bdd {

class ZeroPaddingCorrection {
 public:
  // Does nothing for VALID padding and for padding with ones.
  bool Plan(const Bconv2dGeometry& geometry, const PackedFilter& filter, Message* why);

  bool active() const { return active_; }

  // The corrections of `count` output pixels of row y from column x on, for channels from `channel` (counted over all
  // blocks) on. Null where nothing has to be corrected.
  void List(int64_t y, int64_t x, int count, int64_t channel, const int32_t** corrections) const {
    const int32_t row = row_class_[y];
    const int32_t* corrected = corrections_.data() + row * column_classes_ * channels_ + channel;
    for (int m = 0; m < count; ++m) {
      const int32_t column = column_class_[x + m];
      corrections[m] = (row | column) == 0 ? nullptr : corrected + column * channels_;
    }
  }

 private:
  bool active_ = false;
  int32_t column_classes_ = 1;
  int64_t channels_ = 0;  // of all blocks
  Buffer<int32_t> row_class_, column_class_;
  Buffer<int32_t> corrections_;  // [row classes][column classes][channels]
};

}  // namespace bdd
