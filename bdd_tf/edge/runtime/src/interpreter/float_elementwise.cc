// Operators that compute each element of the result from one element of each input.
#include <algorithm>
#include <cmath>
#include <new>

#include "interpreter/float_ops.h"
#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

using Inputs = FloatOperator::Inputs;

float Logistic(float x) { return 1.0f / (1.0f + std::exp(-x)); }
float Relu(float x) { return x < 0.0f ? 0.0f : x; }
float Relu6(float x) { return std::min(Relu(x), 6.0f); }
float HardSwish(float x) { return x * Relu6(x + 3.0f) / 6.0f; }
float Round(float x) { return std::nearbyint(x); }  // halves to even numbers
float ReciprocalRoot(float x) { return 1.0f / std::sqrt(x); }

using Function = float (*)(float);

// Null if the operator is no function of one float.
Function FunctionOf(int32_t code) {
  switch (code) {
    case kTfLiteBuiltinAbs: return [](float x) { return std::fabs(x); };
    case kTfLiteBuiltinExp: return [](float x) { return std::exp(x); };
    case kTfLiteBuiltinFloor: return [](float x) { return std::floor(x); };
    case kTfLiteBuiltinHardSwish: return HardSwish;
    case kTfLiteBuiltinLog: return [](float x) { return std::log(x); };
    case kTfLiteBuiltinLogistic: return Logistic;
    case kTfLiteBuiltinNeg: return [](float x) { return -x; };
    case kTfLiteBuiltinRelu: return Relu;
    case kTfLiteBuiltinRelu6: return Relu6;
    case kTfLiteBuiltinRound: return Round;
    case kTfLiteBuiltinRsqrt: return ReciprocalRoot;
    case kTfLiteBuiltinSqrt: return [](float x) { return std::sqrt(x); };
    case kTfLiteBuiltinSquare: return [](float x) { return x * x; };
    case kTfLiteBuiltinTanh: return [](float x) { return std::tanh(x); };
    default: return nullptr;
  }
}

class Unary final : public FloatOperator {
 public:
  Unary(int32_t code, Function function) : code_(code), function_(function) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    if (inputs.size() != 1 || !IsFloat(inputs[0])) return why->Set("expected one input of floats");
    return SetFloats(inputs[0]->shape, output, why);
  }
  void Run(const Inputs& inputs, void* output) override {
    const float* from = Floats(*inputs[0]);
    auto* to = static_cast<float*>(output);
    const int64_t count = inputs[0]->shape.Elements();
    switch (code_) {  // loops that the compiler vectorizes, for the activations of large maps
      case kTfLiteBuiltinRelu: std::transform(from, from + count, to, [](float x) { return Relu(x); }); break;
      case kTfLiteBuiltinRelu6: std::transform(from, from + count, to, [](float x) { return Relu6(x); }); break;
      case kTfLiteBuiltinHardSwish: std::transform(from, from + count, to, [](float x) { return HardSwish(x); }); break;
      default: std::transform(from, from + count, to, function_);
    }
  }

 private:
  int32_t code_;
  Function function_;
};

// Two operands, of which the shorter one is repeated as in NumPy. Dimensions from the innermost to the outermost; a
// stride of 0 repeats an operand. Neighbouring dimensions in which both operands go on are merged.
struct Broadcast {
  struct Dimension {
    int64_t count, a, b;
  };
  int rank = 0;
  Dimension dims[Shape::kMaxRank];

  bool Set(const Shape& a, const Shape& b, Shape* result) {
    result->rank = std::max(a.rank, b.rank);
    int64_t step_a = 1, step_b = 1;
    rank = 0;
    for (int i = result->rank - 1; i >= 0; --i) {
      const int at_a = i - (result->rank - a.rank), at_b = i - (result->rank - b.rank);
      const int32_t length_a = at_a >= 0 ? a.dims[at_a] : 1, length_b = at_b >= 0 ? b.dims[at_b] : 1;
      if (length_a != length_b && length_a != 1 && length_b != 1) return false;
      result->dims[i] = std::max(length_a, length_b);
      if (result->dims[i] != 1) Add({result->dims[i], length_a == 1 ? 0 : step_a, length_b == 1 ? 0 : step_b});
      step_a *= length_a;
      step_b *= length_b;
    }
    if (rank == 0) Add({1, 0, 0});
    return true;
  }

 private:
  void Add(const Dimension& next) {
    if (rank > 0) {
      Dimension& last = dims[rank - 1];
      if (next.a == last.a * last.count && next.b == last.b * last.count) {
        last.count *= next.count;
        return;
      }
    }
    dims[rank++] = next;
  }
};

class Binary final : public FloatOperator {
 public:
  Binary(int32_t code, int32_t activation) : code_(code), clamp_(activation) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    if (inputs.size() != 2 || !IsFloat(inputs[0]) || !IsFloat(inputs[1])) {
      return why->Set("expected two inputs of floats");
    }
    if (!clamp_.known()) return why->Set("the activation is not supported");
    Shape shape;
    if (!plan_.Set(inputs[0]->shape, inputs[1]->shape, &shape)) return why->Set("two shapes that do not fit together");
    return SetFloats(shape, output, why) && (code_ != kTfLiteBuiltinPrelu || IsSlope(inputs, why));
  }
  void Run(const Inputs& inputs, void* output) override {
    const float *a = Floats(*inputs[0]), *b = Floats(*inputs[1]);
    auto* to = static_cast<float*>(output);
    switch (code_) {
      case kTfLiteBuiltinAdd: Sweep(a, b, to, [](float x, float y) { return x + y; }); break;
      case kTfLiteBuiltinSub: Sweep(a, b, to, [](float x, float y) { return x - y; }); break;
      case kTfLiteBuiltinMul: Sweep(a, b, to, [](float x, float y) { return x * y; }); break;
      case kTfLiteBuiltinDiv: Sweep(a, b, to, [](float x, float y) { return x / y; }); break;
      case kTfLiteBuiltinMaximum: Sweep(a, b, to, [](float x, float y) { return x < y ? y : x; }); break;
      case kTfLiteBuiltinMinimum: Sweep(a, b, to, [](float x, float y) { return y < x ? y : x; }); break;
      case kTfLiteBuiltinSquaredDifference: Sweep(a, b, to, [](float x, float y) { return (x - y) * (x - y); }); break;
      default: Sweep(a, b, to, [](float x, float y) { return x >= 0.0f ? x : x * y; });  // PRELU
    }
  }

 private:
  bool IsSlope(const Inputs& inputs, Message* why) const {
    return inputs[1]->shape.Elements() <= inputs[0]->shape.Elements() || why->Set("slopes that do not fit the map");
  }

  // All rows of the innermost dimension.
  template <typename F>
  void Sweep(const float* a, const float* b, float* to, const F& f) const {
    const Broadcast::Dimension& inner = plan_.dims[0];
    int64_t index[Shape::kMaxRank] = {};
    for (;;) {
      Row(a, b, inner, to, f);
      clamp_.Apply(to, inner.count);
      to += inner.count;
      int i = 1;
      for (; i < plan_.rank; ++i) {
        const Broadcast::Dimension& dim = plan_.dims[i];
        a += dim.a;
        b += dim.b;
        if (++index[i] < dim.count) break;
        a -= dim.a * dim.count;
        b -= dim.b * dim.count;
        index[i] = 0;
      }
      if (i >= plan_.rank) return;
    }
  }

  template <typename F>
  static void Row(const float* a, const float* b, const Broadcast::Dimension& dim, float* to, const F& f) {
    if (dim.b == 0) {
      const float y = *b;
      for (int64_t i = 0; i < dim.count; ++i) to[i] = f(a[i * dim.a], y);
    } else if (dim.a == 0) {
      const float x = *a;
      for (int64_t i = 0; i < dim.count; ++i) to[i] = f(x, b[i]);
    } else {
      for (int64_t i = 0; i < dim.count; ++i) to[i] = f(a[i], b[i]);
    }
  }

  int32_t code_;
  Clamp clamp_;
  Broadcast plan_;
};

// CAST of bytes to floats.
class Cast final : public FloatOperator {
 public:
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    if (inputs.size() != 1 || inputs[0] == nullptr || inputs[0]->type != kTfLiteUInt8 ||
        inputs[0]->shape.Elements() < 1) {
      return why->Set("expected one input of bytes");
    }
    return SetFloats(inputs[0]->shape, output, why);
  }
  void Run(const Inputs& inputs, void* output) override {
    const auto* from = static_cast<const uint8_t*>(inputs[0]->data);
    std::copy(from, from + inputs[0]->shape.Elements(), static_cast<float*>(output));
  }
};

}  // namespace

FloatOperator* NewElementwise(const ModelFile::Operator& op) {
  const Function function = FunctionOf(op.code);
  if (function != nullptr) return new (std::nothrow) Unary(op.code, function);
  switch (op.code) {
    case kTfLiteBuiltinAdd:
    case kTfLiteBuiltinSub:
    case kTfLiteBuiltinMul:
    case kTfLiteBuiltinDiv: return new (std::nothrow) Binary(op.code, op.parameters[0]);
    case kTfLiteBuiltinMaximum:
    case kTfLiteBuiltinMinimum:
    case kTfLiteBuiltinSquaredDifference:
    case kTfLiteBuiltinPrelu: return new (std::nothrow) Binary(op.code, kActivationNone);
    case kTfLiteBuiltinCast: return new (std::nothrow) Cast;
    default: return nullptr;
  }
}

}  // namespace bdd
