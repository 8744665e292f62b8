// AVX2: 8 channels a register, popcounts by table look-up, summed in bytes as long as they cannot overflow.
#include <immintrin.h>

#define BDD_LANES 8
#define BDD_ROWS 2
#define BDD_CONVOLVE_ROWS 2
#include "planes.h"
#include "tile.h"

namespace bdd {
namespace {

constexpr int kPixels = 4;
constexpr int kChannels = 16;
constexpr int kWordsPerFlush = 31;  // a byte gains at most 8 a word

inline __m256i CountBytes(__m256i x, __m256i table, __m256i nibble) {
  const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
  const __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
  return _mm256_add_epi8(low, high);
}

template <int kCount>
void MultiplyTile(const uint32_t* const* places, const Taps& taps, const uint32_t* weights, int32_t* sums) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i one8 = _mm256_set1_epi8(1), one16 = _mm256_set1_epi16(1);
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
        const __m256i x = _mm256_set1_epi32(static_cast<int>(places[m][offset]));
        bytes[m][0] = _mm256_add_epi8(bytes[m][0], CountBytes(_mm256_xor_si256(x, w), table, nibble));
        bytes[m][1] = _mm256_add_epi8(bytes[m][1], CountBytes(_mm256_xor_si256(x, u), table, nibble));
      });
    }
    Unroll<kCount>([&](auto m) {
      Unroll<2>([&](auto v) {
        const __m256i words = _mm256_madd_epi16(_mm256_maddubs_epi16(bytes[m][v], one8), one16);
        totals[m][v] = _mm256_add_epi32(totals[m][v], words);
      });
    });
  }
  Unroll<kCount>([&](auto m) {
    Unroll<2>(
        [&](auto v) { _mm256_store_si256(reinterpret_cast<__m256i*>(sums + m * kChannels + 8 * v), totals[m][v]); });
  });
}

void Multiply(const uint32_t* const* places, int count, const Taps& taps, const uint32_t* weights, int32_t* sums, int) {
  switch (count) {
    case 1: return MultiplyTile<1>(places, taps, weights, sums);
    case 2: return MultiplyTile<2>(places, taps, weights, sums);
    case 3: return MultiplyTile<3>(places, taps, weights, sums);
    default: return MultiplyTile<4>(places, taps, weights, sums);
  }
}

void Pack(const float* x, int64_t words, uint32_t* bits) {
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

}  // namespace

const KernelSet* Avx2Kernels() {
  static const KernelSet set = MakeKernelSet<kPixels, kChannels, Multiply, Pack>("avx2");
  return &set;
}

}  // namespace bdd
