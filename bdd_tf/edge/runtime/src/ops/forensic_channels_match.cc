// Compares the text of each channel's subgraph with the text that the converter writes, and the tables of the DFT with
// computed ones.
#include "ops/forensic_channels_match.h"

#include <cmath>

#include "ops/forensic_channels_text.h"
#include "ops/graph_text.h"
#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

// A table of a DFT of length `size`: cosines and sines of some frequencies at some positions.
struct DftTable {
  int size, positions;
  int frequencies, first, step;  // count, first one, distance
  bool cosines, sines;           // which rows it has, in this order
  bool folded;                   // the first and the last position have weight 1/2
};

// Whether a constant [rows, 1, 1, positions] is this table, up to rounding.
bool IsDftTable(const GraphReader& reader, int index, const DftTable& p) {
  const int outputs = p.frequencies * (p.cosines && p.sines ? 2 : 1);
  const void* data = reader.Floats(index, 4, static_cast<int64_t>(outputs) * p.positions);
  if (data == nullptr || reader.tensor(index).dims->data[3] != p.positions) return false;
  std::vector<double> cosines, sines;
  for (int i = 0; i < p.size; ++i) {
    cosines.push_back(std::cos(6.283185307179586476925 * i / p.size));
    sines.push_back(std::sin(6.283185307179586476925 * i / p.size));
  }
  for (int64_t o = 0; o < outputs; ++o) {
    const std::vector<double>& values = p.cosines && o < p.frequencies ? cosines : sines;
    const int64_t frequency = p.first + o % p.frequencies * p.step;
    for (int64_t i = 0; i < p.positions; ++i) {
      const double share = p.folded && (i == 0 || i == p.positions - 1) ? 0.5 : 1.0;
      const double wanted = share * values[static_cast<size_t>(frequency * i % p.size)];
      if (!(std::abs(static_cast<double>(FloatAt(data, o * p.positions + i)) - wanted) < 1e-5)) return false;
    }
  }
  return true;
}

// Whether a constant has this first element and zeros after it.
bool IsImpulse(const GraphReader& reader, int index, int rank, int64_t count, float first) {
  const void* data = reader.Floats(index, rank, count);
  for (int64_t i = 0; data != nullptr && i < count; ++i) {
    if (FloatAt(data, i) != (i == 0 ? first : 0.0f)) return false;
  }
  return data != nullptr;
}

// Whether constants are those of a DFT in the order of its text: tables, each followed by a bias of zeros.
bool IsTransform(const GraphReader& reader, const int* constants, int size, bool folded) {
  const auto fits = [&](int i, const DftTable& p) {
    const int64_t outputs = p.frequencies * (p.cosines && p.sines ? 2 : 1);
    return IsDftTable(reader, constants[2 * i], p) && IsImpulse(reader, constants[2 * i + 1], 1, outputs, 0.0f);
  };
  if (!folded) return fits(0, {size, size, size / 2 + 1, 0, 1, true, true, false});
  for (int i = 0; i < 4; ++i) {  // cosines and sines of even frequencies, then of odd ones
    const int each = size / 4 + 1;
    if (!fits(i, {size, each, each, i / 2, 2, i % 2 == 0, i % 2 == 1, true})) return false;
  }
  return true;
}

bool AreSpectrumConstants(const GraphReader& reader, const std::vector<int>& large, int h, int w, bool folded) {
  const size_t each = folded ? 8 : 2;
  return large.size() == 2 * each + 2 && IsTransform(reader, &large[0], h, folded) &&
         IsTransform(reader, &large[each], w, folded) &&
         IsImpulse(reader, large[2 * each], 4, h / 2 + 1, static_cast<float>(h)) &&
         IsImpulse(reader, large[2 * each + 1], 4, w / 2 + 1, static_cast<float>(w));
}

// Matches one channel made of `grey`, an h x w map; appends its nodes.
bool MatchPlane(const GraphReader& reader, int tensor, int grey, ChannelsMatch* match) {
  const int h = match->spec.height, w = match->spec.width;
  ChannelsSpec::Plane plane = {};
  GraphText found(reader, grey, "grey");
  if (!found.Write(tensor)) return false;
  const std::vector<int>& nodes = found.nodes();
  match->nodes.insert(match->nodes.end(), nodes.begin(), nodes.end());
  if (nodes.size() == kPatternNodes) {
    plane.kind = ChannelsSpec::Plane::kPattern;
    if (!found.large_constants().empty() || !reader.SecondInput(nodes.back(), &plane.scale) ||
        found.text() != PatternText(h, w, plane.scale)) {
      return false;
    }
  } else {
    const bool folded = nodes.size() == kFoldedSpectrumNodes;
    if (!folded && nodes.size() != kSpectrumNodes) return false;
    plane.kind = ChannelsSpec::Plane::kSpectrum;
    if ((folded && !IsFoldable(h, w)) ||
        !reader.SecondInput(nodes[nodes.size() - kSpectrumOffsetFromEnd], &plane.offset) ||
        !reader.SecondInput(nodes[nodes.size() - kSpectrumScaleFromEnd], &plane.scale) || !(plane.offset > 0.0f) ||
        found.text() != SpectrumText(h, w, plane.offset, plane.scale, folded) ||
        !AreSpectrumConstants(reader, found.large_constants(), h, w, folded)) {
      return false;
    }
  }
  for (const ChannelsSpec::Plane& other : match->spec.planes) {
    if (other.kind == plane.kind) return false;  // a channel can occur once
  }
  match->spec.planes.push_back(plane);
  return true;
}

// The node, if it is a convolution with bias, SAME padding and no stride, dilation or activation; else null.
const TfLiteNode* FindConvolution(const GraphReader& reader, int index) {
  int code = -1;
  const TfLiteNode* node = reader.Node(index, &code);
  if (node == nullptr || code != kTfLiteBuiltinConv2d || node->inputs == nullptr || node->inputs->size != 3 ||
      node->outputs == nullptr || node->outputs->size != 1 || node->builtin_data == nullptr) {
    return nullptr;
  }
  const auto& p = *static_cast<const TfLiteConvParams*>(node->builtin_data);
  const bool plain = p.padding == kTfLitePaddingSame && p.stride_width == 1 && p.stride_height == 1 &&
                     p.activation == kActivationNone && p.dilation_width == 1 && p.dilation_height == 1;
  return plain ? node : nullptr;
}

// The concatenation of two or three maps along channels that the convolution reads; null if it reads something else.
const TfLiteNode* FindConcatenation(const GraphReader& reader, const TfLiteNode& mix) {
  int code = -1;
  const TfLiteNode* join = reader.Node(reader.Producer(mix.inputs->data[0]), &code);
  if (join == nullptr || code != kTfLiteBuiltinConcatenation || join->inputs == nullptr || join->inputs->size < 2 ||
      join->inputs->size > 3 || join->builtin_data == nullptr) {
    return nullptr;
  }
  const auto& joining = *static_cast<const TfLiteConcatenationParams*>(join->builtin_data);
  const bool along_channels = (joining.axis == 3 || joining.axis == -1) && joining.activation == kActivationNone;
  return along_channels ? join : nullptr;
}

// Matches the RGB planes, and with them the image and its size.
bool MatchRgb(const GraphReader& reader, int rgb, ChannelsMatch* match) {
  match->image = ImageOf(reader, rgb);
  if (match->image < 0) return false;
  const TfLiteIntArray& dims = *reader.tensor(match->image).dims;
  const int h = dims.data[1], w = dims.data[2];
  constexpr int kMinSide = 32;
  if (h < kMinSide || w < kMinSide || h > kMaxSpectrumSide || w > kMaxSpectrumSide || h % 2 != 0 || w % 2 != 0) {
    return false;
  }
  GraphText found(reader, match->image, "image");
  float scale = 0.0f;
  if (!found.Write(rgb) || found.nodes().size() != 2 || !reader.SecondInput(found.nodes()[1], &scale) ||
      found.text() != RgbText(scale)) {
    return false;
  }
  match->nodes = found.nodes();
  match->spec.height = h;
  match->spec.width = w;
  match->spec.planes = {{ChannelsSpec::Plane::kRed, scale, 0.0f},
                        {ChannelsSpec::Plane::kGreen, scale, 0.0f},
                        {ChannelsSpec::Plane::kBlue, scale, 0.0f}};
  return true;
}

// Returns the tensor of the image's grey levels, or -1 if it was not found. Appends its nodes.
int MatchGrey(const GraphReader& reader, const std::vector<int>& candidates, ChannelsMatch* match) {
  for (const int index : candidates) {
    int code = -1;
    const TfLiteNode* node = reader.Node(index, &code);
    if (node == nullptr || code != kTfLiteBuiltinFloor || node->outputs == nullptr || node->outputs->size != 1)
      continue;
    GraphText found(reader, match->image, "image");
    if (!found.Write(node->outputs->data[0]) || found.text() != GreyText()) continue;
    match->nodes.insert(match->nodes.end(), found.nodes().begin(), found.nodes().end());
    return node->outputs->data[0];
  }
  return -1;
}

// Takes over the convolution's filter and bias.
bool MatchFilter(const GraphReader& reader, const TfLiteNode& mix, ChannelsSpec* spec) {
  const auto planes = static_cast<int64_t>(spec->planes.size());
  spec->filter = reader.Floats(mix.inputs->data[1], 4, kMixed * 9 * planes);
  spec->bias = reader.Floats(mix.inputs->data[2], 1, kMixed);
  if (spec->filter == nullptr || spec->bias == nullptr) return false;
  const int* dims = reader.tensor(mix.inputs->data[1]).dims->data;
  return dims[0] == kMixed && dims[1] == 3 && dims[2] == 3;
}

void RemoveDuplicates(std::vector<int>* nodes) {
  std::vector<int> unique;
  for (const int index : *nodes) {
    bool known = false;
    for (const int other : unique) known = known || other == index;
    if (!known) unique.push_back(index);
  }
  *nodes = unique;
}

}  // namespace

bool MatchChannels(const GraphReader& reader, const std::vector<int>& candidates, const std::vector<int>& consumers,
                   int last, ChannelsMatch* match) {
  const TfLiteNode* mix = FindConvolution(reader, last);
  if (mix == nullptr) return false;
  const TfLiteNode* join = FindConcatenation(reader, *mix);
  if (join == nullptr || !MatchRgb(reader, join->inputs->data[0], match)) return false;
  const int grey = MatchGrey(reader, candidates, match);
  if (grey < 0) return false;
  for (int i = 1; i < join->inputs->size; ++i) {
    if (!MatchPlane(reader, join->inputs->data[i], grey, match)) return false;
  }
  if (!MatchFilter(reader, *mix, &match->spec)) return false;
  match->nodes.push_back(reader.Producer(mix->inputs->data[0]));
  match->nodes.push_back(last);
  RemoveDuplicates(&match->nodes);
  match->output = mix->outputs->data[0];
  return AreReadInsideOnly(reader, match->nodes, consumers, last) && reader.IsTensor(match->output);
}

}  // namespace bdd
