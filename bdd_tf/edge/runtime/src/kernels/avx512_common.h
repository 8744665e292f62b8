// Shared by the AVX-512 kernel sets. 16 channels per register. Included once by each of their files.
#pragma once

#define BDD_LANES 16
#define BDD_ROWS 8
#define BDD_CONVOLVE_ROWS 8
#define BDD_REGISTERS 32
#include "kernels/avx512_intrinsics.h"
#include "kernels/make_kernel_set.h"

namespace bdd {
namespace {

constexpr int kPixels = 4;
constexpr int kChannels = 32;

inline __m512i Broadcast(uint32_t word) { return _mm512_set1_epi32(static_cast<int>(word)); }

// A full adder: adds w ^ x and u ^ y to the bits of `sum` and returns the carry, in three operations. With
// p = sum ^ w ^ x and s = p ^ u ^ y, the carry is u ^ y = ~s where p is set, and the old sum elsewhere.
inline __m512i AddWords(__m512i& sum, __m512i w, __m512i x, __m512i u, __m512i y) {
  constexpr int kXor = 0x96, kCarry = 0x3A;  // a ^ b ^ c, and a ? ~b : c
  const __m512i p = _mm512_ternarylogic_epi32(sum, w, x, kXor);
  const __m512i s = _mm512_ternarylogic_epi32(p, u, y, kXor);
  const __m512i carry = _mm512_ternarylogic_epi32(p, s, sum, kCarry);
  sum = s;
  return carry;
}

// Kernel::Tile<pixels, vectors> writes the popcounts of `pixels` pixels and 16 * `vectors` channels.
template <typename Kernel, int kVectors>
inline void BgemmTile(const uint32_t* const* indirection, int count, const Taps& taps, const uint32_t* weights,
                      int32_t* popcounts) {
  switch (count) {
    case 1: return Kernel::template Tile<1, kVectors>(indirection, taps, weights, popcounts);
    case 2: return Kernel::template Tile<2, kVectors>(indirection, taps, weights, popcounts);
    case 3: return Kernel::template Tile<3, kVectors>(indirection, taps, weights, popcounts);
    default: return Kernel::template Tile<4, kVectors>(indirection, taps, weights, popcounts);
  }
}

// Leaves out the second half of a block where none of its channels is valid.
template <typename Kernel>
void BgemmTiles(const uint32_t* const* indirection, int count, const Taps& taps, const uint32_t* weights,
                int32_t* popcounts, int valid) {
  if (valid > kChannels / 2) return BgemmTile<Kernel, 2>(indirection, count, taps, weights, popcounts);
  BgemmTile<Kernel, 1>(indirection, count, taps, weights, popcounts);
  for (int m = 0; m < count; ++m) _mm512_store_si512(popcounts + m * kChannels + 16, _mm512_setzero_si512());
}

}  // namespace
}  // namespace bdd
