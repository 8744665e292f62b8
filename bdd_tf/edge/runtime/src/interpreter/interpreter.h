// Runs a .tflite file without another runtime: it plays the runtime that the delegate expects (tflite/c_abi.h), gives
// it the file's nodes, and runs those that the delegate leaves as float operators (interpreter/float_ops.h).
// Threads share the maps of a single image. A detector's batch is shared out instead: each thread scores some of its
// images on an interpreter of its own, because the maps of small networks are too small to be divided
// (interpreter_batch.cc).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "interpreter/float_ops.h"
#include "interpreter/model_file.h"
#include "support/memory.h"
#include "tflite/c_abi.h"

namespace bdd {

struct InterpreterOptions {
  int threads = 1;
  int batch = 1;
  const char* kernels = "auto";
};

class Interpreter {
 public:
  // Returns null and the reason if the file is damaged or not supported, or memory is short. Takes over `content`.
  static std::unique_ptr<Interpreter> Make(Buffer<uint8_t> content, const InterpreterOptions& options, Message* why);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  const ModelFile& file() const { return file_; }
  const Shape& input_shape() const { return input_shape_; }  // its first side is the batch
  int64_t input_bytes() const { return input_bytes_; }       // of the whole batch
  int64_t output_count() const { return output_count_; }     // of the whole batch
  // Whether the input is uint8 [N, H, W, 3].
  bool TakesImages() const;
  // Changes the number of inputs per run. After a failure, nothing can be run until it succeeds.
  bool SetBatch(int batch, Message* why) { return Prepare(batch, why); }
  // Runs on input_bytes() bytes of the input's type; writes output_count() numbers. Returns false and the reason if it
  // fails. Does not allocate. Not for several threads at once.
  bool Run(const void* inputs, float* outputs, Message* why);

 private:
  struct Step;

  Interpreter() = default;
  // `content` may be empty if the file stays at `data`.
  static std::unique_ptr<Interpreter> MakeLoaded(Buffer<uint8_t> content, const uint8_t* data, size_t size,
                                                 const InterpreterOptions& options, Message* why);
  bool Load(const uint8_t* data, size_t size, const InterpreterOptions& options, Message* why);
  bool AddTensors(Message* why);
  void AddNodes();
  void SetCallbacks();
  bool Partition(Message* why);
  bool AddDelegateStep(const std::vector<int>& nodes, Message* why);
  bool AddFloatStep(int node, Message* why);
  bool Prepare(int batch, Message* why);
  bool PrepareAlone(int batch, Message* why);
  bool PrepareParts(int batch, Message* why);
  bool RunAlone(const void* inputs, float* outputs, Message* why);
  bool RunParts(const void* inputs, float* outputs, Message* why);
  bool PrepareFloat(Step* step, Message* why);
  bool IsReady(const std::vector<bool>& computed, int node) const;
  LiveTensor Live(int tensor) const;
  bool Resize(int tensor, const Shape& shape);
  bool HasOwnMemory(size_t tensor) const;
  bool AllocateBlocks();
  TfLiteIntArray* NewArray(const std::vector<int32_t>& values);
  static void Report(TfLiteContext* context, const char* format, ...);

  Buffer<uint8_t> content_;                          // empty in a part
  std::vector<std::unique_ptr<Interpreter>> parts_;  // made when the first batch of several inputs is prepared
  size_t parts_used_ = 0;                            // of them by the current batch; 0: this interpreter runs it alone
  ModelFile file_;
  TfLiteContext context_ = {};
  TfLiteDelegate* delegate_ = nullptr;
  TfLiteRegistration registration_ = {};
  std::vector<bool> claimed_;
  std::vector<bool> unpacked_;  // tensors that a DEQUANTIZE of a constant writes
  std::vector<TfLiteTensor> tensors_;
  std::vector<Buffer<uint8_t>> memory_;  // of the input and of unpacked constants
  std::vector<Buffer<uint8_t>> blocks_;  // of the others (interpreter/tensor_blocks.h)
  std::vector<TfLiteNode> nodes_;
  std::vector<TfLiteRegistration> registrations_;
  std::vector<TfLiteIntArray*> arrays_;
  TfLiteIntArray* plan_ = nullptr;
  std::vector<std::unique_ptr<Step>> steps_;
  Message error_;
  Message reason_;  // of a part's failure
  Shape input_shape_;
  int64_t input_bytes_ = 0, output_count_ = 0;
  bool ready_ = false;
};

}  // namespace bdd
