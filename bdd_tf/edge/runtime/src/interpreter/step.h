// What interpreter.cc (loading) and interpreter_run.cc (preparing and running) share.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "interpreter/interpreter.h"

namespace bdd {

inline Shape ShapeOf(const TfLiteIntArray* dims) {
  Shape shape;
  shape.rank = std::min(dims->size, Shape::kMaxRank);
  for (int i = 0; i < shape.rank; ++i) shape.dims[i] = dims->data[i];
  return shape;
}

// Nodes that run together: a part of the delegate's, or one float operator.
struct Interpreter::Step {
  TfLiteNode delegated = {};  // user_data is the part; null for a float operator
  std::unique_ptr<FloatOperator> op;
  std::vector<int> inputs;
  int output = -1, number = -1;
  bool runs_once = false;  // in Prepare: it unpacks a constant
  // Aligned copies of constants that are not aligned in the file; their data pointers in `live` lead here.
  std::vector<std::unique_ptr<Buffer<uint8_t>>> constants;
  std::vector<LiveTensor> live;
  std::vector<const LiveTensor*> arguments;
};

}  // namespace bdd
