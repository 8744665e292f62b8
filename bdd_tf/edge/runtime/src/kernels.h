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
  int64_t tap_words;  // of one tap, neighbours too
  bool encoded;       // as the kernels' set wants it
};

// What takes the place of some of a tap's words, in weights and input. The xor of both is then the same of both's xor,
// which carry-save adders can use.
enum class Encoding {
  kNone,
  kDifferences,  // of the second, fourth, ... word: its xor with the one before
  kParities,     // of the third, fifth, ... word: the xor of all up to it
};

// A convolution of bytes that are signs, for sets with a matrix unit. A step is 64 channels of one tap.
struct ByteTaps {
  const int64_t* offsets;  // [steps], from a place's bytes to a step's
  int64_t steps;
  int64_t stride;    // bytes from one place to the next
  int32_t products;  // of a dot product
};

// Neighbouring rows of byte tiles whose sums are wanted.
struct ByteRun {
  int64_t row;  // the first; each tile has kByteRows
  int64_t count;
};

// What becomes of the dot products of one block of channels. Arrays start at the block's first channel and hold
// a whole block, whatever the number of real channels.
struct Epilogue {
  int32_t products;           // dot = products - 2 * popcount
  int32_t low, high;          // the fused activation, on dot
  const float* multiplier;    // float and int8 output: dot * multiplier + bias
  const float* bias;          //
  const int32_t* thresholds;  // bits: 1 (that is -1) where products - dot > threshold

  bool bounded() const { return low > -products || high < products; }
};

enum class Arithmetic { kAdd, kSubtract, kMultiply, kMaximum, kMinimum };

// What happens to a value on its way through a tile.
struct ChainStep {
  enum Operation {
    kAdd,
    kSubtract,
    kSubtractFrom,  // b - value
    kMultiply,
    kMaximum,
    kMinimum,
    kPrelu,     // value where positive, else b * value
    kBound,     // to [low, high]
    kLogistic,  // 1 / (1 + exp(-value))
    kAddUp,     // out += the pixels of all rows, one number a channel
    kSigns,     // bits: 1 where value < 0; channels that do not exist give 0
    kStore,     // to out
  } operation;
  const float* b;
  float* out;
  uint32_t* bits;
  int64_t stride;  // of b, out or bits from one pixel to the next, 0 where all share one
  float low, high;
};

// Where a chain finds its values: floats, or dot products that become prelu(multiplier * dot + bias).
struct ChainStart {
  const float* a = nullptr;
  const int16_t* dots = nullptr;
  int64_t stride = 0;  // from one pixel to the next, in numbers
  const float *multiplier = nullptr, *bias = nullptr, *slopes = nullptr;
};

struct KernelSet {
  const char* name;
  int pixels;    // of a tile, at most kMaxPixels
  int channels;  // of a tile, a multiple of 8, at most kMaxChannels

  // What `multiply` can use.
  Encoding encoding;

  // sums[m * channels + n] = popcount over all taps of (input ^ weight), for m in [0, count) pixels at `places`
  // (kMaxSums at most) and a block of channels, of which the first `valid` are wanted. Weights: [words][channels].
  void (*multiply)(const uint32_t* const* places, int count, const Taps& taps, const uint32_t* weights, int32_t* sums,
                   int valid);

  // Both null where there is no matrix unit. The first makes bytes of the signs of 64 channels: -1 of a 1, 1 of a 0,
  // and 0 from the channel `valid` on.
  void (*spread)(uint64_t signs, int64_t valid, int8_t* bytes);
  // The same as `multiply` for tiles of kByteRows places, each given by its first one's bytes, and 32 channels: sums
  // [places of all runs][32]. Weights: [steps][2][16] words, bit 4 * n + k of word r the sign of channel 4 * r + k for
  // the n-th output of 16. `scratch` holds kByteScratch bytes and 2 KiB for each tile.
  void (*multiply_bytes)(const int8_t* const* tiles, int64_t count, const ByteTaps& taps, const uint64_t* weights,
                         const ByteRun* runs, int64_t run_count, int8_t* scratch, int32_t* sums);

  // Writes a tile. `corrections[m]` (or null) is subtracted from pixel m's dot products; `valid` channels are
  // written, to out + m * stride elements (bits: bytes).
  void (*finish_float)(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& epilogue,
                       float* out, int64_t stride, int valid);
  void (*finish_int8)(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& epilogue,
                      int8_t* out, int64_t stride, int valid);
  // The dot products themselves; adds prelu(multiplier * dot + bias) of all pixels to `totals`.
  void (*finish_dots)(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& epilogue,
                      const float* slopes, float* totals, int16_t* out, int64_t stride, int valid);
  void (*finish_bits)(const int32_t* sums, int count, const int32_t* const* corrections, const Epilogue& epilogue,
                      uint8_t* out, int64_t stride, int valid);

  // Signs of 32 * words floats: bit 1 where x < 0.
  void (*pack)(const float* x, int64_t words, uint32_t* bits);

  // The rest works on tiles of floats: `rows` pixels of `width` channels, kTileChannels at most; a stride, in floats,
  // leads from one pixel to the next and is 0 where all share one.

  // Loads a tile and takes it through all steps, a few pixels at a time, in registers.
  void (*chain)(const ChainStart& start, const ChainStep* steps, int count, int rows, int width);
  // Mean of four pixels: at a, a + right, a + below and a + below + right; the next pixel's are a_stride further.
  // With slopes, each passes through PReLU first.
  void (*mean_of_four)(float* out, int64_t out_stride, const float* a, int64_t a_stride, int64_t right, int64_t below,
                       const float* slopes, int rows, int width);
  // out[o] = bias[o] + sum over i of weights[o][i] * x[i].
  void (*dense)(const float* weights, const float* bias, const float* x, int64_t inputs, int64_t outputs, float* out);
  // The same with weights of one byte: out[o] = bias[o] + scale * sum.
  void (*dense_bytes)(const int8_t* weights, float scale, const float* bias, const float* x, int64_t inputs,
                      int64_t outputs, float* out);
  // out[m][n] = bias[n] + sum over k of places[m][offsets[k]] * weights[k][n], for kMaxPixels pixels at most and
  // kTileChannels channels, of which `width` are written.
  void (*convolve)(const float* const* places, int count, const int32_t* offsets, int64_t products,
                   const float* weights, const float* bias, float* out, int64_t stride, int width);

  // Of forensic channels (channels.cc). Rows of floats are read, and where a stride is given written, in whole
  // registers: they are padded to 16 floats.

  // c = a b, of [rows, depth] and [depth, columns].
  void (*matrix_product)(const float* a, int64_t a_stride, const float* b, int64_t b_stride, float* c, int64_t c_stride,
                         int64_t rows, int64_t columns, int64_t depth);
  // scale * ln(offset + magnitude) of (cc - ss) + i (sc + cs), and of (cc + ss) + i (cs - sc).
  void (*log_magnitudes)(const float* cc, const float* cs, const float* sc, const float* ss, int64_t count,
                         float offset, float scale, float* same, float* mirrored);
  // Pixels of three bytes to three scaled planes and grey levels; returns the sum of the latter.
  int64_t (*read_row)(const uint8_t* rgb, int64_t count, const float* scales, float* const* planes, float* grey);
  // Local binary pattern: points are the one to the right, then far and near of the two others.
  void (*pattern_row)(const float* centre, const float* const* points, int64_t count, float scale, float* out);
  // One row of a 3 x 3 convolution from planes to three channels; weights [channels][9][3], then three of bias.
  // `planes` is the row above, one place to the left.
  void (*mix_row)(const float* planes, int64_t plane, int64_t row, int64_t channels, const float* weights,
                  int64_t count, float* out, int64_t apart);
};

constexpr int kTileChannels = 32;

constexpr int kByteRows = 16;
constexpr int kByteSteps = 9;  // whose weights lie unpacked in the first-level cache
constexpr int64_t kByteScratch = kByteSteps * 2048, kByteTileScratch = 2048;

constexpr int kMaxPixels = 8;
constexpr int kMaxSums = 4 * kMaxPixels;  // pixels whose sums wait for what becomes of them
constexpr int kMaxChannels = 32;

// Sets that were compiled in and that this machine can run, the one to take first, the plain one last; `count` of them.
const KernelSet* const* AvailableKernels(int* count);

// The set of that name, the best one for null, "" and "auto"; null where there is none.
const KernelSet* FindKernels(const char* name);

const KernelSet* ScalarKernels();
const KernelSet* Avx2Kernels();
const KernelSet* Avx512BwKernels();
const KernelSet* Avx512Kernels();
const KernelSet* Avx512ParityKernels();
const KernelSet* AmxKernels();
const KernelSet* NeonKernels();

}  // namespace bdd
