// NEON, 64 and 32 bits: 4 channels a register; CNT counts bytes, which are summed as long as they cannot overflow.
#include <arm_neon.h>

#define BDD_LANES 4
#define BDD_ROWS 2
#define BDD_CONVOLVE_ROWS 2
#include "planes.h"
#include "tile.h"

namespace bdd {
namespace {

// 32-bit ARM has 16 registers of 128 bits, 64-bit ARM 32.
#if defined(__aarch64__)
constexpr int kPixels = 4;
#else
constexpr int kPixels = 2;
#endif
constexpr int kChannels = 16;
constexpr int kRegisters = kChannels / 4;
constexpr int kWordsPerFlush = 31;  // a byte gains at most 8 a word

template <int kCount>
void MultiplyTile(const uint32_t* const* places, const Taps& taps, const uint32_t* weights, int32_t* sums) {
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
        const uint32x4_t x = vld1q_dup_u32(places[m] + offset);
        Unroll<kRegisters>(
            [&](auto v) { bytes[m][v] = vaddq_u8(bytes[m][v], vcntq_u8(vreinterpretq_u8_u32(veorq_u32(x, w[v])))); });
      });
    }
    each([&](auto m, auto v) {
      totals[m][v] = vpadalq_u16(totals[m][v], vpaddlq_u8(bytes[m][v]));
      bytes[m][v] = vdupq_n_u8(0);
    });
  }
  each([&](auto m, auto v) { vst1q_s32(sums + m * kChannels + 4 * v, vreinterpretq_s32_u32(totals[m][v])); });
}

void Multiply(const uint32_t* const* places, int count, const Taps& taps, const uint32_t* weights, int32_t* sums, int) {
  switch (count) {
    case 1: return MultiplyTile<1>(places, taps, weights, sums);
#if defined(__aarch64__)
    case 2: return MultiplyTile<2>(places, taps, weights, sums);
    case 3: return MultiplyTile<3>(places, taps, weights, sums);
#endif
    default: return MultiplyTile<kPixels>(places, taps, weights, sums);
  }
}

void Pack(const float* x, int64_t words, uint32_t* bits) {
  static const uint32_t kPlaces[4] = {1, 2, 4, 8};
  const uint32x4_t places = vld1q_u32(kPlaces);
  const float32x4_t zero = vdupq_n_f32(0.0f);
  for (int64_t i = 0; i < words; ++i, x += 32) {
    uint32x4_t word = vdupq_n_u32(0);
    // From the last four to the first: each lane collects the bits of its remainder modulo 4.
    for (int part = 7; part >= 0; --part) {
      const uint32x4_t negative = vandq_u32(vcltq_f32(vld1q_f32(x + 4 * part), zero), places);
      word = vorrq_u32(vshlq_n_u32(word, 4), negative);
    }
    uint32x2_t half = vorr_u32(vget_low_u32(word), vget_high_u32(word));
    bits[i] = vget_lane_u32(half, 0) | vget_lane_u32(half, 1);
  }
}

}  // namespace

const KernelSet* NeonKernels() {
  static const KernelSet set = MakeKernelSet<kPixels, kChannels, Multiply, Pack>("neon");
  return &set;
}

}  // namespace bdd
