#include "interpreter/float_ops.h"

#include "tflite/builtin_ops.h"

namespace bdd {

std::unique_ptr<FloatOperator> MakeFloatOperator(const ModelFile::Operator& op, const Machine& machine) {
  FloatOperator* made = NewElementwise(op);
  if (made == nullptr) made = NewConvolution(op, machine);
  if (made == nullptr) made = NewReduction(op, machine);
  if (made == nullptr) made = NewRearrangement(op);
  return std::unique_ptr<FloatOperator>(made);
}

bool SetFloats(const Shape& shape, LiveTensor* output, Message* why) {
  if (shape.Elements() < 1) return why->Set("the result would be empty or too large");
  output->type = kTfLiteFloat32;
  output->shape = shape;
  return true;
}

bool ReadInts(const LiveTensor* tensor, std::vector<int32_t>* values) {
  constexpr int64_t kSize = sizeof(int32_t);
  if (tensor == nullptr || !tensor->constant || tensor->type != kTfLiteInt32 || tensor->bytes % kSize != 0 ||
      tensor->bytes / kSize > Shape::kMaxRank) {
    return false;
  }
  values->assign(static_cast<size_t>(tensor->bytes / kSize), 0);
  if (!values->empty()) std::memcpy(values->data(), tensor->data, static_cast<size_t>(tensor->bytes));
  return true;
}

bool Clamp::known() const { return activation_ >= kActivationNone && activation_ <= kActivationRelu6; }

void Clamp::Apply(float* values, int64_t count) const {
  if (activation_ == kActivationNone) return;
  const float low = activation_ == kActivationReluN1To1 ? -1.0f : 0.0f;
  const float high = activation_ == kActivationReluN1To1 ? 1.0f
                     : activation_ == kActivationRelu6   ? 6.0f
                                                         : 3.4028235e38f;
  if (activation_ == kActivationRelu) {
    for (int64_t i = 0; i < count; ++i) values[i] = values[i] < 0.0f ? 0.0f : values[i];
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const float x = values[i] < low ? low : values[i];
    values[i] = x > high ? high : x;
  }
}

}  // namespace bdd
