// AVX-512 with VPOPCNTDQ: 16 channels a register, one input word broadcast against them.
#include "avx512.h"

namespace bdd {
namespace {

// A carry-save adder takes two words at a time: they cost three logic operations, one popcount and one addition instead
// of two of each.
struct CarrySave {
  template <int kCount, int kVectors>
  static void Tile(const uint32_t* const* places, const Taps& taps, const uint32_t* weights, int32_t* sums) {
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
          const __m512i carry = AddWords(ones[m][v], w, Broadcast(places[m][first]), u, Broadcast(places[m][second]));
          twos[m][v] = _mm512_add_epi32(twos[m][v], _mm512_popcnt_epi32(carry));
        });
      });
    }
    Unroll<kCount>([&](auto m) {
      Unroll<kVectors>([&](auto v) {
        __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(twos[m][v], 1), _mm512_popcnt_epi32(ones[m][v]));
        if (k < taps.words) {
          const __m512i x = Broadcast(places[m][offsets[k]]);
          const __m512i w = _mm512_load_si512(weights + 16 * v);
          sum = _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_xor_si512(w, x)));
        }
        _mm512_store_si512(sums + m * kChannels + 16 * v, sum);
      });
    });
  }
};

}  // namespace

const KernelSet* Avx512Kernels() {
  static const KernelSet set = MakeKernelSet<kPixels, kChannels, MultiplyPlaces<CarrySave>, Pack>("avx512");
  return &set;
}

}  // namespace bdd
