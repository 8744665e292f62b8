// The inner loops of binary convolution, one set per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bdd {

// Where a window's words lie, relative to the place of its output pixel. The same words are listed twice:
// one by one, and as runs of neighbouring ones.
struct Taps {
  const int32_t* offsets;  // [words]
  const int32_t* runs;     // [run_count], offset of the first word of each run
  int64_t words;
  int64_t run_count;
  int64_t run_words;
};

// What becomes of the dot products of one block of channels. Arrays start at the block's first channel and hold
// a whole block, whatever the number of real channels.
struct Epilogue {
  int32_t products;           // dot = products - 2 * popcount
  int32_t low, high;          // the fused activation, on dot
  const float* multiplier;    // float and int8 output: dot * multiplier + bias
  const float* bias;          //
  const int32_t* thresholds;  // bits: 1 (that is -1) where products - dot > threshold
};

enum class Arithmetic { kAdd, kSubtract, kMultiply, kMaximum, kMinimum };

struct KernelSet {
  const char* name;
  int pixels;    // of a tile, at most kMaxPixels
  int channels;  // of a tile, a multiple of 8, at most kMaxChannels

  // sums[m * channels + n] = popcount over all taps of (input ^ weight), for m in [0, count) pixels at `places`
  // and a block of channels. Weights: [words][channels].
  void (*multiply)(const uint32_t* const* places, int count, const Taps& taps, const uint32_t* weights, int32_t* sums);

  // Writes a tile. `corrections[m]` (or null) is subtracted from pixel m's dot products; `valid` channels are
  // written, to out + m * stride elements (bits: bytes).
  void (*finish_float)(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& epilogue,
                       float* out, int64_t stride, int valid);
  void (*finish_int8)(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& epilogue,
                      int8_t* out, int64_t stride, int valid);
  void (*finish_bits)(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& epilogue,
                      uint8_t* out, int64_t stride, int valid);

  // Signs of 32 * words floats: bit 1 where x < 0.
  void (*pack)(const float* x, int64_t words, uint32_t* bits);

  // The rest works on tiles of floats: `rows` pixels of `width` channels, kTileChannels at most; a stride, in floats,
  // leads from one pixel to the next and is 0 where all share one.

  // out = a (operation) b.
  void (*combine)(Arithmetic operation, float* out, int64_t out_stride, const float* a, int64_t a_stride, const float* b,
                  int64_t b_stride, int rows, int width);
  // out = a where a > 0, else slope * a.
  void (*prelu)(float* out, int64_t out_stride, const float* a, int64_t a_stride, const float* slope, int rows, int width);
  // sums += each pixel.
  void (*add_up)(float* sums, const float* a, int64_t a_stride, int rows, int width);
  // Signs of each pixel, one word at bits + row * bits_stride; channels that do not exist give 0.
  void (*signs)(const float* a, int64_t a_stride, int rows, int width, uint32_t* bits, int64_t bits_stride);
  // Mean of four pixels: at a, a + right, a + below and a + below + right; the next pixel's are a_stride further.
  void (*mean_of_four)(float* out, int64_t out_stride, const float* a, int64_t a_stride, int64_t right, int64_t below,
                       int rows, int width);
  // out[o] = bias[o] + sum over i of weights[o][i] * x[i].
  void (*dense)(const float* weights, const float* bias, const float* x, int64_t inputs, int64_t outputs, float* out);
};

constexpr int kTileChannels = 32;

constexpr int kMaxPixels = 8;
constexpr int kMaxChannels = 32;

// Sets that were compiled in and that this machine can run, the best first; `count` of them.
const KernelSet* const* AvailableKernels(int* count);

// The set of that name, the best one for null, "" and "auto"; null where there is none.
const KernelSet* FindKernels(const char* name);

const KernelSet* ScalarKernels();
const KernelSet* Avx2Kernels();
const KernelSet* Avx512Kernels();
const KernelSet* NeonKernels();

}  // namespace bdd
