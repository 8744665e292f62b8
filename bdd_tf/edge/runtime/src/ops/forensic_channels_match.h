// Recognizes the forensic channels among a model's builtin operators: the subgraph of each channel must have exactly
// the text (ops/graph_text.h) that the converter's output has. Anything that differs stays with the runtime.
#pragma once

#include <vector>

#include "ops/forensic_channels.h"
#include "ops/graph_text.h"

namespace bdd {

struct ChannelsMatch {
  ChannelsSpec spec;
  int image = -1, output = -1;  // tensors
  std::vector<int> nodes;       // all nodes of the channels; the last one is the convolution
};

// Whether node `last` is the 3 x 3 convolution of RGB and forensic channels that are made by nodes in `candidates` and
// not read by other nodes. `reader` looks up the producers among the candidates. consumers[t] is the number of times
// that nodes read tensor t.
bool MatchChannels(const GraphReader& reader, const std::vector<int>& candidates, const std::vector<int>& consumers,
                   int last, ChannelsMatch* match);

}  // namespace bdd
