#include "graph.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "graph_parts.h"

namespace bdd {
namespace {

bool Bounded(const Shape& shape) {
  for (int i = 0; i < shape.rank; ++i) {
    if (shape.dims[i] < 1) return false;
  }
  return Times(shape.Elements(), 4) >= 0;
}

}  // namespace

Graph::Graph(const KernelSet* kernels, ThreadPool* pool) : kernels_(*kernels), pool_(*pool) {}
Graph::~Graph() = default;

int Graph::TensorOf(int index) {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (tensors_[i]->index == index) return static_cast<int>(i);
  }
  tensors_.emplace_back(new Tensor);
  tensors_.back()->index = index;
  own_tensors_ = tensors_.size();
  return static_cast<int>(tensors_.size()) - 1;
}

bool Graph::Add(NodeSpec spec, bool external, Message* why) {
  std::unique_ptr<Node> node(new Node);
  for (int i = 0; i < spec.input_count; ++i) {
    node->inputs.push_back(spec.inputs[i] == -1 ? -1 : TensorOf(spec.inputs[i]));
  }
  node->output = TensorOf(spec.output);
  Tensor& output = *tensors_[static_cast<size_t>(node->output)];
  if (output.producer >= 0) return why->Set("tensor %d is made twice", spec.output);
  for (const int input : node->inputs) {
    if (input == node->output) return why->Set("tensor %d is made of itself", spec.output);
  }
  output.producer = static_cast<int>(nodes_.size());
  output.external = external;
  node->spec = std::move(spec);
  nodes_.push_back(std::move(node));
  return true;
}

void Graph::Give(int tensor, Buffer<float> values) {
  tensors_[static_cast<size_t>(TensorOf(tensor))]->given = std::move(values);
}
bool Graph::ReadTensor(TfLiteContext* context, Tensor* tensor, Message* why) const {
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
  if (tensor->given.size() > 0) {
    value.constant = tensor->given.data();
    value.bytes = 4 * tensor->given.size();
  }
  return true;
}

// The shape of a node's output, checked against its inputs. Constants of Lce* operators are taken over here.
bool Graph::Infer(TfLiteContext* context, Node* node, Message* why) {
  for (const int input : node->inputs) {
    if (input < 0) continue;
    Tensor& tensor = *tensors_[static_cast<size_t>(input)];
    if (tensor.producer < 0 && !ReadTensor(context, &tensor, why)) return false;
    if (tensor.producer < 0) tensor.external = tensor.given.size() == 0;
  }
  Tensor& output = *tensors_[static_cast<size_t>(node->output)];
  if (!ReadTensor(context, &output, why)) return false;
  if (output.value.constant != nullptr) return why->Set("tensor %d, its output, is a constant", output.index);
  if (node->spec.op == nullptr) return InferFloats(node, why);
  const Value* inputs[NodeSpec::kMaxInputs] = {};
  for (size_t i = 0; i < node->inputs.size(); ++i) {
    if (node->inputs[i] >= 0) inputs[i] = &tensors_[static_cast<size_t>(node->inputs[i])]->value;
  }
  if (node->spec.kind == Kind::kConvolution && node->inputs[0] >= 0 && inputs[0]->constant != nullptr) {
    return why->Set("its input is a constant");
  }
  if (!node->spec.op->Prepare(inputs, node->spec.input_count, kernels_, &output.value, why)) return false;
  // Operators that cannot give tiles run as a whole.
  const Kind kind = node->spec.kind;
  if (kind == Kind::kBconv && node->spec.op->tiles() == nullptr) node->spec.kind = Kind::kOperator;
  if (kind == Kind::kQuantize && (inputs[0]->type != kTfLiteFloat32 || inputs[0]->shape.rank != 4)) {
    node->spec.kind = Kind::kOperator;
  }
  return true;
}

bool Graph::InferFloats(Node* node, Message* why) {
  const auto value = [&](size_t i) -> const Value& { return tensors_[static_cast<size_t>(node->inputs[i])]->value; };
  Value& output = tensors_[static_cast<size_t>(node->output)]->value;
  const auto needs = [&](size_t count) {
    if (node->inputs.size() < count) return false;
    for (size_t i = 0; i < count; ++i) {
      if (node->inputs[i] < 0) return false;
    }
    return true;
  };
  const Kind kind = node->spec.kind;
  const bool with_axes = kind == Kind::kMean || kind == Kind::kReverse;
  const size_t count = kind == Kind::kCombine || kind == Kind::kPrelu || with_axes ? 2
                       : kind == Kind::kDense                                      ? 3
                       : kind == Kind::kConcatenate                                ? node->inputs.size()
                                                                                   : 1;
  if (!needs(count) || count == 0) return why->Set("not the inputs it takes");
  const TfLiteType wanted = kind == Kind::kCast ? kTfLiteUInt8 : kTfLiteFloat32;
  for (size_t i = 0; i < count; ++i) {
    if (with_axes && i == 1) continue;
    const bool bytes = kind == Kind::kDense && i == 1 && value(i).type == kTfLiteInt8;
    if (bytes && (value(i).zero_point != 0 || !(value(i).scale > 0.0f) || !std::isfinite(value(i).scale)))
      return why->Set("int8 weights without a scale, or with a zero point");
    if (!bytes && value(i).type != wanted) return why->Set("input %d has not the type it takes", static_cast<int>(i));
    if (RunsWhole(kind) && kind != Kind::kConcatenate && kind != Kind::kDense && value(i).constant != nullptr)
      return why->Set("its input is a constant");
    if (!Bounded(value(i).shape)) return why->Set("input %d has an impossible size", static_cast<int>(i));
  }
  if (output.type != kTfLiteFloat32) return why->Set("the output is not float32");
  const Shape& first = value(0).shape;
  Shape shape = first;
  switch (kind) {
    case Kind::kCombine: {
      // The larger operand gives the shape; the other one may repeat along pixels or images.
      const Shape& second = value(1).shape;
      const bool swapped = first.rank != 4 || (second.rank == 4 && second.Elements() > first.Elements());
      shape = swapped ? second : first;
      const Shape& other = swapped ? first : second;
      const int64_t channels = shape.dims[3];
      if (shape.rank != 4) return why->Set("neither input is a map");
      const bool constant = value(swapped ? 0 : 1).constant != nullptr;
      const bool one_image = other.rank == 4 && other.dims[0] == 1 && other.dims[1] == shape.dims[1] &&
                             other.dims[2] == shape.dims[2] && other.dims[3] == channels;
      const bool per_channel = other.Elements() == channels && other.rank > 0 && other.dims[other.rank - 1] == channels;
      const bool per_image = IsVector(other) && other.dims[0] == shape.dims[0] && other.dims[3] == channels;
      if (!SameShape(shape, other) && !per_image &&
          !(constant && (one_image || per_channel || other.Elements() == 1))) {
        return why->Set("its inputs' sizes do not go together");
      }
      break;
    }
    case Kind::kPrelu:
      if (first.rank != 4 || value(1).constant == nullptr || value(1).shape.Elements() != first.dims[3]) {
        return why->Set("the slopes are not a constant per channel");
      }
      break;
    case Kind::kLogistic:
    case Kind::kCast:
      if (first.rank != 4) return why->Set("the input is no map");
      break;
    case Kind::kReverse: {
      const Value& axes = value(1);
      int32_t axis = 0;
      if (first.rank != 4 || axes.type != kTfLiteInt32 || axes.constant == nullptr || axes.shape.Elements() != 1 ||
          axes.bytes < 4) {
        return why->Set("it does not go along one constant axis of a map");
      }
      std::memcpy(&axis, axes.constant, sizeof axis);
      if (axis != 1 && axis != 2) return why->Set("it goes neither along height nor along width");
      node->spec.axis = axis;
      break;
    }
    case Kind::kMean: {
      const Value& axes = value(1);
      int32_t found[2] = {};
      if (first.rank != 4 || axes.type != kTfLiteInt32 || axes.constant == nullptr || axes.shape.Elements() != 2 ||
          axes.bytes < 8) {
        return why->Set("it is not taken over two constant axes");
      }
      std::memcpy(found, axes.constant, sizeof found);
      for (int32_t& axis : found) axis = axis < 0 && axis >= -4 ? axis + 4 : axis;
      if (found[0] + found[1] != 3 || found[0] * found[1] != 2)
        return why->Set("it is not taken over height and width");
      if (node->spec.keep_dims) {
        shape.dims[1] = shape.dims[2] = 1;
      } else {
        shape.rank = 2;
        shape.dims[1] = first.dims[3];
      }
      break;
    }
    case Kind::kMeanOfFour:
      if (first.rank != 4 || first.dims[1] % 2 != 0 || first.dims[2] % 2 != 0)
        return why->Set("the map has an odd size");
      shape.dims[1] /= 2;
      shape.dims[2] /= 2;
      break;
    case Kind::kConcatenate: {
      int64_t channels = 0;
      for (size_t i = 0; i < count; ++i) {
        const Shape& part = value(i).shape;
        if (part.rank != 4 || !std::equal(part.dims, part.dims + 3, first.dims))
          return why->Set("its inputs differ in size");
        channels += part.dims[3];
      }
      if (channels > INT32_MAX) return why->Set("too many channels");
      shape.dims[3] = static_cast<int32_t>(channels);
      break;
    }
    case Kind::kDense: {
      const Shape &weights = value(1).shape, &bias = value(2).shape;
      if (!IsVector(first) || weights.rank != 4 || weights.dims[1] != 1 || weights.dims[2] != 1 ||
          weights.dims[3] != first.dims[3] || bias.Elements() != weights.dims[0] || value(1).constant == nullptr ||
          value(2).constant == nullptr || value(1).bytes < weights.Elements() * SizeOf(value(1).type) ||
          value(2).bytes < bias.Elements() * 4) {
        return why->Set("it is not a constant 1 x 1 filter on a map of 1 x 1");
      }
      shape.dims[3] = weights.dims[0];
      break;
    }
    default: break;
  }
  if (!Bounded(shape)) return why->Set("the output would be too large");
  output.shape = shape;
  return true;
}
bool Graph::Prepare(TfLiteContext* context, const NodeSpec** node, Message* why) {
  steps_.clear();
  constants_.clear();
  ForgetSplits();
  for (const auto& made : nodes_) {
    *node = &made->spec;
    made->spec.kind = made->spec.wanted;  // what ran as a whole for one size may give tiles for another
    tensors_[static_cast<size_t>(made->output)]->stored = false;
    if (!Infer(context, made.get(), why)) return false;
  }
  AbsorbActivations();
  if (!AbsorbFeeds(why) || !AbsorbChains(why)) return false;
  KeepDots();
  SinkPools();
  SetLevels();
  SplitConcatenations();
  SetLevels();
  JoinConcatenations();
  ChooseLayouts();
  if (!MakeSteps(node, why) || !PlaceInMemory(why)) return false;
  for (const auto& made : nodes_) {
    const Tensor& output = *tensors_[static_cast<size_t>(made->output)];
    if (!output.external) continue;
    *node = &made->spec;
    const auto rank = static_cast<size_t>(output.value.shape.rank);
    auto* dims = static_cast<TfLiteIntArray*>(std::malloc(sizeof(int) * (rank + 1)));
    if (dims == nullptr) return why->Set("no memory");
    dims->size = output.value.shape.rank;
    std::memcpy(dims->data, output.value.shape.dims, sizeof(int) * rank);
    // The runtime takes the array.
    if (context->ResizeTensor(context, &context->tensors[output.index], dims) != kTfLiteOk) {
      return why->Set("the runtime refuses the output's size");
    }
  }
  return true;
}

}  // namespace bdd
