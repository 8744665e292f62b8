// SIMD vectors of floats, as wide as the machine that this is compiled for supports.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace bdd {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
constexpr int kPanel = 16;  // channels stored next to each other in a panel layout
constexpr int kVectors = kPanel / kLanes;

typedef float Floats __attribute__((vector_size(kLanes * 4)));

inline Floats Load(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void Store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }
inline Floats Splat(float x) { return Floats{} + x; }
inline void Add(float* p, Floats v) { Store(p, Load(p) + v); }

// Converts from int16, the type of binary convolution results.
inline Floats Load(const int16_t* p) {
  typedef int16_t Shorts __attribute__((vector_size(kLanes * 2)));
  Shorts v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, Floats);
}

// PReLU: x where positive, else slope * x.
inline Floats PRelu(Floats x, Floats slope) { return x > 0.0f ? x : slope * x; }

// to[j][i] = from[i][j] for 8 rows of 8 floats, which are `step` floats apart.
inline void Transpose8x8(const float* from, int64_t from_step, float* to, int64_t to_step) {
  typedef float F8 __attribute__((vector_size(32)));
  F8 r[8], s[8];
  for (int i = 0; i < 8; ++i) std::memcpy(&r[i], from + i * from_step, sizeof r[i]);
  for (int i = 0; i < 8; i += 2) {
    s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int k = 0; k < 2; ++k) {
      r[i + k] = __builtin_shufflevector(s[i + k], s[i + k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      r[i + k + 2] = __builtin_shufflevector(s[i + k], s[i + k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int k = 0; k < 4; ++k) {
    s[k] = __builtin_shufflevector(r[k], r[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    s[k + 4] = __builtin_shufflevector(r[k], r[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int j = 0; j < 8; ++j) std::memcpy(to + j * to_step, &s[j], sizeof s[j]);
}

}  // namespace bdd
