#include "interpreter/float_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

using Inputs = std::vector<const LiveTensor*>;

const float* Floats(const LiveTensor& tensor) { return static_cast<const float*>(tensor.data); }

bool IsFloat(const LiveTensor* tensor) {
  return tensor != nullptr && tensor->type == kTfLiteFloat32 && tensor->shape.Elements() > 0;
}

bool SetFloatOutput(const Shape& shape, LiveTensor* output) {
  output->type = kTfLiteFloat32;
  output->shape = shape;
  return true;
}

float Activate(int32_t activation, float x) {
  switch (activation) {
    case kActivationRelu: return std::max(x, 0.0f);
    case kActivationReluN1To1: return std::min(std::max(x, -1.0f), 1.0f);
    case kActivationRelu6: return std::min(std::max(x, 0.0f), 6.0f);
    default: return x;
  }
}

bool IsKnownActivation(int32_t activation) { return activation >= kActivationNone && activation <= kActivationRelu6; }

// One float in, one float out.
class Unary final : public FloatOperator {
 public:
  explicit Unary(int32_t code) : code_(code) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    if (inputs.size() != 1 || !IsFloat(inputs[0])) return why->Set("expected one input of floats");
    return SetFloatOutput(inputs[0]->shape, output);
  }
  void Run(const Inputs& inputs, void* output) override {
    const float* from = Floats(*inputs[0]);
    auto* to = static_cast<float*>(output);
    for (int64_t i = 0; i < inputs[0]->shape.Elements(); ++i) {
      to[i] = code_ == kTfLiteBuiltinLogistic ? 1.0f / (1.0f + std::exp(-from[i])) : std::max(from[i], 0.0f);
    }
  }

 private:
  int32_t code_;
};

// ADD, SUB, MUL, MAXIMUM, MINIMUM and PRELU of a map and a vector of its channels, a scalar, or a map of the same size.
class Binary final : public FloatOperator {
 public:
  Binary(int32_t code, int32_t activation) : code_(code), activation_(activation) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    if (inputs.size() != 2 || !IsFloat(inputs[0]) || !IsFloat(inputs[1])) {
      return why->Set("expected two inputs of floats");
    }
    if (!IsKnownActivation(activation_)) return why->Set("the activation is not supported");
    const Shape &a = inputs[0]->shape, &b = inputs[1]->shape;
    const bool first_repeats = a.Elements() < b.Elements();
    const Shape &large = first_repeats ? b : a, &small = first_repeats ? a : b;
    const int64_t period = small.Elements();
    bool fits = period == 1 || period == large.Elements();
    if (!fits) fits = large.rank > 0 && period == large.dims[large.rank - 1] && small.dims[small.rank - 1] == period;
    if (!fits) return why->Set("two shapes that do not fit together");
    return SetFloatOutput(large, output);
  }
  void Run(const Inputs& inputs, void* output) override {
    const float *a = Floats(*inputs[0]), *b = Floats(*inputs[1]);
    const int64_t count_a = inputs[0]->shape.Elements(), count_b = inputs[1]->shape.Elements();
    auto* to = static_cast<float*>(output);
    for (int64_t i = 0; i < std::max(count_a, count_b); ++i) {
      to[i] = Activate(activation_, Compute(a[i % count_a], b[i % count_b]));
    }
  }

 private:
  float Compute(float a, float b) const {
    switch (code_) {
      case kTfLiteBuiltinAdd: return a + b;
      case kTfLiteBuiltinSub: return a - b;
      case kTfLiteBuiltinMul: return a * b;
      case kTfLiteBuiltinMaximum: return std::max(a, b);
      case kTfLiteBuiltinMinimum: return std::min(a, b);
      default: return a >= 0.0f ? a : a * b;  // PRELU
    }
  }
  int32_t code_, activation_;
};

// MEAN of [N, H, W, C] over H and W.
class SpatialMean final : public FloatOperator {
 public:
  explicit SpatialMean(bool keep) : keep_(keep) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    if (inputs.size() != 2 || !IsFloat(inputs[0]) || inputs[0]->shape.rank != 4 || inputs[1] == nullptr ||
        !inputs[1]->constant || inputs[1]->type != kTfLiteInt32 || inputs[1]->bytes != 8) {
      return why->Set("only the mean over height and width is supported");
    }
    int32_t axes[2];
    std::memcpy(axes, inputs[1]->data, 8);
    if (std::min(axes[0], axes[1]) != 1 || std::max(axes[0], axes[1]) != 2) {
      return why->Set("only the mean over height and width is supported");
    }
    Shape shape = inputs[0]->shape;
    if (keep_) {
      shape.dims[1] = shape.dims[2] = 1;
    } else {
      shape.dims[1] = shape.dims[3];
      shape.rank = 2;
    }
    return SetFloatOutput(shape, output);
  }
  void Run(const Inputs& inputs, void* output) override {
    const Shape& shape = inputs[0]->shape;
    const int64_t pixels = int64_t{shape.dims[1]} * shape.dims[2], channels = shape.dims[3];
    const float* from = Floats(*inputs[0]);
    auto* to = static_cast<float*>(output);
    for (int64_t n = 0; n < shape.dims[0]; ++n, to += channels) {
      std::fill(to, to + channels, 0.0f);
      for (int64_t p = 0; p < pixels; ++p, from += channels) {
        for (int64_t c = 0; c < channels; ++c) to[c] += from[c];
      }
      for (int64_t c = 0; c < channels; ++c) to[c] /= static_cast<float>(pixels);
    }
  }

 private:
  bool keep_;
};

// FULLY_CONNECTED with constant float weights [outputs, inputs].
class Dense final : public FloatOperator {
 public:
  explicit Dense(int32_t activation) : activation_(activation) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    const bool biased = inputs.size() == 3 && inputs[2] != nullptr;
    if ((inputs.size() != 2 && inputs.size() != 3) || !IsFloat(inputs[0]) || !IsFloat(inputs[1]) ||
        inputs[1]->shape.rank != 2 || !IsKnownActivation(activation_)) {
      return why->Set("expected floats and a matrix of weights");
    }
    outputs_ = inputs[1]->shape.dims[0];
    depth_ = inputs[1]->shape.dims[1];
    const int64_t count = inputs[0]->shape.Elements();
    if (count % depth_ != 0 || (biased && (!IsFloat(inputs[2]) || inputs[2]->shape.Elements() != outputs_))) {
      return why->Set("%d inputs do not fit the weights", static_cast<int>(count));
    }
    Shape shape;
    shape.rank = 2;
    shape.dims[0] = static_cast<int32_t>(count / depth_);
    shape.dims[1] = static_cast<int32_t>(outputs_);
    return SetFloatOutput(shape, output);
  }
  void Run(const Inputs& inputs, void* output) override {
    const float *from = Floats(*inputs[0]), *weights = Floats(*inputs[1]);
    const float* bias = inputs.size() == 3 && inputs[2] != nullptr ? Floats(*inputs[2]) : nullptr;
    auto* to = static_cast<float*>(output);
    for (int64_t row = 0; row < inputs[0]->shape.Elements() / depth_; ++row) {
      for (int64_t o = 0; o < outputs_; ++o) {
        float sum = 0.0f;
        for (int64_t k = 0; k < depth_; ++k) sum += from[row * depth_ + k] * weights[o * depth_ + k];
        to[row * outputs_ + o] = Activate(activation_, sum + (bias != nullptr ? bias[o] : 0.0f));
      }
    }
  }

 private:
  int32_t activation_;
  int64_t outputs_ = 0, depth_ = 1;
};

// RESHAPE to a constant shape, of which one side may be -1. The size of the batch is that of the input.
class Reshape final : public FloatOperator {
 public:
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    if (inputs.size() != 2 || !IsFloat(inputs[0]) || inputs[1] == nullptr || !inputs[1]->constant ||
        inputs[1]->type != kTfLiteInt32 || inputs[1]->bytes > 4 * Shape::kMaxRank) {
      return why->Set("expected floats and a constant shape");
    }
    Shape shape;
    shape.rank = static_cast<int>(inputs[1]->bytes / 4);
    std::memcpy(shape.dims, inputs[1]->data, static_cast<size_t>(4 * shape.rank));
    int open = -1;
    for (int i = 0; i < shape.rank; ++i) {
      if (shape.dims[i] == -1 && open < 0) open = i;
    }
    if (open >= 0) {
      shape.dims[open] = 1;
      const int64_t others = shape.Elements();
      if (others < 1) return why->Set("an impossible shape");
      shape.dims[open] = static_cast<int32_t>(inputs[0]->shape.Elements() / others);
    }
    if (shape.Elements() != inputs[0]->shape.Elements()) return why->Set("a shape of another size");
    return SetFloatOutput(shape, output);
  }
  void Run(const Inputs& inputs, void* output) override {
    std::memcpy(output, inputs[0]->data, static_cast<size_t>(inputs[0]->shape.Elements()) * sizeof(float));
  }
};

// CAST of bytes to floats.
class Cast final : public FloatOperator {
 public:
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    if (inputs.size() != 1 || inputs[0] == nullptr || inputs[0]->type != kTfLiteUInt8 ||
        inputs[0]->shape.Elements() < 1) {
      return why->Set("expected one input of bytes");
    }
    return SetFloatOutput(inputs[0]->shape, output);
  }
  void Run(const Inputs& inputs, void* output) override {
    const auto* from = static_cast<const uint8_t*>(inputs[0]->data);
    std::copy(from, from + inputs[0]->shape.Elements(), static_cast<float*>(output));
  }
};

// CONV_2D with constant float weights [O, H, W, I] and bias [O].
class Convolution final : public FloatOperator {
 public:
  explicit Convolution(const int32_t* p)
      : same_(p[0] == kTfLitePaddingSame), activation_(p[3]), rows_{1, p[2], p[5]}, columns_{1, p[1], p[4]} {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    constexpr int32_t kMaxParameter = 1 << 12;
    if (inputs.size() != 3 || !IsFloat(inputs[0]) || !IsFloat(inputs[1]) || !IsFloat(inputs[2]) ||
        !inputs[1]->constant || inputs[0]->shape.rank != 4 || inputs[1]->shape.rank != 4 ||
        !IsKnownActivation(activation_)) {
      return why->Set("expected a map of floats, constant weights and a bias");
    }
    const Shape &map = inputs[0]->shape, &filter = inputs[1]->shape;
    for (const Window* window : {&rows_, &columns_}) {
      if (window->stride < 1 || window->stride > kMaxParameter || window->dilation < 1 ||
          window->dilation > kMaxParameter) {
        return why->Set("an impossible stride or dilation");
      }
    }
    rows_.size = filter.dims[1];
    columns_.size = filter.dims[2];
    if (std::max(rows_.size, columns_.size) > kMaxParameter || filter.dims[3] != map.dims[3] ||
        inputs[2]->shape.Elements() != filter.dims[0] || !rows_.Fit(map.dims[1], same_) ||
        !columns_.Fit(map.dims[2], same_)) {
      return why->Set("the weights do not fit the map");
    }
    outputs_ = filter.dims[0];
    depth_ = filter.dims[3];
    // From [O, H, W, I] to [H, W, I, O], so that the innermost loop is over output channels.
    const int64_t taps = filter.Elements() / outputs_;
    if (!weights_.Reset(filter.Elements()) || !sums_.Reset(outputs_)) return why->Set("no memory for the weights");
    for (int64_t o = 0; o < outputs_; ++o) {
      for (int64_t k = 0; k < taps; ++k) weights_[k * outputs_ + o] = Floats(*inputs[1])[o * taps + k];
    }
    Shape shape = map;
    shape.dims[1] = rows_.output;
    shape.dims[2] = columns_.output;
    shape.dims[3] = static_cast<int32_t>(outputs_);
    return SetFloatOutput(shape, output);
  }
  void Run(const Inputs& inputs, void* output) override {
    const Shape& map = inputs[0]->shape;
    const int64_t image = map.Product(1, 4);
    auto* to = static_cast<float*>(output);
    for (int64_t n = 0; n < map.dims[0]; ++n) {
      for (int32_t y = 0; y < rows_.output; ++y) {
        for (int32_t x = 0; x < columns_.output; ++x, to += outputs_) {
          std::copy(Floats(*inputs[2]), Floats(*inputs[2]) + outputs_, sums_.data());
          AddWindow(Floats(*inputs[0]) + n * image, y, x);
          for (int64_t o = 0; o < outputs_; ++o) to[o] = Activate(activation_, sums_[o]);
        }
      }
    }
  }

 private:
  void AddWindow(const float* map, int32_t y, int32_t x) {
    float* sums = sums_.data();
    for (int64_t i = 0; i < rows_.size; ++i) {
      const int64_t row = int64_t{y} * rows_.stride - rows_.before + i * rows_.dilation;
      if (row < 0 || row >= rows_.input) continue;
      for (int64_t j = 0; j < columns_.size; ++j) {
        const int64_t column = int64_t{x} * columns_.stride - columns_.before + j * columns_.dilation;
        if (column < 0 || column >= columns_.input) continue;
        const float* pixel = map + (row * columns_.input + column) * depth_;
        const float* weights = weights_.data() + (i * columns_.size + j) * depth_ * outputs_;
        for (int64_t c = 0; c < depth_; ++c, weights += outputs_) {
          for (int64_t o = 0; o < outputs_; ++o) sums[o] += pixel[c] * weights[o];
        }
      }
    }
  }

  bool same_;
  int32_t activation_;
  Window rows_, columns_;
  int64_t outputs_ = 1, depth_ = 1;
  Buffer<float> weights_, sums_;
};

struct Known {
  int32_t code;
  const char* name;
};
constexpr Known kKnown[] = {
    {kTfLiteBuiltinDepthwiseConv2d, "DEPTHWISE_CONV_2D"},
    {kTfLiteBuiltinAdd, "ADD"},
    {kTfLiteBuiltinAveragePool2d, "AVERAGE_POOL_2D"},
    {kTfLiteBuiltinConcatenation, "CONCATENATION"},
    {kTfLiteBuiltinConv2d, "CONV_2D"},
    {kTfLiteBuiltinDequantize, "DEQUANTIZE"},
    {kTfLiteBuiltinFloor, "FLOOR"},
    {kTfLiteBuiltinFullyConnected, "FULLY_CONNECTED"},
    {kTfLiteBuiltinLogistic, "LOGISTIC"},
    {kTfLiteBuiltinMul, "MUL"},
    {kTfLiteBuiltinRelu, "RELU"},
    {kTfLiteBuiltinReshape, "RESHAPE"},
    {kTfLiteBuiltinPad, "PAD"},
    {kTfLiteBuiltinTranspose, "TRANSPOSE"},
    {kTfLiteBuiltinMean, "MEAN"},
    {kTfLiteBuiltinSub, "SUB"},
    {kTfLiteBuiltinStridedSlice, "STRIDED_SLICE"},
    {kTfLiteBuiltinCast, "CAST"},
    {kTfLiteBuiltinPrelu, "PRELU"},
    {kTfLiteBuiltinMaximum, "MAXIMUM"},
    {kTfLiteBuiltinMinimum, "MINIMUM"},
    {kTfLiteBuiltinLog, "LOG"},
    {kTfLiteBuiltinSqrt, "SQRT"},
    {kTfLiteBuiltinMirrorPad, "MIRROR_PAD"},
    {kTfLiteBuiltinReverseV2, "REVERSE_V2"},
    {kTfLiteBuiltinRound, "ROUND"},
};

FloatOperator* New(const ModelFile::Operator& op) {
  switch (op.code) {
    case kTfLiteBuiltinLogistic:
    case kTfLiteBuiltinRelu: return new (std::nothrow) Unary(op.code);
    case kTfLiteBuiltinAdd:
    case kTfLiteBuiltinSub:
    case kTfLiteBuiltinMul: return new (std::nothrow) Binary(op.code, op.parameters[0]);
    case kTfLiteBuiltinMaximum:
    case kTfLiteBuiltinMinimum:
    case kTfLiteBuiltinPrelu: return new (std::nothrow) Binary(op.code, kActivationNone);
    case kTfLiteBuiltinMean: return new (std::nothrow) SpatialMean(op.parameters[0] != 0);
    case kTfLiteBuiltinFullyConnected: return new (std::nothrow) Dense(op.parameters[0]);
    case kTfLiteBuiltinCast: return new (std::nothrow) Cast;
    case kTfLiteBuiltinConv2d: return new (std::nothrow) Convolution(op.parameters);
    case kTfLiteBuiltinReshape: return new (std::nothrow) Reshape;
    default: return nullptr;
  }
}

}  // namespace

std::unique_ptr<FloatOperator> MakeFloatOperator(const ModelFile::Operator& op) {
  return std::unique_ptr<FloatOperator>(New(op));
}

const char* SupportedOperators() {
  return "ADD, CAST, CONV_2D, FULLY_CONNECTED, LOGISTIC, MAXIMUM, MEAN, MINIMUM, MUL, PRELU, RELU, RESHAPE, SUB";
}

const char* OperatorName(int32_t code) {
  for (const Known& known : kKnown) {
    if (known.code == code) return known.name;
  }
  return "operator";
}

}  // namespace bdd
