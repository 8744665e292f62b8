// What all instruction sets share: the end of a tile. Included once by each file of kernels and compiled there
// with its instruction set; hence the unnamed namespace, which keeps the copies apart.
#pragma once

#include <cmath>
#include <cstring>
#include <utility>

#include "kernels.h"

namespace bdd {
namespace {

// Calls f with the constants 0 to kCount - 1. Where arrays shall live in registers, their indices have to be constants
// from the start: GCC unrolls loops too late for that, and keeps the arrays in memory.
template <typename F, int... kIndex>
__attribute__((always_inline)) inline void UnrollOver(const F& f, std::integer_sequence<int, kIndex...>) {
  (f(std::integral_constant<int, kIndex>()), ...);
}
template <int kCount, typename F>
__attribute__((always_inline)) inline void Unroll(const F& f) {
  UnrollOver(f, std::make_integer_sequence<int, kCount>());
}

constexpr int32_t kNoCorrection[kMaxChannels] = {};

template <int kChannels>
inline void FinishFloat(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& e,
                        float* out, int64_t stride, int valid) {
  for (int m = 0; m < count; ++m, sums += kChannels, out += stride) {
    const int32_t* correction = corrections[m] != nullptr ? corrections[m] : kNoCorrection;
    alignas(64) float values[kChannels];
    float* target = valid == kChannels ? out : values;
    for (int n = 0; n < kChannels; ++n) {
      int32_t dot = e.products - 2 * sums[n] - correction[n];
      dot = dot < e.low ? e.low : dot;
      dot = dot > e.high ? e.high : dot;
      target[n] = static_cast<float>(dot) * e.multiplier[n] + e.bias[n];
    }
    if (valid != kChannels) std::memcpy(out, values, static_cast<size_t>(valid) * sizeof(float));
  }
}

template <int kChannels>
inline void FinishInt8(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& e,
                       int8_t* out, int64_t stride, int valid) {
  for (int m = 0; m < count; ++m, sums += kChannels, out += stride) {
    const int32_t* correction = corrections[m] != nullptr ? corrections[m] : kNoCorrection;
    for (int n = 0; n < valid; ++n) {
      int32_t dot = e.products - 2 * sums[n] - correction[n];
      dot = dot < e.low ? e.low : dot;
      dot = dot > e.high ? e.high : dot;
      const float y = static_cast<float>(dot) * e.multiplier[n] + e.bias[n];
      // Saturated as float: a conversion out of range is undefined, and so is that of not-a-number, which fails here.
      const float bounded = y > -128.0f ? (y < 127.0f ? y : 127.0f) : -128.0f;
      out[n] = static_cast<int8_t>(std::lround(bounded));
    }
  }
}

template <int kChannels>
inline void FinishBits(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& e,
                       uint8_t* out, int64_t stride, int valid) {
  const int bytes = (valid + 7) / 8;
  for (int m = 0; m < count; ++m, sums += kChannels, out += stride) {
    const int32_t* correction = corrections[m] != nullptr ? corrections[m] : kNoCorrection;
    for (int b = 0; b < bytes; ++b) {
      unsigned bits = 0;
      for (int n = 8 * b; n < 8 * b + 8; ++n) {
        bits |= static_cast<unsigned>(2 * sums[n] + correction[n] > e.thresholds[n]) << (n % 8);
      }
      out[b] = static_cast<uint8_t>(bits);
    }
  }
}

}  // namespace
}  // namespace bdd
