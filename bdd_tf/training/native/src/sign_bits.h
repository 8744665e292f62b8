// Bits of the binary activations: the sign, and the mask of its straight-through gradient.
#pragma once

#include <cmath>
#include <cstdint>

#include "simd.h"

namespace bdd {

// |x + move| above which the straight-through estimator (STE) passes no gradient. The same value clips the weights.
constexpr float kSteClip = 1.5f;

// Bit j: x[j] + move[j] >= 0, larq's sign, where sign(0) = +1. `count`: a multiple of 16, at most 64.
inline uint64_t SignBits(const float* x, const float* move, int count) {
  uint64_t bits = 0;
#if defined(__AVX512F__)
  for (int j = 0; j < count; j += 16) {
    const __m512 v = _mm512_add_ps(_mm512_loadu_ps(x + j), _mm512_loadu_ps(move + j));
    bits |= static_cast<uint64_t>(_mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GE_OQ)) << j;
  }
#elif defined(__AVX2__)
  for (int j = 0; j < count; j += 8) {
    const __m256 v = _mm256_add_ps(_mm256_loadu_ps(x + j), _mm256_loadu_ps(move + j));
    const int mask = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GE_OQ));
    bits |= static_cast<uint64_t>(static_cast<uint32_t>(mask)) << j;
  }
#else
  for (int j = 0; j < count; ++j) bits |= static_cast<uint64_t>(x[j] + move[j] >= 0.0f) << j;
#endif
  return bits;
}

// Bit j: |x[j] + move[j]| <= kSteClip, where d sign(x + move) / dx is taken as 1; elsewhere it is 0.
inline uint64_t SteMaskBits(const float* x, const float* move, int count) {
  uint64_t bits = 0;
#if defined(__AVX512F__)
  for (int j = 0; j < count; j += 16) {
    const __m512 v = _mm512_abs_ps(_mm512_add_ps(_mm512_loadu_ps(x + j), _mm512_loadu_ps(move + j)));
    bits |= static_cast<uint64_t>(_mm512_cmp_ps_mask(v, _mm512_set1_ps(kSteClip), _CMP_LE_OQ)) << j;
  }
#elif defined(__AVX2__)
  const __m256 sign = _mm256_set1_ps(-0.0f);
  for (int j = 0; j < count; j += 8) {
    const __m256 v = _mm256_andnot_ps(sign, _mm256_add_ps(_mm256_loadu_ps(x + j), _mm256_loadu_ps(move + j)));
    const int mask = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_set1_ps(kSteClip), _CMP_LE_OQ));
    bits |= static_cast<uint64_t>(static_cast<uint32_t>(mask)) << j;
  }
#else
  for (int j = 0; j < count; ++j) bits |= static_cast<uint64_t>(std::fabs(x[j] + move[j]) <= kSteClip) << j;
#endif
  return bits;
}

// v where the bit of its lane is set, else 0.
inline Floats MaskByBits(Floats v, uint64_t bits) {
#if defined(__AVX512F__)
  return reinterpret_cast<Floats>(_mm512_maskz_mov_ps(static_cast<__mmask16>(bits), reinterpret_cast<__m512>(v)));
#elif defined(__AVX2__)
  const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits & 255)), each);
  return reinterpret_cast<Floats>(
      _mm256_and_ps(reinterpret_cast<__m256>(v), _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, each))));
#else
  for (int j = 0; j < kLanes; ++j) v[j] = (bits >> j & 1) ? v[j] : 0.0f;
  return v;
#endif
}

}  // namespace bdd
