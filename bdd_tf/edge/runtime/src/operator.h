// What all operators have in common: shapes, values, and a reason for every refusal.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <memory>

#include "kernels.h"
#include "memory.h"
#include "tflite_abi.h"
#include "threads.h"

namespace bdd {

// One sentence about what is wrong with a model.
class Message {
 public:
  // Always false, so that checks read `return why->Set(...)`.
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

struct Shape {
  static constexpr int kMaxRank = 8;
  int rank = 0;
  int32_t dims[kMaxRank] = {};

  // Product of dims[first, last), or -1 where it exceeds what a buffer may hold.
  int64_t Product(int first, int last) const {
    int64_t product = 1;
    for (int i = first; i < last; ++i) product = Times(product, dims[i]);
    return product;
  }
  int64_t Elements() const { return Product(0, rank); }
};

inline int64_t SizeOf(TfLiteType type) { return type == kTfLiteFloat32 || type == kTfLiteInt32 ? 4 : 1; }

// A tensor as operators see it.
struct Value {
  TfLiteType type = kTfLiteFloat32;
  Shape shape;
  float scale = 0.0f;              // of int8 values
  int32_t zero_point = 0;          //
  const void* constant = nullptr;  // the content where the model fixes it
  int64_t bytes = 0;               // of the constant
};

inline int64_t PackedWords(int64_t channels) { return (channels + 31) / 32; }

// An operator that can give its float output piece by piece.
class TileSource {
 public:
  virtual ~TileSource() = default;

  // What comes before the first piece of an image.
  virtual void BeginImage(const void* image, ThreadPool* pool) = 0;

  // What works best on many places at once does so before pieces are asked for: BeginItem writes kTileChannels sums for
  // each of `count` places to `item`, which has room for ItemNumbers(count), 0 where there is nothing to do. Tile and
  // Dots then find those of their own first place at `ready`.
  virtual int64_t ItemNumbers(int64_t) const { return 0; }
  virtual void BeginItem(int64_t, int64_t, int64_t, int32_t*) const {}

  // Writes the places [first, first + count) of `width` channels from `channel`, a multiple of kTileChannels, on.
  // Several threads may ask for pieces of one image.
  virtual void Tile(int64_t channel, int width, int64_t first, int count, const int32_t* ready, float* out,
                    int64_t stride) const = 0;

  // Sources of multiplier * dot + bias with dot products of 16 bits can give those instead: half the memory.
  struct Transform {
    const float *multiplier = nullptr, *bias = nullptr;  // per channel; null where it cannot
  };
  virtual Transform transform() const { return {}; }
  // `slopes` of the PReLU behind, for a whole tile of channels; adds its results to `totals`.
  virtual void Dots(int64_t, int, int64_t, int, const int32_t*, const float*, float*, int16_t*, int64_t) const {}
};

class Operator {
 public:
  virtual ~Operator() = default;

  // Itself, prepared, as a source of tiles; null where it has to run as a whole.
  virtual TileSource* tiles() { return nullptr; }

  // Whether it can write each channel of its output as a plane of its own, [C, H, W] instead of [H, W, C], and from
  // now on does. To be asked for after Prepare.
  virtual bool GivesPlanes(bool) { return false; }

  // Checks types and shapes and makes everything ready to run. Sets output->shape; its type is given.
  virtual bool Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output,
                       Message* why) = 0;

  // Runs on the first input; the others are constants, read while preparing. Allocates nothing.
  virtual void Run(const void* input, void* output, ThreadPool* pool) = 0;
};

// The operator of that name with these options (a FlexBuffers map); null with the reason where there is none.
std::unique_ptr<Operator> MakeOperator(const char* name, const uint8_t* options, size_t size, Message* why);

// Parts of MakeOperator.
std::unique_ptr<Operator> MakeBconv2d(const uint8_t* options, size_t size, Message* why);
std::unique_ptr<Operator> MakeBMaxPool2d(const uint8_t* options, size_t size, Message* why);
std::unique_ptr<Operator> MakeQuantize();
std::unique_ptr<Operator> MakeDequantize();

// Integer option `key` in [low, high].
bool ReadOption(const uint8_t* options, size_t size, const char* key, int64_t low, int64_t high, int32_t* value,
                Message* why);

// One axis of a sliding window.
struct Window {
  int32_t size, stride, dilation;
  int32_t input = 0, output = 0;
  int32_t before = 0;  // padding in front of the first place
  int32_t padded = 0;  // places that windows touch, padding included

  int64_t Reach() const { return int64_t{size - 1} * dilation + 1; }
  // TensorFlow's rule for SAME and VALID. False where no window fits.
  bool Fit(int32_t length, bool same);
};

}  // namespace bdd
