#include "interpreter/interpreter.h"

#include <algorithm>
#include <new>

#include "delegate/delegate.h"
#include "delegate/exports.h"
#include "interpreter/operator_names.h"
#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

int64_t BytesOf(TfLiteType type) { return type == kTfLiteFloat16 ? 2 : SizeOf(type); }

Shape ShapeOf(const TfLiteIntArray* dims) {
  Shape shape;
  shape.rank = std::min(dims->size, Shape::kMaxRank);
  for (int i = 0; i < shape.rank; ++i) shape.dims[i] = dims->data[i];
  return shape;
}

TfLiteIntArray* MakeArray(const int32_t* values, size_t count) {
  auto* array = static_cast<TfLiteIntArray*>(std::malloc(sizeof(int) * (count + 2)));
  if (array == nullptr) return nullptr;
  array->size = static_cast<int>(count);
  if (count > 0) std::memcpy(array->data, values, sizeof(int) * count);
  return array;
}

}  // namespace

// Nodes that run together: a part of the delegate's, or one float operator.
struct Interpreter::Step {
  TfLiteNode delegated = {};  // user_data is the part; null for a float operator
  std::unique_ptr<FloatOperator> op;
  std::vector<int> inputs;
  int output = -1, number = -1;
  bool runs_once = false;  // in Prepare: it unpacks a constant
  // Aligned copies of constants that are not aligned in the file; their data pointers in `live` lead here.
  std::vector<std::unique_ptr<Buffer<uint8_t>>> constants;
  std::vector<LiveTensor> live;
  std::vector<const LiveTensor*> arguments;
};

std::unique_ptr<Interpreter> Interpreter::Make(Buffer<uint8_t> content, const InterpreterOptions& options,
                                               Message* why) {
  std::unique_ptr<Interpreter> made(new (std::nothrow) Interpreter);
  if (made == nullptr) {
    why->Set("no memory for the interpreter");
    return nullptr;
  }
  made->content_ = std::move(content);
  if (!made->Load(options, why)) return nullptr;
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

bool Interpreter::Load(const InterpreterOptions& options, Message* why) {
  if (!ReadModelFile(content_.data(), static_cast<size_t>(content_.size()), &file_, why)) return false;
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
  if (dims == nullptr || bytes < 0 || !memory_[static_cast<size_t>(tensor)].Reset(bytes)) {
    std::free(dims);
    return false;
  }
  std::free(t.dims);
  t.dims = dims;
  t.bytes = static_cast<size_t>(bytes);
  t.data = memory_[static_cast<size_t>(tensor)].data();
  return true;
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
    std::sort(nodes.begin(), nodes.end());
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

LiveTensor Interpreter::Live(int tensor) const {
  const TfLiteTensor& t = tensors_[static_cast<size_t>(tensor)];
  LiveTensor live;
  live.type = t.type;
  live.shape = ShapeOf(t.dims);
  live.data = t.data;
  live.constant = t.allocation_type == kTfLiteMmapRo || unpacked_[static_cast<size_t>(tensor)];
  live.bytes = static_cast<int64_t>(t.bytes);
  live.scale = t.params.scale;
  live.zero_point = t.params.zero_point;
  return live;
}

bool Interpreter::PrepareFloat(Step* step, Message* why) {
  step->live.clear();
  step->constants.clear();
  for (const int input : step->inputs) {
    step->live.push_back(input < 0 ? LiveTensor() : Live(input));
    LiveTensor& live = step->live.back();
    constexpr uintptr_t kAlignment = sizeof(float);
    if (!live.constant || reinterpret_cast<uintptr_t>(live.data) % kAlignment == 0) continue;
    step->constants.emplace_back(new (std::nothrow) Buffer<uint8_t>);
    if (step->constants.back() == nullptr || !step->constants.back()->Reset(live.bytes)) {
      return why->Set("no memory for constants");
    }
    std::memcpy(step->constants.back()->data(), live.data, static_cast<size_t>(live.bytes));
    live.data = step->constants.back()->data();
  }
  step->arguments.clear();
  for (size_t i = 0; i < step->live.size(); ++i) {
    step->arguments.push_back(step->inputs[i] < 0 ? nullptr : &step->live[i]);
  }
  LiveTensor output;
  Message reason;
  const bool good = step->op->Prepare(step->arguments, &output, &reason);
  const char* name = OperatorName(file_.operators[static_cast<size_t>(step->number)].code);
  if (!good) return why->Set("operator %d (%s): %s", step->number, name, reason.text());
  TfLiteTensor& t = tensors_[static_cast<size_t>(step->output)];
  if (t.type != output.type) return why->Set("operator %d (%s) writes a tensor of another type", step->number, name);
  if (!Resize(step->output, output.shape)) return why->Set("no memory for a map");
  if (step->runs_once) step->op->Run(step->arguments, t.data);
  return true;
}

bool Interpreter::Prepare(int batch, Message* why) {
  ready_ = false;
  const TfLiteTensor& input = tensors_[static_cast<size_t>(file_.inputs[0])];
  Shape shape = ShapeOf(input.dims);
  if (shape.rank < 1 || batch < 1 || input.allocation_type == kTfLiteMmapRo) {
    return why->Set("the input is a constant, or has no axis for a batch");
  }
  shape.dims[0] = batch;
  if (shape.Elements() < 1 || !Resize(file_.inputs[0], shape)) return why->Set("%d inputs are too many", batch);
  input_shape_ = shape;
  input_bytes_ = static_cast<int64_t>(input.bytes);
  for (const auto& step : steps_) {
    if (step->op != nullptr) {
      if (!PrepareFloat(step.get(), why)) return false;
    } else if (registration_.prepare(&context_, &step->delegated) != kTfLiteOk) {
      return why->Set("%s", error_.text());
    }
  }
  const TfLiteTensor& output = tensors_[static_cast<size_t>(file_.outputs[0])];
  output_count_ = ShapeOf(output.dims).Elements();
  ready_ = output.type == kTfLiteFloat32 && output.data != nullptr && output_count_ > 0;
  return ready_ || why->Set("the output is not a map of floats");
}

bool Interpreter::TakesImages() const {
  return tensors_[static_cast<size_t>(file_.inputs[0])].type == kTfLiteUInt8 && input_shape_.rank == 4 &&
         input_shape_.dims[3] == 3;
}

bool Interpreter::Run(const void* inputs, float* outputs, Message* why) {
  if (!ready_) return why->Set("the last change of the batch failed");
  const TfLiteTensor& input = tensors_[static_cast<size_t>(file_.inputs[0])];
  std::memcpy(input.data, inputs, input.bytes);
  for (const auto& step : steps_) {
    if (step->runs_once) continue;
    if (step->op == nullptr) {
      if (registration_.invoke(&context_, &step->delegated) != kTfLiteOk) return why->Set("%s", error_.text());
      continue;
    }
    for (size_t i = 0; i < step->inputs.size(); ++i) {
      if (step->inputs[i] >= 0 && !step->live[i].constant) {
        step->live[i].data = tensors_[static_cast<size_t>(step->inputs[i])].data;
      }
    }
    step->op->Run(step->arguments, tensors_[static_cast<size_t>(step->output)].data);
  }
  const TfLiteTensor& output = tensors_[static_cast<size_t>(file_.outputs[0])];
  std::memcpy(outputs, output.data, output.bytes);
  return true;
}

}  // namespace bdd
