// Batches of several images on several threads: each thread scores some of the images on an interpreter of its own.
// Only for detectors, which give one number for each image: another model might mix the inputs of a batch.
#include <algorithm>

#include "delegate/delegate.h"
#include "interpreter/interpreter.h"
#include "kernels/kernel_set.h"
#include "support/threads.h"

namespace bdd {

bool Interpreter::Prepare(int batch, Message* why) {
  parts_used_ = 0;
  const bool several = batch > 1 && ThreadsOf(*delegate_).threads() > 1 && TakesImages();
  return several ? PrepareParts(batch, why) : PrepareAlone(batch, why);
}

bool Interpreter::PrepareParts(int batch, Message* why) {
  const MemoryBudget budget(kMaxBytes);
  ready_ = false;
  const int count = std::min(batch, ThreadsOf(*delegate_).threads());
  input_bytes_ = output_count_ = 0;
  for (int i = 0; i < count; ++i) {
    const int inputs = batch / count + (i < batch % count ? 1 : 0);
    if (static_cast<size_t>(i) == parts_.size()) {
      const InterpreterOptions options = {1, inputs, KernelsOf(*delegate_).name};
      const auto size = static_cast<size_t>(content_.size());
      // The file stays in this interpreter, which outlives its parts.
      std::unique_ptr<Interpreter> made = MakeLoaded(Buffer<uint8_t>(), content_.data(), size, options, why);
      if (made == nullptr) return false;
      parts_.push_back(std::move(made));
    }
    Interpreter* part = parts_[static_cast<size_t>(i)].get();
    const bool prepared = part->ready_ && part->input_shape_.dims[0] == inputs;
    if (!prepared && !part->Prepare(inputs, why)) return false;
    if (part->output_count_ != inputs) return PrepareAlone(batch, why);
    input_shape_ = part->input_shape_;
    input_bytes_ += part->input_bytes_;
    output_count_ += part->output_count_;
  }
  input_shape_.dims[0] = batch;
  parts_used_ = static_cast<size_t>(count);
  return ready_ = true;
}

bool Interpreter::Run(const void* inputs, float* outputs, Message* why) {
  if (!ready_) return why->Set("the last change of the batch failed");
  return parts_used_ > 0 ? RunParts(inputs, outputs, why) : RunAlone(inputs, outputs, why);
}

bool Interpreter::RunParts(const void* inputs, float* outputs, Message* why) {
  ThreadsOf(*delegate_).ForEach(static_cast<int64_t>(parts_used_), [&](int64_t item) {
    const auto* from = static_cast<const uint8_t*>(inputs);
    float* to = outputs;
    for (int64_t i = 0; i < item; ++i) {
      const Interpreter& before = *parts_[static_cast<size_t>(i)];
      from += before.input_bytes_;
      to += before.output_count_;
    }
    Interpreter& part = *parts_[static_cast<size_t>(item)];
    part.ready_ = part.RunAlone(from, to, &part.reason_);
  });
  for (size_t i = 0; i < parts_used_; ++i) {
    if (!parts_[i]->ready_) return why->Set("%s", parts_[i]->reason_.text());
  }
  return true;
}

}  // namespace bdd
