// The output transform of a binary convolution: multiplier and bias (float32 and int8 outputs) or thresholds (packed
// outputs), and the fused activation.
#pragma once

#include "ops/bconv2d_geometry.h"

namespace bdd {

class Bconv2dOutput {
 public:
  // Checks the vectors among the five inputs, and lays them out by blocks of channels.
  static bool Check(const Value* const* inputs, const Value& output, int32_t channels_out, Message* why);
  bool Pack(const Value* const* inputs, const Value& output, const Bconv2dGeometry& geometry, Message* why);

  TfLiteType type() const { return type_; }
  OutputTransform ForBlock(int64_t block) const;
  // Per output channel; only for float32 outputs without groups.
  const float* multiplier() const { return multiplier_.data(); }
  const float* bias() const { return bias_.data(); }

 private:
  bool PackThresholds(const Value& thresholds, const Bconv2dGeometry& geometry, Message* why);
  bool PackAffine(const Value* const* inputs, const Value& output, const Bconv2dGeometry& geometry, Message* why);

  TfLiteType type_ = kTfLiteFloat32;
  int64_t block_channels_ = 0;
  int32_t reduction_size_ = 0, clamp_min_ = 0, clamp_max_ = 0;
  Buffer<float> multiplier_, bias_;
  Buffer<int32_t> thresholds_;
};

}  // namespace bdd
