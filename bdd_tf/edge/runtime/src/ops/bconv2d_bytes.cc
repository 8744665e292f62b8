// See bconv2d_bytes.h for the layouts.
#include "ops/bconv2d_bytes.h"

namespace bdd {
namespace {

constexpr int64_t kSliceChannels = 64;  // of a step
constexpr int64_t kStepWords = 32;      // of the weights of a step

}  // namespace

bool Bconv2dBytes::Plan(const Value& filter, const Bconv2dGeometry& geometry, const KernelSet& kernels, Message* why) {
  constexpr int64_t kLeastReductionSize = 512, kLeastPixels = 2 * kByteRows;
  geometry_ = &geometry;
  kernels_ = &kernels;
  const Window &rows = geometry.rows, &columns = geometry.columns;
  active_ = kernels.bgemm_i8_i32 != nullptr && geometry.groups == 1 && geometry.channels_in >= kSliceChannels &&
            geometry.reduction_size >= kLeastReductionSize && geometry.output_pixels() >= kLeastPixels &&
            kernels.channels == kTileChannels;
  if (!active_) return true;
  const int64_t slices = (geometry.channels_in + kSliceChannels - 1) / kSliceChannels;
  const int64_t steps = slices * geometry.window();
  slice_bytes_ = Times(int64_t{rows.padded} * columns.padded, kSliceChannels);
  // The last tile may reach past the image.
  const int64_t image = Times(slices, slice_bytes_), past = Times(columns.stride, kByteRows * kSliceChannels);
  if (image < 0 || past < 0 || !image_.Reset(image + past) || !offsets_.Reset(steps) ||
      !weights_.Reset(Times(Times(geometry.group_blocks, steps), kStepWords))) {
    return why->Set("no memory for signs as bytes");
  }
  rows_join_ = rows.stride == 1 && columns.stride == 1 && columns.padded - columns.output <= kByteRows;
  int64_t step = 0;
  for (int64_t slice = 0; slice < slices; ++slice) {
    for (int64_t y = 0; y < rows.size; ++y) {
      for (int64_t x = 0; x < columns.size; ++x, ++step) {
        const int64_t tap = y * rows.dilation * columns.padded + x * columns.dilation;
        offsets_[step] = slice * slice_bytes_ + tap * kSliceChannels;
      }
    }
  }
  PackWeights(filter);
  return true;
}

void Bconv2dBytes::PackWeights(const Value& filter) {
  const Bconv2dGeometry& g = *geometry_;
  const int64_t window = g.window(), steps = offsets_.size();
  const auto* source = static_cast<const uint8_t*>(filter.constant);
  for (int64_t o = 0; o < g.channels_out; ++o) {
    for (int64_t s = 0; s < steps; ++s) {
      const int64_t slice = s / window, tap = s % window;
      uint64_t signs = 0;
      for (int64_t half = 0; half < 2 && 2 * slice + half < g.words; ++half) {
        uint32_t word = 0;  // the file's bytes may be unaligned
        std::memcpy(&word, source + 4 * ((o * window + tap) * g.words + 2 * slice + half), 4);
        signs |= uint64_t{word} << (32 * half);
      }
      uint64_t* rows = weights_.data() + ((o / 32 * steps + s) * 2 + o % 32 / 16) * 16;
      for (int64_t r = 0; r < 16; ++r) rows[r] |= (signs >> (4 * r) & 15) << (o % 16 * 4);
    }
  }
}

void Bconv2dBytes::UnpackImage(const uint32_t* image, ThreadPool* pool) {
  constexpr int64_t kSmallImage = 1 << 18;  // smaller images are unpacked faster than other threads wake up
  const int64_t rows = geometry_->rows.padded, columns = geometry_->columns.padded, words = geometry_->words;
  const auto unpack = [&](int64_t item) {
    const int64_t slice = item / rows, y = item % rows, valid = geometry_->channels_in - kSliceChannels * slice;
    const bool both = 2 * slice + 1 < words;
    const uint32_t* from = image + y * columns * words + 2 * slice;
    int8_t* to = image_.data() + slice * slice_bytes_ + y * columns * kSliceChannels;
    for (int64_t x = 0; x < columns; ++x, from += words, to += kSliceChannels) {
      kernels_->unpack_b1_i8(from[0] | (both ? uint64_t{from[1]} << 32 : 0), valid, to);
    }
  };
  const int64_t items = (geometry_->channels_in + kSliceChannels - 1) / kSliceChannels * rows;
  if (image_.size() >= kSmallImage) return pool->ForEach(items, unpack);
  for (int64_t item = 0; item < items; ++item) unpack(item);
}

// The buffer holds the accumulators, the kernel's scratch memory, the runs and the tiles.
int64_t Bconv2dBytes::AccumulatorBufferSize(int64_t pixels) const {
  const int64_t tiles = MaxTiles(pixels);
  const int64_t lists =
      tiles * static_cast<int64_t>(sizeof(int8_t*)) + MaxRows(pixels) * static_cast<int64_t>(sizeof(ByteRun));
  return pixels * kTileChannels + (kByteScratch + tiles * kByteTileScratch + lists + 3) / 4;
}

void Bconv2dBytes::PrecomputeAccumulators(int64_t channel, int64_t first, int64_t count, int32_t* buffer) const {
  const Window &rows = geometry_->rows, &columns = geometry_->columns;
  const int64_t width = columns.output;
  auto* scratch = reinterpret_cast<int8_t*>(buffer + count * kTileChannels);
  auto* runs = reinterpret_cast<ByteRun*>(scratch + kByteScratch + MaxTiles(count) * kByteTileScratch);
  auto** tiles = reinterpret_cast<const int8_t**>(runs + MaxRows(count));
  int64_t tile_count = 0, run_count = 0;
  const int64_t begin = first / width * columns.padded + first % width;
  for (int64_t done = 0; done < count;) {
    const int64_t y = (first + done) / width, x = (first + done) % width;
    const int64_t part = count - done < width - x ? count - done : width - x;
    const int64_t pixel = y * rows.stride * columns.padded + x * columns.stride;
    if (rows_join_) {
      runs[run_count++] = {pixel - begin, part};
      for (; tile_count * kByteRows < pixel - begin + part; ++tile_count) {
        tiles[tile_count] = image_.data() + (begin + tile_count * kByteRows) * kSliceChannels;
      }
    } else {
      runs[run_count++] = {tile_count * kByteRows, part};
      for (int64_t i = 0; i < part; i += kByteRows) {
        tiles[tile_count++] = image_.data() + (pixel + i * columns.stride) * kSliceChannels;
      }
    }
    done += part;
  }
  const ByteTaps taps = {offsets_.data(), offsets_.size(), kSliceChannels * columns.stride, geometry_->reduction_size};
  const uint64_t* weights = weights_.data() + channel / kTileChannels * taps.steps * kStepWords;
  kernels_->bgemm_i8_i32({tiles, tile_count, runs, run_count}, taps, weights, scratch, buffer);
}

}  // namespace bdd
