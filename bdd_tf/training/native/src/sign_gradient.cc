// The gradient of the binary activations, ds[in pixel, i] = sum over taps and o of sign(W)[tap, i, o] dy[out pixel, o].
//
// The four terms of a lookup table are four output channels of a pixel, a table holds the images of a tile, and the
// signs of the weights select the entry, the same one for all images.
//
// In the int8 mode the terms are rounded to int16 with a scale per image and pass, so that the sums of a pass stay
// below 2^15: to +-227 or more, depending on the kernel. In the exact mode tables hold floats.
//
// Loops are nested for the caches. ds is computed in bands of rows, which stay in the L2 cache while all passes add to
// them. A pass takes a few groups of output channels, so that the tables of the output pixels that an input pixel
// reaches fit into the L1 cache. The tables of a pass are computed row by row of the output map, into a ring of rows.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "sign_tables.h"
#include "simd.h"
#include "unit.h"

namespace bdd {
namespace {

constexpr int kInputs = 2;  // input channels that a loop accumulates together

// The taps that reach an input pixel, and the tables of the output pixels from which they do.
struct PixelTaps {
  const char* tables[9];
  int taps[9];
  int count;
  int all;  // taps of the kernel
};

// Adds a pass to the sums of an input channel.
inline void AddPass(const Entry<float, kTileImages>& pass, const float*, float* sums) {
  (Entry<float, kTileImages>::Load(sums) + pass).Store(sums);
}
inline void AddPass(const Entry<int16_t, kTileImages>& pass, const float* scale, float* sums) {
  int16_t values[kTileImages];
  pass.Store(values);
  for (int k = 0; k < kTileImages; k += kLanes) Store(sums + k, Load(sums + k) + Load(scale + k) * Load(values + k));
}

// sums[i] += the entries that the weights of input i select, for all inputs of a pixel. `index`: [input, tap, kGroups].
template <typename E, int kGroups>
inline void AddLookups(const PixelTaps& taps, const uint8_t* index, int inputs, const float* scale, float* sums) {
  const int64_t next_input = static_cast<int64_t>(taps.all) * kGroups;
  for (int i = 0; i < inputs; i += kInputs, index += kInputs * next_input, sums += kInputs * kTileImages) {
    E total[kInputs];
    for (int m = 0; m < kInputs; ++m) total[m] = E::Zero();
    for (int t = 0; t < taps.count; ++t) {
      const uint8_t* from = index + taps.taps[t] * kGroups;
      for (int g = 0; g < kGroups; ++g) {
        for (int m = 0; m < kInputs; ++m) total[m].Add(taps.tables[t] + g * E::kTableBytes, from[m * next_input + g]);
      }
    }
    for (int m = 0; m < kInputs; ++m) AddPass(total[m], scale, sums + m * kTileImages);
  }
}

inline Entry<float, kTileImages> Term(const float* values, const float*, float) {
  return Entry<float, kTileImages>::Load(values);
}
// Adding 1.5 * 2^23 rounds to the nearest integer, which the low bits of the sum then hold.
inline Entry<int16_t, kTileImages> Term(const float* values, const float* scale, int16_t) {
  int16_t rounded[kTileImages];
  for (int k = 0; k < kTileImages; ++k) {
    const float sum = values[k] * scale[k] + 12582912.0f;
    int32_t bits;
    std::memcpy(&bits, &sum, sizeof bits);
    rounded[k] = static_cast<int16_t>(bits);
  }
  return Entry<int16_t, kTileImages>::Load(rounded);
}

}  // namespace

// Writes context.ds of a tile, [in pixel, input, image of the tile].
void Unit::SignGradient(ThreadContext& context, bool exact) const {
  if (groups_per_pass_ == 4) {
    exact ? SignGradientBands<float, 4>(context) : SignGradientBands<int16_t, 4>(context);
  } else {
    exact ? SignGradientBands<float, 16>(context) : SignGradientBands<int16_t, 16>(context);
  }
}

template <typename T, int kGroups>
void Unit::SignGradientBands(ThreadContext& context) const {
  const int groups = spec_.channels / kGroup, row_floats = in_pixels_ / ring_.in_rows * spec_.channels * kTileImages;
  for (int row = 0; row < ring_.in_rows; row += band_rows_) {
    const int end = std::min(row + band_rows_, ring_.in_rows);
    float* ds = &context.ds[static_cast<int64_t>(row) * row_floats];
    std::fill(ds, ds + static_cast<int64_t>(end - row) * row_floats, 0.0f);
    for (int group = 0; group < groups; group += kGroups) AddSignGradient<T, kGroups>({row, end}, group, context);
  }
}

// Adds what a pass, kGroups groups of output channels, contributes to a band.
template <typename T, int kGroups>
void Unit::AddSignGradient(RowRange band, int group, ThreadContext& context) const {
  using E = Entry<T, kTileImages>;
  const int c = spec_.channels, row_pixels = in_pixels_ / ring_.in_rows;
  const uint8_t* index = weight_index_.data() + static_cast<int64_t>(group) * c * taps_;
  // Sums of a pass have at most this many terms.
  const float limit = 32767.0f / static_cast<float>(most_taps_ * kGroups * kGroup);
  alignas(64) float quantize[kTileImages], scale[kTileImages];
  for (int k = 0; k < kTileImages; ++k) {
    const float* dy_max = &context.dy_max[static_cast<int64_t>(k) * c + group * kGroup];
    const float largest = *std::max_element(dy_max, dy_max + kGroups * kGroup);
    quantize[k] = largest > 0.0f ? std::floor(limit) / largest : 0.0f;
    scale[k] = largest / std::floor(limit);
  }
  int ready = std::max(band.first / spec_.stride - ring_.rows_behind, 0);  // output rows up to here have tables
  for (int row = band.first; row < band.end; ++row) {
    for (; ready < ring_.out_rows && ready <= row / spec_.stride + ring_.rows_ahead; ++ready) {
      FillRow<T, kGroups>(ready, group, quantize, context);
    }
    for (int p = row * row_pixels; p < (row + 1) * row_pixels; ++p) {
      PixelTaps taps;
      taps.count = 0;
      taps.all = taps_;
      for (int k = tap_begin_[p]; k < tap_begin_[p + 1]; ++k, ++taps.count) {
        const InputTap& tap = input_taps_[static_cast<size_t>(k)];
        taps.taps[taps.count] = tap.tap;
        taps.tables[taps.count] = &context.tables[static_cast<int64_t>(tap.slot) * kGroups * E::kTableBytes];
      }
      AddLookups<E, kGroups>(taps, index, c, scale, &context.ds[static_cast<int64_t>(p) * c * kTileImages]);
    }
  }
}

// The tables of a row of output pixels.
template <typename T, int kGroups>
void Unit::FillRow(int row, int group, const float* scale, ThreadContext& context) const {
  using E = Entry<T, kTileImages>;
  constexpr int kChannels = kGroups * kGroup;
  const int c = spec_.channels;
  const int64_t next_image = static_cast<int64_t>(out_pixels_) * c;
  for (int x = 0; x < ring_.out_width; ++x) {
    const float* dy = &context.dy[(static_cast<int64_t>(row) * ring_.out_width + x) * c + group * kGroup];
    char* tables =
        &context.tables[(static_cast<int64_t>(row % ring_.rows) * ring_.out_width + x) * kGroups * E::kTableBytes];
    alignas(64) float terms[kChannels * kTileImages];  // [channel, image]
    for (int image = 0; image < kTileImages; image += 8) {
      for (int o = 0; o < kChannels; o += 8) {
        Transpose8x8(dy + image * next_image + o, next_image, terms + o * kTileImages + image, kTileImages);
      }
    }
    for (int g = 0; g < kGroups; ++g, tables += E::kTableBytes) {
      const float* t = terms + g * kGroup * kTileImages;
      FillTable(Term(t, scale, T{}), Term(t + kTileImages, scale, T{}), Term(t + 2 * kTileImages, scale, T{}),
                Term(t + 3 * kTileImages, scale, T{}), tables);
    }
  }
}

}  // namespace bdd
