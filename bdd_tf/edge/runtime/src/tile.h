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

template <int kChannels, typename F>
inline void FinishFloatRow(const int32_t* sums, const Epilogue& e, float* out, int valid, F dot_of) {
  float values[kChannels];
  for (int n = 0; n < kChannels; ++n) values[n] = static_cast<float>(dot_of(sums[n], n)) * e.multiplier[n] + e.bias[n];
  std::memcpy(out, values, static_cast<size_t>(valid) * sizeof(float));
}

template <int kChannels>
inline void FinishFloat(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& e,
                        float* out, int64_t stride, int valid) {
  const bool bounded = e.bounded();
  const int32_t products = e.products, low = e.low, high = e.high;
  for (int m = 0; m < count; ++m, sums += kChannels, out += stride) {
    const int32_t* correction = corrections[m];
    if (correction == nullptr && !bounded && valid == kChannels) {  // nearly always
      FinishFloatRow<kChannels>(sums, e, out, kChannels, [&](int32_t sum, int) { return products - 2 * sum; });
      continue;
    }
    if (correction == nullptr) correction = kNoCorrection;
    FinishFloatRow<kChannels>(sums, e, out, valid, [&](int32_t sum, int n) {
      int32_t dot = products - 2 * sum - correction[n];
      dot = dot < low ? low : dot;
      return dot > high ? high : dot;
    });
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

// A register of kLanes floats, in the compiler's own terms: the same source for every instruction set.
// BDD_LANES, BDD_ROWS and BDD_CONVOLVE_ROWS come from the file that includes this one: floats of a register, pixels
// worked on at a time.
#define BDD_INLINE __attribute__((always_inline))
// Sums of products in one rounding, inside a function that says so: where nobody else computes the same numbers.
// Elsewhere fused multiplication and addition is off, since a rounding less flips signs.
#if defined(__clang__)
#define BDD_FUSED _Pragma("clang fp contract(fast)")
#else
#define BDD_FUSED
#endif
typedef float Lanes __attribute__((vector_size(BDD_LANES * sizeof(float))));

inline Lanes Load(const float* from) {
  Lanes value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
inline void Store(float* to, Lanes value) { std::memcpy(to, &value, sizeof value); }

typedef int16_t ShortLanes __attribute__((vector_size(BDD_LANES * sizeof(int16_t))));

inline Lanes LoadShorts(const int16_t* from) {
  ShortLanes numbers;
  std::memcpy(&numbers, from, sizeof numbers);
  return __builtin_convertvector(numbers, Lanes);
}

typedef int32_t IntLanes __attribute__((vector_size(BDD_LANES * sizeof(int32_t))));

inline IntLanes LoadInts(const int32_t* from) {
  IntLanes numbers;
  std::memcpy(&numbers, from, sizeof numbers);
  return numbers;
}

// Asked this way round a masked product is all it takes.
template <typename T>
inline T PreluOf(T x, T slope) {
  return x <= 0.0f ? slope * x : x;
}

// Two registers of numbers at a time become one of shorts: their lower halves, picked by one shuffle.
template <typename T, int... kIndex>
inline T EvenOf(T a, T b, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(a, b, 2 * kIndex...);
}

template <int kVectors>
inline void StoreShorts(const IntLanes (&values)[kVectors], int16_t* to) {
  typedef int16_t Wide __attribute__((vector_size(2 * BDD_LANES * sizeof(int16_t))));
  constexpr int kPaired = kVectors / 2 * 2;
  for (int v = 0; v < kPaired; v += 2) {
    Wide first, second;
    std::memcpy(&first, &values[v], sizeof first);
    std::memcpy(&second, &values[v + 1], sizeof second);
    const Wide both = EvenOf(first, second, std::make_integer_sequence<int, 2 * BDD_LANES>());
    std::memcpy(to + v * BDD_LANES, &both, sizeof both);
  }
  for (int v = kPaired; v < kVectors; ++v) {
    const ShortLanes narrow = __builtin_convertvector(values[v], ShortLanes);
    std::memcpy(to + v * BDD_LANES, &narrow, sizeof narrow);
  }
}

// The first `kWidth` of `kChannels` channels. Only what is added up is rounded: the dot products are whole numbers.
template <int kChannels, int kWidth, bool kBounded>
inline void FinishDotsOf(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& e,
                         const float* slopes, float* totals, int16_t* out, int64_t stride, int valid) {
  BDD_FUSED
  constexpr int kVectors = kWidth / BDD_LANES;
  const IntLanes products = e.products - IntLanes{}, low = e.low - IntLanes{}, high = e.high - IntLanes{};
  Lanes multiplier[kVectors], bias[kVectors], slope[kVectors], local[kVectors] = {};
  Unroll<kVectors>([&](auto v) BDD_INLINE {
    multiplier[v] = Load(e.multiplier + v * BDD_LANES);
    bias[v] = Load(e.bias + v * BDD_LANES);
    slope[v] = Load(slopes + v * BDD_LANES);
  });
  for (int m = 0; m < count; ++m, sums += kChannels, out += stride) {
    int16_t numbers[kWidth];
    int16_t* to = valid == kWidth ? out : numbers;
    const int32_t* correction = corrections[m];
    IntLanes dot[kVectors];
    Unroll<kVectors>([&](auto v) BDD_INLINE {
      const IntLanes sum = LoadInts(sums + v * BDD_LANES);
      dot[v] = products - (sum + sum);
    });
    if (correction != nullptr) {
      Unroll<kVectors>([&](auto v) BDD_INLINE { dot[v] -= LoadInts(correction + v * BDD_LANES); });
    }
    Unroll<kVectors>([&](auto v) BDD_INLINE {
      if (kBounded) {
        dot[v] = dot[v] < low ? low : dot[v];
        dot[v] = dot[v] > high ? high : dot[v];
      }
      const Lanes x = __builtin_convertvector(dot[v], Lanes) * multiplier[v] + bias[v];
      local[v] += PreluOf(x, slope[v]);
    });
    StoreShorts<kVectors>(dot, to);
    if (to == numbers) std::memcpy(out, numbers, static_cast<size_t>(valid) * sizeof(int16_t));
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

// Dot products as they are, and the sum of what PReLU makes of them. Half a block costs half as much.
template <int kChannels>
inline void FinishDots(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& e,
                       const float* slopes, float* totals, int16_t* out, int64_t stride, int valid) {
  constexpr int kHalf = kChannels / 2 < BDD_LANES ? kChannels : kChannels / 2;
  const bool half = valid <= kHalf, bounded = e.bounded();
  const auto finish =
      half ? (bounded ? FinishDotsOf<kChannels, kHalf, true> : FinishDotsOf<kChannels, kHalf, false>)
           : (bounded ? FinishDotsOf<kChannels, kChannels, true> : FinishDotsOf<kChannels, kChannels, false>);
  finish(sums, count, corrections, e, slopes, totals, out, stride, valid);
}

// 1 / (1 + e^-x). e^y = 2^n e^r with n whole and |r| <= ln 2 / 2, where the series' ninth term is below 1e-8.
inline Lanes Logistic(Lanes x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: sums with it have no fraction
  // Between numbers whose powers are normal; not-a-number becomes a number here, and itself again at the end.
  Lanes y = -x > -87.0f ? -x : -87.0f - Lanes{};
  y = y < 88.0f ? y : 88.0f - Lanes{};
  const Lanes n = (y * 1.44269504f + kRound) - kRound;
  // ln 2 in two parts, the first short enough that its product with n is exact.
  const Lanes r = (y - n * 0.693145752f) - n * 1.42860677e-6f;
  Lanes power = 1.0f + r * (1.0f / 7.0f);
  Unroll<6>([&](auto i) BDD_INLINE { power = 1.0f + r * power * (1.0f / static_cast<float>(6 - i)); });
  const IntLanes bits = (__builtin_convertvector(n, IntLanes) + 127) << 23;
  Lanes scale;
  std::memcpy(&scale, &bits, sizeof scale);
  const Lanes found = 1.0f / (1.0f + power * scale);
  return x == x ? found : x;
}

using PackFunction = void (*)(const float* x, int64_t words, uint32_t* bits);

// All steps for kRows pixels of kVectors registers each, the first of which is pixel `row`.
template <int kRows, int kVectors, PackFunction kPack>
inline void ChainRows(const ChainStart& start, const ChainStep* steps, int count, int64_t row) {
  Lanes v[kRows][kVectors];
  const auto each = [](const auto& f) BDD_INLINE {
    Unroll<kRows>([&](auto r) BDD_INLINE { Unroll<kVectors>([&](auto k) BDD_INLINE { f(r, k); }); });
  };
  if (start.dots != nullptr) {
    Unroll<kVectors>([&](auto k) BDD_INLINE {
      const Lanes multiplier = Load(start.multiplier + k * BDD_LANES), bias = Load(start.bias + k * BDD_LANES);
      const Lanes slope = Load(start.slopes + k * BDD_LANES);
      Unroll<kRows>([&](auto r) BDD_INLINE {
        const Lanes x = LoadShorts(start.dots + (row + r) * start.stride + k * BDD_LANES) * multiplier + bias;
        v[r][k] = PreluOf(x, slope);
      });
    });
  } else {
    each([&](auto r, auto k) BDD_INLINE { v[r][k] = Load(start.a + (row + r) * start.stride + k * BDD_LANES); });
  }
  for (const ChainStep* step = steps; step != steps + count; ++step) {
    const int64_t stride = step->stride;
    const auto combine = [&](const auto& f) BDD_INLINE {
      const float* b = step->b + row * stride;
      if (stride == 0) {
        Unroll<kVectors>([&](auto k) BDD_INLINE {
          const Lanes shared = Load(b + k * BDD_LANES);
          Unroll<kRows>([&](auto r) BDD_INLINE { v[r][k] = f(v[r][k], shared); });
        });
      } else {
        each([&](auto r, auto k) BDD_INLINE { v[r][k] = f(v[r][k], Load(b + r * stride + k * BDD_LANES)); });
      }
    };
    switch (step->operation) {
      case ChainStep::kAdd: combine([](Lanes x, Lanes y) BDD_INLINE { return x + y; }); break;
      case ChainStep::kSubtract: combine([](Lanes x, Lanes y) BDD_INLINE { return x - y; }); break;
      case ChainStep::kSubtractFrom: combine([](Lanes x, Lanes y) BDD_INLINE { return y - x; }); break;
      case ChainStep::kMultiply: combine([](Lanes x, Lanes y) BDD_INLINE { return x * y; }); break;
      case ChainStep::kMaximum: combine([](Lanes x, Lanes y) BDD_INLINE { return x > y ? x : y; }); break;
      case ChainStep::kMinimum: combine([](Lanes x, Lanes y) BDD_INLINE { return x < y ? x : y; }); break;
      case ChainStep::kPrelu: combine([](Lanes x, Lanes y) BDD_INLINE { return PreluOf(x, y); }); break;
      case ChainStep::kBound: {
        const Lanes low = step->low - Lanes{}, high = step->high - Lanes{};
        each([&](auto r, auto k) BDD_INLINE {
          const Lanes x = v[r][k] < low ? low : v[r][k];
          v[r][k] = x > high ? high : x;
        });
        break;
      }
      case ChainStep::kLogistic: each([&](auto r, auto k) BDD_INLINE { v[r][k] = Logistic(v[r][k]); }); break;
      case ChainStep::kAddUp:
        Unroll<kVectors>([&](auto k) BDD_INLINE {
          Lanes sum = Load(step->out + k * BDD_LANES);
          Unroll<kRows>([&](auto r) BDD_INLINE { sum += v[r][k]; });
          Store(step->out + k * BDD_LANES, sum);
        });
        break;
      case ChainStep::kSigns:
        Unroll<kRows>([&](auto r) BDD_INLINE {
          float numbers[kTileChannels] = {};
          Unroll<kVectors>([&](auto k) BDD_INLINE { Store(numbers + k * BDD_LANES, v[r][k]); });
          kPack(numbers, 1, step->bits + (row + r) * stride);
        });
        break;
      case ChainStep::kStore: {
        float* out = step->out + row * stride;  // a copy, since for all the compiler knows stores change `step`
        each([&](auto r, auto k) BDD_INLINE { Store(out + r * stride + k * BDD_LANES, v[r][k]); });
        break;
      }
    }
  }
}

// The same for the last channels of a map whose width is no multiple of kTileChannels.
inline void ChainPart(const ChainStart& start, const ChainStep* steps, int count, int64_t row, int width) {
  float v[kTileChannels];
  for (int c = 0; c < width; ++c) {
    if (start.dots == nullptr) {
      v[c] = start.a[row * start.stride + c];
      continue;
    }
    const float x = static_cast<float>(start.dots[row * start.stride + c]) * start.multiplier[c] + start.bias[c];
    v[c] = PreluOf(x, start.slopes[c]);
  }
  for (const ChainStep* step = steps; step != steps + count; ++step) {
    const int64_t at = row * step->stride;
    uint32_t word = 0;
    for (int c = 0; c < width; ++c) {
      const float x = v[c];
      switch (step->operation) {
        case ChainStep::kAdd: v[c] = x + step->b[at + c]; break;
        case ChainStep::kSubtract: v[c] = x - step->b[at + c]; break;
        case ChainStep::kSubtractFrom: v[c] = step->b[at + c] - x; break;
        case ChainStep::kMultiply: v[c] = x * step->b[at + c]; break;
        case ChainStep::kMaximum: v[c] = x > step->b[at + c] ? x : step->b[at + c]; break;
        case ChainStep::kMinimum: v[c] = x < step->b[at + c] ? x : step->b[at + c]; break;
        case ChainStep::kPrelu: v[c] = PreluOf(x, step->b[at + c]); break;
        case ChainStep::kBound: v[c] = x < step->low ? step->low : x > step->high ? step->high : x; break;
        case ChainStep::kLogistic: v[c] = Logistic(x - Lanes{})[0]; break;
        case ChainStep::kAddUp: step->out[c] += x; break;
        case ChainStep::kSigns: word |= static_cast<uint32_t>(x < 0.0f) << c; break;
        case ChainStep::kStore: step->out[at + c] = x; break;
      }
    }
    if (step->operation == ChainStep::kSigns) step->bits[at] = word;
  }
}

template <PackFunction kPack>
inline void Chain(const ChainStart& start, const ChainStep* steps, int count, int rows, int width) {
  constexpr int kWhole = kTileChannels / BDD_LANES;
  int64_t row = 0;
  if (width == kTileChannels) {
    for (; row + BDD_ROWS <= rows; row += BDD_ROWS) ChainRows<BDD_ROWS, kWhole, kPack>(start, steps, count, row);
    for (; row < rows; ++row) ChainRows<1, kWhole, kPack>(start, steps, count, row);
  } else if (width == kTileChannels / 2) {
    for (; row + BDD_ROWS <= rows; row += BDD_ROWS) ChainRows<BDD_ROWS, kWhole / 2, kPack>(start, steps, count, row);
    for (; row < rows; ++row) ChainRows<1, kWhole / 2, kPack>(start, steps, count, row);
  } else {
    for (; row < rows; ++row) ChainPart(start, steps, count, row, width);
  }
}

inline void MeanOfFour(float* out, int64_t out_stride, const float* a, int64_t a_stride, int64_t right, int64_t below,
                       const float* slopes, int rows, int width) {
  float ones[kTileChannels];
  for (float& one : ones) one = 1.0f;
  const float* slope = slopes != nullptr ? slopes : ones;  // a slope of 1 changes nothing
  for (int r = 0; r < rows; ++r, out += out_stride, a += a_stride) {
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

// Four outputs at a time, each summed in a fixed order: the same result on every call. Four streams of weights, because
// one alone waits for memory.
template <int kOutputs>
inline void DenseRows(const float* weights, const float* bias, const float* x, int64_t inputs, float* out) {
  BDD_FUSED
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

inline void Dense(const float* weights, const float* bias, const float* x, int64_t inputs, int64_t outputs,
                  float* out) {
  int64_t o = 0;
  for (; o + 4 <= outputs; o += 4) DenseRows<4>(weights + o * inputs, bias + o, x, inputs, out + o);
  for (; o < outputs; ++o) DenseRows<1>(weights + o * inputs, bias + o, x, inputs, out + o);
}

typedef int8_t ByteLanes __attribute__((vector_size(BDD_LANES)));

inline Lanes LoadBytes(const int8_t* from) {
  ByteLanes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(bytes, Lanes);
}

template <int kOutputs>
inline void DenseByteRows(const int8_t* weights, float scale, const float* bias, const float* x, int64_t inputs,
                          float* out) {
  BDD_FUSED
  Lanes sums[kOutputs] = {};
  int64_t i = 0;
  for (; i + BDD_LANES <= inputs; i += BDD_LANES) {
    const Lanes numbers = Load(x + i);
    Unroll<kOutputs>([&](auto o) BDD_INLINE { sums[o] += LoadBytes(weights + o * inputs + i) * numbers; });
  }
  for (int o = 0; o < kOutputs; ++o) {
    float sum = 0.0f;
    for (int64_t k = i; k < inputs; ++k) sum += static_cast<float>(weights[o * inputs + k]) * x[k];
    for (int l = 0; l < BDD_LANES; ++l) sum += sums[o][l];
    out[o] = sum * scale + bias[o];
  }
}

inline void DenseBytes(const int8_t* weights, float scale, const float* bias, const float* x, int64_t inputs,
                       int64_t outputs, float* out) {
  int64_t o = 0;
  for (; o + 8 <= outputs; o += 8) DenseByteRows<8>(weights + o * inputs, scale, bias + o, x, inputs, out + o);
  for (; o < outputs; ++o) DenseByteRows<1>(weights + o * inputs, scale, bias + o, x, inputs, out + o);
}

// The first kWidth of kTileChannels channels.
template <int kRows, int kWidth>
inline void ConvolveRows(const float* const* places, const int32_t* offsets, int64_t products, const float* weights,
                         const float* bias, float* out, int64_t stride, int width) {
  BDD_FUSED
  constexpr int kVectors = kWidth / BDD_LANES;
  Lanes sums[kRows][kVectors];
  Unroll<kVectors>(
      [&](auto v) BDD_INLINE { Unroll<kRows>([&](auto m) BDD_INLINE { sums[m][v] = Load(bias + v * BDD_LANES); }); });
  for (int64_t k = 0; k < products; ++k, weights += kTileChannels) {
    Lanes w[kVectors];
    Unroll<kVectors>([&](auto v) BDD_INLINE { w[v] = Load(weights + v * BDD_LANES); });
    const int64_t offset = offsets[k];
    Unroll<kRows>([&](auto m) BDD_INLINE {
      const float x = places[m][offset];
      Unroll<kVectors>([&](auto v) BDD_INLINE { sums[m][v] += w[v] * x; });
    });
  }
  Unroll<kRows>([&](auto m) BDD_INLINE {
    float numbers[kWidth];
    float* to = width == kWidth ? out + m * stride : numbers;
    Unroll<kVectors>([&](auto v) BDD_INLINE { Store(to + v * BDD_LANES, sums[m][v]); });
    if (to == numbers) std::memcpy(out + m * stride, numbers, static_cast<size_t>(width) * sizeof(float));
  });
}

// As many pixels at a time as registers hold; half the channels where nobody wants the rest.
inline void Convolve(const float* const* places, int count, const int32_t* offsets, int64_t products,
                     const float* weights, const float* bias, float* out, int64_t stride, int width) {
  constexpr int kRows = BDD_CONVOLVE_ROWS, kHalf = kTileChannels / 2;
  const bool half = width <= kHalf;
  const auto rows = half ? ConvolveRows<kRows, kHalf> : ConvolveRows<kRows, kTileChannels>;
  const auto row = half ? ConvolveRows<1, kHalf> : ConvolveRows<1, kTileChannels>;
  int m = 0;
  for (; m + kRows <= count; m += kRows) {
    rows(places + m, offsets, products, weights, bias, out + m * stride, stride, width);
  }
  for (; m < count; ++m) row(places + m, offsets, products, weights, bias, out + m * stride, stride, width);
}

}  // namespace
}  // namespace bdd
