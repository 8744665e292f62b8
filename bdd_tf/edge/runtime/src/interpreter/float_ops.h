// The float operators that the delegate leaves: the end of a binary network, its first layers, and float networks. The
// families are in float_*.cc; each has a function here that makes its operators.
#pragma once

#include <memory>
#include <vector>

#include "interpreter/model_file.h"
#include "kernels/kernel_set.h"
#include "ops/operator.h"
#include "support/threads.h"

namespace bdd {

// A tensor at run time.
struct LiveTensor {
  TfLiteType type = kTfLiteFloat32;
  Shape shape;
  const void* data = nullptr;  // of constants, and of maps once they are computed
  bool constant = false;
  int64_t bytes = 0;
  float scale = 0.0f;  // int8: quantization parameters
  int32_t zero_point = 0;
};

// What operators compute with.
struct Machine {
  const KernelSet* kernels;
  ThreadPool* threads;
};

class FloatOperator {
 public:
  using Inputs = std::vector<const LiveTensor*>;

  virtual ~FloatOperator() = default;
  // Checks the inputs, and sets the type and the shape of the output. An absent input is null. Constants hold their
  // data.
  virtual bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) = 0;
  // Does not allocate.
  virtual void Run(const Inputs& inputs, void* output) = 0;
};

// Returns null if the operator is not supported, or memory is short.
std::unique_ptr<FloatOperator> MakeFloatOperator(const ModelFile::Operator& op, const Machine& machine);

// Parts of MakeFloatOperator; null for operators of other families.
FloatOperator* NewElementwise(const ModelFile::Operator& op);
FloatOperator* NewConvolution(const ModelFile::Operator& op, const Machine& machine);
FloatOperator* NewReduction(const ModelFile::Operator& op, const Machine& machine);
FloatOperator* NewRearrangement(const ModelFile::Operator& op);

// --- Helpers of the families ----------------------------------------------------------------------------------------

inline const float* Floats(const LiveTensor& tensor) { return static_cast<const float*>(tensor.data); }

inline bool IsFloat(const LiveTensor* tensor) {
  return tensor != nullptr && tensor->type == kTfLiteFloat32 && tensor->shape.Elements() > 0;
}

// Sets the output's type and shape. Returns false if the shape is empty or too large.
bool SetFloats(const Shape& shape, LiveTensor* output, Message* why);

// Reads a constant list of int32. Returns false if the tensor is none, or longer than Shape::kMaxRank.
bool ReadInts(const LiveTensor* tensor, std::vector<int32_t>* values);

// A fused activation as a clamp.
class Clamp {
 public:
  explicit Clamp(int32_t activation) : activation_(activation) {}
  bool known() const;
  void Apply(float* values, int64_t count) const;

 private:
  int32_t activation_;
};

}  // namespace bdd
