// The delegate that a TFLite runtime loads as a plugin. PrepareDelegate chooses nodes; the runtime then replaces each
// connected part of them by one node, which a Partition runs.
#include "delegate/delegate.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "delegate/describe_node.h"
#include "delegate/exports.h"
#include "delegate/packed_constants.h"
#include "delegate/partition.h"
#include "graph/graph.h"
#include "kernels/kernel_set.h"
#include "support/threads.h"
#include "tflite/builtin_ops.h"
#include "tflite/c_abi.h"

namespace bdd {
namespace {

struct Delegate {
  TfLiteDelegate base;  // the runtime holds its address
  const KernelSet* kernels;
  bool fuse;
  ThreadPool pool;
  PackedConstants packed;  // of the model that is being prepared
  bool refused = false;    // whether a node of that model was refused; one reason is enough

  Delegate(const KernelSet* set, int threads, bool fused) : base(), kernels(set), fuse(fused), pool(threads) {}
};

TfLiteStatus Refuse(TfLiteContext* context, int node, const char* name, const Message& why) {
  context->ReportError(context, "bdd_tf: node %d (%s): %s", node, name, why.text());
  return kTfLiteError;
}

bool Contains(const TfLiteIntArray& array, int value) {
  return std::find(array.data, array.data + array.size, value) != array.data + array.size;
}

// The nodes that one delegate node replaces.
struct Partition {
  Graph graph;
  Partition(const KernelSet* kernels, ThreadPool* pool) : graph(kernels, pool) {}
};

// Fills a partition's graph.
class PartitionBuilder {
 public:
  PartitionBuilder(TfLiteContext* context, const TfLiteDelegateParams& params, Graph* graph)
      : context_(context),
        delegate_(*static_cast<Delegate*>(params.delegate->data)),
        outputs_(*params.output_tensors),
        order_(params.nodes_to_replace->data, params.nodes_to_replace->data + params.nodes_to_replace->size),
        graph_(*graph) {}

  // On failure, reports the reason to the runtime.
  bool Build() {
    if (delegate_.fuse) FindChannels();
    for (const int index : order_) {
      // The nodes that read an unpacked constant read the packed one, here or in another partition.
      if (UnpackedTensor(context_, index) >= 0) continue;
      NodeSpec spec;
      Message why;
      bool skip = false;
      bool good = Describe(index, &spec, &skip, &why);
      if (skip) continue;
      const char* name = spec.name;
      if (good) {
        const bool external = Contains(outputs_, spec.output);
        good = SetConstants(spec, &why) && graph_.Add(std::move(spec), external, &why);
      }
      if (!good) return RefuseOnce(index, name, why);
    }
    return true;
  }

 private:
  bool RefuseOnce(int index, const char* name, Message why) {
    // With experimental_preserve_all_tensors, the runtime puts each node into a partition of its own, where the parts
    // of forensic channels cannot be recognized.
    if (why.text()[0] == '\0') {
      why.Set(
          "a part of fused forensic channels, which the runtime separated (experimental_preserve_all_tensors does "
          "that); lce_delegate(fuse=False) leaves it to the runtime");
    }
    if (!delegate_.refused) Refuse(context_, index, name, why);
    delegate_.refused = true;
    return false;
  }

  void FindChannels() {
    std::vector<int> consumers(context_->tensors_size, 0);
    for (const int index : order_) CountConsumers(context_, index, &consumers);
    const GraphReader reader(context_, order_);
    for (const int index : order_) {
      NodeSpec spec;
      if (!DescribeChannels(reader, order_, consumers, index, &spec)) continue;
      replaced_.insert(replaced_.end(), spec.replaced_nodes.begin(), spec.replaced_nodes.end());
      channels_.push_back(std::move(spec));
    }
  }

  // Sets *skip for nodes that the last node of forensic channels replaces.
  bool Describe(int index, NodeSpec* spec, bool* skip, Message* why) {
    if (std::find(replaced_.begin(), replaced_.end(), index) == replaced_.end()) {
      return DescribeNode(context_, delegate_.packed, index, delegate_.fuse, spec, why);
    }
    for (NodeSpec& channels : channels_) {
      if (channels.index != index) continue;
      *spec = std::move(channels);
      return true;
    }
    *skip = !Contains(outputs_, OutputOf(index));
    return why->Set(
        "its result, a part of forensic channels, is read elsewhere; lce_delegate(fuse=False) leaves it to the "
        "runtime");
  }

  // The output of a node that is known to have one.
  int OutputOf(int index) const {
    TfLiteNode* node = nullptr;
    TfLiteRegistration* registration = nullptr;
    context_->GetNodeAndRegistration(context_, index, &node, &registration);
    return node->outputs->data[0];
  }

  // Unpacks the constants that a node reads.
  bool SetConstants(const NodeSpec& spec, Message* why) {
    // Of binary operators, only multiplier and bias can be packed.
    for (int i = IsBinary(spec) ? 2 : 0; i < spec.input_count; ++i) {
      const int input = spec.inputs[i];
      if (input < 0 || static_cast<size_t>(input) >= delegate_.packed.size()) continue;
      const int packed = delegate_.packed[static_cast<size_t>(input)];
      if (packed < 0) continue;
      Buffer<float> floats;
      if (!Unpack(context_->tensors[packed], &floats)) return why->Set("no memory for tensor %d", input);
      graph_.SetConstant(input, std::move(floats));
    }
    return true;
  }

  TfLiteContext* context_;
  Delegate& delegate_;
  const TfLiteIntArray& outputs_;
  const std::vector<int> order_;
  Graph& graph_;
  std::vector<NodeSpec> channels_;  // forensic channels
  std::vector<int> replaced_;       // the nodes that they consist of
};

void* InitPartition(TfLiteContext* context, const char* buffer, size_t) {
  const auto* params = reinterpret_cast<const TfLiteDelegateParams*>(buffer);
  auto* delegate = static_cast<Delegate*>(params->delegate->data);
  std::unique_ptr<Partition> partition(new (std::nothrow) Partition(delegate->kernels, &delegate->pool));
  if (partition == nullptr || !PartitionBuilder(context, *params, &partition->graph).Build()) return nullptr;
  return partition.release();
}

void FreePartition(TfLiteContext*, void* partition) { delete static_cast<Partition*>(partition); }

// Prepares or runs the graph of a partition's node.
TfLiteStatus CallGraph(TfLiteContext* context, TfLiteNode* node,
                       bool (Graph::*step)(TfLiteContext*, const NodeSpec**, Message*)) {
  auto* partition = static_cast<Partition*>(node->user_data);
  if (partition == nullptr) return kTfLiteError;
  Message why;
  const NodeSpec* culprit = nullptr;
  if ((partition->graph.*step)(context, &culprit, &why)) return kTfLiteOk;
  return Refuse(context, culprit->index, culprit->name, why);
}

TfLiteStatus PreparePartition(TfLiteContext* context, TfLiteNode* node) {
  return CallGraph(context, node, &Graph::Prepare);
}

TfLiteStatus InvokePartition(TfLiteContext* context, TfLiteNode* node) { return CallGraph(context, node, &Graph::Run); }

TfLiteRegistration PartitionRegistration() {
  TfLiteRegistration registration = {};
  registration.init = InitPartition;
  registration.free = FreePartition;
  registration.prepare = PreparePartition;
  registration.invoke = InvokePartition;
  registration.builtin_code = kTfLiteBuiltinDelegate;
  registration.custom_name = "BddTfBinary";
  registration.version = 1;
  return registration;
}

TfLiteStatus PrepareDelegate(TfLiteContext* context, TfLiteDelegate* base) {
  auto* delegate = static_cast<Delegate*>(base->data);
  TfLiteIntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk) return kTfLiteError;
  delegate->refused = false;
  ModelNodes model;
  // Copied, because GetNodeAndRegistration may change the plan.
  model.order.assign(plan->data, plan->data + plan->size);
  model.consumers.assign(context->tensors_size, 0);
  for (const int index : model.order) CountConsumers(context, index, &model.consumers);
  delegate->packed = FindPackedConstants(context, model.order);
  for (const int index : model.order) {
    std::unique_ptr<NodeSpec> spec(new NodeSpec);
    Message why;
    if (!DescribeNode(context, delegate->packed, index, delegate->fuse, spec.get(), &why)) {
      // A model with an invalid operator is refused as a whole, before anything is replaced.
      if (why.text()[0] != '\0') return Refuse(context, index, spec->name, why);
      spec.reset();
    }
    model.specs.push_back(std::move(spec));
  }
  std::vector<int> nodes = ChooseNodes(context, &model, delegate->fuse);
  nodes.insert(nodes.begin(), static_cast<int>(nodes.size()));  // the layout of a TfLiteIntArray
  return context->ReplaceNodeSubsetsWithDelegateKernels(context, PartitionRegistration(),
                                                        reinterpret_cast<const TfLiteIntArray*>(nodes.data()), base);
}

void ReportNothing(const char*) {}

bool ParseThreads(const char* text, int* threads) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < 1 || value > ThreadPool::kMaxThreads) return false;
  *threads = static_cast<int>(value);
  return true;
}

}  // namespace

const KernelSet& KernelsOf(const TfLiteDelegate& delegate) { return *static_cast<Delegate*>(delegate.data)->kernels; }
ThreadPool& ThreadsOf(const TfLiteDelegate& delegate) { return static_cast<Delegate*>(delegate.data)->pool; }

}  // namespace bdd

// Options: num_threads (1 to 64; default 1), kernels (a name from bdd_lce_kernels, or "auto", the default) and fuse (1,
// the default: also run the operators around the binary ones; 0: run the binary operators only).
BDD_EXPORT TfLiteDelegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values,
                                                         size_t count, void (*report)(const char*)) {
  if (report == nullptr) report = bdd::ReportNothing;
  int threads = 1;
  const char* kernels = "auto";
  bool fuse = true;
  for (size_t i = 0; i < count; ++i) {
    if (std::strcmp(keys[i], "num_threads") == 0) {
      if (!bdd::ParseThreads(values[i], &threads)) {
        report("bdd_tf: num_threads must be a number from 1 to 64");
        return nullptr;
      }
    } else if (std::strcmp(keys[i], "kernels") == 0) {
      kernels = values[i];
    } else if (std::strcmp(keys[i], "fuse") == 0 &&
               (std::strcmp(values[i], "0") == 0 || std::strcmp(values[i], "1") == 0)) {
      fuse = values[i][0] == '1';
    } else {
      report("bdd_tf: the delegate's options are num_threads, kernels and fuse (0 or 1)");
      return nullptr;
    }
  }
  const bdd::KernelSet* set = bdd::FindKernels(kernels);
  if (set == nullptr) {
    report("bdd_tf: this machine has no such kernels");
    return nullptr;
  }
  auto* delegate = new (std::nothrow) bdd::Delegate(set, threads, fuse);
  if (delegate == nullptr) return nullptr;
  delegate->base.data = delegate;
  delegate->base.Prepare = bdd::PrepareDelegate;
  delegate->base.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
  return &delegate->base;
}

BDD_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) {
  if (delegate != nullptr) delete static_cast<bdd::Delegate*>(delegate->data);
}

// The name of the i-th kernel set that this machine can run, fastest first; null after the last one.
BDD_EXPORT const char* bdd_lce_kernels(int i) {
  int count = 0;
  const bdd::KernelSet* const* sets = bdd::AvailableKernels(&count);
  return i >= 0 && i < count ? sets[i]->name : nullptr;
}
