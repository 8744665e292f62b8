// A channel is recognised by its text: every operator that it is made of, with parameters, small constants and the
// numbers of its operands, in the order of a walk from the result. Two graphs with the same text compute the same. The
// texts here are those of bdd_tf/channels.py after conversion; what differs in any way stays with the runtime.
#include "channels_match.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>

namespace bdd {
namespace {

constexpr int kMost = 128;           // operators of a channel
constexpr int64_t kSmallBytes = 64;  // of constants that are written out
constexpr int kFloor = 8, kPad = 34, kTranspose = 39, kStridedSlice = 45, kReshape = 22, kLog = 73, kSqrt = 75,
              kRound = 116;

// Names and the number of whole-number parameters of the operators that occur.
struct Known {
  int code;
  const char* name;
  int parameters;
};
constexpr Known kKnown[] = {
    {kTfLiteBuiltinAdd, "ADD", 1},
    {kTfLiteBuiltinSub, "SUB", 1},
    {kTfLiteBuiltinMul, "MUL", 1},
    {kTfLiteBuiltinConv2d, "CONV_2D", 6},
    {kTfLiteBuiltinConcatenation, "CONCATENATION", 2},
    {kTfLiteBuiltinCast, "CAST", 0},
    {kTfLiteBuiltinRelu, "RELU", 0},
    {kTfLiteBuiltinMinimum, "MINIMUM", 0},
    {kTfLiteBuiltinReverseV2, "REVERSE_V2", 0},
    {kFloor, "FLOOR", 0},
    {kPad, "PAD", 0},
    {kTranspose, "TRANSPOSE", 0},
    {kStridedSlice, "STRIDED_SLICE", 5},
    {kReshape, "RESHAPE", 0},
    {kLog, "LOG", 0},
    {kSqrt, "SQRT", 0},
    {kRound, "ROUND", 0},
    {kTfLiteBuiltinMean, "MEAN", -1},  // its one parameter is a bool
};

void Print(std::string* text, const char* format, ...) __attribute__((format(printf, 2, 3)));
void Print(std::string* text, const char* format, ...) {
  char line[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  *text += line;
}

class Reader {
 public:
  Reader(TfLiteContext* context, const std::vector<int>& among) : context_(context) {
    makers_.assign(context->tensors_size, -1);
    for (const int index : among) {
      const TfLiteNode* node = Get(index, nullptr);
      if (node == nullptr || node->outputs == nullptr || node->outputs->size != 1) continue;
      const int tensor = node->outputs->data[0];
      if (Valid(tensor)) makers_[static_cast<size_t>(tensor)] = index;
    }
  }

  bool Valid(int tensor) const { return tensor >= 0 && static_cast<size_t>(tensor) < context_->tensors_size; }
  const TfLiteTensor& tensor(int index) const { return context_->tensors[index]; }
  int maker(int tensor) const { return Valid(tensor) ? makers_[static_cast<size_t>(tensor)] : -1; }

  TfLiteNode* Get(int index, int* code) const {
    TfLiteNode* node = nullptr;
    TfLiteRegistration* registration = nullptr;
    if (index < 0 || context_->GetNodeAndRegistration(context_, index, &node, &registration) != kTfLiteOk) {
      return nullptr;
    }
    if (code != nullptr) *code = registration->builtin_code;
    return node;
  }

  // The node that makes a tensor, if it is this operator with so many inputs.
  TfLiteNode* Maker(int tensor, int wanted, int inputs) const {
    int code = -1;
    TfLiteNode* node = Get(maker(tensor), &code);
    const bool fits = node != nullptr && code == wanted && node->inputs != nullptr && node->inputs->size == inputs;
    return fits ? node : nullptr;
  }

  bool IsConstant(int index) const {
    return Valid(index) && tensor(index).allocation_type == kTfLiteMmapRo && tensor(index).data != nullptr &&
           tensor(index).dims != nullptr;
  }

  // A constant float of so many elements and of rank `rank`; null where it is none.
  const void* Floats(int index, int rank, int64_t count) const {
    if (!IsConstant(index)) return nullptr;
    const TfLiteTensor& t = tensor(index);
    const bool fits = t.type == kTfLiteFloat32 && t.dims->size == rank && t.bytes == static_cast<size_t>(4 * count);
    return fits ? t.data : nullptr;
  }

 private:
  TfLiteContext* context_;
  std::vector<int> makers_;
};

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

// Writes the text of what makes a tensor. `leaf` is taken as given.
class Writer {
 public:
  Writer(const Reader& reader, int leaf, const char* leaf_name) : reader_(reader), leaf_(leaf), name_(leaf_name) {}

  bool Write(int tensor) { return !Visit(tensor).empty(); }
  const std::string& text() const { return text_; }
  const std::vector<int>& nodes() const { return nodes_; }
  const std::vector<int>& large() const { return large_; }  // constants that are not written out, as they come

 private:
  std::string Constant(int index) {
    const TfLiteTensor& t = reader_.tensor(index);
    std::string text = "[";
    if (t.bytes > static_cast<size_t>(kSmallBytes) || (t.type != kTfLiteFloat32 && t.type != kTfLiteInt32)) {
      large_.push_back(index);
      return "#";
    }
    for (int64_t i = 0; i < static_cast<int64_t>(t.bytes / 4); ++i) {
      if (t.type == kTfLiteFloat32) {
        Print(&text, i > 0 ? ",%.9g" : "%.9g", static_cast<double>(FloatAt(t.data, i)));
      } else {
        Print(&text, i > 0 ? ",%d" : "%d", IntAt(t.data, i));
      }
    }
    return text + "]";
  }

  // The operand's name; empty where something is not known.
  std::string Visit(int tensor) {
    if (tensor == leaf_) return name_;
    if (reader_.IsConstant(tensor)) return Constant(tensor);
    const int index = reader_.maker(tensor);
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i] == index) return "%" + std::to_string(i);
    }
    int code = -1;
    const TfLiteNode* node = reader_.Get(index, &code);
    if (node == nullptr || node->inputs == nullptr || depth_ > kMost || nodes_.size() > kMost) return "";
    const Known* known = nullptr;
    for (const Known& k : kKnown) {
      if (k.code == code) known = &k;
    }
    if (known == nullptr || (known->parameters != 0 && node->builtin_data == nullptr)) return "";
    ++depth_;
    std::string line = known->name;
    for (int i = 0; i < known->parameters; ++i) {
      Print(&line, " %d", IntAt(node->builtin_data, i));
    }
    if (known->parameters < 0) {
      Print(&line, " %d", static_cast<const TfLiteReducerParams*>(node->builtin_data)->keep_dims != 0);
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

  const Reader& reader_;
  int leaf_;
  const char* name_;
  int depth_ = 0;
  std::string text_;
  std::vector<int> nodes_, large_;
};

// --- The texts -----------------------------------------------------------------------------------------------------

std::string GreyText() {
  return "CAST image\nCONV_2D 2 1 1 0 1 1 %0 [0.113983154,0.587005615,0.29901123] [0.5]\nFLOOR %1\n";
}

std::string PatternText(int h, int w, float scale) {
  constexpr const char* kSlice = "STRIDED_SLICE 9 9 0 0 0 %%0 [0,%d,%d,0] [0,%d,%d,0] [1,1,1,1]\n";
  std::string t = "PAD grey [0,0,6,6,3,6,0,0]\n";
  Print(&t, kSlice, 6, 9, h + 6, w + 9);
  t += "SUB 0 %1 grey\nADD 0 %2 [1]\nMINIMUM %3 [1]\nRELU %4\n";
  for (const int side : {0, 12}) {
    const int near = side == 0 ? 1 : 11, first = side == 0 ? 6 : 17;
    Print(&t, kSlice, side, 0, h + side, w);
    Print(&t, "SUB 0 %%%d grey\nMUL 0 %%%d [3923]\n", first, first + 1);
    Print(&t, kSlice, near, 0, h + near, w);
    Print(&t, "SUB 0 %%%d grey\nMUL 0 %%%d [16077]\n", first + 3, first + 4);
    Print(&t, "ADD 0 %%%d %%%d\nADD 0 %%%d [1]\n", first + 2, first + 5, first + 6);
    Print(&t, "MINIMUM %%%d [1]\nRELU %%%d\nADD 0 %%%d %%%d\n", first + 7, first + 8, side == 0 ? 5 : 16, first + 9);
  }
  Print(&t, "MUL 0 %%27 [%.9g]\n", static_cast<double>(scale));
  return t;
}

std::string SpectrumText(int h, int w, float offset, float scale) {
  const int rows = h / 2 + 1, columns = w / 2 + 1;
  std::string t = "MEAN 1 grey [1,2]\nROUND %0\nSUB 0 grey %1\nTRANSPOSE %2 [0,2,3,1]\n";
  t += "CONV_2D 2 1 1 0 1 1 %3 # #\nTRANSPOSE %4 [0,3,2,1]\nCONV_2D 2 1 1 0 1 1 %5 # #\n";
  const auto slice = [&](int begin, int end, int of, const char* from, const char* to) {
    Print(&t, "STRIDED_SLICE %d %d 0 0 0 %%%d %s %s [1,1,1,1]\n", begin, end, of, from, to);
  };
  char upper[64], lower[64], whole[64], left[64], right[64];
  std::snprintf(upper, sizeof upper, "[0,%d,1,%d]", rows, 2 * columns);
  std::snprintf(lower, sizeof lower, "[0,%d,0,0]", rows);
  std::snprintf(whole, sizeof whole, "[0,0,1,%d]", 2 * columns);
  std::snprintf(left, sizeof left, "[0,0,0,%d]", columns);
  std::snprintf(right, sizeof right, "[0,0,0,%d]", columns);
  slice(15, 13, 6, "[0,0,0,0]", upper);  // 7: cosines down
  slice(15, 7, 7, "[0,0,0,0]", left);    // 8: cosines across
  t += "MUL 0 %1 #\nMUL 0 %9 #\nADD 0 %8 %10\n";
  slice(13, 15, 6, lower, whole);        // 12: sines down
  slice(7, 15, 12, right, "[0,0,0,0]");  // 13: sines across
  t += "SUB 0 %11 %13\nMUL 0 %14 %14\n";
  slice(15, 7, 12, "[0,0,0,0]", left);  // 16
  slice(7, 15, 7, right, "[0,0,0,0]");  // 17
  t += "ADD 0 %16 %17\nMUL 0 %18 %18\n";
  const auto logarithm = [&](int first) {  // of the sum of two squares
    Print(&t, "SQRT %%%d\nADD 0 %%%d [%.9g]\n", first, first + 1, static_cast<double>(offset));
    Print(&t, "RESHAPE %%%d [-1,%d,%d,1]\nLOG %%%d\n", first + 2, rows, columns, first + 3);
    Print(&t, "MUL 0 %%%d [%.9g]\n", first + 4, static_cast<double>(scale));
  };
  t += "ADD 0 %15 %19\n";
  logarithm(20);  // 25: (u, v)
  slice(9, 15, 25, "[0,1,1,0]", "[0,0,0,1]");
  t += "REVERSE_V2 %26 [2]\nADD 0 %11 %13\nMUL 0 %28 %28\nSUB 0 %17 %16\nMUL 0 %30 %30\nADD 0 %29 %31\n";
  logarithm(32);  // 37: (-u, v)
  slice(13, 11, 37, "[0,1,0,0]", "[0,0,-1,1]");
  t += "CONCATENATION 2 0 %27 %38\nREVERSE_V2 %39 [1]\n";
  slice(11, 13, 37, "[0,0,1,0]", "[0,-1,0,1]");
  t += "REVERSE_V2 %41 [2]\n";
  slice(15, 9, 25, "[0,0,0,0]", "[0,-1,-1,1]");
  t += "CONCATENATION 2 0 %42 %43\nCONCATENATION 1 0 %40 %44\n";
  return t;
}

// Cosines over sines of a DFT: [size + 2, 1, 1, size].
bool IsTransform(const Reader& reader, int index, int size) {
  const int64_t bins = size / 2 + 1;
  const void* data = reader.Floats(index, 4, 2 * bins * size);
  if (data == nullptr || reader.tensor(index).dims->data[3] != size) return false;
  std::vector<double> cosines, sines;
  for (int i = 0; i < size; ++i) {
    cosines.push_back(std::cos(6.283185307179586476925 * i / size));
    sines.push_back(std::sin(6.283185307179586476925 * i / size));
  }
  for (int64_t o = 0; o < 2 * bins; ++o) {
    for (int64_t i = 0; i < size; ++i) {
      const double wanted = (o < bins ? cosines : sines)[static_cast<size_t>(o % bins * i % size)];
      if (!(std::abs(static_cast<double>(FloatAt(data, o * size + i)) - wanted) < 1e-5)) return false;
    }
  }
  return true;
}

// Floats that are zero but for the first one.
bool IsImpulse(const Reader& reader, int index, int rank, int64_t count, float first) {
  const void* data = reader.Floats(index, rank, count);
  for (int64_t i = 0; data != nullptr && i < count; ++i) {
    if (FloatAt(data, i) != (i == 0 ? first : 0.0f)) return false;
  }
  return data != nullptr;
}

bool AreSpectrumConstants(const Reader& reader, const std::vector<int>& large, int h, int w) {
  return large.size() == 6 && IsTransform(reader, large[0], h) && IsImpulse(reader, large[1], 1, h + 2, 0.0f) &&
         IsTransform(reader, large[2], w) && IsImpulse(reader, large[3], 1, w + 2, 0.0f) &&
         IsImpulse(reader, large[4], 4, h / 2 + 1, static_cast<float>(h)) &&
         IsImpulse(reader, large[5], 4, w / 2 + 1, static_cast<float>(w));
}

// The scalar that a node takes as its second input.
bool Scalar(const Reader& reader, int node, float* value) {
  const TfLiteNode* made = reader.Get(node, nullptr);
  const int index = made != nullptr && made->inputs->size == 2 ? made->inputs->data[1] : -1;
  if (!reader.IsConstant(index) || reader.tensor(index).type != kTfLiteFloat32 || reader.tensor(index).bytes != 4) {
    return false;
  }
  *value = FloatAt(reader.tensor(index).data, 0);
  return std::isfinite(*value);
}

bool MatchPlane(const Reader& reader, int tensor, int grey, int h, int w, std::vector<int>* nodes,
                ChannelsSpec::Plane* plane) {
  Writer writer(reader, grey, "grey");
  if (!writer.Write(tensor)) return false;
  const std::vector<int>& found = writer.nodes();
  nodes->insert(nodes->end(), found.begin(), found.end());
  plane->offset = 0.0f;
  if (found.size() == 29) {
    plane->kind = ChannelsSpec::Plane::kPattern;
    return writer.large().empty() && Scalar(reader, found.back(), &plane->scale) &&
           writer.text() == PatternText(h, w, plane->scale);
  }
  plane->kind = ChannelsSpec::Plane::kSpectrum;
  return found.size() == 46 && Scalar(reader, found[22], &plane->offset) && Scalar(reader, found[25], &plane->scale) &&
         plane->offset > 0.0f && writer.text() == SpectrumText(h, w, plane->offset, plane->scale) &&
         AreSpectrumConstants(reader, writer.large(), h, w);
}

}  // namespace

bool MatchChannels(TfLiteContext* context, const std::vector<int>& among, const std::vector<int>& readers, int last,
                   ChannelsMatch* match) {
  TfLiteNode* mix = nullptr;
  TfLiteRegistration* registration = nullptr;
  if (context->GetNodeAndRegistration(context, last, &mix, &registration) != kTfLiteOk ||
      registration->builtin_code != kTfLiteBuiltinConv2d || mix->inputs == nullptr || mix->inputs->size != 3 ||
      mix->outputs == nullptr || mix->outputs->size != 1 || mix->builtin_data == nullptr) {
    return false;
  }
  const auto& p = *static_cast<const TfLiteConvParams*>(mix->builtin_data);
  if (p.padding != 1 || p.stride_width != 1 || p.stride_height != 1 || p.activation != 0 || p.dilation_width != 1 ||
      p.dilation_height != 1) {
    return false;
  }
  const Reader reader(context, among);
  const int joined = reader.maker(mix->inputs->data[0]);
  int code = -1;
  const TfLiteNode* join = reader.Get(joined, &code);
  if (join == nullptr || code != kTfLiteBuiltinConcatenation || join->inputs == nullptr || join->inputs->size < 2 ||
      join->inputs->size > 3 || join->builtin_data == nullptr) {
    return false;
  }
  const auto& joining = *static_cast<const TfLiteConcatenationParams*>(join->builtin_data);
  if ((joining.axis != 3 && joining.axis != -1) || joining.activation != 0) return false;

  // RGB, and with it the image.
  const int rgb = join->inputs->data[0];
  const TfLiteNode* scaled = reader.Maker(rgb, kTfLiteBuiltinMul, 2);
  const TfLiteNode* cast = scaled != nullptr ? reader.Maker(scaled->inputs->data[0], kTfLiteBuiltinCast, 1) : nullptr;
  if (cast == nullptr || !reader.Valid(cast->inputs->data[0])) return false;
  match->image = cast->inputs->data[0];
  const TfLiteTensor& image = reader.tensor(match->image);
  if (image.type != kTfLiteUInt8 || image.dims == nullptr || image.dims->size != 4 || reader.IsConstant(match->image) ||
      image.dims->data[3] != 3) {
    return false;
  }
  const int h = image.dims->data[1], w = image.dims->data[2];
  if (h < 32 || w < 32 || h > kMaxSpectrumSide || w > kMaxSpectrumSide || h % 2 != 0 || w % 2 != 0) return false;
  Writer colours(reader, match->image, "image");
  float scale = 0.0f;
  if (!colours.Write(rgb) || colours.nodes().size() != 2 || !Scalar(reader, colours.nodes()[1], &scale)) return false;
  std::string expected = "CAST image\n";
  Print(&expected, "MUL 0 %%0 [%.9g]\n", static_cast<double>(scale));
  if (colours.text() != expected) return false;
  std::vector<int> nodes = colours.nodes();
  match->spec.planes = {{ChannelsSpec::Plane::kRed, scale, 0.0f},
                        {ChannelsSpec::Plane::kGreen, scale, 0.0f},
                        {ChannelsSpec::Plane::kBlue, scale, 0.0f}};

  int grey = -1;
  for (const int index : among) {
    const TfLiteNode* node = reader.Get(index, &code);
    if (node == nullptr || code != kFloor || node->outputs == nullptr || node->outputs->size != 1) continue;
    Writer writer(reader, match->image, "image");
    if (!writer.Write(node->outputs->data[0]) || writer.text() != GreyText()) continue;
    grey = node->outputs->data[0];
    nodes.insert(nodes.end(), writer.nodes().begin(), writer.nodes().end());
    break;
  }
  if (grey < 0) return false;
  for (int i = 1; i < join->inputs->size; ++i) {
    ChannelsSpec::Plane plane = {};
    if (!MatchPlane(reader, join->inputs->data[i], grey, h, w, &nodes, &plane)) return false;
    for (const ChannelsSpec::Plane& other : match->spec.planes) {
      if (other.kind == plane.kind) return false;  // each is made once
    }
    match->spec.planes.push_back(plane);
  }

  const auto planes = static_cast<int64_t>(match->spec.planes.size());
  match->spec.height = h;
  match->spec.width = w;
  match->spec.filter = reader.Floats(mix->inputs->data[1], 4, kMixed * 9 * planes);
  match->spec.bias = reader.Floats(mix->inputs->data[2], 1, kMixed);
  if (match->spec.filter == nullptr || match->spec.bias == nullptr) return false;
  const int* dims = reader.tensor(mix->inputs->data[1]).dims->data;
  if (dims[0] != kMixed || dims[1] != 3 || dims[2] != 3) return false;

  nodes.push_back(joined);
  nodes.push_back(last);
  std::vector<int> inside(context->tensors_size, 0);
  match->nodes.clear();
  for (const int index : nodes) {
    bool known = false;
    for (const int other : match->nodes) known = known || other == index;
    if (known) continue;
    match->nodes.push_back(index);
    const TfLiteNode* node = reader.Get(index, nullptr);
    for (int i = 0; i < node->inputs->size; ++i) {
      if (reader.Valid(node->inputs->data[i])) ++inside[static_cast<size_t>(node->inputs->data[i])];
    }
  }
  for (const int index : match->nodes) {
    if (index == last) continue;
    const auto made = static_cast<size_t>(reader.Get(index, nullptr)->outputs->data[0]);
    if (inside[made] != readers[made]) return false;  // somebody else reads it
  }
  match->output = mix->outputs->data[0];
  return reader.Valid(match->output);
}

}  // namespace bdd
