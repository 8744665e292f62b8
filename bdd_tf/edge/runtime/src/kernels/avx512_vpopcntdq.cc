// AVX-512 with VPOPCNTDQ: 16 channels per register; each input word is broadcast and XORed with them.
#include "kernels/avx512_common.h"

namespace bdd {
namespace {

// A carry-save adder takes two words at a time. They cost three logic operations, one popcount and one addition,
// instead of two popcounts and two additions.
struct CarrySave {
  template <int kCount, int kVectors>
  static void Tile(const uint32_t* const* indirection, const Taps& taps, const uint32_t* weights, int32_t* popcounts) {
    __m512i ones[kCount][kVectors], twos[kCount][kVectors];
    Unroll<kCount>(
        [&](auto m) { Unroll<kVectors>([&](auto v) { ones[m][v] = twos[m][v] = _mm512_setzero_si512(); }); });
    const int32_t* offsets = taps.offsets;
    int64_t k = 0;
    for (; k + 2 <= taps.words; k += 2, weights += 2 * kChannels) {
      const int64_t first = offsets[k], second = offsets[k + 1];
      Unroll<kVectors>([&](auto v) {
        const __m512i w = _mm512_load_si512(weights + 16 * v);
        const __m512i u = _mm512_load_si512(weights + kChannels + 16 * v);
        Unroll<kCount>([&](auto m) {
          const __m512i carry =
              AddWords(ones[m][v], w, Broadcast(indirection[m][first]), u, Broadcast(indirection[m][second]));
          twos[m][v] = _mm512_add_epi32(twos[m][v], _mm512_popcnt_epi32(carry));
        });
      });
    }
    Unroll<kCount>([&](auto m) {
      Unroll<kVectors>([&](auto v) {
        __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(twos[m][v], 1), _mm512_popcnt_epi32(ones[m][v]));
        if (k < taps.words) {
          const __m512i x = Broadcast(indirection[m][offsets[k]]);
          const __m512i w = _mm512_load_si512(weights + 16 * v);
          sum = _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_xor_si512(w, x)));
        }
        _mm512_store_si512(popcounts + m * kChannels + 16 * v, sum);
      });
    });
  }
};

constexpr BgemmFunction bgemm_b1_i32__avx512_vpopcntdq = BgemmTiles<CarrySave>;

}  // namespace

const KernelSet* Avx512VpopcntdqKernels() {
  static const KernelSet set =
      WithBgemm<kPixels, kChannels, bgemm_b1_i32__avx512_vpopcntdq>(*Avx512BwKernels(), "avx512");
  return &set;
}

}  // namespace bdd
