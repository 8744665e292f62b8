// Prepares the steps for a batch, and runs them.
#include <algorithm>
#include <new>

#include "interpreter/interpreter.h"
#include "interpreter/operator_names.h"
#include "interpreter/step.h"
#include "interpreter/tensor_blocks.h"

namespace bdd {

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
  if (!Resize(step->output, output.shape)) return why->Set("operator %d (%s): a map too large", step->number, name);
  if (step->runs_once) step->op->Run(step->arguments, t.data);
  return true;
}

bool Interpreter::AllocateBlocks() {
  std::vector<TensorUse> uses;
  for (const auto& step : steps_) {
    TensorUse use;
    if (step->op != nullptr) {
      use.reads.assign(step->inputs.begin(), step->inputs.end());
      use.reads.erase(std::remove(use.reads.begin(), use.reads.end(), -1), use.reads.end());
      use.writes = {step->output};
    } else {
      const TfLiteIntArray &reads = *step->delegated.inputs, &writes = *step->delegated.outputs;
      use.reads.assign(reads.data, reads.data + reads.size);
      use.writes.assign(writes.data, writes.data + writes.size);
    }
    uses.push_back(std::move(use));
  }
  std::vector<int64_t> bytes;
  std::vector<bool> kept;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    bytes.push_back(static_cast<int64_t>(tensors_[i].bytes));
    kept.push_back(HasOwnMemory(i));
  }
  const TensorBlocks found = AssignBlocks(uses, bytes, kept, file_.outputs[0]);
  if (blocks_.size() < found.bytes.size()) blocks_.resize(found.bytes.size());
  for (size_t i = 0; i < found.bytes.size(); ++i) {
    if (!blocks_[i].Reset(found.bytes[i])) return false;
  }
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (found.block_of[i] >= 0) tensors_[i].data = blocks_[static_cast<size_t>(found.block_of[i])].data();
  }
  return true;
}

bool Interpreter::PrepareAlone(int batch, Message* why) {
  const MemoryBudget budget(kMaxBytes);
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
  if (!AllocateBlocks()) return why->Set("no memory for the maps");
  const TfLiteTensor& output = tensors_[static_cast<size_t>(file_.outputs[0])];
  output_count_ = ShapeOf(output.dims).Elements();
  ready_ = output.type == kTfLiteFloat32 && output.data != nullptr && output_count_ > 0;
  return ready_ || why->Set("the output is not a map of floats");
}

bool Interpreter::TakesImages() const {
  const TfLiteTensor& input = tensors_[static_cast<size_t>(file_.inputs[0])];
  const Shape shape = ShapeOf(input.dims);
  return input.type == kTfLiteUInt8 && shape.rank == 4 && shape.dims[3] == 3;
}

bool Interpreter::RunAlone(const void* inputs, float* outputs, Message* why) {
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
