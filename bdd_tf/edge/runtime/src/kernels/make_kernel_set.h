// MakeKernelSet: joins a file's own bgemm and bitpack kernels with the templates of the other headers. Included once by
// each kernel file.
#pragma once

#include "kernels/channel_kernels.h"
#include "kernels/kernel_set.h"
#include "kernels/output_transform.h"
#include "kernels/post_ops.h"
#include "kernels/tile_kernels.h"

namespace bdd {
namespace {

using BgemmFunction = void (*)(const uint32_t* const* indirection, int count, const Taps& taps, const uint32_t* weights,
                               int32_t* popcounts, int valid);

// Calls a kernel for tiles of at most kPixels pixels. The last two tiles have about the same size, because a tile of a
// single pixel costs nearly as much as a full one.
template <int kPixels, int kChannels, BgemmFunction kBgemmTile>
void bgemm_b1_i32(const uint32_t* const* indirection, int count, const Taps& taps, const uint32_t* weights,
                  int32_t* popcounts, int valid) {
  while (count > 0) {
    const int most = count < kPixels ? count : kPixels;
    const int tile = count > kPixels && count < 2 * kPixels ? (count + 1) / 2 : most;
    kBgemmTile(indirection, tile, taps, weights, popcounts, valid);
    indirection += tile;
    popcounts += tile * kChannels;
    count -= tile;
  }
}

template <int kPixels, int kChannels, BgemmFunction kBgemmTile, BitpackFunction kBitpack, typename Signs>
inline KernelSet NewKernelSet(const char* name, Encoding encoding) {
  KernelSet set = {};
  set.name = name;
  set.pixels = kPixels;
  set.channels = kChannels;
  set.encoding = encoding;
  set.bgemm_b1_i32 = bgemm_b1_i32<kPixels, kChannels, kBgemmTile>;
  set.output_transform_i32_f32 = output_transform_i32_f32<kChannels>;
  set.output_transform_i32_i8 = output_transform_i32_i8<kChannels>;
  set.output_transform_i32_i16 = output_transform_i32_i16<kChannels>;
  set.output_transform_i32_b1 = output_transform_i32_b1<kChannels>;
  set.bitpack_f32_b1 = kBitpack;
  set.post_ops_f32 = post_ops_f32<kBitpack, Signs>;
  set.average_pool_2x2_f32 = average_pool_2x2_f32;
  set.dense_f32 = dense_f32;
  set.dense_f32_i8 = dense_f32_i8;
  set.conv2d_f32 = conv2d_f32;
  set.depthwise_conv2d_f32 = depthwise_conv2d_f32;
  set.gemm_f32 = gemm_f32;
  set.log_magnitude_f32 = log_magnitude_f32;
  set.rgb_to_planes_u8_f32 = rgb_to_planes_u8_f32;
  set.local_binary_pattern_f32 = local_binary_pattern_f32;
  set.conv3x3_planar_f32 = conv3x3_planar_f32;
  return set;
}

// The file's kernel set, which its first call makes. Signs: see post_ops_f32.
template <int kPixels, int kChannels, BgemmFunction kBgemmTile, BitpackFunction kBitpack, typename Signs = void>
inline const KernelSet* MakeKernelSet(const char* name, Encoding encoding = Encoding::kNone) {
  static const KernelSet set = NewKernelSet<kPixels, kChannels, kBgemmTile, kBitpack, Signs>(name, encoding);
  return &set;
}

// A set that shares everything but the dot products with another one of the same tiles, whose instructions its
// processors have, too.
template <int kPixels, int kChannels, BgemmFunction kBgemmTile>
inline KernelSet WithBgemm(const KernelSet& other, const char* name, Encoding encoding = Encoding::kNone) {
  KernelSet set = other;
  set.name = name;
  set.encoding = encoding;
  set.bgemm_b1_i32 = bgemm_b1_i32<kPixels, kChannels, kBgemmTile>;
  return set;
}

}  // namespace
}  // namespace bdd
