// Splits the consumers of a concatenation: a node that treats each channel by itself is replaced by one node for each
// part, which runs while the part is in registers. Otherwise the whole map would have to be read again, because it has
// more channels than its parts and so belongs to another group.
#include <map>
#include <utility>

#include "graph/graph_internal.h"

namespace bdd {
namespace {

// New nodes, by the node that they follow.
using Followers = std::map<const Node*, std::vector<std::unique_ptr<Node>>>;

// Everything about a node except its operator.
NodeSpec CopyWithoutOperator(const NodeSpec& spec) {
  NodeSpec copy;
  copy.index = spec.index;
  copy.name = spec.name;
  copy.kind = copy.preferred_kind = spec.kind;
  copy.arithmetic = spec.arithmetic;
  copy.has_clamp = spec.has_clamp;
  copy.clamp_min = spec.clamp_min;
  copy.clamp_max = spec.clamp_max;
  copy.keep_dims = spec.keep_dims;
  return copy;
}

// A split tensor is the output of two nodes: the one that was split, and the concatenation of its parts, which comes
// later and counts as the producer.
void NumberProducers(GraphData* graph) {
  for (size_t i = 0; i < graph->nodes.size(); ++i) graph->output(*graph->nodes[i]).producer = static_cast<int>(i);
}

int AddTensor(GraphData* graph, const Value& value) {
  graph->tensors.emplace_back(new Tensor);
  graph->tensors.back()->value = value;
  return static_cast<int>(graph->tensors.size()) - 1;
}

// Whether a node does the same to all pixels of a channel of `input`, and needs only constants for it.
bool IsPerChannel(const GraphData& graph, const Node& node, int input) {
  const Kind kind = node.spec.kind;
  if (kind == Kind::kPrelu && node.int16_conv != nullptr) return false;
  const auto pool_applies = [&](const auto& pool) {
    return pool->spec.kind == Kind::kFusedPool && pool->fused_prelu == &node;
  };
  if (node.fused && std::none_of(graph.nodes.begin(), graph.nodes.end(), pool_applies)) return false;
  if (IsSink(kind) || kind == Kind::kLogistic) return true;
  if (kind != Kind::kElementwise && kind != Kind::kPrelu) return false;
  const Value& other = graph.input(node, node.inputs[0] == input ? 1 : 0).value;
  const int64_t count = other.shape.Elements();
  return other.constant != nullptr && other.bytes >= 4 * count &&
         (count == 1 || count == graph.tensor(input).value.shape.dims[3]);
}

// The channels [first, first + channels) of a constant vector, as a new tensor; a scalar stays as it is.
int SliceConstant(GraphData* graph, int tensor, int64_t first, int32_t channels) {
  Value slice = graph->tensor(tensor).value;
  if (slice.shape.Elements() == 1) return tensor;
  slice.constant = static_cast<const uint8_t*>(slice.constant) + 4 * first;
  slice.bytes = int64_t{4} * channels;
  slice.shape.rank = 1;
  slice.shape.dims[0] = channels;
  return AddTensor(graph, slice);
}

// The copy of `consumer` that reads `part`, channels from `first` on, instead of the tensor `whole`.
std::unique_ptr<Node> CopyForPart(GraphData* graph, const Node& consumer, int whole, int part, int64_t first) {
  const Kind kind = consumer.spec.kind;
  const bool has_vector = kind == Kind::kElementwise || kind == Kind::kPrelu;
  const int32_t channels = graph->tensor(part).value.shape.dims[3];
  std::unique_ptr<Node> node(new Node);
  node->from_split = true;
  node->spec = CopyWithoutOperator(consumer.spec);
  node->fused = consumer.fused;
  for (const int input : consumer.inputs) {
    const int vector = has_vector && input != whole ? SliceConstant(graph, input, first, channels) : input;
    node->inputs.push_back(input == whole ? part : vector);
  }
  Value value = graph->output(consumer).value;
  value.shape.dims[value.shape.rank - 1] = kind == Kind::kQuantize ? channels / 32 : channels;
  node->output = AddTensor(graph, value);
  return node;
}

// Splits the consumers of tensor `whole`, which consists of `parts` made by `producers`. Returns whether no node reads
// the whole tensor any more.
bool SplitConsumers(GraphData* graph, int whole, const std::vector<int>& parts, const std::vector<Node*>& producers,
                    int depth, Followers* followers) {
  constexpr int kMaxDepth = 64;  // a file may contain a chain of any length
  if (depth > kMaxDepth) return false;
  bool all = !graph->tensor(whole).external;
  for (const auto& consumer : graph->nodes) {
    if (!consumer->Reads(whole)) continue;
    if (!IsPerChannel(*graph, *consumer, whole)) {
      all = false;
      continue;
    }
    std::unique_ptr<Node> concatenation(new Node);
    std::vector<Node*> copies;
    int64_t channel = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      std::unique_ptr<Node> copy = CopyForPart(graph, *consumer, whole, parts[i], channel);
      if (consumer->fused_prelu != nullptr) copy->fused_prelu = producers[i];
      concatenation->inputs.push_back(copy->output);
      copies.push_back(copy.get());
      (*followers)[producers[i]].push_back(std::move(copy));
      channel += graph->tensor(parts[i]).value.shape.dims[3];
    }
    consumer->fused = true;
    concatenation->from_split = true;
    concatenation->spec.index = consumer->spec.index;
    concatenation->spec.name = consumer->spec.name;
    concatenation->spec.kind = Kind::kConcatenate;
    concatenation->output = consumer->output;
    if (!IsSink(consumer->spec.kind)) {
      concatenation->fused =
          SplitConsumers(graph, consumer->output, concatenation->inputs, copies, depth + 1, followers);
    }
    (*followers)[consumer.get()].push_back(std::move(concatenation));
  }
  return all;
}

// Whether a concatenation's parts are whole words of bits and are produced on the same level; otherwise early parts
// would have to be stored until the last one is there.
bool IsSplittable(const GraphData& graph, const Node& node) {
  if (node.spec.kind != Kind::kConcatenate || node.fused || !CanConcatenateInPlace(graph, node)) return false;
  const int level = graph.ProducerOf(node.inputs[0])->level;
  for (const int input : node.inputs) {
    const Shape& part = graph.tensor(input).value.shape;
    if (part.dims[3] % kTileChannels != 0 || IsVector(part) || graph.ProducerOf(input)->level != level) return false;
  }
  return true;
}

// Inserts nodes behind those that they follow.
void InsertFollowers(GraphData* graph, Followers* followers) {
  std::vector<std::unique_ptr<Node>> nodes;
  const auto add = [&](std::unique_ptr<Node> node, const auto& again) -> void {
    const auto found = followers->find(node.get());
    nodes.push_back(std::move(node));
    if (found == followers->end()) return;
    for (auto& follower : found->second) again(std::move(follower), again);
  };
  for (auto& node : graph->nodes) add(std::move(node), add);
  graph->nodes = std::move(nodes);
}

}  // namespace

void SplitConcatenations(GraphData* graph) {
  Followers followers;
  for (const auto& node : graph->nodes) {
    if (!IsSplittable(*graph, *node)) continue;
    std::vector<Node*> producers;
    for (const int input : node->inputs) producers.push_back(graph->ProducerOf(input));
    node->fused = SplitConsumers(graph, node->output, node->inputs, producers, 0, &followers);
  }
  if (followers.empty()) return;
  InsertFollowers(graph, &followers);
  NumberProducers(graph);
}

// Restores the nodes and tensors of the runtime.
void RemoveSplitNodes(GraphData* graph) {
  std::vector<std::unique_ptr<Node>>& nodes = graph->nodes;
  nodes.erase(std::remove_if(nodes.begin(), nodes.end(), [](const auto& node) { return node->from_split; }),
              nodes.end());
  graph->tensors.resize(graph->model_tensors);
  NumberProducers(graph);
}

}  // namespace bdd
