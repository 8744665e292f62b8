// See packed_constants.h.
#include "delegate/packed_constants.h"

#include <cstring>

#include "tflite/builtin_ops.h"

namespace bdd {

float FloatFromHalf(uint16_t half) {
  const uint32_t magnitude = half & 0x7fffu, sign = (half & 0x8000u) << 16;
  if (magnitude < 0x0400u) {  // zero or subnormal
    const float value = static_cast<float>(magnitude) / 16777216.0f;
    return sign != 0 ? -value : value;
  }
  // Infinity and NaN keep the largest exponent; other exponents change their bias from 15 to 127.
  const uint32_t bits = sign | (magnitude >= 0x7c00u ? 0x7f800000u | magnitude << 13 : (magnitude << 13) + 0x38000000u);
  float value = 0.0f;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

namespace {

bool IsTensor(const TfLiteContext& context, int index) {
  return index >= 0 && static_cast<size_t>(index) < context.tensors_size;
}

// Whether `floats` has the shape of the constant `packed`.
bool SameShape(const TfLiteTensor& packed, const TfLiteTensor& floats) {
  return packed.dims != nullptr && floats.dims != nullptr && floats.dims->size == packed.dims->size &&
         packed.dims->size >= 1 &&
         std::memcmp(floats.dims->data, packed.dims->data, sizeof(int) * static_cast<size_t>(packed.dims->size)) == 0;
}

bool HasSupportedFormat(const TfLiteTensor& packed) {
  const int64_t count = ElementCount(packed);
  if (count < 1) return false;
  if (packed.type == kTfLiteFloat16) return packed.bytes == 2 * static_cast<size_t>(count);
  // Tensors with a scale per channel have a scale of 0 here; the scales are in a struct that differs between runtimes.
  return packed.type == kTfLiteInt8 && packed.params.scale > 0.0f && packed.params.scale < 1e30f &&
         packed.params.zero_point == 0 && packed.bytes == static_cast<size_t>(count);
}

}  // namespace

int64_t ElementCount(const TfLiteTensor& tensor) {
  int64_t count = 1;
  for (int i = 0; i < tensor.dims->size; ++i) count = Times(count, tensor.dims->data[i]);
  return count;
}

int UnpackedTensor(TfLiteContext* context, int index, int* packed) {
  TfLiteNode* node = nullptr;
  TfLiteRegistration* registration = nullptr;
  if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk ||
      registration->builtin_code != kTfLiteBuiltinDequantize || node->inputs == nullptr || node->outputs == nullptr ||
      node->inputs->size != 1 || node->outputs->size != 1) {
    return -1;
  }
  const int from = node->inputs->data[0], to = node->outputs->data[0];
  if (!IsTensor(*context, from) || !IsTensor(*context, to)) return -1;
  const TfLiteTensor &constant = context->tensors[from], &floats = context->tensors[to];
  if (constant.allocation_type != kTfLiteMmapRo || constant.data == nullptr || floats.type != kTfLiteFloat32 ||
      !SameShape(constant, floats) || !HasSupportedFormat(constant)) {
    return -1;
  }
  if (packed != nullptr) *packed = from;
  return to;
}

PackedConstants FindPackedConstants(TfLiteContext* context, const std::vector<int>& nodes) {
  PackedConstants packed(context->tensors_size, -1);
  for (const int index : nodes) {
    int from = -1;
    const int unpacked = UnpackedTensor(context, index, &from);
    if (unpacked >= 0) packed[static_cast<size_t>(unpacked)] = from;
  }
  return packed;
}

bool Unpack(const TfLiteTensor& packed, Buffer<float>* floats) {
  const int64_t count = ElementCount(packed);
  if (!floats->Reset(count)) return false;
  for (int64_t i = 0; i < count; ++i) {
    if (packed.type == kTfLiteInt8) {
      (*floats)[i] = packed.params.scale * static_cast<float>(static_cast<const int8_t*>(packed.data)[i]);
    } else {
      uint16_t half = 0;  // the file's bytes may be unaligned
      std::memcpy(&half, static_cast<const uint8_t*>(packed.data) + 2 * i, 2);
      (*floats)[i] = FloatFromHalf(half);
    }
  }
  return true;
}

}  // namespace bdd
