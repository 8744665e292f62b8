// Decides which nodes of a model the delegate claims.
//
// It claims binary operators and the nodes connected to them: consumers of claimed outputs, and nodes whose outputs are
// consumed by claimed nodes. Everything else stays with the runtime, so that float models are not fragmented.
#pragma once

#include <memory>
#include <vector>

#include "delegate/describe_node.h"

namespace bdd {

// A model's nodes in execution order. specs[i] describes node order[i]; it is null if the delegate cannot run the node.
struct ModelNodes {
  std::vector<int> order;
  std::vector<int> consumers;  // by tensor: the number of times that nodes read it
  std::vector<std::unique_ptr<NodeSpec>> specs;
};

// The nodes to claim, in execution order. Empty if the model has no binary operators. `fuse` permits builtin operators.
std::vector<int> ChooseNodes(TfLiteContext* context, ModelNodes* model, bool fuse);

// Adds a node to the number of consumers of each tensor that it reads.
void CountConsumers(TfLiteContext* context, int node, std::vector<int>* consumers);

}  // namespace bdd
