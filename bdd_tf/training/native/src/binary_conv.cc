// The binary convolution, y[out pixel, o] = sum over taps and i of s[in pixel, i] sign(W)[tap, i, o].
//
// A product of signs is +1 where they match and -1 elsewhere: y = 2 matches - products. Matches are counted by table
// lookup: the four terms of a table are four input channels, a table holds a block of outputs as bytes, and the signs
// of the input select the entry. Taps outside of the image (zero padding) have neither matches nor products.
//
// The weights of a block of outputs are taken in chunks whose tables fit into the L1 cache, each for a tile of images.
#include <algorithm>
#include <cstring>

#include "sign_tables.h"
#include "unit.h"

namespace bdd {
namespace {

// Tables of a chunk: 18 KiB for 32 outputs; and 4 x 36 matches fit into a byte.
constexpr int kChunkTables = 36;
constexpr int kPixelsPerTile = 1024;  // at least, if the batch has as many: amortizes the tables

typedef int16_t Int16x16 __attribute__((vector_size(32)));

inline Int16x16 Widen(const uint8_t* bytes) {
  typedef uint8_t Uint8x16 __attribute__((vector_size(16)));
  Uint8x16 v;
  std::memcpy(&v, bytes, sizeof v);
  return __builtin_convertvector(v, Int16x16);
}

// table[e] = matches of four inputs, whose signs are e, with the weights' signs (0 or 1).
template <typename E>
inline void FillMatches(const uint8_t* weights, int64_t next_input, char* table) {
  E one[kGroup], zero[kGroup];  // matches with an input of +1 and of -1
  E ones;
  std::memset(ones.v, 1, sizeof ones.v);
  for (int k = 0; k < kGroup; ++k) {
    one[k] = E::Load(weights + k * next_input);
    zero[k] = ones - one[k];
  }
  const E low[4] = {zero[0] + zero[1], one[0] + zero[1], zero[0] + one[1], one[0] + one[1]};
  const E high[4] = {zero[2] + zero[3], one[2] + zero[3], zero[2] + one[3], one[2] + one[3]};
  for (int e = 0; e < kEntries; ++e) (low[e % 4] + high[e / 4]).Store(table + e * E::kBytes);
}

}  // namespace

// Divides the taps and input channels into chunks.
void Unit::ListChunks() {
  conv_tile_ = std::clamp(kPixelsPerTile / out_pixels_, 1, kTileImages);
  const int groups = spec_.channels / kGroup, taps = std::max(1, kChunkTables / groups);
  for (int t = 0; t < taps_; t += taps) {
    for (int g = 0; g < groups; g += kChunkTables) {
      chunks_.push_back({t, std::min(t + taps, taps_), g, std::min(kChunkTables, groups - g)});
    }
  }
}

void Unit::AllocateConvolution(ThreadContext& context) const {
  Allocate(context.input_index, static_cast<int64_t>(conv_tile_) * in_pixels_ * spec_.channels / kGroup);
  Allocate(context.match_tables, kChunkTables * kEntries * kEntryBytes);
}

// The signs of W as bytes 0 and 1, [tap, input, output], and as index bytes for the gradient of the signs.
void Unit::PackWeights(const float* kernel) {
  const int c = spec_.channels, pass_groups = groups_per_pass_;
  ForItems(taps_ * c, [&](int row, ThreadContext&) {
    const int tap = row / c, input = row % c;
    uint8_t* ones = &weight_ones_[static_cast<int64_t>(row) * c];
    const float* w = kernel + static_cast<int64_t>(row) * c;
    for (int o = 0; o < c; ++o) ones[o] = w[o] >= 0.0f;
    for (int g = 0; g < c / kGroup; ++g) {
      uint32_t four;
      std::memcpy(&four, ones + g * kGroup, sizeof four);
      const int64_t at = ((static_cast<int64_t>(g / pass_groups) * c + input) * taps_ + tap) * pass_groups;
      // The upper byte of the product: bit k is byte k.
      weight_index_[at + g % pass_groups] = static_cast<uint8_t>((four * 0x01020408u) >> 24 << kIndexShift);
    }
  });
}

// The signs of an image as index bytes, [in pixel, group of 4 channels].
void Unit::IndexInputs(int image, uint8_t* index) const {
  const int groups = spec_.channels / kGroup;
  const uint64_t* bits = sign_bits_.data() + static_cast<int64_t>(image) * in_pixels_ * words_;
  for (int p = 0; p < in_pixels_; ++p, index += groups) {
    for (int g = 0; g < groups; g += 4) {
      const uint64_t four = bits[p * words_ + g / 16] >> (g % 16 * kGroup);
      const uint64_t spread = (four & 15) | (four & 0xF0) << 4 | (four & 0xF00) << 8 | (four & 0xF000) << 12;
      const uint32_t bytes = static_cast<uint32_t>(spread << kIndexShift);
      std::memcpy(index + g, &bytes, sizeof bytes);
    }
  }
}

void Unit::ConvolveTile(int first, int images, ThreadContext& context) {
  const int c = spec_.channels;
  for (int k = 0; k < images; ++k) {
    IndexInputs(first + k, &context.input_index[static_cast<int64_t>(k) * in_pixels_ * c / kGroup]);
  }
  int o = 0;
  if (kVectorBytes == 64) {
    for (; o + 64 <= c; o += 64) ConvolveBlock<64>({first, images}, o, context);
  }
  for (; o < c; o += 32) ConvolveBlock<32>({first, images}, o, context);
}

// Outputs o to o + kOutputs, of which the last block may have half as many.
template <int kOutputs>
void Unit::ConvolveBlock(ImageRange tile, int o, ThreadContext& context) {
  using E = Entry<uint8_t, kOutputs>;
  const int c = spec_.channels, groups = c / kGroup, outputs = std::min(kOutputs, c - o);
  for (const Chunk& chunk : chunks_) {
    char* table = context.match_tables.data();
    for (int t = chunk.tap; t < chunk.end_tap; ++t) {
      for (int g = chunk.group; g < chunk.group + chunk.groups; ++g, table += E::kTableBytes) {
        FillMatches<E>(&weight_ones_[(static_cast<int64_t>(t) * c + g * kGroup) * c + o], c, table);
      }
    }
    const bool begins = chunk.tap == 0 && chunk.group == 0;
    for (int k = 0; k < tile.count; ++k) {
      const uint8_t* index = &context.input_index[static_cast<int64_t>(k) * in_pixels_ * groups + chunk.group];
      int16_t* y = &y_[static_cast<int64_t>(tile.first + k) * out_pixels_ * c + o];
      for (int p = 0; p < out_pixels_; ++p, y += c) {
        const int32_t* pixels = &indirection_[static_cast<int64_t>(p) * taps_];
        E even = E::Zero(), odd = E::Zero();
        table = context.match_tables.data();
        for (int t = chunk.tap; t < chunk.end_tap; ++t, table += chunk.groups * E::kTableBytes) {
          if (pixels[t] < 0) continue;
          const uint8_t* from = index + static_cast<int64_t>(pixels[t]) * groups;
          for (int g = 0; g < chunk.groups; g += 2) {
            even.Add(table + g * E::kTableBytes, from[g]);
            odd.Add(table + (g + 1) * E::kTableBytes, from[g + 1]);
          }
        }
        uint8_t matches[kOutputs];
        (even + odd).Store(matches);
        const Int16x16 start = Int16x16{} + static_cast<int16_t>(-valid_taps_[p] * c);
        for (int j = 0; j < outputs; j += 16) {
          Int16x16 old;
          std::memcpy(&old, y + j, sizeof old);
          const Int16x16 sum = (begins ? start : old) + 2 * Widen(matches + j);
          std::memcpy(y + j, &sum, sizeof sum);
        }
      }
    }
  }
}

}  // namespace bdd
