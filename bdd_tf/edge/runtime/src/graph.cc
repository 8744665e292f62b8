#include "graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace bdd {
namespace {

constexpr int kTilePixels = 128;
constexpr int kChunkPixels = 256;      // of an item of work; fixed, so that sums do not depend on the number of threads
constexpr int64_t kSmall = 1 << 13;    // numbers, or weights, below which one thread does it all
constexpr int64_t kDenseOutputs = 16;  // of an item of work
constexpr int kMaxChain = 48, kLongestOp = 3;  // steps; of one operation: itself, its bounds, its store
constexpr int64_t kTileFloats = int64_t{kTilePixels} * kTileChannels;

bool IsVector(const Shape& shape) { return shape.rank == 4 && shape.dims[1] == 1 && shape.dims[2] == 1; }

bool SameShape(const Shape& a, const Shape& b) {
  return a.rank == b.rank && std::equal(a.dims, a.dims + a.rank, b.dims);
}

// Nodes whose results come tile by tile.
bool MakesTiles(Kind kind) {
  return kind == Kind::kBconv || kind == Kind::kConvolution || kind == Kind::kCombine || kind == Kind::kPrelu ||
         kind == Kind::kLogistic || kind == Kind::kMeanOfFour;
}

// Nodes that run by themselves.
bool RunsWhole(Kind kind) {
  return kind == Kind::kOperator || kind == Kind::kConcatenate || kind == Kind::kDense || kind == Kind::kCast ||
         kind == Kind::kTable || kind == Kind::kReverse;
}

float Combine(Arithmetic arithmetic, float a, float b) {
  switch (arithmetic) {
    case Arithmetic::kAdd: return a + b;
    case Arithmetic::kSubtract: return a - b;
    case Arithmetic::kMultiply: return a * b;
    case Arithmetic::kMaximum: return a > b ? a : b;
    default: return a < b ? a : b;
  }
}

bool Bounded(const Shape& shape) {
  for (int i = 0; i < shape.rank; ++i) {
    if (shape.dims[i] < 1) return false;
  }
  return Times(shape.Elements(), 4) >= 0;
}

}  // namespace

struct Graph::Tensor {
  int index = -1;
  Value value;
  Buffer<float> given;      // of a constant that the runtime would unpack
  int producer = -1;        // node
  bool external = false;    // an input of the graph, or an output the runtime reads
  bool stored = false;      // in our memory
  int first = 0, last = 0;  // levels between which it is needed
  int whole = -1;           // tensor in whose memory it lies, a part of its channels
  int64_t part = 0;         // first of these channels
  int64_t stride = 0;       // floats (of bits: words) from one pixel to the next
  // [image][block of channels][pixel][kTileChannels] instead of [image][pixel][channel]: what a tile reads and writes
  // is one stream.
  bool blocked = false;
  int64_t blocks = 0;       // of an image, with those of other parts of a concatenation
  int64_t offset = 0;       // in memory_
  uint8_t* data = nullptr;  // while running
  // Kept as dot products of 16 bits: what makes floats of them.
  TileSource::Transform transform;
  const float* slopes = nullptr;
};

struct Graph::Node {
  NodeSpec spec;
  std::vector<int> inputs;  // tensors of ours, -1 for none
  int output = -1;
  int level = 0;
  bool joined = false;          // a concatenation whose parts are written in place
  const Node* prelu = nullptr;  // of a pool: the activation in front, done while pooling
  const Node* dots = nullptr;   // of an activation whose result is kept as dot products: the convolution in front
  bool absorbed = false;        // such an activation, or what a convolution does while it loads
  const Buffer<float>* table = nullptr;  // of kTable
  std::vector<int> fed;                  // of a convolution that absorbed something: what it reads instead
};

// Where a tile's operation finds its numbers.
struct Graph::Operand {
  enum Where { kNone, kTile, kSlot, kMap, kShared, kVector } where = kNone;
  int slot = 0;                     // kTile: the tensor, made in this group; kSlot: the tile it lies in
  const Tensor* tensor = nullptr;   // kMap, kVector: of a tensor
  const float* constant = nullptr;  // kVector, kShared: of the model; a map that all images share
};

struct Graph::TileOp {
  const Node* node = nullptr;
  Operand a, b;
  int value = -1;                  // tensor that it makes, -1 for sinks
  int slot = -1;                   // tile where the result goes, if it is needed again
  const Tensor* result = nullptr;  // map in memory where the result goes
  Buffer<float> partial;           // of a mean: [chunks][channels]
  TileSource* source = nullptr;
  int64_t item = -1;            // of a source that works on whole items: its place behind a worker's tiles
  TileOp* mean = nullptr;       // of a source of dot products: the mean that it adds up
  bool done_by_source = false;  // such a mean
  bool flows = false;           // takes the value that the operation before it leaves in registers,
  bool flows_in_b = false;      // as its second operand
};

struct Graph::Step {
  const Node* whole = nullptr;  // an operator, concatenation or dense layer; null for a group
  int level = 0;
  int images = 0;
  int64_t height = 0, width = 0, channels = 0;
  int64_t chunks = 0, blocks = 0;
  bool column = false;  // maps of one pixel, whose blocks of channels are worked on as if they were pixels
  std::vector<std::unique_ptr<TileOp>> ops;
  int image = 0;  // being worked on
};

Graph::Graph(const KernelSet* kernels, ThreadPool* pool) : kernels_(*kernels), pool_(*pool) {}
Graph::~Graph() = default;

int Graph::TensorOf(int index) {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (tensors_[i]->index == index) return static_cast<int>(i);
  }
  tensors_.emplace_back(new Tensor);
  tensors_.back()->index = index;
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

// --- Preparation ---------------------------------------------------------------------------------------------------

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

void Graph::SetLevels() {
  for (const auto& tensor : tensors_) tensor->first = tensor->last = 0;
  for (const auto& made : nodes_) {
    Node& node = *made;
    const Kind kind = node.spec.kind;
    const bool by_pixel = kind == Kind::kQuantize || kind == Kind::kCombine || kind == Kind::kPrelu ||
                          kind == Kind::kLogistic || kind == Kind::kMean;
    const Shape& domain = kind == Kind::kQuantize || kind == Kind::kMean
                              ? tensors_[static_cast<size_t>(node.inputs[0])]->value.shape
                              : tensors_[static_cast<size_t>(node.output)]->value.shape;
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

// A concatenation costs nothing where its parts can be written to their place at once.
bool Graph::JoinConcatenations() {
  for (const auto& tensor : tensors_) {
    tensor->whole = -1;
    tensor->part = 0;
    const Shape& shape = tensor->value.shape;
    tensor->stride = shape.rank > 0 ? shape.dims[shape.rank - 1] : 1;
  }
  for (const auto& node : nodes_) {
    node->joined = false;
    if (node->spec.kind != Kind::kConcatenate) continue;
    bool possible = true;
    for (size_t i = 0; i < node->inputs.size(); ++i) {
      const Tensor& part = *tensors_[static_cast<size_t>(node->inputs[i])];
      const Kind from = part.producer < 0 ? Kind::kOperator : nodes_[static_cast<size_t>(part.producer)]->spec.kind;
      const bool tiles = MakesTiles(from);
      const bool twice = std::count(node->inputs.begin(), node->inputs.end(), node->inputs[i]) > 1;
      // Other readers would have to know about the stride; only tiles do.
      for (const auto& reader : nodes_) {
        const bool reads = std::count(reader->inputs.begin(), reader->inputs.end(), node->inputs[i]) > 0;
        const Kind kind = reader->spec.kind;
        if (reads && reader != node && (RunsWhole(kind) || kind == Kind::kConvolution)) possible = false;
      }
      possible = possible && tiles && !twice && !part.external && part.whole < 0;
    }
    if (!possible) continue;
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
  return true;
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
    if (!MakesTiles(producer.spec.kind) && !producer.joined) return false;
    for (const auto& reader : nodes_) {
      const Kind kind = reader->spec.kind;
      const bool reads = std::count(reader->inputs.begin(), reader->inputs.end(), number) > 0;
      if (reads && !reader->joined && (RunsWhole(kind) || kind == Kind::kConvolution)) return false;
    }
    return true;
  };
  const auto set = [](Tensor* tensor, int64_t channels) {
    tensor->blocked = true;
    tensor->blocks = (channels + kTileChannels - 1) / kTileChannels;
    tensor->stride = kTileChannels;
  };
  for (const auto& tensor : tensors_) tensor->blocked = false;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    Tensor& tensor = *tensors_[i];
    // Parts follow the whole.
    if (tensor.whole >= 0 || !fits(static_cast<int>(i))) continue;
    const int64_t channels = tensor.value.shape.dims[3];
    const Node& producer = *nodes_[static_cast<size_t>(tensor.producer)];
    bool possible = true;
    for (const int part : producer.joined ? producer.inputs : std::vector<int>()) {
      possible =
          possible && fits(part) && tensors_[static_cast<size_t>(part)]->value.shape.dims[3] % kTileChannels == 0;
    }
    if (!possible) continue;
    set(&tensor, channels);
    for (const int part : producer.joined ? producer.inputs : std::vector<int>()) {
      set(tensors_[static_cast<size_t>(part)].get(), channels);
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
  const int number = node.inputs[static_cast<size_t>(input)];
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
    if (node->prelu != nullptr) {
      const Tensor& slopes = *tensors_[static_cast<size_t>(node->prelu->inputs[1])];
      op->b.where = Operand::kVector;
      if (!Floats(slopes, slopes.value.shape.Elements(), 1, &op->b.constant, why)) return false;
    }
  } else if (!MakeOperand(*node, 0, *step, &op->a, why)) {
    return false;
  }
  const bool two = kind == Kind::kCombine || (kind == Kind::kPrelu && node->dots == nullptr);
  if (two && !MakeOperand(*node, 1, *step, &op->b, why)) return false;
  if (kind == Kind::kMean) {
    if (!op->partial.Reset(Times(step->chunks, step->channels))) return why->Set("no memory for sums");
  }
  Tensor& output = *tensors_[static_cast<size_t>(node->output)];
  const bool sink = kind == Kind::kMean || kind == Kind::kQuantize;
  if (!sink) op->value = node->output;
  if (sink || output.external || output.last > node->level || output.whole >= 0 || node->dots != nullptr) {
    output.stored = !output.external;
    op->result = &output;
  }
  auto place = step->ops.end();
  if (sink) {
    // Right behind what makes its input and that one's other sinks, while the value is at hand.
    for (auto at = step->ops.begin(); at != step->ops.end(); ++at) {
      if ((*at)->value == node->inputs[0]) place = at + 1;
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
    // Sinks leave the value as it is; sources write a tile, from which the next one loads.
    if (op->value >= 0) current = starts ? -1 : op->value;
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
    const bool sink = kind == Kind::kQuantize || kind == Kind::kMean;
    const Shape& domain = sink ? tensors_[static_cast<size_t>(node->inputs[0])]->value.shape : output.value.shape;
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
      group->chunks = (group->height * group->width + kChunkPixels - 1) / kChunkPixels;
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
    return (Times(count, number) + 63) / 64 * 64;
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

bool Graph::Prepare(TfLiteContext* context, const NodeSpec** node, Message* why) {
  for (const auto& made : nodes_) {
    *node = &made->spec;
    made->spec.kind = made->spec.wanted;  // what ran as a whole for one size may give tiles for another
    tensors_[static_cast<size_t>(made->output)]->stored = false;
    if (!Infer(context, made.get(), why)) return false;
  }
  AbsorbActivations();
  steps_.clear();
  constants_.clear();
  if (!AbsorbFeeds(why) || !AbsorbChains(why)) return false;
  KeepDots();
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

// --- Running -------------------------------------------------------------------------------------------------------

namespace {

// Numbers of a tile: the first pixel's, and the way to the next.
struct Rows {
  float* at;
  int64_t stride;
};

ChainStep Make(ChainStep::Operation operation, const float* b, float* out, int64_t stride, float low = 0,
               float high = 0) {
  return {operation, b, out, nullptr, stride, low, high};
}

ChainStep::Operation OperationOf(Arithmetic arithmetic, bool reversed) {
  switch (arithmetic) {
    case Arithmetic::kAdd: return ChainStep::kAdd;
    case Arithmetic::kSubtract: return reversed ? ChainStep::kSubtractFrom : ChainStep::kSubtract;
    case Arithmetic::kMultiply: return ChainStep::kMultiply;
    case Arithmetic::kMaximum: return ChainStep::kMaximum;
    default: return ChainStep::kMinimum;
  }
}

}  // namespace

void Graph::RunItem(const Step& step, int64_t item, int worker) {
  const bool column = step.column;
  const int64_t block = item / step.chunks, chunk = item % step.chunks;
  const int64_t channel = block * kTileChannels, pixels = step.height * step.width;
  const int width = static_cast<int>(std::min<int64_t>(kTileChannels, step.channels - channel));
  const int64_t end = column ? step.blocks : std::min<int64_t>(pixels, (chunk + 1) * kChunkPixels);
  float* scratch = scratch_.data() + worker * scratch_floats_;

  // Numbers of a map in front of a tile's.
  const auto place = [&](const Tensor& tensor, int64_t first) {
    if (column) return step.image * tensor.stride + first * kTileChannels;
    if (!tensor.blocked) return (step.image * pixels + first) * tensor.stride + channel;
    const int64_t at = step.image * tensor.blocks + block + tensor.part / kTileChannels;
    return (at * pixels + first) * kTileChannels;
  };
  const auto map = [&](const Tensor& tensor, int64_t first) {
    return Rows{reinterpret_cast<float*>(tensor.data) + place(tensor, first), column ? kTileChannels : tensor.stride};
  };
  const auto map_of_dots = [&](const Tensor& tensor, int64_t first) {
    return reinterpret_cast<int16_t*>(tensor.data) + place(tensor, first);
  };
  const auto tile = [&](int slot) { return Rows{scratch + slot * kTileFloats, kTileChannels}; };
  const auto rows = [&](const Operand& operand, int64_t first) {
    switch (operand.where) {
      case Operand::kSlot: return tile(operand.slot);
      case Operand::kMap: return map(*operand.tensor, first);
      case Operand::kShared:
        return Rows{const_cast<float*>(operand.constant) + first * step.channels + channel, step.channels};
      default: {
        const int64_t stride = column ? kTileChannels : 0, at = channel + first * stride;
        if (operand.constant != nullptr) return Rows{const_cast<float*>(operand.constant) + at, stride};
        return Rows{reinterpret_cast<float*>(operand.tensor->data) + step.image * operand.tensor->stride + at, stride};
      }
    }
  };

  ChainStep chain[kMaxChain];
  const int64_t begin = chunk * kChunkPixels;
  const auto item_of = [&](const TileOp& op) { return reinterpret_cast<int32_t*>(scratch + op.item); };
  for (const auto& op : step.ops) {
    if (op->source != nullptr && op->item >= 0) op->source->BeginItem(channel, begin, end - begin, item_of(*op));
  }
  const int64_t tiles = (end - begin + kTilePixels - 1) / kTilePixels;
  // Tiles of about the same size, and of whole tiles of the kernels: a last one of few pixels would be dear.
  const int64_t even = ((end - begin + tiles - 1) / tiles + kernels_.pixels - 1) / kernels_.pixels * kernels_.pixels;
  for (int64_t first = begin; first < end; first += even) {
    const int count = static_cast<int>(std::min<int64_t>(even, end - first));
    int length = 0;
    ChainStart start;
    const auto flush = [&] {
      if (length > 0) kernels_.chain(start, chain, length, count, width);
      length = 0;
    };
    const auto start_at = [&](const Operand& operand) {
      const bool dots = operand.where == Operand::kMap && operand.tensor->transform.multiplier != nullptr;
      start = ChainStart();
      if (!dots) {
        const Rows from = rows(operand, first);
        start.a = from.at;
        start.stride = from.stride;
        return;
      }
      const Tensor& tensor = *operand.tensor;
      start.dots = map_of_dots(tensor, first);
      start.stride = tensor.stride;
      start.multiplier = tensor.transform.multiplier + channel;
      start.bias = tensor.transform.bias + channel;
      start.slopes = tensor.slopes + channel;
    };
    for (const auto& made : step.ops) {
      TileOp& op = *made;
      const NodeSpec& spec = op.node->spec;
      if (op.source != nullptr || spec.kind == Kind::kMeanOfFour) {
        flush();
        const int32_t* ready = op.item >= 0 ? item_of(op) + (first - begin) * kTileChannels : nullptr;
        if (op.node->dots != nullptr) {
          float unused[kTileChannels] = {};
          float* totals = op.mean != nullptr ? op.mean->partial.data() + chunk * step.channels + channel : unused;
          op.source->Dots(channel, width, first, count, ready, op.result->slopes + channel, totals,
                          map_of_dots(*op.result, first), op.result->stride);
          continue;
        }
        const Rows out = op.result != nullptr ? map(*op.result, first) : tile(op.slot);
        if (op.source != nullptr) {
          op.source->Tile(channel, width, first, count, ready, out.at, out.stride);
        } else {
          PoolTile(step, op, first, count, width, channel, out.at, out.stride);
        }
        if (spec.has_bounds) {
          chain[length++] = Make(ChainStep::kBound, nullptr, nullptr, 0, spec.low, spec.high);
          chain[length++] = Make(ChainStep::kStore, nullptr, out.at, out.stride);
          start = ChainStart();
          start.a = out.at;
          start.stride = out.stride;
          flush();
        }
        continue;
      }
      if (op.done_by_source) continue;
      if (!op.flows && !op.flows_in_b) {
        flush();
        start_at(op.a);
      }
      switch (spec.kind) {
        case Kind::kMean:
          chain[length++] = Make(ChainStep::kAddUp, nullptr, op.partial.data() + chunk * step.channels + channel, 0);
          break;
        case Kind::kQuantize: {
          const int64_t words = op.result->stride;
          chain[length] = Make(ChainStep::kSigns, nullptr, nullptr, words);
          chain[length++].bits =
              reinterpret_cast<uint32_t*>(op.result->data) + (step.image * pixels + first) * words + block;
          break;
        }
        case Kind::kPrelu: {
          const Rows slopes = rows(op.b, first);
          chain[length++] = Make(ChainStep::kPrelu, slopes.at, nullptr, slopes.stride);
          break;
        }
        case Kind::kLogistic: chain[length++] = Make(ChainStep::kLogistic, nullptr, nullptr, 0); break;
        default: {
          const Rows other = rows(op.flows_in_b ? op.a : op.b, first);
          chain[length++] = Make(OperationOf(spec.arithmetic, op.flows_in_b), other.at, nullptr, other.stride);
        }
      }
      if (op.value < 0) continue;
      if (spec.has_bounds) chain[length++] = Make(ChainStep::kBound, nullptr, nullptr, 0, spec.low, spec.high);
      if (op.result != nullptr || op.slot >= 0) {
        const Rows out = op.result != nullptr ? map(*op.result, first) : tile(op.slot);
        chain[length++] = Make(ChainStep::kStore, nullptr, out.at, out.stride);
      }
    }
    flush();
  }
}

// A piece of the pooled map; rows of the map it reads are twice as long.
void Graph::PoolTile(const Step& step, const TileOp& op, int64_t first, int count, int width, int64_t channel,
                     float* out, int64_t stride) {
  const Tensor& from = *op.a.tensor;
  const int64_t side = 2 * step.width;
  for (int done = 0; done < count;) {
    const int64_t y = (first + done) / step.width, x = (first + done) % step.width;
    const int part = static_cast<int>(std::min<int64_t>(count - done, step.width - x));
    const int64_t pixel = 2 * y * side + 2 * x, pixels = 2 * step.height * side;
    const int64_t block = channel / kTileChannels + from.part / kTileChannels;
    const int64_t place = from.blocked ? ((step.image * from.blocks + block) * pixels + pixel) * kTileChannels
                                       : (step.image * pixels + pixel) * from.stride + channel;
    const float* a = reinterpret_cast<const float*>(from.data) + place;
    const float* slopes = op.b.constant != nullptr ? op.b.constant + channel : nullptr;
    kernels_.mean_of_four(out + done * stride, stride, a, 2 * from.stride, from.stride, side * from.stride, slopes,
                          part, width);
    done += part;
  }
}

void Graph::RunGroup(Step* step) {
  struct Call {
    Graph* graph;
    const Step* step;
  } call = {this, step};
  const int64_t pixels = step->height * step->width;
  for (int n = 0; n < step->images; ++n) {
    step->image = n;
    for (const auto& op : step->ops) {
      if (op->source != nullptr) {
        const Tensor& input = *tensors_[static_cast<size_t>(Sources(*op->node)[0])];
        const int64_t image = input.value.shape.Product(1, 4) * SizeOf(input.value.type);
        op->source->BeginImage(input.data + n * image, &pool_);
      }
      if (op->node->spec.kind == Kind::kMean) op->partial.Reset(op->partial.size());
    }
    const auto run = [](void* argument, int64_t item, int worker) {
      const Call& c = *static_cast<Call*>(argument);
      c.graph->RunItem(*c.step, item, worker);
    };
    const int64_t items = step->column ? 1 : step->blocks * step->chunks;
    if (pixels * step->channels < kSmall) {  // waking others would take longer
      for (int64_t item = 0; item < items; ++item) run(&call, item, 0);
    } else {
      pool_.Run(items, run, &call);
    }
    for (const auto& op : step->ops) {
      if (op->node->spec.kind != Kind::kMean) continue;
      float* mean = reinterpret_cast<float*>(op->result->data) + n * step->channels;
      float* sums = op->partial.data();
      for (int64_t chunk = 1; chunk < step->chunks; ++chunk) {
        const float* more = sums + chunk * step->channels;
        for (int64_t c = 0; c < step->channels; ++c) sums[c] += more[c];
      }
      for (int64_t c = 0; c < step->channels; ++c) mean[c] = sums[c] / static_cast<float>(pixels);
    }
  }
}

void Graph::RunDense(const Step& step) {
  const Node& node = *step.whole;
  const Tensor &input = *tensors_[static_cast<size_t>(node.inputs[0])],
               &output = *tensors_[static_cast<size_t>(node.output)];
  const int64_t inputs = input.value.shape.dims[3], outputs = output.value.shape.dims[3];
  const TileOp& constants = *step.ops[0];
  struct Call {
    const Graph* graph;
    const float *weights, *bias, *x;
    const int8_t* bytes;
    float scale;
    int64_t inputs, outputs;
    float* out;
  } call = {this, constants.a.constant, constants.b.constant, nullptr, nullptr, 0.0f, inputs, outputs, nullptr};
  const Value& weights = tensors_[static_cast<size_t>(node.inputs[1])]->value;
  if (weights.type == kTfLiteInt8) {
    call.bytes = static_cast<const int8_t*>(weights.constant);
    call.scale = weights.scale;
  }
  const auto run = [](void* argument, int64_t item, int) {
    const Call& c = *static_cast<Call*>(argument);
    const int64_t first = item * kDenseOutputs, count = std::min(kDenseOutputs, c.outputs - first);
    if (c.bytes != nullptr) {
      return c.graph->kernels_.dense_bytes(c.bytes + first * c.inputs, c.scale, c.bias + first, c.x, c.inputs, count,
                                           c.out + first);
    }
    c.graph->kernels_.dense(c.weights + first * c.inputs, c.bias + first, c.x, c.inputs, count, c.out + first);
  };
  const int64_t items = (outputs + kDenseOutputs - 1) / kDenseOutputs;
  for (int64_t n = 0; n < input.value.shape.dims[0]; ++n) {
    call.out = reinterpret_cast<float*>(output.data) + n * outputs;
    call.x = reinterpret_cast<const float*>(input.data) + n * inputs;
    if (inputs * outputs < kSmall) {
      for (int64_t item = 0; item < items; ++item) run(&call, item, 0);
    } else {
      pool_.Run(items, run, &call);
    }
    if (!node.spec.has_bounds) continue;
    for (int64_t o = 0; o < outputs; ++o) {
      call.out[o] = std::min(std::max(call.out[o], node.spec.low), node.spec.high);
    }
  }
}

void Graph::RunConcatenation(const Node& node) {
  const Tensor& whole = *tensors_[static_cast<size_t>(node.output)];
  const int64_t pixels = whole.value.shape.Product(0, 3);
  int64_t channel = 0;
  for (const int input : node.inputs) {
    const Tensor& part = *tensors_[static_cast<size_t>(input)];
    const int64_t width = part.value.shape.dims[3];
    const auto* from = part.value.constant != nullptr ? static_cast<const uint8_t*>(part.value.constant) : part.data;
    for (int64_t p = 0; p < pixels; ++p) {
      std::memcpy(whole.data + 4 * (p * whole.stride + channel), from + 4 * p * part.stride,
                  static_cast<size_t>(4 * width));
    }
    channel += width;
  }
}

void Graph::RunCast(const Node& node) {
  const Tensor& input = *tensors_[static_cast<size_t>(node.inputs[0])];
  const Tensor& output = *tensors_[static_cast<size_t>(node.output)];
  auto* out = reinterpret_cast<float*>(output.data);
  const int64_t count = input.value.shape.Elements();
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(input.data[i]);
}

void Graph::RunTable(const Node& node) {
  const Tensor& input = *tensors_[static_cast<size_t>(node.fed[0])];
  const Tensor& output = *tensors_[static_cast<size_t>(node.output)];
  const int64_t channels = input.value.shape.dims[3], pixels = input.value.shape.Product(0, 3);
  constexpr int64_t kPixels = 4096;  // of an item of work
  const float* table = node.table->data();
  pool_.ForEach((pixels + kPixels - 1) / kPixels, [&](int64_t item) {
    const int64_t last = std::min(pixels, (item + 1) * kPixels);
    for (int64_t p = item * kPixels; p < last; ++p) {
      const uint8_t* from = input.data + p * channels;
      float* to = reinterpret_cast<float*>(output.data) + p * channels;
      for (int64_t c = 0; c < channels; ++c) to[c] = table[256 * c + from[c]];
    }
  });
}

void Graph::RunReverse(const Node& node) {
  const Tensor& input = *tensors_[static_cast<size_t>(node.inputs[0])];
  const Tensor& output = *tensors_[static_cast<size_t>(node.output)];
  const Shape& shape = input.value.shape;
  const int axis = node.spec.axis;
  const int64_t outer = shape.Product(0, axis), length = shape.dims[axis], inner = 4 * shape.Product(axis + 1, 4);
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t i = 0; i < length; ++i) {
      std::memcpy(output.data + (o * length + i) * inner, input.data + (o * length + length - 1 - i) * inner,
                  static_cast<size_t>(inner));
    }
  }
}

bool Graph::Run(TfLiteContext* context, const NodeSpec** node, Message* why) {
  for (const auto& tensor : tensors_) {
    Tensor& t = *tensor;
    if (t.external) {
      const TfLiteTensor& theirs = context->tensors[t.index];
      const int64_t needed = Times(t.value.shape.Elements(), SizeOf(t.value.type));
      // A constant may hold less than its shape says; those are looked at while preparing.
      const bool enough = t.value.constant != nullptr || (needed >= 0 && theirs.bytes >= static_cast<size_t>(needed));
      t.data = enough ? static_cast<uint8_t*>(theirs.data) : nullptr;
      if (t.data == nullptr) {
        *node = &nodes_[0]->spec;
        for (const auto& made : nodes_) {
          if (made->spec.output == t.index || (made->spec.input_count > 0 && made->spec.inputs[0] == t.index))
            *node = &made->spec;
        }
        return why->Set("tensor %d has no memory, or less than its shape needs", t.index);
      }
    } else if (t.whole < 0) {
      t.data = t.stored ? memory_.data() + t.offset : nullptr;
    }
  }
  for (const auto& tensor : tensors_) {
    if (tensor->whole < 0) continue;
    // Of blocks, the place is reckoned from the whole.
    tensor->data = tensors_[static_cast<size_t>(tensor->whole)]->data + (tensor->blocked ? 0 : 4 * tensor->part);
  }
  for (const auto& step : steps_) {
    if (step->whole == nullptr) {
      RunGroup(step.get());
      continue;
    }
    const Node& whole = *step->whole;
    *node = &whole.spec;
    const Tensor &input = *tensors_[static_cast<size_t>(whole.inputs[0])],
                 &output = *tensors_[static_cast<size_t>(whole.output)];
    if (whole.spec.kind == Kind::kConcatenate) {
      RunConcatenation(whole);
    } else if (whole.spec.kind == Kind::kDense) {
      RunDense(*step);
    } else if (whole.spec.kind == Kind::kCast) {
      RunCast(whole);
    } else if (whole.spec.kind == Kind::kTable) {
      RunTable(whole);
    } else if (whole.spec.kind == Kind::kReverse) {
      RunReverse(whole);
    } else {
      whole.spec.op->Run(input.data, output.data, &pool_);
    }
  }
  return true;
}

}  // namespace bdd
