// Operators that reduce neighbouring pixels or channels: MEAN, pools and SOFTMAX.
#include <algorithm>
#include <cmath>
#include <new>

#include "interpreter/float_ops.h"
#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

using Inputs = FloatOperator::Inputs;

constexpr int64_t kMinShared = 1 << 16;  // floats of a map below which threads cost more than they save

// MEAN of [N, H, W, C] over H and W.
class SpatialMean final : public FloatOperator {
 public:
  explicit SpatialMean(bool keep) : keep_(keep) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    std::vector<int32_t> axes;
    bool good = inputs.size() == 2 && IsFloat(inputs[0]) && inputs[0]->shape.rank == 4 && ReadInts(inputs[1], &axes) &&
                axes.size() == 2;
    for (int32_t& axis : axes) axis += axis < 0 ? 4 : 0;
    good = good && std::min(axes[0], axes[1]) == 1 && std::max(axes[0], axes[1]) == 2;
    if (!good) return why->Set("only the mean over height and width is supported");
    Shape shape = inputs[0]->shape;
    if (keep_) {
      shape.dims[1] = shape.dims[2] = 1;
    } else {
      shape.dims[1] = shape.dims[3];
      shape.rank = 2;
    }
    return SetFloats(shape, output, why) && (row_.Reset(inputs[0]->shape.Product(2, 4)) || why->Set("no memory"));
  }
  // Sums the rows first: their long loops are vectorized also if there is one channel.
  void Run(const Inputs& inputs, void* output) override {
    const Shape& shape = inputs[0]->shape;
    const int64_t row = shape.Product(2, 4), channels = shape.dims[3];
    const auto pixels = static_cast<float>(shape.Product(1, 3));
    const float* from = Floats(*inputs[0]);
    auto* to = static_cast<float*>(output);
    for (int64_t n = 0; n < shape.dims[0]; ++n, to += channels) {
      row_.Clear();
      for (int32_t y = 0; y < shape.dims[1]; ++y, from += row) {
        for (int64_t i = 0; i < row; ++i) row_[i] += from[i];
      }
      std::fill(to, to + channels, 0.0f);
      for (int64_t i = 0; i < row; i += channels) {
        for (int64_t c = 0; c < channels; ++c) to[c] += row_[i + c];
      }
      for (int64_t c = 0; c < channels; ++c) to[c] /= pixels;
    }
  }

 private:
  bool keep_;
  Buffer<float> row_;
};

// MAX_POOL_2D and AVERAGE_POOL_2D. Pixels outside the map do not count.
class Pool final : public FloatOperator {
 public:
  Pool(bool average, const int32_t* p, ThreadPool* threads)
      : average_(average), padding_(p[0]), clamp_(p[5]), threads_(threads) {
    columns_ = {p[3], p[1], 1};
    rows_ = {p[4], p[2], 1};
  }
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    constexpr int32_t kMaxParameter = 1 << 12;
    if (inputs.size() != 1 || !IsFloat(inputs[0]) || inputs[0]->shape.rank != 4 || !clamp_.known()) {
      return why->Set("expected a map of floats");
    }
    for (const int32_t number : {rows_.size, rows_.stride, columns_.size, columns_.stride}) {
      if (number < 1 || number > kMaxParameter) return why->Set("an impossible window or stride");
    }
    Shape shape = inputs[0]->shape;
    const bool same = padding_ == kTfLitePaddingSame;
    if ((!same && padding_ != kTfLitePaddingValid) || !rows_.Fit(shape.dims[1], same) ||
        !columns_.Fit(shape.dims[2], same)) {
      return why->Set("no window fits the map");
    }
    channels_ = shape.dims[3];
    if (!buffers_.Reset(Times(shape.Product(2, 4), threads_->threads()))) return why->Set("no memory for rows");
    shape.dims[1] = rows_.output;
    shape.dims[2] = columns_.output;
    return SetFloats(shape, output, why);
  }
  // First down the columns of a window, for a whole row of the map, and then along the row: a window of 3 x 3 takes 4
  // operations instead of 8, in long loops. Threads take rows of the output.
  void Run(const Inputs& inputs, void* output) override {
    map_ = Floats(*inputs[0]);
    to_ = static_cast<float*>(output);
    const Shape& shape = inputs[0]->shape;
    const int64_t items = int64_t{shape.dims[0]} * rows_.output;
    if (shape.Elements() >= kMinShared) {
      threads_->Run(
          items, [](void* self, int64_t item, int worker) { static_cast<Pool*>(self)->PoolRow(item, worker); }, this);
    } else {
      for (int64_t i = 0; i < items; ++i) PoolRow(i, 0);
    }
  }

 private:
  // The part of a window that lies on the map, [first, last).
  static void Clip(const Window& window, int32_t at, int64_t* first, int64_t* last) {
    const int64_t start = int64_t{at} * window.stride - window.before;
    *first = std::max<int64_t>(start, 0);
    *last = std::min<int64_t>(start + window.size, window.input);
  }

  void Combine(const float* from, int64_t count, float* to) const {
    if (average_) {
      for (int64_t i = 0; i < count; ++i) to[i] += from[i];
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = to[i] < from[i] ? from[i] : to[i];
    }
  }

  // One row of one output image.
  void PoolRow(int64_t item, int worker) {
    const int64_t row = columns_.input * channels_, width = columns_.output * channels_;
    const float* map = map_ + item / rows_.output * rows_.input * row;
    float *buffer = buffers_.data() + worker * row, *to = to_ + item * width;
    int64_t top = 0, bottom = 0, left = 0, right = 0;
    Clip(rows_, static_cast<int32_t>(item % rows_.output), &top, &bottom);
    std::copy(map + top * row, map + (top + 1) * row, buffer);
    for (int64_t i = top + 1; i < bottom; ++i) Combine(map + i * row, row, buffer);
    for (int32_t x = 0; x < columns_.output; ++x, to += channels_) {
      Clip(columns_, x, &left, &right);
      std::copy(buffer + left * channels_, buffer + (left + 1) * channels_, to);
      for (int64_t j = left + 1; j < right; ++j) Combine(buffer + j * channels_, channels_, to);
      const auto count = static_cast<float>((bottom - top) * (right - left));
      for (int64_t c = 0; average_ && c < channels_; ++c) to[c] /= count;
    }
    clamp_.Apply(to - width, width);
  }

  bool average_;
  int32_t padding_;
  Clamp clamp_;
  ThreadPool* threads_;
  Window rows_ = {1, 1, 1}, columns_ = {1, 1, 1};
  int64_t channels_ = 1;
  const float* map_ = nullptr;
  float* to_ = nullptr;
  Buffer<float> buffers_;  // a row of the map for each thread
};

// SOFTMAX over the last axis, with a beta of 1.
class Softmax final : public FloatOperator {
 public:
  explicit Softmax(int32_t beta_bits) { std::memcpy(&beta_, &beta_bits, sizeof beta_); }
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    if (inputs.size() != 1 || !IsFloat(inputs[0]) || inputs[0]->shape.rank < 1) return why->Set("expected floats");
    if (beta_ != 1.0f) return why->Set("only a beta of 1 is supported");
    return SetFloats(inputs[0]->shape, output, why);
  }
  void Run(const Inputs& inputs, void* output) override {
    const Shape& shape = inputs[0]->shape;
    const int64_t width = shape.dims[shape.rank - 1];
    const float* from = Floats(*inputs[0]);
    auto* to = static_cast<float*>(output);
    for (int64_t row = shape.Elements() / width; row > 0; --row, from += width, to += width) {
      const float largest = *std::max_element(from, from + width);
      float sum = 0.0f;
      for (int64_t i = 0; i < width; ++i) sum += to[i] = std::exp(from[i] - largest);
      for (int64_t i = 0; i < width; ++i) to[i] /= sum;
    }
  }

 private:
  float beta_ = 1.0f;
};

}  // namespace

FloatOperator* NewReduction(const ModelFile::Operator& op, const Machine& machine) {
  switch (op.code) {
    case kTfLiteBuiltinMean: return new (std::nothrow) SpatialMean(op.parameters[0] != 0);
    case kTfLiteBuiltinAveragePool2d: return new (std::nothrow) Pool(true, op.parameters, machine.threads);
    case kTfLiteBuiltinMaxPool2d: return new (std::nothrow) Pool(false, op.parameters, machine.threads);
    case kTfLiteBuiltinSoftmax: return new (std::nothrow) Softmax(op.parameters[0]);
    default: return nullptr;
  }
}

}  // namespace bdd
