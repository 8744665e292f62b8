// The nodes that a delegate node replaces, as a graph of our own that decides which of them run together, tile by tile.
//
// Apart from its convolutions, a binary network spends most of its time on passes over whole maps: normalization,
// activation, gates and residuals each read and write megabytes. Here, all nodes that work pixel by pixel on maps of
// one size form a group, and a tile of a few pixels and 32 channels goes through all of them while it is in the L1
// cache. A binary convolution is a source of such tiles; sign bits and sums over the map are their sinks.
//
// Nodes run in the order of levels. A node that needs a whole map (a convolution, a pool, anything after a mean) is one
// level above the node that produces the map; a node that works pixel by pixel is on the level of its inputs. The nodes
// of one level and one map size form a group. Only values that a later level or another delegate node reads are stored.
//
// A Graph is data (graph_internal.h) and passes over it, each in a file of its own: shapes.cc infers shapes, fuse.cc
// and split_concat.cc rewrite nodes, plan.cc, steps.cc and memory_plan.cc decide order, groups and memory, execute.cc
// runs.
#pragma once

#include <memory>
#include <vector>

#include "ops/operator.h"
#include "ops/small_conv2d.h"

namespace bdd {

enum class Kind {
  kOperator,     // an Lce* operator that runs as a whole
  kBconv2d,      // LceBconv2d as a source of tiles
  kQuantize,     // LceQuantize of floats
  kElementwise,  // ADD, SUB, MUL, MAXIMUM, MINIMUM
  kPrelu,        // slopes per channel
  kLogistic,
  kMean,         // over height and width
  kAveragePool,  // AVERAGE_POOL_2D, 2 x 2, stride 2
  kFusedPool,    // the same, computed from tiles while its input is produced
  kConcatenate,  // along channels
  kDense,        // CONV_2D of maps of 1 x 1
  kSmallConv2d,  // CONV_2D with a small window, a source of tiles
  kCast,         // uint8 to float
  kLookupTable,  // uint8 to the result of elementwise operations with constants
  kReverse,      // along height or width
};

// What is known about a node before shapes are.
struct NodeSpec {
  static constexpr int kMaxInputs = 8;

  int index = -1;  // in the runtime's graph, for messages
  const char* name = "";
  Kind kind = Kind::kOperator;
  Kind preferred_kind = Kind::kOperator;  // becomes `kind` if the sizes permit it
  int inputs[kMaxInputs] = {};            // tensors of the runtime
  int input_count = 0;
  int output = -1;
  int int8_weights = -1;  // dense layers: the tensor of the weights before a DEQUANTIZE
  Arithmetic arithmetic = Arithmetic::kAdd;
  int variable_input = -1;  // elementwise operations with a constant vector or scalar: the other input
  bool has_clamp = false;   // a fused activation
  float clamp_min = 0.0f, clamp_max = 0.0f;
  bool keep_dims = true;  // of a mean
  int axis = 0;           // of a reversal
  std::unique_ptr<Operator> op;
  SmallConv2d* small_conv2d = nullptr;  // `op`, if it is one
  std::vector<int> replaced_nodes;      // nodes that this one replaces, including itself
};

struct GraphData;

class Graph {
 public:
  Graph(const KernelSet* kernels, ThreadPool* pool);
  ~Graph();

  // Adds a node; its inputs' producers come first. `external` says whether the runtime reads the output.
  bool Add(NodeSpec spec, bool external, Message* why);

  // Sets the content of a tensor that the runtime would otherwise compute from a constant.
  void SetConstant(int tensor, Buffer<float> values);

  // Reads shapes from the runtime, makes everything ready to run, and sets the sizes of external outputs. On failure,
  // *node is the node that cannot run.
  bool Prepare(TfLiteContext* context, const NodeSpec** node, Message* why);

  bool Run(TfLiteContext* context, const NodeSpec** node, Message* why);

 private:
  std::unique_ptr<GraphData> data_;
};

}  // namespace bdd
