// Preparation, its second part: levels, groups of nodes, and where values lie.
#include <cstring>
#include <utility>

#include "graph_parts.h"

namespace bdd {

void Graph::SetLevels() {
  for (const auto& tensor : tensors_) tensor->first = tensor->last = 0;
  for (const auto& made : nodes_) {
    Node& node = *made;
    const Kind kind = node.spec.kind;
    const bool by_pixel = IsSink(kind) || kind == Kind::kCombine || kind == Kind::kPrelu || kind == Kind::kLogistic;
    const Shape& domain = tensors_[static_cast<size_t>(IsSink(kind) ? node.inputs[0] : node.output)]->value.shape;
    node.level = 0;
    for (const int input : Sources(node)) {
      if (input < 0 || tensors_[static_cast<size_t>(input)]->producer < 0) continue;
      const Tensor& tensor = *tensors_[static_cast<size_t>(input)];
      const Node& producer = *nodes_[static_cast<size_t>(tensor.producer)];
      const Kind from = producer.spec.kind;
      const bool together = by_pixel && MakesTiles(from) && SameShape(tensor.value.shape, domain);
      node.level = std::max(node.level, producer.level + (together ? 0 : 1));
    }
    tensors_[static_cast<size_t>(node.output)]->first = node.level;
  }
  for (const auto& node : nodes_) {
    if (node->absorbed) continue;
    for (const int input : Sources(*node)) {
      if (input < 0) continue;
      Tensor& tensor = *tensors_[static_cast<size_t>(input)];
      tensor.last = std::max(tensor.last, node->level);
    }
  }
}

// Whether the parts of a concatenation can be written to their place at once.
bool Graph::Joinable(const Node& node) const {
  for (const int input : node.inputs) {
    const Tensor& part = *tensors_[static_cast<size_t>(input)];
    if (part.external || part.producer < 0 || std::count(node.inputs.begin(), node.inputs.end(), input) > 1) {
      return false;
    }
    const Kind from = nodes_[static_cast<size_t>(part.producer)]->spec.kind;
    if (!MakesTiles(from) && from != Kind::kPoolSink) return false;
    // Other readers would have to know about the stride; only tiles do.
    for (const auto& reader : nodes_) {
      const bool reads = std::count(reader->inputs.begin(), reader->inputs.end(), input) > 0;
      const Kind kind = reader->spec.kind;
      if (reads && reader.get() != &node && (RunsWhole(kind) || kind == Kind::kConvolution)) return false;
    }
  }
  return true;
}

// A concatenation costs nothing where its parts can be written to their place at once.
void Graph::JoinConcatenations() {
  for (const auto& tensor : tensors_) {
    tensor->whole = -1;
    tensor->part = 0;
    const Shape& shape = tensor->value.shape;
    tensor->stride = shape.rank > 0 ? shape.dims[shape.rank - 1] : 1;
  }
  for (const auto& node : nodes_) {
    node->joined = false;
    if (node->spec.kind != Kind::kConcatenate || node->absorbed || !(node->split || Joinable(*node))) continue;
    node->joined = true;
    int64_t channel = 0;
    Tensor& whole = *tensors_[static_cast<size_t>(node->output)];
    for (const int input : node->inputs) {
      Tensor& part = *tensors_[static_cast<size_t>(input)];
      part.whole = node->output;
      part.part = channel;
      channel += part.stride;
      whole.first = std::min(whole.first, part.first);
      whole.last = std::max(whole.last, part.last);
    }
    for (const int input : node->inputs) tensors_[static_cast<size_t>(input)]->stride = channel;
  }
}

// Maps that only tiles touch are stored by blocks of channels.
void Graph::ChooseLayouts() {
  const auto fits = [&](int number) {
    const Tensor& tensor = *tensors_[static_cast<size_t>(number)];
    const Shape& shape = tensor.value.shape;
    if (tensor.external || tensor.producer < 0 || tensor.value.type != kTfLiteFloat32 || shape.rank != 4 ||
        IsVector(shape)) {
      return false;
    }
    const Node& producer = *nodes_[static_cast<size_t>(tensor.producer)];
    if (!MakesTiles(producer.spec.kind) && producer.spec.kind != Kind::kPoolSink && !producer.joined) return false;
    for (const auto& reader : nodes_) {
      const Kind kind = reader->spec.kind;
      const bool reads = std::count(reader->inputs.begin(), reader->inputs.end(), number) > 0;
      const bool gone = reader->absorbed && kind == Kind::kConcatenate;
      if (reads && !reader->joined && !gone && (RunsWhole(kind) || kind == Kind::kConvolution)) return false;
    }
    return true;
  };
  const auto set = [](Tensor* tensor, int64_t blocks) {
    tensor->blocked = true;
    tensor->blocks = blocks;
    tensor->stride = kTileChannels;
  };
  for (const auto& tensor : tensors_) tensor->blocked = false;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    Tensor& tensor = *tensors_[i];
    // Parts follow the whole.
    if (tensor.whole >= 0 || !fits(static_cast<int>(i))) continue;
    const int64_t blocks = (int64_t{tensor.value.shape.dims[3]} + kTileChannels - 1) / kTileChannels;
    const Node& producer = *nodes_[static_cast<size_t>(tensor.producer)];
    bool possible = Times(Times(tensor.value.shape.Product(0, 3), blocks * kTileChannels), sizeof(float)) >= 0;
    for (const int part : producer.joined ? producer.inputs : std::vector<int>()) {
      possible =
          possible && fits(part) && tensors_[static_cast<size_t>(part)]->value.shape.dims[3] % kTileChannels == 0;
    }
    if (!possible) continue;
    set(&tensor, blocks);
    for (const int part : producer.joined ? producer.inputs : std::vector<int>()) {
      set(tensors_[static_cast<size_t>(part)].get(), blocks);
    }
  }
}

// A constant as aligned floats, each value `repeat` times; the model's own memory where that serves.
bool Graph::Floats(const Tensor& tensor, int64_t count, int64_t repeat, const float** values, Message* why) {
  const Value& value = tensor.value;
  if (value.constant == nullptr || value.bytes < 4 * count) return why->Set("tensor %d holds too little", tensor.index);
  if (repeat == 1 && reinterpret_cast<uintptr_t>(value.constant) % alignof(float) == 0) {
    *values = static_cast<const float*>(value.constant);
    return true;
  }
  constants_.emplace_back(new Buffer<float>);
  Buffer<float>& copy = *constants_.back();
  if (!copy.Reset(Times(count, repeat))) return why->Set("no memory");
  for (int64_t i = 0; i < count; ++i) {
    float number = 0;
    std::memcpy(&number, static_cast<const uint8_t*>(value.constant) + 4 * i, 4);
    for (int64_t r = 0; r < repeat; ++r) copy[i * repeat + r] = number;
  }
  *values = copy.data();
  return true;
}

bool Graph::MakeOperand(const Node& node, int input, const Step& step, Operand* operand, Message* why) {
  const int number = Sources(node)[static_cast<size_t>(input)];
  const Tensor& tensor = *tensors_[static_cast<size_t>(number)];
  const Shape& shape = tensor.value.shape;
  const int64_t elements = shape.Elements(), pixels = step.height * step.width;
  if (tensor.value.constant != nullptr) {
    const bool whole_map = elements == pixels * step.channels && pixels > 1;
    const bool scalar = elements == 1 && step.channels != 1;
    // A constant batch of maps is rare; only one image's map is taken.
    if (elements > pixels * step.channels) return why->Set("a constant of a batch's size");
    operand->where = whole_map ? Operand::kShared : Operand::kVector;
    return Floats(tensor, elements, scalar ? step.channels : 1, &operand->constant, why);
  }
  for (const auto& op : step.ops) {
    if (op->value == number) {
      operand->where = Operand::kTile;
      operand->slot = number;
      return true;
    }
  }
  operand->tensor = &tensor;
  const bool map = shape.rank == 4 && shape.dims[1] == step.height && shape.dims[2] == step.width;
  operand->where = map ? Operand::kMap : Operand::kVector;
  return true;
}

bool Graph::AddToGroup(Step* step, Node* node, Message* why) {
  std::unique_ptr<TileOp> op(new TileOp);
  op->node = node;
  const Kind kind = node->spec.kind;
  if (node->dots != nullptr) {
    op->source = node->dots->spec.op->tiles();
    const Tensor& slopes = *tensors_[static_cast<size_t>(node->inputs[1])];
    if (!Floats(slopes, step->channels, 1, &op->b.constant, why)) return false;
    // Whole tiles of them are read.
    constants_.emplace_back(new Buffer<float>);
    if (!constants_.back()->Reset(step->blocks * kTileChannels)) return why->Set("no memory");
    std::copy(op->b.constant, op->b.constant + step->channels, constants_.back()->data());
    tensors_[static_cast<size_t>(node->output)]->slopes = constants_.back()->data();
  } else if (kind == Kind::kBconv || kind == Kind::kConvolution) {
    op->source = node->spec.op->tiles();
  } else if (kind == Kind::kMeanOfFour) {
    op->a.where = Operand::kMap;
    op->a.tensor = tensors_[static_cast<size_t>(Sources(*node)[0])].get();
    if (op->a.tensor->value.constant != nullptr) return why->Set("its input is a constant");
  } else if (!MakeOperand(*node, 0, *step, &op->a, why)) {
    return false;
  }
  if (node->prelu != nullptr) {
    const Tensor& slopes = *tensors_[static_cast<size_t>(node->prelu->inputs[1])];
    op->b.where = Operand::kVector;
    if (!Floats(slopes, slopes.value.shape.Elements(), 1, &op->b.constant, why)) return false;
  }
  const bool two = kind == Kind::kCombine || (kind == Kind::kPrelu && node->dots == nullptr);
  if (two && !MakeOperand(*node, 1, *step, &op->b, why)) return false;
  if (kind == Kind::kMean) {
    if (!op->partial.Reset(Times(step->chunks, step->channels))) return why->Set("no memory for sums");
  }
  Tensor& output = *tensors_[static_cast<size_t>(node->output)];
  const bool sink = IsSink(kind);
  if (!sink) op->value = node->output;
  if (sink || output.external || output.last > node->level || output.whole >= 0 || node->dots != nullptr) {
    output.stored = !output.external;
    op->result = &output;
  }
  auto place = step->ops.end();
  if (sink) {
    // Right behind what makes its input and that one's other sinks, while the value is at hand.
    for (auto at = step->ops.begin(); at != step->ops.end(); ++at) {
      if ((*at)->value == Sources(*node)[0]) place = at + 1;
    }
    while (place != step->ops.end() && (*place)->value < 0) ++place;
  }
  step->ops.insert(place, std::move(op));
  return true;
}

// Which operations hand their value on in registers, and which have to leave it in a tile.
void Graph::PlanChains(Step* step) {
  int slots = 0;
  for (const auto& source : step->ops) {
    if (source->node->dots == nullptr) continue;
    for (const auto& op : step->ops) {
      if (op->node->spec.kind != Kind::kMean || op->node->inputs[0] != source->value) continue;
      source->mean = op.get();
      op->done_by_source = true;
    }
  }
  const auto maker = [&](const Operand& operand) -> TileOp* {
    for (const auto& op : step->ops) {
      if (operand.where == Operand::kTile && op->value == operand.slot) return op.get();
    }
    return nullptr;
  };
  int current = -1, length = 0;
  for (const auto& op : step->ops) {
    const bool starts = op->source != nullptr || op->node->spec.kind == Kind::kMeanOfFour;
    const auto is_current = [&](const Operand& o) {
      return current >= 0 && o.where == Operand::kTile && o.slot == current;
    };
    const bool combines = op->node->spec.kind == Kind::kCombine;
    // Chains have a limit; there a value is put down and taken up again.
    const bool room = length + kLongestOp <= kMaxChain;
    op->flows = room && !starts && is_current(op->a) && !(combines && is_current(op->b));
    op->flows_in_b = room && !starts && !op->flows && combines && is_current(op->b) && !is_current(op->a);
    if (op->done_by_source) continue;
    length = op->flows || op->flows_in_b ? length + kLongestOp : kLongestOp;
    // Sinks leave the value as it is, but for those of another map, which they load; sources write a tile, from which
    // the next one loads.
    if (op->value >= 0) current = starts ? -1 : op->value;
    if (op->value < 0 && !op->flows && !is_current(op->a)) current = -1;
  }
  for (const auto& op : step->ops) {
    const bool starts = op->source != nullptr || op->node->spec.kind == Kind::kMeanOfFour;
    if (starts && op->result == nullptr && op->slot < 0) op->slot = slots++;
    for (Operand* operand : {&op->a, &op->b}) {
      const bool in_register = operand == &op->a ? op->flows : op->flows_in_b;
      if (operand->where != Operand::kTile || in_register || starts) continue;
      TileOp* from = maker(*operand);
      if (from->result == nullptr && from->slot < 0) from->slot = slots++;
    }
  }
  // From now on operands name tiles, or maps, instead of the tensors that lie there.
  for (const auto& op : step->ops) {
    for (Operand* operand : {&op->a, &op->b}) {
      const bool in_register = operand == &op->a ? op->flows : op->flows_in_b;
      if (operand->where != Operand::kTile || in_register) continue;
      const TileOp* from = maker(*operand);
      if (from == nullptr) continue;
      if (from->result != nullptr) {
        operand->where = Operand::kMap;
        operand->tensor = from->result;
      } else {
        operand->where = Operand::kSlot;
        operand->slot = from->slot;
      }
    }
  }
  int64_t floats = std::max(slots, 1) * kTileFloats;
  for (const auto& op : step->ops) {
    const int64_t numbers = op->source != nullptr ? op->source->ItemNumbers(kChunkPixels) : 0;
    op->item = numbers > 0 ? floats : -1;
    floats += (numbers + 15) / 16 * 16;
    if (op->node->spec.kind != Kind::kPoolSink) continue;
    op->made = floats;
    floats += kChunkPixels * kTileChannels;
  }
  scratch_floats_ = std::max(scratch_floats_, floats);
}

bool Graph::MakeSteps(const NodeSpec** culprit, Message* why) {
  scratch_floats_ = kTileFloats;
  for (const auto& made : nodes_) {
    Node* node = made.get();
    *culprit = &node->spec;
    const Kind kind = node->spec.kind;
    if ((kind == Kind::kConcatenate && node->joined) || node->absorbed) continue;
    const Tensor& output = *tensors_[static_cast<size_t>(node->output)];
    if (RunsWhole(kind)) {
      steps_.emplace_back(new Step);
      steps_.back()->whole = node;
      steps_.back()->level = node->level;
      tensors_[static_cast<size_t>(node->output)]->stored = !output.external;
      if (kind == Kind::kDense) {
        const float* unused = nullptr;  // aligned copies are made once, in order: weights, then bias
        const Tensor &weights = *tensors_[static_cast<size_t>(node->inputs[1])],
                     &bias = *tensors_[static_cast<size_t>(node->inputs[2])];
        const bool bytes = weights.value.type == kTfLiteInt8;
        if (!bytes && !Floats(weights, weights.value.shape.Elements(), 1, &unused, why)) return false;
        steps_.back()->ops.emplace_back(new TileOp);
        steps_.back()->ops.back()->a.constant = unused;
        if (!Floats(bias, bias.value.shape.Elements(), 1, &unused, why)) return false;
        steps_.back()->ops.back()->b.constant = unused;
      }
      continue;
    }
    const Shape& domain =
        IsSink(kind) ? tensors_[static_cast<size_t>(node->inputs[0])]->value.shape : output.value.shape;
    Step* group = nullptr;
    for (const auto& step : steps_) {
      if (step->whole == nullptr && step->level == node->level && step->images == domain.dims[0] &&
          step->height == domain.dims[1] && step->width == domain.dims[2] && step->channels == domain.dims[3]) {
        group = step.get();
      }
    }
    if (group == nullptr) {
      steps_.emplace_back(new Step);
      group = steps_.back().get();
      group->level = node->level;
      group->images = domain.dims[0];
      group->height = domain.dims[1];
      group->width = domain.dims[2];
      group->channels = domain.dims[3];
      group->chunk = ChunkPixels(group->width);
      group->chunks = (group->height * group->width + group->chunk - 1) / group->chunk;
      group->blocks = (group->channels + kTileChannels - 1) / kTileChannels;
    }
    if (!AddToGroup(group, node, why)) return false;
  }
  for (const auto& step : steps_) {
    if (step->whole != nullptr) continue;
    PlanChains(step.get());
    step->column = step->height * step->width == 1 && step->channels % kTileChannels == 0;
    for (const auto& op : step->ops) {
      const Kind kind = op->node->spec.kind;
      const bool plain = kind == Kind::kCombine || kind == Kind::kPrelu || kind == Kind::kLogistic;
      step->column = step->column && plain && op->source == nullptr;
    }
  }
  std::stable_sort(steps_.begin(), steps_.end(), [](const auto& a, const auto& b) { return a->level < b->level; });
  return true;
}

// Values share memory where their levels do not meet: first fit, the largest first.
bool Graph::PlaceInMemory(Message* why) {
  std::vector<Tensor*> stored;
  const auto bytes = [](const Tensor& t) {
    const int64_t number = t.transform.multiplier != nullptr ? 2 : SizeOf(t.value.type);
    const int64_t count =
        t.blocked ? Times(t.value.shape.Product(0, 3), t.blocks * kTileChannels) : t.value.shape.Elements();
    const int64_t size = Times(count, number);
    return size < 0 ? kMaxBytes + 64 : (size + 63) / 64 * 64;  // too large: refused below
  };
  for (const auto& tensor : tensors_) {
    if (tensor->stored && tensor->whole >= 0)
      tensors_[static_cast<size_t>(tensor->whole)]->stored |= !tensors_[static_cast<size_t>(tensor->whole)]->external;
  }
  for (const auto& tensor : tensors_) {
    if (tensor->stored && tensor->whole < 0) stored.push_back(tensor.get());
  }
  std::stable_sort(stored.begin(), stored.end(),
                   [&](const Tensor* a, const Tensor* b) { return bytes(*a) > bytes(*b); });
  int64_t total = 0;
  std::vector<Tensor*> placed;
  for (Tensor* tensor : stored) {
    std::vector<const Tensor*> others;  // that live at the same time, by place
    for (const Tensor* other : placed) {
      if (other->first <= tensor->last && tensor->first <= other->last) others.push_back(other);
    }
    std::sort(others.begin(), others.end(), [](const Tensor* a, const Tensor* b) { return a->offset < b->offset; });
    int64_t at = 0;
    for (const Tensor* other : others) {
      if (at + bytes(*tensor) <= other->offset) break;
      at = std::max(at, other->offset + bytes(*other));
    }
    tensor->offset = at;
    total = std::max(total, at + bytes(*tensor));
    placed.push_back(tensor);
  }
  // A pool of places may never be touched by a smaller model later: Reset keeps what suffices.
  if (total > kMaxBytes || !memory_.Reset(total) || !scratch_.Reset(Times(scratch_floats_, pool_.threads()))) {
    return why->Set("no memory for %lld bytes of maps", static_cast<long long>(total));
  }
  return true;
}

}  // namespace bdd
