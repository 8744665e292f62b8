// The gradient of the binary kernel, dW[tap, i, o] = sum over images and pixels of s[in pixel, i] dy[out pixel, o].
//
// The four terms of a lookup table are the same pixel of four images (a quad), a table holds a block of outputs, and
// the signs of an input channel in the four images select the entry.
//
// In the int8 mode dy is rounded to +-127 with a scale per channel and image tile, and tables hold int16. Rounding is
// stochastic: a value is rounded up with the probability of its fraction. The expectation of dW is therefore exact.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "sign_tables.h"
#include "simd.h"
#include "unit.h"

namespace bdd {
namespace {

constexpr int kInputs = 4;           // input channels that a loop accumulates together
constexpr int kPixelsInCache = 4;    // output pixels whose tables fit into the L1 cache: 4 quads of 1 KiB each
constexpr int kPixelsPerFlush = 16;  // 16 pixels x 4 quads x 4 x 127 is below 2^15
// The largest quantized magnitude: stochastic rounding may add 1.
constexpr float kStochasticMax = 126.0f;

// Pairs of pixels that a tap connects, within a block of output pixels.
struct PairRange {
  const TapPair *begin, *end;
  int first_output;
};

// sums[m] += the tables' entries that the signs of inputs m select, over pairs of pixels.
// `signs` points to pixel 0, `next_pixel` bytes per pixel, [quad, kInputs]; `tables` to the first output pixel of the
// block, [pixel, quad].
template <typename E>
inline void AddLookups(const PairRange& pairs, int quads, const uint8_t* signs, int64_t next_pixel, const char* tables,
                       E* sums) {
  E total[kInputs];
  for (int m = 0; m < kInputs; ++m) total[m] = sums[m];
  for (const TapPair* pair = pairs.begin; pair != pairs.end; ++pair) {
    const uint8_t* index = signs + pair->in * next_pixel;
    const char* table = tables + static_cast<int64_t>(pair->out - pairs.first_output) * quads * E::kTableBytes;
    for (int q = 0; q < quads; ++q, index += kInputs, table += E::kTableBytes) {
      for (int m = 0; m < kInputs; ++m) total[m].Add(table, index[m]);
    }
  }
  for (int m = 0; m < kInputs; ++m) sums[m] = total[m];
}

// A sequence of random numbers in [0, 1) per lane: linear congruential, of which the upper bits are used.
struct Dither {
  static constexpr int kLength = 8;

  explicit Dither(uint64_t seed) {
    for (uint32_t& s : state) {
      seed += 0x9E3779B97F4A7C15ull;  // splitmix64
      uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
      s = static_cast<uint32_t>(z >> 32) | 1u;
    }
  }
  // Rounds kLength values up or down.
  void Round(const float* values, const float* scale, int16_t* rounded) {
    for (int j = 0; j < kLength; ++j) {
      state[j] = state[j] * 1664525u + 1013904223u;
      const float random = static_cast<float>(static_cast<int32_t>(state[j] >> 9)) * (1.0f / 8388608.0f);
      rounded[j] = static_cast<int16_t>(static_cast<int32_t>(std::floor(values[j] * scale[j] + random)));
    }
  }
  alignas(32) uint32_t state[kLength];
};

// Each byte of the result is one bit of `byte`, 0 or 1.
inline uint64_t SpreadByte(uint64_t byte) {
  // Copies of the byte, of which byte j keeps bit j, then any set bit becomes bit 0.
  const uint64_t bits = (byte * 0x0101010101010101ull) & 0x8040201008040201ull;
  return ((bits + 0x7F7F7F7F7F7F7F7Full) | bits) >> 7 & 0x0101010101010101ull;
}

}  // namespace

void Unit::KernelGradient(int first, int images, ThreadContext& context, uint64_t seed, bool exact) const {
  IndexSigns(first, images, context);
  const int c = spec_.channels;
  if (exact) {
    for (int o = 0; o < c; o += 16) AddKernelBlock<float, 16>(o, images, context.dy.data(), nullptr, context);
    return;
  }
  QuantizeChannels(images, context, seed);
  int o = 0;
  for (; o + 32 <= c; o += 32) {
    AddKernelBlock<int16_t, 32>(o, images, context.quantized.data(), context.channel_scale.data(), context);
  }
  if (o < c) AddKernelBlock<int16_t, 16>(o, images, context.quantized.data(), context.channel_scale.data(), context);
}

// The signs of the tile's inputs as index bytes, [in pixel, group of kInputs channels, quad, kInputs].
void Unit::IndexSigns(int first, int images, ThreadContext& context) const {
  const int quads = (images + kGroup - 1) / kGroup;
  const int64_t next_group = static_cast<int64_t>(quads) * kInputs;
  for (int p = 0; p < in_pixels_; ++p) {
    for (int q = 0; q < quads; ++q) {
      uint8_t* to = &context.sign_index[static_cast<int64_t>(p) * spec_.channels * quads + q * kInputs];
      for (int i = 0; i < spec_.channels; i += 8) {
        uint64_t index = 0;
        for (int k = 0; k < kGroup && kGroup * q + k < images; ++k) {
          const int64_t pixel = (static_cast<int64_t>(first) + kGroup * q + k) * in_pixels_ + p;
          const uint64_t byte = sign_bits_[pixel * words_ + i / 64] >> (i % 64) & 255;
          index |= SpreadByte(byte) << (kIndexShift + k);
        }
        std::memcpy(to + i / kInputs * next_group, &index, kInputs);
        index >>= 8 * kInputs;
        std::memcpy(to + (i / kInputs + 1) * next_group, &index, kInputs);
      }
    }
  }
}

// dy of the tile as int16 with a scale per channel.
void Unit::QuantizeChannels(int images, ThreadContext& context, uint64_t seed) const {
  const int c = spec_.channels;
  const int64_t rows = static_cast<int64_t>(images) * out_pixels_;
  float* scale = context.vectors[0].data();
  for (int i = 0; i < c; ++i) {
    float largest = 0.0f;
    for (int k = 0; k < images; ++k) largest = std::max(largest, context.dy_max[static_cast<int64_t>(k) * c + i]);
    scale[i] = largest > 0.0f ? kStochasticMax / largest : 0.0f;
    context.channel_scale[i] = largest / kStochasticMax;
  }
  Dither dither(seed);
  const float* dy = context.dy.data();
  int16_t* to = context.quantized.data();
  for (int64_t row = 0; row < rows; ++row, dy += c, to += c) {
    for (int i = 0; i < c; i += Dither::kLength) dither.Round(dy + i, scale + i, to + i);
  }
}

// Adds the tile's dW of outputs o to o + kOutputs. `dy`: [row out, C], times `scale` (1 if null).
template <typename T, int kOutputs>
void Unit::AddKernelBlock(int o, int images, const T* dy, const float* scale, ThreadContext& context) const {
  using E = Entry<T, kOutputs>;
  const int c = spec_.channels, quads = (images + kGroup - 1) / kGroup;
  E* sums = reinterpret_cast<E*>(context.kernel_sums.data());
  alignas(64) char tables[kPixelsInCache * kMaxQuads * E::kTableBytes];
  const E zero = E::Zero();
  for (int flushed = 0; flushed < out_pixels_; flushed += kPixelsPerFlush) {
    const int flush_end = std::min(flushed + kPixelsPerFlush, out_pixels_);
    std::fill(sums, sums + static_cast<int64_t>(taps_) * c, zero);
    for (int pixel = flushed; pixel < flush_end; pixel += kPixelsInCache) {
      const int end = std::min(pixel + kPixelsInCache, flush_end);
      for (int p = pixel; p < end; ++p) {
        for (int q = 0; q < quads; ++q) {
          E term[kGroup];
          for (int k = 0; k < kGroup; ++k) {
            const int image = q * kGroup + k;
            const int64_t row = static_cast<int64_t>(image) * out_pixels_ + p;
            term[k] = image < images ? E::Load(dy + row * c + o) : zero;
          }
          FillTable(term[0], term[1], term[2], term[3], tables + ((p - pixel) * quads + q) * E::kTableBytes);
        }
      }
      for (int t = 0; t < taps_; ++t) {
        const std::vector<TapPair>& pairs = pairs_[static_cast<size_t>(t)];
        const auto before = [](const TapPair& pair, int out) { return pair.out < out; };
        const TapPair* from = std::lower_bound(pairs.data(), pairs.data() + pairs.size(), pixel, before);
        const TapPair* to = std::lower_bound(from, pairs.data() + pairs.size(), end, before);
        for (int i = 0; i < c; i += kInputs) {
          AddLookups({from, to, pixel}, quads, &context.sign_index[static_cast<int64_t>(i) * quads],
                     static_cast<int64_t>(c) * quads, tables, sums + t * c + i);
        }
      }
    }
    for (int i = 0; i < taps_ * c; ++i) {
      T sum[kOutputs];
      sums[i].Store(sum);
      float* to = &context.d_kernel[static_cast<int64_t>(i) * c + o];
      for (int j = 0; j < kOutputs; j += kLanes) {
        const Floats value = Load(sum + j);
        Store(to + j, Load(to + j) + (scale ? value * Load(scale + o + j) : value));
      }
    }
  }
}

}  // namespace bdd
