// The sizes of a binary convolution: options, filter, and how output channels are divided into blocks.
//
// Signs are packed along channels, 32 to a word. With groups, each group of output channels reads its own part of the
// input's words. The output channels of a group are divided into blocks of KernelSet::channels, which a microkernel
// computes at once; the last block of a group may have missing channels.
#pragma once

#include "ops/operator.h"

namespace bdd {

// Upper bound of the reduction size K. Dot products up to this are exact in float, too.
constexpr int64_t kMaxReductionSize = 1 << 24;

struct Bconv2dGeometry {
  // Options.
  int32_t channels_in = 0, pad_values = 0, activation = 0;
  bool same = false;
  Window rows{1, 1, 1}, columns{1, 1, 1};

  // Filter.
  int32_t channels_out = 0, groups = 1;
  int64_t words = 0;         // of a pixel
  int64_t group_words = 0;   // of a pixel, in one group
  int64_t window_words = 0;  // of a window, in one group
  int64_t group_channels_out = 0;
  int32_t reduction_size = 0;  // K

  // Blocks.
  int64_t block_channels = 0, group_blocks = 0;

  int64_t blocks() const { return groups * group_blocks; }
  int64_t padded_channels() const { return blocks() * block_channels; }
  int64_t window() const { return int64_t{rows.size} * columns.size; }  // taps
  int64_t output_pixels() const { return int64_t{rows.output} * columns.output; }
  // The first output channel of a block.
  int64_t FirstChannel(int64_t block) const {
    return block / group_blocks * group_channels_out + block % group_blocks * block_channels;
  }
  // Channels of a block that exist.
  int ValidChannels(int64_t block) const {
    const int64_t rest = group_channels_out - block % group_blocks * block_channels;
    return static_cast<int>(rest < block_channels ? rest : block_channels);
  }
  // Where an output channel is stored among all blocks' channels.
  int64_t PaddedChannel(int64_t channel) const {
    return channel / group_channels_out * group_blocks * block_channels + channel % group_channels_out;
  }

  // Reads the options of LceBconv2d.
  bool Parse(const uint8_t* options, size_t size, Message* why);
  // Takes over the filter's sizes, and divides its channels into blocks of `channels`.
  bool SetFilter(const Value& filter, int channels, Message* why);
  // Fits the windows to an input of [N, H, W, words].
  bool SetInput(const Shape& input, Message* why);
};

}  // namespace bdd
