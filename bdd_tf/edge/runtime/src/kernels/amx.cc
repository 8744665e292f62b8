// AMX: signs are unpacked to bytes and multiplied on the matrix unit; everything else is as in avx512_vpopcntdq.cc.
//
// A step of 64 channels takes the unit 16 cycles for 16 pixels and 16 outputs: 1,024 multiply-adds per cycle, where
// popcounts reach 410. An image is unpacked once per layer. Weights are unpacked right before their use, kByteSteps
// steps at a time for all pixels of a work item, so that both stay in the L1 cache while accumulators are loaded and
// stored. Tested in emulation only (BDD_TILES); never run on AMX hardware, so it must be selected explicitly.
#include "kernels/avx512_intrinsics.h"
#include "kernels/kernel_set.h"

#ifdef BDD_TILES  // the tests' file that emulates the tile instructions
#include BDD_TILES
#endif

namespace bdd {
namespace {

struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfiguration) == 64, "the operand of LDTILECFG");

void unpack_b1_i8__amx(uint64_t signs, int64_t valid, int8_t* bytes) {
  const __mmask64 exist = valid >= 64 ? ~uint64_t{0} : (uint64_t{1} << valid) - 1;
  const __m512i ones = _mm512_maskz_set1_epi8(exist, 1);
  _mm512_store_si512(bytes, _mm512_mask_sub_epi8(ones, signs & exist, _mm512_setzero_si512(), ones));
}

// Tiles 0 to 3 hold accumulators of 2 x 16 pixels and 2 x 16 outputs, tiles 4 and 5 the input of 16 pixels each, tiles
// 6 and 7 weights.
template <bool kFirst, bool kPair>
inline void BgemmTilePair(const int8_t* a, const int8_t* b, const int64_t* offsets, int64_t steps, int64_t stride,
                          const int8_t* weights, int32_t* accumulators) {
  constexpr int kRow = 64, kTile = 256;
  const auto bytes = static_cast<size_t>(stride);
  if (kFirst) {
    _tile_zero(0);
    _tile_zero(1);
    if (kPair) _tile_zero(2);
    if (kPair) _tile_zero(3);
  } else {
    _tile_loadd(0, accumulators, kRow);
    _tile_loadd(1, accumulators + kTile, kRow);
    if (kPair) _tile_loadd(2, accumulators + 2 * kTile, kRow);
    if (kPair) _tile_loadd(3, accumulators + 3 * kTile, kRow);
  }
  for (int64_t s = 0; s < steps; ++s, weights += 2048) {
    _tile_loadd(4, a + offsets[s], bytes);
    _tile_loadd(6, weights, kRow);
    _tile_loadd(7, weights + 1024, kRow);
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    if (kPair) _tile_loadd(5, b + offsets[s], bytes);
    if (kPair) _tile_dpbssd(2, 5, 6);
    if (kPair) _tile_dpbssd(3, 5, 7);
  }
  _tile_stored(0, accumulators, kRow);
  _tile_stored(1, accumulators + kTile, kRow);
  if (kPair) _tile_stored(2, accumulators + 2 * kTile, kRow);
  if (kPair) _tile_stored(3, accumulators + 3 * kTile, kRow);
}

template <bool kFirst>
inline void BgemmSteps(const int8_t* const* tiles, int64_t count, const int64_t* offsets, int64_t steps, int64_t stride,
                       const int8_t* weights, int32_t* accumulators) {
  int64_t t = 0;
  for (; t + 2 <= count; t += 2, accumulators += 1024)
    BgemmTilePair<kFirst, true>(tiles[t], tiles[t + 1], offsets, steps, stride, weights, accumulators);
  if (t < count) BgemmTilePair<kFirst, false>(tiles[t], nullptr, offsets, steps, stride, weights, accumulators);
}

void bgemm_i8_i32__amx(const ByteTiles& input, const ByteTaps& taps, const uint64_t* weights, int8_t* scratch,
                       int32_t* popcounts) {
  const TileConfiguration configuration;
  _tile_loadconfig(&configuration);
  int8_t* unpacked = scratch;
  auto* accumulators = reinterpret_cast<int32_t*>(scratch + kByteScratch);
  const __m512i plus = _mm512_set1_epi8(1), minus = _mm512_set1_epi8(-1);
  for (int64_t first = 0; first < taps.steps; first += kByteSteps) {
    const int64_t steps = taps.steps - first < kByteSteps ? taps.steps - first : kByteSteps;
    for (int64_t i = 0; i < steps * 32; ++i)
      _mm512_store_si512(unpacked + 64 * i, _mm512_mask_mov_epi8(plus, weights[first * 32 + i], minus));
    if (first == 0) {
      BgemmSteps<true>(input.tiles, input.count, taps.offsets, steps, taps.stride, unpacked, accumulators);
    } else {
      BgemmSteps<false>(input.tiles, input.count, taps.offsets + first, steps, taps.stride, unpacked, accumulators);
    }
  }
  _tile_release();
  const __m512i reduction_size = _mm512_set1_epi32(taps.reduction_size);
  for (int64_t r = 0; r < input.run_count; ++r) {
    for (int64_t row = input.runs[r].row; row < input.runs[r].row + input.runs[r].count; ++row, popcounts += 32) {
      const int32_t* from = accumulators + row / 16 * 512 + row % 16 * 16;
      for (int half = 0; half < 2; ++half) {
        const __m512i dot = _mm512_load_si512(from + 256 * half);
        _mm512_store_si512(popcounts + 16 * half, _mm512_srai_epi32(_mm512_sub_epi32(reduction_size, dot), 1));
      }
    }
  }
}

}  // namespace

const KernelSet* AmxKernels() {
  static const KernelSet set = [] {
    KernelSet amx = *Avx512VpopcntdqKernels();
    amx.name = "amx";
    amx.unpack_b1_i8 = unpack_b1_i8__amx;
    amx.bgemm_i8_i32 = bgemm_i8_i32__amx;
    return amx;
  }();
  return &set;
}

}  // namespace bdd
