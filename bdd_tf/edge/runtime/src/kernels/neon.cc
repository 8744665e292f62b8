// NEON on 64-bit and 32-bit ARM: 4 channels per register. CNT counts the bits of bytes, which are summed until they
// could overflow.
#include <arm_neon.h>

#include <algorithm>

#define BDD_LANES 4
#define BDD_ROWS 2
#define BDD_CONVOLVE_ROWS 2
#if defined(__aarch64__)
#define BDD_REGISTERS 32
#else
#define BDD_REGISTERS 16
#endif
#include "kernels/make_kernel_set.h"
#include "kernels/neon_chain.h"
#include "kernels/neon_int16_transform.h"

namespace bdd {
namespace {

constexpr int kChannels = 16;
constexpr int kRegisters = kChannels / 4;
constexpr int kWordsPerFlush = 31;  // each word adds at most 8 to a byte

// 64-bit ARM has 32 registers of 128 bits, 32-bit ARM has 16.
#if defined(__aarch64__)
constexpr int kPixels = 4;
#else
constexpr int kPixels = 2;
#endif

inline uint8x16_t CountBits(uint32x4_t x) { return vcntq_u8(vreinterpretq_u8_u32(x)); }

BDD_INLINE inline void AddBits(uint8x16_t& sum, uint32x4_t x, uint32x4_t w) {
  sum = vaddq_u8(sum, CountBits(veorq_u32(x, w)));
}

// Adds the bits of x ^ w to the sums of two pixels.
BDD_INLINE inline void AddBitsOfBoth(uint8x16_t& sum0, uint8x16_t& sum1, uint32x4_t x0, uint32x4_t x1, uint32x4_t w) {
#if defined(__aarch64__)
  // Assembly, because compilers begin with so many XORs that registers run out.
  uint32x4_t bits0, bits1;
  __asm__(
      "eor %2.16b, %4.16b, %6.16b\n\teor %3.16b, %5.16b, %6.16b\n\t"
      "cnt %2.16b, %2.16b\n\tcnt %3.16b, %3.16b\n\t"
      "add %0.16b, %0.16b, %2.16b\n\tadd %1.16b, %1.16b, %3.16b"
      : "+w"(sum0), "+w"(sum1), "=&w"(bits0), "=&w"(bits1)
      : "w"(x0), "w"(x1), "w"(w));
#else
  AddBits(sum0, x0, w);
  AddBits(sum1, x1, w);
#endif
}

// Registers of kCount pixels times the channels of a block.
template <int kCount, typename Register>
struct Grid {
  Register at[kCount][kRegisters];

  template <typename F>
  BDD_INLINE static void Each(const F& f) {
    Unroll<kCount>([&](auto m) BDD_INLINE { Unroll<kRegisters>([&](auto v) BDD_INLINE { f(m, v); }); });
  }
  BDD_INLINE void Set(Register value) {
    Each([&](auto m, auto v) BDD_INLINE { at[m][v] = value; });
  }
};

// Each word by itself: one XOR, one count and one addition.
template <int kCount>
struct PlainTile {
  Grid<kCount, uint32x4_t> totals;
  Grid<kCount, uint8x16_t> bytes;

  // kWords words of a tap, one or two, which are loaded and broadcast together.
  template <int kWords>
  BDD_INLINE void Add(const uint32_t* (&words)[kCount], const uint32_t*& weights) {
    uint32x4_t x[kWords][kCount];
    Unroll<kCount>([&](auto m) BDD_INLINE {
      if constexpr (kWords == 2) {
        const uint32x4x2_t two = vld2q_dup_u32(words[m]);
        x[0][m] = two.val[0];
        x[1][m] = two.val[1];
      } else {
        x[0][m] = vld1q_dup_u32(words[m]);
      }
      words[m] += kWords;
    });
    Unroll<kWords>([&](auto i) BDD_INLINE {
      Unroll<kRegisters>([&](auto v) BDD_INLINE {
        const uint32x4_t w = vld1q_u32(weights + 4 * v);
        Unroll<kCount / 2>([&](auto half) BDD_INLINE {
          constexpr int m = 2 * decltype(half)::value;
          AddBitsOfBoth(bytes.at[m][v], bytes.at[m + 1][v], x[i][m], x[i][m + 1], w);
        });
        if constexpr (kCount % 2 == 1) AddBits(bytes.at[kCount - 1][v], x[i][kCount - 1], w);
      });
      weights += kChannels;
    });
  }

  BDD_INLINE void Flush() {
    bytes.Each([&](auto m, auto v)
                   BDD_INLINE { totals.at[m][v] = vpadalq_u16(totals.at[m][v], vpaddlq_u8(bytes.at[m][v])); });
    bytes.Set(vdupq_n_u8(0));
  }

  BDD_INLINE void AddTap(const uint32_t* const* indirection, int64_t offset, int64_t tap_words,
                         const uint32_t*& weights) {
    const uint32_t* words[kCount];
    Unroll<kCount>([&](auto m) BDD_INLINE { words[m] = indirection[m] + offset; });
    while (tap_words > kWordsPerFlush) {
      for (int i = 0; i < kWordsPerFlush / 2; ++i) Add<2>(words, weights);
      Flush();
      tap_words -= kWordsPerFlush / 2 * 2;
    }
    for (; tap_words >= 2; tap_words -= 2) Add<2>(words, weights);
    if (tap_words == 1) Add<1>(words, weights);
  }

  BDD_INLINE void Run(const uint32_t* const* indirection, const Taps& taps, const uint32_t* weights,
                      int32_t* popcounts) {
    totals.Set(vdupq_n_u32(0));
    bytes.Set(vdupq_n_u8(0));
    // Nested loops without conditions inside: a flush that may happen makes the compiler move all registers.
    if (taps.tap_words == 1) {
      for (int64_t k = 0; k < taps.words;) {
        const int64_t end = std::min(taps.words, k + kWordsPerFlush);
        for (; k < end; ++k) AddTap(indirection, taps.offsets[k], 1, weights);
        Flush();
      }
    } else {
      const int64_t most = kWordsPerFlush / taps.tap_words,
                    together = most > 0 ? most * taps.tap_words : taps.tap_words;
      for (int64_t k = 0; k < taps.words;) {
        const int64_t end = std::min(taps.words, k + together);
        for (; k < end; k += taps.tap_words) AddTap(indirection, taps.offsets[k], taps.tap_words, weights);
        Flush();
      }
    }
    totals.Each([&](auto m, auto v) BDD_INLINE {
      vst1q_s32(popcounts + m * kChannels + 4 * v, vreinterpretq_s32_u32(totals.at[m][v]));
    });
  }
};

template <int kCount>
void RunPlain(const uint32_t* const* indirection, const Taps& taps, const uint32_t* weights, int32_t* popcounts) {
  PlainTile<kCount> tile;
  tile.Run(indirection, taps, weights, popcounts);
}

void bgemm_b1_i32__neon(const uint32_t* const* indirection, int count, const Taps& taps, const uint32_t* weights,
                        int32_t* popcounts, int) {
#if defined(__aarch64__)
  if (taps.encoded) {
    for (; count >= 2; count -= 2, indirection += 2, popcounts += 2 * kChannels) {
      ChainTile(indirection, taps, weights, popcounts);
    }
    if (count == 0) return;
    const uint32_t* twice[2] = {indirection[0], indirection[0]};
    int32_t both[2 * kChannels];
    ChainTile(twice, taps, weights, both);
    std::memcpy(popcounts, both, kChannels * sizeof(int32_t));
    return;
  }
#endif
  switch (count) {
    case 1: return RunPlain<1>(indirection, taps, weights, popcounts);
#if defined(__aarch64__)
    case 2: return RunPlain<2>(indirection, taps, weights, popcounts);
    case 3: return RunPlain<3>(indirection, taps, weights, popcounts);
#endif
    default: return RunPlain<kPixels>(indirection, taps, weights, popcounts);
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

struct NeonSigns {
  static uint32_t Of(const Lanes (&values)[2]) {
    static const uint16_t kBits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    const float32x4_t zero = vdupq_n_f32(0.0f);
    const uint32x4_t low = vcltq_f32(ToNeon(values[0]), zero), high = vcltq_f32(ToNeon(values[1]), zero);
    const uint16x8_t bits = vandq_u16(vcombine_u16(vmovn_u32(low), vmovn_u32(high)), vld1q_u16(kBits));
#if defined(__aarch64__)
    return vaddvq_u16(bits);
#else
    const uint64x2_t sums = vpaddlq_u32(vpaddlq_u16(bits));
    return static_cast<uint32_t>(vgetq_lane_u64(sums, 0) + vgetq_lane_u64(sums, 1));
#endif
  }

 private:
  static float32x4_t ToNeon(const Lanes& lanes) {
    float32x4_t same;
    std::memcpy(&same, &lanes, sizeof same);
    return same;
  }
};

}  // namespace

const KernelSet* NeonKernels() {
#if defined(__aarch64__)
  constexpr Encoding kEncoding = Encoding::kPrefixParities;
#else
  constexpr Encoding kEncoding = Encoding::kNone;  // too few registers for the parities
#endif
  static const KernelSet set = [] {
    KernelSet made =
        *MakeKernelSet<kPixels, kChannels, bgemm_b1_i32__neon, bitpack_f32_b1__neon, NeonSigns>("neon", kEncoding);
    made.output_transform_i32_i16 = output_transform_i32_i16__neon<kChannels>;
    return made;
  }();
  return &set;
}

}  // namespace bdd
