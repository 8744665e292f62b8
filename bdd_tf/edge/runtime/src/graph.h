// The nodes that a delegate node replaces, as a graph of our own: which of them run together, tile by tile.
//
// Most of a binary network's time beside its convolutions goes into passes over whole maps: normalisation, activation,
// gates, residuals, each reading and writing megabytes. Here everything that works pixel by pixel on maps of one size
// is one group: a tile of a few pixels and 32 channels goes through all of it while it lies in the first-level cache.
// A binary convolution is the source of such tiles, sign bits and sums over the map are their sinks.
//
// Levels order the work. A node that needs a whole map (a convolution, a pool, anything behind a mean) lies one level
// above what makes it; what works pixel by pixel stays on the level of its inputs. Nodes of one level and one map size
// form a group. Only values that a later level or another delegate's node reads are kept in memory.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "convolution.h"
#include "operator.h"

namespace bdd {

enum class Kind {
  kOperator,     // an Lce* operator that runs as a whole
  kBconv,        // LceBconv2d as a source of tiles
  kQuantize,     // LceQuantize of floats
  kCombine,      // ADD, SUB, MUL, MAXIMUM, MINIMUM
  kPrelu,        // slopes per channel
  kLogistic,     //
  kMean,         // over height and width
  kMeanOfFour,   // AVERAGE_POOL_2D, 2 x 2, stride 2
  kPoolSink,     // the same, of tiles as they are made
  kConcatenate,  // along channels
  kDense,        // CONV_2D of maps of 1 x 1
  kConvolution,  // CONV_2D with a small window, a source of tiles
  kCast,         // bytes to floats
  kTable,        // bytes to what a chain of operations with constants makes of them
  kReverse,      // along height or width
};

// What is fixed about a node before shapes are known.
struct NodeSpec {
  static constexpr int kMaxInputs = 8;

  int index = -1;  // in the runtime's graph, for messages
  const char* name = "";
  Kind kind = Kind::kOperator;
  Kind wanted = Kind::kOperator;  // `kind` where sizes permit it
  int inputs[kMaxInputs] = {};    // tensors of the runtime
  int input_count = 0;
  int output = -1;
  int weights = -1;  // of a dense layer: the bytes behind its weights
  Arithmetic arithmetic = Arithmetic::kAdd;
  int varies = -1;          // of a sum or product with a constant per channel: the other input
  bool has_bounds = false;  // of a fused or separate activation
  float low = 0.0f, high = 0.0f;
  bool keep_dims = true;  // of a mean
  int axis = 0;           // of a reversal
  std::unique_ptr<Operator> op;
  Convolution* convolution = nullptr;  // `op`, where it is one
  std::vector<int> made_of;            // nodes that this one stands for, itself included
};

class Graph {
 public:
  Graph(const KernelSet* kernels, ThreadPool* pool);
  ~Graph();

  // Nodes come in an order in which they could run; `external` says whether the runtime reads the output.
  bool Add(NodeSpec spec, bool external, Message* why);

  // The values of a tensor that the runtime would compute, but need not.
  void Give(int tensor, Buffer<float> values);

  // Reads shapes from the runtime and makes everything ready; tells it the sizes of the outputs it reads.
  // On failure *node is the culprit.
  bool Prepare(TfLiteContext* context, const NodeSpec** node, Message* why);

  bool Run(TfLiteContext* context, const NodeSpec** node, Message* why);

 private:
  struct Tensor;
  struct Node;
  struct Operand;
  struct TileOp;
  struct Step;
  using Behind = std::map<const Node*, std::vector<std::unique_ptr<Node>>>;  // new nodes, by the one they follow

  int TensorOf(int index);
  bool Infer(TfLiteContext* context, Node* node, Message* why);
  bool InferFloats(Node* node, Message* why);
  bool ReadTensor(TfLiteContext* context, Tensor* tensor, Message* why) const;
  bool Floats(const Tensor& tensor, int64_t count, int64_t repeat, const float** values, Message* why);
  static const std::vector<int>& Sources(const Node& node);
  void SplitConcatenations();
  void ForgetSplits();
  void NumberProducers();
  bool Joinable(const Node& node) const;
  bool Spreads(const Node& node, int input) const;
  bool SpreadReaders(int whole, const std::vector<int>& parts, const std::vector<Node*>& makers, int depth,
                     Behind* behind);
  void AbsorbActivations();
  void SinkPools();
  bool AbsorbFeeds(Message* why);
  void KeepDots();
  bool AbsorbChains(Message* why);
  std::vector<Node*> ChainBehind(int input, Node** first);
  bool FillTable(const Node& cast, const std::vector<Node*>& chain, Buffer<float>* table, Message* why);
  Node* OnlyMaker(int tensor);
  void SetLevels();
  void JoinConcatenations();
  void ChooseLayouts();
  bool MakeSteps(const NodeSpec** culprit, Message* why);
  bool AddToGroup(Step* step, Node* node, Message* why);
  bool MakeOperand(const Node& node, int input, const Step& step, Operand* operand, Message* why);
  void PlanChains(Step* step);
  bool PlaceInMemory(Message* why);
  void RunGroup(Step* step);
  void RunItem(const Step& step, int64_t item, int worker);
  void PoolTile(const Step& step, const TileOp& op, int64_t first, int count, int width, int64_t channel, float* out,
                int64_t stride);
  void PoolChunk(const Step& step, const TileOp& op, int64_t block, int64_t begin, int64_t end, const float* made);
  void RunDense(const Step& step);
  void RunConcatenation(const Node& node);
  void RunCast(const Node& node);
  void RunTable(const Node& node);
  void RunReverse(const Node& node);

  const KernelSet& kernels_;
  ThreadPool& pool_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
  size_t own_tensors_ = 0;  // those of the runtime; behind them are those of nodes that were split
  std::vector<std::unique_ptr<Step>> steps_;
  std::vector<std::unique_ptr<Buffer<float>>> constants_;
  Buffer<uint8_t> memory_;
  Buffer<float> scratch_;
  int64_t scratch_floats_ = 0;  // of one worker
};

}  // namespace bdd
