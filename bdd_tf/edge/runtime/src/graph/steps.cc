// Makes steps of execution from nodes: nodes that run as a whole, and groups of tile operations. For groups, it
// resolves where each operation reads its operands, and which operations pass their value on in registers.
#include <cstring>
#include <utility>

#include "graph/graph_internal.h"

namespace bdd {
namespace {

Buffer<float>* NewConstant(GraphData* graph) {
  graph->constants.emplace_back(new Buffer<float>);
  return graph->constants.back().get();
}

// A constant as aligned floats, each element `repeat` times. Uses the model's own memory if possible.
bool AlignedFloats(GraphData* graph, const Tensor& tensor, int64_t repeat, const float** values, Message* why) {
  const Value& value = tensor.value;
  const int64_t count = value.shape.Elements();
  if (value.constant == nullptr || value.bytes < 4 * count) {
    return why->Set("tensor %d is smaller than its shape", tensor.index);
  }
  if (repeat == 1 && reinterpret_cast<uintptr_t>(value.constant) % alignof(float) == 0) {
    *values = static_cast<const float*>(value.constant);
    return true;
  }
  Buffer<float>& copy = *NewConstant(graph);
  if (!copy.Reset(Times(count, repeat))) return why->Set("no memory");
  for (int64_t i = 0; i < count; ++i) {
    float element = 0;
    std::memcpy(&element, static_cast<const uint8_t*>(value.constant) + 4 * i, 4);
    for (int64_t r = 0; r < repeat; ++r) copy[i * repeat + r] = element;
  }
  *values = copy.data();
  return true;
}

bool MakeWholeStep(GraphData* graph, const Node* node, Message* why) {
  graph->steps.emplace_back(new Step);
  Step& step = *graph->steps.back();
  step.node = node;
  step.level = node->level;
  Tensor& output = graph->output(*node);
  output.stored = !output.external;
  if (node->spec.kind != Kind::kDense) return true;
  const Tensor &weights = graph->input(*node, 1), &bias = graph->input(*node, 2);
  const bool int8 = weights.value.type == kTfLiteInt8;
  return (int8 || AlignedFloats(graph, weights, 1, &step.weights, why)) &&
         AlignedFloats(graph, bias, 1, &step.bias, why);
}

// The group for maps of this shape on this level, which is added if it does not exist yet.
Step* GroupFor(GraphData* graph, const Shape& domain, int level) {
  Step* group = nullptr;
  for (const auto& step : graph->steps) {
    if (step->node == nullptr && step->level == level && step->images == domain.dims[0] &&
        step->height == domain.dims[1] && step->width == domain.dims[2] && step->channels == domain.dims[3]) {
      group = step.get();
    }
  }
  if (group != nullptr) return group;
  graph->steps.emplace_back(new Step);
  group = graph->steps.back().get();
  group->level = level;
  group->images = domain.dims[0];
  group->height = domain.dims[1];
  group->width = domain.dims[2];
  group->channels = domain.dims[3];
  group->chunk_pixels = ChunkPixels(group->width);
  group->chunks = (group->pixels() + group->chunk_pixels - 1) / group->chunk_pixels;
  group->blocks = (group->channels + kTileChannels - 1) / kTileChannels;
  return group;
}

bool MakeOperand(GraphData* graph, const Step& step, int number, Operand* operand, Message* why) {
  const Tensor& tensor = graph->tensor(number);
  const Shape& shape = tensor.value.shape;
  const int64_t elements = shape.Elements(), pixels = step.pixels();
  if (tensor.value.constant != nullptr) {
    const bool map = elements == pixels * step.channels && pixels > 1;
    const bool scalar = elements == 1 && step.channels != 1;
    if (elements > pixels * step.channels) return why->Set("constants of several images are not supported");
    operand->where = map ? Operand::kSharedMap : Operand::kVector;
    return AlignedFloats(graph, tensor, scalar ? step.channels : 1, &operand->constant, why);
  }
  for (const auto& op : step.ops) {
    if (op->value == number) {
      operand->where = Operand::kProduced;
      operand->tensor_number = number;
      return true;
    }
  }
  operand->tensor = &tensor;
  const bool map = shape.rank == 4 && shape.dims[1] == step.height && shape.dims[2] == step.width;
  operand->where = map ? Operand::kMap : Operand::kVector;
  return true;
}

// The slopes of a PReLU that a source of int16 accumulators applies, padded to whole tiles.
bool SetInt16Slopes(GraphData* graph, const Step& step, const Node& node, TileOp* op, Message* why) {
  op->source = node.int16_conv->spec.op->tiles();
  if (!AlignedFloats(graph, graph->input(node, 1), 1, &op->b.constant, why)) return false;
  Buffer<float>& padded = *NewConstant(graph);
  if (!padded.Reset(step.blocks * kTileChannels)) return why->Set("no memory");
  std::copy(op->b.constant, op->b.constant + step.channels, padded.data());
  graph->output(node).slopes = padded.data();
  return true;
}

bool SetOperands(GraphData* graph, const Step& step, const Node& node, TileOp* op, Message* why) {
  const Kind kind = node.spec.kind;
  if (node.int16_conv != nullptr) return SetInt16Slopes(graph, step, node, op, why);
  const int input = node.Inputs()[0];
  if (kind == Kind::kBconv2d || kind == Kind::kSmallConv2d) {
    op->source = node.spec.op->tiles();
  } else if (kind == Kind::kAveragePool) {
    op->a.where = Operand::kMap;
    op->a.tensor = &graph->tensor(input);
    if (op->a.tensor->value.constant != nullptr) return why->Set("its input is a constant");
  } else if (!MakeOperand(graph, step, input, &op->a, why)) {
    return false;
  }
  if (node.fused_prelu != nullptr) {
    op->b.where = Operand::kVector;
    if (!AlignedFloats(graph, graph->input(*node.fused_prelu, 1), 1, &op->b.constant, why)) return false;
  }
  const bool has_second = kind == Kind::kElementwise || kind == Kind::kPrelu;
  return !has_second || MakeOperand(graph, step, node.inputs[1], &op->b, why);
}

// Sinks are placed right after the producer of their input and its other sinks, while the value is in registers; other
// operations at the end.
void InsertOp(Step* step, std::unique_ptr<TileOp> op) {
  auto place = step->ops.end();
  if (IsSink(op->node->spec.kind)) {
    for (auto at = step->ops.begin(); at != step->ops.end(); ++at) {
      if ((*at)->value == op->node->Inputs()[0]) place = at + 1;
    }
    while (place != step->ops.end() && (*place)->value < 0) ++place;
  }
  step->ops.insert(place, std::move(op));
}

bool AddToGroup(GraphData* graph, Step* step, const Node* node, Message* why) {
  std::unique_ptr<TileOp> op(new TileOp);
  op->node = node;
  if (!SetOperands(graph, *step, *node, op.get(), why)) return false;
  if (node->spec.kind == Kind::kMean && !op->partial_sums.Reset(Times(step->chunks, step->channels))) {
    return why->Set("no memory for sums");
  }
  Tensor& output = graph->output(*node);
  const bool sink = IsSink(node->spec.kind);
  if (!sink) op->value = node->output;
  if (sink || output.external || output.last_level > node->level || output.parent >= 0 || node->int16_conv != nullptr) {
    output.stored = !output.external;
    op->result = &output;
  }
  InsertOp(step, std::move(op));
  return true;
}

// Lets sources of int16 accumulators compute the sums of a mean over their result.
void AssignMeansToSources(Step* step) {
  for (const auto& source : step->ops) {
    if (source->node->int16_conv == nullptr) continue;
    for (const auto& op : step->ops) {
      if (op->node->spec.kind != Kind::kMean || op->node->inputs[0] != source->value) continue;
      source->mean = op.get();
      op->computed_by_source = true;
    }
  }
}

// Decides which operations take the value that the previous one leaves in registers.
void PlanRegisters(Step* step) {
  int current = -1, length = 0;  // the value in registers, and the post-ops since it was loaded
  for (const auto& op : step->ops) {
    const auto is_current = [&](const Operand& operand) {
      return current >= 0 && operand.where == Operand::kProduced && operand.tensor_number == current;
    };
    const bool starts = op->StartsTile(), elementwise = op->node->spec.kind == Kind::kElementwise;
    // At the limit of a call of post_ops_f32, the value is stored and loaded again.
    const bool continues = length + kMaxPostOpsOfNode <= kMaxPostOps && !starts;
    op->a_in_registers = continues && is_current(op->a) && !(elementwise && is_current(op->b));
    op->b_in_registers = continues && !op->a_in_registers && elementwise && is_current(op->b) && !is_current(op->a);
    if (op->computed_by_source) continue;
    length = op->a_in_registers || op->b_in_registers ? length + kMaxPostOpsOfNode : kMaxPostOpsOfNode;
    // Sources write a tile, from which the next operation loads. Sinks keep the value in registers, unless they load
    // another one.
    if (op->value >= 0) current = starts ? -1 : op->value;
    if (op->value < 0 && !op->a_in_registers && !is_current(op->a)) current = -1;
  }
}

TileOp* ProducerInStep(const Step& step, const Operand& operand) {
  for (const auto& op : step.ops) {
    if (operand.where == Operand::kProduced && op->value == operand.tensor_number) return op.get();
  }
  return nullptr;
}

// Assigns scratch tiles to results that are needed in memory, and replaces Operand::kProduced. Returns the number of
// tiles.
int AssignSlots(Step* step) {
  int slots = 0;
  const auto needs_memory = [](const TileOp& op, const Operand& operand) {
    const bool in_registers = &operand == &op.a ? op.a_in_registers : op.b_in_registers;
    return operand.where == Operand::kProduced && !in_registers;
  };
  for (const auto& op : step->ops) {
    const bool starts = op->StartsTile();
    if (starts && op->result == nullptr && op->slot < 0) op->slot = slots++;
    for (const Operand* operand : {&op->a, &op->b}) {
      if (starts || !needs_memory(*op, *operand)) continue;
      TileOp* from = ProducerInStep(*step, *operand);
      if (from->result == nullptr && from->slot < 0) from->slot = slots++;
    }
  }
  for (const auto& op : step->ops) {
    for (Operand* operand : {&op->a, &op->b}) {
      const TileOp* from = needs_memory(*op, *operand) ? ProducerInStep(*step, *operand) : nullptr;
      if (from == nullptr) continue;
      operand->where = from->result != nullptr ? Operand::kMap : Operand::kSlot;
      operand->tensor = from->result;
      operand->slot = from->slot;
    }
  }
  return slots;
}

// Lays out a worker's scratch memory, and returns its size in floats.
int64_t PlanScratch(Step* step, int slots) {
  int64_t floats = std::max(slots, 1) * kTileFloats;
  for (const auto& op : step->ops) {
    const int64_t accumulators = op->source != nullptr ? op->source->AccumulatorBufferSize(kChunkPixels) : 0;
    op->accumulator_buffer = accumulators > 0 ? floats : -1;
    floats += (accumulators + 15) / 16 * 16;
    if (op->node->spec.kind != Kind::kFusedPool) continue;
    op->pool_buffer = floats;
    floats += kChunkPixels * kTileChannels;
  }
  return floats;
}

// Whether a group consists of elementwise operations on maps of one pixel with whole blocks.
bool CanTreatBlocksAsPixels(const Step& step) {
  if (step.pixels() != 1 || step.channels % kTileChannels != 0) return false;
  for (const auto& op : step.ops) {
    const Kind kind = op->node->spec.kind;
    const bool plain = kind == Kind::kElementwise || kind == Kind::kPrelu || kind == Kind::kLogistic;
    if (!plain || op->source != nullptr) return false;
  }
  return true;
}

}  // namespace

bool MakeSteps(GraphData* graph, const NodeSpec** culprit, Message* why) {
  graph->worker_scratch = kTileFloats;
  for (const auto& node : graph->nodes) {
    *culprit = &node->spec;
    if (node->in_place || node->fused) continue;
    if (RunsWhole(node->spec.kind)) {
      if (!MakeWholeStep(graph, node.get(), why)) return false;
      continue;
    }
    const int domain = IsSink(node->spec.kind) ? node->inputs[0] : node->output;
    Step* group = GroupFor(graph, graph->tensor(domain).value.shape, node->level);
    if (!AddToGroup(graph, group, node.get(), why)) return false;
  }
  for (const auto& step : graph->steps) {
    if (step->node != nullptr) continue;
    AssignMeansToSources(step.get());
    PlanRegisters(step.get());
    const int slots = AssignSlots(step.get());
    graph->worker_scratch = std::max(graph->worker_scratch, PlanScratch(step.get(), slots));
    step->blocks_as_pixels = CanTreatBlocksAsPixels(*step);
  }
  std::stable_sort(graph->steps.begin(), graph->steps.end(),
                   [](const auto& a, const auto& b) { return a->level < b->level; });
  return true;
}

}  // namespace bdd
