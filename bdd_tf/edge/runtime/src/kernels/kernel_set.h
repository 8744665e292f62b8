// Microkernels: the inner loops of binary convolution, of the float operators fused around it, and of the forensic
// channels. A KernelSet holds one implementation of each for one instruction set.
//
// Naming rule: <operation>_<types>__<isa>, for example bgemm_b1_i32__avx2.
//   operation  bgemm (binary matrix multiplication), output_transform, bitpack, post_ops, conv2d, ...
//   types      of the input, of weights if they differ, and of the output; a repeated type is written once.
//              b1: signs packed 32 to a word, 1 means -1. u8, i8, i16, i32, f32: numbers.
//   isa        the file that defines the kernel. Kernels without this suffix are templates in kernels/*.h, written with
//              the compiler's vector types; every file compiles its own copy of them for its instruction set.
// A member of KernelSet has the kernel's name without the suffix.
//
// Users select a set by name (`kernels="avx2"`, `--kernels`). These names are public and independent of file names:
//   name           file                             processors
//   avx512         avx512_vpopcntdq.cc              Intel Ice Lake and later
//   avx512parity   avx512_vpopcntdq_parity.cc       AMD Zen 4 and later
//   amx            amx.cc                           Intel Sapphire Rapids and later; only if selected explicitly
//   avx512bw       avx512bw.cc                      Intel Skylake to Cooper Lake servers
//   avx2           avx2.cc                          x86-64 since Haswell and Zen
//   neon           neon.cc                          64-bit ARM, and 32-bit ARM with NEON
//   simd128        wasm_simd128.cc                  WebAssembly engines
//   scalar         scalar.cc                        all; the reference for the others
#pragma once

#include <cstddef>
#include <cstdint>

namespace bdd {

// Limits of the tiles that kernels work on.
constexpr int kMaxPixels = 8;                    // output pixels of a bgemm tile
constexpr int kMaxChannels = 32;                 // channels of a bgemm block
constexpr int kMaxIndirection = 4 * kMaxPixels;  // output pixels whose accumulators await their output transform
constexpr int kTileChannels = 32;                // channels of a tile of floats

// The words of one convolution window.
struct Taps {
  const int32_t* offsets;  // [words], from an output pixel's indirection pointer to each word of its window
  int64_t words;           // of the window, in one group
  int64_t tap_words;       // of one tap: contiguous in the input
  bool encoded;            // whether weights and input carry the kernel set's encoding
};

// Optional pre-encoding of the words of a tap, applied to weights and input alike. XOR commutes with it:
// encode(w) ^ encode(x) == encode(w ^ x), which saves operations in a carry-save adder. Inversions are applied to the
// weights alone, and thereby to the XOR.
enum class Encoding {
  kNone,
  kDifferences,  // every second word is replaced by its XOR with the word before
  kParities,     // the third, fifth, ... word is replaced by the XOR of all words up to it
  // The words of pairs (second and third, fourth and fifth, ...) are replaced by the XOR of all words up to them; the
  // second word of the first, third, ... pair is inverted. For multiples of four words up to kMostForPrefixParities.
  kPrefixParities,
};

constexpr int64_t kMostForPrefixParities = 60;  // more carries of a tap would overflow bytes

// A window of signs stored as bytes, for matrix units. One step covers 64 channels of one tap.
struct ByteTaps {
  const int64_t* offsets;  // [steps], from a pixel's bytes to the bytes of each step
  int64_t steps;
  int64_t stride;          // bytes from one output pixel to the next
  int32_t reduction_size;  // K: the length of a dot product
};

constexpr int kByteRows = 16;  // output pixels of a byte tile
constexpr int kByteSteps = 9;  // steps whose weights are unpacked at a time, so that they stay in the L1 cache
constexpr int64_t kByteScratch = kByteSteps * 2048;  // bytes of unpacked weights
constexpr int64_t kByteTileScratch = 2048;           // bytes of accumulators of one tile

// Consecutive rows of byte tiles whose accumulators are wanted.
struct ByteRun {
  int64_t row;  // index of the first row, counted over all tiles
  int64_t count;
};

struct ByteTiles {
  const int8_t* const* tiles;  // [count], the bytes of each tile's first pixel
  int64_t count;
  const ByteRun* runs;  // [run_count]
  int64_t run_count;
};

// Accumulators of several output pixels and one block of channels.
struct AccumulatorTile {
  const int32_t* popcounts;  // [count][channels of a block]: popcount(weights ^ input)
  int count;
  const int32_t* const* corrections;  // [count]: null, or [channels] to subtract from the dot products (zero padding)
  int valid;                          // channels to write
};

// How accumulators become outputs, for one block of channels. All arrays hold a whole block, also where the last
// block has fewer channels.
struct OutputTransform {
  int32_t reduction_size;          // K; dot product = K - 2 * popcount
  int32_t clamp_min, clamp_max;    // the fused activation, applied to the dot product
  const float *multiplier, *bias;  // f32 and i8 outputs: dot * multiplier + bias
  const int32_t* thresholds;       // b1 output: bit 1 (that is -1) where K - dot > threshold

  bool clamps() const { return clamp_min > -reduction_size || clamp_max < reduction_size; }
};

enum class Arithmetic { kAdd, kSubtract, kMultiply, kMaximum, kMinimum };

// One elementwise operation on the values of a tile.
struct PostOp {
  enum Operation {
    kAdd,
    kSubtract,
    kReverseSubtract,  // b - value
    kMultiply,
    kMaximum,
    kMinimum,
    kPrelu,     // value > 0 ? value : b * value
    kClamp,     // to [clamp_min, clamp_max]
    kLogistic,  // 1 / (1 + exp(-value))
    kSum,       // out[channel] += sum over the pixels
    kBitpack,   // bits: 1 where value < 0; bits of missing channels are 0
    kStore,     // to out
  } operation;
  const float* b;
  float* out;
  uint32_t* bits;
  int64_t stride;  // elements of b, out or bits from one pixel to the next; 0 where all pixels share one vector
  float clamp_min, clamp_max;
};

// The values that a sequence of post-ops starts from: floats, or int16 accumulators that are first expanded to
// prelu(multiplier * accumulator + bias).
struct PostOpInput {
  const float* values = nullptr;
  const int16_t* accumulators = nullptr;
  int64_t stride = 0;  // elements from one pixel to the next
  const float *multiplier = nullptr, *bias = nullptr, *slopes = nullptr;
};

// Input of a 2 x 2 average pool with stride 2. Strides are in floats.
struct PoolInput {
  const float* values;   // top left pixel of the first window
  int64_t stride;        // from one window to the next
  int64_t right, below;  // from a pixel to its neighbours in the window
  const float* slopes;   // [width] of a PReLU applied to the input, or null
};

// A float convolution's filter for one block of kTileChannels output channels; of a depthwise one, for all channels.
struct Conv2dFilter {
  const int32_t* offsets;  // [reduction_size], from an indirection pointer to each input value
  int64_t reduction_size;
  const float* weights;  // [reduction_size][kTileChannels]
  const float* bias;     // [kTileChannels]
};

// Row-major matrices; the stride, in floats, is from one row to the next.
struct ConstMatrix {
  const float* data;
  int64_t stride;
};
struct Matrix {
  float* data;
  int64_t stride;
};

// A row of a real image's 2-D DFT, separated into cosine (c) and sine (s) sums; the first letter is the transform along
// columns, the second along rows. [count] each.
struct SpectrumRow {
  const float *cc, *cs, *sc, *ss;
  float offset, scale;
  float *same, *mirrored;  // outputs, for frequencies (u, v) and (-u, v)
};

// Rows of planes, the input of the planar 3 x 3 convolution. Strides are in floats.
struct PlanarRows {
  const float* data;  // the row above the output row, one pixel to the left
  int64_t plane_stride, row_stride;
  int64_t planes;
};

struct KernelSet {
  const char* name;
  int pixels;         // of a bgemm tile, at most kMaxPixels
  int channels;       // of a bgemm block, a multiple of 8, at most kMaxChannels
  Encoding encoding;  // what bgemm_b1_i32 supports

  // --- Binary convolution -------------------------------------------------------------------------------------------

  // popcounts[m][n] = sum over the taps' words k of popcount(indirection[m][offsets[k]] ^ weights[k][n]), for
  // m < count <= kMaxIndirection and n < `channels`, of which the first `valid` are needed.
  void (*bgemm_b1_i32)(const uint32_t* const* indirection, int count, const Taps& taps, const uint32_t* weights,
                       int32_t* popcounts, int valid);

  // For matrix units; both null in sets without one.
  // Unpacks the signs of 64 channels to bytes: bit 1 to -1, bit 0 to 1, and 0 from channel `valid` on.
  void (*unpack_b1_i8)(uint64_t signs, int64_t valid, int8_t* bytes);
  // bgemm for tiles of kByteRows pixels and blocks of 32 channels; popcounts: [pixels of all runs][32].
  // weights: [steps][2][16] words; bit 4 * n + k of word r is the sign of channel 4 * r + k for output n of 16.
  // `scratch` holds kByteScratch bytes, and kByteTileScratch for each tile.
  void (*bgemm_i8_i32)(const ByteTiles& input, const ByteTaps& taps, const uint64_t* weights, int8_t* scratch,
                       int32_t* popcounts);

  // Write `tile.valid` channels of pixel m to out + m * stride; the stride is in elements (b1: bytes).
  void (*output_transform_i32_f32)(const AccumulatorTile& tile, const OutputTransform& transform, float* out,
                                   int64_t stride);
  void (*output_transform_i32_i8)(const AccumulatorTile& tile, const OutputTransform& transform, int8_t* out,
                                  int64_t stride);
  // Writes the dot products, and adds prelu(multiplier * dot + bias) of all pixels to `totals`.
  void (*output_transform_i32_i16)(const AccumulatorTile& tile, const OutputTransform& transform, const float* slopes,
                                   float* totals, int16_t* out, int64_t stride);
  void (*output_transform_i32_b1)(const AccumulatorTile& tile, const OutputTransform& transform, uint8_t* out,
                                  int64_t stride);

  // Packs the signs of 32 * words floats: bit 1 where x < 0.
  void (*bitpack_f32_b1)(const float* x, int64_t words, uint32_t* bits);

  // --- Float operators: tiles of `pixels` pixels and `width` <= kTileChannels channels
  // --------------------------------

  // Loads a tile and applies all `count` operations in registers, a few pixels at a time.
  void (*post_ops_f32)(const PostOpInput& input, const PostOp* ops, int count, int pixels, int width);
  void (*average_pool_2x2_f32)(const PoolInput& input, int pixels, int width, float* out, int64_t stride);
  // out[o] = bias[o] + sum over i of weights[o][i] * x[i].
  void (*dense_f32)(const float* weights, const float* bias, const float* x, int64_t inputs, int64_t outputs,
                    float* out);
  // out[o] = bias[o] + scale * sum over i of weights[o][i] * x[i].
  void (*dense_f32_i8)(const int8_t* weights, float scale, const float* bias, const float* x, int64_t inputs,
                       int64_t outputs, float* out);
  // out[m][n] = bias[n] + sum over k of indirection[m][offsets[k]] * weights[k][n], for count <= kMaxPixels pixels; the
  // first `width` channels are written.
  void (*conv2d_f32)(const float* const* indirection, int count, const Conv2dFilter& filter, float* out, int64_t stride,
                     int width);
  // out[m][c] = bias[c] + sum over k of indirection[m][offsets[k] + c] * weights[k][c], for count <= kMaxPixels pixels
  // and `channels` channels. Rows of weights and bias are padded to multiples of kTileChannels. Reads up to
  // kTileChannels floats behind the last channel of an input pixel.
  void (*depthwise_conv2d_f32)(const float* const* indirection, int count, const Conv2dFilter& filter, float* out,
                               int64_t channels);

  // --- Forensic channels. Rows are padded to multiples of 16 floats, because kernels access whole registers.
  // ----------

  // c = a b, for a: [rows, depth] and b: [depth, columns].
  void (*gemm_f32)(const ConstMatrix& a, const ConstMatrix& b, const Matrix& c, int64_t rows, int64_t columns,
                   int64_t depth);
  // scale * ln(offset + magnitude) of (cc - ss) + i (sc + cs), and of (cc + ss) + i (cs - sc).
  void (*log_magnitude_f32)(const SpectrumRow& row, int64_t count);
  // Converts RGB pixels to three scaled planes and a grey plane; returns the sum of the grey levels.
  int64_t (*rgb_to_planes_u8_f32)(const uint8_t* rgb, int64_t count, const float* scales, float* const* planes,
                                  float* grey);
  // points: rows of the neighbour at 0 degrees, then the far and the near pixel of the two interpolated ones.
  void (*local_binary_pattern_f32)(const float* center, const float* const* points, int64_t count, float scale,
                                   float* out);
  // One row of a 3 x 3 convolution to three channels, `out_stride` floats apart. weights: [planes][9][3], then [3]
  // bias.
  void (*conv3x3_planar_f32)(const PlanarRows& input, const float* weights, int64_t count, float* out,
                             int64_t out_stride);
};

// The sets that this machine can run, fastest first, "scalar" last.
const KernelSet* const* AvailableKernels(int* count);

// The set of this name; the fastest one for null, "" and "auto"; null if this machine has no such set.
const KernelSet* FindKernels(const char* name);

const KernelSet* ScalarKernels();
const KernelSet* Avx2Kernels();
const KernelSet* Avx512BwKernels();
const KernelSet* Avx512VpopcntdqKernels();
const KernelSet* Avx512VpopcntdqParityKernels();
const KernelSet* AmxKernels();
const KernelSet* NeonKernels();
const KernelSet* WasmKernels();

}  // namespace bdd
