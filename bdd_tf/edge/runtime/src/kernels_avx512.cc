// AVX-512 with VPOPCNTDQ: 16 channels a register, one input word broadcast against them.
#define BDD_LANES 16
#define BDD_ROWS 8
#define BDD_CONVOLVE_ROWS 8
#include "planes.h"
#include "tile.h"

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12's own header passes deliberately undefined registers on.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

namespace bdd {
namespace {

constexpr int kPixels = 4;
constexpr int kChannels = 32;
constexpr int kXor = 0x96;    // a ^ b ^ c
constexpr int kCarry = 0x3A;  // a ? ~b : c, see below

// A carry-save adder takes two words at a time: with `ones` the bits that stand alone so far, p = ones ^ a and
// s = p ^ b, the carry is b = ~s where p is set and ones elsewhere. The xors of input and weight ride along, so that
// two words cost three logic operations, one popcount and one addition instead of two of each.
template <int kCount, int kVectors>
void MultiplyTile(const uint32_t* const* places, const Taps& taps, const uint32_t* weights, int32_t* sums) {
  __m512i ones[kCount][kVectors], twos[kCount][kVectors];
  Unroll<kCount>([&](auto m) { Unroll<kVectors>([&](auto v) { ones[m][v] = twos[m][v] = _mm512_setzero_si512(); }); });
  const int32_t* offsets = taps.offsets;
  int64_t k = 0;
  for (; k + 2 <= taps.words; k += 2, weights += 2 * kChannels) {
    const int64_t first = offsets[k], second = offsets[k + 1];
    Unroll<kVectors>([&](auto v) {
      const __m512i w = _mm512_load_si512(weights + 16 * v);
      const __m512i u = _mm512_load_si512(weights + kChannels + 16 * v);
      Unroll<kCount>([&](auto m) {
        const __m512i x = _mm512_set1_epi32(static_cast<int>(places[m][first]));
        const __m512i y = _mm512_set1_epi32(static_cast<int>(places[m][second]));
        const __m512i p = _mm512_ternarylogic_epi32(ones[m][v], w, x, kXor);
        const __m512i s = _mm512_ternarylogic_epi32(p, u, y, kXor);
        const __m512i carry = _mm512_ternarylogic_epi32(p, s, ones[m][v], kCarry);
        ones[m][v] = s;
        twos[m][v] = _mm512_add_epi32(twos[m][v], _mm512_popcnt_epi32(carry));
      });
    });
  }
  Unroll<kCount>([&](auto m) {
    if (kVectors == 1) _mm512_store_si512(sums + m * kChannels + 16, _mm512_setzero_si512());
    Unroll<kVectors>([&](auto v) {
      __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(twos[m][v], 1), _mm512_popcnt_epi32(ones[m][v]));
      if (k < taps.words) {
        const __m512i x = _mm512_set1_epi32(static_cast<int>(places[m][offsets[k]]));
        const __m512i w = _mm512_load_si512(weights + 16 * v);
        sum = _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_xor_si512(w, x)));
      }
      _mm512_store_si512(sums + m * kChannels + 16 * v, sum);
    });
  });
}

template <int kVectors>
void MultiplyVectors(const uint32_t* const* places, int count, const Taps& taps, const uint32_t* weights,
                     int32_t* sums) {
  switch (count) {
    case 1: return MultiplyTile<1, kVectors>(places, taps, weights, sums);
    case 2: return MultiplyTile<2, kVectors>(places, taps, weights, sums);
    case 3: return MultiplyTile<3, kVectors>(places, taps, weights, sums);
    default: return MultiplyTile<4, kVectors>(places, taps, weights, sums);
  }
}

void Multiply(const uint32_t* const* places, int count, const Taps& taps, const uint32_t* weights, int32_t* sums,
              int valid) {
  if (valid <= kChannels / 2) return MultiplyVectors<1>(places, count, taps, weights, sums);
  MultiplyVectors<2>(places, count, taps, weights, sums);
}

void Pack(const float* x, int64_t words, uint32_t* bits) {
  const __m512 zero = _mm512_setzero_ps();
  for (int64_t i = 0; i < words; ++i, x += 32) {
    const unsigned low = _mm512_cmp_ps_mask(_mm512_loadu_ps(x), zero, _CMP_LT_OQ);
    const unsigned high = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + 16), zero, _CMP_LT_OQ);
    bits[i] = low | high << 16;
  }
}

}  // namespace

const KernelSet* Avx512Kernels() {
  static const KernelSet set = MakeKernelSet<kPixels, kChannels, Multiply, Pack>("avx512");
  return &set;
}

}  // namespace bdd
