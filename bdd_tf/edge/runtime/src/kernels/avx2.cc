// AVX2: 8 channels per register. Popcounts by a table lookup of 4 bits (PSHUFB), summed in bytes until they could
// overflow. For encoded input a carry-save adder makes one lookup serve four words.
#include <immintrin.h>

#define BDD_LANES 8
#define BDD_ROWS 2
#define BDD_CONVOLVE_ROWS 2
#define BDD_REGISTERS 16
#include "kernels/make_kernel_set.h"

namespace bdd {
namespace {

constexpr int kPixels = 4;
constexpr int kChannels = 16;
constexpr int kWordsPerFlush = 31;  // each word adds at most 8 to a byte

inline __m256i CountBytes(__m256i x) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
  const __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
  return _mm256_add_epi8(low, high);
}

// The sum of the bytes of each word.
inline __m256i Widen(__m256i bytes) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}

template <int kCount>
void BgemmTile(const uint32_t* const* indirection, const Taps& taps, const uint32_t* weights, int32_t* popcounts) {
  __m256i totals[kCount][2];
  Unroll<kCount>([&](auto m) { totals[m][0] = totals[m][1] = _mm256_setzero_si256(); });
  for (int64_t k = 0; k < taps.words;) {
    const int64_t end = taps.words - k < kWordsPerFlush ? taps.words : k + kWordsPerFlush;
    __m256i bytes[kCount][2];
    Unroll<kCount>([&](auto m) { bytes[m][0] = bytes[m][1] = _mm256_setzero_si256(); });
    for (; k < end; ++k, weights += kChannels) {
      const int64_t offset = taps.offsets[k];
      const __m256i w = _mm256_load_si256(reinterpret_cast<const __m256i*>(weights));
      const __m256i u = _mm256_load_si256(reinterpret_cast<const __m256i*>(weights + 8));
      Unroll<kCount>([&](auto m) {
        const __m256i x = _mm256_set1_epi32(static_cast<int>(indirection[m][offset]));
        bytes[m][0] = _mm256_add_epi8(bytes[m][0], CountBytes(_mm256_xor_si256(x, w)));
        bytes[m][1] = _mm256_add_epi8(bytes[m][1], CountBytes(_mm256_xor_si256(x, u)));
      });
    }
    Unroll<kCount>(
        [&](auto m) { Unroll<2>([&](auto v) { totals[m][v] = _mm256_add_epi32(totals[m][v], Widen(bytes[m][v])); }); });
  }
  Unroll<kCount>([&](auto m) {
    Unroll<2>([&](auto v) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(popcounts + m * kChannels + 8 * v), totals[m][v]);
    });
  });
}

// One pixel and 16 channels, for input encoded with Encoding::kDifferences: of each pair of words b and c the second is
// stored as d = b ^ c. With `odd`, the parity of the sum so far, the carry of adding b and c is `odd` where d is set
// and b elsewhere: six operations for two words. A full adder combines two such carries; only its own carry, of weight
// 4, is counted by table lookup.
inline void BgemmEncodedPixel(const uint32_t* pixel, const Taps& taps, const uint32_t* weights, int32_t* popcounts) {
  const int32_t* offsets = taps.offsets;
  const auto select = [](__m256i which, __m256i a, __m256i b) {
    return _mm256_xor_si256(b, _mm256_and_si256(which, _mm256_xor_si256(a, b)));
  };
  const auto word = [&](int64_t k, int v) {
    const auto* from = reinterpret_cast<const __m256i*>(weights + k * kChannels + 8 * v);
    return _mm256_xor_si256(_mm256_set1_epi32(static_cast<int>(pixel[offsets[k]])), _mm256_load_si256(from));
  };
  __m256i odd[2], twos[2], fours[2];
  for (int v = 0; v < 2; ++v) odd[v] = twos[v] = fours[v] = _mm256_setzero_si256();
  const auto pair = [&](int64_t k, int v) {
    const __m256i difference = word(k + 1, v), carry = select(difference, odd[v], word(k, v));
    odd[v] = _mm256_xor_si256(odd[v], difference);
    return carry;
  };
  int64_t k = 0;
  while (k + 4 <= taps.words) {
    constexpr int64_t kFlush = 4 * kWordsPerFlush;
    const int64_t end = taps.words - k < kFlush ? taps.words : k + kFlush;
    __m256i bytes[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (; k + 4 <= end; k += 4) {
      Unroll<2>([&](auto v) {
        const __m256i a = pair(k, v), b = pair(k + 2, v), differ = _mm256_xor_si256(a, b);
        bytes[v] = _mm256_add_epi8(bytes[v], CountBytes(select(differ, twos[v], b)));
        twos[v] = _mm256_xor_si256(twos[v], differ);
      });
    }
    Unroll<2>([&](auto v) { fours[v] = _mm256_add_epi32(fours[v], Widen(bytes[v])); });
  }
  Unroll<2>([&](auto v) {
    __m256i bytes = CountBytes(twos[v]);
    if (k < taps.words) bytes = _mm256_add_epi8(bytes, CountBytes(pair(k, v)));
    bytes = _mm256_add_epi8(_mm256_add_epi8(bytes, bytes), CountBytes(odd[v]));
    const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(fours[v], 2), Widen(bytes));
    _mm256_store_si256(reinterpret_cast<__m256i*>(popcounts + 8 * v), sum);
  });
}

void bgemm_b1_i32__avx2(const uint32_t* const* indirection, int count, const Taps& taps, const uint32_t* weights,
                        int32_t* popcounts, int) {
  if (taps.encoded) {
    for (int m = 0; m < count; ++m) BgemmEncodedPixel(indirection[m], taps, weights, popcounts + m * kChannels);
    return;
  }
  switch (count) {
    case 1: return BgemmTile<1>(indirection, taps, weights, popcounts);
    case 2: return BgemmTile<2>(indirection, taps, weights, popcounts);
    case 3: return BgemmTile<3>(indirection, taps, weights, popcounts);
    default: return BgemmTile<4>(indirection, taps, weights, popcounts);
  }
}

void bitpack_f32_b1__avx2(const float* x, int64_t words, uint32_t* bits) {
  const __m256 zero = _mm256_setzero_ps();
  for (int64_t i = 0; i < words; ++i, x += 32) {
    uint32_t word = 0;
    for (int part = 0; part < 4; ++part) {
      const __m256 negative = _mm256_cmp_ps(_mm256_loadu_ps(x + 8 * part), zero, _CMP_LT_OQ);
      word |= static_cast<uint32_t>(_mm256_movemask_ps(negative)) << (8 * part);
    }
    bits[i] = word;
  }
}

struct Avx2Signs {
  static uint32_t Of(const Lanes (&values)[1]) {
    __m256 same;
    std::memcpy(&same, &values[0], sizeof same);
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(same, _mm256_setzero_ps(), _CMP_LT_OQ)));
  }
};

}  // namespace

const KernelSet* Avx2Kernels() {
  return MakeKernelSet<kPixels, kChannels, bgemm_b1_i32__avx2, bitpack_f32_b1__avx2, Avx2Signs>("avx2",
                                                                                                Encoding::kDifferences);
}

}  // namespace bdd
