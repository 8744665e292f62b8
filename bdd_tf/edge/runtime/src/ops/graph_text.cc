// See graph_text.h for the format.
#include "ops/graph_text.h"

#include <cmath>
#include <cstdio>
#include <cstring>

#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

constexpr int kMaxNodes = 128;
constexpr size_t kSmallBytes = 64;  // of a constant whose elements are written

// Operators that may occur, and how many int parameters each has.
struct KnownOperator {
  int code;
  const char* name;
  int parameters;
};
constexpr int kOneBool = -1;
constexpr KnownOperator kKnownOperators[] = {
    {kTfLiteBuiltinAdd, "ADD", 1},
    {kTfLiteBuiltinSub, "SUB", 1},
    {kTfLiteBuiltinMul, "MUL", 1},
    {kTfLiteBuiltinConv2d, "CONV_2D", 6},
    {kTfLiteBuiltinConcatenation, "CONCATENATION", 2},
    {kTfLiteBuiltinCast, "CAST", 0},
    {kTfLiteBuiltinRelu, "RELU", 0},
    {kTfLiteBuiltinMinimum, "MINIMUM", 0},
    {kTfLiteBuiltinReverseV2, "REVERSE_V2", 0},
    {kTfLiteBuiltinFloor, "FLOOR", 0},
    {kTfLiteBuiltinPad, "PAD", 0},
    {kTfLiteBuiltinMirrorPad, "MIRROR_PAD", 1},
    {kTfLiteBuiltinTranspose, "TRANSPOSE", 0},
    {kTfLiteBuiltinStridedSlice, "STRIDED_SLICE", 5},
    {kTfLiteBuiltinReshape, "RESHAPE", 0},
    {kTfLiteBuiltinLog, "LOG", 0},
    {kTfLiteBuiltinSqrt, "SQRT", 0},
    {kTfLiteBuiltinRound, "ROUND", 0},
    {kTfLiteBuiltinMean, "MEAN", kOneBool},
};

const KnownOperator* FindOperator(int code) {
  for (const KnownOperator& known : kKnownOperators) {
    if (known.code == code) return &known;
  }
  return nullptr;
}

}  // namespace

GraphReader::GraphReader(TfLiteContext* context, const std::vector<int>& nodes) : context_(context) {
  producers_.assign(context->tensors_size, -1);
  for (const int index : nodes) {
    const TfLiteNode* node = Node(index, nullptr);
    if (node == nullptr || node->outputs == nullptr || node->outputs->size != 1) continue;
    const int tensor = node->outputs->data[0];
    if (IsTensor(tensor)) producers_[static_cast<size_t>(tensor)] = index;
  }
}

const TfLiteNode* GraphReader::Node(int index, int* code) const {
  TfLiteNode* node = nullptr;
  TfLiteRegistration* registration = nullptr;
  if (index < 0 || context_->GetNodeAndRegistration(context_, index, &node, &registration) != kTfLiteOk) {
    return nullptr;
  }
  if (code != nullptr) *code = registration->builtin_code;
  return node;
}

const TfLiteNode* GraphReader::Producer(int tensor, int code, int inputs) const {
  int found = -1;
  const TfLiteNode* node = Node(Producer(tensor), &found);
  const bool fits = node != nullptr && found == code && node->inputs != nullptr && node->inputs->size == inputs;
  return fits ? node : nullptr;
}

bool GraphReader::IsConstant(int index) const {
  return IsTensor(index) && tensor(index).allocation_type == kTfLiteMmapRo && tensor(index).data != nullptr &&
         tensor(index).dims != nullptr;
}

const void* GraphReader::Floats(int index, int rank, int64_t count) const {
  if (!IsConstant(index)) return nullptr;
  const TfLiteTensor& t = tensor(index);
  const bool fits = t.type == kTfLiteFloat32 && t.dims->size == rank && t.bytes == static_cast<size_t>(4 * count);
  return fits ? t.data : nullptr;
}

bool GraphReader::SecondInput(int node, float* scalar) const {
  const TfLiteNode* found = Node(node, nullptr);
  const int index = found != nullptr && found->inputs->size == 2 ? found->inputs->data[1] : -1;
  if (!IsConstant(index) || tensor(index).type != kTfLiteFloat32 || tensor(index).bytes != 4) return false;
  *scalar = FloatAt(tensor(index).data, 0);
  return std::isfinite(*scalar);
}

bool AreReadInsideOnly(const GraphReader& reader, const std::vector<int>& nodes, const std::vector<int>& consumers,
                       int last) {
  std::vector<int> inside(consumers.size(), 0);
  for (const int index : nodes) {
    const TfLiteNode* node = reader.Node(index, nullptr);
    for (int i = 0; i < node->inputs->size; ++i) {
      if (reader.IsTensor(node->inputs->data[i])) ++inside[static_cast<size_t>(node->inputs->data[i])];
    }
  }
  for (const int index : nodes) {
    if (index == last) continue;
    const auto output = static_cast<size_t>(reader.Node(index, nullptr)->outputs->data[0]);
    if (inside[output] != consumers[output]) return false;
  }
  return true;
}

int ImageOf(const GraphReader& reader, int rgb) {
  const TfLiteNode* scaled = reader.Producer(rgb, kTfLiteBuiltinMul, 2);
  const TfLiteNode* cast =
      scaled != nullptr ? reader.Producer(scaled->inputs->data[0], kTfLiteBuiltinCast, 1) : nullptr;
  if (cast == nullptr || !reader.IsTensor(cast->inputs->data[0]) || reader.IsConstant(cast->inputs->data[0])) return -1;
  const TfLiteTensor& image = reader.tensor(cast->inputs->data[0]);
  const bool fits =
      image.type == kTfLiteUInt8 && image.dims != nullptr && image.dims->size == 4 && image.dims->data[3] == 3;
  return fits ? cast->inputs->data[0] : -1;
}

float FloatAt(const void* data, int64_t i) {
  float value = 0;
  std::memcpy(&value, static_cast<const uint8_t*>(data) + 4 * i, 4);
  return value;
}

int32_t IntAt(const void* data, int64_t i) {
  int32_t value = 0;
  std::memcpy(&value, static_cast<const uint8_t*>(data) + 4 * i, 4);
  return value;
}

std::string GraphText::Constant(int tensor) {
  const TfLiteTensor& t = reader_.tensor(tensor);
  std::string text = "[";
  if (t.bytes > kSmallBytes || (t.type != kTfLiteFloat32 && t.type != kTfLiteInt32)) {
    large_constants_.push_back(tensor);
    return "#";
  }
  for (int64_t i = 0; i < static_cast<int64_t>(t.bytes / 4); ++i) {
    if (t.type == kTfLiteFloat32) {
      Append(&text, i > 0 ? ",%.9g" : "%.9g", static_cast<double>(FloatAt(t.data, i)));
    } else {
      Append(&text, i > 0 ? ",%d" : "%d", IntAt(t.data, i));
    }
  }
  return text + "]";
}

// Writes the lines of a tensor that are not written yet. Returns how operands refer to it; empty on failure.
std::string GraphText::Visit(int tensor) {
  if (tensor == leaf_) return leaf_name_;
  if (reader_.IsConstant(tensor)) return Constant(tensor);
  const int index = reader_.Producer(tensor);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i] == index) return "%" + std::to_string(i);
  }
  int code = -1;
  const TfLiteNode* node = reader_.Node(index, &code);
  if (node == nullptr || node->inputs == nullptr || depth_ > kMaxNodes || nodes_.size() > kMaxNodes) return "";
  const KnownOperator* known = FindOperator(code);
  if (known == nullptr || (known->parameters != 0 && node->builtin_data == nullptr)) return "";
  ++depth_;
  std::string line = known->name;
  for (int i = 0; i < known->parameters; ++i) Append(&line, " %d", IntAt(node->builtin_data, i));
  if (known->parameters == kOneBool) {
    Append(&line, " %d", static_cast<const TfLiteReducerParams*>(node->builtin_data)->keep_dims != 0);
  }
  for (int i = 0; i < node->inputs->size; ++i) {
    const std::string operand = Visit(node->inputs->data[i]);
    if (operand.empty()) return "";
    line += " " + operand;
  }
  --depth_;
  nodes_.push_back(index);
  text_ += line + "\n";
  return "%" + std::to_string(nodes_.size() - 1);
}

void AppendFormat(std::string* text, const char* format, va_list arguments) {
  char line[256];
  std::vsnprintf(line, sizeof line, format, arguments);
  *text += line;
}

void Append(std::string* text, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  AppendFormat(text, format, arguments);
  va_end(arguments);
}

}  // namespace bdd
