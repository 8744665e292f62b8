// AMX: products of signs as bytes on the matrix unit, everything else as with AVX-512.
//
// A step of 64 channels costs the unit 16 cycles for 16 places and 16 outputs, 1,024 products a cycle where popcounts
// reach 410. Bits are unpacked for it: an image's once a layer, weights in front of their use, kByteSteps at a time for
// all places of an item, so that both lie in the first-level cache while sums go back and forth.
#include "intrinsics512.h"
#include "kernels.h"

#ifdef BDD_TILES  // tests name a file that emulates the instructions
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
static_assert(sizeof(TileConfiguration) == 64, "what LDTILECFG reads");

void Spread(uint64_t signs, int64_t valid, int8_t* bytes) {
  const __mmask64 exist = valid >= 64 ? ~uint64_t{0} : (uint64_t{1} << valid) - 1;
  const __m512i ones = _mm512_maskz_set1_epi8(exist, 1);
  _mm512_store_si512(bytes, _mm512_mask_sub_epi8(ones, signs & exist, _mm512_setzero_si512(), ones));
}

// Tiles 0 to 3 hold sums of two times 16 places and two times 16 outputs, 4 and 5 places, 6 and 7 weights.
template <bool kFirst, bool kPair>
inline void MultiplyTiles(const int8_t* a, const int8_t* b, const int64_t* offsets, int64_t steps, int64_t stride,
                          const int8_t* weights, int32_t* dots) {
  constexpr int kRow = 64, kTile = 256;
  const auto bytes = static_cast<size_t>(stride);
  if (kFirst) {
    _tile_zero(0);
    _tile_zero(1);
    if (kPair) _tile_zero(2);
    if (kPair) _tile_zero(3);
  } else {
    _tile_loadd(0, dots, kRow);
    _tile_loadd(1, dots + kTile, kRow);
    if (kPair) _tile_loadd(2, dots + 2 * kTile, kRow);
    if (kPair) _tile_loadd(3, dots + 3 * kTile, kRow);
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
  _tile_stored(0, dots, kRow);
  _tile_stored(1, dots + kTile, kRow);
  if (kPair) _tile_stored(2, dots + 2 * kTile, kRow);
  if (kPair) _tile_stored(3, dots + 3 * kTile, kRow);
}

template <bool kFirst>
inline void MultiplySteps(const int8_t* const* tiles, int64_t count, const int64_t* offsets, int64_t steps,
                          int64_t stride, const int8_t* weights, int32_t* dots) {
  int64_t t = 0;
  for (; t + 2 <= count; t += 2, dots += 1024)
    MultiplyTiles<kFirst, true>(tiles[t], tiles[t + 1], offsets, steps, stride, weights, dots);
  if (t < count) MultiplyTiles<kFirst, false>(tiles[t], nullptr, offsets, steps, stride, weights, dots);
}

void MultiplyBytes(const int8_t* const* tiles, int64_t count, const ByteTaps& taps, const uint64_t* weights,
                   const ByteRun* runs, int64_t run_count, int8_t* scratch, int32_t* sums) {
  const TileConfiguration configuration;
  _tile_loadconfig(&configuration);
  int8_t* unpacked = scratch;
  auto* dots = reinterpret_cast<int32_t*>(scratch + kByteScratch);
  const __m512i plus = _mm512_set1_epi8(1), minus = _mm512_set1_epi8(-1);
  for (int64_t first = 0; first < taps.steps; first += kByteSteps) {
    const int64_t steps = taps.steps - first < kByteSteps ? taps.steps - first : kByteSteps;
    for (int64_t i = 0; i < steps * 32; ++i)
      _mm512_store_si512(unpacked + 64 * i, _mm512_mask_mov_epi8(plus, weights[first * 32 + i], minus));
    if (first == 0) {
      MultiplySteps<true>(tiles, count, taps.offsets, steps, taps.stride, unpacked, dots);
    } else {
      MultiplySteps<false>(tiles, count, taps.offsets + first, steps, taps.stride, unpacked, dots);
    }
  }
  _tile_release();
  const __m512i products = _mm512_set1_epi32(taps.products);
  for (int64_t r = 0; r < run_count; ++r) {
    for (int64_t row = runs[r].row; row < runs[r].row + runs[r].count; ++row, sums += 32) {
      const int32_t* from = dots + row / 16 * 512 + row % 16 * 16;
      for (int half = 0; half < 2; ++half) {
        const __m512i dot = _mm512_load_si512(from + 256 * half);
        _mm512_store_si512(sums + 16 * half, _mm512_srai_epi32(_mm512_sub_epi32(products, dot), 1));
      }
    }
  }
}

}  // namespace

const KernelSet* AmxKernels() {
  static const KernelSet set = [] {
    KernelSet made = *Avx512Kernels();
    made.name = "amx";
    made.spread = Spread;
    made.multiply_bytes = MultiplyBytes;
    return made;
  }();
  return &set;
}

}  // namespace bdd
