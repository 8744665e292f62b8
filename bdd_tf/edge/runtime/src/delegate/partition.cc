// Claims grow in rounds: each function below adds nodes for one reason.
#include "delegate/partition.h"

#include <algorithm>
#include <utility>

namespace bdd {
namespace {

using Specs = std::vector<std::unique_ptr<NodeSpec>>;

bool Contains(const std::vector<int>& values, int value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

bool Reads(const NodeSpec& spec, int tensor) {
  return std::find(spec.inputs, spec.inputs + spec.input_count, tensor) != spec.inputs + spec.input_count;
}

// Nodes that can absorb what comes before them, but are not claimed because of it.
bool LoadsInput(Kind kind) { return kind == Kind::kSmallConv2d || kind == Kind::kCast || kind == Kind::kReverse; }

// Replaces the nodes of forensic channels by one, at the place of the last of them.
void ReplaceChannels(TfLiteContext* context, ModelNodes* model) {
  const GraphReader reader(context, model->order);
  for (size_t i = 0; i < model->order.size(); ++i) {
    std::unique_ptr<NodeSpec> spec(new NodeSpec);
    if (!DescribeChannels(reader, model->order, model->consumers, model->order[i], spec.get())) continue;
    for (size_t j = 0; j < model->order.size(); ++j) {
      if (Contains(spec->replaced_nodes, model->order[j])) model->specs[j].reset();
    }
    model->specs[i] = std::move(spec);
  }
}

// Whether claimed nodes make node i worth claiming: it reads one of their results, or one of them reads its result.
bool IsConnected(const Specs& specs, const std::vector<bool>& claimed, size_t i) {
  const Kind kind = specs[i]->preferred_kind;
  bool after = false, before = false;
  for (size_t j = 0; j < specs.size(); ++j) {
    if (!claimed[j]) continue;
    if (j < i && Reads(*specs[i], specs[j]->output)) after = true;
    if (j > i && Reads(*specs[j], specs[i]->output) && !LoadsInput(specs[j]->preferred_kind)) before = true;
  }
  // Before claimed nodes: elementwise operations and the first convolution, but no dense layers. What comes before the
  // first convolution is claimed by ClaimInputTransforms.
  const bool can_be_before = kind != Kind::kDense && kind != Kind::kCast && kind != Kind::kReverse;
  return after ? !LoadsInput(kind) : before && can_be_before;
}

void ClaimConnected(const Specs& specs, std::vector<bool>* claimed) {
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i] == nullptr || (*claimed)[i] || !specs[i]->replaced_nodes.empty()) continue;
      if (IsConnected(specs, *claimed, i)) (*claimed)[i] = changed = true;
    }
  }
}

// The node before i that produces a tensor, if it is not claimed and nothing else reads the tensor; else the number of
// nodes.
size_t UnclaimedProducer(const ModelNodes& model, const std::vector<bool>& claimed, int tensor, size_t i) {
  const size_t none = model.specs.size();
  for (size_t j = 0; j < i; ++j) {
    if (model.specs[j] == nullptr || model.specs[j]->output != tensor) continue;
    return !claimed[j] && model.consumers[static_cast<size_t>(tensor)] == 1 ? j : none;
  }
  return none;
}

// A small convolution applies reversals, and elementwise operations on bytes, while it loads its input.
void ClaimInputTransforms(const ModelNodes& model, std::vector<bool>* claimed) {
  const Specs& specs = model.specs;
  const size_t none = specs.size();
  for (size_t i = 0; i < specs.size(); ++i) {
    if (!(*claimed)[i] || specs[i]->preferred_kind != Kind::kSmallConv2d) continue;
    int input = specs[i]->inputs[0];
    size_t at = UnclaimedProducer(model, *claimed, input, i);
    while (at != none && specs[at]->preferred_kind == Kind::kReverse) {
      (*claimed)[at] = true;
      input = specs[at]->inputs[0];
      at = UnclaimedProducer(model, *claimed, input, i);
    }
    std::vector<size_t> chain;
    while (at != none && specs[at]->preferred_kind == Kind::kElementwise && specs[at]->variable_input >= 0) {
      chain.push_back(at);
      input = specs[at]->inputs[specs[at]->variable_input];
      at = UnclaimedProducer(model, *claimed, input, i);
    }
    if (at == none || specs[at]->preferred_kind != Kind::kCast) continue;
    (*claimed)[at] = true;
    for (const size_t j : chain) (*claimed)[j] = true;
  }
}

// A cast of bytes followed by elementwise operations with constants becomes one lookup per byte, which is faster than
// the runtime's operators whatever reads it.
void ClaimLookups(const ModelNodes& model, std::vector<bool>* claimed) {
  const Specs& specs = model.specs;
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i] == nullptr || (*claimed)[i] || specs[i]->preferred_kind != Kind::kCast) continue;
    std::vector<size_t> chain;
    int output = specs[i]->output;
    for (size_t j = i + 1; j < specs.size(); ++j) {
      if (specs[j] == nullptr || specs[j]->preferred_kind != Kind::kElementwise || specs[j]->variable_input < 0 ||
          specs[j]->inputs[specs[j]->variable_input] != output || model.consumers[static_cast<size_t>(output)] != 1) {
        continue;
      }
      chain.push_back(j);
      output = specs[j]->output;
    }
    if (chain.empty()) continue;
    (*claimed)[i] = true;
    for (const size_t j : chain) (*claimed)[j] = true;
  }
}

// Forensic channels are faster here, whatever reads them. Claims also the nodes that they consist of.
void ClaimChannels(const ModelNodes& model, std::vector<bool>* claimed) {
  for (const auto& spec : model.specs) {
    if (spec == nullptr || spec->replaced_nodes.empty()) continue;
    for (size_t j = 0; j < model.order.size(); ++j) {
      if (Contains(spec->replaced_nodes, model.order[j])) (*claimed)[j] = true;
    }
  }
}

// Claims each DEQUANTIZE of a constant that only claimed nodes read. They read the packed constant, so it need not run.
void ClaimUnpacking(TfLiteContext* context, const ModelNodes& model, std::vector<bool>* claimed) {
  std::vector<int> consumers(context->tensors_size, 0);  // among claimed nodes
  for (size_t i = 0; i < model.order.size(); ++i) {
    if ((*claimed)[i]) CountConsumers(context, model.order[i], &consumers);
  }
  for (size_t i = 0; i < model.order.size(); ++i) {
    const int unpacked = UnpackedTensor(context, model.order[i]);
    if (unpacked < 0) continue;
    const auto tensor = static_cast<size_t>(unpacked);
    (*claimed)[i] = model.consumers[tensor] > 0 && consumers[tensor] == model.consumers[tensor];
  }
}

}  // namespace

void CountConsumers(TfLiteContext* context, int index, std::vector<int>* consumers) {
  TfLiteNode* node = nullptr;
  TfLiteRegistration* registration = nullptr;
  if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk) return;
  for (int i = 0; node->inputs != nullptr && i < node->inputs->size; ++i) {
    const int tensor = node->inputs->data[i];
    if (tensor >= 0 && static_cast<size_t>(tensor) < consumers->size()) ++(*consumers)[static_cast<size_t>(tensor)];
  }
}

std::vector<int> ChooseNodes(TfLiteContext* context, ModelNodes* model, bool fuse) {
  const auto is_binary = [](const auto& spec) { return spec != nullptr && IsBinary(*spec); };
  if (std::none_of(model->specs.begin(), model->specs.end(), is_binary)) return {};
  if (fuse) ReplaceChannels(context, model);
  std::vector<bool> claimed;
  for (const auto& spec : model->specs) claimed.push_back(is_binary(spec));
  ClaimConnected(model->specs, &claimed);
  ClaimInputTransforms(*model, &claimed);
  ClaimLookups(*model, &claimed);
  ClaimChannels(*model, &claimed);
  ClaimUnpacking(context, *model, &claimed);
  std::vector<int> nodes;
  for (size_t i = 0; i < claimed.size(); ++i) {
    if (claimed[i]) nodes.push_back(model->order[i]);
  }
  return nodes;
}

}  // namespace bdd
