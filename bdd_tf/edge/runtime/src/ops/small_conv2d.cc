// Weights are laid out by blocks of kTileChannels output channels; each tile calls the conv2d_f32 microkernel with
// pointers to its pixels' windows in the padded input.
#include "ops/small_conv2d.h"

#include <algorithm>
#include <new>

namespace bdd {
namespace {

class SmallConv2dOperator final : public SmallConv2d {
 public:
  explicit SmallConv2dOperator(const Conv2dOptions& options)
      : same_(options.same),
        rows_{1, options.stride_height, options.dilation_height},
        columns_{1, options.stride_width, options.dilation_width} {}

  InputTransform* input_transform() override { return &transform_; }
  void ApplyInputTransform() override;
  TileSource* tiles() override { return this; }
  bool Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output, Message* why) override;
  void Run(const void*, void*, ThreadPool*) override {}  // only used as a source of tiles
  void BeginImage(const void* image, ThreadPool* pool) override;
  void ComputeTile(const TileRegion& tile, const int32_t* accumulators, float* out, int64_t stride) const override;

 private:
  bool PackWeights(const Value& filter, const Value& bias, Message* why);
  void PadPlanes(const float* image, int64_t first, int64_t last);
  void PadRows(const void* image, int64_t first, int64_t last);

  bool same_;
  Window rows_, columns_;
  int64_t channels_in_ = 0, channels_out_ = 0, reduction_size_ = 0;
  const KernelSet* kernels_ = nullptr;
  Buffer<float> weights_, bias_;  // [blocks][reduction size][kTileChannels] and [blocks][kTileChannels]
  Buffer<int32_t> offsets_;       // [reduction size]
  Buffer<float> padded_;
  InputTransform transform_;
};

bool SmallConv2dOperator::PackWeights(const Value& filter, const Value& bias, Message* why) {
  const int64_t blocks = (channels_out_ + kTileChannels - 1) / kTileChannels;
  if (!weights_.Reset(Times(blocks, reduction_size_ * kTileChannels)) || !bias_.Reset(Times(blocks, kTileChannels)) ||
      !offsets_.Reset(reduction_size_)) {
    return why->Set("no memory for the weights");
  }
  const auto* source = static_cast<const uint8_t*>(filter.constant);
  for (int64_t o = 0; o < channels_out_; ++o) {
    float* block = weights_.data() + o / kTileChannels * reduction_size_ * kTileChannels + o % kTileChannels;
    for (int64_t k = 0; k < reduction_size_; ++k) {
      std::memcpy(block + k * kTileChannels, source + 4 * (o * reduction_size_ + k), 4);
    }
    std::memcpy(bias_.data() + o, static_cast<const uint8_t*>(bias.constant) + 4 * o, 4);
  }
  return true;
}

bool SmallConv2dOperator::Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output,
                                  Message* why) {
  if (count != 3 || inputs[0] == nullptr || inputs[1] == nullptr || inputs[2] == nullptr) {
    return why->Set("expected three inputs");
  }
  const Value &input = *inputs[0], &filter = *inputs[1], &bias = *inputs[2];
  if (input.type != kTfLiteFloat32 || input.shape.rank != 4) return why->Set("the input is not float32 [N, H, W, C]");
  for (const Value* value : {&input, &filter}) {
    for (int i = 0; i < 4; ++i) {
      if (value->shape.rank != 4 || value->shape.dims[i] < 1)
        return why->Set("the size of the input or the filter is impossible");
    }
  }
  const int32_t* dims = filter.shape.dims;
  channels_in_ = input.shape.dims[3];
  channels_out_ = dims[0];
  reduction_size_ = Times(Times(dims[1], dims[2]), dims[3]);
  if (dims[3] != channels_in_) {
    return why->Set("a filter for %d channels on %d", dims[3], static_cast<int>(channels_in_));
  }
  if (reduction_size_ < 1 || reduction_size_ > kMaxSmallConv2dReduction) return why->Set("the window is too large");
  if (filter.type != kTfLiteFloat32 || filter.constant == nullptr || filter.bytes < 4 * filter.shape.Elements() ||
      bias.type != kTfLiteFloat32 || bias.constant == nullptr || bias.shape.Elements() != channels_out_ ||
      bias.bytes < 4 * channels_out_) {
    return why->Set("filter and bias are not constants of the right size");
  }
  rows_.size = dims[1];
  columns_.size = dims[2];
  if (!rows_.Fit(input.shape.dims[1], same_) || !columns_.Fit(input.shape.dims[2], same_)) {
    return why->Set("a filter of %d x %d does not fit a map of %d x %d", dims[1], dims[2], input.shape.dims[1],
                    input.shape.dims[2]);
  }
  output->shape = input.shape;
  output->shape.dims[1] = rows_.output;
  output->shape.dims[2] = columns_.output;
  output->shape.dims[3] = dims[0];
  const int64_t image = Times(Times(rows_.padded, columns_.padded), channels_in_);
  if (Times(input.shape.Elements(), 4) < 0 || Times(output->shape.Elements(), 4) < 0 || Times(image, 4) < 0 ||
      !padded_.Reset(image)) {
    return why->Set("the maps are too large");
  }
  kernels_ = &kernels;
  return PackWeights(filter, bias, why);
}

// Pads planar input without interleaving it; only the offsets of a window's values change.
void SmallConv2dOperator::PadPlanes(const float* image, int64_t first, int64_t last) {
  const int64_t height = rows_.input, width = columns_.input;
  for (int64_t c = 0; c < channels_in_; ++c) {
    for (int64_t y = first; y < last; ++y) {
      const float* row = image + (c * height + (transform_.flip_rows ? height - 1 - y : y)) * width;
      float* to = padded_.data() + (c * rows_.padded + y + rows_.before) * columns_.padded + columns_.before;
      if (transform_.flip_columns) {
        for (int64_t x = 0; x < width; ++x) to[x] = row[width - 1 - x];
      } else {
        std::memcpy(to, row, static_cast<size_t>(width) * sizeof(float));
      }
    }
  }
}

// Sets the offsets of a window's values from its first one.
void SmallConv2dOperator::ApplyInputTransform() {
  const int64_t pixel = transform_.planar ? 1 : channels_in_;
  const int64_t channel = transform_.planar ? int64_t{rows_.padded} * columns_.padded : 1;
  int64_t k = 0;
  for (int64_t y = 0; y < rows_.size; ++y) {
    for (int64_t x = 0; x < columns_.size; ++x) {
      for (int64_t c = 0; c < channels_in_; ++c, ++k) {
        const int64_t tap = y * rows_.dilation * columns_.padded + x * columns_.dilation;
        offsets_[k] = static_cast<int32_t>(tap * pixel + c * channel);
      }
    }
  }
  padded_.Clear();  // the border is elsewhere in the other layout
}

void SmallConv2dOperator::BeginImage(const void* image, ThreadPool* pool) {
  constexpr int64_t kRows = 16;  // of a work item
  const int64_t height = rows_.input;
  pool->ForEach((height + kRows - 1) / kRows, [&](int64_t item) {
    const int64_t first = item * kRows, last = std::min(height, first + kRows);
    if (transform_.planar) {
      PadPlanes(static_cast<const float*>(image), first, last);
    } else {
      PadRows(image, first, last);
    }
  });
}

void SmallConv2dOperator::PadRows(const void* image, int64_t first, int64_t last) {
  const int64_t channels = channels_in_, height = rows_.input, width = columns_.input;
  for (int64_t y = first; y < last; ++y) {
    const int64_t from = (transform_.flip_rows ? height - 1 - y : y) * width * channels;
    float* to = padded_.data() + ((y + rows_.before) * columns_.padded + columns_.before) * channels;
    const int64_t step = transform_.flip_columns ? -channels : channels,
                  start = transform_.flip_columns ? width - 1 : 0;
    if (!transform_.bytes) {
      const float* row = static_cast<const float*>(image) + from + start * channels;
      if (step > 0) {
        std::memcpy(to, row, static_cast<size_t>(width * channels) * sizeof(float));
        continue;
      }
      for (int64_t x = 0; x < width; ++x, to += channels, row += step) {
        for (int64_t c = 0; c < channels; ++c) to[c] = row[c];
      }
      continue;
    }
    const uint8_t* row = static_cast<const uint8_t*>(image) + from + start * channels;
    const float* table = transform_.table.data();
    if (channels == 3) {  // images
      for (int64_t x = 0; x < width; ++x, to += 3, row += step) {
        to[0] = table[row[0]];
        to[1] = table[256 + row[1]];
        to[2] = table[512 + row[2]];
      }
      continue;
    }
    for (int64_t x = 0; x < width; ++x, to += channels, row += step) {
      for (int64_t c = 0; c < channels; ++c) to[c] = table[256 * c + row[c]];
    }
  }
}

void SmallConv2dOperator::ComputeTile(const TileRegion& tile, const int32_t*, float* out, int64_t stride) const {
  const Conv2dFilter filter = {offsets_.data(), reduction_size_, weights_.data() + tile.channel * reduction_size_,
                               bias_.data() + tile.channel};
  const float* indirection[kMaxPixels];
  const int64_t pixel = transform_.planar ? 1 : channels_in_;
  int64_t y = tile.first / columns_.output, x = tile.first % columns_.output;
  for (int done = 0; done < tile.count;) {
    const int part = std::min(tile.count - done, kMaxPixels);
    for (int m = 0; m < part; ++m) {
      indirection[m] = padded_.data() + (y * rows_.stride * columns_.padded + x * columns_.stride) * pixel;
      if (++x == columns_.output) {
        x = 0;
        ++y;
      }
    }
    kernels_->conv2d_f32(indirection, part, filter, out + done * stride, stride, tile.width);
    done += part;
  }
}

}  // namespace

std::unique_ptr<SmallConv2d> MakeSmallConv2d(const Conv2dOptions& options) {
  return std::unique_ptr<SmallConv2d>(new (std::nothrow) SmallConv2dOperator(options));
}

}  // namespace bdd
