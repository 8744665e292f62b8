// The byte path of a binary convolution, for kernel sets with a matrix unit: signs are unpacked to int8 and multiplied
// by bgemm_i8_i32.
//
// The input image is stored in slices of 64 channels: all pixels of the first slice, then all pixels of the next. A
// byte tile consists of kByteRows pixels at a constant distance. With stride 1, tiles continue across the padding into
// the next row, and the rows of the padding are computed in vain; else each output row starts a new tile.
#pragma once

#include "ops/bconv2d_geometry.h"

namespace bdd {

class Bconv2dBytes {
 public:
  // Decides whether the byte path is used: matrix units pay off for long dot products and many pixels.
  bool Plan(const Value& filter, const Bconv2dGeometry& geometry, const KernelSet& kernels, Message* why);
  // Turns the byte path off.
  void Disable() { active_ = false; }

  bool active() const { return active_; }
  void UnpackImage(const uint32_t* image, ThreadPool* pool);

  // See TileSource.
  int64_t AccumulatorBufferSize(int64_t pixels) const;
  void PrecomputeAccumulators(int64_t channel, int64_t first, int64_t count, int32_t* buffer) const;

 private:
  void PackWeights(const Value& filter);
  // Upper bounds of the rows, and of the tiles, that this many consecutive pixels touch.
  int64_t MaxRows(int64_t pixels) const { return pixels / geometry_->columns.output + 2; }
  int64_t MaxTiles(int64_t pixels) const { return pixels / kByteRows + pixels / geometry_->columns.output + 5; }

  bool active_ = false;
  const Bconv2dGeometry* geometry_ = nullptr;
  const KernelSet* kernels_ = nullptr;
  bool rows_join_ = false;  // tiles continue into the next row
  Buffer<int8_t> image_;    // [slices][padded pixels][64]
  int64_t slice_bytes_ = 0;
  Buffer<int64_t> offsets_;   // [steps]
  Buffer<uint64_t> weights_;  // [blocks][steps][2][16]
};

}  // namespace bdd
