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

// Loops over a tile; the width is a constant where it is full, which lets the compiler keep pixels in registers.
template <typename F>
inline void CombineRows(F f, float* out, int64_t out_stride, const float* a, int64_t a_stride, const float* b,
                        int64_t b_stride, int rows, int width) {
  if (width == kTileChannels) {
    for (int r = 0; r < rows; ++r, out += out_stride, a += a_stride, b += b_stride) {
      float values[kTileChannels];  // lest the compiler fear that out overlaps a or b
      for (int c = 0; c < kTileChannels; ++c) values[c] = f(a[c], b[c]);
      std::memcpy(out, values, sizeof values);
    }
  } else {
    for (int r = 0; r < rows; ++r, out += out_stride, a += a_stride, b += b_stride) {
      for (int c = 0; c < width; ++c) out[c] = f(a[c], b[c]);
    }
  }
}

inline void Combine(Arithmetic operation, float* out, int64_t out_stride, const float* a, int64_t a_stride,
                    const float* b, int64_t b_stride, int rows, int width) {
  const auto run = [&](auto f) { CombineRows(f, out, out_stride, a, a_stride, b, b_stride, rows, width); };
  switch (operation) {
    case Arithmetic::kAdd: return run([](float x, float y) { return x + y; });
    case Arithmetic::kSubtract: return run([](float x, float y) { return x - y; });
    case Arithmetic::kMultiply: return run([](float x, float y) { return x * y; });
    case Arithmetic::kMaximum: return run([](float x, float y) { return x > y ? x : y; });
    case Arithmetic::kMinimum: return run([](float x, float y) { return x < y ? x : y; });
  }
}

inline void Prelu(float* out, int64_t out_stride, const float* a, int64_t a_stride, const float* slope, int rows,
                  int width) {
  CombineRows([](float x, float s) { return x > 0.0f ? x : s * x; }, out, out_stride, a, a_stride, slope, 0, rows, width);
}

inline void AddUp(float* sums, const float* a, int64_t a_stride, int rows, int width) {
  if (width == kTileChannels) {
    float values[kTileChannels];
    std::memcpy(values, sums, sizeof values);
    for (int r = 0; r < rows; ++r, a += a_stride) {
      for (int c = 0; c < kTileChannels; ++c) values[c] += a[c];
    }
    std::memcpy(sums, values, sizeof values);
  } else {
    for (int r = 0; r < rows; ++r, a += a_stride) {
      for (int c = 0; c < width; ++c) sums[c] += a[c];
    }
  }
}

template <void (*kPack)(const float* x, int64_t words, uint32_t* bits)>
inline void Signs(const float* a, int64_t a_stride, int rows, int width, uint32_t* bits, int64_t bits_stride) {
  for (int r = 0; r < rows; ++r, a += a_stride, bits += bits_stride) {
    if (width == kTileChannels) {
      kPack(a, 1, bits);
    } else {
      uint32_t word = 0;
      for (int c = 0; c < width; ++c) word |= static_cast<uint32_t>(a[c] < 0.0f) << c;
      *bits = word;
    }
  }
}

inline void MeanOfFour(float* out, int64_t out_stride, const float* a, int64_t a_stride, int64_t right, int64_t below,
                       int rows, int width) {
  for (int r = 0; r < rows; ++r, out += out_stride, a += a_stride) {
    const float *b = a + right, *c = a + below, *d = a + below + right;
    float values[kTileChannels];
    if (width == kTileChannels) {
      for (int i = 0; i < kTileChannels; ++i) values[i] = (a[i] + b[i] + c[i] + d[i]) * 0.25f;
      std::memcpy(out, values, sizeof values);
    } else {
      for (int i = 0; i < width; ++i) out[i] = (a[i] + b[i] + c[i] + d[i]) * 0.25f;
    }
  }
}

// kLanes sums side by side, in a fixed order: the same result on every call and machine with that many lanes.
template <int kLanes>
inline void Dense(const float* weights, const float* bias, const float* x, int64_t inputs, int64_t outputs, float* out) {
  for (int64_t o = 0; o < outputs; ++o, weights += inputs) {
    float lanes[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= inputs; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) lanes[l] += weights[i + l] * x[i + l];
    }
    float sum = 0.0f;
    for (; i < inputs; ++i) sum += weights[i] * x[i];
    for (int l = 0; l < kLanes; ++l) sum += lanes[l];
    out[o] = sum + bias[o];
  }
}

}  // namespace
}  // namespace bdd
