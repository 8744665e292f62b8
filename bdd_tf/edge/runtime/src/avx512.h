// What sets of kernels for AVX-512 share: 16 channels a register, and all that is not a dot product. Included like
// tile.h, once by each of their files.
#pragma once

#define BDD_LANES 16
#define BDD_ROWS 8
#define BDD_CONVOLVE_ROWS 8
#include "intrinsics512.h"
#include "planes.h"
#include "tile.h"

namespace bdd {
namespace {

constexpr int kPixels = 4;
constexpr int kChannels = 32;

inline __m512i Broadcast(uint32_t word) { return _mm512_set1_epi32(static_cast<int>(word)); }

// Adds w ^ x and u ^ y to the bits of `sum` and returns the carry, three operations in all: with p = sum ^ w ^ x and
// s = p ^ u ^ y, the carry is u ^ y = ~s where p is set and the old sum elsewhere.
inline __m512i AddWords(__m512i& sum, __m512i w, __m512i x, __m512i u, __m512i y) {
  constexpr int kXor = 0x96, kCarry = 0x3A;  // a ^ b ^ c, and a ? ~b : c
  const __m512i p = _mm512_ternarylogic_epi32(sum, w, x, kXor);
  const __m512i s = _mm512_ternarylogic_epi32(p, u, y, kXor);
  const __m512i carry = _mm512_ternarylogic_epi32(p, s, sum, kCarry);
  sum = s;
  return carry;
}

void Pack(const float* x, int64_t words, uint32_t* bits) {
  const __m512 zero = _mm512_setzero_ps();
  for (int64_t i = 0; i < words; ++i, x += 32) {
    const unsigned low = _mm512_cmp_ps_mask(_mm512_loadu_ps(x), zero, _CMP_LT_OQ);
    const unsigned high = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + 16), zero, _CMP_LT_OQ);
    bits[i] = low | high << 16;
  }
}

// A tile of as many places as there are, the second half of its channels left out where nobody wants them. Kernel::Tile
// writes sums of its registers' channels.
template <typename Kernel, int kVectors>
inline void MultiplyVectors(const uint32_t* const* places, int count, const Taps& taps, const uint32_t* weights,
                            int32_t* sums) {
  switch (count) {
    case 1: return Kernel::template Tile<1, kVectors>(places, taps, weights, sums);
    case 2: return Kernel::template Tile<2, kVectors>(places, taps, weights, sums);
    case 3: return Kernel::template Tile<3, kVectors>(places, taps, weights, sums);
    default: return Kernel::template Tile<4, kVectors>(places, taps, weights, sums);
  }
}

template <typename Kernel>
void MultiplyPlaces(const uint32_t* const* places, int count, const Taps& taps, const uint32_t* weights, int32_t* sums,
                    int valid) {
  if (valid > kChannels / 2) return MultiplyVectors<Kernel, 2>(places, count, taps, weights, sums);
  MultiplyVectors<Kernel, 1>(places, count, taps, weights, sums);
  for (int m = 0; m < count; ++m) _mm512_store_si512(sums + m * kChannels + 16, _mm512_setzero_si512());
}

}  // namespace
}  // namespace bdd
