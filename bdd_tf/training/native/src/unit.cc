#include "unit.h"

#include <algorithm>

#include "sign_tables.h"

namespace bdd {
namespace {

constexpr int kBandFloats = 1 << 16;  // 256 KiB

}  // namespace
Unit::Unit(const UnitSpec& spec, ThreadPool* pool) : spec_(spec), pool_(pool) {
  const int threads = std::max(pool->threads(), 1);
  in_pixels_ = spec_.height * spec_.width;
  out_pixels_ = (spec_.height / spec_.stride) * (spec_.width / spec_.stride);
  taps_ = spec_.kernel * spec_.kernel;
  words_ = (spec_.channels + 63) / 64;
  squeezed_ = spec_.channels / 8;
  stores_residual_ = spec_.attention || spec_.stride == 2;
  ListTaps();
  ListInputTaps();
  ListChunks();
  AllocateStored();
  for (int i = 0; i < threads; ++i) {
    contexts_.push_back(std::make_unique<ThreadContext>());
    AllocateContext(*contexts_.back());
  }
}

void Unit::ListTaps() {
  const int width = spec_.width / spec_.stride;
  // TensorFlow's SAME: 1 before and after at stride 1; 0 before and 1 after at stride 2 (even sizes).
  const int before = spec_.kernel == 3 && spec_.stride == 1 ? 1 : 0;
  pairs_.resize(static_cast<size_t>(taps_));
  Allocate(indirection_, static_cast<int64_t>(out_pixels_) * taps_);
  Allocate(valid_taps_, out_pixels_);
  for (int o = 0; o < out_pixels_; ++o) {
    for (int t = 0; t < taps_; ++t) {
      const int row = o / width * spec_.stride + t / spec_.kernel - before;
      const int column = o % width * spec_.stride + t % spec_.kernel - before;
      const bool inside = row >= 0 && row < spec_.height && column >= 0 && column < spec_.width;
      indirection_[static_cast<int64_t>(o) * taps_ + t] = inside ? row * spec_.width + column : -1;
      if (!inside) continue;
      pairs_[static_cast<size_t>(t)].push_back({row * spec_.width + column, o});
      ++valid_taps_[o];
    }
  }
}

void Unit::ListInputTaps() {
  const int height = spec_.height / spec_.stride, width = spec_.width / spec_.stride;
  if (spec_.kernel == 1) {
    ring_ = {in_pixels_, out_pixels_, 1, 1, 0, 0};
  } else if (spec_.stride == 1) {
    ring_ = {spec_.height, height, width, 3, 1, 1};
  } else {
    ring_ = {spec_.height, height, width, 2, 0, 1};
  }
  // Tables of the pixels that one input pixel reaches shall fit into the L1 cache, a band's ds into the L2 cache.
  const int groups = spec_.channels / kGroup, row_pixels = in_pixels_ / ring_.in_rows;
  groups_per_pass_ = spec_.kernel == 1 && groups % 16 == 0 ? 16 : 4;
  band_rows_ = std::max(1, kBandFloats / (row_pixels * spec_.channels * kTileImages));
  std::vector<std::vector<InputTap>> taps(static_cast<size_t>(in_pixels_));
  for (int t = 0; t < taps_; ++t) {
    for (const TapPair& pair : pairs_[static_cast<size_t>(t)]) {
      const int row = pair.out / ring_.out_width, column = pair.out % ring_.out_width;
      taps[static_cast<size_t>(pair.in)].push_back({t, row % ring_.rows * ring_.out_width + column});
    }
  }
  Allocate(tap_begin_, in_pixels_ + 1);
  most_taps_ = 1;
  for (int p = 0; p < in_pixels_; ++p) {
    const std::vector<InputTap>& list = taps[static_cast<size_t>(p)];
    input_taps_.insert(input_taps_.end(), list.begin(), list.end());
    most_taps_ = std::max(most_taps_, static_cast<int>(list.size()));
    tap_begin_[p + 1] = static_cast<int32_t>(input_taps_.size());
  }
}

void Unit::AllocateStored() {
  const int64_t n = spec_.batch, c = spec_.channels;
  Allocate(weight_ones_, taps_ * c * c + kEntryBytes);  // blocks of outputs read beyond the last row
  Allocate(weight_index_, taps_ * c * c / kGroup);
  Allocate(sign_bits_, n * in_pixels_ * words_);
  Allocate(ste_mask_, n * in_pixels_ * words_);
  Allocate(y_, n * out_pixels_ * c);
  if (stores_residual_) Allocate(residual_, n * out_pixels_ * c);
  for (Buffer<float>* b :
       {&mean_x_, &sum_z_, &sum_v_, &sum_v2_, &mixed_, &gate_, &sum_dout_, &sum_dout_v_, &d_mixed_}) {
    Allocate(*b, n * c);
  }
  Allocate(hidden_, n * squeezed_);
  norm1_.Allocate(c);
  norm2_.Allocate(c);
  norm1_gradient_.Allocate(c);
  norm2_gradient_.Allocate(c);
}

void Unit::AllocateContext(ThreadContext& context) const {
  const int64_t c = spec_.channels, in = static_cast<int64_t>(in_pixels_) * c * kTileImages,
                out = static_cast<int64_t>(out_pixels_) * c * kTileImages;
  for (Buffer<double>* b : {&context.sum_y, &context.sum_y2, &context.sum_dp, &context.sum_dp_y, &context.d_slope}) {
    Allocate(*b, c);
  }
  for (Buffer<float>* b : {&context.d_move, &context.d_residual_slope, &context.d_mix, &context.d_expand_bias}) {
    Allocate(*b, c);
  }
  for (Buffer<float>& b : context.vectors) Allocate(b, c);
  Allocate(context.d_hidden, squeezed_);
  Allocate(context.d_reduce_bias, squeezed_);
  Allocate(context.d_reduce, c * squeezed_);
  Allocate(context.d_expand, c * squeezed_);
  Allocate(context.d_kernel, taps_ * c * c);
  AllocateConvolution(context);
  Allocate(context.dy, out);
  if (spec_.attention) Allocate(context.d_residual, out);
  Allocate(context.ds, in);
  Allocate(context.ds_rows, kTileImages * std::max<int64_t>(kRowFloats, c));
  Allocate(context.tables,
           static_cast<int64_t>(ring_.rows) * ring_.out_width * groups_per_pass_ * kEntries * kEntryBytes);
  Allocate(context.dy_max, kTileImages * c);
  Allocate(context.quantized, out);
  Allocate(context.channel_scale, c);
  Allocate(context.sign_index, in / 4);
  Allocate(context.kernel_sums, taps_ * c * kEntryBytes);
}

}  // namespace bdd
