// Packs filters from [O, H, W, I] to blocks of output channels.
#include "ops/bconv2d_filter.h"

namespace bdd {
namespace {

// Whether word i of a tap belongs to a pair, whose parities kPrefixParities stores. `count`, its words, is even then.
inline bool IsPaired(int64_t i, int64_t count) { return i > 0 && i + 1 < count; }
inline bool IsInverted(Encoding encoding, int64_t i) { return encoding == Encoding::kPrefixParities && i % 4 == 2; }

void EncodeWeights(Encoding encoding, uint32_t* words, int64_t count, int64_t stride) {
  EncodeTap(encoding, words, count, stride);
  for (int64_t i = 0; i < count; ++i) {
    if (IsInverted(encoding, i)) words[i * stride] = ~words[i * stride];
  }
}

// Word i of an encoded tap of `count` words of weights, decoded.
inline uint32_t DecodedWord(Encoding encoding, const uint32_t* words, int64_t i, int64_t count, int64_t stride) {
  const auto word = [&](int64_t k) { return IsInverted(encoding, k) ? ~words[k * stride] : words[k * stride]; };
  if (encoding == Encoding::kDifferences && i % 2 == 1) return word(i) ^ word(i - 1);
  if (encoding == Encoding::kParities && i % 2 == 0 && i > 0) return word(i) ^ word(i - 1) ^ word(i - 2);
  if (encoding == Encoding::kPrefixParities && IsPaired(i, count)) return word(i) ^ word(i - 1);
  return word(i);
}

}  // namespace

void EncodeTap(Encoding encoding, uint32_t* words, int64_t count, int64_t stride) {
  if (encoding == Encoding::kDifferences) {
    for (int64_t i = 1; i < count; i += 2) words[i * stride] ^= words[(i - 1) * stride];
  } else if (encoding == Encoding::kParities) {
    for (int64_t i = 2; i < count; i += 2) words[i * stride] ^= words[(i - 1) * stride] ^ words[(i - 2) * stride];
  } else if (encoding == Encoding::kPrefixParities) {
    for (int64_t i = 1; IsPaired(i, count); ++i) words[i * stride] ^= words[(i - 1) * stride];
  }
}

Encoding ChooseEncoding(const KernelSet& kernels, int64_t tap_words) {
  constexpr int64_t kFewestForParities = 5, kFewestForPrefixParities = 8;
  bool fits = false;
  switch (kernels.encoding) {
    case Encoding::kNone: break;
    case Encoding::kDifferences: fits = tap_words % 2 == 0; break;
    case Encoding::kParities: fits = tap_words >= kFewestForParities; break;
    case Encoding::kPrefixParities:
      fits = tap_words % 4 == 0 && tap_words >= kFewestForPrefixParities && tap_words <= kMostForPrefixParities;
      break;
  }
  return fits ? kernels.encoding : Encoding::kNone;
}

bool PackedFilter::Pack(const Value& filter, const Bconv2dGeometry& g, Encoding encoding, Message* why) {
  const int64_t width = g.block_channels;
  if (!words_.Reset(Times(Times(g.blocks(), g.window_words), width))) return why->Set("no memory for the weights");
  block_words_ = g.window_words * width;
  encoding_ = encoding;
  const auto* source = static_cast<const uint8_t*>(filter.constant);
  // Bits after the last channel must not count, whatever the file contains.
  const int32_t used = g.channels_in / g.groups % 32;
  const uint32_t last = used == 0 ? ~0u : (1u << used) - 1;
  for (int64_t o = 0; o < g.channels_out; ++o) {
    const int64_t group = o / g.group_channels_out, inside = o % g.group_channels_out;
    uint32_t* column = words_.data() + (group * g.group_blocks + inside / width) * block_words_ + inside % width;
    for (int64_t k = 0; k < g.window_words; ++k) {
      uint32_t word = 0;  // the file's bytes may be unaligned
      std::memcpy(&word, source + 4 * (o * g.window_words + k), 4);
      column[k * width] = k % g.group_words == g.group_words - 1 ? word & last : word;
    }
    for (int64_t k = 0; k < g.window_words; k += g.group_words) {
      EncodeWeights(encoding, column + k * width, g.group_words, width);
    }
  }
  source_ = filter.constant;
  return true;
}

void PackedFilter::SumTaps(const Bconv2dGeometry& g, int32_t* sums) const {
  const int64_t width = g.block_channels, padded = g.padded_channels();
  for (int64_t i = 0; i < padded; ++i) {
    if (i / width % g.group_blocks * width + i % width >= g.group_channels_out) continue;  // a missing channel
    for (int64_t k = 0; k < g.window_words; ++k) {
      const int64_t tap = k / g.group_words, inside = k % g.group_words;
      const uint32_t* words = block(i / width) + tap * g.group_words * width + i % width;
      // A sign is 1 - 2 * bit.
      sums[tap * padded + i] -= 2 * __builtin_popcount(DecodedWord(encoding_, words, inside, g.group_words, width));
    }
    for (int64_t tap = 0; tap < g.window(); ++tap) sums[tap * padded + i] += g.channels_in / g.groups;
  }
}

}  // namespace bdd
