// Recognizes normalized RGB and Haar details among a model's builtin operators, by their canonical text
// (ops/graph_text.h) and the weights of the details. Anything that differs stays with the runtime.
#pragma once

#include <vector>

#include "ops/detail_channels.h"
#include "ops/graph_text.h"

namespace bdd {

struct DetailsMatch {
  DetailsSpec spec;
  int image = -1, output = -1;  // tensors
  std::vector<int> nodes;       // the last one is the subtraction
};

// Whether node `last` is the subtraction that normalizes RGB and details. Arguments as of MatchChannels
// (ops/forensic_channels_match.h).
bool MatchDetails(const GraphReader& reader, const std::vector<int>& consumers, int last, DetailsMatch* match);

}  // namespace bdd
