// Scratch memory and partial sums of one thread while it trains a unit.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "support/memory.h"

namespace bdd {

// Makes room for `count` zeros. Without memory there is nothing that a training step could return to.
template <typename T>
void Allocate(Buffer<T>& buffer, int64_t count) {
  if (buffer.Reset(count)) return;
  std::fprintf(stderr, "bdd: the training kernels cannot allocate %lld elements of %zu bytes\n",
               static_cast<long long>(count), sizeof(T));
  std::abort();
}

// Two pixels of an image that a tap of the kernel connects.
struct TapPair {
  int32_t in, out;
};

// Images that a thread's backward processes together: the lanes of ds, and four groups of four for dW.
constexpr int kTileImages = 16;
constexpr int kMaxQuads = kTileImages / 4;

template <typename T>
void Zero(Buffer<T>& buffer) {
  std::memset(buffer.data(), 0, static_cast<size_t>(buffer.size()) * sizeof(T));
}

struct ThreadContext {
  // Partial sums over the thread's images.
  Buffer<double> sum_y, sum_y2;     // [C]: moments of y
  Buffer<double> sum_dp, sum_dp_y;  // [C]: for the gradient of BN1
  Buffer<double> d_slope;           // [C]
  Buffer<float> d_move, d_residual_slope, d_mix, d_reduce, d_reduce_bias, d_expand, d_expand_bias;  // as parameters
  Buffer<float> d_kernel;                                                                           // [tap, C, C]

  // Scratch of one image.
  Buffer<float> vectors[4];  // [C] each
  Buffer<float> d_hidden;    // [C / 8]

  // Scratch of one image tile.
  Buffer<float> dy;          // [image, out pixel, C]: gradient of the convolution's result
  Buffer<float> dy_max;      // [image, C]: largest |dy|
  Buffer<float> d_residual;  // [image, out pixel, C]: gradient of r, with attention
  Buffer<float> ds;          // [in pixel, C, image]: gradient of the signs
  Buffer<float> ds_rows;     // [image, pixel, C] for a few pixels at a time

  // Scratch of sign_gradient.cc.
  Buffer<char> tables;  // [row of the ring, out pixel of a row, group of the pass] tables

  // Scratch of binary_conv.cc.
  Buffer<uint8_t> input_index;  // [image, in pixel, group of 4 channels]
  Buffer<char> match_tables;    // of a chunk

  // Scratch of kernel_gradient.cc.
  Buffer<int16_t> quantized;    // [image, out pixel, C]: dy / channel_scale
  Buffer<float> channel_scale;  // [C]
  Buffer<uint8_t> sign_index;   // [in pixel, group of 4 channels, quad of images, 4]
  Buffer<char> kernel_sums;     // [tap, C] entries
};

}  // namespace bdd
