// Operators that move values: RESHAPE, CONCATENATION, PAD, MIRROR_PAD, TRANSPOSE, REVERSE_V2, STRIDED_SLICE; and
// DEQUANTIZE, which unpacks them.
#include <algorithm>
#include <new>

#include "delegate/packed_constants.h"
#include "interpreter/float_ops.h"
#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

using Inputs = FloatOperator::Inputs;

// Reads the inputs of an operator with floats and one constant list. Returns false if the inputs are others.
bool ReadOperands(const Inputs& inputs, std::vector<int32_t>* list) {
  return inputs.size() == 2 && IsFloat(inputs[0]) && ReadInts(inputs[1], list);
}

// RESHAPE to a constant shape, of which one side may be -1.
class Reshape final : public FloatOperator {
 public:
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    std::vector<int32_t> sides;
    if (!ReadOperands(inputs, &sides)) return why->Set("expected floats and a constant shape");
    Shape shape;
    shape.rank = static_cast<int>(sides.size());
    std::copy(sides.begin(), sides.end(), shape.dims);
    const int64_t count = inputs[0]->shape.Elements();
    int32_t* open = std::find(shape.dims, shape.dims + shape.rank, -1);
    if (open != shape.dims + shape.rank) {
      *open = 1;
      const int64_t others = shape.Elements();
      if (others < 1) return why->Set("an impossible shape");
      *open = static_cast<int32_t>(count / others);
    }
    if (shape.Elements() != count) return why->Set("a shape of another size");
    return SetFloats(shape, output, why);
  }
  void Run(const Inputs& inputs, void* output) override {
    std::memcpy(output, inputs[0]->data, static_cast<size_t>(inputs[0]->shape.Elements()) * sizeof(float));
  }
};

class Concatenation final : public FloatOperator {
 public:
  explicit Concatenation(const int32_t* parameters) : axis_(parameters[0]), activation_(parameters[1]) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    if (inputs.empty() || activation_ != kActivationNone) return why->Set("expected maps, and no activation");
    for (const LiveTensor* input : inputs) {
      if (!IsFloat(input) || input->shape.rank != inputs[0]->shape.rank) return why->Set("expected maps of floats");
    }
    Shape shape = inputs[0]->shape;
    at_ = axis_ < 0 ? axis_ + shape.rank : axis_;
    if (at_ < 0 || at_ >= shape.rank) return why->Set("the axis does not exist");
    int64_t length = 0;
    for (const LiveTensor* input : inputs) {
      for (int i = 0; i < shape.rank; ++i) {
        if (i != at_ && input->shape.dims[i] != shape.dims[i]) return why->Set("shapes that do not fit together");
      }
      length += input->shape.dims[at_];
    }
    if (length > INT32_MAX) return why->Set("the result would be too large");
    shape.dims[at_] = static_cast<int32_t>(length);
    outer_ = shape.Product(0, at_);
    return SetFloats(shape, output, why);
  }
  void Run(const Inputs& inputs, void* output) override {
    auto* to = static_cast<float*>(output);
    for (int64_t i = 0; i < outer_; ++i) {
      for (const LiveTensor* input : inputs) {
        const int64_t part = input->shape.Product(at_, input->shape.rank);
        std::copy(Floats(*input) + i * part, Floats(*input) + (i + 1) * part, to);
        to += part;
      }
    }
  }

 private:
  int32_t axis_, activation_;
  int at_ = 0;
  int64_t outer_ = 1;
};

// An operator whose results are elements of the input, or zeros. The element at (i, j, ...) lies at the sum of one
// offset for each index; a negative offset means 0. Offsets of all axes lie in one table.
class Rearrangement : public FloatOperator {
 public:
  void Run(const Inputs& inputs, void* output) override {
    auto* to = static_cast<float*>(output);
    const int last = walk_.rank - 1;
    const int64_t width = walk_.dims[last];
    const int64_t* inner = table_.data() + starts_[last];
    int32_t index[Shape::kMaxRank] = {};
    for (;;) {
      CopyRow(Floats(*inputs[0]), index, inner, width, to);
      to += width;
      int i = last - 1;
      for (; i >= 0 && ++index[i] == walk_.dims[i]; --i) index[i] = 0;
      if (i < 0) return;
    }
  }

 protected:
  // Fills the table with offset(axis, index), in elements or negative. `walk` has the sides of `shape`, and may have
  // further sides of 1.
  template <typename F>
  bool Fill(const Shape& walk, const Shape& shape, const F& offset, LiveTensor* output, Message* why) {
    if (walk.rank < 1 || !SetFloats(shape, output, why)) return why->Set("the result would be empty or too large");
    int64_t total = 0;
    for (int axis = 0; axis < walk.rank; ++axis) {
      starts_[axis] = total;
      total += walk.dims[axis];
    }
    if (!table_.Reset(total)) return why->Set("no memory for the offsets");
    for (int axis = 0; axis < walk.rank; ++axis) {
      for (int32_t i = 0; i < walk.dims[axis]; ++i) table_[starts_[axis] + i] = offset(axis, i);
    }
    walk_ = walk;
    const int64_t* inner = table_.data() + starts_[walk.rank - 1];
    const int32_t width = walk.dims[walk.rank - 1];
    contiguous_ = inner[0] >= 0;
    for (int32_t i = 0; i < width; ++i) contiguous_ = contiguous_ && inner[i] == inner[0] + i;
    return true;
  }

  static int64_t StrideOf(const Shape& shape, int axis) { return shape.Product(axis + 1, shape.rank); }

 private:
  void CopyRow(const float* from, const int32_t* index, const int64_t* inner, int64_t width, float* to) const {
    for (int axis = 0; axis + 1 < walk_.rank; ++axis) {
      const int64_t offset = table_[starts_[axis] + index[axis]];
      if (offset < 0) {
        std::fill(to, to + width, 0.0f);
        return;
      }
      from += offset;
    }
    if (contiguous_) {
      std::copy(from + inner[0], from + inner[0] + width, to);
      return;
    }
    for (int64_t i = 0; i < width; ++i) to[i] = inner[i] < 0 ? 0.0f : from[inner[i]];
  }

  Shape walk_;
  Buffer<int64_t> table_;
  int64_t starts_[Shape::kMaxRank] = {};
  bool contiguous_ = false;
};

class Transpose final : public Rearrangement {
 public:
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    std::vector<int32_t> order;
    if (!ReadOperands(inputs, &order) || static_cast<int>(order.size()) != inputs[0]->shape.rank) {
      return why->Set("expected floats and a constant order of the axes");
    }
    const Shape& from = inputs[0]->shape;
    Shape shape = from;
    unsigned seen = 0;
    for (int i = 0; i < from.rank; ++i) {
      const int32_t axis = order[static_cast<size_t>(i)];
      if (axis < 0 || axis >= from.rank || (seen >> axis & 1u) != 0) return why->Set("an impossible order of the axes");
      seen |= 1u << axis;
      shape.dims[i] = from.dims[axis];
    }
    const auto offset = [&](int axis, int32_t i) { return i * StrideOf(from, order[static_cast<size_t>(axis)]); };
    return Fill(shape, shape, offset, output, why);
  }
};

class Reverse final : public Rearrangement {
 public:
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    std::vector<int32_t> axes;
    if (!ReadOperands(inputs, &axes)) return why->Set("expected floats and constant axes");
    const Shape& shape = inputs[0]->shape;
    bool reversed[Shape::kMaxRank] = {};
    for (const int32_t given : axes) {
      const int32_t axis = given < 0 ? given + shape.rank : given;
      if (axis < 0 || axis >= shape.rank) return why->Set("the axis does not exist");
      reversed[axis] = true;
    }
    const auto offset = [&](int axis, int32_t i) {
      return (reversed[axis] ? shape.dims[axis] - 1 - i : i) * StrideOf(shape, axis);
    };
    return Fill(shape, shape, offset, output, why);
  }
};

// PAD with zeros, and MIRROR_PAD.
class Pad final : public Rearrangement {
 public:
  enum Mode { kZeros = 0, kReflect = 1, kSymmetric = 2 };  // the latter two as in TFLite's parameters of MIRROR_PAD
  explicit Pad(int32_t mode) : mode_(mode) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    std::vector<int32_t> sides;
    if (!ReadOperands(inputs, &sides) || static_cast<int>(sides.size()) != 2 * inputs[0]->shape.rank ||
        mode_ < kZeros || mode_ > kSymmetric) {
      return why->Set("expected floats and constant paddings");
    }
    const Shape& from = inputs[0]->shape;
    Shape shape = from;
    for (int i = 0; i < from.rank; ++i) {
      const int64_t before = sides[static_cast<size_t>(2 * i)], after = sides[static_cast<size_t>(2 * i + 1)];
      const int64_t most = mode_ == kZeros ? INT32_MAX : mode_ == kReflect ? from.dims[i] - 1 : from.dims[i];
      const int64_t length = from.dims[i] + before + after;
      if (before < 0 || after < 0 || before > most || after > most || length > INT32_MAX) {
        return why->Set("an impossible padding");
      }
      shape.dims[i] = static_cast<int32_t>(length);
    }
    const auto offset = [&](int axis, int32_t i) {
      const int64_t at = Source(int64_t{i} - sides[static_cast<size_t>(2 * axis)], from.dims[axis]);
      return at < 0 ? -1 : at * StrideOf(from, axis);
    };
    return Fill(shape, shape, offset, output, why);
  }

 private:
  int64_t Source(int64_t at, int64_t length) const {
    if (at >= 0 && at < length) return at;
    if (mode_ == kZeros) return -1;
    const int64_t edge = mode_ == kSymmetric ? 1 : 0;  // whether the outermost value is repeated
    return at < 0 ? -at - edge : 2 * length - 2 - at + edge;
  }

  int32_t mode_;
};

class StridedSlice final : public Rearrangement {
 public:
  explicit StridedSlice(const int32_t* p)
      : begin_mask_(p[0]), end_mask_(p[1]), new_masks_(p[2] | p[3]), shrink_mask_(p[4]) {}
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    std::vector<int32_t> begin, end, step;
    if (inputs.size() != 4 || !IsFloat(inputs[0]) || !ReadInts(inputs[1], &begin) || !ReadInts(inputs[2], &end) ||
        !ReadInts(inputs[3], &step) || new_masks_ != 0) {
      return why->Set("expected floats and constant bounds without new axes");
    }
    const Shape& from = inputs[0]->shape;
    if (begin.size() > static_cast<size_t>(from.rank) || end.size() != begin.size() || step.size() != begin.size()) {
      return why->Set("bounds that do not fit the map");
    }
    Shape walk = from, shape;
    int64_t first[Shape::kMaxRank] = {}, stride[Shape::kMaxRank];
    std::fill(stride, stride + Shape::kMaxRank, 1);
    for (int i = 0; i < from.rank; ++i) {
      const auto k = static_cast<size_t>(i);
      const bool shrinks = (shrink_mask_ >> i & 1) != 0;
      if (k < begin.size()) {
        stride[i] = shrinks ? 1 : step[k];
        if (stride[i] == 0) return why->Set("a step of 0");
        first[i] = Bound(begin[k], (begin_mask_ >> i & 1) != 0, stride[i] > 0, stride[i], from.dims[i]);
        int64_t last = Bound(end[k], (end_mask_ >> i & 1) != 0, stride[i] < 0, stride[i], from.dims[i]);
        if (shrinks) last = first[i] + 1;
        const int64_t count = stride[i] > 0 ? (last - first[i] + stride[i] - 1) / stride[i]
                                            : (first[i] - last - stride[i] - 1) / -stride[i];
        if (count < 1 || first[i] < 0 || first[i] >= from.dims[i]) return why->Set("an empty slice");
        walk.dims[i] = static_cast<int32_t>(count);
      }
      if (k >= begin.size() || !shrinks) shape.dims[shape.rank++] = walk.dims[i];
    }
    const auto offset = [&](int axis, int32_t i) { return (first[axis] + i * stride[axis]) * StrideOf(from, axis); };
    return Fill(walk, shape, offset, output, why);
  }

 private:
  // A bound of one axis, clipped to the map: [0, length] for rising and [-1, length - 1] for falling steps.
  static int64_t Bound(int64_t given, bool masked, bool lower, int64_t step, int64_t length) {
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? length : length - 1;
    if (masked) return lower ? low : high;
    return std::min(std::max(given < 0 ? given + length : given, low), high);
  }

  int32_t begin_mask_, end_mask_, new_masks_, shrink_mask_;
};

// DEQUANTIZE of float16, or of int8 with one scale.
class Dequantize final : public FloatOperator {
 public:
  bool Prepare(const Inputs& inputs, LiveTensor* output, Message* why) override {
    const LiveTensor* from = inputs.size() == 1 ? inputs[0] : nullptr;
    const bool half = from != nullptr && from->type == kTfLiteFloat16;
    const bool bytes = from != nullptr && from->type == kTfLiteInt8 && from->scale > 0.0f && from->scale < 1e30f;
    if (!half && !bytes) return why->Set("expected float16, or int8 with one scale");
    if (from->shape.Elements() < 1) return why->Set("expected some values");
    return SetFloats(from->shape, output, why);
  }
  void Run(const Inputs& inputs, void* output) override {
    const LiveTensor& from = *inputs[0];
    auto* to = static_cast<float*>(output);
    const int64_t count = from.shape.Elements();
    if (from.type == kTfLiteFloat16) {
      const auto* halves = static_cast<const uint16_t*>(from.data);
      std::transform(halves, halves + count, to, FloatFromHalf);
      return;
    }
    const auto* bytes = static_cast<const int8_t*>(from.data);
    const auto zero = static_cast<float>(from.zero_point);
    std::transform(bytes, bytes + count, to, [&](int8_t x) { return (static_cast<float>(x) - zero) * from.scale; });
  }
};

}  // namespace

FloatOperator* NewRearrangement(const ModelFile::Operator& op) {
  switch (op.code) {
    case kTfLiteBuiltinReshape: return new (std::nothrow) Reshape;
    case kTfLiteBuiltinConcatenation: return new (std::nothrow) Concatenation(op.parameters);
    case kTfLiteBuiltinPad: return new (std::nothrow) Pad(Pad::kZeros);
    case kTfLiteBuiltinMirrorPad: return new (std::nothrow) Pad(op.parameters[0]);
    case kTfLiteBuiltinTranspose: return new (std::nothrow) Transpose;
    case kTfLiteBuiltinReverseV2: return new (std::nothrow) Reverse;
    case kTfLiteBuiltinStridedSlice: return new (std::nothrow) StridedSlice(op.parameters);
    case kTfLiteBuiltinDequantize: return new (std::nothrow) Dequantize;
    default: return nullptr;
  }
}

}  // namespace bdd
