// Preparation, its first part: nodes whose work others do on the way.
#include <cmath>
#include <cstring>

#include "graph_parts.h"

namespace bdd {

// What a node really reads: a pool with an activation in front reads the latter's input.
const std::vector<int>& Graph::Sources(const Node& node) {
  if (node.dots != nullptr) return node.dots->inputs;
  return node.prelu != nullptr ? node.prelu->inputs : !node.fed.empty() ? node.fed : node.inputs;
}

// The node that makes a tensor, where one node alone reads it.
Graph::Node* Graph::OnlyMaker(int number) {
  const Tensor& tensor = *tensors_[static_cast<size_t>(number)];
  const auto reads = [&](const auto& n) { return std::count(n->inputs.begin(), n->inputs.end(), number) > 0; };
  const bool alone = std::count_if(nodes_.begin(), nodes_.end(), reads) == 1;
  return alone && tensor.producer >= 0 && !tensor.external ? nodes_[static_cast<size_t>(tensor.producer)].get()
                                                           : nullptr;
}

// What a chain of operations with constants makes of each byte, for each channel.
bool Graph::FillTable(const Node& cast, const std::vector<Node*>& chain, Buffer<float>* filled, Message* why) {
  const int64_t channels = tensors_[static_cast<size_t>(cast.output)]->value.shape.dims[3];
  Buffer<float>& table = *filled;
  if (!table.Reset(Times(channels, 256))) return why->Set("no memory");
  for (int64_t i = 0; i < table.size(); ++i) table[i] = static_cast<float>(i % 256);
  for (auto at = chain.rbegin(); at != chain.rend(); ++at) {
    const NodeSpec& spec = (*at)->spec;
    const bool first = tensors_[static_cast<size_t>((*at)->inputs[0])]->value.constant != nullptr;
    const Value& value = tensors_[static_cast<size_t>((*at)->inputs[first ? 0 : 1])]->value;
    const int64_t count = value.shape.Elements();
    if (value.bytes < 4 * count) return why->Set("a constant holds too little");
    for (int64_t i = 0; i < table.size(); ++i) {
      float other = 0;
      std::memcpy(&other, static_cast<const uint8_t*>(value.constant) + 4 * (count == 1 ? 0 : i / 256), 4);
      float& x = table[i];
      x = first ? Combine(spec.arithmetic, other, x) : Combine(spec.arithmetic, x, other);
      if (spec.has_bounds) x = std::min(std::max(x, spec.low), spec.high);
    }
  }
  return true;
}

// The operations with constants that make a tensor, the last one first, and what they begin with.
std::vector<Graph::Node*> Graph::ChainBehind(int input, Node** first) {
  std::vector<Node*> chain;
  const int32_t channels = tensors_[static_cast<size_t>(input)]->value.shape.dims[3];
  for (*first = OnlyMaker(input); *first != nullptr && (*first)->spec.kind == Kind::kCombine;) {
    const Node& node = **first;
    const Value& a = tensors_[static_cast<size_t>(node.inputs[0])]->value;
    const Value& b = tensors_[static_cast<size_t>(node.inputs[1])]->value;
    const Value& constant = a.constant != nullptr ? a : b;
    const int64_t count = constant.shape.Elements();
    if ((a.constant != nullptr) == (b.constant != nullptr) || (count != 1 && count != channels)) break;
    chain.push_back(*first);
    *first = OnlyMaker(node.inputs[a.constant != nullptr ? 1 : 0]);
  }
  return chain;
}

// Where bytes become floats and these others, one by one, each byte's result is looked up.
bool Graph::AbsorbChains(Message* why) {
  for (const auto& node : nodes_) node->table = nullptr;
  for (const auto& cast : nodes_) {
    if (cast->spec.kind != Kind::kCast || cast->absorbed) continue;
    // Forward, as long as one operation with constants alone reads what was made.
    std::vector<Node*> chain;
    for (Node* made = cast.get(); made != nullptr;) {
      Node* next = nullptr;
      for (const auto& reader : nodes_) {
        const bool reads = std::count(reader->inputs.begin(), reader->inputs.end(), made->output) > 0;
        if (reads && OnlyMaker(made->output) == made && reader->spec.kind == Kind::kCombine) next = reader.get();
      }
      if (next == nullptr) break;
      const Value& a = tensors_[static_cast<size_t>(next->inputs[0])]->value;
      const Value& b = tensors_[static_cast<size_t>(next->inputs[1])]->value;
      const int64_t count = (a.constant != nullptr ? a : b).shape.Elements();
      const int32_t channels = tensors_[static_cast<size_t>(made->output)]->value.shape.dims[3];
      if ((a.constant != nullptr) == (b.constant != nullptr) || (count != 1 && count != channels)) break;
      chain.insert(chain.begin(), next);
      made = next;
    }
    if (chain.empty()) continue;
    Node* last = chain.front();
    constants_.emplace_back(new Buffer<float>);
    if (!FillTable(*cast, chain, constants_.back().get(), why)) return false;
    last->table = constants_.back().get();
    last->fed = cast->inputs;
    last->spec.kind = Kind::kTable;
    cast->absorbed = true;
    for (Node* node : chain) node->absorbed = node != last;
  }
  return true;
}

// A convolution copies its input anyway, to pad it: it turns it around on the way, and makes floats of bytes.
bool Graph::AbsorbFeeds(Message* why) {
  for (const auto& node : nodes_) {
    node->fed.clear();
    if (node->spec.kind != Kind::kConvolution) continue;
    Feed* feed = node->spec.convolution->feed();
    feed->bytes = feed->planes = feed->flip_rows = feed->flip_columns = false;
    int input = node->inputs[0];
    Node* maker = OnlyMaker(input);
    for (; maker != nullptr && maker->spec.kind == Kind::kReverse; maker = OnlyMaker(input)) {
      bool& flip = maker->spec.axis == 1 ? feed->flip_rows : feed->flip_columns;
      flip = !flip;
      maker->absorbed = true;
      input = maker->inputs[0];
    }
    const std::vector<Node*> chain = ChainBehind(input, &maker);
    if (maker != nullptr && maker->spec.kind == Kind::kCast) {
      if (!FillTable(*maker, chain, &feed->table, why)) return false;
      feed->bytes = true;
      for (Node* absorbed : chain) absorbed->absorbed = true;
      maker->absorbed = true;
      input = maker->inputs[0];
    }
    maker = OnlyMaker(input);
    if (maker != nullptr && maker->spec.kind == Kind::kOperator) feed->planes = maker->spec.op->GivesPlanes(true);
    node->spec.convolution->SetOffsets();
    if (input != node->inputs[0]) node->fed = {input};
  }
  return true;
}

// An activation that only a pool reads needs no map of its own: the pool applies it to each pixel it loads.
void Graph::AbsorbActivations() {
  for (const auto& node : nodes_) {
    node->prelu = nullptr;
    node->absorbed = false;
  }
  for (const auto& node : nodes_) {
    if (node->spec.kind != Kind::kMeanOfFour) continue;
    Node* maker = OnlyMaker(node->inputs[0]);
    if (maker == nullptr || maker->spec.kind != Kind::kPrelu ||
        tensors_[static_cast<size_t>(maker->inputs[0])]->value.constant != nullptr) {
      continue;
    }
    node->prelu = maker;
    maker->absorbed = true;
  }
}

// A pool whose input comes tile by tile takes it from there; the large map need not be in memory.
void Graph::SinkPools() {
  for (const auto& node : nodes_) {
    if (node->spec.kind != Kind::kMeanOfFour || node->spec.has_bounds) continue;
    const Tensor& input = *tensors_[static_cast<size_t>(Sources(*node)[0])];
    if (input.producer < 0 || !HoldsPairsOfRows(input.value.shape.dims[2])) continue;
    const Kind from = nodes_[static_cast<size_t>(input.producer)]->spec.kind;
    if (MakesTiles(from) || from == Kind::kConcatenate) node->spec.kind = Kind::kPoolSink;
  }
}

// What a gate scales has to wait in memory until its mean is known. Where that is PReLU of a binary convolution, its
// dot products wait instead: half the bytes, and the few operations on them are done again.
void Graph::KeepDots() {
  for (const auto& tensor : tensors_) tensor->transform = {};
  for (const auto& node : nodes_) {
    node->dots = nullptr;
    if (node->spec.kind != Kind::kPrelu || node->absorbed) continue;
    Node* conv = OnlyMaker(node->inputs[0]);
    Tensor& output = *tensors_[static_cast<size_t>(node->output)];
    // On maps of one pixel vectors are maps.
    if (conv == nullptr || conv->spec.kind != Kind::kBconv || output.external || IsVector(output.value.shape)) continue;
    const TileSource::Transform transform = conv->spec.op->tiles()->transform();
    if (transform.multiplier == nullptr) continue;
    int means = 0, products = 0, others = 0;
    for (const auto& reader : nodes_) {
      if (std::count(reader->inputs.begin(), reader->inputs.end(), node->output) == 0) continue;
      const bool combines = reader->spec.kind == Kind::kCombine && reader->inputs[0] == node->output &&
                            reader->inputs[1] != node->output &&
                            IsVector(tensors_[static_cast<size_t>(reader->inputs[1])]->value.shape);
      ++(reader->spec.kind == Kind::kMean ? means : combines ? products : others);
    }
    if (others > 0 || means > 1 || products == 0) continue;
    node->dots = conv;
    conv->absorbed = true;
    output.transform = transform;
  }
}

}  // namespace bdd
