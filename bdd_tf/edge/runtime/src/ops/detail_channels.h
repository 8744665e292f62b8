// RGB and the undecimated Haar details of luma at two scales, normalized for a stem that sees all of them:
// bdd_tf/models/channels/haar.py.
//
// In a .tflite file these are a mirrored padding, a 4 x 4 convolution and seven passes over maps of up to nine
// channels. ops/detail_channels_match.h recognizes them; this operator computes the same formulas in two passes.
#pragma once

#include <memory>

#include "ops/operator.h"

namespace bdd {

constexpr int kDetails = 6;                  // horizontal, vertical, diagonal; over 2 x 2, then over 4 x 4 pixels
constexpr int kDetailPlanes = 3 + kDetails;  // after RGB

// Rec. 601 luma in thousandths. Sums over 4 x 4 pixels stay below 2^24, so that floats hold them exactly.
constexpr float kLumaThousandths[3] = {299.0f, 587.0f, 114.0f};
// Grey levels at which details are clipped.
constexpr float kDetailRange = 16.0f;

// Plane c is factor[c] * x - offset[c]. For RGB, x is a byte times rgb_scale; for details, the clipped detail moved
// from [-1, 1] to [0, 1].
struct DetailsSpec {
  int32_t height = 0, width = 0;  // at least 3
  float rgb_scale = 0.0f;
  float factor[kDetailPlanes] = {}, offset[kDetailPlanes] = {};
};

// Input: uint8 [N, H, W, 3]. Output: float32 [N, H, W, 9], or planar. Returns null if there is no memory.
std::unique_ptr<Operator> MakeDetails(const DetailsSpec& spec);

}  // namespace bdd
