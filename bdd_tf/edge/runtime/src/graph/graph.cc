// Building a graph, and the order of the passes that prepare it.
#include "graph/graph.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "graph/graph_internal.h"

namespace bdd {
namespace {

// The number of the runtime's tensor `index` in the graph, which is added if it is new.
int TensorNumber(GraphData* graph, int index) {
  std::vector<int>& indices = graph->tensor_indices;
  const auto found = std::find(indices.begin(), indices.end(), index);
  if (found != indices.end()) return static_cast<int>(found - indices.begin());
  indices.push_back(index);
  graph->tensors.emplace_back(new Tensor);
  graph->tensors.back()->index = index;
  graph->model_tensors = graph->tensors.size();
  return static_cast<int>(graph->tensors.size()) - 1;
}

bool ResizeOutput(TfLiteContext* context, const Tensor& output, Message* why) {
  const Shape& shape = output.value.shape;
  const auto rank = static_cast<size_t>(shape.rank);
  auto* dims = static_cast<TfLiteIntArray*>(std::malloc(sizeof(int) * (rank + 1)));
  if (dims == nullptr) return why->Set("no memory");
  dims->size = shape.rank;
  std::memcpy(dims->data, shape.dims, sizeof(int) * rank);
  // The runtime takes ownership of the array.
  if (context->ResizeTensor(context, &context->tensors[output.index], dims) != kTfLiteOk) {
    return why->Set("the runtime refuses the output's size");
  }
  return true;
}

// Sets the data of the tensors that the runtime holds.
bool SetExternalData(const GraphData& graph, TfLiteContext* context, const NodeSpec** node, Message* why) {
  for (const auto& tensor : graph.tensors) {
    if (!tensor->external) continue;
    const Value& value = tensor->value;
    const TfLiteTensor& from = context->tensors[tensor->index];
    const int64_t needed = Times(value.shape.Elements(), SizeOf(value.type));
    // Constants may be smaller than their shape; Prepare has checked them.
    const bool enough = value.constant != nullptr || (needed >= 0 && from.bytes >= static_cast<size_t>(needed));
    tensor->data = enough ? static_cast<uint8_t*>(from.data) : nullptr;
    if (tensor->data != nullptr) continue;
    *node = &graph.nodes[0]->spec;
    for (const auto& candidate : graph.nodes) {
      const NodeSpec& spec = candidate->spec;
      if (spec.output == tensor->index || (spec.input_count > 0 && spec.inputs[0] == tensor->index)) *node = &spec;
    }
    return why->Set("tensor %d has no memory, or less than its shape needs", tensor->index);
  }
  return true;
}

void SetInternalData(GraphData* graph) {
  for (const auto& tensor : graph->tensors) {
    if (tensor->external || tensor->parent >= 0) continue;
    tensor->data = tensor->stored ? graph->memory.data() + tensor->offset : nullptr;
  }
  for (const auto& tensor : graph->tensors) {
    if (tensor->parent < 0) continue;
    // In blocked layout, OffsetOf counts from the parent's beginning.
    tensor->data = graph->tensor(tensor->parent).data + (tensor->blocked ? 0 : 4 * tensor->parent_channel);
  }
}

}  // namespace

Node* GraphData::SingleUseProducer(int tensor_number) const {
  if (tensor(tensor_number).external) return nullptr;
  const auto reads = [&](const auto& node) { return node->Reads(tensor_number); };
  return std::count_if(nodes.begin(), nodes.end(), reads) == 1 ? ProducerOf(tensor_number) : nullptr;
}

Graph::Graph(const KernelSet* kernels, ThreadPool* pool) : data_(new GraphData(kernels, pool)) {}
Graph::~Graph() = default;

bool Graph::Add(NodeSpec spec, bool external, Message* why) {
  GraphData& graph = *data_;
  std::unique_ptr<Node> node(new Node);
  for (int i = 0; i < spec.input_count; ++i) {
    node->inputs.push_back(spec.inputs[i] == -1 ? -1 : TensorNumber(&graph, spec.inputs[i]));
  }
  node->output = TensorNumber(&graph, spec.output);
  Tensor& output = graph.output(*node);
  if (output.producer >= 0) return why->Set("tensor %d is the output of two nodes", spec.output);
  if (node->Reads(node->output)) return why->Set("tensor %d is input and output of one node", spec.output);
  output.producer = static_cast<int>(graph.nodes.size());
  output.external = external;
  node->spec = std::move(spec);
  graph.nodes.push_back(std::move(node));
  return true;
}

void Graph::SetConstant(int tensor, Buffer<float> values) {
  data_->tensor(TensorNumber(data_.get(), tensor)).constant = std::move(values);
}

bool Graph::Prepare(TfLiteContext* context, const NodeSpec** node, Message* why) {
  GraphData* graph = data_.get();
  graph->steps.clear();
  graph->constants.clear();
  RemoveSplitNodes(graph);
  for (const auto& prepared : graph->nodes) {
    *node = &prepared->spec;
    prepared->spec.kind = prepared->spec.preferred_kind;  // may depend on the size, which may have changed
    graph->output(*prepared).stored = false;
    if (!InferShape(graph, context, prepared.get(), why)) return false;
  }
  FuseActivationsIntoPools(graph);
  if (!FuseInputTransforms(graph, why) || !FuseLookupTables(graph, why)) return false;
  StoreAccumulatorsAsInt16(graph);
  FusePools(graph);
  SetLevels(graph);
  SplitConcatenations(graph);
  SetLevels(graph);
  ConcatenateInPlace(graph);
  ChooseLayouts(graph);
  if (!MakeSteps(graph, node, why) || !PlanMemory(graph, why)) return false;
  for (const auto& prepared : graph->nodes) {
    const Tensor& output = graph->output(*prepared);
    *node = &prepared->spec;
    if (output.external && !ResizeOutput(context, output, why)) return false;
  }
  return true;
}

bool Graph::Run(TfLiteContext* context, const NodeSpec** node, Message* why) {
  if (!SetExternalData(*data_, context, node, why)) return false;
  SetInternalData(data_.get());
  for (const auto& step : data_->steps) RunStep(data_.get(), step.get());
  return true;
}

}  // namespace bdd
