// LceBconv2d: 2-D convolution of signs with signs.
//
// With signs packed as bits (1 means -1), a dot product of length K is K - 2 * popcount(weights ^ input). The operator
// lists, for each output pixel, a pointer to its window (indirection); a bgemm microkernel computes popcounts for
// several pixels and a block of output channels, and an output transform turns them into floats, int8, bits, or int16
// accumulators. Padding bits are 0, that is +1; see zero_padding_correction.h for zeros. See bconv2d_bytes.h for matrix
// units.
#include "ops/bconv2d_bytes.h"
#include "ops/bconv2d_filter.h"
#include "ops/bconv2d_geometry.h"
#include "ops/bconv2d_output.h"
#include "ops/zero_padding_correction.h"

namespace bdd {
namespace {

class Bconv2d final : public Operator, public TileSource {
 public:
  bool Parse(const uint8_t* options, size_t size, Message* why) { return geometry_.Parse(options, size, why); }
  bool Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output, Message* why) override;
  void Run(const void* input, void* output, ThreadPool* pool) override;

  TileSource* tiles() override;
  void BeginImage(const void* image, ThreadPool* pool) override;
  int64_t AccumulatorBufferSize(int64_t pixels) const override;
  void PrecomputeAccumulators(int64_t channel, int64_t first, int64_t count, int32_t* buffer) const override;
  void ComputeTile(const TileRegion& tile, const int32_t* accumulators, float* out, int64_t stride) const override;
  Affine int16_affine() const override;
  void ComputeTileInt16(const TileRegion& tile, const int32_t* accumulators, const float* slopes, float* totals,
                        int16_t* out, int64_t stride) const override;

 private:
  // Output pixels [first, last) of one block of channels. `accumulators` is null, or precomputed.
  struct Part {
    int64_t block, first, last;
    const int32_t* accumulators;
  };

  bool SetOutputShape(const Value& input, Value* output, Message* why);
  bool PlanTaps(Message* why);
  void SetImage(const void* image);
  void PadImage(const uint32_t* image);
  void RunItem(int64_t item);
  void ListPixels(int64_t block, int64_t first, int count, const uint32_t** indirection,
                  const int32_t** corrections) const;
  template <typename F>
  void ForEachTile(Part part, const F& transform) const;
  void RunPart(const Part& part, uint8_t* target, int64_t stride) const;

  Bconv2dGeometry geometry_;
  const KernelSet* kernels_ = nullptr;
  PackedFilter filter_;
  Bconv2dOutput output_;
  ZeroPaddingCorrection zero_padding_;
  Bconv2dBytes bytes_;

  // For one input size.
  int32_t batch_ = 0;
  Buffer<int32_t> offsets_;    // see Taps
  bool copies_image_ = false;  // to pad or encode it
  Buffer<uint32_t> padded_;
  bool unaligned_bits_ = false;  // packed outputs of a group do not begin at a byte
  int64_t chunks_ = 1;           // parts into which the output pixels are divided, one work item each

  // The current image.
  const uint32_t* source_ = nullptr;
  uint8_t* target_ = nullptr;
};

bool Bconv2d::Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output, Message* why) {
  if (count != 5 || inputs[0] == nullptr || inputs[1] == nullptr) return why->Set("expected five inputs");
  const Value &input = *inputs[0], &filter = *inputs[1];
  if (input.type != kTfLiteInt32 || input.shape.rank != 4) return why->Set("the input is not int32 [N, H, W, C]");
  for (int i = 0; i < 4; ++i) {
    if (input.shape.dims[i] < 1) return why->Set("dimension %d of the input is %d", i, input.shape.dims[i]);
  }
  Bconv2dGeometry& g = geometry_;
  if (!g.SetFilter(filter, kernels.channels, why) || !Bconv2dOutput::Check(inputs, *output, g.channels_out, why) ||
      !g.SetInput(input.shape, why) || !SetOutputShape(input, output, why)) {
    return false;
  }
  const Encoding encoding = ChooseEncoding(kernels, g.group_words);
  copies_image_ = encoding != Encoding::kNone || g.rows.padded != g.rows.input || g.columns.padded != g.columns.input;
  const int64_t image_words = int64_t{g.rows.padded} * g.columns.padded * g.words;
  if (copies_image_ && !padded_.Reset(image_words)) return why->Set("no memory for the padded input");
  const bool packed = filter_.source() == filter.constant && kernels_ == &kernels;
  if ((!packed && !filter_.Pack(filter, g, encoding, why)) || !output_.Pack(inputs, *output, g, why)) return false;
  kernels_ = &kernels;
  unaligned_bits_ = output_.type() == kTfLiteInt32 && g.groups > 1 && g.group_channels_out % 8 != 0;
  bytes_.Disable();
  return PlanTaps(why) && zero_padding_.Plan(g, filter_, why) &&
         (tiles() == nullptr || bytes_.Plan(filter, g, kernels, why));
}

bool Bconv2d::SetOutputShape(const Value& input, Value* output, Message* why) {
  const Bconv2dGeometry& g = geometry_;
  batch_ = input.shape.dims[0];
  output->shape.rank = 4;
  output->shape.dims[0] = batch_;
  output->shape.dims[1] = g.rows.output;
  output->shape.dims[2] = g.columns.output;
  output->shape.dims[3] =
      output->type == kTfLiteInt32 ? static_cast<int32_t>(PackedWords(g.channels_out)) : g.channels_out;
  const int64_t image = Times(Times(g.rows.padded, g.columns.padded), g.words * 4);
  if (input.shape.Elements() < 0 || Times(output->shape.Elements(), 4) < 0 || image < 0) {
    return why->Set("the maps are too large");
  }
  return true;
}

bool Bconv2d::PlanTaps(Message* why) {
  const Bconv2dGeometry& g = geometry_;
  if (!offsets_.Reset(g.window_words)) return why->Set("no memory for taps");
  int64_t k = 0;
  for (int64_t y = 0; y < g.rows.size; ++y) {
    for (int64_t x = 0; x < g.columns.size; ++x) {
      const int64_t tap = (y * g.rows.dilation * g.columns.padded + x * g.columns.dilation) * g.words;
      for (int64_t c = 0; c < g.group_words; ++c, ++k) offsets_[k] = static_cast<int32_t>(tap + c);
    }
  }
  return true;
}

void Bconv2d::SetImage(const void* image) {
  if (copies_image_) PadImage(static_cast<const uint32_t*>(image));
  source_ = copies_image_ ? padded_.data() : static_cast<const uint32_t*>(image);
}

void Bconv2d::PadImage(const uint32_t* image) {
  const Window &rows = geometry_.rows, &columns = geometry_.columns;
  const int64_t words = geometry_.words, group_words = geometry_.group_words;
  const size_t row = static_cast<size_t>(columns.input * words);
  for (int64_t y = 0; y < rows.input; ++y) {
    uint32_t* target = padded_.data() + ((y + rows.before) * columns.padded + columns.before) * words;
    std::memcpy(target, image + y * static_cast<int64_t>(row), row * 4);
    if (filter_.encoding() == Encoding::kNone) continue;
    for (int64_t k = 0; k < columns.input * words; k += group_words) {
      EncodeTap(filter_.encoding(), target + k, group_words, 1);
    }
  }
}

// Calls transform(AccumulatorTile, OutputTransform) for a few pixels at a time, so that their accumulators are still in
// the L1 cache.
template <typename F>
void Bconv2d::ForEachTile(Part part, const F& transform) const {
  const KernelSet& kernels = *kernels_;
  const int64_t width = kernels.channels;
  const int valid = geometry_.ValidChannels(part.block);
  const Taps taps = {offsets_.data(), geometry_.window_words, geometry_.group_words,
                     filter_.encoding() != Encoding::kNone};
  const OutputTransform output = output_.ForBlock(part.block);
  const uint32_t* weights = filter_.block(part.block);

  alignas(64) int32_t popcounts[kMaxIndirection * kMaxChannels];
  const uint32_t* indirection[kMaxIndirection];
  const int32_t* corrections[kMaxIndirection] = {};
  const int64_t pixels = part.last - part.first, tiles = (pixels + kMaxIndirection - 1) / kMaxIndirection;
  // Tiles of equal size, rounded up to whole tiles of the microkernel.
  const int64_t even = ((pixels + tiles - 1) / tiles + kernels.pixels - 1) / kernels.pixels * kernels.pixels;
  for (int64_t first = part.first; first < part.last; first += even) {
    const int count = static_cast<int>(part.last - first < even ? part.last - first : even);
    ListPixels(part.block, first, count, indirection, corrections);
    if (part.accumulators == nullptr) {
      kernels.bgemm_b1_i32(indirection, count, taps, weights, popcounts, valid);
      transform({popcounts, count, corrections, valid}, output);
    } else {
      transform({part.accumulators, count, corrections, valid}, output);
      part.accumulators += count * width;
    }
  }
}

// Lists where the windows of consecutive output pixels begin, and their corrections for zero padding.
void Bconv2d::ListPixels(int64_t block, int64_t first, int count, const uint32_t** indirection,
                         const int32_t** corrections) const {
  const Bconv2dGeometry& g = geometry_;
  const uint32_t* source = source_ + block / g.group_blocks * g.group_words;
  const int64_t step = g.columns.stride * g.words;
  for (int done = 0; done < count;) {
    const int64_t y = (first + done) / g.columns.output, x = (first + done) % g.columns.output;
    const int part = static_cast<int>(count - done < g.columns.output - x ? count - done : g.columns.output - x);
    const uint32_t* pixel = source + y * g.rows.stride * g.columns.padded * g.words + x * step;
    for (int m = 0; m < part; ++m) indirection[done + m] = pixel + m * step;
    if (zero_padding_.active()) zero_padding_.List(y, x, part, block * g.block_channels, corrections + done);
    done += part;
  }
}

// `target` is where the block's first channel of the first pixel goes (packed output: the pixel's first byte); `stride`
// leads to the next pixel, in elements of the output (packed output: bytes).
void Bconv2d::RunPart(const Part& part, uint8_t* target, int64_t stride) const {
  const KernelSet& kernels = *kernels_;
  const int64_t channel = geometry_.FirstChannel(part.block);
  if (output_.type() == kTfLiteFloat32) {
    auto* out = reinterpret_cast<float*>(target);
    ForEachTile(part, [&](const AccumulatorTile& tile, const OutputTransform& transform) {
      kernels.output_transform_i32_f32(tile, transform, out, stride);
      out += tile.count * stride;
    });
  } else if (output_.type() == kTfLiteInt8) {
    auto* out = reinterpret_cast<int8_t*>(target);
    ForEachTile(part, [&](const AccumulatorTile& tile, const OutputTransform& transform) {
      kernels.output_transform_i32_i8(tile, transform, out, stride);
      out += tile.count * stride;
    });
  } else if (!unaligned_bits_) {
    ForEachTile(part, [&](const AccumulatorTile& tile, const OutputTransform& transform) {
      kernels.output_transform_i32_b1(tile, transform, target + channel / 8, stride);
      target += tile.count * stride;
    });
  } else {
    ForEachTile(part, [&](const AccumulatorTile& tile, const OutputTransform& transform) {
      constexpr int kBytes = kMaxChannels / 8;
      uint8_t packed[kMaxIndirection * kBytes];
      kernels.output_transform_i32_b1(tile, transform, packed, kBytes);
      for (int m = 0; m < tile.count; ++m) {
        for (int n = 0; n < tile.valid; ++n) {
          const int bit = packed[m * kBytes + n / 8] >> (n % 8) & 1;
          uint8_t& byte = target[m * stride + (channel + n) / 8];
          byte = static_cast<uint8_t>(byte | bit << ((channel + n) % 8));
        }
      }
      target += tile.count * stride;
    });
  }
}

void Bconv2d::RunItem(int64_t item) {
  const int64_t pixels = geometry_.output_pixels(), chunk = item % chunks_;
  const int64_t first = pixels * chunk / chunks_, last = pixels * (chunk + 1) / chunks_;
  const bool packed = output_.type() == kTfLiteInt32;
  const int64_t stride = packed ? PackedWords(geometry_.channels_out) * 4 : geometry_.channels_out;
  const int64_t size = output_.type() == kTfLiteFloat32 ? 4 : 1;
  // Blocks that share bytes are computed by the same item.
  const int64_t begin = unaligned_bits_ ? 0 : item / chunks_;
  const int64_t end = unaligned_bits_ ? geometry_.blocks() : begin + 1;
  for (int64_t block = begin; block < end; ++block) {
    const int64_t channel = packed ? 0 : geometry_.FirstChannel(block);
    RunPart({block, first, last, nullptr}, target_ + (first * stride + channel) * size, stride);
  }
}

void Bconv2d::Run(const void* input, void* output, ThreadPool* pool) {
  const Bconv2dGeometry& g = geometry_;
  const int64_t blocks = unaligned_bits_ ? 1 : g.blocks(), pixels = g.output_pixels();
  // Enough items that all threads finish at about the same time, but no small ones. If there are too few blocks, the
  // pixels are divided, too.
  const int64_t wanted = pool->threads() == 1 ? 1 : (4 * pool->threads() + blocks - 1) / blocks;
  const int64_t most = pixels / (4 * kernels_->pixels) + 1;
  chunks_ = wanted < most ? wanted : most;
  const int64_t image_words = int64_t{g.rows.input} * g.columns.input * g.words;
  const int64_t image_bytes = pixels * (output_.type() == kTfLiteInt32     ? PackedWords(g.channels_out) * 4
                                        : output_.type() == kTfLiteFloat32 ? int64_t{g.channels_out} * 4
                                                                           : g.channels_out);
  if (output_.type() == kTfLiteInt32 && (unaligned_bits_ || g.channels_out % 32 != 0)) {
    std::memset(output, 0, static_cast<size_t>(image_bytes * batch_));
  }
  for (int32_t n = 0; n < batch_; ++n) {
    SetImage(static_cast<const uint32_t*>(input) + n * image_words);
    target_ = static_cast<uint8_t*>(output) + n * image_bytes;
    pool->Run(
        blocks * chunks_, [](void* self, int64_t item, int) { static_cast<Bconv2d*>(self)->RunItem(item); }, this);
  }
}

TileSource* Bconv2d::tiles() {
  // Tiles begin at multiples of kTileChannels, blocks at the channels of their group.
  const bool aligned = geometry_.groups == 1 || geometry_.group_channels_out % kTileChannels == 0;
  return output_.type() == kTfLiteFloat32 && aligned ? this : nullptr;
}

void Bconv2d::BeginImage(const void* image, ThreadPool* pool) {
  SetImage(image);
  if (bytes_.active()) bytes_.UnpackImage(source_, pool);
}

int64_t Bconv2d::AccumulatorBufferSize(int64_t pixels) const {
  return bytes_.active() ? bytes_.AccumulatorBufferSize(pixels) : 0;
}

void Bconv2d::PrecomputeAccumulators(int64_t channel, int64_t first, int64_t count, int32_t* buffer) const {
  bytes_.PrecomputeAccumulators(channel, first, count, buffer);
}

void Bconv2d::ComputeTile(const TileRegion& tile, const int32_t* accumulators, float* out, int64_t stride) const {
  const int64_t step = kernels_->channels;
  for (int64_t done = 0; done < tile.width; done += step) {
    const int64_t channel = tile.channel + done;
    const int64_t group = channel / geometry_.group_channels_out, inside = channel % geometry_.group_channels_out;
    const int64_t block = group * geometry_.group_blocks + inside / step;
    RunPart({block, tile.first, tile.first + tile.count, accumulators}, reinterpret_cast<uint8_t*>(out + done), stride);
  }
}

TileSource::Affine Bconv2d::int16_affine() const {
  if (output_.type() != kTfLiteFloat32 || geometry_.groups != 1 || geometry_.reduction_size > INT16_MAX) return {};
  return {output_.multiplier(), output_.bias()};
}

void Bconv2d::ComputeTileInt16(const TileRegion& tile, const int32_t* accumulators, const float* slopes, float* totals,
                               int16_t* out, int64_t stride) const {
  const int64_t step = kernels_->channels;
  for (int64_t done = 0; done < tile.width; done += step) {
    int16_t* to = out + done;
    ForEachTile({(tile.channel + done) / step, tile.first, tile.first + tile.count, accumulators},
                [&](const AccumulatorTile& accumulated, const OutputTransform& transform) {
                  kernels_->output_transform_i32_i16(accumulated, transform, slopes + done, totals + done, to, stride);
                  to += accumulated.count * stride;
                });
  }
}

}  // namespace

std::unique_ptr<Operator> MakeBconv2d(const uint8_t* options, size_t size, Message* why) {
  return MakeParsed<Bconv2d>(options, size, why);
}

}  // namespace bdd
