// Tensor shapes whose sizes can be computed without overflow, also for damaged models.
#pragma once

#include <cstdint>

#include "support/memory.h"

namespace bdd {

struct Shape {
  static constexpr int kMaxRank = 8;
  int rank = 0;
  int32_t dims[kMaxRank] = {};

  // Product of dims[first, last); -1 if a dimension is negative or the product exceeds kMaxBytes.
  int64_t Product(int first, int last) const {
    int64_t product = 1;
    for (int i = first; i < last; ++i) product = Times(product, dims[i]);
    return product;
  }
  int64_t Elements() const { return Product(0, rank); }
};

}  // namespace bdd
