// CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED, by the delegate's kernels. Sums begin with the bias and go through
// the taps in the order of the weights, as XNNPACK's do, so that a sign behind them rarely differs.
#include <algorithm>
#include <new>

#include "interpreter/float_ops.h"
#include "interpreter/padded_map.h"
#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

using Inputs = FloatOperator::Inputs;

constexpr int64_t kChunk = 32;           // output pixels of an item of work
constexpr int64_t kMaxLanes = 16;        // floats of a register of any kernel set
constexpr int64_t kMinShared = 1 << 18;  // multiplications below which threads cost more than they save

int64_t RoundUp(int64_t count) { return (count + kTileChannels - 1) / kTileChannels * kTileChannels; }
// Whether so many items with so many multiplications each are worth several threads.
bool IsShared(int64_t items, int64_t each) {
  const int64_t all = Times(items, each);
  return all < 0 || all >= kMinShared;
}
int64_t Ceiling(int64_t count, int64_t part) { return (count + part - 1) / part; }

// What both convolutions share: weights and bias in the kernels' layout, and the loops over images and pixels.
class Convolution : public FloatOperator {
 public:
  Convolution(const PaddedMap::Geometry& geometry, int32_t activation, const Machine& machine)
      : geometry_(geometry), machine_(machine), clamp_(activation) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    if (!PrepareWindows(inputs, why) || !PrepareFilter(inputs[1]->shape, inputs, why)) return false;
    Shape shape = inputs[0]->shape;
    map_.SetShape(static_cast<int32_t>(outputs_), &shape);
    return SetFloats(shape, output, why);
  }
  void Run(const Inputs& inputs, void* output) override {
    const Shape& map = inputs[0]->shape;
    const int64_t image = map.Product(1, 4), pixels = map_.pixels();
    auto* to = static_cast<float*>(output);
    for (int64_t n = 0; n < map.dims[0]; ++n, to += pixels * outputs_) {
      ComputeImage(map_.Load(Floats(*inputs[0]) + n * image, machine_.threads), to);
    }
  }

 protected:
  // Sets outputs_ and taps_, and fills weights and offsets.
  virtual bool PrepareFilter(const Shape& filter, const Inputs& inputs, Message* why) = 0;
  virtual void ComputeImage(const float* loaded, float* to) = 0;

  // Checks types, and prepares windows of the filter's [.., H, W, ..].
  bool PrepareWindows(const Inputs& inputs, Message* why) {
    const bool biased = inputs.size() == 3 && inputs[2] != nullptr;
    if ((inputs.size() != 2 && inputs.size() != 3) || !IsFloat(inputs[0]) || !IsFloat(inputs[1]) ||
        !inputs[1]->constant || inputs[0]->shape.rank != 4 || inputs[1]->shape.rank != 4 || !clamp_.known() ||
        (biased && (!IsFloat(inputs[2]) || !inputs[2]->constant))) {
      return why->Set("expected a map of floats, and constant weights and bias");
    }
    const Shape& filter = inputs[1]->shape;
    return map_.Prepare(geometry_, inputs[0]->shape, filter.dims[1], filter.dims[2], why);
  }

  // Makes room for `rows` x `columns` weights, rows padded for the kernels, and for two offsets for each row. Copies
  // the bias.
  bool PrepareWeights(const Inputs& inputs, int64_t rows, int64_t columns, Message* why) {
    const int64_t padded = RoundUp(columns);
    if (inputs.size() == 3 && inputs[2] != nullptr && inputs[2]->shape.Elements() != columns) {
      return why->Set("the bias does not fit the weights");
    }
    if (!weights_.Reset(Times(rows, padded)) || !bias_.Reset(padded) || !offsets_.Reset(2 * rows))
      return why->Set("no memory for the weights");
    if (inputs.size() == 3 && inputs[2] != nullptr) {
      std::copy(Floats(*inputs[2]), Floats(*inputs[2]) + columns, bias_.data());
    }
    return map_.Allocate(why);
  }

  // The offsets of `channels` values of each pixel of the filter: in the map, then in the copy of a window.
  void SetOffsets(int32_t height, int32_t width, int32_t channels) {
    int32_t* offset = offsets_.data();
    for (const bool in_copy : {false, true}) {
      for (int32_t i = 0; i < height; ++i) {
        for (int32_t j = 0; j < width; ++j) {
          for (int32_t c = 0; c < channels; ++c) *offset++ = map_.OffsetOf(i, j, in_copy) + c;
        }
      }
    }
  }

  // Calls f(windows, done, part, offsets) for the windows of `count` <= kChunk output pixels, at most kMaxPixels at a
  // time.
  template <typename F>
  void ForWindows(const float* loaded, int64_t first, int64_t count, const F& f) const {
    const float* windows[kChunk];
    bool in_copy = false;
    for (int64_t done = 0; done < count;) {
      const int alike = map_.Point(loaded, first + done, static_cast<int>(count - done), windows, &in_copy);
      const int32_t* offsets = offsets_.data() + (in_copy ? taps_ : 0);
      for (int m = 0; m < alike; m += kMaxPixels) f(windows + m, done + m, std::min(kMaxPixels, alike - m), offsets);
      done += alike;
    }
  }

  // Calls f(block, first, count) for runs of output pixels of one block of channels after the other, so that a block's
  // weights stay in the cache; with several threads if it pays. A pixel of a block takes `each` multiplications.
  template <typename F>
  void ForChunks(int64_t blocks, int64_t each, const F& f) {
    const int64_t pixels = map_.pixels(), chunks = Ceiling(pixels, kChunk);
    const auto item = [&](int64_t i) {
      const int64_t first = i % chunks * kChunk;
      f(i / chunks, first, std::min(kChunk, pixels - first));
    };
    if (IsShared(pixels, Times(blocks, each))) {
      machine_.threads->ForEach(blocks * chunks, item);
    } else {
      for (int64_t i = 0; i < blocks * chunks; ++i) item(i);
    }
  }

  PaddedMap::Geometry geometry_;
  Machine machine_;
  Clamp clamp_;
  PaddedMap map_;
  int64_t outputs_ = 1, taps_ = 1;
  Buffer<int32_t> offsets_;
  Buffer<float> weights_, bias_;
};

// CONV_2D with constant weights [O, H, W, I].
class Conv2d final : public Convolution {
 public:
  using Convolution::Convolution;

 private:
  bool PrepareFilter(const Shape& filter, const Inputs& inputs, Message* why) override {
    outputs_ = filter.dims[0];
    taps_ = filter.Product(1, 4);
    if (filter.dims[3] != map_.depth()) return why->Set("the weights do not fit the map");
    if (!PrepareWeights(inputs, taps_, outputs_, why)) return false;
    SetOffsets(filter.dims[1], filter.dims[2], filter.dims[3]);
    // From [O, taps] to blocks of [taps, kTileChannels].
    for (int64_t o = 0; o < outputs_; ++o) {
      const float* from = Floats(*inputs[1]) + o * taps_;
      float* to = weights_.data() + o / kTileChannels * kTileChannels * taps_ + o % kTileChannels;
      for (int64_t k = 0; k < taps_; ++k) to[k * kTileChannels] = from[k];
    }
    return true;
  }
  void ComputeImage(const float* loaded, float* to) override {
    ForChunks(Ceiling(outputs_, kTileChannels), taps_ * kTileChannels,
              [&](int64_t block, int64_t first, int64_t count) {
                ComputeChunk(loaded, block * kTileChannels, first, count, to);
              });
  }
  void ComputeChunk(const float* loaded, int64_t channel, int64_t first, int64_t count, float* to) const {
    const auto width = static_cast<int>(std::min<int64_t>(kTileChannels, outputs_ - channel));
    ForWindows(loaded, first, count, [&](const float* const* windows, int64_t done, int part, const int32_t* offsets) {
      const Conv2dFilter filter = {offsets, taps_, weights_.data() + channel * taps_, bias_.data() + channel};
      float* out = to + (first + done) * outputs_ + channel;
      machine_.kernels->conv2d_f32(windows, part, filter, out, outputs_, width);
      if (width == outputs_) {
        clamp_.Apply(out, part * outputs_);
      } else {
        for (int m = 0; m < part; ++m) clamp_.Apply(out + m * outputs_, width);
      }
    });
  }
};

// DEPTHWISE_CONV_2D with constant weights [1, H, W, C], and as many channels in the map.
class DepthwiseConv2d final : public Convolution {
 public:
  using Convolution::Convolution;

 private:
  bool PrepareFilter(const Shape& filter, const Inputs& inputs, Message* why) override {
    if (filter.dims[0] != 1 || filter.dims[3] != map_.depth()) {
      return why->Set("only one filter for each channel is supported");
    }
    outputs_ = map_.depth();
    taps_ = filter.Product(0, 3);
    // The kernels read whole vectors of channels, of the last pixel, too.
    if (outputs_ % kMaxLanes != 0) map_.AlwaysCopy();
    if (!PrepareWeights(inputs, taps_, outputs_, why)) return false;
    SetOffsets(filter.dims[1], filter.dims[2], 1);
    for (int64_t k = 0; k < taps_; ++k) {
      const float* from = Floats(*inputs[1]) + k * outputs_;
      std::copy(from, from + outputs_, weights_.data() + k * RoundUp(outputs_));
    }
    return true;
  }
  void ComputeImage(const float* loaded, float* to) override {
    ForChunks(1, taps_ * outputs_,
              [&](int64_t, int64_t first, int64_t count) { ComputeChunk(loaded, first, count, to); });
  }
  void ComputeChunk(const float* loaded, int64_t first, int64_t count, float* to) const {
    ForWindows(loaded, first, count, [&](const float* const* windows, int64_t done, int part, const int32_t* offsets) {
      const Conv2dFilter filter = {offsets, taps_, weights_.data(), bias_.data()};
      float* out = to + (first + done) * outputs_;
      machine_.kernels->depthwise_conv2d_f32(windows, part, filter, out, outputs_);
      clamp_.Apply(out, part * outputs_);
    });
  }
};

// FULLY_CONNECTED with float weights [outputs, inputs].
class Dense final : public FloatOperator {
 public:
  Dense(const int32_t* parameters, const Machine& machine)
      : clamp_(parameters[0]), format_(parameters[1]), keep_(parameters[2] != 0), machine_(machine) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    biased_ = inputs.size() == 3 && inputs[2] != nullptr;
    if ((inputs.size() != 2 && inputs.size() != 3) || !IsFloat(inputs[0]) || !IsFloat(inputs[1]) ||
        inputs[1]->shape.rank != 2 || !clamp_.known() || format_ != 0) {
      return why->Set("expected floats and a matrix of weights");
    }
    outputs_ = inputs[1]->shape.dims[0];
    depth_ = inputs[1]->shape.dims[1];
    Shape shape = inputs[0]->shape;
    const int64_t count = shape.Elements();
    if (count % depth_ != 0 || (biased_ && (!IsFloat(inputs[2]) || inputs[2]->shape.Elements() != outputs_))) {
      return why->Set("%d inputs do not fit the weights", static_cast<int>(count));
    }
    if (!zeros_.Reset(outputs_)) return why->Set("no memory for the bias");
    rows_ = count / depth_;
    if (keep_ && (shape.rank < 1 || shape.dims[shape.rank - 1] != depth_)) return why->Set("the weights do not fit");
    if (!keep_) {
      shape.rank = 2;
      shape.dims[0] = static_cast<int32_t>(rows_);
    }
    shape.dims[shape.rank - 1] = static_cast<int32_t>(outputs_);
    return SetFloats(shape, output, why);
  }
  void Run(const Inputs& inputs, void* output) override {
    const float *from = Floats(*inputs[0]), *weights = Floats(*inputs[1]);
    const float* bias = biased_ ? Floats(*inputs[2]) : zeros_.data();
    auto* to = static_cast<float*>(output);
    const int64_t parts = Ceiling(outputs_, kPart);
    const auto item = [&](int64_t i) {
      const int64_t row = i / parts, first = i % parts * kPart, count = std::min(kPart, outputs_ - first);
      float* out = to + row * outputs_ + first;
      machine_.kernels->dense_f32(weights + first * depth_, bias + first, from + row * depth_, depth_, count, out);
      clamp_.Apply(out, count);
    };
    if (IsShared(rows_ * outputs_, depth_)) {
      machine_.threads->ForEach(rows_ * parts, item);
    } else {
      for (int64_t i = 0; i < rows_ * parts; ++i) item(i);
    }
  }

 private:
  static constexpr int64_t kPart = 32;  // outputs of an item of work
  Clamp clamp_;
  int32_t format_;
  bool keep_, biased_ = false;
  Machine machine_;
  int64_t outputs_ = 0, depth_ = 1, rows_ = 0;
  Buffer<float> zeros_;
};

}  // namespace

FloatOperator* NewConvolution(const ModelFile::Operator& op, const Machine& machine) {
  const int32_t* p = op.parameters;
  switch (op.code) {
    case kTfLiteBuiltinConv2d: return new (std::nothrow) Conv2d({p[0], p[1], p[2], p[4], p[5]}, p[3], machine);
    case kTfLiteBuiltinDepthwiseConv2d:  // p[3], the multiplier, follows from the weights
      return new (std::nothrow) DepthwiseConv2d({p[0], p[1], p[2], p[5], p[6]}, p[4], machine);
    case kTfLiteBuiltinFullyConnected: return new (std::nothrow) Dense(p, machine);
    default: return nullptr;
  }
}

}  // namespace bdd
