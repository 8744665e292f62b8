// Kernels of channels.cc. Included once by each file of kernels.
#pragma once

#include "tile.h"

namespace bdd {
namespace {

template <int kRows, int kVectors>
inline void ProductTile(const float* a, int64_t a_stride, const float* b, int64_t b_stride, float* c, int64_t c_stride,
                        int64_t depth) {
  BDD_FUSED
  Lanes sums[kRows][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k, b += b_stride) {
    Lanes row[kVectors];
    Unroll<kVectors>([&](auto v) BDD_INLINE { row[v] = Load(b + v * BDD_LANES); });
    Unroll<kRows>([&](auto m) BDD_INLINE {
      const float x = a[m * a_stride + k];
      Unroll<kVectors>([&](auto v) BDD_INLINE { sums[m][v] += row[v] * x; });
    });
  }
  Unroll<kRows>([&](auto m) BDD_INLINE {
    Unroll<kVectors>([&](auto v) BDD_INLINE { Store(c + m * c_stride + v * BDD_LANES, sums[m][v]); });
  });
}

template <int kVectors>
inline void ProductRows(const float* a, int64_t a_stride, const float* b, int64_t b_stride, float* c, int64_t c_stride,
                        int64_t rows, int64_t depth) {
  int64_t m = 0;
  for (; m + 4 <= rows; m += 4) {
    ProductTile<4, kVectors>(a + m * a_stride, a_stride, b, b_stride, c + m * c_stride, c_stride, depth);
  }
  for (; m < rows; ++m) {
    ProductTile<1, kVectors>(a + m * a_stride, a_stride, b, b_stride, c + m * c_stride, c_stride, depth);
  }
}

inline void MatrixProduct(const float* a, int64_t a_stride, const float* b, int64_t b_stride, float* c,
                          int64_t c_stride, int64_t rows, int64_t columns, int64_t depth) {
  constexpr int kVectors = BDD_LANES >= 16 ? 4 : 2;
  int64_t n = 0;
  for (; n + kVectors * BDD_LANES <= columns; n += kVectors * BDD_LANES) {
    ProductRows<kVectors>(a, a_stride, b + n, b_stride, c + n, c_stride, rows, depth);
  }
  for (; n < columns; n += BDD_LANES) ProductRows<1>(a, a_stride, b + n, b_stride, c + n, c_stride, rows, depth);
}

// The natural logarithm of positive normal numbers: x = 2^e m with m in [1/sqrt 2, sqrt 2), and with s = (m-1)/(m+1)
// ln m = 2 (s + s^3/3 + s^5/5 + ...), whose sixth term is below 1e-9 here.
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
  // ln 2 in two parts, the first short enough that its product with e is exact.
  return e * 0.693145752f + (e * 1.42860677e-6f + series + 2.0f * s);
}

inline void LogMagnitudes(const float* cc, const float* cs, const float* sc, const float* ss, int64_t count,
                          float offset, float scale, float* same, float* mirrored) {
  const auto magnitude = [&](Lanes real, Lanes imaginary) BDD_INLINE {
    const Lanes squares = real * real + imaginary * imaginary;
    float numbers[BDD_LANES];
    Store(numbers, squares);
    for (float& x : numbers) x = std::sqrt(x);
    return Log(Load(numbers) + offset) * scale;
  };
  for (int64_t i = 0; i < count; i += BDD_LANES) {
    const Lanes a = Load(cc + i), b = Load(cs + i), c = Load(sc + i), d = Load(ss + i);
    Store(same + i, magnitude(a - d, c + b));
    Store(mirrored + i, magnitude(a + d, b - c));
  }
}

inline int64_t ReadRow(const uint8_t* rgb, int64_t count, const float* scales, float* const* planes, float* grey) {
  // OpenCV's fixed-point weights, in the order of the bytes.
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

// How many of three points at 0, 120 and 240 degrees are at least as bright as the centre. The second and the third lie
// between two pixels each; weights are whole numbers, sums below 2^24, so that the comparison is exact.
inline void PatternRow(const float* centre, const float* const* points, int64_t count, float scale, float* out) {
  constexpr float kFar = 3923.0f, kNear = 16077.0f;
  const float *p0 = points[0], *p1 = points[1], *p2 = points[2], *p3 = points[3], *p4 = points[4];
  for (int64_t x = 0; x < count; ++x) {
    const float c = centre[x];
    const float second = kFar * (p1[x] - c) + kNear * (p2[x] - c), third = kFar * (p3[x] - c) + kNear * (p4[x] - c);
    const float found = (p0[x] >= c ? 1.0f : 0.0f) + (second >= 0.0f ? 1.0f : 0.0f) + (third >= 0.0f ? 1.0f : 0.0f);
    out[x] = found * scale;
  }
}

// A row of a 3 x 3 convolution from planes to three channels, each to its own place.
template <int kVectors>
inline void MixPlaces(const float* planes, int64_t plane, int64_t row, int64_t channels, const float* weights,
                      Lanes (&sums)[3][kVectors]) {
  BDD_FUSED
  Unroll<3>([&](auto o) BDD_INLINE {
    Unroll<kVectors>([&](auto v) BDD_INLINE { sums[o][v] = weights[9 * channels * 3 + o] - Lanes{}; });
  });
  for (int64_t c = 0; c < channels; ++c, planes += plane) {
    Unroll<9>([&](auto tap) BDD_INLINE {
      const float* at = planes + tap / 3 * row + tap % 3;
      Unroll<kVectors>([&](auto v) BDD_INLINE {
        const Lanes x = Load(at + v * BDD_LANES);
        Unroll<3>([&](auto o) BDD_INLINE { sums[o][v] += x * weights[tap * 3 + o]; });
      });
    });
    weights += 27;
  }
}

inline void MixRow(const float* planes, int64_t plane, int64_t row, int64_t channels, const float* weights,
                   int64_t count, float* out, int64_t apart) {
  const auto place = [&](auto vectors, int64_t x) BDD_INLINE {
    constexpr int kVectors = decltype(vectors)::value;
    Lanes sums[3][kVectors];
    // The bias stands behind all weights.
    MixPlaces<kVectors>(planes + x, plane, row, channels, weights, sums);
    for (int o = 0; o < 3; ++o) {
      float numbers[kVectors * BDD_LANES];
      Unroll<kVectors>([&](auto v) BDD_INLINE { Store(numbers + v * BDD_LANES, sums[o][v]); });
      const int64_t rest = count - x < kVectors * BDD_LANES ? count - x : kVectors * BDD_LANES;
      std::memcpy(out + o * apart + x, numbers, static_cast<size_t>(rest) * sizeof(float));
    }
  };
  int64_t x = 0;
  for (; x + 2 * BDD_LANES <= count; x += 2 * BDD_LANES) place(std::integral_constant<int, 2>(), x);
  for (; x < count; x += BDD_LANES) place(std::integral_constant<int, 1>(), x);
}

// As many places as there are, kPixels at a time; two tiles of even size at the end, since one of a single place would
// cost nearly as much as a full one.
template <int kPixels, int kChannels, auto kMultiply>
void MultiplyTiles(const uint32_t* const* places, int count, const Taps& taps, const uint32_t* weights, int32_t* sums,
                   int valid) {
  while (count > 0) {
    const int most = count < kPixels ? count : kPixels;
    const int tile = count > kPixels && count < 2 * kPixels ? (count + 1) / 2 : most;
    kMultiply(places, tile, taps, weights, sums, valid);
    places += tile;
    sums += tile * kChannels;
    count -= tile;
  }
}

// The set of one file of kernels: its own way to count and to pack, and what tile.h and this file compile for it.
template <int kPixels, int kChannels, auto kMultiply, auto kPack>
inline KernelSet MakeKernelSet(const char* name, Encoding encoding = Encoding::kNone) {
  return {name,
          kPixels,
          kChannels,
          encoding,
          MultiplyTiles<kPixels, kChannels, kMultiply>,
          nullptr,
          nullptr,
          FinishFloat<kChannels>,
          FinishInt8<kChannels>,
          FinishDots<kChannels>,
          FinishBits<kChannels>,
          kPack,
          Chain<kPack>,
          MeanOfFour,
          Dense,
          DenseBytes,
          Convolve,
          MatrixProduct,
          LogMagnitudes,
          ReadRow,
          PatternRow,
          MixRow};
}

}  // namespace
}  // namespace bdd
