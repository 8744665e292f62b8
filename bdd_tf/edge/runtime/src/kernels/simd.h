// Vectors of floats in the compiler's own vector types, so that one source serves every instruction set.
//
// Each kernel file defines four constants before it includes this header: BDD_LANES, the floats of one register;
// BDD_REGISTERS, their number; and BDD_ROWS and BDD_CONVOLVE_ROWS, the pixels that post-ops and small convolutions work
// on at a time. The unnamed namespace keeps apart the copies that are compiled with different instruction sets.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace bdd {
namespace {

#define BDD_INLINE __attribute__((always_inline))

// Enables FMA contraction inside one function. Only safe where no other kernel must produce bit-identical results:
// elsewhere contraction is off (-ffp-contract=off), because one rounding fewer can flip the sign of a value.
#if defined(__clang__)
#define BDD_ALLOW_FMA _Pragma("clang fp contract(fast)")
#else
#define BDD_ALLOW_FMA
#endif

// Calls f with the constants 0 to kCount - 1. Arrays stay in registers only if their indices are constants from the
// start: GCC unrolls ordinary loops too late and keeps the arrays in memory.
template <typename F, int... kIndex>
__attribute__((always_inline)) inline void UnrollOver(const F& f, std::integer_sequence<int, kIndex...>) {
  (f(std::integral_constant<int, kIndex>()), ...);
}
template <int kCount, typename F>
__attribute__((always_inline)) inline void Unroll(const F& f) {
  UnrollOver(f, std::make_integer_sequence<int, kCount>());
}

typedef float Lanes __attribute__((vector_size(BDD_LANES * sizeof(float))));

inline Lanes Load(const float* from) {
  Lanes value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
inline void Store(float* to, Lanes value) { std::memcpy(to, &value, sizeof value); }

typedef int16_t ShortLanes __attribute__((vector_size(BDD_LANES * sizeof(int16_t))));

inline Lanes LoadShorts(const int16_t* from) {
  ShortLanes values;
  std::memcpy(&values, from, sizeof values);
  return __builtin_convertvector(values, Lanes);
}

typedef int32_t IntLanes __attribute__((vector_size(BDD_LANES * sizeof(int32_t))));

inline IntLanes LoadInts(const int32_t* from) {
  IntLanes values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

typedef int8_t ByteLanes __attribute__((vector_size(BDD_LANES)));

inline Lanes LoadBytes(const int8_t* from) {
  ByteLanes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(bytes, Lanes);
}

// With this comparison the compiler needs only a masked multiplication.
template <typename T>
inline T PreluOf(T x, T slope) {
  return x <= 0.0f ? slope * x : x;
}

// Narrows two registers of int32 to one of int16 by a single shuffle that picks their lower halves.
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

// 1 / (1 + e^-x), by e^y = 2^n e^r with integer n and |r| <= ln 2 / 2, where the ninth term of the series of e^r is
// below 1e-8.
inline Lanes Logistic(Lanes x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  // Clamped so that 2^n is a normal number. NaN becomes a number here; the last line restores it.
  Lanes y = -x > -87.0f ? -x : -87.0f - Lanes{};
  y = y < 88.0f ? y : 88.0f - Lanes{};
  const Lanes n = (y * 1.44269504f + kRound) - kRound;
  // ln 2 is split in two parts; the product of n and the first, shorter one is exact.
  const Lanes r = (y - n * 0.693145752f) - n * 1.42860677e-6f;
  Lanes power = 1.0f + r * (1.0f / 7.0f);
  Unroll<6>([&](auto i) BDD_INLINE { power = 1.0f + r * power * (1.0f / static_cast<float>(6 - i)); });
  const IntLanes bits = (__builtin_convertvector(n, IntLanes) + 127) << 23;
  Lanes scale;
  std::memcpy(&scale, &bits, sizeof scale);
  const Lanes found = 1.0f / (1.0f + power * scale);
  return x == x ? found : x;
}

}  // namespace
}  // namespace bdd
