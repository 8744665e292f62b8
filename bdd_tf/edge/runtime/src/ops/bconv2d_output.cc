// Inputs 2, 3 and 4 of LceBconv2d are multiplier, bias and threshold; the output's type decides which of them are used.
#include "ops/bconv2d_output.h"

#include <cmath>

#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

constexpr int kMultiplier = 2, kBias = 3, kThreshold = 4;

template <typename T>
T ElementOf(const Value& vector, int64_t i) {
  T element = 0;  // the file's bytes may be unaligned
  std::memcpy(&element, static_cast<const uint8_t*>(vector.constant) + 4 * i, 4);
  return element;
}

}  // namespace

bool Bconv2dOutput::Check(const Value* const* inputs, const Value& output, int32_t channels_out, Message* why) {
  const auto vector = [&](int i, TfLiteType type, const char* name) {
    const Value* value = inputs[i];
    if (value == nullptr || value->constant == nullptr || value->type != type || value->shape.rank != 1 ||
        value->shape.dims[0] != channels_out || value->bytes < int64_t{4} * channels_out) {
      return why->Set("%s is not a constant vector of %d values", name, channels_out);
    }
    return true;
  };
  if (output.type == kTfLiteInt32) return vector(kThreshold, kTfLiteInt32, "the threshold");
  if (output.type != kTfLiteFloat32 && output.type != kTfLiteInt8) {
    return why->Set("the output's type is %d, not float32, int8 or int32", static_cast<int>(output.type));
  }
  if (output.type == kTfLiteInt8 && !(output.scale > 0.0f && std::isfinite(output.scale))) {
    return why->Set("the int8 output has no scale");
  }
  return vector(kMultiplier, kTfLiteFloat32, "the multiplier") && vector(kBias, kTfLiteFloat32, "the bias");
}

bool Bconv2dOutput::Pack(const Value* const* inputs, const Value& output, const Bconv2dGeometry& geometry,
                         Message* why) {
  type_ = output.type;
  block_channels_ = geometry.block_channels;
  reduction_size_ = geometry.reduction_size;
  if (type_ == kTfLiteInt32) return PackThresholds(*inputs[kThreshold], geometry, why);
  return PackAffine(inputs, output, geometry, why);
}

bool Bconv2dOutput::PackThresholds(const Value& thresholds, const Bconv2dGeometry& geometry, Message* why) {
  if (!thresholds_.Reset(geometry.padded_channels())) return why->Set("no memory for the thresholds");
  // Missing channels give bit 0.
  for (int64_t i = 0; i < thresholds_.size(); ++i) thresholds_[i] = INT32_MAX;
  for (int64_t o = 0; o < geometry.channels_out; ++o) {
    // The file's threshold applies to a popcount, the kernel's to K - dot, which is twice the popcount. Beyond these
    // bounds the result does not depend on the input.
    const int64_t twice = 2 * int64_t{ElementOf<int32_t>(thresholds, o)}, bound = 4 * kMaxReductionSize;
    thresholds_[geometry.PaddedChannel(o)] = static_cast<int32_t>(twice > bound    ? bound
                                                                  : twice < -bound ? -bound
                                                                                   : twice);
  }
  return true;
}

bool Bconv2dOutput::PackAffine(const Value* const* inputs, const Value& output, const Bconv2dGeometry& geometry,
                               Message* why) {
  clamp_min_ = -reduction_size_;
  clamp_max_ = reduction_size_;
  const int32_t activation = geometry.activation;
  if (activation == kActivationRelu || activation == kActivationRelu6) clamp_min_ = 0;
  if (activation == kActivationRelu6 && clamp_max_ > 6) clamp_max_ = 6;
  if (activation == kActivationReluN1To1) {
    clamp_min_ = -1;
    clamp_max_ = 1;
  }
  const int64_t padded = geometry.padded_channels();
  if (!multiplier_.Reset(padded) || !bias_.Reset(padded)) return why->Set("no memory for multiplier and bias");
  for (int64_t o = 0; o < geometry.channels_out; ++o) {
    auto multiplier = ElementOf<float>(*inputs[kMultiplier], o), bias = ElementOf<float>(*inputs[kBias], o);
    if (type_ == kTfLiteInt8) {
      multiplier = static_cast<float>(double{multiplier} / double{output.scale});
      bias = static_cast<float>(double{bias} / double{output.scale} + output.zero_point);
    }
    multiplier_[geometry.PaddedChannel(o)] = multiplier;
    bias_[geometry.PaddedChannel(o)] = bias;
  }
  return true;
}

OutputTransform Bconv2dOutput::ForBlock(int64_t block) const {
  OutputTransform transform = {reduction_size_, clamp_min_, clamp_max_, nullptr, nullptr, nullptr};
  if (type_ == kTfLiteInt32) {
    transform.thresholds = thresholds_.data() + block * block_channels_;
  } else {
    transform.multiplier = multiplier_.data() + block * block_channels_;
    transform.bias = bias_.data() + block * block_channels_;
  }
  return transform;
}

}  // namespace bdd
