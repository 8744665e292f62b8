// AVX-512 with VPOPCNTDQ for AMD, whose four vector units run instructions of three operands more slowly than those of
// two. The carry-save adder of avx512_vpopcntdq.cc needs three such instructions for two words, this one needs one.
//
// The words a, b, c, ... of a tap are added two at a time. The bitwise parity of the sum so far is the XOR of the
// parities of weights and input, which are computed in advance and replace every second word (Encoding::kParities).
// From one parity to the next, over words b and c, the carry is b where the parity does not change (then b = c), and
// the old parity where it does. Two words cost two operations for b and the parity, one for the carry, one popcount and
// one addition.
#include "kernels/avx512_common.h"

namespace bdd {
namespace {

// w ^ x for all channels. The compiler would load an input word once into a register for both registers of weights; as
// a memory operand it saves an instruction and is free while the vector units are busy.
inline __m512i Xor(__m512i w, const uint32_t* x) {
  __m512i both;
  __asm__("vpxord %2%{1to16%}, %1, %0" : "=v"(both) : "v"(w), "m"(*x));
  return both;
}

// Registers of kCount pixels times kVectors vectors of channels.
template <int kCount, int kVectors>
struct Grid {
  __m512i at[kCount][kVectors];

  // Calls f(weights, m, v) for each register; weights are loaded once for all pixels.
  template <typename F>
  static void Each(const uint32_t* weights, const F& f) {
    Unroll<kVectors>([&](auto v) {
      const __m512i w = _mm512_load_si512(weights + 16 * v);
      Unroll<kCount>([&](auto m) { f(w, m, v); });
    });
  }
  void Clear() {
    Unroll<kCount>([&](auto m) { Unroll<kVectors>([&](auto v) { at[m][v] = _mm512_setzero_si512(); }); });
  }
};

struct Parities {
  template <int kCount, int kVectors>
  static void Tile(const uint32_t* const* indirection, const Taps& taps, const uint32_t* weights, int32_t* popcounts) {
    if (!taps.encoded) return PlainTile<kCount, kVectors>(indirection, taps, weights, popcounts);
    using Registers = Grid<kCount, kVectors>;
    Registers ones, twos, odd;
    ones.Clear();
    twos.Clear();
    const auto count = [](__m512i total, __m512i bits) { return _mm512_add_epi32(total, _mm512_popcnt_epi32(bits)); };
    for (int64_t k = 0; k < taps.words; k += taps.tap_words) {
      const uint32_t* words[kCount];
      Unroll<kCount>([&](auto m) { words[m] = indirection[m] + taps.offsets[k]; });
      Registers::Each(weights, [&](__m512i w, auto m, auto v) { odd.at[m][v] = Xor(w, words[m]); });
      weights += kChannels;
      int64_t i = 1;
      for (; i + 2 <= taps.tap_words; i += 2, weights += 2 * kChannels) {
        Unroll<kVectors>([&](auto v) {
          const __m512i w = _mm512_load_si512(weights + 16 * v);
          const __m512i u = _mm512_load_si512(weights + kChannels + 16 * v);
          Unroll<kCount>([&](auto m) {
            constexpr int kCarry = 0xD4;  // b == c ? a : b
            const __m512i word = Xor(w, words[m] + i);
            const __m512i parity = Xor(u, words[m] + i + 1);
            const __m512i carry = _mm512_ternarylogic_epi32(word, odd.at[m][v], parity, kCarry);
            odd.at[m][v] = parity;
            twos.at[m][v] = count(twos.at[m][v], carry);
          });
        });
      }
      Unroll<kCount>(
          [&](auto m) { Unroll<kVectors>([&](auto v) { ones.at[m][v] = count(ones.at[m][v], odd.at[m][v]); }); });
      if (i == taps.tap_words) continue;
      Registers::Each(weights,
                      [&](__m512i w, auto m, auto v) { ones.at[m][v] = count(ones.at[m][v], Xor(w, words[m] + i)); });
      weights += kChannels;
    }
    Unroll<kCount>([&](auto m) {
      Unroll<kVectors>([&](auto v) {
        const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(twos.at[m][v], 1), ones.at[m][v]);
        _mm512_store_si512(popcounts + m * kChannels + 16 * v, sum);
      });
    });
  }

  // For words that are not encoded: counts each word by itself.
  template <int kCount, int kVectors>
  static void PlainTile(const uint32_t* const* indirection, const Taps& taps, const uint32_t* weights,
                        int32_t* popcounts) {
    using Registers = Grid<kCount, kVectors>;
    Registers totals;
    totals.Clear();
    for (int64_t k = 0; k < taps.words; ++k, weights += kChannels) {
      const int64_t offset = taps.offsets[k];
      Registers::Each(weights, [&](__m512i w, auto m, auto v) {
        const __m512i bits = Xor(w, indirection[m] + offset);
        totals.at[m][v] = _mm512_add_epi32(totals.at[m][v], _mm512_popcnt_epi32(bits));
      });
    }
    Unroll<kCount>([&](auto m) {
      Unroll<kVectors>([&](auto v) { _mm512_store_si512(popcounts + m * kChannels + 16 * v, totals.at[m][v]); });
    });
  }
};

constexpr BgemmFunction bgemm_b1_i32__avx512_vpopcntdq_parity = BgemmTiles<Parities>;

}  // namespace

const KernelSet* Avx512VpopcntdqParityKernels() {
  static const KernelSet set = WithBgemm<kPixels, kChannels, bgemm_b1_i32__avx512_vpopcntdq_parity>(
      *Avx512BwKernels(), "avx512parity", Encoding::kParities);
  return &set;
}

}  // namespace bdd
