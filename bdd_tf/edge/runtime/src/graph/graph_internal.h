// The data of a Graph, and the passes over it.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "graph/graph.h"

namespace bdd {

constexpr int kTilePixels = 128;
// Upper bound of the pixels of a work item. It does not depend on the number of threads, so that sums do not, either.
constexpr int kChunkPixels = 256;
constexpr int kMaxPostOps = 48;       // in one call of post_ops_f32
constexpr int kMaxPostOpsOfNode = 3;  // the operation, its clamp, its store
constexpr int64_t kTileFloats = int64_t{kTilePixels} * kTileChannels;

// A value that nodes read and produce.
struct Tensor {
  int index = -1;  // in the runtime's graph; -1 for tensors of split nodes
  Value value;
  Buffer<float> constant;               // set by Graph::SetConstant
  int producer = -1;                    // node
  bool external = false;                // an input of the graph, or an output that the runtime reads
  bool stored = false;                  // in GraphData::memory
  int first_level = 0, last_level = 0;  // between which it is needed
  int parent = -1;                      // the concatenation's output that contains this tensor as a range of channels
  int64_t parent_channel = 0;           // the first of these channels
  int64_t stride = 0;                   // elements from one pixel to the next: floats, or words of bits
  // Layout [image][block of channels][pixel][kTileChannels] instead of [image][pixel][channel]. A tile is then one
  // contiguous stream.
  bool blocked = false;
  int64_t blocks = 0;       // of an image, including other parts of a concatenation
  int64_t offset = 0;       // in GraphData::memory
  uint8_t* data = nullptr;  // while running
  // If stored as int16 accumulators: the affine function and the PReLU that make floats of them.
  TileSource::Affine affine;
  const float* slopes = nullptr;

  bool is_int16() const { return affine.multiplier != nullptr; }
  float* floats() const { return reinterpret_cast<float*>(data); }

  // Element offset of (image, pixel, channel block) in this tensor's layout; `pixels` is the size of a map.
  int64_t OffsetOf(int64_t image, int64_t pixels, int64_t pixel, int64_t block) const {
    if (!blocked) return (image * pixels + pixel) * stride + block * kTileChannels;
    return ((image * blocks + block + parent_channel / kTileChannels) * pixels + pixel) * kTileChannels;
  }
};

struct Node {
  NodeSpec spec;
  std::vector<int> inputs;  // tensors of GraphData, -1 for a missing one
  int output = -1;
  int level = 0;
  bool fused = false;                    // another node does its work
  bool in_place = false;                 // a concatenation whose inputs are written directly into its output
  bool from_split = false;               // made by SplitConcatenations
  const Node* fused_prelu = nullptr;     // of a pool: the PReLU that it applies to its input
  const Node* int16_conv = nullptr;      // of a PReLU whose result is stored as int16 accumulators: their convolution
  std::vector<int> fused_inputs;         // the inputs after fusing nodes before this one; empty if nothing was fused
  const Buffer<float>* table = nullptr;  // of a lookup table: [channels][256]

  // The inputs that the node actually reads.
  const std::vector<int>& Inputs() const {
    if (int16_conv != nullptr) return int16_conv->inputs;
    if (fused_prelu != nullptr) return fused_prelu->inputs;
    return !fused_inputs.empty() ? fused_inputs : inputs;
  }
  // Whether the model's node reads a tensor.
  bool Reads(int tensor) const { return std::count(inputs.begin(), inputs.end(), tensor) > 0; }
};

// Where a tile operation reads its values.
struct Operand {
  enum Where {
    kNone,
    kProduced,   // `tensor_number`, which an operation of the same group produces; replaced by PlanRegisters
    kSlot,       // tile `slot` of the worker's scratch memory
    kMap,        // `tensor`
    kSharedMap,  // `constant`, one map for all images
    kVector,     // `tensor` or `constant`, one vector for all pixels
  } where = kNone;
  int tensor_number = -1;
  int slot = -1;
  const Tensor* tensor = nullptr;
  const float* constant = nullptr;
};

// A node of a group.
struct TileOp {
  const Node* node = nullptr;
  Operand a, b;
  int value = -1;                  // the tensor it produces; -1 for sinks
  int slot = -1;                   // scratch tile for the result, if a later operation needs it
  const Tensor* result = nullptr;  // map in memory for the result
  TileSource* source = nullptr;
  Buffer<float> partial_sums;       // of a mean: [chunks][channels]
  TileOp* mean = nullptr;           // of a source of int16 accumulators: the mean whose sums it computes
  bool computed_by_source = false;  // such a mean
  // Offsets in a worker's scratch memory, -1 if not needed.
  int64_t pool_buffer = -1;         // of a pool: the pixels of the current item
  int64_t accumulator_buffer = -1;  // of a source that precomputes accumulators
  // The operation takes the previous one's result from registers, as its first or second operand.
  bool a_in_registers = false, b_in_registers = false;

  // Sources and pools start a new tile, which the next operation loads.
  bool StartsTile() const { return source != nullptr || node->spec.kind == Kind::kAveragePool; }
};

// One step of execution: a node that runs as a whole, or a group.
struct Step {
  int level = 0;

  // A whole node. Dense layers have aligned floats here: weights (null if int8) and bias.
  const Node* node = nullptr;
  const float *weights = nullptr, *bias = nullptr;

  // A group, for maps of this size. Work items are pairs of a channel block and a chunk of pixels.
  int images = 0;
  int64_t height = 0, width = 0, channels = 0;
  int64_t chunk_pixels = 0, chunks = 0, blocks = 0;
  bool blocks_as_pixels = false;  // maps of one pixel: all channel blocks form one item, as if they were pixels
  std::vector<std::unique_ptr<TileOp>> ops;
  int image = 0;  // the current one

  int64_t pixels() const { return height * width; }
};

struct GraphData {
  GraphData(const KernelSet* set, ThreadPool* threads) : kernels(*set), pool(*threads) {}

  const KernelSet& kernels;
  ThreadPool& pool;
  std::vector<std::unique_ptr<Node>> nodes;
  std::vector<std::unique_ptr<Tensor>> tensors;
  std::vector<int> tensor_indices;  // of the runtime's tensors, in the same order: faster to search
  size_t model_tensors = 0;         // those of the runtime; tensors of split nodes follow them
  std::vector<std::unique_ptr<Step>> steps;
  std::vector<std::unique_ptr<Buffer<float>>> constants;  // prepared for steps
  Buffer<uint8_t> memory;                                 // of stored tensors
  Buffer<float> scratch;                                  // of all workers
  int64_t worker_scratch = 0;                             // floats of one worker

  Tensor& tensor(int i) const { return *tensors[static_cast<size_t>(i)]; }
  Tensor& input(const Node& node, size_t i) const { return tensor(node.inputs[i]); }
  Tensor& output(const Node& node) const { return tensor(node.output); }
  // Null for inputs of the graph and constants.
  Node* ProducerOf(int tensor_number) const {
    const int producer = tensor(tensor_number).producer;
    return producer >= 0 ? nodes[static_cast<size_t>(producer)].get() : nullptr;
  }
  // The producer of a tensor that is read by one node of this graph only; else null.
  Node* SingleUseProducer(int tensor_number) const;
};

// --- Properties of kinds and shapes --------------------------------------------------------------------------------

// Nodes whose result is produced tile by tile.
inline bool ProducesTiles(Kind kind) {
  return kind == Kind::kBconv2d || kind == Kind::kSmallConv2d || kind == Kind::kElementwise || kind == Kind::kPrelu ||
         kind == Kind::kLogistic || kind == Kind::kAveragePool;
}

// Nodes of a group whose result is not a tile of the group's map. It is always stored.
inline bool IsSink(Kind kind) { return kind == Kind::kMean || kind == Kind::kQuantize || kind == Kind::kFusedPool; }

// Nodes that run by themselves.
inline bool RunsWhole(Kind kind) {
  return kind == Kind::kOperator || kind == Kind::kConcatenate || kind == Kind::kDense || kind == Kind::kCast ||
         kind == Kind::kLookupTable || kind == Kind::kReverse;
}

// A map of one pixel.
inline bool IsVector(const Shape& shape) { return shape.rank == 4 && shape.dims[1] == 1 && shape.dims[2] == 1; }

inline bool SameShape(const Shape& a, const Shape& b) {
  return a.rank == b.rank && std::equal(a.dims, a.dims + a.rank, b.dims);
}

// Whether work items can consist of pairs of whole rows, which a fused pool requires.
inline bool HoldsPairsOfRows(int64_t width) { return width % 2 == 0 && 2 * width <= kChunkPixels; }

// Pixels of a work item.
inline int64_t ChunkPixels(int64_t width) {
  return HoldsPairsOfRows(width) ? kChunkPixels / (2 * width) * (2 * width) : kChunkPixels;
}

// --- Passes, in the order in which Graph::Prepare runs them ----------------------------------------------------------

// shapes.cc: reads the node's constants and graph inputs, and infers the shape of its output.
bool InferShape(GraphData* graph, TfLiteContext* context, Node* node, Message* why);

// fuse.cc: fold nodes into the node that produces or consumes their values.
void FuseActivationsIntoPools(GraphData* graph);
bool FuseInputTransforms(GraphData* graph, Message* why);
bool FuseLookupTables(GraphData* graph, Message* why);
void StoreAccumulatorsAsInt16(GraphData* graph);
void FusePools(GraphData* graph);

// plan.cc
void SetLevels(GraphData* graph);
// Whether the inputs of a concatenation can be written directly into its output.
bool CanConcatenateInPlace(const GraphData& graph, const Node& node);
void ConcatenateInPlace(GraphData* graph);
void ChooseLayouts(GraphData* graph);

// split_concat.cc
void SplitConcatenations(GraphData* graph);
void RemoveSplitNodes(GraphData* graph);

// steps.cc: groups nodes into steps. On failure, *culprit is the node that cannot run.
bool MakeSteps(GraphData* graph, const NodeSpec** culprit, Message* why);

// memory_plan.cc
bool PlanMemory(GraphData* graph, Message* why);

// execute.cc: runs the steps; tensors have their data.
void RunStep(GraphData* graph, Step* step);

}  // namespace bdd
