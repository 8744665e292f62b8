// LceBMaxPool2d: the maximum of the signs in each window. Bit 1 means -1, so the maximum of signs is the AND of their
// bits, computed on whole words.
#include "ops/operator.h"
#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

constexpr int64_t kMaxWindow = 1 << 12;

class BMaxPool2d final : public Operator {
 public:
  bool Parse(const uint8_t* options, size_t size, Message* why) {
    int32_t padding = 0;
    if (!ReadOption(options, size, "filter_height", 1, kMaxWindow, &rows_.size, why) ||
        !ReadOption(options, size, "filter_width", 1, kMaxWindow, &columns_.size, why) ||
        !ReadOption(options, size, "stride_height", 1, kMaxWindow, &rows_.stride, why) ||
        !ReadOption(options, size, "stride_width", 1, kMaxWindow, &columns_.stride, why) ||
        !ReadOption(options, size, "padding", kLcePaddingSame, kLcePaddingValid, &padding, why)) {
      return false;
    }
    same_ = padding == kLcePaddingSame;
    return true;
  }

  bool Prepare(const Value* const* inputs, int count, const KernelSet&, Value* output, Message* why) override {
    if (count != 1 || inputs[0] == nullptr) return why->Set("expected one input");
    const Shape& shape = inputs[0]->shape;
    if (inputs[0]->type != kTfLiteInt32 || output->type != kTfLiteInt32 || shape.rank != 4) {
      return why->Set("input and output are not both int32 [N, H, W, C]");
    }
    for (int i = 0; i < 4; ++i) {
      if (shape.dims[i] < 1) return why->Set("dimension %d of the input is %d", i, shape.dims[i]);
    }
    if (!rows_.Fit(shape.dims[1], same_) || !columns_.Fit(shape.dims[2], same_)) {
      return why->Set("a window of %d x %d does not fit a map of %d x %d", rows_.size, columns_.size, shape.dims[1],
                      shape.dims[2]);
    }
    batch_ = shape.dims[0];
    words_ = shape.dims[3];
    output->shape = shape;
    output->shape.dims[1] = rows_.output;
    output->shape.dims[2] = columns_.output;
    if (Times(shape.Elements(), 4) < 0 || Times(output->shape.Elements(), 4) < 0)
      return why->Set("the maps are too large");
    return true;
  }

  void Run(const void* input, void* output, ThreadPool* pool) override {
    source_ = static_cast<const uint32_t*>(input);
    target_ = static_cast<uint32_t*>(output);
    pool->Run(
        int64_t{batch_} * rows_.output,
        [](void* self, int64_t item, int) { static_cast<BMaxPool2d*>(self)->RunRow(item); }, this);
  }

 private:
  void RunRow(int64_t item) {
    const int64_t n = item / rows_.output, y = item % rows_.output;
    const int64_t top = y * rows_.stride - rows_.before;
    const int64_t first_row = top < 0 ? 0 : top;
    const int64_t last_row = top + rows_.size < rows_.input ? top + rows_.size : rows_.input;
    uint32_t* out = target_ + item * columns_.output * words_;
    for (int64_t x = 0; x < columns_.output; ++x, out += words_) {
      const int64_t left = x * columns_.stride - columns_.before;
      const int64_t first = left < 0 ? 0 : left;
      const int64_t last = left + columns_.size < columns_.input ? left + columns_.size : columns_.input;
      for (int64_t c = 0; c < words_; ++c) out[c] = ~0u;
      for (int64_t row = first_row; row < last_row; ++row) {
        const uint32_t* in = source_ + ((n * rows_.input + row) * columns_.input + first) * words_;
        for (int64_t column = first; column < last; ++column, in += words_) {
          for (int64_t c = 0; c < words_; ++c) out[c] &= in[c];
        }
      }
    }
  }

  bool same_ = false;
  Window rows_{1, 1, 1}, columns_{1, 1, 1};
  int32_t batch_ = 0;
  int64_t words_ = 0;
  const uint32_t* source_ = nullptr;
  uint32_t* target_ = nullptr;
};

}  // namespace

std::unique_ptr<Operator> MakeBMaxPool2d(const uint8_t* options, size_t size, Message* why) {
  return MakeParsed<BMaxPool2d>(options, size, why);
}

}  // namespace bdd
