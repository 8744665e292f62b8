// AVX-512 with VPOPCNTDQ for AMD's four vector units, where operations of three operands cost more than those of two:
// the carry-save adder of kernels_avx512.cc has three of them in each two words, here it is one.
//
// A chain of words a, b, c, ... is added up two at a time. The parity of the sum so far, bit by bit, is w ^ x of the
// parities of weights and of input, and these are known beforehand: they take the place of every other word
// (Encoding::kParities). From one parity to the next, over words b and c, the carry is b where the parity stays (b
// = c then) and the old parity where it changes. Two words cost two operations for b and the parity, one for the carry,
// a popcount and an addition.
#include "avx512.h"

namespace bdd {
namespace {

// w ^ x for all channels. Left to itself the compiler loads a word of input once for both registers of weights; as an
// operand in memory it costs nothing where the units are busy, but one instruction less.
inline __m512i Xor(__m512i w, const uint32_t* x) {
  __m512i both;
  __asm__("vpxord %2%{1to16%}, %1, %0" : "=v"(both) : "v"(w), "m"(*x));
  return both;
}

// Tiles of kCount places times kVectors registers.
template <int kCount, int kVectors>
struct Grid {
  __m512i at[kCount][kVectors];

  // Calls f(register of weights, m, v) for each; weights are loaded once for all places.
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
  static void Tile(const uint32_t* const* places, const Taps& taps, const uint32_t* weights, int32_t* sums) {
    if (!taps.encoded) return TileOfWords<kCount, kVectors>(places, taps, weights, sums);
    using Registers = Grid<kCount, kVectors>;
    Registers ones, twos, odd;
    ones.Clear();
    twos.Clear();
    const auto count = [](__m512i total, __m512i bits) { return _mm512_add_epi32(total, _mm512_popcnt_epi32(bits)); };
    for (int64_t k = 0; k < taps.words; k += taps.tap_words) {
      const uint32_t* words[kCount];
      Unroll<kCount>([&](auto m) { words[m] = places[m] + taps.offsets[k]; });
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
        _mm512_store_si512(sums + m * kChannels + 16 * v, sum);
      });
    });
  }

  // Every word counted by itself.
  template <int kCount, int kVectors>
  static void TileOfWords(const uint32_t* const* places, const Taps& taps, const uint32_t* weights, int32_t* sums) {
    using Registers = Grid<kCount, kVectors>;
    Registers totals;
    totals.Clear();
    for (int64_t k = 0; k < taps.words; ++k, weights += kChannels) {
      const int64_t offset = taps.offsets[k];
      Registers::Each(weights, [&](__m512i w, auto m, auto v) {
        const __m512i bits = Xor(w, places[m] + offset);
        totals.at[m][v] = _mm512_add_epi32(totals.at[m][v], _mm512_popcnt_epi32(bits));
      });
    }
    Unroll<kCount>([&](auto m) {
      Unroll<kVectors>([&](auto v) { _mm512_store_si512(sums + m * kChannels + 16 * v, totals.at[m][v]); });
    });
  }
};

}  // namespace

const KernelSet* Avx512ParityKernels() {
  static const KernelSet set =
      MakeKernelSet<kPixels, kChannels, MultiplyPlaces<Parities>, Pack>("avx512parity", Encoding::kParities);
  return &set;
}

}  // namespace bdd
