// Recognises forensic channels among a model's built-in operators.
#pragma once

#include <vector>

#include "channels.h"

namespace bdd {

struct ChannelsMatch {
  ChannelsSpec spec;
  int image = -1, output = -1;  // tensors
  std::vector<int> nodes;       // all that they consist of, the convolution (the last of them) included
};

// Whether node `last` is a 3 x 3 convolution of RGB with forensic channels, made by nodes in `among`, that nothing else
// reads (`readers`: by tensor).
bool MatchChannels(TfLiteContext* context, const std::vector<int>& among, const std::vector<int>& readers, int last,
                   ChannelsMatch* match);

}  // namespace bdd
