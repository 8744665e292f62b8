// AVX-512 without VPOPCNTDQ (Skylake, Cascade Lake and Cooper Lake servers): a tree of carry-save adders reduces eight
// words to one, and only that word's bits are counted, by a table lookup of 4 bits.
//
// AVX2, whose full adder takes five operations instead of two, gained nothing from the same tree (BNext-T, measured in
// turns: 0.99 of the time at best, 1.05 in the median).
#include "kernels/avx512_common.h"

namespace bdd {
namespace {

// A full adder: adds a and b to `sum` and returns the carry.
inline __m512i Add(__m512i& sum, __m512i a, __m512i b) {
  constexpr int kXor = 0x96, kMajority = 0xE8;
  const __m512i carry = _mm512_ternarylogic_epi32(sum, a, b, kMajority);
  sum = _mm512_ternarylogic_epi32(sum, a, b, kXor);
  return carry;
}

// kWeight times the popcount of each byte.
template <int kWeight>
inline __m512i Count(__m512i x) {
  constexpr int k = kWeight;
  const __m512i table = _mm512_broadcast_i32x4(
      _mm_setr_epi8(0, k, k, 2 * k, k, 2 * k, 2 * k, 3 * k, k, 2 * k, 2 * k, 3 * k, 2 * k, 3 * k, 3 * k, 4 * k));
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i low = _mm512_shuffle_epi8(table, _mm512_and_si512(x, nibble));
  return _mm512_add_epi8(low, _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(x, 4), nibble)));
}

// The sum of the bytes of each word, plus eight times that of `eights`.
inline __m512i Widen(__m512i bytes, __m512i eights) {
  const __m512i single = _mm512_maddubs_epi16(bytes, _mm512_set1_epi8(1));
  const __m512i pairs = _mm512_add_epi16(single, _mm512_maddubs_epi16(eights, _mm512_set1_epi8(8)));
  return _mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}

// Bits of weight 1, 2 and 4 that have not been carried yet.
struct Adder {
  __m512i ones = _mm512_setzero_si512(), twos = _mm512_setzero_si512(), fours = _mm512_setzero_si512();
};

// Popcounts of kCount pixels and the 16 channels that start at `weights`.
template <int kCount>
inline void CarrySaveTile(const uint32_t* const* indirection, const Taps& taps, const uint32_t* weights,
                          int32_t* popcounts) {
  constexpr int64_t kBlock = 8;
  constexpr int64_t kFlush = 31 * kBlock;  // each block adds at most 8 to a byte of `eights`
  const int32_t* offsets = taps.offsets;
  Adder adders[kCount];
  __m512i totals[kCount];
  Unroll<kCount>([&](auto m) BDD_INLINE { totals[m] = _mm512_setzero_si512(); });

  // Adds two words; the carry has weight 2.
  const auto two = [&](int64_t k, __m512i(&carry)[kCount]) BDD_INLINE {
    const uint32_t *w = weights + k * kChannels, *u = w + kChannels;
    const int64_t first = offsets[k], second = offsets[k + 1];
    Unroll<kCount>([&](auto m) BDD_INLINE {
      carry[m] = AddWords(adders[m].ones, _mm512_load_si512(w), Broadcast(indirection[m][first]), _mm512_load_si512(u),
                          Broadcast(indirection[m][second]));
    });
  };
  // Adds four words; the carry has weight 4.
  const auto four = [&](int64_t k, __m512i(&carry)[kCount]) BDD_INLINE {
    __m512i other[kCount];
    two(k, carry);
    two(k + 2, other);
    Unroll<kCount>([&](auto m) BDD_INLINE { carry[m] = Add(adders[m].twos, carry[m], other[m]); });
  };

  int64_t k = 0;
  __m512i bytes[kCount], eights[kCount];
  do {
    Unroll<kCount>([&](auto m) BDD_INLINE { eights[m] = _mm512_setzero_si512(); });
    const int64_t end = taps.words - k < kFlush ? taps.words : k + kFlush;
    for (; k + kBlock <= end; k += kBlock) {
      __m512i carry[kCount], other[kCount];
      four(k, carry);
      four(k + 4, other);
      Unroll<kCount>([&](auto m) BDD_INLINE {
        const __m512i eight = Add(adders[m].fours, carry[m], other[m]);
        eights[m] = _mm512_add_epi8(eights[m], Count<1>(eight));
      });
    }
    Unroll<kCount>([&](auto m) BDD_INLINE { bytes[m] = _mm512_setzero_si512(); });
    if (taps.words - k < kBlock) {  // fewer words than a block are left
      const auto count = [&](auto weight, const auto& bits) BDD_INLINE {
        Unroll<kCount>(
            [&](auto m) BDD_INLINE { bytes[m] = _mm512_add_epi8(bytes[m], Count<decltype(weight)::value>(bits(m))); });
      };
      constexpr std::integral_constant<int, 1> kOne;
      constexpr std::integral_constant<int, 2> kTwo;
      constexpr std::integral_constant<int, 4> kFour;
      const int64_t rest = taps.words - k;
      __m512i carry[kCount];
      if ((rest & 4) != 0) {
        four(k, carry);
        count(kFour, [&](auto m) BDD_INLINE { return carry[m]; });
        k += 4;
      }
      if ((rest & 2) != 0) {
        two(k, carry);
        count(kTwo, [&](auto m) BDD_INLINE { return carry[m]; });
        k += 2;
      }
      if ((rest & 1) != 0) {
        const int64_t offset = offsets[k];
        const __m512i w = _mm512_load_si512(weights + k * kChannels);
        count(kOne, [&](auto m) BDD_INLINE { return _mm512_xor_si512(w, Broadcast(indirection[m][offset])); });
        k += 1;
      }
      if (taps.words >= 2) count(kOne, [&](auto m) BDD_INLINE { return adders[m].ones; });
      if (taps.words >= 4) count(kTwo, [&](auto m) BDD_INLINE { return adders[m].twos; });
      if (taps.words >= 8) count(kFour, [&](auto m) BDD_INLINE { return adders[m].fours; });
    }
    Unroll<kCount>([&](auto m) BDD_INLINE { totals[m] = _mm512_add_epi32(totals[m], Widen(bytes[m], eights[m])); });
  } while (k < taps.words);
  Unroll<kCount>([&](auto m) BDD_INLINE { _mm512_store_si512(popcounts + m * kChannels, totals[m]); });
}

// Leaves out the second half of a block where none of its channels is valid.
template <int kCount>
inline void BgemmTile(const uint32_t* const* indirection, const Taps& taps, const uint32_t* weights, int32_t* popcounts,
                      int valid) {
  constexpr int kHalf = kChannels / 2;
  CarrySaveTile<kCount>(indirection, taps, weights, popcounts);
  if (valid > kHalf) return CarrySaveTile<kCount>(indirection, taps, weights + kHalf, popcounts + kHalf);
  for (int m = 0; m < kCount; ++m) _mm512_store_si512(popcounts + m * kChannels + kHalf, _mm512_setzero_si512());
}

void bgemm_b1_i32__avx512bw(const uint32_t* const* indirection, int count, const Taps& taps, const uint32_t* weights,
                            int32_t* popcounts, int valid) {
  if (count == kPixels) return BgemmTile<kPixels>(indirection, taps, weights, popcounts, valid);
  for (int m = 0; m < count; ++m) BgemmTile<1>(indirection + m, taps, weights, popcounts + m * kChannels, valid);
}

void bitpack_f32_b1__avx512(const float* x, int64_t words, uint32_t* bits) {
  const __m512 zero = _mm512_setzero_ps();
  for (int64_t i = 0; i < words; ++i, x += 32) {
    const unsigned low = _mm512_cmp_ps_mask(_mm512_loadu_ps(x), zero, _CMP_LT_OQ);
    const unsigned high = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + 16), zero, _CMP_LT_OQ);
    bits[i] = low | high << 16;
  }
}

struct Avx512Signs {
  static uint32_t Of(const Lanes (&values)[1]) {
    __m512 same;
    std::memcpy(&same, &values[0], sizeof same);
    return _mm512_cmp_ps_mask(same, _mm512_setzero_ps(), _CMP_LT_OQ);
  }
};

}  // namespace

const KernelSet* Avx512BwKernels() {
  return MakeKernelSet<kPixels, kChannels, bgemm_b1_i32__avx512bw, bitpack_f32_b1__avx512, Avx512Signs>("avx512bw");
}

}  // namespace bdd
