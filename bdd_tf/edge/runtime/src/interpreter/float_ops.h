// The float operators that stay outside the delegate's graph in the files that `bdd convert` writes: the end of a
// network. They run once per image on a few thousand numbers, so these loops are plain.
#pragma once

#include <memory>
#include <vector>

#include "interpreter/model_file.h"
#include "ops/operator.h"

namespace bdd {

// A tensor at run time.
struct LiveTensor {
  TfLiteType type = kTfLiteFloat32;
  Shape shape;
  const void* data = nullptr;  // of constants, and of maps once they are computed
  bool constant = false;
  int64_t bytes = 0;
};

class FloatOperator {
 public:
  virtual ~FloatOperator() = default;
  // Checks the inputs, and sets the type and the shape of the output. An absent input is null.
  virtual bool Prepare(const std::vector<const LiveTensor*>& inputs, LiveTensor* output, Message* why) = 0;
  virtual void Run(const std::vector<const LiveTensor*>& inputs, void* output) = 0;
};

// Returns null if the operator is not supported. SupportedOperators lists the supported ones.
std::unique_ptr<FloatOperator> MakeFloatOperator(const ModelFile::Operator& op);
const char* SupportedOperators();
// The name of a builtin operator that occurs in detectors; "operator" for others.
const char* OperatorName(int32_t code);

}  // namespace bdd
