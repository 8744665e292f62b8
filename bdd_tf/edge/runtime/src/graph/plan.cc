// Planning passes: levels, concatenations in place, and the layout of maps.
#include "graph/graph_internal.h"

namespace bdd {

// See graph.h for what a level is.
void SetLevels(GraphData* graph) {
  for (const auto& tensor : graph->tensors) tensor->first_level = tensor->last_level = 0;
  for (const auto& node : graph->nodes) {
    const Kind kind = node->spec.kind;
    const bool by_pixel = IsSink(kind) || kind == Kind::kElementwise || kind == Kind::kPrelu || kind == Kind::kLogistic;
    const Shape& domain = graph->tensor(IsSink(kind) ? node->inputs[0] : node->output).value.shape;
    node->level = 0;
    for (const int input : node->Inputs()) {
      const Node* producer = input >= 0 ? graph->ProducerOf(input) : nullptr;
      if (producer == nullptr) continue;
      const bool same_group =
          by_pixel && ProducesTiles(producer->spec.kind) && SameShape(graph->tensor(input).value.shape, domain);
      node->level = std::max(node->level, producer->level + (same_group ? 0 : 1));
    }
    graph->output(*node).first_level = node->level;
  }
  for (const auto& node : graph->nodes) {
    if (node->fused) continue;
    for (const int input : node->Inputs()) {
      if (input < 0) continue;
      Tensor& tensor = graph->tensor(input);
      tensor.last_level = std::max(tensor.last_level, node->level);
    }
  }
}

bool CanConcatenateInPlace(const GraphData& graph, const Node& node) {
  for (const int input : node.inputs) {
    const Node* producer = graph.ProducerOf(input);
    if (graph.tensor(input).external || producer == nullptr ||
        std::count(node.inputs.begin(), node.inputs.end(), input) > 1) {
      return false;
    }
    if (!ProducesTiles(producer->spec.kind) && producer->spec.kind != Kind::kFusedPool) return false;
    // Only tile operations can read a map whose stride is that of the whole output.
    for (const auto& consumer : graph.nodes) {
      const Kind kind = consumer->spec.kind;
      const bool reads_whole = RunsWhole(kind) || kind == Kind::kSmallConv2d;
      if (reads_whole && consumer.get() != &node && consumer->Reads(input)) return false;
    }
  }
  return true;
}

// Where possible, the producers of a concatenation's inputs write directly into its output.
void ConcatenateInPlace(GraphData* graph) {
  for (const auto& tensor : graph->tensors) {
    tensor->parent = -1;
    tensor->parent_channel = 0;
    const Shape& shape = tensor->value.shape;
    tensor->stride = shape.rank > 0 ? shape.dims[shape.rank - 1] : 1;
  }
  for (const auto& node : graph->nodes) {
    node->in_place = node->spec.kind == Kind::kConcatenate && !node->fused &&
                     (node->from_split || CanConcatenateInPlace(*graph, *node));
    if (!node->in_place) continue;
    int64_t channel = 0;
    Tensor& output = graph->output(*node);
    for (const int input : node->inputs) {
      Tensor& part = graph->tensor(input);
      part.parent = node->output;
      part.parent_channel = channel;
      channel += part.stride;
      output.first_level = std::min(output.first_level, part.first_level);
      output.last_level = std::max(output.last_level, part.last_level);
    }
    for (const int input : node->inputs) graph->tensor(input).stride = channel;
  }
}

namespace {

// Whether only tile operations produce and read a map of floats.
bool IsForTilesOnly(const GraphData& graph, int number) {
  const Tensor& tensor = graph.tensor(number);
  const Shape& shape = tensor.value.shape;
  const Node* producer = graph.ProducerOf(number);
  if (tensor.external || producer == nullptr || tensor.value.type != kTfLiteFloat32 || shape.rank != 4 ||
      IsVector(shape)) {
    return false;
  }
  if (!ProducesTiles(producer->spec.kind) && producer->spec.kind != Kind::kFusedPool && !producer->in_place) {
    return false;
  }
  for (const auto& consumer : graph.nodes) {
    const Kind kind = consumer->spec.kind;
    const bool reads_whole = RunsWhole(kind) || kind == Kind::kSmallConv2d;
    const bool removed = consumer->fused && kind == Kind::kConcatenate;
    if (reads_whole && !consumer->in_place && !removed && consumer->Reads(number)) return false;
  }
  return true;
}

void SetBlocked(Tensor* tensor, int64_t blocks) {
  tensor->blocked = true;
  tensor->blocks = blocks;
  tensor->stride = kTileChannels;
}

}  // namespace

// Stores maps by blocks of channels where only tile operations touch them.
void ChooseLayouts(GraphData* graph) {
  for (const auto& tensor : graph->tensors) tensor->blocked = false;
  for (size_t i = 0; i < graph->tensors.size(); ++i) {
    Tensor& tensor = *graph->tensors[i];
    // Parts of a concatenation have the layout of its output.
    if (tensor.parent >= 0 || !IsForTilesOnly(*graph, static_cast<int>(i))) continue;
    const Shape& shape = tensor.value.shape;
    const int64_t blocks = (int64_t{shape.dims[3]} + kTileChannels - 1) / kTileChannels;
    const Node& producer = *graph->ProducerOf(static_cast<int>(i));
    const std::vector<int> parts = producer.in_place ? producer.inputs : std::vector<int>();
    bool possible = Times(Times(shape.Product(0, 3), blocks * kTileChannels), sizeof(float)) >= 0;
    for (const int part : parts) {
      possible =
          possible && IsForTilesOnly(*graph, part) && graph->tensor(part).value.shape.dims[3] % kTileChannels == 0;
    }
    if (!possible) continue;
    SetBlocked(&tensor, blocks);
    for (const int part : parts) SetBlocked(&graph->tensor(part), blocks);
  }
}

}  // namespace bdd
