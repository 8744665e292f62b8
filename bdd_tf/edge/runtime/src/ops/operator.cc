// Options, sliding windows, and the list of custom operators.
#include "ops/operator.h"

#include <cstring>

#include "tflite/flexbuffer.h"

namespace bdd {

bool ReadOption(const uint8_t* options, size_t size, const char* key, int64_t low, int64_t high, int32_t* value,
                Message* why) {
  int64_t found = 0;
  if (!FlexbufferInt(options, size, key, &found)) return why->Set("the option %s is missing or no integer", key);
  if (found < low || found > high) {
    return why->Set("the option %s is %lld, not in %lld to %lld", key, static_cast<long long>(found),
                    static_cast<long long>(low), static_cast<long long>(high));
  }
  *value = static_cast<int32_t>(found);
  return true;
}

bool CheckImages(const Value* const* inputs, int count, int32_t height, int32_t width, const Value& output,
                 Message* why) {
  if (count != 1 || inputs[0] == nullptr) return why->Set("expected one input");
  const Shape& shape = inputs[0]->shape;
  if (inputs[0]->type != kTfLiteUInt8 || inputs[0]->constant != nullptr || shape.rank != 4 || shape.dims[0] < 1 ||
      shape.dims[3] != 3) {
    return why->Set("the input is not uint8 [N, H, W, 3]");
  }
  if (output.type != kTfLiteFloat32) return why->Set("the output is not float32");
  if (shape.dims[1] != height || shape.dims[2] != width) {
    return why->Set("an image of %d x %d; the model is made for %d x %d", shape.dims[1], shape.dims[2], height, width);
  }
  return true;
}

bool Window::Fit(int32_t length, bool same) {
  input = length;
  const int64_t reach = Reach();
  if (same) {
    const int64_t pixels = (int64_t{length} + stride - 1) / stride;
    const int64_t needed = (pixels - 1) * stride + reach - length;
    const int64_t padding = needed > 0 ? needed : 0;
    if (length + padding > INT32_MAX) return false;
    output = static_cast<int32_t>(pixels);
    before = static_cast<int32_t>(padding / 2);
    padded = static_cast<int32_t>(length + padding);
    return true;
  }
  if (reach > length) return false;
  output = static_cast<int32_t>((length - reach) / stride + 1);
  before = 0;
  padded = length;
  return true;
}

std::unique_ptr<Operator> MakeOperator(const char* name, const uint8_t* options, size_t size, Message* why) {
  if (std::strcmp(name, "LceQuantize") == 0) return MakeQuantize();
  if (std::strcmp(name, "LceDequantize") == 0) return MakeDequantize();
  if (std::strcmp(name, "LceBconv2d") == 0) return MakeBconv2d(options, size, why);
  if (std::strcmp(name, "LceBMaxPool2d") == 0) return MakeBMaxPool2d(options, size, why);
  why->Set("unknown operator %.40s", name);
  return nullptr;
}

}  // namespace bdd
