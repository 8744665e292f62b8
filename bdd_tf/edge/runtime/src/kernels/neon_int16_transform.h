// output_transform_i32_i16 for NEON, 8 channels per register. The generic kernel computes prelu(m * d + b) of every dot
// product d in floats, only to sum it. This one sums integers: with s the slope, m > 0, and t the smallest integer that
// makes m * t + b positive,
//   sum prelu(m d + b) = s (m sum(d) + n b) + (1 - s) (m sum(d where d >= t) + b count(d >= t)),
// and for m < 0 the dot products with d < t take the place of those with d >= t. Included once by neon.cc.
#pragma once

#include "kernels/output_transform.h"

namespace bdd {
namespace {

constexpr int32_t kMostOfPair = INT16_MAX / 2;  // dot products of two pixels are added as int16

// The sums of dot products of 8 channels.
struct DotSums {
  int32x4_t all[2], high[2];  // of all, and of those from the threshold upwards
  uint16x8_t high_count;
};

// t of one channel.
inline int16_t PositiveFrom(float multiplier, float bias) {
  constexpr float kLimit = 16384.0f;  // beyond all dot products
  if (multiplier == 0.0f) return static_cast<int16_t>(bias > 0.0f ? -kLimit : kLimit);
  const float zero = -bias / multiplier;
  const float clamped = zero > -kLimit ? (zero < kLimit ? zero : kLimit) : -kLimit;  // NaN: -kLimit
  const int truncated = static_cast<int>(clamped);
  const float whole = static_cast<float>(truncated);
  // The smallest integer above `zero`; for a negative multiplier, the smallest one that is not below it.
  const bool next = multiplier > 0.0f ? whole <= clamped : whole < clamped;
  return static_cast<int16_t>(truncated + (next ? 1 : 0));
}

// The sums of prelu for 4 channels, from the sums of dot products.
inline Lanes PreluSum(const OutputTransform& t, int channel, Lanes slope, float pixels, const Lanes (&sums)[3]) {
  const Lanes m = Load(t.multiplier + channel), b = Load(t.bias + channel), count = pixels - Lanes{};
  const Lanes positive_sum = m < 0.0f ? sums[0] - sums[1] : sums[1];
  const Lanes positive_count = m < 0.0f ? count - sums[2] : sums[2];
  return slope * (m * sums[0] + count * b) + (1.0f - slope) * (m * positive_sum + b * positive_count);
}

inline Lanes ToLanes(int32x4_t values) {
  IntLanes same;
  std::memcpy(&same, &values, sizeof same);
  return __builtin_convertvector(same, Lanes);
}

// Dot products of 8 channels of one pixel. `correction` may be null.
BDD_INLINE inline int16x8_t DotsOf(const int32_t* popcounts, const int32_t* correction, int16x8_t reduction_size) {
  const int16x8_t counts = vcombine_s16(vmovn_s32(vld1q_s32(popcounts)), vmovn_s32(vld1q_s32(popcounts + 4)));
  const int16x8_t dots = vsubq_s16(reduction_size, vaddq_s16(counts, counts));
  if (correction == nullptr) return dots;
  return vsubq_s16(dots, vcombine_s16(vmovn_s32(vld1q_s32(correction)), vmovn_s32(vld1q_s32(correction + 4))));
}

BDD_INLINE inline void AddDots(int16x8_t dots, int16x8_t high, DotSums* sums) {
  sums->all[0] = vaddw_s16(sums->all[0], vget_low_s16(dots));
  sums->all[1] = vaddw_s16(sums->all[1], vget_high_s16(dots));
  sums->high[0] = vaddw_s16(sums->high[0], vget_low_s16(high));
  sums->high[1] = vaddw_s16(sums->high[1], vget_high_s16(high));
}

// Channels `first` to first + 7 of all pixels.
template <int kChannels, bool kCorrects>
inline void SumDots(const AccumulatorTile& tile, const OutputTransform& t, int first, const float* slopes,
                    float* totals, int16_t* out, int64_t stride) {
  int16_t thresholds[8];
  for (int c = 0; c < 8; ++c) thresholds[c] = PositiveFrom(t.multiplier[first + c], t.bias[first + c]);
  const int16x8_t threshold = vld1q_s16(thresholds), size = vdupq_n_s16(static_cast<int16_t>(t.reduction_size));
  DotSums sums = {{vdupq_n_s32(0), vdupq_n_s32(0)}, {vdupq_n_s32(0), vdupq_n_s32(0)}, vdupq_n_u16(0)};
  const int32_t* popcounts = tile.popcounts + first;
  const int32_t* const* corrections = tile.corrections;
  int left = tile.count;
  out += first;
  const auto next = [&](int16x8_t* high) BDD_INLINE {
    const int32_t* correction = kCorrects ? *corrections++ : nullptr;
    const int16x8_t dots = DotsOf(popcounts, correction == nullptr ? nullptr : correction + first, size);
    const uint16x8_t reached = vcgeq_s16(dots, threshold);
    vst1q_s16(out, dots);
    *high = vandq_s16(dots, vreinterpretq_s16_u16(reached));
    sums.high_count = vsubq_u16(sums.high_count, reached);  // true is -1
    popcounts += kChannels;
    out += stride;
    return dots;
  };
  for (; left >= 2; left -= 2) {
    int16x8_t high0, high1;
    const int16x8_t dots0 = next(&high0), dots1 = next(&high1);
    AddDots(vaddq_s16(dots0, dots1), vaddq_s16(high0, high1), &sums);
  }
  if (left == 1) {
    int16x8_t high;
    const int16x8_t dots = next(&high);
    AddDots(dots, high, &sums);
  }
  const int16x8_t counts = vreinterpretq_s16_u16(sums.high_count);
  const Lanes high_counts[2] = {ToLanes(vmovl_s16(vget_low_s16(counts))), ToLanes(vmovl_s16(vget_high_s16(counts)))};
  Unroll<2>([&](auto half) BDD_INLINE {
    const int channel = first + 4 * half;
    const Lanes of[3] = {ToLanes(sums.all[half]), ToLanes(sums.high[half]), high_counts[half]};
    const Lanes sum = PreluSum(t, channel, Load(slopes + channel), static_cast<float>(tile.count), of);
    Store(totals + channel, Load(totals + channel) + sum);
  });
}

template <int kChannels>
inline void output_transform_i32_i16__neon(const AccumulatorTile& tile, const OutputTransform& t, const float* slopes,
                                           float* totals, int16_t* out, int64_t stride) {
  if (t.clamps() || tile.valid % 8 != 0 || t.reduction_size > kMostOfPair) {
    return output_transform_i32_i16<kChannels>(tile, t, slopes, totals, out, stride);
  }
  uintptr_t any = 0;  // without a condition in the loop, so that it is vectorized
  for (int m = 0; m < tile.count; ++m) any |= reinterpret_cast<uintptr_t>(tile.corrections[m]);
  const auto sum = any != 0 ? SumDots<kChannels, true> : SumDots<kChannels, false>;
  for (int c = 0; c < tile.valid; c += 8) sum(tile, t, c, slopes, totals, out, stride);
}

}  // namespace
}  // namespace bdd
