// Binary dot products for 64-bit ARM with five operations for two words instead of six. Included once by neon.cc.
//
// The words of a tap are encoded (Encoding::kPrefixParities): with the parity a of the words so far, and the parities t
// and s after one and two more words, the carry of adding these two is a where t is 0, and ~s where t is 1. Every
// second s is stored inverted. Then one selection yields the carry, or the inverted carry, whose bits are subtracted.
//
// In assembly, because the sums and parities of two pixels and 16 channels fill all 32 registers; compilers, which move
// loads and XORs ahead of their use, spilled a dozen of them.
#pragma once

#if defined(__aarch64__)
#include <arm_neon.h>

#include <algorithm>

#include "kernels/kernel_set.h"

namespace bdd {
namespace {

constexpr int kChainPixels = 2;
constexpr int kChainChannels = 16;
constexpr int kChainRegisters = kChainChannels / 4;

// Sums of bits by bytes: those of carries, which count twice, and of the last parities and words, which count once.
struct ChainSums {
  uint8x16_t twos[kChainPixels][kChainRegisters], ones[kChainPixels][kChainRegisters];
};

// Registers of the assembly: v0-v7: sums of carries. v8-v15 and v16-v23: parities, in turns before and after a pair.
// v24-v27: words of input. v28-v31: words of weights, whose XOR with the second pixel takes their place.
// clang-format off
#define BDD_EOR(TO, A, B) "eor v" #TO ".16b, v" #A ".16b, v" #B ".16b\n\t"
#define BDD_BIT(TO, A, WHICH) "bit v" #TO ".16b, v" #A ".16b, v" #WHICH ".16b\n\t"
#define BDD_CNT(REGISTER) "cnt v" #REGISTER ".16b, v" #REGISTER ".16b\n\t"
#define BDD_SUM(OP, TO, A) #OP " v" #TO ".16b, v" #TO ".16b, v" #A ".16b\n\t"
// A pair for two registers of channels of both pixels. A, C (second pixel: E, G) hold parities, whose place the carries
// take; B, D (F, H) receive the next ones; the T are sums. OP is add, or sub for inverted carries.
#define BDD_TWO_STEPS(OP, A, C, E, G, B, D, F, H, TA, TC, TE, TG)                \
  BDD_EOR(F, 24, 28) BDD_EOR(H, 24, 29) BDD_EOR(28, 26, 28) BDD_EOR(29, 26, 29)  \
  BDD_EOR(B, 25, 30) BDD_EOR(D, 25, 31) BDD_BIT(A, B, F) BDD_BIT(C, D, H)        \
  BDD_EOR(F, 27, 30) BDD_EOR(H, 27, 31) BDD_BIT(E, F, 28) BDD_BIT(G, H, 29)      \
  BDD_CNT(A) BDD_CNT(C) BDD_CNT(E) BDD_CNT(G)                                    \
  BDD_SUM(OP, TA, A) BDD_SUM(OP, TC, C) BDD_SUM(OP, TE, E) BDD_SUM(OP, TG, G)
#define BDD_LOAD_PAIR                                                            \
  "ld2r {v24.4s, v25.4s}, [%[x0]], #8\n\t"                                       \
  "ld2r {v26.4s, v27.4s}, [%[x1]], #8\n\t"
#define BDD_LOAD_WEIGHTS(FIRST, SECOND)                                          \
  "ldp q28, q29, [%[weights], #" #FIRST "]\n\t"                                  \
  "ldp q30, q31, [%[weights], #" #SECOND "]\n\t"
// From parities in v8-v15 to parities in v16-v23.
#define BDD_FIRST_PAIR                                                           \
  BDD_LOAD_PAIR                                                                  \
  BDD_LOAD_WEIGHTS(0, 64)                                                        \
  BDD_TWO_STEPS(add, 8, 9, 12, 13, 16, 17, 20, 21, 0, 1, 4, 5)                   \
  BDD_LOAD_WEIGHTS(32, 96)                                                       \
  BDD_TWO_STEPS(add, 10, 11, 14, 15, 18, 19, 22, 23, 2, 3, 6, 7)
// And back.
#define BDD_SECOND_PAIR                                                          \
  BDD_LOAD_PAIR                                                                  \
  BDD_LOAD_WEIGHTS(128, 192)                                                     \
  BDD_TWO_STEPS(sub, 16, 17, 20, 21, 8, 9, 12, 13, 0, 1, 4, 5)                   \
  BDD_LOAD_WEIGHTS(160, 224)                                                     \
  BDD_TWO_STEPS(sub, 18, 19, 22, 23, 10, 11, 14, 15, 2, 3, 6, 7)
// v8-v15: the next word of both pixels XOR the weights.
#define BDD_SINGLE_WORD                                                          \
  "ld1r {v24.4s}, [%[x0]], #4\n\t"                                               \
  "ld1r {v26.4s}, [%[x1]], #4\n\t"                                               \
  BDD_LOAD_WEIGHTS(0, 32)                                                        \
  "add %[weights], %[weights], #64\n\t"                                          \
  BDD_EOR(8, 24, 28) BDD_EOR(9, 24, 29) BDD_EOR(10, 24, 30) BDD_EOR(11, 24, 31)  \
  BDD_EOR(12, 26, 28) BDD_EOR(13, 26, 29) BDD_EOR(14, 26, 30) BDD_EOR(15, 26, 31)
// Adds the bits of two registers of the last word, and subtracts those of inverted parities, at byte AT of the ones.
#define BDD_ADD_ONES(AT, WORD0, WORD1, PARITY0, PARITY1)                         \
  "ldp q24, q25, [%[ones], #" #AT "]\n\t"                                        \
  BDD_CNT(WORD0) BDD_CNT(WORD1) BDD_CNT(PARITY0) BDD_CNT(PARITY1)                \
  BDD_SUM(add, 24, WORD0) BDD_SUM(add, 25, WORD1)                                \
  BDD_SUM(sub, 24, PARITY0) BDD_SUM(sub, 25, PARITY1)                            \
  "stp q24, q25, [%[ones], #" #AT "]\n\t"
// clang-format on

// Adds `count` taps of 4 * `fours` words to the sums.
inline const uint32_t* AddTaps(const uint32_t* const* pixels, const int32_t* offsets, int64_t count, int64_t fours,
                               const uint32_t* weights, ChainSums* sums) {
  const uint32_t *x0, *x1;
  int64_t left;
  const int64_t step = 16 * fours;
  // clang-format off
  __asm__ volatile(
      "ldp q0, q1, [%[twos]]\n\t"
      "ldp q2, q3, [%[twos], #32]\n\t"
      "ldp q4, q5, [%[twos], #64]\n\t"
      "ldp q6, q7, [%[twos], #96]\n\t"
      "1:\n\t"
      "ldrsw %[left], [%[offsets]]\n\t"
      "add %[offsets], %[offsets], %[step]\n\t"
      "add %[x0], %[pixel0], %[left], lsl #2\n\t"
      "add %[x1], %[pixel1], %[left], lsl #2\n\t"
      BDD_SINGLE_WORD
      "subs %[left], %[fours], #1\n\t"
      "b.eq 3f\n\t"
      "2:\n\t"
      BDD_FIRST_PAIR
      BDD_SECOND_PAIR
      "add %[weights], %[weights], #256\n\t"
      "subs %[left], %[left], #1\n\t"
      "b.ne 2b\n\t"
      "3:\n\t"
      BDD_FIRST_PAIR
      "add %[weights], %[weights], #128\n\t"
      BDD_SINGLE_WORD
      BDD_ADD_ONES(0, 8, 9, 16, 17)
      BDD_ADD_ONES(32, 10, 11, 18, 19)
      BDD_ADD_ONES(64, 12, 13, 20, 21)
      BDD_ADD_ONES(96, 14, 15, 22, 23)
      "subs %[count], %[count], #1\n\t"
      "b.ne 1b\n\t"
      "stp q0, q1, [%[twos]]\n\t"
      "stp q2, q3, [%[twos], #32]\n\t"
      "stp q4, q5, [%[twos], #64]\n\t"
      "stp q6, q7, [%[twos], #96]\n\t"
      : [weights] "+r"(weights), [offsets] "+r"(offsets), [count] "+r"(count), [x0] "=&r"(x0), [x1] "=&r"(x1),
        [left] "=&r"(left)
      : [pixel0] "r"(pixels[0]), [pixel1] "r"(pixels[1]), [fours] "r"(fours), [step] "r"(step), [twos] "r"(sums->twos),
        [ones] "r"(sums->ones)
      : "memory", "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14",
        "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30",
        "v31");
  // clang-format on
  return weights;
}

#undef BDD_EOR
#undef BDD_BIT
#undef BDD_CNT
#undef BDD_SUM
#undef BDD_TWO_STEPS
#undef BDD_LOAD_PAIR
#undef BDD_LOAD_WEIGHTS
#undef BDD_FIRST_PAIR
#undef BDD_SECOND_PAIR
#undef BDD_SINGLE_WORD
#undef BDD_ADD_ONES

// The popcounts of two pixels, [2][16].
inline void ChainTile(const uint32_t* const* pixels, const Taps& taps, const uint32_t* weights, int32_t* popcounts) {
  // With each tap a byte of carries changes by -8 * (fours - 1) to 8 * fours. It begins in the middle of that range, so
  // that it stays within +-127 for as many taps as possible; a byte of ones changes by -8 to 8.
  constexpr int64_t kMostTaps = 15;
  const int64_t fours = taps.tap_words / 4, count = taps.words / taps.tap_words;
  const int64_t most = std::max<int64_t>(1, std::min(kMostTaps, 127 / (8 * fours - 4)));
  // What inverted parities (32 bits of a tap), inverted carries (32, counted twice) and the beginning (4 bytes of -4,
  // counted twice) lack in the sums.
  const int32x4_t inverted = vdupq_n_s32(static_cast<int32_t>(count * 32 * (1 + 2 * (fours - 1) + 1)));
  int32x4_t totals[kChainPixels][kChainRegisters];
  for (auto& row : totals) {
    for (int32x4_t& total : row) total = inverted;
  }
  for (int64_t tap = 0; tap < count; tap += most) {
    const int64_t now = std::min(most, count - tap);
    ChainSums sums = {};
    for (auto& row : sums.twos) {
      for (uint8x16_t& two : row) two = vdupq_n_u8(static_cast<uint8_t>(-4 * now));
    }
    weights = AddTaps(pixels, taps.offsets + tap * taps.tap_words, now, fours, weights, &sums);
    for (int m = 0; m < kChainPixels; ++m) {
      for (int v = 0; v < kChainRegisters; ++v) {
        const int8x16_t twos = vreinterpretq_s8_u8(sums.twos[m][v]);
        const int16x8_t once = vpaddlq_s8(vreinterpretq_s8_u8(sums.ones[m][v]));
        totals[m][v] = vpadalq_s16(totals[m][v], vpadalq_s8(vpadalq_s8(once, twos), twos));
      }
    }
  }
  for (int m = 0; m < kChainPixels; ++m) {
    for (int v = 0; v < kChainRegisters; ++v) vst1q_s32(popcounts + m * kChainChannels + 4 * v, totals[m][v]);
  }
}

}  // namespace
}  // namespace bdd
#endif
