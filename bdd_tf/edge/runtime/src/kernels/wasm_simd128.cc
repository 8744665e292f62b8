// WebAssembly's 128-bit vectors: 4 channels per register. i8x16.popcnt is one instruction on ARM, but about eight on
// x86-64, so for encoded input a carry-save adder makes one of them serve four words.
//
// Lanes, rows and pixels are those of scalar.cc, so that sums have the same order, and scores the same bits. (The other
// sets also fuse some products and sums, for which WebAssembly has no instruction.)
#include <wasm_simd128.h>

#define BDD_LANES 4
#define BDD_ROWS 1
#define BDD_CONVOLVE_ROWS 2
#define BDD_REGISTERS 16
#include "kernels/make_kernel_set.h"

namespace bdd {
namespace {

constexpr int kPixels = 4;
constexpr int kChannels = 16;
constexpr int kRegisters = kChannels / 4;
constexpr int kWordsPerFlush = 31;  // each word adds at most 8 to a byte

// The sum of the bytes of each word.
inline v128_t Widen(v128_t bytes) { return wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16(bytes)); }

template <int kCount>
void BgemmTile(const uint32_t* const* indirection, const Taps& taps, const uint32_t* weights, int32_t* popcounts) {
  v128_t totals[kCount][kRegisters], bytes[kCount][kRegisters];
  const auto each = [](const auto& f) BDD_INLINE {
    Unroll<kCount>([&](auto m) BDD_INLINE { Unroll<kRegisters>([&](auto v) BDD_INLINE { f(m, v); }); });
  };
  each([&](auto m, auto v) BDD_INLINE { totals[m][v] = bytes[m][v] = wasm_i32x4_const_splat(0); });
  for (int64_t k = 0; k < taps.words;) {
    const int64_t end = taps.words - k < kWordsPerFlush ? taps.words : k + kWordsPerFlush;
    for (; k < end; ++k, weights += kChannels) {
      const int32_t offset = taps.offsets[k];
      v128_t w[kRegisters];
      Unroll<kRegisters>([&](auto v) BDD_INLINE { w[v] = wasm_v128_load(weights + 4 * v); });
      Unroll<kCount>([&](auto m) BDD_INLINE {
        const v128_t x = wasm_v128_load32_splat(indirection[m] + offset);
        Unroll<kRegisters>([&](auto v) BDD_INLINE {
          bytes[m][v] = wasm_i8x16_add(bytes[m][v], wasm_i8x16_popcnt(wasm_v128_xor(x, w[v])));
        });
      });
    }
    each([&](auto m, auto v) BDD_INLINE {
      totals[m][v] = wasm_i32x4_add(totals[m][v], Widen(bytes[m][v]));
      bytes[m][v] = wasm_i32x4_const_splat(0);
    });
  }
  each([&](auto m, auto v) BDD_INLINE { wasm_v128_store(popcounts + m * kChannels + 4 * v, totals[m][v]); });
}

// One pixel and 16 channels, for input encoded with Encoding::kDifferences; avx2.cc explains the adder.
inline void BgemmEncoded(const uint32_t* pixel, const Taps& taps, const uint32_t* weights, int32_t* popcounts) {
  const int32_t* offsets = taps.offsets;
  const v128_t zero = wasm_i32x4_const_splat(0);
  v128_t odd[kRegisters], twos[kRegisters], fours[kRegisters];
  Unroll<kRegisters>([&](auto v) BDD_INLINE { odd[v] = twos[v] = fours[v] = zero; });
  const auto word = [&](int64_t k, v128_t x, int v)
                        BDD_INLINE { return wasm_v128_xor(x, wasm_v128_load(weights + k * kChannels + 4 * v)); };
  const auto input = [&](int64_t k) BDD_INLINE { return wasm_v128_load32_splat(pixel + offsets[k]); };
  const auto pair = [&](int64_t k, v128_t x, v128_t y, int v) BDD_INLINE {
    const v128_t difference = word(k + 1, y, v), carry = wasm_v128_bitselect(odd[v], word(k, x, v), difference);
    odd[v] = wasm_v128_xor(odd[v], difference);
    return carry;
  };
  int64_t k = 0;
  while (k + 4 <= taps.words) {
    constexpr int64_t kFlush = 4 * kWordsPerFlush;
    const int64_t end = taps.words - k < kFlush ? taps.words : k + kFlush;
    v128_t bytes[kRegisters];
    Unroll<kRegisters>([&](auto v) BDD_INLINE { bytes[v] = zero; });
    for (; k + 4 <= end; k += 4) {
      const v128_t x = input(k), y = input(k + 1), z = input(k + 2), u = input(k + 3);
      Unroll<kRegisters>([&](auto v) BDD_INLINE {
        const v128_t a = pair(k, x, y, v), b = pair(k + 2, z, u, v), differ = wasm_v128_xor(a, b);
        bytes[v] = wasm_i8x16_add(bytes[v], wasm_i8x16_popcnt(wasm_v128_bitselect(twos[v], b, differ)));
        twos[v] = wasm_v128_xor(twos[v], differ);
      });
    }
    Unroll<kRegisters>([&](auto v) BDD_INLINE { fours[v] = wasm_i32x4_add(fours[v], Widen(bytes[v])); });
  }
  Unroll<kRegisters>([&](auto v) BDD_INLINE {
    v128_t bytes = wasm_i8x16_popcnt(twos[v]);
    if (k < taps.words) bytes = wasm_i8x16_add(bytes, wasm_i8x16_popcnt(pair(k, input(k), input(k + 1), v)));
    bytes = wasm_i8x16_add(wasm_i8x16_add(bytes, bytes), wasm_i8x16_popcnt(odd[v]));
    wasm_v128_store(popcounts + 4 * v, wasm_i32x4_add(wasm_i32x4_shl(fours[v], 2), Widen(bytes)));
  });
}

void bgemm_b1_i32__wasm(const uint32_t* const* indirection, int count, const Taps& taps, const uint32_t* weights,
                        int32_t* popcounts, int) {
  if (taps.encoded) {
    for (int m = 0; m < count; ++m) BgemmEncoded(indirection[m], taps, weights, popcounts + m * kChannels);
    return;
  }
  // Two at a time: x86-64 has 16 registers.
  int m = 0;
  for (; m + 2 <= count; m += 2) BgemmTile<2>(indirection + m, taps, weights, popcounts + m * kChannels);
  if (m < count) BgemmTile<1>(indirection + m, taps, weights, popcounts + m * kChannels);
}

void bitpack_f32_b1__wasm(const float* x, int64_t words, uint32_t* bits) {
  const v128_t zero = wasm_f32x4_const_splat(0.0f);
  for (int64_t i = 0; i < words; ++i, x += 32) {
    uint32_t word = 0;
    for (int part = 0; part < 8; ++part) {
      word |= wasm_i32x4_bitmask(wasm_f32x4_lt(wasm_v128_load(x + 4 * part), zero)) << (4 * part);
    }
    bits[i] = word;
  }
}

struct WasmSigns {
  static uint32_t Of(const Lanes (&values)[2]) {
    v128_t low, high;
    std::memcpy(&low, &values[0], sizeof low);
    std::memcpy(&high, &values[1], sizeof high);
    const v128_t zero = wasm_f32x4_const_splat(0.0f);
    return wasm_i32x4_bitmask(wasm_f32x4_lt(low, zero)) | wasm_i32x4_bitmask(wasm_f32x4_lt(high, zero)) << 4;
  }
};

}  // namespace

const KernelSet* WasmKernels() {
  return MakeKernelSet<kPixels, kChannels, bgemm_b1_i32__wasm, bitpack_f32_b1__wasm, WasmSigns>("simd128",
                                                                                                Encoding::kDifferences);
}

}  // namespace bdd
