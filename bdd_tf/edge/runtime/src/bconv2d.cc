// LceBconv2d: convolution of signs with signs.
#include <cmath>
#include <new>

#include "operator.h"

namespace bdd {
namespace {

constexpr int64_t kMaxProducts = 1 << 24;  // dot products are then exact in float as well
constexpr int64_t kMaxWindow = 1 << 12;
constexpr int kNone = 0, kRelu = 1, kReluN1To1 = 2, kRelu6 = 3;

inline int32_t Popcount(uint32_t x) { return __builtin_popcount(x); }

// Encodes `count` words of a tap, each `stride` behind the one before.
inline void Encode(Encoding encoding, uint32_t* words, int64_t count, int64_t stride) {
  if (encoding == Encoding::kDifferences) {
    for (int64_t i = 1; i < count; i += 2) words[i * stride] ^= words[(i - 1) * stride];
  } else if (encoding == Encoding::kParities) {
    for (int64_t i = 2; i < count; i += 2) words[i * stride] ^= words[(i - 1) * stride] ^ words[(i - 2) * stride];
  }
}

// Word i of those, as it was.
inline uint32_t Decode(Encoding encoding, const uint32_t* words, int64_t i, int64_t stride) {
  const uint32_t* word = words + i * stride;
  if (encoding == Encoding::kDifferences && i % 2 == 1) return word[0] ^ word[-stride];
  if (encoding == Encoding::kParities && i % 2 == 0 && i > 0) return word[0] ^ word[-stride] ^ word[-2 * stride];
  return word[0];
}

// What of a set's encoding is worth it, or possible, for taps of so many words.
inline Encoding EncodingOf(const KernelSet& kernels, int64_t tap_words) {
  constexpr int64_t kFewestForParities = 5;
  const bool fits = kernels.encoding == Encoding::kParities ? tap_words >= kFewestForParities : tap_words % 2 == 0;
  return fits ? kernels.encoding : Encoding::kNone;
}

class Bconv2d final : public Operator, public TileSource {
 public:
  bool Parse(const uint8_t* options, size_t size, Message* why);
  bool Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output, Message* why) override;
  void Run(const void* input, void* output, ThreadPool* pool) override;
  TileSource* tiles() override;
  void BeginImage(const void* image, ThreadPool* pool) override;
  int64_t ItemNumbers(int64_t places) const override;
  void BeginItem(int64_t channel, int64_t first, int64_t count, int32_t* item) const override;
  void Tile(int64_t channel, int width, int64_t first, int count, const int32_t* ready, float* out,
            int64_t stride) const override;
  Transform transform() const override;
  void Dots(int64_t channel, int width, int64_t first, int count, const int32_t* ready, const float* slopes,
            float* totals, int16_t* out, int64_t stride) const override;

 private:
  bool CheckFilter(const Value& filter, Message* why);
  bool CheckOutputTransform(const Value* const* inputs, const Value& output, Message* why);
  bool PackWeights(const Value& filter, const KernelSet& kernels, Message* why);
  bool PackTransform(const Value* const* inputs, const Value& output, Message* why);
  bool PlanTaps(Message* why);
  bool PlanBorders(Message* why);
  bool PlanBytes(const Value& filter, Message* why);
  void SpreadImage(ThreadPool* pool);
  // Rows of the map, and tiles of kByteRows places, that so many neighbouring places take at most.
  int64_t RowsOf(int64_t places) const { return places / columns_.output + 2; }
  int64_t TilesOf(int64_t places) const { return places / kByteRows + places / columns_.output + 5; }
  void Begin(const void* image);
  void PadImage(const uint32_t* image);
  void RunItem(int64_t item);
  void ListPlaces(int64_t block, int64_t first, int count, const uint32_t** places, const int32_t** corrections) const;
  template <typename F>
  void RunTiles(int64_t block, int64_t first, int64_t last, const int32_t* ready, const F& finish) const;
  void RunBlock(int64_t block, int64_t first, int64_t last, const int32_t* ready, uint8_t* target,
                int64_t stride) const;

  // Options.
  int32_t channels_in_ = 0, pad_values_ = 0, activation_ = 0;
  bool same_ = false;
  Window rows_{1, 1, 1}, columns_{1, 1, 1};

  // Weights.
  int32_t channels_out_ = 0, groups_ = 1;
  int64_t group_words_ = 0, words_ = 0, window_words_ = 0;  // a group's words, all groups', a whole window's
  int64_t group_channels_out_ = 0, group_blocks_ = 0;
  int32_t products_ = 0;
  const KernelSet* kernels_ = nullptr;
  const void* packed_from_ = nullptr;
  Buffer<uint32_t> weights_;  // [groups * blocks][window words][channels of a block]
  Buffer<float> multiplier_, bias_;
  Buffer<int32_t> thresholds_;
  int32_t low_ = 0, high_ = 0;

  // Plan for one input size.
  int32_t batch_ = 0;
  TfLiteType output_type_ = kTfLiteFloat32;
  Buffer<int32_t> offsets_, runs_;
  Encoding encoding_ = Encoding::kNone;
  bool copies_ = false;
  Buffer<uint32_t> padded_;
  Buffer<int32_t> row_class_, column_class_, corrections_;
  int32_t column_classes_ = 1;
  bool corrects_ = false;
  int64_t chunks_ = 1;
  bool straddles_ = false;  // blocks of bits that do not begin at a byte

  // For a matrix unit: a byte for each sign, 64 channels of all places, then the next 64.
  bool by_bytes_ = false;
  Buffer<int8_t> bytes_;
  int64_t slice_bytes_ = 0;
  Buffer<int64_t> byte_offsets_;
  Buffer<uint64_t> byte_weights_;  // [blocks][steps][2][16]
  bool rows_join_ = false;         // tiles go on in the next row, over its padding

  // The image being worked on.
  const uint32_t* source_ = nullptr;
  uint8_t* target_ = nullptr;
};

bool Bconv2d::Parse(const uint8_t* options, size_t size, Message* why) {
  int32_t padding = 0;
  if (!ReadOption(options, size, "channels_in", 1, kMaxProducts, &channels_in_, why) ||
      !ReadOption(options, size, "stride_height", 1, kMaxWindow, &rows_.stride, why) ||
      !ReadOption(options, size, "stride_width", 1, kMaxWindow, &columns_.stride, why) ||
      !ReadOption(options, size, "dilation_height_factor", 1, kMaxWindow, &rows_.dilation, why) ||
      !ReadOption(options, size, "dilation_width_factor", 1, kMaxWindow, &columns_.dilation, why) ||
      !ReadOption(options, size, "padding", 0, 1, &padding, why) ||
      !ReadOption(options, size, "pad_values", 0, 1, &pad_values_, why) ||
      !ReadOption(options, size, "fused_activation_function", kNone, kRelu6, &activation_, why)) {
    return false;
  }
  same_ = padding == 0;
  return true;
}

bool Bconv2d::CheckFilter(const Value& filter, Message* why) {
  if (filter.type != kTfLiteInt32 || filter.shape.rank != 4) return why->Set("the filter is not int32 [O, H, W, I]");
  const int32_t* dims = filter.shape.dims;
  for (int i = 0; i < 4; ++i) {
    if (dims[i] < 1) return why->Set("dimension %d of the filter is %d", i, dims[i]);
  }
  if (dims[1] > kMaxWindow || dims[2] > kMaxWindow) return why->Set("a filter of %d x %d", dims[1], dims[2]);
  if (filter.constant == nullptr) return why->Set("the filter is no constant");
  const int64_t bytes = Times(filter.shape.Elements(), 4);
  if (bytes < 0 || filter.bytes < bytes) {
    return why->Set("the filter has %lld bytes where its shape needs %lld", static_cast<long long>(filter.bytes),
                    static_cast<long long>(bytes));
  }
  words_ = PackedWords(channels_in_);
  group_words_ = dims[3];
  if (words_ % group_words_ != 0) {
    return why->Set("the filter's %d words of channels do not divide the input's %lld", dims[3],
                    static_cast<long long>(words_));
  }
  groups_ = static_cast<int32_t>(words_ / group_words_);
  if (groups_ > 1 && (channels_in_ % groups_ != 0 || channels_in_ / groups_ % 32 != 0)) {
    return why->Set("%d input channels in %d groups: not a multiple of 32 each", channels_in_, groups_);
  }
  channels_out_ = dims[0];
  if (channels_out_ % groups_ != 0) {
    return why->Set("%d output channels do not divide into %d groups", channels_out_, groups_);
  }
  group_channels_out_ = channels_out_ / groups_;
  rows_.size = dims[1];
  columns_.size = dims[2];
  window_words_ = Times(int64_t{dims[1]} * dims[2], group_words_);
  const int64_t products = Times(int64_t{dims[1]} * dims[2], channels_in_ / groups_);
  if (products < 0 || products > kMaxProducts || window_words_ < 0) {
    return why->Set("a window of %d x %d with %d channels is too large", dims[1], dims[2], channels_in_ / groups_);
  }
  products_ = static_cast<int32_t>(products);
  return true;
}

bool Bconv2d::CheckOutputTransform(const Value* const* inputs, const Value& output, Message* why) {
  const auto vector = [&](int i, TfLiteType type, const char* name) {
    const Value* value = inputs[i];
    if (value == nullptr || value->constant == nullptr || value->type != type || value->shape.rank != 1 ||
        value->shape.dims[0] != channels_out_ || value->bytes < int64_t{4} * channels_out_) {
      return why->Set("%s is not a constant vector of %d values", name, channels_out_);
    }
    return true;
  };
  if (output.type == kTfLiteInt32) return vector(4, kTfLiteInt32, "the threshold");
  if (output.type != kTfLiteFloat32 && output.type != kTfLiteInt8) {
    return why->Set("the output's type is %d, not float32, int8 or int32", static_cast<int>(output.type));
  }
  if (output.type == kTfLiteInt8 && !(output.scale > 0.0f && std::isfinite(output.scale))) {
    return why->Set("the int8 output has no scale");
  }
  return vector(2, kTfLiteFloat32, "the multiplier") && vector(3, kTfLiteFloat32, "the bias");
}

// From [O, H, W, I] to blocks of channels side by side, which one load brings into a register.
bool Bconv2d::PackWeights(const Value& filter, const KernelSet& kernels, Message* why) {
  const int64_t width = kernels.channels;
  group_blocks_ = (group_channels_out_ + width - 1) / width;
  const int64_t blocks = groups_ * group_blocks_;
  if (!weights_.Reset(Times(Times(blocks, window_words_), width))) return why->Set("no memory for the weights");
  const auto* source = static_cast<const uint8_t*>(filter.constant);
  // Bits behind the last channel count for nothing, whatever the file says.
  const int32_t used = channels_in_ / groups_ % 32;
  const uint32_t last = used == 0 ? ~0u : (1u << used) - 1;
  for (int64_t o = 0; o < channels_out_; ++o) {
    const int64_t group = o / group_channels_out_, inside = o % group_channels_out_;
    uint32_t* block = weights_.data() + (group * group_blocks_ + inside / width) * window_words_ * width;
    for (int64_t k = 0; k < window_words_; ++k) {
      uint32_t word = 0;  // the file's bytes need not be aligned
      std::memcpy(&word, source + 4 * (o * window_words_ + k), 4);
      block[k * width + inside % width] = k % group_words_ == group_words_ - 1 ? word & last : word;
    }
    for (int64_t k = 0; k < window_words_; k += group_words_) {
      Encode(encoding_, block + k * width + inside % width, group_words_, width);
    }
  }
  kernels_ = &kernels;
  packed_from_ = filter.constant;
  return true;
}

bool Bconv2d::PackTransform(const Value* const* inputs, const Value& output, Message* why) {
  const int64_t width = kernels_->channels;
  const int64_t padded = groups_ * group_blocks_ * width;
  const auto place = [&](int64_t o) {
    return (o / group_channels_out_ * group_blocks_) * width + o % group_channels_out_;
  };
  if (output.type == kTfLiteInt32) {
    if (!thresholds_.Reset(padded)) return why->Set("no memory for the thresholds");
    for (int64_t i = 0; i < padded; ++i) thresholds_[i] = INT32_MAX;  // channels that do not exist give bit 0
    const auto* source = static_cast<const uint8_t*>(inputs[4]->constant);
    for (int64_t o = 0; o < channels_out_; ++o) {
      int32_t threshold = 0;
      std::memcpy(&threshold, source + 4 * o, 4);
      // In the file it is compared with a popcount, here with twice as much; beyond these bounds all is decided.
      const int64_t twice = 2 * int64_t{threshold}, bound = 4 * kMaxProducts;
      thresholds_[place(o)] = static_cast<int32_t>(twice > bound ? bound : twice < -bound ? -bound : twice);
    }
    return true;
  }
  low_ = -products_;
  high_ = products_;
  if (activation_ == kRelu || activation_ == kRelu6) low_ = 0;
  if (activation_ == kRelu6 && high_ > 6) high_ = 6;
  if (activation_ == kReluN1To1) {
    low_ = -1;
    high_ = 1;
  }
  if (!multiplier_.Reset(padded) || !bias_.Reset(padded)) return why->Set("no memory for multiplier and bias");
  const auto* multipliers = static_cast<const uint8_t*>(inputs[2]->constant);
  const auto* biases = static_cast<const uint8_t*>(inputs[3]->constant);
  for (int64_t o = 0; o < channels_out_; ++o) {
    float multiplier = 0, bias = 0;
    std::memcpy(&multiplier, multipliers + 4 * o, 4);
    std::memcpy(&bias, biases + 4 * o, 4);
    if (output.type == kTfLiteInt8) {
      multiplier = static_cast<float>(double{multiplier} / double{output.scale});
      bias = static_cast<float>(double{bias} / double{output.scale} + output.zero_point);
    }
    multiplier_[place(o)] = multiplier;
    bias_[place(o)] = bias;
  }
  return true;
}

bool Bconv2d::PlanTaps(Message* why) {
  const bool neighbours = groups_ == 1 && columns_.dilation == 1;
  const int64_t run_words = neighbours ? columns_.size * words_ : group_words_;
  if (!offsets_.Reset(window_words_) || !runs_.Reset(window_words_ / run_words)) return why->Set("no memory for taps");
  int64_t k = 0;
  for (int64_t y = 0; y < rows_.size; ++y) {
    for (int64_t x = 0; x < columns_.size; ++x) {
      const int64_t tap = (y * rows_.dilation * columns_.padded + x * columns_.dilation) * words_;
      for (int64_t c = 0; c < group_words_; ++c, ++k) {
        offsets_[k] = static_cast<int32_t>(tap + c);
        if (k % run_words == 0) runs_[k / run_words] = offsets_[k];
      }
    }
  }
  return true;
}

// Places are grouped by which taps lie in the padding, per axis; each pair of groups has one correction a channel:
// the padding's bits are 0, that is +1, where zero padding wants 0.
bool Bconv2d::PlanBorders(Message* why) {
  corrects_ = false;
  if (pad_values_ != 0 || !same_ || (rows_.padded == rows_.input && columns_.padded == columns_.input)) return true;
  const auto outside = [](const Window& w, int64_t place, int64_t tap) {
    const int64_t at = place * w.stride + tap * w.dilation - w.before;
    return at < 0 || at >= w.input;
  };
  // Neighbouring places with the same taps outside share a class; class 0 has none outside.
  const auto classify = [&](const Window& w, Buffer<int32_t>* classes, Buffer<int32_t>* examples) {
    if (!classes->Reset(w.output) || !examples->Reset(int64_t{w.output} + 1)) return -1;
    int32_t count = 1;
    for (int32_t place = 0; place < w.output; ++place) {
      bool any = false, as_before = place > 0;
      for (int32_t tap = 0; tap < w.size; ++tap) {
        const bool out = outside(w, place, tap);
        any = any || out;
        as_before = as_before && out == outside(w, place - 1, tap);
      }
      if (!any) continue;
      if (!as_before) (*examples)[count++] = place;
      (*classes)[place] = count - 1;
    }
    return count;
  };
  Buffer<int32_t> row_examples, column_examples;
  if (Times(rows_.output, rows_.size) < 0 || Times(columns_.output, columns_.size) < 0)
    return why->Set("a map that large");
  const int32_t row_classes = classify(rows_, &row_class_, &row_examples);
  column_classes_ = classify(columns_, &column_class_, &column_examples);
  const int64_t width = kernels_->channels, padded = groups_ * group_blocks_ * width;
  const int64_t pairs = row_classes < 0 || column_classes_ < 0 ? -1 : Times(row_classes, column_classes_);
  Buffer<int32_t> taps;  // [taps][channels]: the sum of a tap's signs
  const int64_t window = int64_t{rows_.size} * columns_.size;
  if (Times(Times(pairs, padded), window) < 0) return why->Set("a window that large with zero padding");
  if (!corrections_.Reset(Times(pairs, padded)) || !taps.Reset(Times(window, padded))) {
    return why->Set("no memory for %lld kinds of borders", static_cast<long long>(pairs));
  }
  for (int64_t i = 0; i < padded; ++i) {
    if (i / width % group_blocks_ * width + i % width >= group_channels_out_) continue;  // no such channel
    for (int64_t k = 0; k < window_words_; ++k) {
      const int64_t tap = k / group_words_, inside = k % group_words_;
      const uint32_t* words = weights_.data() + (i / width * window_words_ + tap * group_words_) * width + i % width;
      const uint32_t word = Decode(encoding_, words, inside, width);
      taps[tap * padded + i] -= 2 * Popcount(word);
    }
    for (int64_t t = 0; t < window; ++t) taps[t * padded + i] += channels_in_ / groups_;
  }
  for (int64_t r = 0; r < row_classes; ++r) {
    for (int64_t c = 0; c < column_classes_; ++c) {
      int32_t* correction = corrections_.data() + (r * column_classes_ + c) * padded;
      for (int64_t t = 0; t < window; ++t) {
        const bool out = (r > 0 && outside(rows_, row_examples[r], t / columns_.size)) ||
                         (c > 0 && outside(columns_, column_examples[c], t % columns_.size));
        if (!out) continue;
        for (int64_t i = 0; i < padded; ++i) correction[i] += taps[t * padded + i];
      }
    }
  }
  corrects_ = true;
  return true;
}

bool Bconv2d::Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output, Message* why) {
  if (count != 5 || inputs[0] == nullptr || inputs[1] == nullptr) return why->Set("not the five inputs it takes");
  const Value &input = *inputs[0], &filter = *inputs[1];
  if (input.type != kTfLiteInt32 || input.shape.rank != 4) return why->Set("the input is not int32 [N, H, W, C]");
  for (int i = 0; i < 4; ++i) {
    if (input.shape.dims[i] < 1) return why->Set("dimension %d of the input is %d", i, input.shape.dims[i]);
  }
  if (!CheckFilter(filter, why) || !CheckOutputTransform(inputs, *output, why)) return false;
  if (input.shape.dims[3] != words_) {
    return why->Set("the input has %d words of channels where %d channels need %lld", input.shape.dims[3], channels_in_,
                    static_cast<long long>(words_));
  }
  if (!rows_.Fit(input.shape.dims[1], same_) || !columns_.Fit(input.shape.dims[2], same_)) {
    return why->Set("a filter of %d x %d does not fit a map of %d x %d", rows_.size, columns_.size, input.shape.dims[1],
                    input.shape.dims[2]);
  }
  batch_ = input.shape.dims[0];
  output_type_ = output->type;
  output->shape.rank = 4;
  output->shape.dims[0] = batch_;
  output->shape.dims[1] = rows_.output;
  output->shape.dims[2] = columns_.output;
  output->shape.dims[3] =
      output_type_ == kTfLiteInt32 ? static_cast<int32_t>(PackedWords(channels_out_)) : channels_out_;
  const int64_t image = Times(Times(rows_.padded, columns_.padded), words_ * 4);
  if (input.shape.Elements() < 0 || Times(output->shape.Elements(), 4) < 0 || image < 0) {
    return why->Set("maps that large");
  }
  encoding_ = EncodingOf(kernels, group_words_);
  copies_ = encoding_ != Encoding::kNone || rows_.padded != rows_.input || columns_.padded != columns_.input;
  if (copies_ && !padded_.Reset(image / 4)) return why->Set("no memory for the padded input");
  const bool packed = packed_from_ == filter.constant && kernels_ == &kernels;
  if ((!packed && !PackWeights(filter, kernels, why)) || !PackTransform(inputs, *output, why)) return false;
  straddles_ = output_type_ == kTfLiteInt32 && groups_ > 1 && group_channels_out_ % 8 != 0;
  return PlanTaps(why) && PlanBorders(why) && PlanBytes(filter, why);
}

// Matrix units multiply bytes. Worth it where dot products are long and places many.
bool Bconv2d::PlanBytes(const Value& filter, Message* why) {
  constexpr int64_t kLeastProducts = 512, kLeastPlaces = 2 * kByteRows;
  by_bytes_ = kernels_->multiply_bytes != nullptr && tiles() != nullptr && groups_ == 1 && channels_in_ >= 64 &&
              products_ >= kLeastProducts && int64_t{rows_.output} * columns_.output >= kLeastPlaces &&
              kernels_->channels == kTileChannels;
  if (!by_bytes_) return true;
  const int64_t slices = (channels_in_ + 63) / 64, window = int64_t{rows_.size} * columns_.size,
                steps = slices * window;
  const int64_t places = int64_t{rows_.padded} * columns_.padded;
  slice_bytes_ = Times(places, 64);
  const int64_t image = Times(slices, slice_bytes_), behind = Times(columns_.stride, kByteRows * 64);
  if (image < 0 || behind < 0 || !bytes_.Reset(image + behind) || !byte_offsets_.Reset(steps) ||
      !byte_weights_.Reset(Times(Times(group_blocks_, steps), 32))) {
    return why->Set("no memory for signs as bytes");
  }
  rows_join_ = rows_.stride == 1 && columns_.stride == 1 && columns_.padded - columns_.output <= kByteRows;
  int64_t step = 0;
  for (int64_t slice = 0; slice < slices; ++slice) {
    for (int64_t y = 0; y < rows_.size; ++y) {
      for (int64_t x = 0; x < columns_.size; ++x, ++step) {
        const int64_t tap = y * rows_.dilation * columns_.padded + x * columns_.dilation;
        byte_offsets_[step] = slice * slice_bytes_ + tap * 64;
      }
    }
  }
  const auto* source = static_cast<const uint8_t*>(filter.constant);
  for (int64_t o = 0; o < channels_out_; ++o) {
    for (int64_t s = 0; s < steps; ++s) {
      const int64_t slice = s / window, tap = s % window;
      uint64_t signs = 0;
      for (int64_t half = 0; half < 2 && 2 * slice + half < words_; ++half) {
        uint32_t word = 0;  // the file's bytes need not be aligned
        std::memcpy(&word, source + 4 * ((o * window + tap) * words_ + 2 * slice + half), 4);
        signs |= uint64_t{word} << (32 * half);
      }
      uint64_t* rows = byte_weights_.data() + ((o / 32 * steps + s) * 2 + o % 32 / 16) * 16;
      for (int64_t r = 0; r < 16; ++r) rows[r] |= (signs >> (4 * r) & 15) << (o % 16 * 4);
    }
  }
  return true;
}

void Bconv2d::SpreadImage(ThreadPool* pool) {
  constexpr int64_t kSmallImage = 1 << 18;  // below, waking others takes longer
  const auto spread = [&](int64_t item) {
    const int64_t slice = item / rows_.padded, y = item % rows_.padded, valid = channels_in_ - 64 * slice;
    const bool both = 2 * slice + 1 < words_;
    const uint32_t* words = source_ + y * columns_.padded * words_ + 2 * slice;
    int8_t* to = bytes_.data() + slice * slice_bytes_ + y * columns_.padded * 64;
    for (int64_t x = 0; x < columns_.padded; ++x, words += words_, to += 64) {
      kernels_->spread(words[0] | (both ? uint64_t{words[1]} << 32 : 0), valid, to);
    }
  };
  const int64_t items = (channels_in_ + 63) / 64 * rows_.padded;
  if (bytes_.size() >= kSmallImage) return pool->ForEach(items, spread);
  for (int64_t item = 0; item < items; ++item) spread(item);
}

int64_t Bconv2d::ItemNumbers(int64_t places) const {
  if (!by_bytes_) return 0;
  const int64_t tiles = TilesOf(places), lists = tiles * static_cast<int64_t>(sizeof(int8_t*)) +
                                                 RowsOf(places) * static_cast<int64_t>(sizeof(ByteRun));
  return places * kTileChannels + (kByteScratch + tiles * kByteTileScratch + lists + 3) / 4;
}

void Bconv2d::BeginItem(int64_t channel, int64_t first, int64_t count, int32_t* item) const {
  const int64_t width = columns_.output;
  auto* scratch = reinterpret_cast<int8_t*>(item + count * kTileChannels);
  auto* runs = reinterpret_cast<ByteRun*>(scratch + kByteScratch + TilesOf(count) * kByteTileScratch);
  auto** tiles = reinterpret_cast<const int8_t**>(runs + RowsOf(count));
  int64_t tile_count = 0, run_count = 0;
  const int64_t begin = first / width * columns_.padded + first % width;
  for (int64_t done = 0; done < count;) {
    const int64_t y = (first + done) / width, x = (first + done) % width;
    const int64_t part = count - done < width - x ? count - done : width - x;
    const int64_t place = y * rows_.stride * columns_.padded + x * columns_.stride;
    if (rows_join_) {
      runs[run_count++] = {place - begin, part};
      for (; tile_count * kByteRows < place - begin + part; ++tile_count) {
        tiles[tile_count] = bytes_.data() + (begin + tile_count * kByteRows) * 64;
      }
    } else {
      runs[run_count++] = {tile_count * kByteRows, part};
      for (int64_t i = 0; i < part; i += kByteRows) {
        tiles[tile_count++] = bytes_.data() + (place + i * columns_.stride) * 64;
      }
    }
    done += part;
  }
  const ByteTaps taps = {byte_offsets_.data(), byte_offsets_.size(), int64_t{64} * columns_.stride, products_};
  const uint64_t* weights = byte_weights_.data() + channel / kTileChannels * taps.steps * 32;
  kernels_->multiply_bytes(tiles, tile_count, taps, weights, runs, run_count, scratch, item);
}

void Bconv2d::PadImage(const uint32_t* image) {
  const size_t row = static_cast<size_t>(columns_.input * words_);
  for (int64_t y = 0; y < rows_.input; ++y) {
    uint32_t* target = padded_.data() + ((y + rows_.before) * columns_.padded + columns_.before) * words_;
    std::memcpy(target, image + y * static_cast<int64_t>(row), row * 4);
    if (encoding_ == Encoding::kNone) continue;
    for (int64_t k = 0; k < columns_.input * words_; k += group_words_) Encode(encoding_, target + k, group_words_, 1);
  }
}

// One block of channels at the places [first, last); `finish` gets the sums of some at a time, those of `ready` where
// they are.
template <typename F>
void Bconv2d::RunTiles(int64_t block, int64_t first, int64_t last, const int32_t* ready, const F& finish) const {
  const KernelSet& kernels = *kernels_;
  const int64_t width = kernels.channels, inside = block % group_blocks_ * width;
  const int64_t rest = group_channels_out_ - inside;
  const int valid = static_cast<int>(rest < width ? rest : width);
  const Taps taps = {offsets_.data(),
                     runs_.data(),
                     window_words_,
                     runs_.size(),
                     window_words_ / runs_.size(),
                     group_words_,
                     encoding_ != Encoding::kNone};
  Epilogue epilogue = {products_, low_, high_, nullptr, nullptr, nullptr};
  if (output_type_ == kTfLiteInt32) {
    epilogue.thresholds = thresholds_.data() + block * width;
  } else {
    epilogue.multiplier = multiplier_.data() + block * width;
    epilogue.bias = bias_.data() + block * width;
  }
  const uint32_t* weights = weights_.data() + block * window_words_ * width;

  // What becomes of the sums is done for several tiles at a time, while they lie in the first-level cache.
  alignas(64) int32_t sums[kMaxSums * kMaxChannels];
  const uint32_t* places[kMaxSums];
  const int32_t* corrections[kMaxSums] = {};
  const int64_t batches = (last - first + kMaxSums - 1) / kMaxSums, pixels = kernels.pixels;
  const int64_t even = ((last - first + batches - 1) / batches + pixels - 1) / pixels * pixels;
  for (; first < last; first += even) {
    const int count = static_cast<int>(last - first < even ? last - first : even);
    ListPlaces(block, first, count, places, corrections);
    if (ready == nullptr) kernels.multiply(places, count, taps, weights, sums, valid);
    finish(ready == nullptr ? sums : ready, count, corrections, epilogue, valid);
    if (ready != nullptr) ready += count * width;
  }
}

// Where the windows of neighbouring places begin, and what is subtracted there for taps in the padding.
void Bconv2d::ListPlaces(int64_t block, int64_t first, int count, const uint32_t** places,
                         const int32_t** corrections) const {
  const int64_t width = kernels_->channels, channels = groups_ * group_blocks_ * width;
  const uint32_t* source = source_ + block / group_blocks_ * group_words_;
  const int64_t step = columns_.stride * words_;
  for (int done = 0; done < count;) {
    const int64_t y = (first + done) / columns_.output, x = (first + done) % columns_.output;
    const int part = static_cast<int>(count - done < columns_.output - x ? count - done : columns_.output - x);
    const uint32_t* place = source + y * rows_.stride * columns_.padded * words_ + x * step;
    for (int m = 0; m < part; ++m) places[done + m] = place + m * step;
    if (corrects_) {
      const int32_t row = row_class_[y];
      const int32_t* corrected = corrections_.data() + row * column_classes_ * channels + block * width;
      for (int m = 0; m < part; ++m) {
        const int32_t column = column_class_[x + m];
        corrections[done + m] = (row | column) == 0 ? nullptr : corrected + column * channels;
      }
    }
    done += part;
  }
}

// `target` is where the block's first channel of place `first` goes (of bits: the place's first byte), `stride` leads
// to the next place, in elements of the output (of bits: bytes).
void Bconv2d::RunBlock(int64_t block, int64_t first, int64_t last, const int32_t* ready, uint8_t* target,
                       int64_t stride) const {
  const KernelSet& kernels = *kernels_;
  const int64_t channel = block / group_blocks_ * group_channels_out_ + block % group_blocks_ * kernels.channels;
  using Corrections = const int32_t* const*;
  if (output_type_ == kTfLiteFloat32) {
    auto* out = reinterpret_cast<float*>(target);
    RunTiles(block, first, last, ready,
             [&](const int32_t* sums, int count, Corrections corrections, const Epilogue& epilogue, int valid) {
               kernels.finish_float(sums, count, corrections, epilogue, out, stride, valid);
               out += count * stride;
             });
  } else if (output_type_ == kTfLiteInt8) {
    auto* out = reinterpret_cast<int8_t*>(target);
    RunTiles(block, first, last, ready,
             [&](const int32_t* sums, int count, Corrections corrections, const Epilogue& epilogue, int valid) {
               kernels.finish_int8(sums, count, corrections, epilogue, out, stride, valid);
               out += count * stride;
             });
  } else if (!straddles_) {
    RunTiles(block, first, last, ready,
             [&](const int32_t* sums, int count, Corrections corrections, const Epilogue& epilogue, int valid) {
               kernels.finish_bits(sums, count, corrections, epilogue, target + channel / 8, stride, valid);
               target += count * stride;
             });
  } else {
    RunTiles(block, first, last, ready,
             [&](const int32_t* sums, int count, Corrections corrections, const Epilogue& epilogue, int valid) {
               uint8_t found[kMaxSums * kMaxChannels / 8];
               kernels.finish_bits(sums, count, corrections, epilogue, found, kMaxChannels / 8, valid);
               for (int m = 0; m < count; ++m) {
                 for (int n = 0; n < valid; ++n) {
                   const int bit = found[m * kMaxChannels / 8 + n / 8] >> (n % 8) & 1;
                   uint8_t& byte = target[m * stride + (channel + n) / 8];
                   byte = static_cast<uint8_t>(byte | bit << ((channel + n) % 8));
                 }
               }
               target += count * stride;
             });
  }
}

void Bconv2d::RunItem(int64_t item) {
  const int64_t places = int64_t{rows_.output} * columns_.output, blocks = groups_ * group_blocks_;
  const int64_t chunk = item % chunks_;
  const int64_t first = places * chunk / chunks_, last = places * (chunk + 1) / chunks_;
  const bool bits = output_type_ == kTfLiteInt32;
  const int64_t stride = bits ? PackedWords(channels_out_) * 4 : channels_out_;
  const int64_t size = output_type_ == kTfLiteFloat32 ? 4 : 1, width = kernels_->channels;
  for (int64_t block = straddles_ ? 0 : item / chunks_; block < (straddles_ ? blocks : item / chunks_ + 1); ++block) {
    const int64_t channel = block / group_blocks_ * group_channels_out_ + block % group_blocks_ * width;
    RunBlock(block, first, last, nullptr, target_ + (first * stride + (bits ? 0 : channel)) * size, stride);
  }
}

TileSource* Bconv2d::tiles() {
  // Tiles are aligned to 32 channels, blocks to those of their group.
  const bool aligned = groups_ == 1 || group_channels_out_ % kTileChannels == 0;
  return output_type_ == kTfLiteFloat32 && aligned ? this : nullptr;
}

void Bconv2d::Begin(const void* image) {
  if (copies_) PadImage(static_cast<const uint32_t*>(image));
  source_ = copies_ ? padded_.data() : static_cast<const uint32_t*>(image);
}

void Bconv2d::BeginImage(const void* image, ThreadPool* pool) {
  Begin(image);
  if (by_bytes_) SpreadImage(pool);
}

void Bconv2d::Tile(int64_t channel, int width, int64_t first, int count, const int32_t* ready, float* out,
                   int64_t stride) const {
  const int64_t step = kernels_->channels;
  for (int64_t done = 0; done < width; done += step) {
    const int64_t group = (channel + done) / group_channels_out_, inside = (channel + done) % group_channels_out_;
    const int64_t block = group * group_blocks_ + inside / step;
    RunBlock(block, first, first + count, ready, reinterpret_cast<uint8_t*>(out + done), stride);
  }
}

TileSource::Transform Bconv2d::transform() const {
  if (output_type_ != kTfLiteFloat32 || groups_ != 1 || products_ > INT16_MAX) return {};
  return {multiplier_.data(), bias_.data()};
}

void Bconv2d::Dots(int64_t channel, int width, int64_t first, int count, const int32_t* ready, const float* slopes,
                   float* totals, int16_t* out, int64_t stride) const {
  const int64_t step = kernels_->channels;
  for (int64_t done = 0; done < width; done += step) {
    int16_t* to = out + done;
    RunTiles(
        (channel + done) / step, first, first + count, ready,
        [&](const int32_t* sums, int tile, const int32_t* const* corrections, const Epilogue& epilogue, int valid) {
          kernels_->finish_dots(sums, tile, corrections, epilogue, slopes + done, totals + done, to, stride, valid);
          to += tile * stride;
        });
  }
}

void Bconv2d::Run(const void* input, void* output, ThreadPool* pool) {
  const int64_t blocks = straddles_ ? 1 : groups_ * group_blocks_;
  const int64_t places = int64_t{rows_.output} * columns_.output;
  // Enough items that threads end together, none of them small; where channels do not suffice, places are cut too.
  const int64_t wanted = pool->threads() == 1 ? 1 : (4 * pool->threads() + blocks - 1) / blocks;
  const int64_t most = places / (4 * kernels_->pixels) + 1;
  chunks_ = wanted < most ? wanted : most;
  const int64_t image_words = int64_t{rows_.input} * columns_.input * words_;
  const int64_t image_bytes = places * (output_type_ == kTfLiteInt32     ? PackedWords(channels_out_) * 4
                                        : output_type_ == kTfLiteFloat32 ? int64_t{channels_out_} * 4
                                                                         : channels_out_);
  if (output_type_ == kTfLiteInt32 && (straddles_ || channels_out_ % 32 != 0)) {
    std::memset(output, 0, static_cast<size_t>(image_bytes * batch_));
  }
  for (int32_t n = 0; n < batch_; ++n) {
    const uint32_t* image = static_cast<const uint32_t*>(input) + n * image_words;
    Begin(image);
    target_ = static_cast<uint8_t*>(output) + n * image_bytes;
    pool->Run(
        blocks * chunks_, [](void* self, int64_t item, int) { static_cast<Bconv2d*>(self)->RunItem(item); }, this);
  }
}

}  // namespace

std::unique_ptr<Operator> MakeBconv2d(const uint8_t* options, size_t size, Message* why) {
  std::unique_ptr<Bconv2d> made(new (std::nothrow) Bconv2d);
  if (made == nullptr) {
    why->Set("no memory");
    return nullptr;
  }
  if (!made->Parse(options, size, why)) return nullptr;
  return made;
}

}  // namespace bdd
