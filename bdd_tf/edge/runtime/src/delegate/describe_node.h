// Translates the runtime's nodes into those of the delegate's graph, and decides which ones the delegate can run.
#pragma once

#include <vector>

#include "delegate/packed_constants.h"
#include "graph/graph.h"
#include "ops/graph_text.h"
#include "tflite/c_abi.h"

namespace bdd {

// Describes a node; `fuse` permits builtin operators. Returns false if the delegate cannot run it; if `why` is set
// then, the node is an Lce* operator that is invalid.
bool DescribeNode(TfLiteContext* context, const PackedConstants& packed, int index, bool fuse, NodeSpec* spec,
                  Message* why);

// Describes the last node of forensic channels as one that computes all of them. `nodes` are the nodes to consider;
// consumers[t] is the number of times that nodes read tensor t. Returns false if the node does not end forensic
// channels.
bool DescribeChannels(const GraphReader& reader, const std::vector<int>& nodes, const std::vector<int>& consumers,
                      int index, NodeSpec* spec);

// Whether a node is an Lce* operator.
bool IsBinary(const NodeSpec& spec);

}  // namespace bdd
