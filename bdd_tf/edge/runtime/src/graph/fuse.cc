// Fusion passes: fold activations, pools and input transforms into the node that produces or consumes them.
#include <cstring>

#include "graph/graph_internal.h"

namespace bdd {
namespace {

float Compute(Arithmetic arithmetic, float a, float b) {
  switch (arithmetic) {
    case Arithmetic::kAdd: return a + b;
    case Arithmetic::kSubtract: return a - b;
    case Arithmetic::kMultiply: return a * b;
    case Arithmetic::kMaximum: return a > b ? a : b;
    default: return a < b ? a : b;
  }
}

// Which input of an elementwise node is a constant (a scalar or one value per channel) where the other one is not; -1
// if neither is.
int ConstantInput(const GraphData& graph, const Node& node, int32_t channels) {
  const Value &a = graph.input(node, 0).value, &b = graph.input(node, 1).value;
  if ((a.constant != nullptr) == (b.constant != nullptr)) return -1;
  const int64_t count = (a.constant != nullptr ? a : b).shape.Elements();
  if (count != 1 && count != channels) return -1;
  return a.constant != nullptr ? 0 : 1;
}

int32_t ChannelsOf(const GraphData& graph, int tensor) { return graph.tensor(tensor).value.shape.dims[3]; }

// The elementwise operations with constants that produce `tensor`, last one first, and in *first the node before them.
std::vector<Node*> ConstantOpsBefore(const GraphData& graph, int tensor, Node** first) {
  std::vector<Node*> chain;
  const int32_t channels = ChannelsOf(graph, tensor);
  for (*first = graph.SingleUseProducer(tensor); *first != nullptr && (*first)->spec.kind == Kind::kElementwise;) {
    const int constant = ConstantInput(graph, **first, channels);
    if (constant < 0) break;
    chain.push_back(*first);
    *first = graph.SingleUseProducer((*first)->inputs[constant == 0 ? 1 : 0]);
  }
  return chain;
}

// The elementwise operations with constants that are applied to the result of `node`, last one first.
std::vector<Node*> ConstantOpsAfter(const GraphData& graph, Node* node) {
  std::vector<Node*> chain;
  for (Node* last = node;;) {
    if (graph.SingleUseProducer(last->output) != last) return chain;
    Node* next = nullptr;
    for (const auto& consumer : graph.nodes) {
      if (consumer->Reads(last->output) && consumer->spec.kind == Kind::kElementwise) next = consumer.get();
    }
    if (next == nullptr || ConstantInput(graph, *next, ChannelsOf(graph, last->output)) < 0) return chain;
    chain.insert(chain.begin(), next);
    last = next;
  }
}

// Fills table[channel][byte] with the result of a cast followed by `chain` (last operation first).
bool FillTable(const GraphData& graph, const Node& cast, const std::vector<Node*>& chain, Buffer<float>* table,
               Message* why) {
  Buffer<float>& values = *table;
  if (!values.Reset(Times(ChannelsOf(graph, cast.output), 256))) return why->Set("no memory");
  for (int64_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 256);
  for (auto at = chain.rbegin(); at != chain.rend(); ++at) {
    const NodeSpec& spec = (*at)->spec;
    const bool constant_first = graph.input(**at, 0).value.constant != nullptr;
    const Value& constant = graph.input(**at, constant_first ? 0 : 1).value;
    const int64_t count = constant.shape.Elements();
    if (constant.bytes < 4 * count) return why->Set("a constant is smaller than its shape");
    for (int64_t i = 0; i < values.size(); ++i) {
      float b = 0;
      std::memcpy(&b, static_cast<const uint8_t*>(constant.constant) + 4 * (count == 1 ? 0 : i / 256), 4);
      float& x = values[i];
      x = constant_first ? Compute(spec.arithmetic, b, x) : Compute(spec.arithmetic, x, b);
      if (spec.has_clamp) x = std::min(std::max(x, spec.clamp_min), spec.clamp_max);
    }
  }
  return true;
}

}  // namespace

// A PReLU that is read by a pool only does not need a map of its own: the pool applies it to the pixels it loads.
void FuseActivationsIntoPools(GraphData* graph) {
  for (const auto& node : graph->nodes) {
    node->fused_prelu = nullptr;
    node->fused = false;
  }
  for (const auto& node : graph->nodes) {
    if (node->spec.kind != Kind::kAveragePool) continue;
    Node* producer = graph->SingleUseProducer(node->inputs[0]);
    if (producer == nullptr || producer->spec.kind != Kind::kPrelu ||
        graph->input(*producer, 0).value.constant != nullptr) {
      continue;
    }
    node->fused_prelu = producer;
    producer->fused = true;
  }
}

// A small convolution flips its input and converts bytes to floats while it copies the input to pad it.
bool FuseInputTransforms(GraphData* graph, Message* why) {
  for (const auto& node : graph->nodes) {
    node->fused_inputs.clear();
    if (node->spec.kind != Kind::kSmallConv2d) continue;
    InputTransform* transform = node->spec.small_conv2d->input_transform();
    transform->bytes = transform->planar = transform->flip_rows = transform->flip_columns = false;
    int input = node->inputs[0];
    Node* producer = graph->SingleUseProducer(input);
    for (; producer != nullptr && producer->spec.kind == Kind::kReverse; producer = graph->SingleUseProducer(input)) {
      bool& flip = producer->spec.axis == 1 ? transform->flip_rows : transform->flip_columns;
      flip = !flip;
      producer->fused = true;
      input = producer->inputs[0];
    }
    const std::vector<Node*> chain = ConstantOpsBefore(*graph, input, &producer);
    if (producer != nullptr && producer->spec.kind == Kind::kCast) {
      if (!FillTable(*graph, *producer, chain, &transform->table, why)) return false;
      transform->bytes = true;
      for (Node* operation : chain) operation->fused = true;
      producer->fused = true;
      input = producer->inputs[0];
    }
    producer = graph->SingleUseProducer(input);
    if (producer != nullptr && producer->spec.kind == Kind::kOperator) {
      transform->planar = producer->spec.op->SetPlanarOutput(true);
    }
    node->spec.small_conv2d->ApplyInputTransform();
    if (input != node->inputs[0]) node->fused_inputs = {input};
  }
  return true;
}

// A cast of bytes and the elementwise operations with constants after it become one lookup per byte.
bool FuseLookupTables(GraphData* graph, Message* why) {
  for (const auto& node : graph->nodes) node->table = nullptr;
  for (const auto& cast : graph->nodes) {
    if (cast->spec.kind != Kind::kCast || cast->fused) continue;
    const std::vector<Node*> chain = ConstantOpsAfter(*graph, cast.get());
    if (chain.empty()) continue;
    Node* last = chain.front();
    graph->constants.emplace_back(new Buffer<float>);
    if (!FillTable(*graph, *cast, chain, graph->constants.back().get(), why)) return false;
    last->table = graph->constants.back().get();
    last->fused_inputs = cast->inputs;
    last->spec.kind = Kind::kLookupTable;
    cast->fused = true;
    for (Node* operation : chain) operation->fused = operation != last;
  }
  return true;
}

// The map that a gate scales must be stored until the gate's mean is known. If the map is the PReLU of a binary
// convolution, its int16 accumulators are stored instead: half the bytes, at the price of applying the affine function
// and the PReLU twice.
void StoreAccumulatorsAsInt16(GraphData* graph) {
  for (const auto& tensor : graph->tensors) tensor->affine = {};
  for (const auto& node : graph->nodes) {
    node->int16_conv = nullptr;
    if (node->spec.kind != Kind::kPrelu || node->fused) continue;
    Node* conv = graph->SingleUseProducer(node->inputs[0]);
    Tensor& output = graph->output(*node);
    // For maps of one pixel a vector cannot be told from a map.
    if (conv == nullptr || conv->spec.kind != Kind::kBconv2d || output.external || IsVector(output.value.shape)) {
      continue;
    }
    const TileSource::Affine affine = conv->spec.op->tiles()->int16_affine();
    if (affine.multiplier == nullptr) continue;
    int means = 0, gates = 0, others = 0;
    for (const auto& consumer : graph->nodes) {
      if (!consumer->Reads(node->output)) continue;
      const bool is_gate = consumer->spec.kind == Kind::kElementwise && consumer->inputs[0] == node->output &&
                           consumer->inputs[1] != node->output && IsVector(graph->input(*consumer, 1).value.shape);
      ++(consumer->spec.kind == Kind::kMean ? means : is_gate ? gates : others);
    }
    if (others > 0 || means > 1 || gates == 0) continue;
    node->int16_conv = conv;
    conv->fused = true;
    output.affine = affine;
  }
}

// A pool whose input is produced tile by tile takes its pixels from the tiles, so that the large map need not be
// stored.
void FusePools(GraphData* graph) {
  for (const auto& node : graph->nodes) {
    if (node->spec.kind != Kind::kAveragePool || node->spec.has_clamp) continue;
    const int input = node->Inputs()[0];
    const Node* producer = graph->ProducerOf(input);
    if (producer == nullptr || !HoldsPairsOfRows(graph->tensor(input).value.shape.dims[2])) continue;
    const Kind kind = producer->spec.kind;
    if (ProducesTiles(kind) || kind == Kind::kConcatenate) node->spec.kind = Kind::kFusedPool;
  }
}

}  // namespace bdd
