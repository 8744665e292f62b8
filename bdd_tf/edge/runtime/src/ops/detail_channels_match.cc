// The text that the converter writes has three numbers that a model may choose: the scale of RGB, and for each plane a
// factor and an offset. They are read from the nodes, and must lead to the same text.
#include "ops/detail_channels_match.h"

#include <cmath>

#include "ops/graph_text.h"
#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

constexpr int kSide = 4;  // of the convolution's window

// The weight of a pixel in a detail.
double WeightOf(int detail, int y, int x, int colour) {
  const bool fine = detail < 3;
  if (fine && (y < 1 || y > 2 || x < 1 || x > 2)) return 0.0;
  const int direction = detail % 3;
  const bool lower = y >= 2, right = x >= 2;
  const bool minus = direction == 0 ? right : direction == 1 ? lower : lower != right;
  const double luma = static_cast<double>(kLumaThousandths[colour]) / 1000.0;
  return (minus ? -1.0 : 1.0) * luma / (fine ? 2.0 : 8.0) / static_cast<double>(kDetailRange);
}

bool AreDetailWeights(const GraphReader& reader, int index) {
  const void* data = reader.Floats(index, 4, kDetails * kSide * kSide * 3);
  if (data == nullptr) return false;
  const int* dims = reader.tensor(index).dims->data;
  if (dims[0] != kDetails || dims[1] != kSide || dims[2] != kSide || dims[3] != 3) return false;
  int64_t i = 0;
  for (int detail = 0; detail < kDetails; ++detail) {
    for (int y = 0; y < kSide; ++y) {
      for (int x = 0; x < kSide; ++x) {
        for (int colour = 0; colour < 3; ++colour, ++i) {
          const double wanted = WeightOf(detail, y, x, colour);
          if (!(std::abs(static_cast<double>(FloatAt(data, i)) - wanted) < 1e-8)) return false;
        }
      }
    }
  }
  return true;
}

// The constant vector that is the second input of a node. Returns false if it is not one of finite floats.
bool ReadVector(const GraphReader& reader, const TfLiteNode& node, float* values) {
  const void* data = reader.Floats(node.inputs->data[1], 1, kDetailPlanes);
  for (int64_t c = 0; data != nullptr && c < kDetailPlanes; ++c) {
    values[c] = FloatAt(data, c);
    if (!std::isfinite(values[c])) return false;
  }
  return data != nullptr;
}

std::string VectorText(const float* values) {
  std::string text = "[";
  for (int c = 0; c < kDetailPlanes; ++c) Append(&text, c > 0 ? ",%.9g" : "%.9g", static_cast<double>(values[c]));
  return text + "]";
}

// `axis` of the concatenation is that of channels, 3 or -1.
std::string DetailsText(const DetailsSpec& spec, int axis) {
  std::string text = "CAST image\n";
  Append(&text, "MUL 0 %%0 [%.9g]\n", static_cast<double>(spec.rgb_scale));
  text += "MIRROR_PAD 1 %0 [0,0,1,2,1,2,0,0]\nCONV_2D 2 1 1 2 1 1 %2 # [0,0,0,0,0,0]\nMUL 0 %3 [0.5]\nADD 0 %4 [0.5]\n";
  Append(&text, "CONCATENATION %d 0 %%1 %%5\n", axis);
  return text + "MUL 0 %6 " + VectorText(spec.factor) + "\nSUB 0 %7 " + VectorText(spec.offset) + "\n";
}

// Finds the image and its size. Returns false if the tensors are of other types.
bool FindImage(const GraphReader& reader, int rgb, DetailsMatch* match) {
  match->image = ImageOf(reader, rgb);
  if (match->image < 0) return false;
  constexpr int kMinSide = 8, kMaxSide = 1 << 14;
  const TfLiteIntArray& dims = *reader.tensor(match->image).dims;
  const int h = dims.data[1], w = dims.data[2];
  match->spec.height = h;
  match->spec.width = w;
  return h >= kMinSide && w >= kMinSide && h <= kMaxSide && w <= kMaxSide &&
         reader.SecondInput(reader.Producer(rgb), &match->spec.rgb_scale);
}

}  // namespace

bool MatchDetails(const GraphReader& reader, const std::vector<int>& consumers, int last, DetailsMatch* match) {
  int code = -1;
  const TfLiteNode* subtraction = reader.Node(last, &code);
  if (subtraction == nullptr || code != kTfLiteBuiltinSub || subtraction->inputs == nullptr ||
      subtraction->inputs->size != 2 || subtraction->outputs == nullptr || subtraction->outputs->size != 1) {
    return false;
  }
  const TfLiteNode* product = reader.Producer(subtraction->inputs->data[0], kTfLiteBuiltinMul, 2);
  const TfLiteNode* join =
      product != nullptr ? reader.Producer(product->inputs->data[0], kTfLiteBuiltinConcatenation, 2) : nullptr;
  if (join == nullptr || !FindImage(reader, join->inputs->data[0], match) ||
      !ReadVector(reader, *product, match->spec.factor) || !ReadVector(reader, *subtraction, match->spec.offset)) {
    return false;
  }
  match->output = subtraction->outputs->data[0];
  const int axis = join->builtin_data != nullptr ? IntAt(join->builtin_data, 0) : 0;
  GraphText found(reader, match->image, "image");
  if ((axis != 3 && axis != -1) || !reader.IsTensor(match->output) || !found.Write(match->output) ||
      found.text() != DetailsText(match->spec, axis) || found.large_constants().size() != 1 ||
      !AreDetailWeights(reader, found.large_constants()[0])) {
    return false;
  }
  match->nodes = found.nodes();
  return AreReadInsideOnly(reader, match->nodes, consumers, last);
}

}  // namespace bdd
