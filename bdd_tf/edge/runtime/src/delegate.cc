// The delegate that a TFLite runtime loads: it claims every Lce* operator of a model and runs it.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "channels_match.h"
#include "exports.h"
#include "graph.h"
#include "kernels.h"
#include "tflite_abi.h"
#include "threads.h"

namespace bdd {
namespace {

constexpr const char* kNames[] = {"LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d"};

// By tensor: the constant of bytes or halves that a DEQUANTIZE makes it of, or -1.
using Stored = std::vector<int>;

struct Delegate {
  TfLiteDelegate base;  // its address is what the runtime knows
  const KernelSet* kernels;
  bool fuse;
  ThreadPool pool;
  Stored stored;  // of the model that is being prepared

  Delegate(const KernelSet* set, int threads, bool fused) : base(), kernels(set), fuse(fused), pool(threads) {}
};

TfLiteStatus Refuse(TfLiteContext* context, int node, const char* name, const Message& why) {
  context->ReportError(context, "bdd_tf: node %d (%s): %s", node, name, why.text());
  return kTfLiteError;
}

const char* BinaryName(const TfLiteRegistration* registration) {
  if (registration->builtin_code != kTfLiteBuiltinCustom || registration->custom_name == nullptr) return nullptr;
  for (const char* name : kNames) {
    if (std::strcmp(registration->custom_name, name) == 0) return name;
  }
  return nullptr;
}

// An activation of TFLite as bounds. False for those that are none.
bool Bounds(int activation, NodeSpec* spec) {
  constexpr float kNoBound = 3.402823466e38f;
  spec->has_bounds = activation != 0;
  spec->low = activation == 2 ? -1.0f : 0.0f;
  spec->high = activation == 2 ? 1.0f : activation == 3 ? 6.0f : kNoBound;
  return activation >= 0 && activation <= 3;
}

// Whether a convolution is one of few products a pixel for many channels, and fits its map: what ours is faster at.
bool IsSmallConvolution(const TfLiteConvParams& p, const TfLiteTensor& input, const TfLiteTensor& filter,
                        const TfLiteTensor& bias) {
  constexpr int kLargest = 1 << 12, kManyChannels = 16, kFewChannels = 8;
  const int *map = input.dims->data, *dims = filter.dims->data;
  for (int i = 0; i < 4; ++i) {
    if (map[i] < 1 || map[i] > (1 << 16) || dims[i] < 1 || dims[i] > kLargest) return false;
  }
  for (const int number : {p.stride_width, p.stride_height, p.dilation_width, p.dilation_height}) {
    if (number < 1 || number > kLargest) return false;
  }
  const int64_t products = int64_t{dims[1]} * dims[2] * dims[3];
  Window rows = {dims[1], p.stride_height, p.dilation_height}, columns = {dims[2], p.stride_width, p.dilation_width};
  return (map[1] > 1 || map[2] > 1) && products <= kMaxConvolutionProducts && dims[0] >= kManyChannels &&
         dims[3] == map[3] && map[3] <= kFewChannels && bias.dims->size == 1 && bias.dims->data[0] == dims[0] &&
         bias.bytes == sizeof(float) * static_cast<size_t>(dims[0]) &&
         filter.bytes == sizeof(float) * static_cast<size_t>(products * dims[0]) && rows.Fit(map[1], p.padding == 1) &&
         columns.Fit(map[2], p.padding == 1);
}

// Of a constant with a shape; -1 where that is none.
int64_t StoredCount(const TfLiteTensor& constant) {
  int64_t count = 1;
  for (int i = 0; i < constant.dims->size; ++i) count = Times(count, constant.dims->data[i]);
  return count;
}

float FromHalf(uint16_t half) {
  const uint32_t magnitude = half & 0x7fffu, sign = (half & 0x8000u) << 16;
  if (magnitude < 0x0400u) {  // zero, or too small for an exponent of its own
    const float value = static_cast<float>(magnitude) / 16777216.0f;
    return sign != 0 ? -value : value;
  }
  // Infinity and NaN keep the largest exponent, others have theirs counted from 127 instead of 15.
  const uint32_t bits = sign | (magnitude >= 0x7c00u ? 0x7f800000u | magnitude << 13 : (magnitude << 13) + 0x38000000u);
  float value = 0.0f;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The tensor that a node makes if it is such a DEQUANTIZE, and in `stored` the constant; else -1.
int UnpackedBy(TfLiteContext* context, int index, int* stored = nullptr) {
  TfLiteNode* node = nullptr;
  TfLiteRegistration* registration = nullptr;
  if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk ||
      registration->builtin_code != kTfLiteBuiltinDequantize || node->inputs == nullptr || node->outputs == nullptr ||
      node->inputs->size != 1 || node->outputs->size != 1) {
    return -1;
  }
  const int from = node->inputs->data[0], to = node->outputs->data[0];
  if (from < 0 || to < 0 || static_cast<size_t>(from) >= context->tensors_size ||
      static_cast<size_t>(to) >= context->tensors_size) {
    return -1;
  }
  const TfLiteTensor &narrow = context->tensors[from], &floats = context->tensors[to];
  if (narrow.allocation_type != kTfLiteMmapRo || narrow.data == nullptr || narrow.dims == nullptr ||
      floats.type != kTfLiteFloat32 || floats.dims == nullptr || floats.dims->size != narrow.dims->size ||
      narrow.dims->size < 1 ||
      std::memcmp(floats.dims->data, narrow.dims->data, sizeof(int) * static_cast<size_t>(narrow.dims->size)) != 0) {
    return -1;
  }
  const int64_t count = StoredCount(narrow);
  // Scales per channel are kept in a structure that differs between runtimes: those have a scale of 0 here.
  const bool bytes = narrow.type == kTfLiteInt8 && narrow.params.scale > 0.0f && narrow.params.scale < 1e30f &&
                     narrow.params.zero_point == 0 && narrow.bytes == static_cast<size_t>(count);
  const bool halves = narrow.type == kTfLiteFloat16 && narrow.bytes == 2 * static_cast<size_t>(count);
  if (count < 1 || (!bytes && !halves)) return -1;
  if (stored != nullptr) *stored = from;
  return to;
}

// What a DEQUANTIZE makes of such a constant. False where there is no memory.
bool Unpack(const TfLiteTensor& narrow, Buffer<float>* floats) {
  const int64_t count = StoredCount(narrow);
  if (!floats->Reset(count)) return false;
  for (int64_t i = 0; i < count; ++i) {
    if (narrow.type == kTfLiteInt8) {
      (*floats)[i] = narrow.params.scale * static_cast<float>(static_cast<const int8_t*>(narrow.data)[i]);
    } else {
      uint16_t half = 0;  // the file's bytes need not be aligned
      std::memcpy(&half, static_cast<const uint8_t*>(narrow.data) + 2 * i, 2);
      (*floats)[i] = FromHalf(half);
    }
  }
  return true;
}

// The one output of a node that is known to have one.
int OutputOf(TfLiteContext* context, int index) {
  TfLiteNode* node = nullptr;
  TfLiteRegistration* registration = nullptr;
  context->GetNodeAndRegistration(context, index, &node, &registration);
  return node->outputs->data[0];
}

// The bytes behind a dense layer's weights, which it multiplies as they are; null where there are none.
const TfLiteTensor* StoredWeights(const TfLiteContext* context, const Stored& stored, int weights, NodeSpec* spec) {
  const int from = stored[static_cast<size_t>(weights)];
  if (from < 0 || context->tensors[from].type != kTfLiteInt8) return nullptr;
  spec->weights = from;
  return &context->tensors[from];
}

// What a built-in node is to us. False where we cannot run it; what depends on sizes is checked while preparing, which
// must then succeed: hence the look at the sizes in the file.
bool DescribeBuiltin(const TfLiteContext* context, const Stored& stored, const TfLiteNode* node, int code,
                     NodeSpec* spec) {
  TfLiteTensor unpacked[NodeSpec::kMaxInputs];
  const auto tensor = [&](const TfLiteIntArray* list, int i) -> const TfLiteTensor* {
    if (list == nullptr || i >= list->size || list->data[i] < 0 ||
        static_cast<size_t>(list->data[i]) >= context->tensors_size) {
      return nullptr;
    }
    const TfLiteTensor& there = context->tensors[list->data[i]];
    const int from = stored[static_cast<size_t>(list->data[i])];
    if (from < 0 || i >= NodeSpec::kMaxInputs) return &there;
    // To us it is a constant: InitPartition unpacks it for those that want floats.
    unpacked[i] = there;
    unpacked[i].allocation_type = kTfLiteMmapRo;
    unpacked[i].data = context->tensors[from].data;
    unpacked[i].bytes = sizeof(float) * static_cast<size_t>(StoredCount(context->tensors[from]));
    return &unpacked[i];
  };
  const auto is_map = [](const TfLiteTensor* t) {
    return t != nullptr && t->type == kTfLiteFloat32 && t->dims != nullptr && t->dims->size == 4;
  };
  const auto constant = [](const TfLiteTensor* t) {
    return t != nullptr && t->allocation_type == kTfLiteMmapRo && t->data != nullptr && t->dims != nullptr;
  };
  const TfLiteTensor* input = tensor(node->inputs, 0);
  const TfLiteTensor* second = tensor(node->inputs, 1);
  const TfLiteTensor* output = tensor(node->outputs, 0);
  if (input == nullptr || output == nullptr || output->type != kTfLiteFloat32) return false;
  if (constant(input) && (second == nullptr || constant(second))) return false;
  const void* parameters = node->builtin_data;
  switch (code) {
    case kTfLiteBuiltinAdd:
    case kTfLiteBuiltinSub:
    case kTfLiteBuiltinMul:
      if (parameters == nullptr || !Bounds(static_cast<const TfLiteActivationParams*>(parameters)->activation, spec))
        return false;
      spec->name = code == kTfLiteBuiltinAdd ? "ADD" : code == kTfLiteBuiltinSub ? "SUB" : "MUL";
      spec->arithmetic = code == kTfLiteBuiltinAdd   ? Arithmetic::kAdd
                         : code == kTfLiteBuiltinSub ? Arithmetic::kSubtract
                                                     : Arithmetic::kMultiply;
      spec->wanted = Kind::kCombine;
      break;
    case kTfLiteBuiltinMaximum:
    case kTfLiteBuiltinMinimum:
      spec->name = code == kTfLiteBuiltinMaximum ? "MAXIMUM" : "MINIMUM";
      spec->arithmetic = code == kTfLiteBuiltinMaximum ? Arithmetic::kMaximum : Arithmetic::kMinimum;
      spec->wanted = Kind::kCombine;
      break;
    case kTfLiteBuiltinPrelu:
      spec->name = "PRELU";
      spec->wanted = Kind::kPrelu;
      return is_map(input) && constant(second) && second->type == kTfLiteFloat32 && second->dims->size >= 1 &&
             second->bytes == sizeof(float) * static_cast<size_t>(input->dims->data[3]);
    case kTfLiteBuiltinLogistic:
      spec->name = "LOGISTIC";
      spec->wanted = Kind::kLogistic;
      return is_map(input);
    case kTfLiteBuiltinMean: {
      if (parameters == nullptr || !is_map(input) || !constant(second) || second->type != kTfLiteInt32 ||
          second->bytes != 2 * sizeof(int32_t)) {
        return false;
      }
      int32_t axes[2] = {};
      std::memcpy(axes, second->data, sizeof axes);
      spec->name = "MEAN";
      spec->wanted = Kind::kMean;
      spec->keep_dims = static_cast<const TfLiteReducerParams*>(parameters)->keep_dims != 0;
      return (axes[0] == 1 && axes[1] == 2) || (axes[0] == 2 && axes[1] == 1);
    }
    case kTfLiteBuiltinAveragePool2d: {
      const auto* pool = static_cast<const TfLitePoolParams*>(parameters);
      spec->name = "AVERAGE_POOL_2D";
      spec->wanted = Kind::kMeanOfFour;
      return pool != nullptr && is_map(input) && Bounds(pool->activation, spec) && pool->filter_height == 2 &&
             pool->filter_width == 2 && pool->stride_height == 2 && pool->stride_width == 2 &&
             input->dims->data[1] % 2 == 0 && input->dims->data[2] % 2 == 0;
    }
    case kTfLiteBuiltinConcatenation: {
      const auto* join = static_cast<const TfLiteConcatenationParams*>(parameters);
      spec->name = "CONCATENATION";
      spec->wanted = Kind::kConcatenate;
      if (join == nullptr || join->activation != 0 || (join->axis != 3 && join->axis != -1)) return false;
      for (int i = 0; i < node->inputs->size; ++i) {
        if (!is_map(tensor(node->inputs, i)) || constant(tensor(node->inputs, i))) return false;
      }
      return true;
    }
    case kTfLiteBuiltinConv2d: {
      const auto* convolution = static_cast<const TfLiteConvParams*>(parameters);
      const TfLiteTensor* bias = tensor(node->inputs, 2);
      spec->name = "CONV_2D";
      if (convolution != nullptr && convolution->padding >= 1 && convolution->padding <= 2 && is_map(input) &&
          !constant(input) && is_map(second) && constant(second) && constant(bias) && bias->type == kTfLiteFloat32 &&
          Bounds(convolution->activation, spec) && IsSmallConvolution(*convolution, *input, *second, *bias)) {
        std::unique_ptr<Convolution> made =
            MakeConvolution({convolution->padding == 1, convolution->stride_height, convolution->stride_width,
                             convolution->dilation_height, convolution->dilation_width});
        spec->convolution = made.get();
        spec->op = std::move(made);
        spec->wanted = Kind::kConvolution;
        return spec->op != nullptr;
      }
      spec->wanted = Kind::kDense;
      if (is_map(second)) {
        const TfLiteTensor* bytes = StoredWeights(context, stored, node->inputs->data[1], spec);
        if (bytes != nullptr) second = bytes;
      }
      return convolution != nullptr && Bounds(convolution->activation, spec) && is_map(input) && second != nullptr &&
             constant(second) && second->dims->size == 4 && constant(bias) && bias->type == kTfLiteFloat32 &&
             input->dims->data[1] == 1 && input->dims->data[2] == 1 && second->dims->data[1] == 1 &&
             second->dims->data[2] == 1 && second->dims->data[3] == input->dims->data[3];
    }
    case kTfLiteBuiltinCast:
      spec->name = "CAST";
      spec->wanted = Kind::kCast;
      return is_map(output) && input->type == kTfLiteUInt8 && input->dims != nullptr && input->dims->size == 4 &&
             !constant(input);
    case kTfLiteBuiltinReverseV2: {
      int32_t axis = 0;
      spec->name = "REVERSE_V2";
      spec->wanted = Kind::kReverse;
      if (!is_map(input) || constant(input) || !constant(second) || second->type != kTfLiteInt32 ||
          second->bytes != sizeof axis) {
        return false;
      }
      std::memcpy(&axis, second->data, sizeof axis);
      return axis == 1 || axis == 2;
    }
    default: return false;
  }
  // Sums and products: of two maps, or of a map and something that repeats.
  if (!is_map(output) || input == nullptr || second == nullptr) return false;
  for (const TfLiteTensor* operand : {input, second}) {
    if (operand->type != kTfLiteFloat32 || operand->dims == nullptr) return false;
    const TfLiteIntArray* dims = operand->dims;
    const bool whole = dims->size == 4 && std::memcmp(dims->data, output->dims->data, sizeof(int) * 4) == 0;
    const bool vector = dims->size == 4 && dims->data[0] == output->dims->data[0] && dims->data[1] == 1 &&
                        dims->data[2] == 1 && dims->data[3] == output->dims->data[3];
    const auto count = static_cast<size_t>(output->dims->data[3]) * sizeof(float);
    const bool channels = constant(operand) && dims->size >= 1 && dims->data[dims->size - 1] == output->dims->data[3] &&
                          operand->bytes == count;
    const bool scalar = constant(operand) && operand->bytes == sizeof(float);
    if (!whole && !vector && !channels && !scalar) return false;
    if (channels || scalar) spec->varies = operand == input ? 1 : 0;
  }
  return true;
}

// A node as the graph wants it; false where it is none of ours, or (with `why` set) a broken one.
bool Describe(TfLiteContext* context, const Stored& stored, int index, bool fuse, NodeSpec* spec, Message* why) {
  TfLiteNode* node = nullptr;
  TfLiteRegistration* registration = nullptr;
  spec->index = index;
  if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk) {
    return why->Set("the runtime does not show it");
  }
  const char* binary = BinaryName(registration);
  const bool fits = node->inputs != nullptr && node->outputs != nullptr && node->inputs->size >= 1 &&
                    node->inputs->size <= NodeSpec::kMaxInputs && node->outputs->size == 1;
  if (binary != nullptr) {
    spec->name = binary;
    if (!fits) return why->Set("a number of inputs or outputs that it cannot have");
    const int size = node->custom_initial_data_size;
    spec->op = MakeOperator(binary, static_cast<const uint8_t*>(node->custom_initial_data),
                            size > 0 ? static_cast<size_t>(size) : 0, why);
    if (spec->op == nullptr) return false;
    if (fuse && std::strcmp(binary, "LceBconv2d") == 0) spec->wanted = Kind::kBconv;
    if (fuse && std::strcmp(binary, "LceQuantize") == 0) spec->wanted = Kind::kQuantize;
  } else if (!fuse || !fits || !DescribeBuiltin(context, stored, node, registration->builtin_code, spec)) {
    return false;
  }
  spec->input_count = node->inputs->size;
  for (int i = 0; i < spec->input_count; ++i) spec->inputs[i] = node->inputs->data[i];
  if (spec->weights >= 0) spec->inputs[1] = spec->weights;
  spec->output = node->outputs->data[0];
  return true;
}

// Adds a node to the readers of each tensor that it reads.
void CountReaders(TfLiteContext* context, int index, std::vector<int>* readers) {
  TfLiteNode* node = nullptr;
  TfLiteRegistration* registration = nullptr;
  if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk) return;
  for (int i = 0; node->inputs != nullptr && i < node->inputs->size; ++i) {
    const int tensor = node->inputs->data[i];
    if (tensor >= 0 && static_cast<size_t>(tensor) < readers->size()) ++(*readers)[static_cast<size_t>(tensor)];
  }
}

bool IsBinary(const NodeSpec& spec) {
  return spec.op != nullptr && spec.convolution == nullptr && spec.made_of.empty();
}

// The node at the end of forensic channels as one that does it all; false where it is no such node.
bool DescribeChannels(TfLiteContext* context, const std::vector<int>& among, const std::vector<int>& readers, int index,
                      NodeSpec* spec) {
  ChannelsMatch match;
  if (!MatchChannels(context, among, readers, index, &match)) return false;
  spec->index = index;
  spec->name = "forensic channels";
  spec->wanted = Kind::kOperator;
  spec->op = MakeChannels(match.spec);
  spec->convolution = nullptr;
  spec->input_count = 1;
  spec->inputs[0] = match.image;
  spec->output = match.output;
  spec->made_of = std::move(match.nodes);
  return spec->op != nullptr;
}

// Gives the graph constants that a DEQUANTIZE would unpack for a node.
bool Supply(const TfLiteContext* context, const Stored& stored, const NodeSpec& spec, Graph* graph, Message* why) {
  // Of binary operators, multiplier and bias alone can be such.
  for (int i = IsBinary(spec) ? 2 : 0; i < spec.input_count; ++i) {
    const int input = spec.inputs[i];
    const int from = input >= 0 && static_cast<size_t>(input) < stored.size() ? stored[static_cast<size_t>(input)] : -1;
    if (from < 0) continue;
    Buffer<float> floats;
    if (!Unpack(context->tensors[from], &floats)) return why->Set("no memory for tensor %d", input);
    graph->Give(input, std::move(floats));
  }
  return true;
}

// The nodes that one delegate node replaces.
struct Partition {
  Graph graph;
  Partition(const KernelSet* kernels, ThreadPool* pool) : graph(kernels, pool) {}
};

void* InitPartition(TfLiteContext* context, const char* buffer, size_t) {
  const auto* params = reinterpret_cast<const TfLiteDelegateParams*>(buffer);
  auto* delegate = static_cast<Delegate*>(params->delegate->data);
  std::unique_ptr<Partition> made(new (std::nothrow) Partition(delegate->kernels, &delegate->pool));
  if (made == nullptr) return nullptr;
  const TfLiteIntArray* replaced = params->nodes_to_replace;
  const std::vector<int> order(replaced->data, replaced->data + replaced->size);
  const auto is_external = [&](int tensor) {
    const int* outputs = params->output_tensors->data;
    return std::find(outputs, outputs + params->output_tensors->size, tensor) != outputs + params->output_tensors->size;
  };
  std::vector<int> readers(context->tensors_size, 0);
  for (const int index : order) CountReaders(context, index, &readers);
  std::vector<int> inside;  // of forensic channels, done by the last of their nodes
  std::vector<std::unique_ptr<NodeSpec>> channels;
  for (const int index : order) {
    std::unique_ptr<NodeSpec> spec(new NodeSpec);
    if (!delegate->fuse || !DescribeChannels(context, order, readers, index, spec.get())) continue;
    inside.insert(inside.end(), spec->made_of.begin(), spec->made_of.end());
    channels.push_back(std::move(spec));
  }
  for (const int index : order) {
    NodeSpec spec;
    Message why;
    bool good = true;
    // Those that read it read what is behind it, here or in another partition.
    if (UnpackedBy(context, index) >= 0) continue;
    if (std::find(inside.begin(), inside.end(), index) != inside.end()) {
      const auto at = std::find_if(channels.begin(), channels.end(), [&](const auto& c) { return c->index == index; });
      if (at == channels.end()) {
        if (!is_external(OutputOf(context, index))) continue;
        good = why.Set("its result, a part of forensic channels, is read elsewhere; fuse=0 leaves it to the runtime");
      } else {
        spec = std::move(**at);
      }
    } else {
      good = Describe(context, delegate->stored, index, delegate->fuse, &spec, &why);
    }
    const char* name = spec.name;
    if (good) {
      const bool external = is_external(spec.output);
      good = Supply(context, delegate->stored, spec, &made->graph, &why);
      good = good && made->graph.Add(std::move(spec), external, &why);
    }
    if (!good) {
      Refuse(context, index, name, why);
      return nullptr;
    }
  }
  return made.release();
}

void FreePartition(TfLiteContext*, void* partition) { delete static_cast<Partition*>(partition); }

TfLiteStatus PreparePartition(TfLiteContext* context, TfLiteNode* node) {
  auto* partition = static_cast<Partition*>(node->user_data);
  if (partition == nullptr) return kTfLiteError;
  Message why;
  const NodeSpec* culprit = nullptr;
  if (partition->graph.Prepare(context, &culprit, &why)) return kTfLiteOk;
  return Refuse(context, culprit->index, culprit->name, why);
}

TfLiteStatus InvokePartition(TfLiteContext* context, TfLiteNode* node) {
  auto* partition = static_cast<Partition*>(node->user_data);
  if (partition == nullptr) return kTfLiteError;
  Message why;
  const NodeSpec* culprit = nullptr;
  if (partition->graph.Run(context, &culprit, &why)) return kTfLiteOk;
  return Refuse(context, culprit->index, culprit->name, why);
}

// Binary operators, and what hangs together with them: nodes behind one of ours, and nodes all of whose readers are
// ours. Others stay with the runtime, lest a network without binary operators be cut to pieces.
std::vector<bool> Choose(const std::vector<std::unique_ptr<NodeSpec>>& specs, const std::vector<int>& readers) {
  const size_t count = specs.size();
  std::vector<bool> ours(count, false);
  for (size_t i = 0; i < count; ++i) ours[i] = specs[i] != nullptr && IsBinary(*specs[i]);
  const auto loads = [](Kind kind) {
    return kind == Kind::kConvolution || kind == Kind::kCast || kind == Kind::kReverse;
  };
  const auto reads = [&](size_t reader, int tensor) {
    for (int k = 0; k < specs[reader]->input_count; ++k) {
      if (specs[reader]->inputs[k] == tensor) return true;
    }
    return false;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < count; ++i) {
      if (specs[i] == nullptr || ours[i]) continue;
      bool behind = false, in_front = false;
      for (size_t j = 0; j < count && !behind; ++j) {
        if (ours[j] && j < i && reads(i, specs[j]->output)) behind = true;
        if (ours[j] && j > i && reads(j, specs[i]->output) && !loads(specs[j]->wanted)) in_front = true;
      }
      const Kind wanted = specs[i]->wanted;
      if (!specs[i]->made_of.empty()) continue;
      if (loads(wanted)) behind = false;
      // In front: sums and biases that our nodes read, the first convolution, and what these are made of.
      if (wanted == Kind::kDense || wanted == Kind::kCast || wanted == Kind::kReverse) in_front = false;
      if (behind || in_front) ours[i] = changed = true;
    }
  }
  // A convolution does what lies in front of it while it loads: reversals, and all that happens to bytes.
  for (size_t i = 0; i < count; ++i) {
    if (!ours[i] || specs[i]->wanted != Kind::kConvolution) continue;
    int input = specs[i]->inputs[0];
    const auto maker = [&]() -> size_t {
      for (size_t j = 0; j < i; ++j) {
        if (specs[j] != nullptr && specs[j]->output == input) {
          return !ours[j] && readers[static_cast<size_t>(input)] == 1 ? j : count;
        }
      }
      return count;
    };
    size_t at = maker();
    for (; at < count && specs[at]->wanted == Kind::kReverse; at = maker()) {
      ours[at] = true;
      input = specs[at]->inputs[0];
    }
    std::vector<size_t> chain;
    for (; at < count && specs[at]->wanted == Kind::kCombine && specs[at]->varies >= 0; at = maker()) {
      chain.push_back(at);
      input = specs[at]->inputs[specs[at]->varies];
    }
    if (at == count || specs[at]->wanted != Kind::kCast) continue;
    ours[at] = true;
    for (const size_t j : chain) ours[j] = true;
  }
  for (size_t i = 0; i < count; ++i) {
    if (specs[i] == nullptr) continue;
    // Forensic channels are done faster here whatever reads them.
    if (!specs[i]->made_of.empty()) ours[i] = true;
    if (ours[i] || specs[i]->wanted != Kind::kCast) continue;
    // So is what happens to bytes one by one: it is looked up.
    size_t last = i;
    std::vector<size_t> chain;
    for (size_t j = i + 1; j < count; ++j) {
      const int made = specs[last]->output;
      if (specs[j] == nullptr || specs[j]->wanted != Kind::kCombine || specs[j]->varies < 0 ||
          specs[j]->inputs[specs[j]->varies] != made || readers[static_cast<size_t>(made)] != 1) {
        continue;
      }
      chain.push_back(j);
      last = j;
    }
    if (chain.empty()) continue;
    ours[i] = true;
    for (const size_t j : chain) ours[j] = true;
  }
  return ours;
}

// Puts one node in the place of those that forensic channels consist of.
void FindChannels(TfLiteContext* context, const std::vector<int>& order, const std::vector<int>& readers,
                  std::vector<std::unique_ptr<NodeSpec>>* specs) {
  for (size_t i = 0; i < order.size(); ++i) {
    std::unique_ptr<NodeSpec> spec(new NodeSpec);
    if (!DescribeChannels(context, order, readers, order[i], spec.get())) continue;
    for (size_t j = 0; j < order.size(); ++j) {
      if (std::find(spec->made_of.begin(), spec->made_of.end(), order[j]) != spec->made_of.end()) (*specs)[j].reset();
    }
    (*specs)[i] = std::move(spec);
  }
}

// Layers of ours read their bytes as they are: what would make floats of them is claimed as well, lest it be run.
void ClaimUnpacking(TfLiteContext* context, const std::vector<int>& order, const std::vector<int>& readers,
                    std::vector<bool>* ours) {
  std::vector<int> read(context->tensors_size, 0);  // by ours
  for (size_t i = 0; i < order.size(); ++i) {
    if ((*ours)[i]) CountReaders(context, order[i], &read);
  }
  for (size_t i = 0; i < order.size(); ++i) {
    const int unpacked = UnpackedBy(context, order[i]);
    if (unpacked < 0) continue;
    const auto made = static_cast<size_t>(unpacked);
    (*ours)[i] = readers[made] > 0 && read[made] == readers[made];
  }
}

TfLiteStatus PrepareDelegate(TfLiteContext* context, TfLiteDelegate* base) {
  auto* delegate = static_cast<Delegate*>(base->data);
  std::vector<int> readers(context->tensors_size, 0);
  TfLiteIntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk) return kTfLiteError;
  // Copied: asking for a node may change it.
  const std::vector<int> order(plan->data, plan->data + plan->size);
  std::vector<std::unique_ptr<NodeSpec>> specs;
  bool any = false;
  Stored& stored = delegate->stored;
  stored.assign(context->tensors_size, -1);
  for (const int index : order) CountReaders(context, index, &readers);
  for (const int index : order) {
    int from = -1;
    const int made = UnpackedBy(context, index, &from);
    if (made >= 0) stored[static_cast<size_t>(made)] = from;
  }
  for (const int index : order) {
    std::unique_ptr<NodeSpec> spec(new NodeSpec);
    Message why;
    if (!Describe(context, stored, index, delegate->fuse, spec.get(), &why)) {
      // A bad model is refused as a whole, before anything is replaced.
      if (why.text()[0] != '\0') return Refuse(context, index, spec->name, why);
      spec.reset();
    }
    any = any || (spec != nullptr && IsBinary(*spec));
    specs.push_back(std::move(spec));
  }
  std::vector<int> claimed(1, 0);  // as a TfLiteIntArray
  if (any) {
    if (delegate->fuse) FindChannels(context, order, readers, &specs);
    std::vector<bool> ours = Choose(specs, readers);
    for (size_t i = 0; i < order.size(); ++i) {
      if (!ours[i] || specs[i]->made_of.empty()) continue;
      for (size_t j = 0; j < order.size(); ++j) {
        const std::vector<int>& parts = specs[i]->made_of;
        if (std::find(parts.begin(), parts.end(), order[j]) != parts.end()) ours[j] = true;
      }
    }
    ClaimUnpacking(context, order, readers, &ours);
    for (size_t i = 0; i < order.size(); ++i) {
      if (ours[i]) claimed.push_back(order[i]);
    }
  }
  claimed[0] = static_cast<int>(claimed.size()) - 1;
  TfLiteRegistration registration = {};
  registration.init = InitPartition;
  registration.free = FreePartition;
  registration.prepare = PreparePartition;
  registration.invoke = InvokePartition;
  registration.builtin_code = kTfLiteBuiltinDelegate;
  registration.custom_name = "BddTfBinary";
  registration.version = 1;
  return context->ReplaceNodeSubsetsWithDelegateKernels(context, registration,
                                                        reinterpret_cast<const TfLiteIntArray*>(claimed.data()), base);
}

void ReportNothing(const char*) {}

bool ParseThreads(const char* text, int* threads) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < 1 || value > ThreadPool::kMaxThreads) return false;
  *threads = static_cast<int>(value);
  return true;
}

}  // namespace
}  // namespace bdd

// Options: num_threads (1 to 64, default 1), kernels (a name of bdd_lce_kernels, or auto) and fuse (1, the default:
// take the operators around the binary ones as well; 0: the binary ones alone).
BDD_EXPORT TfLiteDelegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values,
                                                         size_t count, void (*report)(const char*)) {
  if (report == nullptr) report = bdd::ReportNothing;
  int threads = 1;
  const char* kernels = "auto";
  bool fuse = true;
  for (size_t i = 0; i < count; ++i) {
    if (std::strcmp(keys[i], "num_threads") == 0) {
      if (!bdd::ParseThreads(values[i], &threads)) {
        report("bdd_tf: num_threads must be a number from 1 to 64");
        return nullptr;
      }
    } else if (std::strcmp(keys[i], "kernels") == 0) {
      kernels = values[i];
    } else if (std::strcmp(keys[i], "fuse") == 0 &&
               (std::strcmp(values[i], "0") == 0 || std::strcmp(values[i], "1") == 0)) {
      fuse = values[i][0] == '1';
    } else {
      report("bdd_tf: the delegate's options are num_threads, kernels and fuse (0 or 1)");
      return nullptr;
    }
  }
  const bdd::KernelSet* set = bdd::FindKernels(kernels);
  if (set == nullptr) {
    report("bdd_tf: this machine has no such kernels");
    return nullptr;
  }
  auto* made = new (std::nothrow) bdd::Delegate(set, threads, fuse);
  if (made == nullptr) return nullptr;
  made->base.data = made;
  made->base.Prepare = bdd::PrepareDelegate;
  made->base.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
  return &made->base;
}

BDD_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) {
  if (delegate != nullptr) delete static_cast<bdd::Delegate*>(delegate->data);
}

// Name of the i-th set of kernels that this machine can run, the best first; null behind the last.
BDD_EXPORT const char* bdd_lce_kernels(int i) {
  int count = 0;
  const bdd::KernelSet* const* sets = bdd::AvailableKernels(&count);
  return i >= 0 && i < count ? sets[i]->name : nullptr;
}
