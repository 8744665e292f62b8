// The forensic channels of an image (FFT log-magnitude, local binary pattern) and the 3 x 3 convolution that maps them
// and RGB to three channels: Lanzino et al., arXiv 2406.04932, section 3.2.
//
// In a .tflite file these are about eighty builtin operators on maps of one channel, most of them a pass over memory.
// ops/forensic_channels_match.h recognizes them; this operator computes the same formulas in a few passes.
#pragma once

#include <memory>
#include <vector>

#include "ops/operator.h"

namespace bdd {

struct ChannelsSpec {
  struct Plane {
    enum Kind { kRed, kGreen, kBlue, kSpectrum, kPattern } kind;
    float scale;   // factor of the result
    float offset;  // kSpectrum: the result is scale * ln(magnitude + offset)
  };
  int32_t height = 0, width = 0;
  std::vector<Plane> planes;
  const void *filter = nullptr, *bias = nullptr;  // floats [3, 3, 3, planes] and [3]; may be unaligned
};

constexpr int kMixed = 3;  // output channels of the convolution
constexpr int32_t kMaxSpectrumSide = 1024;

// Input: uint8 [N, H, W, 3]. Output: float32 [N, H, W, 3], or planar. Returns null if there is no memory.
std::unique_ptr<Operator> MakeChannels(const ChannelsSpec& spec);

}  // namespace bdd
