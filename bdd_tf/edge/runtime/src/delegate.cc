// The delegate that a TFLite runtime loads: it claims every Lce* operator of a model and runs it.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "kernels.h"
#include "operator.h"
#include "tflite_abi.h"
#include "threads.h"

#define BDD_EXPORT extern "C" __attribute__((visibility("default")))

namespace bdd {
namespace {

constexpr int kMaxInputs = 8;
constexpr const char* kNames[] = {"LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d"};

struct Delegate {
  TfLiteDelegate base;  // its address is what the runtime knows
  const KernelSet* kernels;
  ThreadPool pool;

  Delegate(const KernelSet* set, int threads) : base(), kernels(set), pool(threads) {}
};

const char* ClaimedName(const TfLiteRegistration* registration) {
  if (registration->builtin_code != kTfLiteBuiltinCustom || registration->custom_name == nullptr) return nullptr;
  for (const char* name : kNames) {
    if (std::strcmp(registration->custom_name, name) == 0) return name;
  }
  return nullptr;
}

TfLiteStatus Refuse(TfLiteContext* context, int node, const char* name, const Message& why) {
  context->ReportError(context, "bdd_tf: node %d (%s): %s", node, name, why.text());
  return kTfLiteError;
}

// One operator of a partition, and where its values are.
struct Step {
  int node = -1;
  const char* name = "";
  std::unique_ptr<Operator> op;
  int inputs[kMaxInputs];
  int input_count = 0;
  int64_t input_bytes = 0;  // that the first input must have
  int output = -1;
  // Of the output, where no other node reads it:
  bool internal = false;
  Shape shape;
  Buffer<uint8_t> memory;
  int source = -1;  // step that makes the first input, or -1
};

// The nodes that one delegate node replaces, in order.
class Partition {
 public:
  static Partition* Make(TfLiteContext* context, const TfLiteDelegateParams* params);
  TfLiteStatus Prepare(TfLiteContext* context);
  TfLiteStatus Invoke(TfLiteContext* context);

 private:
  bool AddStep(TfLiteContext* context, int node_index, const TfLiteDelegateParams* params, Message* why, Step* step);
  bool Read(TfLiteContext* context, int index, bool shape, Value* value, Message* why) const;
  bool PrepareStep(TfLiteContext* context, Step* step, Message* why);

  Delegate* delegate_ = nullptr;
  std::unique_ptr<Step[]> steps_;
  int count_ = 0;
};

bool Contains(const TfLiteIntArray* array, int value) {
  for (int i = 0; i < array->size; ++i) {
    if (array->data[i] == value) return true;
  }
  return false;
}

Partition* Partition::Make(TfLiteContext* context, const TfLiteDelegateParams* params) {
  std::unique_ptr<Partition> made(new (std::nothrow) Partition);
  if (made == nullptr) return nullptr;
  made->delegate_ = static_cast<Delegate*>(params->delegate->data);
  const TfLiteIntArray* nodes = params->nodes_to_replace;
  made->steps_.reset(new (std::nothrow) Step[static_cast<size_t>(nodes->size)]);
  if (made->steps_ == nullptr) return nullptr;
  for (int i = 0; i < nodes->size; ++i) {
    Message why;
    Step* step = &made->steps_[static_cast<size_t>(i)];
    if (!made->AddStep(context, nodes->data[i], params, &why, step)) {
      Refuse(context, nodes->data[i], step->name, why);
      return nullptr;
    }
    ++made->count_;
  }
  return made.release();
}

bool Partition::AddStep(TfLiteContext* context, int node_index, const TfLiteDelegateParams* params, Message* why,
                        Step* step) {
  TfLiteNode* node = nullptr;
  TfLiteRegistration* registration = nullptr;
  if (context->GetNodeAndRegistration(context, node_index, &node, &registration) != kTfLiteOk) {
    return why->Set("the runtime does not show it");
  }
  const char* name = ClaimedName(registration);
  if (name == nullptr) return why->Set("not one of ours");
  step->node = node_index;
  step->name = name;
  if (node->inputs == nullptr || node->outputs == nullptr || node->inputs->size > kMaxInputs ||
      node->inputs->size < 1 || node->outputs->size != 1) {
    return why->Set("a number of inputs or outputs that it cannot have");
  }
  const int size = node->custom_initial_data_size;
  step->op = MakeOperator(name, static_cast<const uint8_t*>(node->custom_initial_data),
                          size > 0 ? static_cast<size_t>(size) : 0, why);
  if (step->op == nullptr) return false;
  step->input_count = node->inputs->size;
  for (int i = 0; i < step->input_count; ++i) step->inputs[i] = node->inputs->data[i];
  step->output = node->outputs->data[0];
  step->internal = !Contains(params->output_tensors, step->output);
  for (int i = 0; i < count_; ++i) {
    const Step& before = steps_[static_cast<size_t>(i)];
    if (before.output == step->output) return why->Set("tensor %d is made twice", step->output);
    if (before.output == step->inputs[0]) step->source = i;
  }
  return true;
}

// A tensor's type and, if asked for, its shape, and its content where that is constant.
bool Partition::Read(TfLiteContext* context, int index, bool shape, Value* value, Message* why) const {
  if (index < 0 || static_cast<size_t>(index) >= context->tensors_size) return why->Set("there is no tensor %d", index);
  const TfLiteTensor& tensor = context->tensors[index];
  value->type = tensor.type;
  value->scale = tensor.params.scale;
  value->zero_point = tensor.params.zero_point;
  if (!shape) return true;
  if (tensor.dims == nullptr || tensor.dims->size < 0 || tensor.dims->size > Shape::kMaxRank) {
    return why->Set("tensor %d has no shape, or too many axes", index);
  }
  value->shape.rank = tensor.dims->size;
  for (int i = 0; i < tensor.dims->size; ++i) value->shape.dims[i] = tensor.dims->data[i];
  if (tensor.allocation_type == kTfLiteMmapRo || tensor.allocation_type == kTfLitePersistentRo) {
    value->constant = tensor.data;
    value->bytes = static_cast<int64_t>(tensor.bytes < size_t{kMaxBytes} ? tensor.bytes : size_t{kMaxBytes});
  }
  return true;
}

bool Partition::PrepareStep(TfLiteContext* context, Step* step, Message* why) {
  Value values[kMaxInputs], output;
  const Value* inputs[kMaxInputs] = {};
  for (int i = 0; i < step->input_count; ++i) {
    const int index = step->inputs[i];
    if (index == -1) continue;  // an optional input that is not there
    const Step* source = i == 0 && step->source >= 0 ? &steps_[static_cast<size_t>(step->source)] : nullptr;
    if (!Read(context, index, source == nullptr, &values[i], why)) return false;
    if (source != nullptr) values[i].shape = source->shape;
    inputs[i] = &values[i];
  }
  if (!Read(context, step->output, true, &output, why)) return false;
  if (output.constant != nullptr) return why->Set("tensor %d, its output, is a constant", step->output);
  if (!step->op->Prepare(inputs, step->input_count, *delegate_->kernels, &output, why)) return false;
  step->shape = output.shape;
  step->input_bytes = Times(values[0].shape.Elements(), SizeOf(values[0].type));
  if (step->internal) {
    return step->memory.Reset(Times(output.shape.Elements(), SizeOf(output.type))) || why->Set("no memory");
  }
  const auto rank = static_cast<size_t>(output.shape.rank);
  auto* dims = static_cast<TfLiteIntArray*>(std::malloc(sizeof(int) * (rank + 1)));
  if (dims == nullptr) return why->Set("no memory");
  dims->size = output.shape.rank;
  std::memcpy(dims->data, output.shape.dims, sizeof(int) * rank);
  // The runtime takes the array.
  return context->ResizeTensor(context, &context->tensors[step->output], dims) == kTfLiteOk ||
         why->Set("the runtime refuses the output's size");
}

TfLiteStatus Partition::Prepare(TfLiteContext* context) {
  for (int i = 0; i < count_; ++i) {
    Message why;
    Step* step = &steps_[static_cast<size_t>(i)];
    if (!PrepareStep(context, step, &why)) return Refuse(context, step->node, step->name, why);
  }
  return kTfLiteOk;
}

TfLiteStatus Partition::Invoke(TfLiteContext* context) {
  for (int i = 0; i < count_; ++i) {
    Step& step = steps_[static_cast<size_t>(i)];
    const void* input = nullptr;
    if (step.source >= 0 && steps_[static_cast<size_t>(step.source)].internal) {
      input = steps_[static_cast<size_t>(step.source)].memory.data();
    } else {
      // A constant may hold less than its shape says.
      const TfLiteTensor& tensor = context->tensors[step.inputs[0]];
      input = tensor.bytes >= static_cast<size_t>(step.input_bytes) ? tensor.data : nullptr;
    }
    void* output = step.memory.data();
    if (!step.internal) {
      const TfLiteTensor& tensor = context->tensors[step.output];
      const int64_t needed = Times(step.shape.Elements(), SizeOf(tensor.type));
      output = tensor.bytes >= static_cast<size_t>(needed) ? tensor.data : nullptr;
    }
    if (input == nullptr || output == nullptr) {
      Message why;
      why.Set("its %s has no memory, or less than its shape needs", input == nullptr ? "input" : "output");
      return Refuse(context, step.node, step.name, why);
    }
    step.op->Run(input, output, &delegate_->pool);
  }
  return kTfLiteOk;
}

void* InitPartition(TfLiteContext* context, const char* buffer, size_t) {
  return Partition::Make(context, reinterpret_cast<const TfLiteDelegateParams*>(buffer));
}

void FreePartition(TfLiteContext*, void* partition) { delete static_cast<Partition*>(partition); }

TfLiteStatus PreparePartition(TfLiteContext* context, TfLiteNode* node) {
  auto* partition = static_cast<Partition*>(node->user_data);
  return partition == nullptr ? kTfLiteError : partition->Prepare(context);
}

TfLiteStatus InvokePartition(TfLiteContext* context, TfLiteNode* node) {
  auto* partition = static_cast<Partition*>(node->user_data);
  return partition == nullptr ? kTfLiteError : partition->Invoke(context);
}

TfLiteStatus PrepareDelegate(TfLiteContext* context, TfLiteDelegate* delegate) {
  TfLiteIntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk) return kTfLiteError;
  const auto size = static_cast<size_t>(plan->size);
  std::unique_ptr<int[]> claimed(new (std::nothrow) int[size + 1]);  // as a TfLiteIntArray
  if (claimed == nullptr) return kTfLiteError;
  std::memcpy(claimed.get() + 1, plan->data, sizeof(int) * size);
  int count = 0;
  for (size_t i = 1; i <= size; ++i) {
    TfLiteNode* node = nullptr;
    TfLiteRegistration* registration = nullptr;
    const int index = claimed[i];
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk) return kTfLiteError;
    const char* name = ClaimedName(registration);
    if (name == nullptr) continue;
    // Options are looked at before anything is replaced: a bad model is refused as a whole.
    Message why;
    const int length = node->custom_initial_data_size;
    if (MakeOperator(name, static_cast<const uint8_t*>(node->custom_initial_data),
                     length > 0 ? static_cast<size_t>(length) : 0, &why) == nullptr) {
      return Refuse(context, index, name, why);
    }
    claimed[static_cast<size_t>(++count)] = index;
  }
  claimed[0] = count;
  TfLiteRegistration registration = {};
  registration.init = InitPartition;
  registration.free = FreePartition;
  registration.prepare = PreparePartition;
  registration.invoke = InvokePartition;
  registration.builtin_code = kTfLiteBuiltinDelegate;
  registration.custom_name = "BddTfBinary";
  registration.version = 1;
  return context->ReplaceNodeSubsetsWithDelegateKernels(
      context, registration, reinterpret_cast<const TfLiteIntArray*>(claimed.get()), delegate);
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
}  // namespace bdd

// Options: num_threads (1 to 64, default 1) and kernels (a name of bdd_lce_kernels, or auto).
BDD_EXPORT TfLiteDelegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values,
                                                         size_t count, void (*report)(const char*)) {
  if (report == nullptr) report = bdd::ReportNothing;
  int threads = 1;
  const char* kernels = "auto";
  for (size_t i = 0; i < count; ++i) {
    if (std::strcmp(keys[i], "num_threads") == 0) {
      if (!bdd::ParseThreads(values[i], &threads)) {
        report("bdd_tf: num_threads must be a number from 1 to 64");
        return nullptr;
      }
    } else if (std::strcmp(keys[i], "kernels") == 0) {
      kernels = values[i];
    } else {
      report("bdd_tf: the delegate's options are num_threads and kernels");
      return nullptr;
    }
  }
  const bdd::KernelSet* set = bdd::FindKernels(kernels);
  if (set == nullptr) {
    report("bdd_tf: this machine has no such kernels");
    return nullptr;
  }
  auto* made = new (std::nothrow) bdd::Delegate(set, threads);
  if (made == nullptr) return nullptr;
  made->base.data = made;
  made->base.Prepare = bdd::PrepareDelegate;
  made->base.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
  return &made->base;
}

BDD_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) {
  if (delegate != nullptr) delete static_cast<bdd::Delegate*>(delegate->data);
}

// Name of the i-th set of kernels that this machine can run, the best first; null behind the last.
BDD_EXPORT const char* bdd_lce_kernels(int i) {
  int count = 0;
  const bdd::KernelSet* const* sets = bdd::AvailableKernels(&count);
  return i >= 0 && i < count ? sets[i]->name : nullptr;
}
