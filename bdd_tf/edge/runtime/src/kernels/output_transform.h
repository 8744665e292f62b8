// Output transforms: from popcounts to dot products (K - 2 * popcount, minus the zero-padding correction), clamped by
// the fused activation, and then to floats, int8, bits or int16 accumulators. Included once by each kernel file.
#pragma once

#include <cmath>
#include <cstring>

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

namespace bdd {
namespace {

constexpr int32_t kNoCorrection[kMaxChannels] = {};

template <int kChannels, typename F>
inline void TransformRow(const int32_t* popcounts, const OutputTransform& t, float* out, int valid, F dot_of) {
  float values[kChannels];
  for (int n = 0; n < kChannels; ++n) {
    values[n] = static_cast<float>(dot_of(popcounts[n], n)) * t.multiplier[n] + t.bias[n];
  }
  std::memcpy(out, values, static_cast<size_t>(valid) * sizeof(float));
}

template <int kChannels>
inline void output_transform_i32_f32(const AccumulatorTile& tile, const OutputTransform& t, float* out,
                                     int64_t stride) {
  const int32_t* popcounts = tile.popcounts;
  const int count = tile.count, valid = tile.valid;
  const bool clamps = t.clamps();
  const int32_t k = t.reduction_size, low = t.clamp_min, high = t.clamp_max;
  for (int m = 0; m < count; ++m, popcounts += kChannels, out += stride) {
    const int32_t* correction = tile.corrections[m];
    if (correction == nullptr && !clamps && valid == kChannels) {  // the common case
      TransformRow<kChannels>(popcounts, t, out, kChannels, [&](int32_t popcount, int) { return k - 2 * popcount; });
      continue;
    }
    if (correction == nullptr) correction = kNoCorrection;
    TransformRow<kChannels>(popcounts, t, out, valid, [&](int32_t popcount, int n) {
      int32_t dot = k - 2 * popcount - correction[n];
      dot = dot < low ? low : dot;
      return dot > high ? high : dot;
    });
  }
}

template <int kChannels>
inline void output_transform_i32_i8(const AccumulatorTile& tile, const OutputTransform& t, int8_t* out,
                                    int64_t stride) {
  const int32_t* popcounts = tile.popcounts;
  const int count = tile.count, valid = tile.valid;
  for (int m = 0; m < count; ++m, popcounts += kChannels, out += stride) {
    const int32_t* correction = tile.corrections[m] != nullptr ? tile.corrections[m] : kNoCorrection;
    for (int n = 0; n < valid; ++n) {
      int32_t dot = t.reduction_size - 2 * popcounts[n] - correction[n];
      dot = dot < t.clamp_min ? t.clamp_min : dot;
      dot = dot > t.clamp_max ? t.clamp_max : dot;
      const float y = static_cast<float>(dot) * t.multiplier[n] + t.bias[n];
      // Saturate as float: converting an out-of-range float or NaN is undefined. NaN fails both comparisons.
      const float saturated = y > -128.0f ? (y < 127.0f ? y : 127.0f) : -128.0f;
      out[n] = static_cast<int8_t>(std::lround(saturated));
    }
  }
}

template <int kChannels>
inline void output_transform_i32_b1(const AccumulatorTile& tile, const OutputTransform& t, uint8_t* out,
                                    int64_t stride) {
  const int32_t* popcounts = tile.popcounts;
  const int count = tile.count, bytes = (tile.valid + 7) / 8;
  for (int m = 0; m < count; ++m, popcounts += kChannels, out += stride) {
    const int32_t* correction = tile.corrections[m] != nullptr ? tile.corrections[m] : kNoCorrection;
    for (int b = 0; b < bytes; ++b) {
      unsigned bits = 0;
      for (int n = 8 * b; n < 8 * b + 8; ++n) {
        bits |= static_cast<unsigned>(2 * popcounts[n] + correction[n] > t.thresholds[n]) << (n % 8);
      }
      out[b] = static_cast<uint8_t>(bits);
    }
  }
}

// The first kWidth of a block's kChannels channels. FMA contraction is safe: the dot products are integers, only the
// totals are rounded.
template <int kChannels, int kWidth, bool kClamps>
inline void TransformToInt16(const AccumulatorTile& tile, const OutputTransform& t, const float* slopes, float* totals,
                             int16_t* out, int64_t stride) {
  BDD_ALLOW_FMA
  const int32_t* popcounts = tile.popcounts;
  const int count = tile.count, valid = tile.valid;
  constexpr int kVectors = kWidth / BDD_LANES;
  const IntLanes k = t.reduction_size - IntLanes{}, low = t.clamp_min - IntLanes{}, high = t.clamp_max - IntLanes{};
  Lanes multiplier[kVectors], bias[kVectors], slope[kVectors], local[kVectors] = {};
  Unroll<kVectors>([&](auto v) BDD_INLINE {
    multiplier[v] = Load(t.multiplier + v * BDD_LANES);
    bias[v] = Load(t.bias + v * BDD_LANES);
    slope[v] = Load(slopes + v * BDD_LANES);
  });
  for (int m = 0; m < count; ++m, popcounts += kChannels, out += stride) {
    int16_t buffer[kWidth];
    int16_t* to = valid == kWidth ? out : buffer;
    const int32_t* correction = tile.corrections[m];
    IntLanes dot[kVectors];
    Unroll<kVectors>([&](auto v) BDD_INLINE {
      const IntLanes sum = LoadInts(popcounts + v * BDD_LANES);
      dot[v] = k - (sum + sum);
    });
    if (correction != nullptr) {
      Unroll<kVectors>([&](auto v) BDD_INLINE { dot[v] -= LoadInts(correction + v * BDD_LANES); });
    }
    Unroll<kVectors>([&](auto v) BDD_INLINE {
      if (kClamps) {
        dot[v] = dot[v] < low ? low : dot[v];
        dot[v] = dot[v] > high ? high : dot[v];
      }
      const Lanes x = __builtin_convertvector(dot[v], Lanes) * multiplier[v] + bias[v];
      local[v] += PreluOf(x, slope[v]);
    });
    StoreShorts<kVectors>(dot, to);
    if (to == buffer) std::memcpy(out, buffer, static_cast<size_t>(valid) * sizeof(int16_t));
  }
  if (valid == kWidth) {
    Unroll<kVectors>([&](auto v)
                         BDD_INLINE { Store(totals + v * BDD_LANES, Load(totals + v * BDD_LANES) + local[v]); });
    return;
  }
  float rest[kWidth];
  Unroll<kVectors>([&](auto v) BDD_INLINE { Store(rest + v * BDD_LANES, local[v]); });
  for (int n = 0; n < valid; ++n) totals[n] += rest[n];
}

// Computes only the first half of the block where no channel of the second half is valid.
template <int kChannels>
inline void output_transform_i32_i16(const AccumulatorTile& tile, const OutputTransform& t, const float* slopes,
                                     float* totals, int16_t* out, int64_t stride) {
  constexpr int kHalf = kChannels / 2 < BDD_LANES ? kChannels : kChannels / 2;
  const bool half = tile.valid <= kHalf, clamps = t.clamps();
  const auto transform =
      half ? (clamps ? TransformToInt16<kChannels, kHalf, true> : TransformToInt16<kChannels, kHalf, false>)
           : (clamps ? TransformToInt16<kChannels, kChannels, true> : TransformToInt16<kChannels, kChannels, false>);
  transform(tile, t, slopes, totals, out, stride);
}

}  // namespace
}  // namespace bdd
