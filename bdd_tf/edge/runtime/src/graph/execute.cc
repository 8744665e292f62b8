// Execution: whole nodes, and groups item by item. A work item is a block of kTileChannels channels and a chunk of
// pixels; it is processed tile by tile, and each tile goes through all operations of the group.
#include <cstring>

#include "graph/graph_internal.h"

namespace bdd {
namespace {

constexpr int64_t kSmallWork = 1 << 13;  // values, or weights, below which a single thread is faster

// Floats of consecutive pixels.
struct Rows {
  float* data;
  int64_t stride;
};

PostOp MakePostOp(PostOp::Operation operation, const float* b, float* out, int64_t stride) {
  return {operation, b, out, nullptr, stride, 0.0f, 0.0f};
}

PostOp MakeClamp(const NodeSpec& spec) {
  return {PostOp::kClamp, nullptr, nullptr, nullptr, 0, spec.clamp_min, spec.clamp_max};
}

PostOp::Operation OperationOf(Arithmetic arithmetic, bool reversed) {
  switch (arithmetic) {
    case Arithmetic::kAdd: return PostOp::kAdd;
    case Arithmetic::kSubtract: return reversed ? PostOp::kReverseSubtract : PostOp::kSubtract;
    case Arithmetic::kMultiply: return PostOp::kMultiply;
    case Arithmetic::kMaximum: return PostOp::kMaximum;
    default: return PostOp::kMinimum;
  }
}

// Runs one work item of a group on one worker.
class ItemRunner {
 public:
  ItemRunner(const GraphData& graph, const Step& step, int64_t item, float* scratch)
      : kernels_(graph.kernels),
        step_(step),
        scratch_(scratch),
        block_(item / step.chunks),
        chunk_(item % step.chunks),
        channel_(block_ * kTileChannels),
        width_(static_cast<int>(std::min<int64_t>(kTileChannels, step.channels - channel_))),
        begin_(chunk_ * step.chunk_pixels),
        end_(step.blocks_as_pixels ? step.blocks : std::min<int64_t>(step.pixels(), (chunk_ + 1) * step.chunk_pixels)) {
  }

  void Run() {
    for (const auto& op : step_.ops) {
      if (op->accumulator_buffer < 0) continue;
      op->source->PrecomputeAccumulators(channel_, begin_, end_ - begin_, Accumulators(*op));
    }
    const int64_t pixels = end_ - begin_, tiles = (pixels + kTilePixels - 1) / kTilePixels;
    // Tiles of about equal size, rounded up to whole tiles of the microkernels: a small last tile would be slow.
    const int64_t even = ((pixels + tiles - 1) / tiles + kernels_.pixels - 1) / kernels_.pixels * kernels_.pixels;
    for (first_ = begin_; first_ < end_; first_ += even) {
      count_ = static_cast<int>(std::min<int64_t>(even, end_ - first_));
      RunTile();
    }
    for (const auto& op : step_.ops) {
      if (op->pool_buffer >= 0) RunFusedPool(*op);
    }
  }

 private:
  // --- Where values are ----------------------------------------------------------------------------------------------

  int64_t OffsetOf(const Tensor& tensor) const {
    if (step_.blocks_as_pixels) return step_.image * tensor.stride + first_ * kTileChannels;
    return tensor.OffsetOf(step_.image, step_.pixels(), first_, block_);
  }
  Rows MapRows(const Tensor& tensor) const {
    return {tensor.floats() + OffsetOf(tensor), step_.blocks_as_pixels ? kTileChannels : tensor.stride};
  }
  int16_t* Int16Rows(const Tensor& tensor) const { return reinterpret_cast<int16_t*>(tensor.data) + OffsetOf(tensor); }
  Rows SlotRows(int slot) const { return {scratch_ + slot * kTileFloats, kTileChannels}; }
  Rows ResultRows(const TileOp& op) const { return op.result != nullptr ? MapRows(*op.result) : SlotRows(op.slot); }
  Rows OperandRows(const Operand& operand) const {
    switch (operand.where) {
      case Operand::kSlot: return SlotRows(operand.slot);
      case Operand::kMap: return MapRows(*operand.tensor);
      case Operand::kSharedMap:
        return {const_cast<float*>(operand.constant) + first_ * step_.channels + channel_, step_.channels};
      default: {
        const int64_t stride = step_.blocks_as_pixels ? kTileChannels : 0, at = channel_ + first_ * stride;
        if (operand.constant != nullptr) return {const_cast<float*>(operand.constant) + at, stride};
        return {operand.tensor->floats() + step_.image * operand.tensor->stride + at, stride};
      }
    }
  }
  int32_t* Accumulators(const TileOp& op) const { return reinterpret_cast<int32_t*>(scratch_ + op.accumulator_buffer); }
  // The sums of a mean over this item's chunk.
  float* PartialSums(TileOp* mean) const { return mean->partial_sums.data() + chunk_ * step_.channels + channel_; }
  const float* PoolSlopes(const TileOp& op) const {
    return op.b.constant != nullptr ? op.b.constant + channel_ : nullptr;
  }

  // --- Post-ops that are collected until the value in registers changes
  // ------------------------------------------------

  void Append(const PostOp& post_op) { post_ops_[post_op_count_++] = post_op; }

  void Flush() {
    if (post_op_count_ > 0) kernels_.post_ops_f32(input_, post_ops_, post_op_count_, count_, width_);
    post_op_count_ = 0;
  }

  void StartFrom(const Rows& rows) {
    input_ = PostOpInput();
    input_.values = rows.data;
    input_.stride = rows.stride;
  }

  void StartFrom(const Operand& operand) {
    if (operand.where != Operand::kMap || !operand.tensor->is_int16()) return StartFrom(OperandRows(operand));
    const Tensor& tensor = *operand.tensor;
    input_ = PostOpInput();
    input_.accumulators = Int16Rows(tensor);
    input_.stride = tensor.stride;
    input_.multiplier = tensor.affine.multiplier + channel_;
    input_.bias = tensor.affine.bias + channel_;
    input_.slopes = tensor.slopes + channel_;
  }

  // --- Operations ----------------------------------------------------------------------------------------------------

  void RunTile() {
    for (const auto& op : step_.ops) {
      if (op->StartsTile()) {
        Flush();
        RunTileStart(*op);
      } else if (!op->computed_by_source) {
        if (!op->a_in_registers && !op->b_in_registers) {
          Flush();
          StartFrom(op->a);
        }
        AppendOperation(op.get());
        if (op->value >= 0) AppendClampAndStore(*op);
      }
    }
    Flush();
  }

  void RunTileStart(const TileOp& op) {
    const NodeSpec& spec = op.node->spec;
    const int32_t* accumulators =
        op.accumulator_buffer >= 0 ? Accumulators(op) + (first_ - begin_) * kTileChannels : nullptr;
    const TileRegion tile = {channel_, width_, first_, count_};
    if (op.node->int16_conv != nullptr) {
      float unused[kTileChannels] = {};
      float* totals = op.mean != nullptr ? PartialSums(op.mean) : unused;
      op.source->ComputeTileInt16(tile, accumulators, op.result->slopes + channel_, totals, Int16Rows(*op.result),
                                  op.result->stride);
      return;
    }
    const Rows out = ResultRows(op);
    if (op.source != nullptr) {
      op.source->ComputeTile(tile, accumulators, out.data, out.stride);
    } else {
      RunPool(op, out);
    }
    if (!spec.has_clamp) return;
    StartFrom(out);
    Append(MakeClamp(spec));
    Append(MakePostOp(PostOp::kStore, nullptr, out.data, out.stride));
    Flush();
  }

  void AppendOperation(TileOp* op) {
    switch (op->node->spec.kind) {
      case Kind::kMean: return Append(MakePostOp(PostOp::kSum, nullptr, PartialSums(op), 0));
      case Kind::kFusedPool: {
        float* to = scratch_ + op->pool_buffer + (first_ - begin_) * kTileChannels;
        return Append(MakePostOp(PostOp::kStore, nullptr, to, kTileChannels));
      }
      case Kind::kQuantize: {
        const int64_t words = op->result->stride;
        PostOp bitpack = MakePostOp(PostOp::kBitpack, nullptr, nullptr, words);
        bitpack.bits =
            reinterpret_cast<uint32_t*>(op->result->data) + (step_.image * step_.pixels() + first_) * words + block_;
        return Append(bitpack);
      }
      case Kind::kPrelu: {
        const Rows slopes = OperandRows(op->b);
        return Append(MakePostOp(PostOp::kPrelu, slopes.data, nullptr, slopes.stride));
      }
      case Kind::kLogistic: return Append(MakePostOp(PostOp::kLogistic, nullptr, nullptr, 0));
      default: {
        const Rows other = OperandRows(op->b_in_registers ? op->a : op->b);
        const PostOp::Operation operation = OperationOf(op->node->spec.arithmetic, op->b_in_registers);
        return Append(MakePostOp(operation, other.data, nullptr, other.stride));
      }
    }
  }

  void AppendClampAndStore(const TileOp& op) {
    if (op.node->spec.has_clamp) Append(MakeClamp(op.node->spec));
    if (op.result == nullptr && op.slot < 0) return;
    const Rows out = ResultRows(op);
    Append(MakePostOp(PostOp::kStore, nullptr, out.data, out.stride));
  }

  // Pools the tile's pixels from a map in memory, whose rows are twice as long.
  void RunPool(const TileOp& op, const Rows& out) const {
    const Tensor& from = *op.a.tensor;
    const int64_t side = 2 * step_.width, pixels = 2 * step_.height * side;
    for (int done = 0; done < count_;) {
      const int64_t y = (first_ + done) / step_.width, x = (first_ + done) % step_.width;
      const int part = static_cast<int>(std::min<int64_t>(count_ - done, step_.width - x));
      const float* window = from.floats() + from.OffsetOf(step_.image, pixels, 2 * y * side + 2 * x, block_);
      kernels_.average_pool_2x2_f32({window, 2 * from.stride, from.stride, side * from.stride, PoolSlopes(op)}, part,
                                    width_, out.data + done * out.stride, out.stride);
      done += part;
    }
  }

  // Pools the item's pixels from the pool buffer, which holds pairs of whole rows.
  void RunFusedPool(const TileOp& op) const {
    const Tensor& to = *op.result;
    const int64_t below = step_.width * kTileChannels, side = step_.width / 2;
    const float* from = scratch_ + op.pool_buffer;
    float* out = to.floats() + to.OffsetOf(step_.image, step_.pixels() / 4, begin_ / 4, block_);
    for (int64_t pixel = begin_; pixel < end_; pixel += 2 * step_.width, from += 2 * below, out += side * to.stride) {
      kernels_.average_pool_2x2_f32({from, 2 * kTileChannels, kTileChannels, below, PoolSlopes(op)},
                                    static_cast<int>(side), width_, out, to.stride);
    }
  }

  const KernelSet& kernels_;
  const Step& step_;
  float* const scratch_;
  const int64_t block_, chunk_;
  const int64_t channel_;      // the first one
  const int width_;            // channels
  const int64_t begin_, end_;  // pixels

  // The current tile.
  int64_t first_ = 0;
  int count_ = 0;
  PostOpInput input_;
  PostOp post_ops_[kMaxPostOps];
  int post_op_count_ = 0;
};

void FinishMean(const Step& step, TileOp* op) {
  float* mean = op->result->floats() + step.image * op->result->stride;
  float* sums = op->partial_sums.data();
  for (int64_t chunk = 1; chunk < step.chunks; ++chunk) {
    const float* more = sums + chunk * step.channels;
    for (int64_t c = 0; c < step.channels; ++c) sums[c] += more[c];
  }
  for (int64_t c = 0; c < step.channels; ++c) mean[c] = sums[c] / static_cast<float>(step.pixels());
}

void RunGroup(GraphData* graph, Step* step) {
  struct Call {
    const GraphData* graph;
    const Step* step;
  } call = {graph, step};
  const auto run = [](void* argument, int64_t item, int worker) {
    const Call& c = *static_cast<Call*>(argument);
    float* scratch = const_cast<float*>(c.graph->scratch.data()) + worker * c.graph->worker_scratch;
    ItemRunner(*c.graph, *c.step, item, scratch).Run();
  };
  const int64_t items = step->blocks_as_pixels ? 1 : step->blocks * step->chunks;
  for (step->image = 0; step->image < step->images; ++step->image) {
    for (const auto& op : step->ops) {
      if (op->source != nullptr) {
        const Tensor& input = graph->tensor(op->node->Inputs()[0]);
        const int64_t bytes = input.value.shape.Product(1, 4) * SizeOf(input.value.type);
        op->source->BeginImage(input.data + step->image * bytes, &graph->pool);
      }
      if (op->node->spec.kind == Kind::kMean) op->partial_sums.Clear();
    }
    if (step->pixels() * step->channels < kSmallWork) {
      for (int64_t item = 0; item < items; ++item) run(&call, item, 0);
    } else {
      graph->pool.Run(items, run, &call);
    }
    for (const auto& op : step->ops) {
      if (op->node->spec.kind == Kind::kMean) FinishMean(*step, op.get());
    }
  }
}

void RunDense(const GraphData& graph, const Step& step) {
  constexpr int64_t kOutputsOfItem = 16;
  const Node& node = *step.node;
  const Tensor &input = graph.input(node, 0), &output = graph.output(node);
  const Value& weights = graph.input(node, 1).value;
  const int64_t inputs = input.value.shape.dims[3], outputs = output.value.shape.dims[3];
  const int64_t items = (outputs + kOutputsOfItem - 1) / kOutputsOfItem;
  for (int64_t n = 0; n < input.value.shape.dims[0]; ++n) {
    const float* x = input.floats() + n * inputs;
    float* out = output.floats() + n * outputs;
    const auto run = [&](int64_t item) {
      const int64_t first = item * kOutputsOfItem, count = std::min(kOutputsOfItem, outputs - first);
      if (weights.type == kTfLiteInt8) {
        const int8_t* rows = static_cast<const int8_t*>(weights.constant) + first * inputs;
        return graph.kernels.dense_f32_i8(rows, weights.scale, step.bias + first, x, inputs, count, out + first);
      }
      graph.kernels.dense_f32(step.weights + first * inputs, step.bias + first, x, inputs, count, out + first);
    };
    if (inputs * outputs < kSmallWork) {
      for (int64_t item = 0; item < items; ++item) run(item);
    } else {
      graph.pool.ForEach(items, run);
    }
    if (!node.spec.has_clamp) continue;
    for (int64_t o = 0; o < outputs; ++o) {
      out[o] = std::min(std::max(out[o], node.spec.clamp_min), node.spec.clamp_max);
    }
  }
}

void RunConcatenation(const GraphData& graph, const Node& node) {
  const Tensor& output = graph.output(node);
  const int64_t pixels = output.value.shape.Product(0, 3);
  int64_t channel = 0;
  for (const int number : node.inputs) {
    const Tensor& part = graph.tensor(number);
    const int64_t width = part.value.shape.dims[3];
    const auto* from = part.value.constant != nullptr ? static_cast<const uint8_t*>(part.value.constant) : part.data;
    for (int64_t p = 0; p < pixels; ++p) {
      std::memcpy(output.data + 4 * (p * output.stride + channel), from + 4 * p * part.stride,
                  static_cast<size_t>(4 * width));
    }
    channel += width;
  }
}

void RunCast(const GraphData& graph, const Node& node) {
  const Tensor& input = graph.input(node, 0);
  float* out = graph.output(node).floats();
  const int64_t count = input.value.shape.Elements();
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(input.data[i]);
}

void RunLookupTable(const GraphData& graph, const Node& node) {
  constexpr int64_t kPixelsOfItem = 4096;
  const Tensor &input = graph.tensor(node.fused_inputs[0]), &output = graph.output(node);
  const int64_t channels = input.value.shape.dims[3], pixels = input.value.shape.Product(0, 3);
  const float* table = node.table->data();
  graph.pool.ForEach((pixels + kPixelsOfItem - 1) / kPixelsOfItem, [&](int64_t item) {
    const int64_t last = std::min(pixels, (item + 1) * kPixelsOfItem);
    for (int64_t p = item * kPixelsOfItem; p < last; ++p) {
      const uint8_t* from = input.data + p * channels;
      float* to = output.floats() + p * channels;
      for (int64_t c = 0; c < channels; ++c) to[c] = table[256 * c + from[c]];
    }
  });
}

void RunReverse(const GraphData& graph, const Node& node) {
  const Tensor &input = graph.input(node, 0), &output = graph.output(node);
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

}  // namespace

void RunStep(GraphData* graph, Step* step) {
  if (step->node == nullptr) return RunGroup(graph, step);
  const Node& node = *step->node;
  switch (node.spec.kind) {
    case Kind::kConcatenate: return RunConcatenation(*graph, node);
    case Kind::kDense: return RunDense(*graph, *step);
    case Kind::kCast: return RunCast(*graph, node);
    case Kind::kLookupTable: return RunLookupTable(*graph, node);
    case Kind::kReverse: return RunReverse(*graph, node);
    default: node.spec.op->Run(graph->input(node, 0).data, graph->output(node).data, &graph->pool);
  }
}

}  // namespace bdd
