// The weights of a binary convolution in the layout of the bgemm microkernels, and the encoding of their words.
#pragma once

#include "ops/bconv2d_geometry.h"

namespace bdd {

// Encodes the `count` words of an input's tap, which are `stride` words apart.
void EncodeTap(Encoding encoding, uint32_t* words, int64_t count, int64_t stride);

// The encoding to use for taps of this many words: the kernel set's if it applies and pays off.
Encoding ChooseEncoding(const KernelSet& kernels, int64_t tap_words);

// [blocks][window words][channels of a block], so that one load fetches the words of neighbouring output channels.
class PackedFilter {
 public:
  bool Pack(const Value& filter, const Bconv2dGeometry& geometry, Encoding encoding, Message* why);

  const uint32_t* block(int64_t i) const { return words_.data() + i * block_words_; }
  Encoding encoding() const { return encoding_; }
  // The constant that was packed last, or null.
  const void* source() const { return source_; }

  // Sums the signs of each tap: sums[tap][padded channel]. `sums` holds zeros.
  void SumTaps(const Bconv2dGeometry& geometry, int32_t* sums) const;

 private:
  Buffer<uint32_t> words_;
  int64_t block_words_ = 0;
  Encoding encoding_ = Encoding::kNone;
  const void* source_ = nullptr;
};

}  // namespace bdd
