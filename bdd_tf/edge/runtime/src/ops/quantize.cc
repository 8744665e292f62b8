// LceQuantize packs the signs of the last axis into words of 32 bits; LceDequantize unpacks them to -1 and +1. Bit 1
// means -1; unused bits of the last word are 0.
#include <cmath>
#include <new>

#include "ops/operator.h"

namespace bdd {
namespace {

bool CheckInput(const Value* const* inputs, int count, Message* why) {
  if (count != 1 || inputs[0] == nullptr) return why->Set("expected one input");
  const Shape& shape = inputs[0]->shape;
  if (shape.rank < 1) return why->Set("the input has no axis to pack");
  for (int i = 0; i < shape.rank; ++i) {
    if (shape.dims[i] < 1) return why->Set("dimension %d of the input is %d", i, shape.dims[i]);
  }
  if (Times(shape.Elements(), 4) < 0) return why->Set("the input is too large");
  return true;
}

class Quantize final : public Operator {
 public:
  bool Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output, Message* why) override {
    if (!CheckInput(inputs, count, why)) return false;
    type_ = inputs[0]->type;
    if (type_ != kTfLiteFloat32 && type_ != kTfLiteInt8 && type_ != kTfLiteBool) {
      return why->Set("the input's type is %d, not float32, int8 or bool", static_cast<int>(type_));
    }
    if (output->type != kTfLiteInt32) return why->Set("the output is not int32");
    zero_point_ = inputs[0]->zero_point;
    kernels_ = &kernels;
    const Shape& shape = inputs[0]->shape;
    columns_ = shape.dims[shape.rank - 1];
    rows_ = shape.Product(0, shape.rank - 1);
    output->shape = shape;
    output->shape.dims[shape.rank - 1] = static_cast<int32_t>(PackedWords(columns_));
    return Times(output->shape.Elements(), 4) >= 0 || why->Set("the output is too large");
  }

  void Run(const void* input, void* output, ThreadPool* pool) override {
    source_ = static_cast<const uint8_t*>(input);
    target_ = static_cast<uint32_t*>(output);
    items_ = pool->threads() == 1 || rows_ * columns_ < (1 << 14) ? 1 : 4 * pool->threads();
    pool->Run(items_, [](void* self, int64_t item, int) { static_cast<Quantize*>(self)->RunItem(item); }, this);
  }

 private:
  void RunItem(int64_t item) {
    const int64_t first = rows_ * item / items_, last = rows_ * (item + 1) / items_;
    const int64_t words = PackedWords(columns_), whole = columns_ / 32;
    if (type_ == kTfLiteFloat32 && columns_ % 32 == 0) {
      const float* x = reinterpret_cast<const float*>(source_) + first * columns_;
      return kernels_->bitpack_f32_b1(x, (last - first) * words, target_ + first * words);
    }
    for (int64_t row = first; row < last; ++row) {
      uint32_t* out = target_ + row * words;
      if (type_ == kTfLiteFloat32) {
        const float* x = reinterpret_cast<const float*>(source_) + row * columns_;
        kernels_->bitpack_f32_b1(x, whole, out);
        PackRest(x, whole, out, [](float value) { return value < 0.0f; });
      } else if (type_ == kTfLiteInt8) {
        const int32_t zero = zero_point_;
        const auto* x = reinterpret_cast<const int8_t*>(source_) + row * columns_;
        PackRest(x, 0, out, [zero](int8_t value) { return value < zero; });
      } else {
        PackRest(source_ + row * columns_, 0, out, [](uint8_t value) { return value == 0; });
      }
    }
  }

  // Packs a row from word `word` on, one value at a time.
  template <typename T, typename Negative>
  void PackRest(const T* x, int64_t word, uint32_t* out, Negative negative) const {
    for (; word < PackedWords(columns_); ++word) {
      uint32_t bits = 0;
      for (int64_t i = 32 * word; i < 32 * word + 32 && i < columns_; ++i) {
        bits |= static_cast<uint32_t>(negative(x[i])) << (i % 32);
      }
      out[word] = bits;
    }
  }

  TfLiteType type_ = kTfLiteFloat32;
  int32_t zero_point_ = 0;
  int64_t rows_ = 0, columns_ = 0, items_ = 1;
  const KernelSet* kernels_ = nullptr;
  const uint8_t* source_ = nullptr;
  uint32_t* target_ = nullptr;
};

class Dequantize final : public Operator {
 public:
  bool Prepare(const Value* const* inputs, int count, const KernelSet&, Value* output, Message* why) override {
    if (!CheckInput(inputs, count, why)) return false;
    const Shape& shape = inputs[0]->shape;
    if (inputs[0]->type != kTfLiteInt32) return why->Set("the input is not int32");
    type_ = output->type;
    if (type_ != kTfLiteFloat32 && type_ != kTfLiteInt8 && type_ != kTfLiteBool) {
      return why->Set("the output's type is %d, not float32, int8 or bool", static_cast<int>(type_));
    }
    // The packed input does not store the number of channels; it comes from the output's shape.
    if (output->shape.rank != shape.rank)
      return why->Set("input and output have %d and %d axes", shape.rank, output->shape.rank);
    columns_ = output->shape.dims[shape.rank - 1];
    if (columns_ < 1 || PackedWords(columns_) != shape.dims[shape.rank - 1]) {
      return why->Set("%d words do not hold %lld channels", shape.dims[shape.rank - 1],
                      static_cast<long long>(columns_));
    }
    rows_ = shape.Product(0, shape.rank - 1);
    output->shape = shape;
    output->shape.dims[shape.rank - 1] = static_cast<int32_t>(columns_);
    if (Times(output->shape.Elements(), 4) < 0) return why->Set("the output is too large");
    if (type_ == kTfLiteInt8) {
      if (!(output->scale > 0.0f) || !std::isfinite(output->scale)) return why->Set("the int8 output has no scale");
      const float one = std::round(1.0f / output->scale);
      const float plus = static_cast<float>(output->zero_point) + one;
      const float minus = static_cast<float>(output->zero_point) - one;
      plus_ = static_cast<int8_t>(plus < 127.0f ? (plus > -128.0f ? plus : -128.0f) : 127.0f);
      minus_ = static_cast<int8_t>(minus > -128.0f ? (minus < 127.0f ? minus : 127.0f) : -128.0f);
    }
    return true;
  }

  void Run(const void* input, void* output, ThreadPool*) override {
    const auto* bits = static_cast<const uint32_t*>(input);
    const int64_t words = PackedWords(columns_);
    for (int64_t row = 0; row < rows_; ++row, bits += words) {
      for (int64_t i = 0; i < columns_; ++i) {
        const bool negative = (bits[i / 32] >> (i % 32) & 1) != 0;
        const int64_t at = row * columns_ + i;
        if (type_ == kTfLiteFloat32) {
          static_cast<float*>(output)[at] = negative ? -1.0f : 1.0f;
        } else if (type_ == kTfLiteInt8) {
          static_cast<int8_t*>(output)[at] = negative ? minus_ : plus_;
        } else {
          static_cast<uint8_t*>(output)[at] = negative ? 0 : 1;
        }
      }
    }
  }

 private:
  TfLiteType type_ = kTfLiteFloat32;
  int64_t rows_ = 0, columns_ = 0;
  int8_t plus_ = 1, minus_ = -1;
};

}  // namespace

std::unique_ptr<Operator> MakeQuantize() { return std::unique_ptr<Operator>(new (std::nothrow) Quantize); }
std::unique_ptr<Operator> MakeDequantize() { return std::unique_ptr<Operator>(new (std::nothrow) Dequantize); }

}  // namespace bdd
