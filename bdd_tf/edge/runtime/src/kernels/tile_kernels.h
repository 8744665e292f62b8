// The other float kernels on tiles: average pool, dense layers and small convolutions. Included once by each kernel
// file.
#pragma once

#include <cstring>

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

namespace bdd {
namespace {

inline void average_pool_2x2_f32(const PoolInput& input, int pixels, int width, float* out, int64_t stride) {
  float ones[kTileChannels];
  for (float& one : ones) one = 1.0f;
  const float* slope = input.slopes != nullptr ? input.slopes : ones;  // PReLU with a slope of 1 is the identity
  const float* a = input.values;
  const int64_t step = input.stride, right = input.right, below = input.below;
  for (int r = 0; r < pixels; ++r, out += stride, a += step) {
    int c = 0;
    for (; c + BDD_LANES <= width; c += BDD_LANES) {
      const Lanes s = Load(slope + c);
      const auto pixel = [&](int64_t offset) BDD_INLINE { return PreluOf(Load(a + c + offset), s); };
      Store(out + c, (pixel(0) + pixel(right) + pixel(below) + pixel(below + right)) * 0.25f);
    }
    for (; c < width; ++c) {
      const auto pixel = [&](int64_t offset) { return PreluOf(a[c + offset], slope[c]); };
      out[c] = (pixel(0) + pixel(right) + pixel(below) + pixel(below + right)) * 0.25f;
    }
  }
}

// kOutputs outputs at a time, each summed in a fixed order, so that results do not vary between calls. Several streams
// of weights keep the memory system busy; a single one would wait for it.
template <int kOutputs>
inline void DenseRows(const float* weights, const float* bias, const float* x, int64_t inputs, float* out) {
  BDD_ALLOW_FMA
  Lanes sums[kOutputs][2] = {};
  int64_t i = 0;
  for (; i + 2 * BDD_LANES <= inputs; i += 2 * BDD_LANES) {
    const Lanes first = Load(x + i), second = Load(x + i + BDD_LANES);
    Unroll<kOutputs>([&](auto o) BDD_INLINE {
      const float* row = weights + o * inputs + i;
      sums[o][0] += Load(row) * first;
      sums[o][1] += Load(row + BDD_LANES) * second;
    });
  }
  for (int o = 0; o < kOutputs; ++o) {
    float sum = 0.0f;
    for (int64_t k = i; k < inputs; ++k) sum += weights[o * inputs + k] * x[k];
    const Lanes together = sums[o][0] + sums[o][1];
    for (int l = 0; l < BDD_LANES; ++l) sum += together[l];
    out[o] = sum + bias[o];
  }
}

inline void dense_f32(const float* weights, const float* bias, const float* x, int64_t inputs, int64_t outputs,
                      float* out) {
  int64_t o = 0;
  for (; o + 4 <= outputs; o += 4) DenseRows<4>(weights + o * inputs, bias + o, x, inputs, out + o);
  for (; o < outputs; ++o) DenseRows<1>(weights + o * inputs, bias + o, x, inputs, out + o);
}

template <int kOutputs>
inline void DenseByteRows(const int8_t* weights, float scale, const float* bias, const float* x, int64_t inputs,
                          float* out) {
  BDD_ALLOW_FMA
  Lanes sums[kOutputs] = {};
  int64_t i = 0;
  for (; i + BDD_LANES <= inputs; i += BDD_LANES) {
    const Lanes values = Load(x + i);
    Unroll<kOutputs>([&](auto o) BDD_INLINE { sums[o] += LoadBytes(weights + o * inputs + i) * values; });
  }
  for (int o = 0; o < kOutputs; ++o) {
    float sum = 0.0f;
    for (int64_t k = i; k < inputs; ++k) sum += static_cast<float>(weights[o * inputs + k]) * x[k];
    for (int l = 0; l < BDD_LANES; ++l) sum += sums[o][l];
    out[o] = sum * scale + bias[o];
  }
}

inline void dense_f32_i8(const int8_t* weights, float scale, const float* bias, const float* x, int64_t inputs,
                         int64_t outputs, float* out) {
  int64_t o = 0;
  for (; o + 8 <= outputs; o += 8) DenseByteRows<8>(weights + o * inputs, scale, bias + o, x, inputs, out + o);
  for (; o < outputs; ++o) DenseByteRows<1>(weights + o * inputs, scale, bias + o, x, inputs, out + o);
}

// Copies the first `count` floats. A call of memcpy would cost more than one or three floats do (grey, RGB).
inline void StoreFirst(float* to, const float* from, int count) {
  switch (count) {
    case 1: std::memcpy(to, from, sizeof(float)); break;
    case 3: std::memcpy(to, from, 3 * sizeof(float)); break;
    default: std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
  }
}

// kRows pixels and the first kWidth of kTileChannels channels.
template <int kRows, int kWidth>
inline void Conv2dRows(const float* const* indirection, const Conv2dFilter& filter, float* out, int64_t stride,
                       int width) {
  BDD_ALLOW_FMA
  constexpr int kVectors = kWidth / BDD_LANES;
  const float *weights = filter.weights, *bias = filter.bias;
  const int32_t* offsets = filter.offsets;
  const int64_t reduction_size = filter.reduction_size;
  Lanes sums[kRows][kVectors];
  Unroll<kVectors>(
      [&](auto v) BDD_INLINE { Unroll<kRows>([&](auto m) BDD_INLINE { sums[m][v] = Load(bias + v * BDD_LANES); }); });
  for (int64_t k = 0; k < reduction_size; ++k, weights += kTileChannels) {
    Lanes w[kVectors];
    Unroll<kVectors>([&](auto v) BDD_INLINE { w[v] = Load(weights + v * BDD_LANES); });
    const int64_t offset = offsets[k];
    Unroll<kRows>([&](auto m) BDD_INLINE {
      const float x = indirection[m][offset];
      Unroll<kVectors>([&](auto v) BDD_INLINE { sums[m][v] += w[v] * x; });
    });
  }
  Unroll<kRows>([&](auto m) BDD_INLINE {
    float buffer[kWidth];
    float* to = width == kWidth ? out + m * stride : buffer;
    Unroll<kVectors>([&](auto v) BDD_INLINE { Store(to + v * BDD_LANES, sums[m][v]); });
    if (to == buffer) StoreFirst(out + m * stride, buffer, width);
  });
}

// kRows pixels at a time, and then the rest with half as many, and so on: the last pixels of a map, or all of a small
// one, would otherwise read all weights once for each pixel.
template <int kRows, int kWidth>
inline void Conv2dPixels(const float* const* indirection, int count, const Conv2dFilter& filter, float* out,
                         int64_t stride, int width) {
  int m = 0;
  for (; m + kRows <= count; m += kRows) {
    Conv2dRows<kRows, kWidth>(indirection + m, filter, out + m * stride, stride, width);
  }
  if constexpr (kRows > 1) {
    Conv2dPixels<kRows / 2, kWidth>(indirection + m, count - m, filter, out + m * stride, stride, width);
  }
}

// As many pixels at a time as the registers hold; half the channels, and twice the pixels, where the others are not
// needed.
inline void conv2d_f32(const float* const* indirection, int count, const Conv2dFilter& filter, float* out,
                       int64_t stride, int width) {
  constexpr int kRows = BDD_CONVOLVE_ROWS, kHalf = kTileChannels / 2;
  constexpr int kRowsOfHalf = 2 * kRows <= kMaxPixels ? 2 * kRows : kMaxPixels;
  const auto pixels = width <= kHalf ? Conv2dPixels<kRowsOfHalf, kHalf> : Conv2dPixels<kRows, kTileChannels>;
  pixels(indirection, count, filter, out, stride, width);
}

// kRows pixels, so that each register of weights is loaded once for all of them.
template <int kRows>
inline void DepthwiseRows(const float* const* indirection, const Conv2dFilter& filter, float* out, int64_t channels) {
  BDD_ALLOW_FMA
  const int64_t row = (channels + kTileChannels - 1) / kTileChannels * kTileChannels;
  for (int64_t c = 0; c < channels; c += BDD_LANES) {
    Lanes sums[kRows];
    Unroll<kRows>([&](auto m) BDD_INLINE { sums[m] = Load(filter.bias + c); });
    const float* weights = filter.weights + c;
    for (int64_t k = 0; k < filter.reduction_size; ++k, weights += row) {
      const Lanes w = Load(weights);
      const int64_t offset = filter.offsets[k] + c;
      Unroll<kRows>([&](auto m) BDD_INLINE { sums[m] += w * Load(indirection[m] + offset); });
    }
    const bool whole = c + BDD_LANES <= channels;
    Unroll<kRows>([&](auto m) BDD_INLINE {
      float* to = out + m * channels + c;
      if (whole) {
        Store(to, sums[m]);
      } else {
        std::memcpy(to, &sums[m], static_cast<size_t>(channels - c) * sizeof(float));
      }
    });
  }
}

inline void depthwise_conv2d_f32(const float* const* indirection, int count, const Conv2dFilter& filter, float* out,
                                 int64_t channels) {
  constexpr int kRows = 4;
  int m = 0;
  for (; m + kRows <= count; m += kRows) DepthwiseRows<kRows>(indirection + m, filter, out + m * channels, channels);
  for (; m < count; ++m) DepthwiseRows<1>(indirection + m, filter, out + m * channels, channels);
}

}  // namespace
}  // namespace bdd
