// Kernels of the forensic channels (ops/forensic_channels.cc): matrix products of the DFT, log magnitudes, the local
// binary pattern, and the 3 x 3 convolution that mixes RGB and channels. Included once by each kernel file.
#pragma once

#include <cmath>
#include <cstring>

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

namespace bdd {
namespace {

template <int kRows, int kVectors>
inline void GemmTile(const ConstMatrix& left, const ConstMatrix& right, const Matrix& product, int64_t depth) {
  BDD_ALLOW_FMA
  const float *a = left.data, *b = right.data;
  float* c = product.data;
  const int64_t a_stride = left.stride, b_stride = right.stride, c_stride = product.stride;
  Lanes sums[kRows][kVectors] = {};
  int64_t k = 0;
  const auto add = [&](const auto& factor) BDD_INLINE {
    Lanes row[kVectors];
    Unroll<kVectors>([&](auto v) BDD_INLINE { row[v] = Load(b + v * BDD_LANES); });
    Unroll<kRows>([&](auto m) BDD_INLINE {
      const float x = factor(m);
      Unroll<kVectors>([&](auto v) BDD_INLINE { sums[m][v] += row[v] * x; });
    });
    b += b_stride;
  };
#if defined(__aarch64__)
  // Multiplies by elements of a register: one load serves four steps.
  for (; k + BDD_LANES <= depth; k += BDD_LANES) {
    Lanes factors[kRows];
    Unroll<kRows>([&](auto m) BDD_INLINE { factors[m] = Load(a + m * a_stride + k); });
    Unroll<BDD_LANES>([&](auto i)
                          BDD_INLINE { add([&](auto m) BDD_INLINE { return factors[m][decltype(i)::value]; }); });
  }
#endif
  for (; k < depth; ++k) add([&](auto m) BDD_INLINE { return a[m * a_stride + k]; });
  Unroll<kRows>([&](auto m) BDD_INLINE {
    Unroll<kVectors>([&](auto v) BDD_INLINE { Store(c + m * c_stride + v * BDD_LANES, sums[m][v]); });
  });
}

template <int kVectors>
inline void GemmRows(const ConstMatrix& a, const ConstMatrix& b, const Matrix& c, int64_t rows, int64_t depth) {
  const auto a_from = [&](int64_t m) { return ConstMatrix{a.data + m * a.stride, a.stride}; };
  const auto c_from = [&](int64_t m) { return Matrix{c.data + m * c.stride, c.stride}; };
  int64_t m = 0;
  for (; m + 4 <= rows; m += 4) GemmTile<4, kVectors>(a_from(m), b, c_from(m), depth);
  for (; m < rows; ++m) GemmTile<1, kVectors>(a_from(m), b, c_from(m), depth);
}

inline void gemm_f32(const ConstMatrix& a, const ConstMatrix& b, const Matrix& c, int64_t rows, int64_t columns,
                     int64_t depth) {
  constexpr int kVectors = BDD_REGISTERS >= 32 ? 4 : 2;
  const auto b_from = [&](int64_t n) { return ConstMatrix{b.data + n, b.stride}; };
  const auto c_from = [&](int64_t n) { return Matrix{c.data + n, c.stride}; };
  int64_t n = 0;
  for (; n + kVectors * BDD_LANES <= columns; n += kVectors * BDD_LANES) {
    GemmRows<kVectors>(a, b_from(n), c_from(n), rows, depth);
  }
  for (; n < columns; n += BDD_LANES) GemmRows<1>(a, b_from(n), c_from(n), rows, depth);
}

// The natural logarithm of positive normal numbers. With x = 2^e m, m in [1/sqrt 2, sqrt 2) and s = (m-1)/(m+1):
// ln m = 2 (s + s^3/3 + s^5/5 + ...); the sixth term is below 1e-9.
inline Lanes Log(Lanes x) {
  constexpr int32_t kSqrtHalf = 0x3F3504F3, kFraction = 0x007FFFFF;
  IntLanes bits;
  std::memcpy(&bits, &x, sizeof bits);
  const IntLanes shifted = bits - kSqrtHalf;
  const IntLanes exponent = shifted >> 23;
  const IntLanes inside = (shifted & kFraction) + kSqrtHalf;
  Lanes m;
  std::memcpy(&m, &inside, sizeof m);
  const Lanes e = __builtin_convertvector(exponent, Lanes);
  const Lanes s = (m - 1.0f) / (m + 1.0f), q = s * s;
  const Lanes series = s * q * (0.66666667f + q * (0.4f + q * (0.28571429f + q * 0.22222222f)));
  // ln 2 is split in two parts; the product of e and the first, shorter one is exact.
  return e * 0.693145752f + (e * 1.42860677e-6f + series + 2.0f * s);
}

inline void log_magnitude_f32(const SpectrumRow& row, int64_t count) {
  const float *cc = row.cc, *cs = row.cs, *sc = row.sc, *ss = row.ss;
  float *same = row.same, *mirrored = row.mirrored;
  const float offset = row.offset, scale = row.scale;
  const auto magnitude = [&](Lanes real, Lanes imaginary) BDD_INLINE {
    const Lanes squares = real * real + imaginary * imaginary;
    float buffer[BDD_LANES];
    Store(buffer, squares);
    for (float& x : buffer) x = std::sqrt(x);
    return Log(Load(buffer) + offset) * scale;
  };
  for (int64_t i = 0; i < count; i += BDD_LANES) {
    const Lanes a = Load(cc + i), b = Load(cs + i), c = Load(sc + i), d = Load(ss + i);
    Store(same + i, magnitude(a - d, c + b));
    Store(mirrored + i, magnitude(a + d, b - c));
  }
}

inline int64_t rgb_to_planes_u8_f32(const uint8_t* rgb, int64_t count, const float* scales, float* const* planes,
                                    float* grey) {
  // The fixed-point weights of OpenCV's BGR2GRAY, applied in the order of the bytes (RGB read as BGR).
  constexpr int32_t kFirst = 3735, kSecond = 19235, kThird = 9798, kHalf = 1 << 14, kBits = 15;
  const float scale0 = scales[0], scale1 = scales[1], scale2 = scales[2];
  float *red = planes[0], *green = planes[1], *blue = planes[2];
  int32_t sum = 0;
  for (int64_t x = 0; x < count; ++x) {
    const int32_t r = rgb[3 * x], g = rgb[3 * x + 1], b = rgb[3 * x + 2];
    red[x] = static_cast<float>(r) * scale0;
    green[x] = static_cast<float>(g) * scale1;
    blue[x] = static_cast<float>(b) * scale2;
    const int32_t level = (r * kFirst + g * kSecond + b * kThird + kHalf) >> kBits;
    grey[x] = static_cast<float>(level);
    sum += level;
  }
  return sum;
}

// Counts how many of three neighbours at 0, 120 and 240 degrees are at least as bright as the center. The second and
// the third are interpolated between two pixels each. Weights are integers and sums below 2^24, so the comparison is
// exact.
inline void local_binary_pattern_f32(const float* center, const float* const* points, int64_t count, float scale,
                                     float* out) {
  constexpr float kFar = 3923.0f, kNear = 16077.0f;
  const float *p0 = points[0], *p1 = points[1], *p2 = points[2], *p3 = points[3], *p4 = points[4];
  for (int64_t x = 0; x < count; ++x) {
    const float c = center[x];
    const float second = kFar * (p1[x] - c) + kNear * (p2[x] - c), third = kFar * (p3[x] - c) + kNear * (p4[x] - c);
    const float found = (p0[x] >= c ? 1.0f : 0.0f) + (second >= 0.0f ? 1.0f : 0.0f) + (third >= 0.0f ? 1.0f : 0.0f);
    out[x] = found * scale;
  }
}

// Three output channels at kVectors * BDD_LANES neighbouring pixels. `at` is the pixel above and to the left of the
// first.
template <int kVectors>
inline void Conv3x3Pixels(const PlanarRows& input, const float* at, const float* weights, Lanes (&sums)[3][kVectors]) {
  BDD_ALLOW_FMA
  const int64_t channels = input.planes, plane = input.plane_stride, row = input.row_stride;
  const float* bias = weights + 9 * channels * 3;
  Unroll<3>([&](auto o) BDD_INLINE { Unroll<kVectors>([&](auto v) BDD_INLINE { sums[o][v] = bias[o] - Lanes{}; }); });
  for (int64_t c = 0; c < channels; ++c, at += plane) {
    Unroll<9>([&](auto tap) BDD_INLINE {
      const float* shifted = at + tap / 3 * row + tap % 3;
      Unroll<kVectors>([&](auto v) BDD_INLINE {
        const Lanes x = Load(shifted + v * BDD_LANES);
        Unroll<3>([&](auto o) BDD_INLINE { sums[o][v] += x * weights[tap * 3 + o]; });
      });
    });
    weights += 27;
  }
}

inline void conv3x3_planar_f32(const PlanarRows& input, const float* weights, int64_t count, float* out,
                               int64_t out_stride) {
  const auto pixels = [&](auto vectors, int64_t x) BDD_INLINE {
    constexpr int kVectors = decltype(vectors)::value;
    Lanes sums[3][kVectors];
    Conv3x3Pixels<kVectors>(input, input.data + x, weights, sums);
    for (int o = 0; o < 3; ++o) {
      float buffer[kVectors * BDD_LANES];
      Unroll<kVectors>([&](auto v) BDD_INLINE { Store(buffer + v * BDD_LANES, sums[o][v]); });
      const int64_t rest = count - x < kVectors * BDD_LANES ? count - x : kVectors * BDD_LANES;
      std::memcpy(out + o * out_stride + x, buffer, static_cast<size_t>(rest) * sizeof(float));
    }
  };
  int64_t x = 0;
  if constexpr (BDD_REGISTERS >= 32) {
    for (; x + 4 * BDD_LANES <= count; x += 4 * BDD_LANES) pixels(std::integral_constant<int, 4>(), x);
  }
  for (; x + 2 * BDD_LANES <= count; x += 2 * BDD_LANES) pixels(std::integral_constant<int, 2>(), x);
  for (; x < count; x += BDD_LANES) pixels(std::integral_constant<int, 1>(), x);
}

}  // namespace
}  // namespace bdd
