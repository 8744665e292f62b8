// AVX-512 without VPOPCNTDQ (Skylake, Cascade Lake and Cooper Lake servers): 16 channels a register, popcounts by
// carry-save adder and look-up.
#define BDD_LANES 16
#define BDD_ROWS 8
#define BDD_CONVOLVE_ROWS 8
#include "carry_save.h"
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

struct Unit {
  using Register = __m512i;

  static Register Zero() { return _mm512_setzero_si512(); }
  static Register Load(const uint32_t* from) { return _mm512_load_si512(from); }
  static Register Broadcast(uint32_t word) { return _mm512_set1_epi32(static_cast<int>(word)); }
  static void Store(int32_t* to, Register x) { _mm512_store_si512(to, x); }
  static Register Xor(Register a, Register b) { return _mm512_xor_si512(a, b); }
  static Register AddBytes(Register a, Register b) { return _mm512_add_epi8(a, b); }
  static Register Sum(Register a, Register b) { return _mm512_add_epi32(a, b); }

  // Of w ^ x and u ^ y, whose xors cost nothing: the second of these is the sum's complement where p is set.
  static Register AddWords(Register& sum, Register w, Register x, Register u, Register y) {
    constexpr int kXor = 0x96, kCarry = 0x3A;  // a ^ b ^ c, and a ? ~b : c
    const Register p = _mm512_ternarylogic_epi32(sum, w, x, kXor);
    const Register s = _mm512_ternarylogic_epi32(p, u, y, kXor);
    const Register carry = _mm512_ternarylogic_epi32(p, s, sum, kCarry);
    sum = s;
    return carry;
  }
  static Register Add(Register& sum, Register a, Register b) {
    constexpr int kXor = 0x96, kMajority = 0xE8;
    const Register carry = _mm512_ternarylogic_epi32(sum, a, b, kMajority);
    sum = _mm512_ternarylogic_epi32(sum, a, b, kXor);
    return carry;
  }
  template <int kWeight>
  static Register Count(Register x) {
    constexpr int k = kWeight;
    const Register table = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, k, k, 2 * k, k, 2 * k, 2 * k, 3 * k, k, 2 * k, 2 * k, 3 * k, 2 * k, 3 * k, 3 * k, 4 * k));
    const Register nibble = _mm512_set1_epi8(15);
    const Register low = _mm512_shuffle_epi8(table, _mm512_and_si512(x, nibble));
    return _mm512_add_epi8(low, _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(x, 4), nibble)));
  }
  static Register Widen(Register bytes, Register eights) {
    const Register single = _mm512_maddubs_epi16(bytes, _mm512_set1_epi8(1));
    const Register pairs = _mm512_add_epi16(single, _mm512_maddubs_epi16(eights, _mm512_set1_epi8(8)));
    return _mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
  }
};

void Multiply(const uint32_t* const* places, int count, const Taps& taps, const uint32_t* weights, int32_t* sums,
              int valid) {
  CarrySave<Unit, kPixels>(places, count, taps, weights, kChannels, sums);
  if (valid > kChannels / 2) {
    CarrySave<Unit, kPixels>(places, count, taps, weights + 16, kChannels, sums + 16);
  } else {
    for (int m = 0; m < count; ++m) Unit::Store(sums + m * kChannels + 16, Unit::Zero());
  }
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

const KernelSet* Avx512BwKernels() {
  static const KernelSet set = MakeKernelSet<kPixels, kChannels, Multiply, Pack>("avx512bw");
  return &set;
}

}  // namespace bdd
