// Fields by their numbers in TensorFlow Lite's schema (schema.fbs, version 3).
#include "interpreter/model_file.h"

#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

// Fields of tables.
constexpr int kModelVersion = 0, kModelCodes = 1, kModelSubgraphs = 2, kModelBuffers = 4, kModelMetadata = 6;
constexpr int kCodeDeprecated = 0, kCodeCustom = 1, kCodeBuiltin = 3;
constexpr int kGraphTensors = 0, kGraphInputs = 1, kGraphOutputs = 2, kGraphOperators = 3;
constexpr int kTensorShape = 0, kTensorType = 1, kTensorBuffer = 2, kTensorQuantization = 4;
constexpr int kQuantizationScale = 2, kQuantizationZero = 3;
constexpr int kBufferData = 0, kBufferOffset = 1;
constexpr int kOperatorCode = 0, kOperatorInputs = 1, kOperatorOutputs = 2, kOperatorOptions = 4, kOperatorCustom = 5;
constexpr int kMetadataName = 0, kMetadataBuffer = 1;
constexpr uint32_t kSchemaVersion = 3;
constexpr size_t kMaxOperators = 8192;

// The type of a tensor in the file; false if the interpreter has none like it.
bool TypeOf(int8_t stored, TfLiteType* type) {
  switch (stored) {
    case 0: *type = kTfLiteFloat32; return true;
    case 1: *type = kTfLiteFloat16; return true;
    case 2: *type = kTfLiteInt32; return true;
    case 3: *type = kTfLiteUInt8; return true;
    case 6: *type = kTfLiteBool; return true;
    case 9: *type = kTfLiteInt8; return true;
    default: return false;
  }
}

// One parameter of a builtin operator: a field of its options, and the int that the runtime's struct has for it.
struct Parameter {
  int field;
  enum Kind { kByte, kBytePlusOne, kInt } kind;
};

// Parameters of a builtin operator in the order of its struct. Enums that begin with "unknown" in the struct, and not
// in the schema, are one larger there.
std::vector<Parameter> ParametersOf(int32_t code) {
  using P = Parameter;
  switch (code) {
    case kTfLiteBuiltinAdd:
    case kTfLiteBuiltinSub:
    case kTfLiteBuiltinMul:
    case kTfLiteBuiltinDiv: return {{0, P::kByte}};
    case kTfLiteBuiltinFullyConnected: return {{0, P::kByte}, {1, P::kByte}, {2, P::kByte}};
    case kTfLiteBuiltinSoftmax: return {{0, P::kInt}};  // the bits of a float
    case kTfLiteBuiltinMean: return {{0, P::kByte}};
    case kTfLiteBuiltinConcatenation: return {{0, P::kInt}, {1, P::kByte}};
    case kTfLiteBuiltinConv2d:
      return {{0, P::kBytePlusOne}, {1, P::kInt}, {2, P::kInt}, {3, P::kByte}, {4, P::kInt}, {5, P::kInt}};
    case kTfLiteBuiltinDepthwiseConv2d:
      return {{0, P::kBytePlusOne}, {1, P::kInt}, {2, P::kInt}, {3, P::kInt},
              {4, P::kByte},        {5, P::kInt}, {6, P::kInt}};
    case kTfLiteBuiltinMaxPool2d:
    case kTfLiteBuiltinAveragePool2d:
      return {{0, P::kBytePlusOne}, {1, P::kInt}, {2, P::kInt}, {3, P::kInt}, {4, P::kInt}, {5, P::kByte}};
    case kTfLiteBuiltinStridedSlice: return {{0, P::kInt}, {1, P::kInt}, {2, P::kInt}, {3, P::kInt}, {4, P::kInt}};
    case kTfLiteBuiltinMirrorPad: return {{0, P::kBytePlusOne}};
    default: return {};
  }
}

void ReadParameters(const FlatTable& options, ModelFile::Operator* op) {
  const std::vector<Parameter> parameters = ParametersOf(op->code);
  // The dilation of a convolution is the only parameter with another default than 0. It comes last.
  const int first_dilation = op->code == kTfLiteBuiltinConv2d ? 4 : op->code == kTfLiteBuiltinDepthwiseConv2d ? 5 : 99;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = parameters[i];
    const bool dilation = p.field >= first_dilation;
    int32_t value = p.kind == Parameter::kInt ? options.Number<int32_t>(p.field, dilation ? 1 : 0)
                                              : options.Number<int8_t>(p.field, 0);
    if (p.kind == Parameter::kBytePlusOne) ++value;
    op->parameters[i] = value;
  }
}

bool AreTensors(const std::vector<int32_t>& indices, size_t count, bool optional) {
  for (const int32_t index : indices) {
    if (index < (optional ? -1 : 0) || (index >= 0 && static_cast<size_t>(index) >= count)) return false;
  }
  return true;
}

bool ReadTensor(const FlatTable& table, const std::vector<FlatBytes>& buffers, ModelFile::Tensor* tensor) {
  const FlatTable quantization = table.Table(kTensorQuantization);
  tensor->scale = quantization.OnlyNumber<float>(kQuantizationScale, 0.0f);
  tensor->zero_point = static_cast<int32_t>(quantization.OnlyNumber<int64_t>(kQuantizationZero, 0));
  tensor->dims = table.Numbers<int32_t>(kTensorShape);
  const auto buffer = table.Number<uint32_t>(kTensorBuffer, 0);
  if (buffer >= buffers.size() || tensor->dims.size() > static_cast<size_t>(Shape::kMaxRank)) return false;
  tensor->content = buffers[buffer];
  return true;
}

// Whether each tensor is a constant, an input, or the result of one operator. Otherwise a tensor could change its size
// after an operator that reads it was prepared.
bool HaveOneSource(const ModelFile& model, Message* why) {
  std::vector<bool> given(model.tensors.size());
  for (size_t i = 0; i < given.size(); ++i) given[i] = model.tensors[i].content.size > 0;
  for (const int32_t input : model.inputs) given[static_cast<size_t>(input)] = true;
  for (const ModelFile::Operator& op : model.operators) {
    for (const int32_t output : op.outputs) {
      if (given[static_cast<size_t>(output)]) {
        return why->Set("an operator writes tensor %d, which is a constant, an input or another's result", output);
      }
      given[static_cast<size_t>(output)] = true;
    }
  }
  return true;
}

bool ReadGraph(const FlatTable& graph, const std::vector<FlatTable>& codes, const std::vector<FlatBytes>& buffers,
               ModelFile* model, Message* why) {
  for (const FlatTable& table : graph.Tables(kGraphTensors)) {
    const auto number = static_cast<int>(model->tensors.size());
    model->tensors.emplace_back();
    if (!TypeOf(table.Number<int8_t>(kTensorType, 0), &model->tensors.back().type)) {
      return why->Set("tensor %d has a type that is not supported", number);
    }
    if (!ReadTensor(table, buffers, &model->tensors.back())) return why->Set("tensor %d is damaged", number);
  }
  const size_t count = model->tensors.size();
  const std::vector<FlatTable> operators = graph.Tables(kGraphOperators);
  // Ordering them takes quadratic time. BNext-T with all channels has about 700.
  if (operators.size() > kMaxOperators) return why->Set("more than %d operators", static_cast<int>(kMaxOperators));
  for (const FlatTable& table : operators) {
    const auto number = static_cast<int>(model->operators.size());
    model->operators.emplace_back();
    ModelFile::Operator& op = model->operators.back();
    const auto code = table.Number<uint32_t>(kOperatorCode, 0);
    if (code >= codes.size()) return why->Set("operator %d has an unknown code", number);
    const int32_t old = codes[code].Number<int8_t>(kCodeDeprecated, 0);
    op.code = std::max(old, codes[code].Number<int32_t>(kCodeBuiltin, 0));
    op.custom_name = codes[code].Text(kCodeCustom);
    op.options = table.Bytes(kOperatorCustom);
    op.inputs = table.Numbers<int32_t>(kOperatorInputs);
    op.outputs = table.Numbers<int32_t>(kOperatorOutputs);
    ReadParameters(table.Table(kOperatorOptions), &op);
    if (!AreTensors(op.inputs, count, true) || !AreTensors(op.outputs, count, false)) {
      return why->Set("operator %d refers to tensors that do not exist", number);
    }
  }
  model->inputs = graph.Numbers<int32_t>(kGraphInputs);
  model->outputs = graph.Numbers<int32_t>(kGraphOutputs);
  if (!AreTensors(model->inputs, count, false) || !AreTensors(model->outputs, count, false)) {
    return why->Set("inputs or outputs of the model do not exist");
  }
  return HaveOneSource(*model, why);
}

}  // namespace

bool ReadModelFile(const uint8_t* data, size_t size, ModelFile* model, Message* why) {
  constexpr char kIdentifier[] = "TFL3";
  if (size < 8 || std::memcmp(data + 4, kIdentifier, 4) != 0) return why->Set("not a .tflite file");
  FlatBuffer buffer(data, size);
  const FlatTable root = buffer.Root();
  if (root.Number<uint32_t>(kModelVersion, 0) != kSchemaVersion) {
    return why->Set("a .tflite file of another version than %u, or a damaged one", kSchemaVersion);
  }
  std::vector<FlatBytes> buffers;
  for (const FlatTable& table : root.Tables(kModelBuffers)) {
    if (table.Number<uint64_t>(kBufferOffset, 0) > 1)
      return why->Set("buffers outside the FlatBuffer are not supported");
    buffers.push_back(table.Bytes(kBufferData));
  }
  const std::vector<FlatTable> graphs = root.Tables(kModelSubgraphs);
  if (graphs.size() != 1 && !buffer.damaged()) {
    return why->Set("a file with %d subgraphs; one is supported", static_cast<int>(graphs.size()));
  }
  for (const FlatTable& table : root.Tables(kModelMetadata)) {
    const auto index = table.Number<uint32_t>(kMetadataBuffer, 0);
    if (index < buffers.size()) model->metadata.emplace_back(table.Text(kMetadataName), buffers[index]);
  }
  const bool good = !buffer.damaged() && ReadGraph(graphs[0], root.Tables(kModelCodes), buffers, model, why);
  if (buffer.damaged()) return why->Set("the .tflite file is damaged: an offset leads outside of it");
  return good;
}

}  // namespace bdd
