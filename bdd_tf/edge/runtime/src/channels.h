// Forensic channels (FFT log-magnitude, local binary pattern) beside RGB, and the 3 x 3 convolution that mixes them.
//
// In a .tflite file these are some eighty built-in operators on maps of one channel, most of them a pass over memory.
// What they compute is recognised (channels_match.cc) and done here in a few passes, by the same formulas
// (Lanzino et al., arXiv 2406.04932, section 3.2; bdd_tf/channels.py).
#pragma once

#include <memory>
#include <vector>

#include "operator.h"

namespace bdd {

struct ChannelsSpec {
  struct Plane {
    enum Kind { kRed, kGreen, kBlue, kSpectrum, kPattern } kind;
    float scale;   // of the result
    float offset;  // kSpectrum: scale * ln(magnitude + offset)
  };
  int32_t height = 0, width = 0;
  std::vector<Plane> planes;
  const void *filter = nullptr, *bias = nullptr;  // [3, 3, 3, planes], [3]
};

constexpr int kMixed = 3;  // channels that the convolution makes
constexpr int32_t kMaxSpectrumSide = 1024;

// Null without memory. Its input: bytes [N, H, W, 3]; its output: floats [N, H, W, 3].
std::unique_ptr<Operator> MakeChannels(const ChannelsSpec& spec);

}  // namespace bdd
