// Running what was prepared.
#include <cstring>

#include "graph_parts.h"

namespace bdd {
namespace {
constexpr int64_t kSmall = 1 << 13;    // numbers, or weights, below which one thread does it all
constexpr int64_t kDenseOutputs = 16;  // of an item of work

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
  const int64_t end = column ? step.blocks : std::min<int64_t>(pixels, (chunk + 1) * step.chunk);
  float* scratch = scratch_.data() + worker * scratch_floats_;

  // Numbers of a map in front of a tile's.
  const auto place = [&](const Tensor& tensor, int64_t first) {
    if (column) return step.image * tensor.stride + first * kTileChannels;
    return tensor.Place(step.image, pixels, first, block);
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
  const int64_t begin = chunk * step.chunk;
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
        case Kind::kPoolSink: {
          float* to = scratch + op.made + (first - begin) * kTileChannels;
          chain[length++] = Make(ChainStep::kStore, nullptr, to, kTileChannels);
          break;
        }
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
  for (const auto& op : step.ops) {
    if (op->made >= 0) PoolChunk(step, *op, block, begin, end, scratch + op->made);
  }
}

// The pooled pixels of an item: [pixels][kTileChannels], pairs of whole rows.
void Graph::PoolChunk(const Step& step, const TileOp& op, int64_t block, int64_t begin, int64_t end,
                      const float* made) {
  const Tensor& to = *op.result;
  const int64_t channel = block * kTileChannels, first = begin / 4, pixels = step.height * step.width / 4;
  const int width = static_cast<int>(std::min<int64_t>(kTileChannels, step.channels - channel));
  const float* slopes = op.b.constant != nullptr ? op.b.constant + channel : nullptr;
  float* out = reinterpret_cast<float*>(to.data) + to.Place(step.image, pixels, first, block);
  const int64_t below = step.width * kTileChannels, side = step.width / 2;
  for (int64_t pixel = begin; pixel < end; pixel += 2 * step.width, made += 2 * below, out += side * to.stride) {
    kernels_.mean_of_four(out, to.stride, made, 2 * kTileChannels, kTileChannels, below, slopes, static_cast<int>(side),
                          width);
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
    const float* a =
        reinterpret_cast<const float*>(from.data) + from.Place(step.image, pixels, pixel, channel / kTileChannels);
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
      float* mean = reinterpret_cast<float*>(op->result->data) + n * op->result->stride;
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
