#include "interpreter/interpreter.h"

#include <algorithm>
#include <new>

#include "delegate/delegate.h"
#include "delegate/exports.h"
#include "interpreter/operator_names.h"
#include "interpreter/step.h"
#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

int64_t BytesOf(TfLiteType type) { return type == kTfLiteFloat16 ? 2 : SizeOf(type); }

TfLiteIntArray* MakeArray(const int32_t* values, size_t count) {
  auto* array = static_cast<TfLiteIntArray*>(std::malloc(sizeof(int) * (count + 2)));
  if (array == nullptr) return nullptr;
  array->size = static_cast<int>(count);
  if (count > 0) std::memcpy(array->data, values, sizeof(int) * count);
  return array;
}

}  // namespace

std::unique_ptr<Interpreter> Interpreter::Make(Buffer<uint8_t> content, const InterpreterOptions& options,
                                               Message* why) {
  const uint8_t* data = content.data();
  const auto size = static_cast<size_t>(content.size());
  return MakeLoaded(std::move(content), data, size, options, why);
}

std::unique_ptr<Interpreter> Interpreter::MakeLoaded(Buffer<uint8_t> content, const uint8_t* data, size_t size,
                                                     const InterpreterOptions& options, Message* why) {
  std::unique_ptr<Interpreter> made(new (std::nothrow) Interpreter);
  if (made == nullptr) {
    why->Set("no memory for the interpreter");
    return nullptr;
  }
  made->content_ = std::move(content);
  const MemoryBudget budget(kMaxBytes);
  if (!made->Load(data, size, options, why)) return nullptr;
  return made;
}

Interpreter::~Interpreter() {
  for (const auto& step : steps_) {
    if (step->delegated.user_data != nullptr) registration_.free(&context_, step->delegated.user_data);
  }
  tflite_plugin_destroy_delegate(delegate_);
  for (TfLiteTensor& tensor : tensors_) std::free(tensor.dims);
  for (TfLiteIntArray* array : arrays_) std::free(array);
}

TfLiteIntArray* Interpreter::NewArray(const std::vector<int32_t>& values) {
  arrays_.push_back(MakeArray(values.data(), values.size()));
  return arrays_.back();
}

bool Interpreter::Load(const uint8_t* data, size_t size, const InterpreterOptions& options, Message* why) {
  if (!ReadModelFile(data, size, &file_, why)) return false;
  if (file_.inputs.size() != 1 || file_.outputs.size() != 1) {
    return why->Set("a model with one input and one output is needed");
  }
  if (!AddTensors(why)) return false;
  AddNodes();
  SetCallbacks();
  char threads[16];
  std::snprintf(threads, sizeof threads, "%d", options.threads);
  const char* const keys[] = {"num_threads", "kernels"};
  const char* const values[] = {threads, options.kernels};
  delegate_ = tflite_plugin_create_delegate(keys, values, 2, nullptr);
  if (delegate_ == nullptr) return why->Set("threads must be 1 to 64, and kernels a set that this machine has");
  claimed_.assign(nodes_.size(), false);
  if (delegate_->Prepare(&context_, delegate_) != kTfLiteOk) return why->Set("%s", error_.text());
  return Partition(why) && Prepare(options.batch, why);
}

bool Interpreter::AddTensors(Message* why) {
  tensors_.resize(file_.tensors.size());
  memory_.resize(file_.tensors.size());
  unpacked_.assign(file_.tensors.size(), false);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const ModelFile::Tensor& from = file_.tensors[i];
    TfLiteTensor& to = tensors_[i];
    to = TfLiteTensor{};
    to.type = from.type;
    to.dims = MakeArray(from.dims.data(), from.dims.size());
    if (to.dims == nullptr) return why->Set("no memory for the tensors");
    to.params = {from.scale, from.zero_point};
    if (from.content.size == 0) continue;
    const int64_t bytes = Times(ShapeOf(to.dims).Elements(), BytesOf(from.type));
    // Bit-packed weights are stored as int32.
    if (bytes < 0 || static_cast<size_t>(bytes) != from.content.size) {
      return why->Set("tensor %d is a constant of another size than its shape", static_cast<int>(i));
    }
    to.allocation_type = kTfLiteMmapRo;
    to.bytes = from.content.size;
    to.data = const_cast<uint8_t*>(from.content.data);
  }
  context_.tensors_size = tensors_.size();
  context_.tensors = tensors_.data();
  return true;
}

void Interpreter::AddNodes() {
  std::vector<int32_t> order;
  for (ModelFile::Operator& op : file_.operators) {
    TfLiteNode node = {};
    node.inputs = NewArray(op.inputs);
    node.outputs = NewArray(op.outputs);
    node.builtin_data = op.code == kTfLiteBuiltinCustom ? nullptr : op.parameters;
    node.custom_initial_data = op.options.data;
    node.custom_initial_data_size = static_cast<int>(std::min<size_t>(op.options.size, 1 << 30));
    TfLiteRegistration registration = {};
    registration.builtin_code = op.code;
    registration.custom_name = op.custom_name.c_str();
    order.push_back(static_cast<int32_t>(nodes_.size()));
    nodes_.push_back(node);
    registrations_.push_back(registration);
  }
  plan_ = NewArray(order);
}

void Interpreter::SetCallbacks() {
  context_.impl = this;
  context_.GetExecutionPlan = [](TfLiteContext* context, TfLiteIntArray** plan) {
    *plan = static_cast<Interpreter*>(context->impl)->plan_;
    return kTfLiteOk;
  };
  context_.ResizeTensor = [](TfLiteContext* context, TfLiteTensor* tensor, TfLiteIntArray* dims) {
    auto* self = static_cast<Interpreter*>(context->impl);
    const Shape shape = ShapeOf(dims);
    const bool good = self->Resize(static_cast<int>(tensor - context->tensors), shape);
    std::free(dims);
    return good ? kTfLiteOk : kTfLiteError;
  };
  context_.ReportError = &Interpreter::Report;
  context_.GetNodeAndRegistration = [](TfLiteContext* context, int index, TfLiteNode** node,
                                       TfLiteRegistration** registration) {
    auto* self = static_cast<Interpreter*>(context->impl);
    if (index < 0 || static_cast<size_t>(index) >= self->nodes_.size()) return kTfLiteError;
    *node = &self->nodes_[static_cast<size_t>(index)];
    *registration = &self->registrations_[static_cast<size_t>(index)];
    return kTfLiteOk;
  };
  context_.ReplaceNodeSubsetsWithDelegateKernels = [](TfLiteContext* context, TfLiteRegistration registration,
                                                      const TfLiteIntArray* nodes, TfLiteDelegate*) {
    auto* self = static_cast<Interpreter*>(context->impl);
    self->registration_ = registration;
    for (int i = 0; i < nodes->size; ++i) self->claimed_[static_cast<size_t>(nodes->data[i])] = true;
    return kTfLiteOk;
  };
}

void Interpreter::Report(TfLiteContext* context, const char* format, ...) {
  char text[200];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  static_cast<Interpreter*>(context->impl)->error_.Set("%s", text);
}

bool Interpreter::Resize(int tensor, const Shape& shape) {
  TfLiteTensor& t = tensors_[static_cast<size_t>(tensor)];
  const int64_t bytes = Times(shape.Elements(), BytesOf(t.type));
  TfLiteIntArray* dims = MakeArray(shape.dims, static_cast<size_t>(shape.rank));
  Buffer<uint8_t>& memory = memory_[static_cast<size_t>(tensor)];
  if (dims == nullptr || bytes < 0 || (HasOwnMemory(static_cast<size_t>(tensor)) && !memory.Reset(bytes))) {
    std::free(dims);
    return false;
  }
  std::free(t.dims);
  t.dims = dims;
  t.bytes = static_cast<size_t>(bytes);
  t.data = memory.data();  // null until AllocateBlocks, unless it is the tensor's own
  return true;
}

bool Interpreter::HasOwnMemory(size_t tensor) const {
  return unpacked_[tensor] || static_cast<int32_t>(tensor) == file_.inputs[0];
}

// Whether everything that a node reads is constant or computed.
bool Interpreter::IsReady(const std::vector<bool>& computed, int node) const {
  const std::vector<int32_t>& inputs = file_.operators[static_cast<size_t>(node)].inputs;
  return std::all_of(inputs.begin(), inputs.end(),
                     [&](int32_t input) { return input < 0 || computed[static_cast<size_t>(input)]; });
}

// Divides the nodes into steps: as many of the delegate's as are ready run together.
bool Interpreter::Partition(Message* why) {
  std::vector<bool> computed(tensors_.size()), done(nodes_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) computed[i] = tensors_[i].data != nullptr;
  for (const int32_t input : file_.inputs) computed[static_cast<size_t>(input)] = true;
  size_t left = nodes_.size();
  for (bool claimed = false; left > 0; claimed = !claimed) {
    std::vector<int> nodes;
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = 0; i < nodes_.size(); ++i) {
        if (done[i] || claimed_[i] != claimed || !IsReady(computed, static_cast<int>(i))) continue;
        done[i] = changed = true;
        nodes.push_back(static_cast<int>(i));
        for (const int32_t output : file_.operators[i].outputs) computed[static_cast<size_t>(output)] = true;
      }
    }
    left -= nodes.size();
    if (nodes.empty()) {
      if (claimed) return why->Set("the model reads tensors that nothing computes");
      continue;
    }
    std::sort(nodes.begin(), nodes.end(), [](int a, int b) { return a < b; });
    if (claimed) {
      if (!AddDelegateStep(nodes, why)) return false;
      continue;
    }
    for (const int node : nodes) {
      if (!AddFloatStep(node, why)) return false;
    }
  }
  const int32_t output = file_.outputs[0];
  return computed[static_cast<size_t>(output)] || why->Set("nothing computes the model's output");
}

bool Interpreter::AddDelegateStep(const std::vector<int>& nodes, Message* why) {
  std::vector<bool> inside(tensors_.size());
  for (const int node : nodes) {
    for (const int32_t output : file_.operators[static_cast<size_t>(node)].outputs) {
      inside[static_cast<size_t>(output)] = true;
    }
  }
  std::vector<int32_t> inputs, outputs;
  std::vector<bool> listed(tensors_.size()), read(tensors_.size());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const bool member = std::binary_search(nodes.begin(), nodes.end(), static_cast<int>(i));
    for (const int32_t input : file_.operators[i].inputs) {
      if (input < 0) continue;
      const auto tensor = static_cast<size_t>(input);
      if (!member) read[tensor] = true;
      if (member && !inside[tensor] && !listed[tensor]) {
        listed[tensor] = true;
        inputs.push_back(input);
      }
    }
  }
  for (const int32_t output : file_.outputs) read[static_cast<size_t>(output)] = true;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (inside[i] && read[i]) outputs.push_back(static_cast<int32_t>(i));
  }
  TfLiteDelegateParams params = {delegate_, NewArray(std::vector<int32_t>(nodes.begin(), nodes.end())),
                                 NewArray(inputs), NewArray(outputs)};
  std::unique_ptr<Step> step(new (std::nothrow) Step);
  if (step == nullptr) return why->Set("no memory for the steps");
  step->delegated.inputs = params.input_tensors;
  step->delegated.outputs = params.output_tensors;
  step->delegated.user_data = registration_.init(&context_, reinterpret_cast<const char*>(&params), sizeof params);
  if (step->delegated.user_data == nullptr) return why->Set("%s", error_.text());
  steps_.push_back(std::move(step));
  return true;
}

bool Interpreter::AddFloatStep(int node, Message* why) {
  const ModelFile::Operator& op = file_.operators[static_cast<size_t>(node)];
  std::unique_ptr<Step> step(new (std::nothrow) Step);
  if (step == nullptr) return why->Set("no memory for the steps");
  step->op = MakeFloatOperator(op, {&KernelsOf(*delegate_), &ThreadsOf(*delegate_)});
  if (step->op == nullptr || op.outputs.size() != 1) {
    const char* name = op.code == kTfLiteBuiltinCustom ? op.custom_name.c_str() : OperatorName(op.code);
    return why->Set("operator %d (%.40s, code %d) is not supported", node, name, op.code);
  }
  step->number = node;
  step->runs_once = op.code == kTfLiteBuiltinDequantize && op.inputs.size() == 1 && op.inputs[0] >= 0 &&
                    file_.tensors[static_cast<size_t>(op.inputs[0])].content.size > 0;
  if (step->runs_once) unpacked_[static_cast<size_t>(op.outputs[0])] = true;
  step->inputs.assign(op.inputs.begin(), op.inputs.end());
  step->output = op.outputs[0];
  steps_.push_back(std::move(step));
  return true;
}

}  // namespace bdd
