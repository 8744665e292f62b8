// A description is final: once the runtime has replaced the nodes, preparing them must succeed. Everything that depends
// on sizes is therefore checked here against the sizes in the file.
#include "delegate/describe_node.h"

#include <cstring>
#include <utility>

#include "ops/detail_channels_match.h"
#include "ops/forensic_channels_match.h"
#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

constexpr const char* kBinaryNames[] = {"LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d"};

// The name of an Lce* operator; null for other operators.
const char* BinaryName(const TfLiteRegistration& registration) {
  if (registration.builtin_code != kTfLiteBuiltinCustom || registration.custom_name == nullptr) return nullptr;
  for (const char* name : kBinaryNames) {
    if (std::strcmp(registration.custom_name, name) == 0) return name;
  }
  return nullptr;
}

// A fused activation as a clamp. Returns false if it is not piecewise linear, such as tanh.
bool SetClamp(int activation, NodeSpec* spec) {
  constexpr float kNoLimit = 3.402823466e38f;
  spec->has_clamp = activation != kActivationNone;
  spec->clamp_min = activation == kActivationReluN1To1 ? -1.0f : 0.0f;
  spec->clamp_max = activation == kActivationReluN1To1 ? 1.0f : activation == kActivationRelu6 ? 6.0f : kNoLimit;
  return activation >= kActivationNone && activation <= kActivationRelu6;
}

bool IsMap(const TfLiteTensor* t) {
  return t != nullptr && t->type == kTfLiteFloat32 && t->dims != nullptr && t->dims->size == 4;
}

bool IsConstant(const TfLiteTensor* t) {
  return t != nullptr && t->allocation_type == kTfLiteMmapRo && t->data != nullptr && t->dims != nullptr;
}

bool IsSpatial(int axis) { return axis == 1 || axis == 2; }

// Whether a convolution fits its map and has few multiplications per output but many output channels. XNNPACK is faster
// at all others.
bool IsSmallConvolution(const TfLiteConvParams& p, const TfLiteTensor& input, const TfLiteTensor& filter,
                        const TfLiteTensor& bias) {
  constexpr int kMaxParameter = 1 << 12, kMaxSide = 1 << 16, kMinOutputs = 16, kMaxInputs = 16;
  const int *map = input.dims->data, *dims = filter.dims->data;
  for (int i = 0; i < 4; ++i) {
    if (map[i] < 1 || map[i] > kMaxSide || dims[i] < 1 || dims[i] > kMaxParameter) return false;
  }
  for (const int number : {p.stride_width, p.stride_height, p.dilation_width, p.dilation_height}) {
    if (number < 1 || number > kMaxParameter) return false;
  }
  const int64_t reduction_size = int64_t{dims[1]} * dims[2] * dims[3];
  const bool same = p.padding == kTfLitePaddingSame;
  Window rows = {dims[1], p.stride_height, p.dilation_height}, columns = {dims[2], p.stride_width, p.dilation_width};
  return (map[1] > 1 || map[2] > 1) && reduction_size <= kMaxSmallConv2dReduction && dims[0] >= kMinOutputs &&
         dims[3] == map[3] && map[3] <= kMaxInputs && bias.dims->size == 1 && bias.dims->data[0] == dims[0] &&
         bias.bytes == sizeof(float) * static_cast<size_t>(dims[0]) &&
         filter.bytes == sizeof(float) * static_cast<size_t>(reduction_size * dims[0]) && rows.Fit(map[1], same) &&
         columns.Fit(map[2], same);
}

// Describes one builtin node.
class BuiltinDescriber {
 public:
  BuiltinDescriber(const TfLiteContext& context, const PackedConstants& packed, const TfLiteNode& node, NodeSpec* spec)
      : context_(context), packed_(packed), node_(node), spec_(*spec) {}

  bool Describe(int code) {
    input_ = TensorAt(node_.inputs, 0);
    second_ = TensorAt(node_.inputs, 1);
    output_ = TensorAt(node_.outputs, 0);
    if (input_ == nullptr || output_ == nullptr || output_->type != kTfLiteFloat32) return false;
    if (IsConstant(input_) && (second_ == nullptr || IsConstant(second_))) return false;
    switch (code) {
      case kTfLiteBuiltinAdd: return DescribeArithmetic("ADD", Arithmetic::kAdd);
      case kTfLiteBuiltinSub: return DescribeArithmetic("SUB", Arithmetic::kSubtract);
      case kTfLiteBuiltinMul: return DescribeArithmetic("MUL", Arithmetic::kMultiply);
      case kTfLiteBuiltinMaximum: return DescribeElementwise("MAXIMUM", Arithmetic::kMaximum);
      case kTfLiteBuiltinMinimum: return DescribeElementwise("MINIMUM", Arithmetic::kMinimum);
      case kTfLiteBuiltinPrelu: return DescribePrelu();
      case kTfLiteBuiltinLogistic: Set("LOGISTIC", Kind::kLogistic); return IsMap(input_);
      case kTfLiteBuiltinMean: return DescribeMean();
      case kTfLiteBuiltinAveragePool2d: return DescribeAveragePool();
      case kTfLiteBuiltinConcatenation: return DescribeConcatenation();
      case kTfLiteBuiltinConv2d: return DescribeConvolution();
      case kTfLiteBuiltinCast: return DescribeCast();
      case kTfLiteBuiltinReverseV2: return DescribeReverse();
      default: return false;
    }
  }

 private:
  void Set(const char* name, Kind kind) {
    spec_.name = name;
    spec_.preferred_kind = kind;
  }

  template <typename T>
  const T* Parameters() const {
    return static_cast<const T*>(node_.builtin_data);
  }

  // The i-th tensor of a list; null if it does not exist. The output of a DEQUANTIZE of a constant counts as a
  // constant: its size is that of the floats, its data pointer that of the packed constant.
  const TfLiteTensor* TensorAt(const TfLiteIntArray* list, int i) {
    if (list == nullptr || i >= list->size || list->data[i] < 0 ||
        static_cast<size_t>(list->data[i]) >= context_.tensors_size) {
      return nullptr;
    }
    const TfLiteTensor& tensor = context_.tensors[list->data[i]];
    const int packed = packed_[static_cast<size_t>(list->data[i])];
    if (packed < 0 || i >= NodeSpec::kMaxInputs) return &tensor;
    const TfLiteTensor& constant = context_.tensors[packed];
    unpacked_[i] = tensor;
    unpacked_[i].allocation_type = kTfLiteMmapRo;
    unpacked_[i].data = constant.data;
    unpacked_[i].bytes = sizeof(float) * static_cast<size_t>(ElementCount(constant));
    return &unpacked_[i];
  }

  // Reads constant int32 axes from the second input.
  bool ReadAxes(int32_t* axes, size_t count) const {
    if (!IsMap(input_) || !IsConstant(second_) || second_->type != kTfLiteInt32 ||
        second_->bytes != count * sizeof *axes) {
      return false;
    }
    std::memcpy(axes, second_->data, count * sizeof *axes);
    return true;
  }

  bool DescribeArithmetic(const char* name, Arithmetic arithmetic) {
    const auto* parameters = Parameters<TfLiteActivationParams>();
    return parameters != nullptr && SetClamp(parameters->activation, &spec_) && DescribeElementwise(name, arithmetic);
  }

  bool DescribeElementwise(const char* name, Arithmetic arithmetic) {
    Set(name, Kind::kElementwise);
    spec_.arithmetic = arithmetic;
    // A damaged file may list more inputs, which the passes over the graph would read as operands.
    return node_.inputs->size == 2 && IsMap(output_) && second_ != nullptr && CheckOperand(*input_, 1) &&
           CheckOperand(*second_, 0);
  }

  // Whether an operand is a map of the output's size, one vector per image, or a constant vector or scalar. For the
  // latter two, `other` is the variable input.
  bool CheckOperand(const TfLiteTensor& operand, int other) {
    if (operand.type != kTfLiteFloat32 || operand.dims == nullptr) return false;
    const TfLiteIntArray &dims = *operand.dims, &out = *output_->dims;
    const int channels = out.data[3];
    const bool map = dims.size == 4 && std::memcmp(dims.data, out.data, sizeof(int) * 4) == 0;
    const bool vector = dims.size == 4 && dims.data[0] == out.data[0] && dims.data[1] == 1 && dims.data[2] == 1 &&
                        dims.data[3] == channels;
    const bool constant_vector = IsConstant(&operand) && dims.size >= 1 && dims.data[dims.size - 1] == channels &&
                                 operand.bytes == static_cast<size_t>(channels) * sizeof(float);
    const bool constant_scalar = IsConstant(&operand) && operand.bytes == sizeof(float);
    if (constant_vector || constant_scalar) spec_.variable_input = other;
    return map || vector || constant_vector || constant_scalar;
  }

  bool DescribePrelu() {
    Set("PRELU", Kind::kPrelu);
    return node_.inputs->size == 2 && IsMap(input_) && IsConstant(second_) && second_->type == kTfLiteFloat32 &&
           second_->dims->size >= 1 && second_->bytes == sizeof(float) * static_cast<size_t>(input_->dims->data[3]);
  }

  bool DescribeMean() {
    Set("MEAN", Kind::kMean);
    const auto* parameters = Parameters<TfLiteReducerParams>();
    int32_t axes[2] = {};
    if (parameters == nullptr || !ReadAxes(axes, 2)) return false;
    spec_.keep_dims = parameters->keep_dims != 0;
    return IsSpatial(axes[0]) && IsSpatial(axes[1]) && axes[0] != axes[1];
  }

  bool DescribeAveragePool() {
    Set("AVERAGE_POOL_2D", Kind::kAveragePool);
    const auto* pool = Parameters<TfLitePoolParams>();
    return pool != nullptr && IsMap(input_) && SetClamp(pool->activation, &spec_) && pool->filter_height == 2 &&
           pool->filter_width == 2 && pool->stride_height == 2 && pool->stride_width == 2 &&
           input_->dims->data[1] % 2 == 0 && input_->dims->data[2] % 2 == 0;
  }

  bool DescribeConcatenation() {
    Set("CONCATENATION", Kind::kConcatenate);
    const auto* parameters = Parameters<TfLiteConcatenationParams>();
    if (parameters == nullptr || parameters->activation != kActivationNone ||
        (parameters->axis != 3 && parameters->axis != -1)) {
      return false;
    }
    for (int i = 0; i < node_.inputs->size; ++i) {
      const TfLiteTensor* part = TensorAt(node_.inputs, i);
      if (!IsMap(part) || IsConstant(part)) return false;
    }
    return true;
  }

  bool DescribeConvolution() {
    const auto* parameters = Parameters<TfLiteConvParams>();
    const TfLiteTensor* bias = TensorAt(node_.inputs, 2);
    Set("CONV_2D", Kind::kDense);
    if (parameters == nullptr || !SetClamp(parameters->activation, &spec_) || !IsMap(input_) || !IsConstant(bias) ||
        bias->type != kTfLiteFloat32) {
      return false;
    }
    const bool known_padding = parameters->padding == kTfLitePaddingSame || parameters->padding == kTfLitePaddingValid;
    if (known_padding && !IsConstant(input_) && IsMap(second_) && IsConstant(second_) &&
        IsSmallConvolution(*parameters, *input_, *second_, *bias)) {
      return MakeSmallConvolution(*parameters);
    }
    const TfLiteTensor* weights = IsMap(second_) ? PackedWeights() : second_;
    if (!IsConstant(weights) || weights->dims->size != 4) return false;
    const int *map = input_->dims->data, *filter = weights->dims->data;
    return map[1] == 1 && map[2] == 1 && filter[1] == 1 && filter[2] == 1 && filter[3] == map[3];
  }

  bool MakeSmallConvolution(const TfLiteConvParams& p) {
    std::unique_ptr<SmallConv2d> op = MakeSmallConv2d(
        {p.padding == kTfLitePaddingSame, p.stride_height, p.stride_width, p.dilation_height, p.dilation_width});
    spec_.small_conv2d = op.get();
    spec_.op = std::move(op);
    spec_.preferred_kind = Kind::kSmallConv2d;
    return spec_.op != nullptr;
  }

  // A dense layer multiplies packed int8 weights directly. Returns the second input if its weights are not packed.
  const TfLiteTensor* PackedWeights() {
    const int packed = packed_[static_cast<size_t>(node_.inputs->data[1])];
    if (packed < 0 || context_.tensors[packed].type != kTfLiteInt8) return second_;
    spec_.int8_weights = packed;
    return &context_.tensors[packed];
  }

  bool DescribeCast() {
    Set("CAST", Kind::kCast);
    return IsMap(output_) && input_->type == kTfLiteUInt8 && input_->dims != nullptr && input_->dims->size == 4 &&
           !IsConstant(input_);
  }

  bool DescribeReverse() {
    Set("REVERSE_V2", Kind::kReverse);
    int32_t axis = 0;
    return !IsConstant(input_) && ReadAxes(&axis, 1) && IsSpatial(axis);
  }

  const TfLiteContext& context_;
  const PackedConstants& packed_;
  const TfLiteNode& node_;
  NodeSpec& spec_;
  const TfLiteTensor *input_ = nullptr, *second_ = nullptr, *output_ = nullptr;
  TfLiteTensor unpacked_[NodeSpec::kMaxInputs] = {};
};

}  // namespace

bool DescribeNode(TfLiteContext* context, const PackedConstants& packed, int index, bool fuse, NodeSpec* spec,
                  Message* why) {
  TfLiteNode* node = nullptr;
  TfLiteRegistration* registration = nullptr;
  spec->index = index;
  if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk) {
    return why->Set("the runtime does not return the node");
  }
  const char* binary = BinaryName(*registration);
  const bool fits = node->inputs != nullptr && node->outputs != nullptr && node->inputs->size >= 1 &&
                    node->inputs->size <= NodeSpec::kMaxInputs && node->outputs->size == 1;
  if (binary != nullptr) {
    spec->name = binary;
    if (!fits) return why->Set("the number of inputs or outputs is invalid");
    const int size = node->custom_initial_data_size;
    spec->op = MakeOperator(binary, static_cast<const uint8_t*>(node->custom_initial_data),
                            size > 0 ? static_cast<size_t>(size) : 0, why);
    if (spec->op == nullptr) return false;
    if (fuse && std::strcmp(binary, "LceBconv2d") == 0) spec->preferred_kind = Kind::kBconv2d;
    if (fuse && std::strcmp(binary, "LceQuantize") == 0) spec->preferred_kind = Kind::kQuantize;
  } else if (!fuse || !fits || !BuiltinDescriber(*context, packed, *node, spec).Describe(registration->builtin_code)) {
    return false;
  }
  spec->input_count = node->inputs->size;
  for (int i = 0; i < spec->input_count; ++i) spec->inputs[i] = node->inputs->data[i];
  if (spec->int8_weights >= 0) spec->inputs[1] = spec->int8_weights;
  spec->output = node->outputs->data[0];
  return true;
}

namespace {

// Describes the operator spec->op, which replaces the nodes of a match. Returns false if there was no memory for it.
template <typename Match>
bool SetReplacement(int index, Match* match, NodeSpec* spec) {
  spec->index = index;
  spec->name = "forensic channels";
  spec->preferred_kind = Kind::kOperator;
  spec->small_conv2d = nullptr;
  spec->input_count = 1;
  spec->inputs[0] = match->image;
  spec->output = match->output;
  spec->replaced_nodes = std::move(match->nodes);
  return spec->op != nullptr;
}

}  // namespace

bool DescribeChannels(const GraphReader& reader, const std::vector<int>& nodes, const std::vector<int>& consumers,
                      int index, NodeSpec* spec) {
  ChannelsMatch mixed;
  if (MatchChannels(reader, nodes, consumers, index, &mixed)) {
    spec->op = MakeChannels(mixed.spec);
    return SetReplacement(index, &mixed, spec);
  }
  DetailsMatch details;
  if (!MatchDetails(reader, consumers, index, &details)) return false;
  spec->op = MakeDetails(details.spec);
  return SetReplacement(index, &details, spec);
}

bool IsBinary(const NodeSpec& spec) {
  return spec.op != nullptr && spec.small_conv2d == nullptr && spec.replaced_nodes.empty();
}

}  // namespace bdd
