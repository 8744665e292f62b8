// The canonical texts (ops/graph_text.h) of the forensic channels as the converter writes them.
#pragma once

#include <string>

namespace bdd {

// RGB from `image`: bytes times a scale.
std::string RgbText(float scale);

// Grey levels from `image`.
std::string GreyText();

// The local binary pattern of `grey`, an h x w map.
std::string PatternText(int h, int w, float scale);
constexpr size_t kPatternNodes = 29;

// The log-magnitude spectrum of `grey`, an h x w map: scale * ln(magnitude + offset). A folded spectrum computes both
// DFTs from smaller products; both forms end with the same nodes.
std::string SpectrumText(int h, int w, float offset, float scale, bool folded);
constexpr size_t kSpectrumNodes = 46, kFoldedSpectrumNodes = 98;
// Nodes from the end that add the offset, and multiply by the scale.
constexpr size_t kSpectrumOffsetFromEnd = 24, kSpectrumScaleFromEnd = 21;

// Whether both DFTs of an image of this size can be folded.
bool IsFoldable(int h, int w);

}  // namespace bdd
