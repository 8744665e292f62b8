// Shape inference. The runtime's shapes are not trusted: every node's inputs are checked, and its output's shape is
// computed from theirs.
#include <cmath>
#include <cstring>

#include "graph/graph_internal.h"

namespace bdd {
namespace {

// Whether all dimensions are positive and the floats fit a buffer.
bool IsPossible(const Shape& shape) {
  for (int i = 0; i < shape.rank; ++i) {
    if (shape.dims[i] < 1) return false;
  }
  return Times(shape.Elements(), 4) >= 0;
}

bool ReadTensor(TfLiteContext* context, Tensor* tensor, Message* why) {
  if (tensor->index < 0 || static_cast<size_t>(tensor->index) >= context->tensors_size) {
    return why->Set("there is no tensor %d", tensor->index);
  }
  const TfLiteTensor& from = context->tensors[tensor->index];
  Value& value = tensor->value;
  value = Value();
  value.type = from.type;
  value.scale = from.params.scale;
  value.zero_point = from.params.zero_point;
  if (from.dims == nullptr || from.dims->size < 0 || from.dims->size > Shape::kMaxRank) {
    return why->Set("tensor %d has no shape, or too many axes", tensor->index);
  }
  value.shape.rank = from.dims->size;
  for (int i = 0; i < from.dims->size; ++i) value.shape.dims[i] = from.dims->data[i];
  if (from.allocation_type == kTfLiteMmapRo || from.allocation_type == kTfLitePersistentRo) {
    value.constant = from.data;
    value.bytes = static_cast<int64_t>(from.bytes < size_t{kMaxBytes} ? from.bytes : size_t{kMaxBytes});
  }
  if (tensor->constant.size() > 0) {
    value.constant = tensor->constant.data();
    value.bytes = 4 * tensor->constant.size();
  }
  return true;
}

// Prepares an operator of ops/.
bool InferOperator(const GraphData& graph, Node* node, Value* output, Message* why) {
  const Value* inputs[NodeSpec::kMaxInputs] = {};
  for (size_t i = 0; i < node->inputs.size(); ++i) {
    if (node->inputs[i] >= 0) inputs[i] = &graph.input(*node, i).value;
  }
  NodeSpec& spec = node->spec;
  if (spec.kind == Kind::kSmallConv2d && inputs[0] != nullptr && inputs[0]->constant != nullptr) {
    return why->Set("its input is a constant");
  }
  if (!spec.op->Prepare(inputs, spec.input_count, graph.kernels, output, why)) return false;
  // Operators that cannot produce tiles run as a whole.
  if (spec.kind == Kind::kBconv2d && spec.op->tiles() == nullptr) spec.kind = Kind::kOperator;
  if (spec.kind == Kind::kQuantize && (inputs[0]->type != kTfLiteFloat32 || inputs[0]->shape.rank != 4)) {
    spec.kind = Kind::kOperator;
  }
  return true;
}

// Reads `count` int32 axes. Returns false if they are not a constant.
bool ReadAxes(const Value& axes, int count, int32_t* found) {
  if (axes.type != kTfLiteInt32 || axes.constant == nullptr || axes.shape.Elements() != count ||
      axes.bytes < 4 * count) {
    return false;
  }
  std::memcpy(found, axes.constant, 4 * static_cast<size_t>(count));
  return true;
}

// Builtin operators on floats. `shape` is the first input's on entry, and the output's on return.
class FloatInference {
 public:
  FloatInference(const GraphData& graph, Node* node, Message* why) : graph_(graph), node_(*node), why_(why) {}

  bool Infer(Value* output) {
    if (!CheckInputs()) return false;
    if (output->type != kTfLiteFloat32) return why_->Set("the output is not float32");
    Shape shape = input(0).shape;
    if (!InferKind(&shape)) return false;
    if (!IsPossible(shape)) return why_->Set("the output is too large");
    output->shape = shape;
    return true;
  }

 private:
  const Value& input(size_t i) const { return graph_.input(node_, i).value; }

  size_t InputCount() const {
    switch (node_.spec.kind) {
      case Kind::kElementwise:
      case Kind::kPrelu:
      case Kind::kMean:
      case Kind::kReverse: return 2;
      case Kind::kDense: return 3;
      case Kind::kConcatenate: return node_.inputs.size();
      default: return 1;
    }
  }

  bool CheckInputs() {
    const Kind kind = node_.spec.kind;
    const size_t count = InputCount();
    bool present = count > 0 && node_.inputs.size() >= count;
    for (size_t i = 0; present && i < count; ++i) present = node_.inputs[i] >= 0;
    if (!present) return why_->Set("some of its inputs are missing");
    const bool has_axes = kind == Kind::kMean || kind == Kind::kReverse;
    for (size_t i = 0; i < (has_axes ? 1 : count); ++i) {
      if (!CheckInput(i)) return false;
    }
    return true;
  }

  bool CheckInput(size_t i) {
    const Kind kind = node_.spec.kind;
    const Value& value = input(i);
    const TfLiteType type = kind == Kind::kCast ? kTfLiteUInt8 : kTfLiteFloat32;
    if (kind == Kind::kDense && i == 1 && value.type == kTfLiteInt8) {
      if (value.zero_point != 0 || !(value.scale > 0.0f) || !std::isfinite(value.scale)) {
        return why_->Set("the int8 weights have no scale, or a zero point");
      }
    } else if (value.type != type) {
      return why_->Set("input %d has the wrong type", static_cast<int>(i));
    }
    const bool reads_constants = kind == Kind::kConcatenate || kind == Kind::kDense;
    if (RunsWhole(kind) && !reads_constants && value.constant != nullptr) return why_->Set("its input is a constant");
    if (!IsPossible(value.shape)) return why_->Set("input %d has an impossible size", static_cast<int>(i));
    return true;
  }

  bool InferKind(Shape* shape) {
    switch (node_.spec.kind) {
      case Kind::kElementwise: return InferElementwise(shape);
      case Kind::kPrelu:
        return (shape->rank == 4 && input(1).constant != nullptr && input(1).shape.Elements() == shape->dims[3]) ||
               why_->Set("the slopes are not a constant per channel");
      case Kind::kLogistic:
      case Kind::kCast: return shape->rank == 4 || why_->Set("the input is not a map");
      case Kind::kReverse: return InferReverse(*shape);
      case Kind::kMean: return InferMean(shape);
      case Kind::kAveragePool: return InferPool(shape);
      case Kind::kConcatenate: return InferConcatenation(shape);
      case Kind::kDense: return InferDense(shape);
      default: return true;
    }
  }

  // The larger operand has the output's shape. The other one may repeat along pixels, or (a constant) along images.
  bool InferElementwise(Shape* shape) {
    const Shape &first = input(0).shape, &second = input(1).shape;
    const bool swapped = first.rank != 4 || (second.rank == 4 && second.Elements() > first.Elements());
    *shape = swapped ? second : first;
    const Shape& other = swapped ? first : second;
    if (shape->rank != 4) return why_->Set("neither input is a map");
    if (SameShape(*shape, other)) return true;
    const int64_t channels = shape->dims[3];
    const bool per_image = IsVector(other) && other.dims[0] == shape->dims[0] && other.dims[3] == channels;
    const bool one_image = other.rank == 4 && other.dims[0] == 1 && other.dims[1] == shape->dims[1] &&
                           other.dims[2] == shape->dims[2] && other.dims[3] == channels;
    const bool per_channel = other.Elements() == channels && other.rank > 0 && other.dims[other.rank - 1] == channels;
    const bool constant = input(swapped ? 0 : 1).constant != nullptr;
    return per_image || (constant && (one_image || per_channel || other.Elements() == 1)) ||
           why_->Set("the sizes of its inputs do not match");
  }

  bool InferReverse(const Shape& shape) {
    int32_t axis = 0;
    if (shape.rank != 4 || !ReadAxes(input(1), 1, &axis)) {
      return why_->Set("it does not reverse a map along one constant axis");
    }
    if (axis != 1 && axis != 2) return why_->Set("it reverses neither height nor width");
    node_.spec.axis = axis;
    return true;
  }

  bool InferMean(Shape* shape) {
    int32_t axes[2] = {};
    if (shape->rank != 4 || !ReadAxes(input(1), 2, axes)) return why_->Set("it is not taken over two constant axes");
    for (int32_t& axis : axes) axis = axis < 0 && axis >= -4 ? axis + 4 : axis;
    if (axes[0] + axes[1] != 3 || axes[0] * axes[1] != 2) return why_->Set("it is not taken over height and width");
    if (node_.spec.keep_dims) {
      shape->dims[1] = shape->dims[2] = 1;
    } else {
      shape->rank = 2;
      shape->dims[1] = shape->dims[3];
    }
    return true;
  }

  bool InferPool(Shape* shape) {
    if (shape->rank != 4 || shape->dims[1] % 2 != 0 || shape->dims[2] % 2 != 0) {
      return why_->Set("the map has an odd size");
    }
    shape->dims[1] /= 2;
    shape->dims[2] /= 2;
    return true;
  }

  bool InferConcatenation(Shape* shape) {
    int64_t channels = 0;
    for (size_t i = 0; i < node_.inputs.size(); ++i) {
      const Shape& part = input(i).shape;
      if (part.rank != 4 || !std::equal(part.dims, part.dims + 3, shape->dims)) {
        return why_->Set("the sizes of its inputs differ");
      }
      channels += part.dims[3];
    }
    if (channels > INT32_MAX) return why_->Set("too many channels");
    shape->dims[3] = static_cast<int32_t>(channels);
    return true;
  }

  bool InferDense(Shape* shape) {
    const Value &weights = input(1), &bias = input(2);
    const int32_t* dims = weights.shape.dims;
    if (!IsVector(*shape) || weights.shape.rank != 4 || dims[1] != 1 || dims[2] != 1 || dims[3] != shape->dims[3] ||
        bias.shape.Elements() != dims[0] || weights.constant == nullptr || bias.constant == nullptr ||
        weights.bytes < weights.shape.Elements() * SizeOf(weights.type) || bias.bytes < bias.shape.Elements() * 4) {
      return why_->Set("it is not a constant 1 x 1 filter on a map of 1 x 1");
    }
    shape->dims[3] = dims[0];
    return true;
  }

  const GraphData& graph_;
  Node& node_;
  Message* why_;
};

}  // namespace

bool InferShape(GraphData* graph, TfLiteContext* context, Node* node, Message* why) {
  for (const int number : node->inputs) {
    if (number < 0 || graph->tensor(number).producer >= 0) continue;
    Tensor& tensor = graph->tensor(number);
    if (!ReadTensor(context, &tensor, why)) return false;
    tensor.external = tensor.constant.size() == 0;
  }
  Tensor& output = graph->output(*node);
  if (!ReadTensor(context, &output, why)) return false;
  if (output.value.constant != nullptr) return why->Set("its output, tensor %d, is a constant", output.index);
  if (node->spec.op != nullptr) return InferOperator(*graph, node, &output.value, why);
  return FloatInference(*graph, node, why).Infer(&output.value);
}

}  // namespace bdd
