// Preparation: what works on each channel of a concatenation by itself works on its parts instead, while these are in
// registers. Otherwise the whole map would have to be read again: its channels are more than those of a part, so that
// the two are no group.
#include <utility>

#include "graph_parts.h"

namespace bdd {

namespace {

// What is known about a node, but for its operator.
NodeSpec CopyOf(const NodeSpec& spec) {
  NodeSpec copy;
  copy.index = spec.index;
  copy.name = spec.name;
  copy.kind = copy.wanted = spec.kind;
  copy.arithmetic = spec.arithmetic;
  copy.has_bounds = spec.has_bounds;
  copy.low = spec.low;
  copy.high = spec.high;
  copy.keep_dims = spec.keep_dims;
  return copy;
}

}  // namespace

// Puts nodes and tensors back to those of the runtime.
void Graph::ForgetSplits() {
  nodes_.erase(std::remove_if(nodes_.begin(), nodes_.end(), [](const auto& node) { return node->split; }),
               nodes_.end());
  tensors_.resize(own_tensors_);
  NumberProducers();
}

// What is made twice counts as made by the later node: the concatenation of a split one's parts.
void Graph::NumberProducers() {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    tensors_[static_cast<size_t>(nodes_[i]->output)]->producer = static_cast<int>(i);
  }
}

// Whether a node does the same to each pixel of a channel of `input`, with constants.
bool Graph::Spreads(const Node& node, int input) const {
  const Kind kind = node.spec.kind;
  if (kind == Kind::kPrelu && node.dots != nullptr) return false;
  const auto takes = [&](const auto& pool) { return pool->spec.kind == Kind::kPoolSink && pool->prelu == &node; };
  if (node.absorbed && std::none_of(nodes_.begin(), nodes_.end(), takes)) return false;
  if (IsSink(kind) || kind == Kind::kLogistic) return true;
  if (kind != Kind::kCombine && kind != Kind::kPrelu) return false;
  const Value& other = tensors_[static_cast<size_t>(node.inputs[node.inputs[0] == input ? 1 : 0])]->value;
  const int64_t count = other.shape.Elements();
  return other.constant != nullptr && other.bytes >= 4 * count &&
         (count == 1 || count == tensors_[static_cast<size_t>(input)]->value.shape.dims[3]);
}

// `makers` make `parts`, which make up `whole`. Whether nobody reads the whole any more.
bool Graph::SpreadReaders(int whole, const std::vector<int>& parts, const std::vector<Node*>& makers, int depth,
                          Behind* behind) {
  constexpr int kDeepest = 64;  // a file may hold a chain of any length
  if (depth > kDeepest) return false;
  const auto new_tensor = [&](Value value) {
    tensors_.emplace_back(new Tensor);
    tensors_.back()->value = value;
    return static_cast<int>(tensors_.size()) - 1;
  };
  bool all = !tensors_[static_cast<size_t>(whole)]->external;
  for (const auto& reader : nodes_) {
    if (std::count(reader->inputs.begin(), reader->inputs.end(), whole) == 0) continue;
    if (!Spreads(*reader, whole)) {
      all = false;
      continue;
    }
    const Kind kind = reader->spec.kind;
    const bool by_channel = kind == Kind::kCombine || kind == Kind::kPrelu;
    std::unique_ptr<Node> gather(new Node);
    std::vector<Node*> made;
    int64_t channel = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      const int32_t channels = tensors_[static_cast<size_t>(parts[i])]->value.shape.dims[3];
      std::unique_ptr<Node> node(new Node);
      node->split = true;
      node->spec = CopyOf(reader->spec);
      node->absorbed = reader->absorbed;
      if (reader->prelu != nullptr) node->prelu = makers[i];
      for (const int input : reader->inputs) {
        node->inputs.push_back(input == whole ? parts[i] : input);
        if (input == whole || !by_channel) continue;
        Value slice = tensors_[static_cast<size_t>(input)]->value;
        if (slice.shape.Elements() == 1) continue;
        slice.constant = static_cast<const uint8_t*>(slice.constant) + 4 * channel;
        slice.bytes = int64_t{4} * channels;
        slice.shape.rank = 1;
        slice.shape.dims[0] = channels;
        node->inputs.back() = new_tensor(slice);
      }
      Value value = tensors_[static_cast<size_t>(reader->output)]->value;
      value.shape.dims[value.shape.rank - 1] = kind == Kind::kQuantize ? channels / 32 : channels;
      node->output = new_tensor(value);
      gather->inputs.push_back(node->output);
      made.push_back(node.get());
      (*behind)[makers[i]].push_back(std::move(node));
      channel += channels;
    }
    reader->absorbed = true;
    gather->split = true;
    gather->spec.index = reader->spec.index;
    gather->spec.name = reader->spec.name;
    gather->spec.kind = Kind::kConcatenate;
    gather->output = reader->output;
    if (!IsSink(kind)) gather->absorbed = SpreadReaders(reader->output, gather->inputs, made, depth + 1, behind);
    (*behind)[reader.get()].push_back(std::move(gather));
  }
  return all;
}

void Graph::SplitConcatenations() {
  Behind behind;
  for (const auto& node : nodes_) {
    if (node->spec.kind != Kind::kConcatenate || node->absorbed || !Joinable(*node)) continue;
    std::vector<Node*> makers;
    bool fits = true;
    for (const int input : node->inputs) {
      const Tensor& part = *tensors_[static_cast<size_t>(input)];
      makers.push_back(nodes_[static_cast<size_t>(part.producer)].get());
      // Bits come in words; what is made long before its whole is used would have to be kept.
      fits = fits && part.value.shape.dims[3] % kTileChannels == 0 && !IsVector(part.value.shape) &&
             makers.back()->level == makers.front()->level;
    }
    if (fits) node->absorbed = SpreadReaders(node->output, node->inputs, makers, 0, &behind);
  }
  if (behind.empty()) return;
  std::vector<std::unique_ptr<Node>> nodes;
  const auto add = [&](std::unique_ptr<Node> node, const auto& again) -> void {
    const auto found = behind.find(node.get());
    nodes.push_back(std::move(node));
    if (found == behind.end()) return;
    for (auto& follower : found->second) again(std::move(follower), again);
  };
  for (auto& node : nodes_) add(std::move(node), add);
  nodes_ = std::move(nodes);
  NumberProducers();
}

}  // namespace bdd
