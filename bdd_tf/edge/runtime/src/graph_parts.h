// What the files of Graph share: its parts, which nobody else sees.
#pragma once

#include <algorithm>

#include "graph.h"

namespace bdd {

constexpr int kTilePixels = 128;
// Of an item of work at most; fixed, so that sums do not depend on the number of threads.
constexpr int kChunkPixels = 256;
constexpr int kMaxChain = 48, kLongestOp = 3;  // steps; of one operation: itself, its bounds, its store
constexpr int64_t kTileFloats = int64_t{kTilePixels} * kTileChannels;

// Whether an item can be pairs of whole rows, as a pool needs it.
inline bool HoldsPairsOfRows(int64_t width) { return width % 2 == 0 && 2 * width <= kChunkPixels; }

// Pixels of an item.
inline int64_t ChunkPixels(int64_t width) {
  return HoldsPairsOfRows(width) ? kChunkPixels / (2 * width) * (2 * width) : kChunkPixels;
}

inline bool IsVector(const Shape& shape) { return shape.rank == 4 && shape.dims[1] == 1 && shape.dims[2] == 1; }

inline bool SameShape(const Shape& a, const Shape& b) {
  return a.rank == b.rank && std::equal(a.dims, a.dims + a.rank, b.dims);
}

// Nodes whose results come tile by tile.
inline bool MakesTiles(Kind kind) {
  return kind == Kind::kBconv || kind == Kind::kConvolution || kind == Kind::kCombine || kind == Kind::kPrelu ||
         kind == Kind::kLogistic || kind == Kind::kMeanOfFour;
}

// Nodes of a group whose results are no tiles, and always in memory.
inline bool IsSink(Kind kind) { return kind == Kind::kMean || kind == Kind::kQuantize || kind == Kind::kPoolSink; }

// Nodes that run by themselves.
inline bool RunsWhole(Kind kind) {
  return kind == Kind::kOperator || kind == Kind::kConcatenate || kind == Kind::kDense || kind == Kind::kCast ||
         kind == Kind::kTable || kind == Kind::kReverse;
}

inline float Combine(Arithmetic arithmetic, float a, float b) {
  switch (arithmetic) {
    case Arithmetic::kAdd: return a + b;
    case Arithmetic::kSubtract: return a - b;
    case Arithmetic::kMultiply: return a * b;
    case Arithmetic::kMaximum: return a > b ? a : b;
    default: return a < b ? a : b;
  }
}

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

  // Numbers in front of those of a block of channels, at one of so many pixels.
  int64_t Place(int64_t image, int64_t pixels, int64_t pixel, int64_t block) const {
    if (!blocked) return (image * pixels + pixel) * stride + block * kTileChannels;
    return ((image * blocks + block + part / kTileChannels) * pixels + pixel) * kTileChannels;
  }
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
  bool split = false;           // made by SplitConcatenations
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
  int64_t made = -1;            // of a pool: where in a worker's memory an item's pixels wait for it
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
  int64_t chunk = 0, chunks = 0, blocks = 0;
  bool column = false;  // maps of one pixel, whose blocks of channels are worked on as if they were pixels
  std::vector<std::unique_ptr<TileOp>> ops;
  int image = 0;  // being worked on
};

}  // namespace bdd
