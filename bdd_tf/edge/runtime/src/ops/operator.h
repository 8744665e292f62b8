// The interface of the operators that the delegate implements itself, and what they share: messages, tensors and
// sliding windows.
//
// Operator is a whole operator: it checks its inputs (Prepare) and computes its output (Run). Operators that can
// produce their float output in pieces also implement TileSource; the graph then computes tile by tile (graph/graph.h).
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <new>

#include "kernels/kernel_set.h"
#include "support/memory.h"
#include "support/shape.h"
#include "support/threads.h"
#include "tflite/c_abi.h"

namespace bdd {

// One sentence that says why a model is refused.
class Message {
 public:
  // Always returns false, so that checks can be written as `return why->Set(...)`.
  __attribute__((format(printf, 2, 3))) bool Set(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text_, sizeof text_, format, arguments);
    va_end(arguments);
    return false;
  }
  const char* text() const { return text_; }

 private:
  char text_[256] = "";
};

inline int64_t SizeOf(TfLiteType type) { return type == kTfLiteFloat32 || type == kTfLiteInt32 ? 4 : 1; }

// Type, shape and (for constants) content of a tensor.
struct Value {
  TfLiteType type = kTfLiteFloat32;
  Shape shape;
  float scale = 0.0f;              // int8: quantization parameters
  int32_t zero_point = 0;          //
  const void* constant = nullptr;  // null unless the model fixes the content; may be unaligned
  int64_t bytes = 0;               // size of the constant
};

// Words that hold the signs of this many channels.
inline int64_t PackedWords(int64_t channels) { return (channels + 31) / 32; }

// A part of an output map: output pixels [first, first + count) of `width` channels from `channel` on, a multiple of
// kTileChannels.
struct TileRegion {
  int64_t channel;
  int width;
  int64_t first;
  int count;
};

// An operator that can compute its float output tile by tile. Several threads may request tiles of one image.
class TileSource {
 public:
  virtual ~TileSource() = default;

  // Prepares an input image; called before its first tile.
  virtual void BeginImage(const void* image, ThreadPool* pool) = 0;

  // Sources that work best on many pixels at once precompute the accumulators of a whole work item:
  // kTileChannels values for each of `count` pixels, written to `buffer`, which holds AccumulatorBufferSize(count)
  // values. A size of 0 means that the source does not need this. Tiles then receive a pointer to the accumulators of
  // their first pixel.
  virtual int64_t AccumulatorBufferSize(int64_t) const { return 0; }
  virtual void PrecomputeAccumulators(int64_t /*channel*/, int64_t /*first*/, int64_t /*count*/,
                                      int32_t* /*buffer*/) const {}

  // Writes a tile as floats; `accumulators` is null unless precomputed.
  virtual void ComputeTile(const TileRegion& tile, const int32_t* accumulators, float* out, int64_t stride) const = 0;

  // A source whose output is multiplier * accumulator + bias with accumulators that fit int16 can write those instead,
  // in half the memory.
  struct Affine {
    const float *multiplier = nullptr, *bias = nullptr;  // per channel; null if not supported
  };
  virtual Affine int16_affine() const { return {}; }
  // Writes a tile as int16 accumulators, and adds prelu(multiplier * accumulator + bias) to `totals`, per channel.
  // `slopes` holds kTileChannels slopes of the PReLU.
  virtual void ComputeTileInt16(const TileRegion& /*tile*/, const int32_t* /*accumulators*/, const float* /*slopes*/,
                                float* /*totals*/, int16_t* /*out*/, int64_t /*stride*/) const {}
};

class Operator {
 public:
  virtual ~Operator() = default;

  // This operator as a source of tiles; null if it has to run as a whole. Valid after Prepare.
  virtual TileSource* tiles() { return nullptr; }

  // Asks for planar output, [C, H, W] instead of [H, W, C]. Returns whether the operator supports it. Valid after
  // Prepare.
  virtual bool SetPlanarOutput(bool) { return false; }

  // Checks types and shapes, and makes everything ready to run. Sets output->shape; output->type is given.
  virtual bool Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output,
                       Message* why) = 0;

  // Runs on the first input; the others are constants, which Prepare has read. Does not allocate.
  virtual void Run(const void* input, void* output, ThreadPool* pool) = 0;
};

// An operator whose output, an image, can be planar.
class PlanarOperator : public Operator {
 public:
  bool SetPlanarOutput(bool wanted) final {
    planar_ = wanted;
    return true;
  }

 protected:
  bool planar_ = false;
};

// Makes the operator with this name and these options (a FlexBuffers map). Returns null and the reason if it is unknown
// or its options are invalid.
std::unique_ptr<Operator> MakeOperator(const char* name, const uint8_t* options, size_t size, Message* why);

// Checks the input and the output of an operator on images, uint8 [N, height, width, 3] -> floats.
bool CheckImages(const Value* const* inputs, int count, int32_t height, int32_t width, const Value& output,
                 Message* why);

// Makes an operator that parses its options, whose class is `Op`. Returns null and the reason if they are invalid.
template <typename Op>
std::unique_ptr<Operator> MakeParsed(const uint8_t* options, size_t size, Message* why) {
  std::unique_ptr<Op> op(new (std::nothrow) Op);
  if (op == nullptr) {
    why->Set("no memory");
    return nullptr;
  }
  if (!op->Parse(options, size, why)) return nullptr;
  return op;
}

// Parts of MakeOperator.
std::unique_ptr<Operator> MakeBconv2d(const uint8_t* options, size_t size, Message* why);
std::unique_ptr<Operator> MakeBMaxPool2d(const uint8_t* options, size_t size, Message* why);
std::unique_ptr<Operator> MakeQuantize();
std::unique_ptr<Operator> MakeDequantize();

// Reads the integer option `key`, which must lie in [low, high].
bool ReadOption(const uint8_t* options, size_t size, const char* key, int64_t low, int64_t high, int32_t* value,
                Message* why);

// One axis of a sliding window.
struct Window {
  int32_t size, stride, dilation;
  int32_t input = 0, output = 0;
  int32_t before = 0;  // padding before the first pixel
  int32_t padded = 0;  // input length including padding

  int64_t Reach() const { return int64_t{size - 1} * dilation + 1; }
  // Sets the fields for an input of this length, by TensorFlow's rules for SAME and VALID padding. Returns false if no
  // window fits.
  bool Fit(int32_t length, bool same);
};

}  // namespace bdd
