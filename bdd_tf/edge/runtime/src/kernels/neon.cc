// NEON on 64-bit and 32-bit ARM: 4 channels per register. CNT counts the bits of bytes, which are summed until they
// could overflow.
#include <arm_neon.h>

#define BDD_LANES 4
#define BDD_ROWS 2
#define BDD_CONVOLVE_ROWS 2
#include "kernels/make_kernel_set.h"

namespace bdd {
namespace {

// 64-bit ARM has 32 registers of 128 bits, 32-bit ARM has 16.
#if defined(__aarch64__)
constexpr int kPixels = 4;
#else
constexpr int kPixels = 2;
#endif
constexpr int kChannels = 16;
constexpr int kRegisters = kChannels / 4;
constexpr int kWordsPerFlush = 31;  // each word adds at most 8 to a byte

template <int kCount>
void BgemmTile(const uint32_t* const* indirection, const Taps& taps, const uint32_t* weights, int32_t* popcounts) {
  uint32x4_t totals[kCount][kRegisters];
  uint8x16_t bytes[kCount][kRegisters];
  const auto each = [](const auto& f) {
    Unroll<kCount>([&](auto m) { Unroll<kRegisters>([&](auto v) { f(m, v); }); });
  };
  each([&](auto m, auto v) {
    totals[m][v] = vdupq_n_u32(0);
    bytes[m][v] = vdupq_n_u8(0);
  });
  for (int64_t k = 0; k < taps.words;) {
    const int64_t end = taps.words - k < kWordsPerFlush ? taps.words : k + kWordsPerFlush;
    for (; k < end; ++k, weights += kChannels) {
      const int64_t offset = taps.offsets[k];
      uint32x4_t w[kRegisters];
      Unroll<kRegisters>([&](auto v) { w[v] = vld1q_u32(weights + 4 * v); });
      Unroll<kCount>([&](auto m) {
        const uint32x4_t x = vld1q_dup_u32(indirection[m] + offset);
        Unroll<kRegisters>(
            [&](auto v) { bytes[m][v] = vaddq_u8(bytes[m][v], vcntq_u8(vreinterpretq_u8_u32(veorq_u32(x, w[v])))); });
      });
    }
    each([&](auto m, auto v) {
      totals[m][v] = vpadalq_u16(totals[m][v], vpaddlq_u8(bytes[m][v]));
      bytes[m][v] = vdupq_n_u8(0);
    });
  }
  each([&](auto m, auto v) { vst1q_s32(popcounts + m * kChannels + 4 * v, vreinterpretq_s32_u32(totals[m][v])); });
}

void bgemm_b1_i32__neon(const uint32_t* const* indirection, int count, const Taps& taps, const uint32_t* weights,
                        int32_t* popcounts, int) {
  switch (count) {
    case 1: return BgemmTile<1>(indirection, taps, weights, popcounts);
#if defined(__aarch64__)
    case 2: return BgemmTile<2>(indirection, taps, weights, popcounts);
    case 3: return BgemmTile<3>(indirection, taps, weights, popcounts);
#endif
    default: return BgemmTile<kPixels>(indirection, taps, weights, popcounts);
  }
}

void bitpack_f32_b1__neon(const float* x, int64_t words, uint32_t* bits) {
  static const uint32_t kBits[4] = {1, 2, 4, 8};
  const uint32x4_t lane_bits = vld1q_u32(kBits);
  const float32x4_t zero = vdupq_n_f32(0.0f);
  for (int64_t i = 0; i < words; ++i, x += 32) {
    uint32x4_t word = vdupq_n_u32(0);
    // From the last four floats to the first: lane i collects the bits whose index is i modulo 4.
    for (int part = 7; part >= 0; --part) {
      const uint32x4_t negative = vandq_u32(vcltq_f32(vld1q_f32(x + 4 * part), zero), lane_bits);
      word = vorrq_u32(vshlq_n_u32(word, 4), negative);
    }
    uint32x2_t half = vorr_u32(vget_low_u32(word), vget_high_u32(word));
    bits[i] = vget_lane_u32(half, 0) | vget_lane_u32(half, 1);
  }
}

}  // namespace

const KernelSet* NeonKernels() {
  return MakeKernelSet<kPixels, kChannels, bgemm_b1_i32__neon, bitpack_f32_b1__neon>("neon");
}

}  // namespace bdd
