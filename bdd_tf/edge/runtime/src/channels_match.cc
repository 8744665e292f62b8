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

void Append(std::string* text, const char* format, va_list arguments) {
  char line[256];
  std::vsnprintf(line, sizeof line, format, arguments);
  *text += line;
}

void Print(std::string* text, const char* format, ...) __attribute__((format(printf, 2, 3)));
void Print(std::string* text, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  Append(text, format, arguments);
  va_end(arguments);
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

// Lines of a text, each an operator.
class Lines {
 public:
  int operator()(const char* format, ...) __attribute__((format(printf, 2, 3))) {
    va_list arguments;
    va_start(arguments, format);
    Append(&text_, format, arguments);
    va_end(arguments);
    text_ += '\n';
    return count_++;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  int count_ = 0;
};

// Whether an image's two DFTs can be made of smaller products.
bool Foldable(int h, int w) { return h % 4 == 0 && w % 4 == 0; }

// A DFT of `size` places, folded onto themselves twice, for each of `other`.
int FoldedTransform(Lines* op, int of, int size, int other) {
  const auto head = [&](int line, int end) {
    return (*op)("STRIDED_SLICE 15 7 0 0 0 %%%d [0,0,0,0] [0,0,0,%d] [1,1,1,1]", line, end);
  };
  const auto tail = [&](int line, int begin) {
    return (*op)("STRIDED_SLICE 7 15 0 0 0 %%%d [0,0,0,%d] [0,0,0,0] [1,1,1,1]", line, begin);
  };
  const auto mirror = [&](int line) { return (*op)("REVERSE_V2 %%%d [3]", line); };
  const auto two = [&](bool minus, int a, int b) { return (*op)("%s 0 %%%d %%%d", minus ? "SUB" : "ADD", a, b); };
  const auto product = [&](int line) { return (*op)("CONV_2D 2 1 1 0 1 1 %%%d # #", line); };
  const auto join = [&](int a, int b) { return (*op)("CONCATENATION 3 0 %%%d %%%d", a, b); };
  const auto column = [&](int line) { return (*op)("RESHAPE %%%d [-1,%d,%d,1]", line, other, size / 2 + 2); };
  const int front = head(of, size / 2 + 1), last = tail(of, size / 2), back = mirror(join(last, head(of, 1)));
  int fronts[2], backs[2], even[2], odd[2];
  for (const int sines : {0, 1}) {
    const int folded = two(sines == 1, front, back);
    fronts[sines] = head(folded, size / 4 + 1);
    backs[sines] = mirror(tail(folded, size / 4));
    even[sines] = product(two(sines == 1, fronts[sines], backs[sines]));
  }
  const int evens = column(join(even[0], even[1]));
  for (const int sines : {0, 1}) odd[sines] = product(two(sines == 0, fronts[sines], backs[sines]));
  const int in_turns = join(evens, column(join(odd[0], odd[1])));
  return (*op)("RESHAPE %%%d [-1,%d,1,%d]", in_turns, other, size + 4);
}

std::string SpectrumText(int h, int w, float offset, float scale, bool folded) {
  const int rows = h / 2 + 1, columns = w / 2 + 1;
  Lines op;
  const auto transform = [&](int of, int size, int other) {
    return folded ? FoldedTransform(&op, of, size, other) : op("CONV_2D 2 1 1 0 1 1 %%%d # #", of);
  };
  const int mean = op("ROUND %%%d", op("MEAN 1 grey [1,2]"));
  const int centred = op("SUB 0 grey %%%d", mean);
  const int down = transform(op("TRANSPOSE %%%d [0,2,3,1]", centred), h, w);
  const int both = transform(op("TRANSPOSE %%%d [0,3,2,1]", down), w, folded ? h + 4 : h + 2);
  const auto slice = [&](int begin, int end, int of, const std::string& from, const std::string& to) {
    return op("STRIDED_SLICE %d %d 0 0 0 %%%d %s %s [1,1,1,1]", begin, end, of, from.c_str(), to.c_str());
  };
  const auto two = [&](const char* name, int a, int b) { return op("%s 0 %%%d %%%d", name, a, b); };
  const auto square = [&](int of) { return two("MUL", of, of); };
  const auto four = [](int a, int b, int c, int d) {
    char numbers[64];
    std::snprintf(numbers, sizeof numbers, "[%d,%d,%d,%d]", a, b, c, d);
    return std::string(numbers);
  };
  // Cosines first; a folded transform makes one frequency more than there are.
  const int across = folded ? 2 * columns + 2 : 2 * columns, wall = folded ? 13 : 15, margin = folded ? 1 : 0;
  const auto left = [&](int of) { return slice(15, 7, of, "[0,0,0,0]", four(0, 0, 0, columns)); };
  const auto right = [&](int of) {
    const int end = folded ? 2 * columns + 1 : 0;
    return slice(7, folded ? 7 : 15, of, four(0, 0, 0, columns + margin), four(0, 0, 0, end));
  };
  const auto logarithm = [&](int squares) {
    const int moved = op("ADD 0 %%%d [%.9g]", op("SQRT %%%d", squares), static_cast<double>(offset));
    const int map = op("LOG %%%d", op("RESHAPE %%%d [-1,%d,%d,1]", moved, rows, columns));
    return op("MUL 0 %%%d [%.9g]", map, static_cast<double>(scale));
  };
  // The order is that of a walk from the result. The second letter is of what runs across.
  const int c = slice(15, 13, both, "[0,0,0,0]", four(0, rows, 1, across)), c_alone = left(c);
  const int cc = two("ADD", c_alone, op("MUL 0 %%%d #", op("MUL 0 %%%d #", mean)));
  const int end = folded ? 2 * rows + 1 : 0;
  const int s = slice(13, wall, both, four(0, rows + margin, 0, 0), four(0, end, 1, across)), ss = right(s);
  const int real = square(two("SUB", cc, ss));
  const int sc = left(s), cs = right(c);
  const int imaginary = square(two("ADD", sc, cs));
  const int quadrant = logarithm(two("ADD", real, imaginary));
  const int corner = op("REVERSE_V2 %%%d [2]", slice(9, 15, quadrant, "[0,1,1,0]", "[0,0,0,1]"));
  const int other_real = square(two("ADD", cc, ss)), other_imaginary = square(two("SUB", cs, sc));
  const int mirrored = logarithm(two("ADD", other_real, other_imaginary));
  const int beside = slice(13, 11, mirrored, "[0,1,0,0]", "[0,0,-1,1]");
  const int top = op("REVERSE_V2 %%%d [1]", op("CONCATENATION 2 0 %%%d %%%d", corner, beside));
  const int below = op("REVERSE_V2 %%%d [2]", slice(11, 13, mirrored, "[0,0,1,0]", "[0,-1,0,1]"));
  const int last = slice(15, 9, quadrant, "[0,0,0,0]", "[0,-1,-1,1]");
  op("CONCATENATION 1 0 %%%d %%%d", top, op("CONCATENATION 2 0 %%%d %%%d", below, last));
  return op.text();
}

// What a product of a DFT is of: which frequencies, of how many places of a period of `size`.
struct Product {
  int size, places;
  int frequencies, first, step;  // how many, the first, and from one to the next
  bool cosines, sines;           // outputs, in this order
  bool folded;                   // the first place and the last count half
};

// [outputs, 1, 1, places]
bool IsProduct(const Reader& reader, int index, const Product& p) {
  const int outputs = p.frequencies * (p.cosines && p.sines ? 2 : 1);
  const void* data = reader.Floats(index, 4, static_cast<int64_t>(outputs) * p.places);
  if (data == nullptr || reader.tensor(index).dims->data[3] != p.places) return false;
  std::vector<double> cosines, sines;
  for (int i = 0; i < p.size; ++i) {
    cosines.push_back(std::cos(6.283185307179586476925 * i / p.size));
    sines.push_back(std::sin(6.283185307179586476925 * i / p.size));
  }
  for (int64_t o = 0; o < outputs; ++o) {
    const std::vector<double>& values = p.cosines && o < p.frequencies ? cosines : sines;
    const int64_t frequency = p.first + o % p.frequencies * p.step;
    for (int64_t i = 0; i < p.places; ++i) {
      const double share = p.folded && (i == 0 || i == p.places - 1) ? 0.5 : 1.0;
      const double wanted = share * values[static_cast<size_t>(frequency * i % p.size)];
      if (!(std::abs(static_cast<double>(FloatAt(data, o * p.places + i)) - wanted) < 1e-5)) return false;
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

// The constants of a transform's products, each a matrix and a bias of zeros, in the order of the text.
bool IsTransform(const Reader& reader, const int* constants, int size, bool folded) {
  const auto fits = [&](int i, const Product& p) {
    const int64_t outputs = p.frequencies * (p.cosines && p.sines ? 2 : 1);
    return IsProduct(reader, constants[2 * i], p) && IsImpulse(reader, constants[2 * i + 1], 1, outputs, 0.0f);
  };
  if (!folded) return fits(0, {size, size, size / 2 + 1, 0, 1, true, true, false});
  for (int i = 0; i < 4; ++i) {  // even frequencies of cosines and of sines, then odd ones
    const int each = size / 4 + 1;
    if (!fits(i, {size, each, each, i / 2, 2, i % 2 == 0, i % 2 == 1, true})) return false;
  }
  return true;
}

bool AreSpectrumConstants(const Reader& reader, const std::vector<int>& large, int h, int w, bool folded) {
  const size_t each = folded ? 8 : 2;
  return large.size() == 2 * each + 2 && IsTransform(reader, &large[0], h, folded) &&
         IsTransform(reader, &large[each], w, folded) &&
         IsImpulse(reader, large[2 * each], 4, h / 2 + 1, static_cast<float>(h)) &&
         IsImpulse(reader, large[2 * each + 1], 4, w / 2 + 1, static_cast<float>(w));
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
  // Both forms of a spectrum end alike.
  constexpr size_t kPlain = 46, kFolded = 98;
  const bool folded = found.size() == kFolded;
  if (!folded && found.size() != kPlain) return false;
  plane->kind = ChannelsSpec::Plane::kSpectrum;
  return (!folded || Foldable(h, w)) && Scalar(reader, found[found.size() - 24], &plane->offset) &&
         Scalar(reader, found[found.size() - 21], &plane->scale) && plane->offset > 0.0f &&
         writer.text() == SpectrumText(h, w, plane->offset, plane->scale, folded) &&
         AreSpectrumConstants(reader, writer.large(), h, w, folded);
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
